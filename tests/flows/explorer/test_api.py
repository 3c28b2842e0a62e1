"""The HTTP API: what it answers is what the commands say; mistakes and changes of the store are told."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import HOSTILE, Served  # type: ignore[import-not-found]
from neo4j import GraphDatabase
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import Result

from flows.explorer.answers import known_recipes
from flows.explorer.app import make_app
from flows.explorer.guard import Access
from flows.settings import Settings
from graphstore.loading.load import load_source
from graphstore.neo4j.server.server import USER, ServerInfo

sys.path.insert(0, str(Path(__file__).parents[2] / "model"))
from tiny_data import TinyData

Command = Callable[..., Result]


def told(answer: httpx.Response, status: int) -> str:
    """The message of an error."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"message", "hint"}
    return str(answer.json()["message"])


def finished(api: Any, job: dict[str, Any]) -> dict[str, Any]:
    """A job when it has ended."""
    while job["state"] in ("queued", "running"):
        time.sleep(0.05)
        job = api.get(f"jobs/{job['job_id']}").json()
    return job


def test_all_items_are_paged_through_once(served: Served) -> None:
    seen, after = [], None
    while True:
        page = served.api.get("items", params={"limit": 7} | ({"after": after} if after else {})).json()
        seen += [item["id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == sorted([*served.tiny.item_ids, "toy:alone", "toy:silent"])
    assert page["total"] == len(seen) == 22
    counts = served.api.get("facets", params={"split": "test"}).json()
    assert counts["split"] == {"train": 16, "test": 6}  # what choosing another one would give
    assert counts["image"] == {"with": 4, "without": 2}
    chosen = served.api.get("items", params={"split": "test", "image": "without"}).json()
    assert [item["id"] for item in chosen["items"]] == ["toy:alone", "toy:silent"]
    assert served.api.get("items", params={"label": "Nothing"}).json()["total"] == 0


def test_words_find_what_the_command_finds(served: Served, graph2image: Command) -> None:
    for text in ("long", "7 lt", "script title"):
        found = served.api.get("search", params={"q": text}).json()["items"]
        said = json.loads(graph2image("search", text, "--json", data=served.tiny.root.url).stdout)["items"]
        assert [(item["id"], item["score"]) for item in found] == [(item["item_id"], item["score"]) for item in said]
        assert found
    assert served.api.get("search", params={"q": "long", "split": "test"}).json()["items"] == []
    assert "no word" in told(served.api.get("search", params={"q": "?!"}), 400)


def test_images_find_like_images(served: Served) -> None:
    like = served.api.get("search", params={"like": "toy:09"}).json()["items"]
    scores = [item["score"] for item in like]
    assert scores == sorted(scores, reverse=True)
    assert "toy:09" not in [item["id"] for item in like]
    content = io.BytesIO()
    Image.fromarray(np.full((40, 36, 3), 90, np.uint8)).save(content, "jpeg")
    found = served.api.post("search/image", content=content.getvalue(), params={"split": "train"}).json()["items"]
    assert len(found) == 16
    assert "not an image" in told(served.api.post("search/image", content=b"%PDF-1.7 no image"), 400)
    assert "no image to compare" in told(served.api.get("search", params={"like": "toy:alone"}), 400)


@pytest.mark.parametrize("mode", ["semantic-ppr", "ppr", "semantic", "random"])
def test_neighbors_are_those_of_the_command(served: Served, graph2image: Command, mode: str) -> None:
    body = {"item_id": "toy:02", "mode": mode, "k": 4, "relation_weights": {"MADE_BY": 2.0}}
    answer = served.api.post("neighbors", json=body).json()
    call = ("neighbors", "toy:02", "--mode", mode, "--k", "4", "--weight", "MADE_BY=2", "--json")
    said = json.loads(graph2image(*call, data=served.tiny.root.url).stdout)
    keys = ("item_id", "ppr", "similarity", "via")
    assert [[n[key] for key in keys] for n in answer["neighbors"]] == [
        [n[key] for key in keys] for n in said["neighbors"]
    ]
    shown = {node["id"] for node in answer["nodes"]}
    assert {"toy:02", *(n["item_id"] for n in answer["neighbors"])} <= shown
    assert all({edge["from_id"], edge["to_id"]} <= shown for edge in answer["edges"])
    if mode == "ppr":
        assert {n["reason"] for n in answer["neighbors"]} == {"shared maker: one"}


def test_an_item_comes_with_all_that_is_known(served: Served) -> None:
    item = served.api.get("item", params={"id": "toy:04"}).json()
    assert item["title"] == HOSTILE["toy:04"]
    assert item["text"] == "a thing of kind 4"
    assert item["entities"] == [{"type": "MADE_BY", "id": "toy/Maker/one", "label": "Maker", "name": "one"}]
    assert item["properties"]["group_id"] == "toy:04"
    image = httpx.get(f"{served.url}/images/96/{item['image_hash']}")
    assert Image.open(io.BytesIO(image.content)).size == (36, 40)  # never enlarged
    assert "immutable" in image.headers["cache-control"]
    assert [entity["id"] for entity in served.api.get("entities", params={"q": "ON"}).json()] == ["toy/Maker/one"]


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "message"),
    [
        ("GET", "item", {"params": {"id": "toy:none"}}, 404, "there is no item 'toy:none'"),
        ("GET", "item", {}, 400, "id: Field required"),
        ("POST", "neighbors", {"json": {"item_id": "toy:04", "k": 0}}, 400, "k: "),
        ("POST", "neighbors", {"json": {"item_id": "toy:04", "k": 9, "pool": 3}}, 400, "pool (3) must be at least k"),
        ("POST", "neighbors", {"json": {"item_id": "toy:04", "via": ["NO_TYPE"]}}, 400, "no relation type 'NO_TYPE'"),
        ("POST", "neighbors", {"json": {"item_id": "toy:04", "more": 1}}, 400, "more: "),
        ("POST", "neighbors", {"content": b"{"}, 400, ""),
        ("POST", "query", {"json": {"cypher": "MATCH (n) DELETE n"}}, 400, ""),
        ("POST", "query", {"json": {"cypher": "COPY (MATCH (n) RETURN n.id) TO '/tmp/x.csv'"}}, 400, ""),
        ("POST", "generate", {"json": {"item_id": "toy:none"}}, 404, "there is no item"),
        ("POST", "generate", {"json": {"item_id": "toy:04", "model_id": "../.."}}, 400, "there is no model"),
        ("POST", "generate", {"json": {"item_id": "toy:04", "graph_scales": [1.0] * 17}}, 400, "graph_scales"),
        ("GET", "jobs/none", {}, 404, "there is no such job"),
        ("GET", "lineage/0123456789abcdef", {}, 400, "there is no generated image"),
        ("GET", "record/0123456789abcdef", {}, 404, "there is no generated image"),
        ("GET", "touched", {"params": {"id": "toy:none"}}, 400, "there is no item or entity"),
        ("POST", "optout", {"json": {"id": "toy:04", "confirm": "toy:04"}}, 400, "withdraws nothing"),
        ("GET", "nothing", {}, 404, "there is no such page"),
        ("PUT", "items", {}, 405, "405"),
    ],
)  # fmt: skip
def test_mistakes(served: Served, method: str, path: str, given: dict[str, Any], status: int, message: str) -> None:
    assert message in told(served.api.request(method, path, **given), status)


