"""The main job from end to end, and the commands on what it leaves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from flows.demo import DemoReport, run_demo
from ingest.datasets.root import DataRoot

Command = Callable[..., Result]


def rows(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    value: list[dict[str, object]] = json.loads(result.stdout)
    return value


def test_the_demo_ends_with_a_report_and_a_headline(demo: DemoReport) -> None:
    page = Path(demo.report).read_text()
    assert demo.changed
    assert f"{demo.headline.split(':')[0]}." in page
    assert demo.model_id in page


def test_a_second_demo_finds_everything_done(demo: DemoReport, demo_folder: Path, tiny_config: Path) -> None:
    again = run_demo(demo_folder, items=160, config=tiny_config)
    assert not again.changed
    assert (again.model_id, again.headline) == (demo.model_id, demo.headline)


def test_rows_of_the_gallery_reconcile(demo: DemoReport, demo_folder: Path, graph2image: Command) -> None:
    result = graph2image(
        "ingest", "art500k", str(demo_folder / "gallery" / "label_list.csv"),
        "--images", str(demo_folder / "gallery"), "--json", data=demo.data,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["ingest"]
    assert report["rows_read"] == report["items"] + report["duplicates"] + sum(report["rejected"].values())
    assert not report["changed"]
    items = rows(graph2image("query", "MATCH (a:Artwork) RETURN count(*) AS n", "--json", data=demo.data))
    assert items == [{"n": report["items"]}]
    rejects = DataRoot(demo.data).read("rejects/art500k")
    assert rejects.num_rows == report["duplicates"] + sum(report["rejected"].values())


def test_lineage_answers_what_a_picture_was_made_from(demo: DemoReport, graph2image: Command) -> None:
    asked = rows(
        graph2image(
            "query",
            "MATCH (g:GeneratedImage)-[c:CONDITIONED_ON]->(n:Artwork) WHERE g.variant = 'graph-1.5' "
            "RETURN g.id AS id, n.id AS neighbor, c.rank AS rank ORDER BY id, rank LIMIT 5",
            "--json",
            data=demo.data,
        )
    )
    generated = {row["generated_id"]: row for row in DataRoot(demo.data).read("generated").to_pylist()}
    first = generated[asked[0]["id"]]
    assert asked[0]["neighbor"] == first["neighbors"][0]["item_id"]
    told = graph2image("lineage", str(first["generated_id"]), "--json", data=demo.data)
    tree = json.loads(told.stdout)
    assert tree["item"]["id"] == first["item_id"]
    assert [n["id"] for n in tree["conditioned_on"]] == [n["item_id"] for n in first["neighbors"]]
    assert tree["model"]["id"] == demo.model_id


def test_generate_the_same_call_again_makes_nothing(demo: DemoReport, graph2image: Command) -> None:
    call = ("generate", "--split", "val", "--limit", "2", "--steps", "2", "--json")
    first = json.loads(graph2image(*call, data=demo.data).stdout)["generate"]
    again = json.loads(graph2image(*call, data=demo.data).stdout)["generate"]
    assert (first["new"], again["new"], again["existing"]) == (2, 0, 2)
    assert first["generated_ids"] == again["generated_ids"]
    for generated_id in first["generated_ids"]:
        with Image.open(Path(demo.data) / "generated" / demo.model_id / f"{generated_id}.png") as picture:
            assert picture.size == (32, 32)


def test_mix_two_artists(demo: DemoReport, graph2image: Command) -> None:
    data = DataRoot(demo.data)
    item = next(row["item_id"] for row in data.read("items/art500k").to_pylist() if row["split"] == "test")
    artists = rows(
        graph2image(
            "query",
            "MATCH (w:Artwork {split: 'train'})-[:CREATED_BY]->(a:Artist) RETURN a.id AS id, count(*) AS n "
            "ORDER BY n DESC, id LIMIT 2",
            "--json",
            data=demo.data,
        )
    )
    first, second = (str(artist["id"]) for artist in artists)
    result = graph2image(
        "generate", item, "--mix", f"{first}=7", "--mix", f"{second}=3", "--steps", "2", "--json", data=demo.data
    )
    (generated_id,) = json.loads(result.stdout)["generate"]["generated_ids"]
    (row,) = (r for r in data.read("generated").to_pylist() if r["generated_id"] == generated_id)
    shares = {round(neighbor["weight"], 3) for neighbor in row["neighbors"]}
    assert shares == {round(1.5 * 0.7, 3), round(1.5 * 0.3, 3)}


def test_withdrawn_works_are_in_no_new_picture(
    demo: DemoReport, demo_folder: Path, graph2image: Command, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(demo.data, root)
    data = DataRoot(str(root))
    sample = next(
        row
        for row in data.read(data.names("neighbors")[0]).to_pylist()
        if row["split"] == "test" and len(row["neighbors"]) == 5
    )
    withdrawn = sample["neighbors"][0]["item_id"]
    touched = json.loads(graph2image("optout", withdrawn, "--json", data=root).stdout)
    assert withdrawn in touched["items"]
    call = ("generate", sample["item_id"], "--steps", "2", "--seed", "7", "--json")
    (generated_id,) = json.loads(graph2image(*call, data=root).stdout)["generate"]["generated_ids"]
    (row,) = (r for r in data.read("generated").to_pylist() if r["generated_id"] == generated_id)
    assert [n["item_id"] for n in row["neighbors"]] == [n["item_id"] for n in sample["neighbors"][1:]]


def test_neighbors_are_explained(demo: DemoReport, graph2image: Command) -> None:
    item = DataRoot(demo.data).read("items/art500k")["item_id"][0].as_py()
    explained = json.loads(graph2image("neighbors", item, "--json", data=demo.data).stdout)
    assert len(explained["neighbors"]) == 5
    assert all(neighbor["via"] and neighbor["item_id"] != item for neighbor in explained["neighbors"])


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_state(demo: DemoReport, graph2image: Command, command: str) -> None:
    result = graph2image(command, data=demo.data)
    assert result.exit_code == 0, result.output
    assert "art500k" in result.output or command == "doctor"
