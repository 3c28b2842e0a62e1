"""`models`, `promote`, `rollback` and `models prune`, and which model `generate` takes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from flows.settings import Settings
from flows.stages import register
from graphstore.registry import reject
from ingest.datasets.integrity import FOLDER_LIST
from ingest.datasets.root import DataRoot
from model.record import RECORD_FILE
from model.storage import publish_folder

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from published import MODEL
from tiny_data import TinyData

Command = Callable[..., Result]


def publish_another(data: TinyData, model_id: str, **config: Any) -> None:
    """The tiny model under another name, published later."""
    record = data.root.read_json(f"models/{MODEL}/{RECORD_FILE}")

    def write(folder: Path) -> None:
        shutil.copytree(
            data.root.path("models", MODEL), folder, ignore=shutil.ignore_patterns(FOLDER_LIST), dirs_exist_ok=True
        )
        changed = record | {"model_id": model_id, "config": record["config"] | config}
        DataRoot(str(folder)).write_json(RECORD_FILE, changed)

    publish_folder(data.root, f"models/{model_id}", write, marker=RECORD_FILE)


@pytest.fixture
def two(tiny: TinyData) -> TinyData:
    """A data root with two models, of which `tiny-2` is the newest."""
    publish_another(tiny, "tiny-2")
    return tiny


def called(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def listed(graph2image: Command, data: TinyData) -> dict[str, str]:
    return {
        row["model_id"]: row["status"] for row in called(graph2image("models", "--json", data=data.root.url))["models"]
    }


def test_what_is_promoted_generates(two: TinyData, graph2image: Command) -> None:
    def maker(*arguments: str) -> str:
        call = ("generate", "toy:03", "--steps", "1", "--json", *arguments)
        return str(called(graph2image(*call, data=two.root.url))["model_id"])

    assert listed(graph2image, two) == {MODEL: "candidate", "tiny-2": "candidate"}
    said = graph2image("promote", MODEL, "--reason", "it is ours", data=two.root.url)
    assert said.stdout == f"Promoted {MODEL}.\n"
    assert maker() == MODEL
    assert maker("--model", "tiny-2") == "tiny-2"
    assert graph2image("promote", "tiny-2", data=two.root.url).stdout == f"Promoted tiny-2, which replaces {MODEL}.\n"
    assert maker() == "tiny-2"
    assert "Unchanged" in graph2image("promote", "tiny-2", data=two.root.url).stdout
    back = graph2image("rollback", data=two.root.url)
    assert back.stdout == f"Promoted {MODEL} again; tiny-2 is rolled back.\n"
    assert maker() == MODEL
    shown = graph2image("models", data=two.root.url).stdout.splitlines()
    assert [line[0] for line in shown] == ["*", " "]
    assert "promoted, 1 image," in shown[0]
    assert "rolled-back, 1 image," in shown[1]
    with Settings(data=two.root.url).open_store(read_only=True) as store:
        by = store.query("MATCH (g:GeneratedImage)-[:GENERATED_BY]->(m:Model) RETURN m.id AS id ORDER BY id")
    assert by["id"].to_pylist() == [MODEL, "tiny-2"]
    shutil.rmtree(two.root.path("models", MODEL))
    lost = graph2image("generate", "toy:03", data=two.root.url)
    assert lost.exit_code == 1
    assert f"the promoted model {MODEL} is not under" in lost.stderr
    assert graph2image("promote", MODEL, data=two.root.url).exit_code == 1


def test_a_stale_model_is_told_of(tiny: TinyData, graph2image: Command) -> None:
    assert graph2image("promote", MODEL, data=tiny.root.url).exit_code == 0
    assert graph2image("optout", "toy:05", data=tiny.root.url).exit_code == 0
    assert "promoted, stale," in graph2image("models", data=tiny.root.url).stdout
    made = graph2image("generate", "toy:03", "--steps", "1", data=tiny.root.url)
    assert f"Note: {MODEL} is stale: it was trained on items that have been withdrawn since." in made.stdout


def test_prune_removes_what_nothing_needs(two: TinyData, graph2image: Command) -> None:
    url = two.root.url
    for name, config in (("tiny-3", {}), ("tiny-4", {"base_model": f"{url}/models/tiny-3"}), ("tiny-5", {})):
        publish_another(two, name, **config)
    for name in ("tiny-2", MODEL):
        assert graph2image("promote", name, data=url).exit_code == 0
    assert graph2image("generate", "toy:03", "--model", "tiny-5", "--steps", "1", data=url).exit_code == 0
    settings = Settings(data=url)
    register(settings)
    with settings.open_store() as store:
        for name in ("tiny-3", "tiny-4", "tiny-5"):
            reject(store, name, {})
    would = called(graph2image("models", "prune", "--dry-run", "--json", data=url))
    assert (would["removed"], would["changed"]) == (["tiny-4"], False)
    report = called(graph2image("models", "prune", "--json", data=url))
    assert (report["removed"], report["changed"]) == (["tiny-4"], True)
    assert report["bytes"] > 0
    assert {name: why.split(" (")[0] for name, why in report["kept"].items()} == {
        MODEL: "it is promoted",
        "tiny-2": "a rollback comes to it",
        "tiny-3": "the base model of tiny-4",
        "tiny-5": "the lineage of 1 generated images leads to it",
    }
    assert not two.root.exists("models/tiny-4")
    assert listed(graph2image, two)["tiny-4"] == "pruned"
    for name, why in ((MODEL, "is promoted"), ("tiny-5", "lineage"), ("nope", "no model 'nope'")):
        refused = graph2image("models", "prune", name, data=url)
        assert (refused.exit_code, why in refused.stderr) == (1, True), name
    # A call that was killed has removed a record and little else: the next one ends what it began.
    two.root.fs.rm(two.root.path("models/tiny-3/model.json"))
    again = called(graph2image("models", "prune", "--with-images", "--json", data=url))
    assert again["removed"] == ["tiny-3", "tiny-5"]
    assert two.root.read("generated").num_rows == 1
    assert graph2image("generate", "toy:03", "--steps", "1", data=url).exit_code == 0