def test_cypher_reads(served: Served) -> None:
    answer = served.api.post(
        "query", json={"cypher": "MATCH (n:Thing) RETURN n.id AS id, 1 AS one ORDER BY id", "limit": 3}
    )
    assert answer.json()["columns"] == ["id", "one"]
    assert answer.json()["rows"] == [["toy:00", 1], ["toy:01", 1], ["toy:02", 1]]
    assert answer.json()["truncated"] is True
    assert set(answer.json()["items"]) == {"toy:00", "toy:01", "toy:02"}


def test_recipes_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "cypher.md").read_text(encoding="utf-8")
    for recipe in known_recipes():
        assert f"{recipe['title']}:\n\n```cypher\n{recipe['cypher'].strip()}\n```" in page


def test_images_are_those_of_the_command_line(served: Served, own: TinyData, graph2image: Command) -> None:
    body = {"item_id": "toy:03", "steps": 2, "graph_scales": [0.5, 1.5], "seed": 7, "guidance_scale": 2.25}
    body |= {"prompt": "-- 'a' \"thing\" $HOME", "neighbors": ["toy:09", "toy:05"]}
    answer = served.api.post("generate", json=body)
    assert answer.status_code == 202
    job = finished(served.api, answer.json())
    assert job["state"] == "done", job
    assert len(job["images"]) == 2
    for image in job["images"]:
        made = httpx.get(f"{served.url}/images/generated/{image['generated_id']}.png").content
        assert same_by_command(image, served, own, graph2image) == made
        lineage = served.api.get(f"lineage/{image['generated_id']}").json()
        assert [source["id"] for source in lineage["conditioned_on"]] == ["toy:09", "toy:05"]
        assert lineage["conditioned_on"][0]["entities"] == [{"type": "MADE_BY", "id": "toy/Maker/one", "name": "one"}]
        assert lineage["item"]["id"] == "toy:03"
    assert job["images"][0]["generated_id"] in served.api.get("item", params={"id": "toy:09"}).json()["generated"]
    touched = served.api.get("touched", params={"id": "toy/Maker/one"}).json()
    assert touched["item_count"] == 20
    assert {image["generated_id"] for image in job["images"]} <= set(touched["generated"])


def same_by_command(image: dict[str, Any], served: Served, own: TinyData, graph2image: Command) -> bytes:
    """The file that a job's command line makes on a data root where it was not made yet."""
    import shlex

    words = shlex.split(image["command"])
    place = words.index("--data")
    assert words[place + 1] == served.tiny.root.url
    result = graph2image(*words[1:place], "--json", data=own.root.url)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["generate"]["generated_ids"] == [image["generated_id"]]
    return Path(own.root.path("generated", "tiny-1", f"{image['generated_id']}.png")).read_bytes()


def test_no_neighbors_is_text_only_and_fast_is_fast(served: Served, own: TinyData, graph2image: Command) -> None:
    for extra in ({"neighbors": [], "steps": 1}, {"fast": True}):
        job = finished(served.api, served.api.post("generate", json={"item_id": "toy:02", **extra}).json())
        assert job["state"] == "done", job
        (image,) = job["images"]
        made = httpx.get(f"{served.url}/images/generated/{image['generated_id']}.png").content
        assert same_by_command(image, served, own, graph2image) == made


def test_jobs_wait_are_cancelled_and_fail_alone(served: Served) -> None:
    api = served.api
    long = api.post("generate", json={"item_id": "toy:01", "steps": 200, "graph_scales": [1.0, 2.0]}).json()
    waiting = api.post("generate", json={"item_id": "toy:01", "steps": 1, "seed": 5}).json()
    dropped = api.post("generate", json={"item_id": "toy:01", "steps": 1, "seed": 6}).json()
    mixed = {"first": "toy/Maker/one", "second": "toy/Maker/none", "shares": [0.5]}
    failing = api.post("generate", json={"item_id": "toy:01", "mix": mixed}).json()
    assert dropped["position"] == 2
    assert api.delete(f"jobs/{dropped['job_id']}").json()["state"] == "cancelled"
    api.delete(f"jobs/{long['job_id']}")
    assert finished(api, long)["state"] == "cancelled"
    assert finished(api, waiting)["state"] == "done"
    failed = finished(api, failing)
    assert failed["state"] == "failed"
    assert "there is no entity 'toy/Maker/none'" in failed["message"]
    assert told(api.get(f"jobs/{waiting['job_id']}/preview"), 404) == "there is no preview now"


def test_opt_outs_are_confirmed_and_seen_at_once(own: TinyData) -> None:
    app = make_app(Settings(data=own.root.url), Access.of("127.0.0.1"), allows_optout=True)
    with TestClient(app, base_url="http://127.0.0.1") as api:
        image_hash = api.get("/api/item", params={"id": "toy:09"}).json()["image_hash"]
        assert api.get(f"/images/96/{image_hash}").status_code == 200
        assert "confirmation" in told(api.post("/api/optout", json={"id": "toy:09", "confirm": "toy:9"}), 400)
        report = api.post("/api/optout", json={"id": "toy:09", "confirm": "toy:09", "reason": "asked"})
        assert report.json()["items"] == ["toy:09"]
        assert api.get("/api/item", params={"id": "toy:09"}).status_code == 404
        assert api.get(f"/images/96/{image_hash}").status_code == 404
        found = api.post("/api/neighbors", json={"item_id": "toy:02", "k": 20}).json()["neighbors"]
        assert "toy:09" not in [neighbor["item_id"] for neighbor in found]
        assert api.get("/api/touched", params={"id": "toy:09"}).json()["is_withdrawn"] is True
        made = api.post("/api/generate", json={"item_id": "toy:02", "neighbors": ["toy:09"], "steps": 1}).json()
        while made["state"] in ("queued", "running"):
            made = api.get(f"/api/jobs/{made['job_id']}").json()
        assert "withdrawn" in made["message"]


def test_a_store_that_is_replaced_or_written_to_is_read_anew(own: TinyData, served: Served) -> None:
    settings = Settings(data=own.root.url)
    app = make_app(settings, Access.of("127.0.0.1"))
    with TestClient(app, base_url="http://127.0.0.1") as api:
        store = Path(own.root.path("graph.lbug"))
        assert api.get("/api/items").json()["total"] == 22
        kept = store.with_name("kept")
        store.rename(kept)
        assert "there is no graph store" in told(api.get("/api/items"), 503)
        shutil.copy(kept, store)
        assert api.get("/api/items").json()["total"] == 22


@pytest.mark.slow
def test_the_same_from_neo4j(
    served: Served, own: TinyData, neo4j_server: ServerInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPH2IMAGE_NEO4J_PASSWORD_FILE", str(neo4j_server.password_file))
    with GraphDatabase.driver(neo4j_server.url, auth=(USER, neo4j_server.password_file.read_text().strip())) as driver:
        driver.execute_query("MATCH (n) DETACH DELETE n")
    settings = Settings(data=own.root.url, store=neo4j_server.url)
    with settings.open_store() as store:
        load_source(store, own.root, "toy")
    app = make_app(settings, Access.of("127.0.0.1"))
    with TestClient(app, base_url="http://127.0.0.1") as api:
        for path, params in (
            ("items", {"limit": 30}), ("facets", {}), ("search", {"q": "script long"}), ("search", {"like": "toy:09"}),
            ("entities", {"q": "one"}),
        ):  # fmt: skip
            assert api.get(f"/api/{path}", params=params).json() == served.api.get(path, params=params).json()
        body = {"item_id": "toy:02", "k": 4}
        assert api.post("/api/neighbors", json=body).json() == served.api.post("neighbors", json=body).json()
        item, other = (one.json() for one in (api.get("/api/item", params={"id": "toy:04"}),
                                              served.api.get("item", params={"id": "toy:04"})))  # fmt: skip
        assert {**item, "generated": []} == {**other, "generated": []}
        job = api.post("/api/generate", json={"item_id": "toy:02", "steps": 1}).json()
        job = finished(_Prefixed(api), job)
        assert job["state"] == "done", job
        lineage = api.get(f"/api/lineage/{job['images'][0]['generated_id']}").json()
        assert lineage["item"]["id"] == "toy:02"


class _Prefixed:
    def __init__(self, api: TestClient) -> None:
        self._api = api

    def get(self, path: str) -> httpx.Response:
        return self._api.get(f"/api/{path}")
