"""`generate` and `lineage` on a loaded graph, with a tiny random model that is published as training publishes one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import Result

from flows.settings import Settings
from ingest.datasets.root import DataRoot

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from tiny_data import NEIGHBORS, TinyData

Command = Callable[..., Result]

#: Of the items: 0 to 3 are test items, 4 to 17 training items, and these have no row in the neighbors dataset.
NEW, ALONE, SILENT = "toy:18", "toy:alone", "toy:silent"


def made(data: TinyData, result: Result) -> list[dict[str, Any]]:
    """The rows of a call's images, in its order."""
    assert result.exit_code == 0, result.output
    ids = json.loads(result.stdout)["generate"]["generated_ids"]
    rows = {row["generated_id"]: row for row in data.root.read("generated").to_pylist()}
    return [rows[generated_id] for generated_id in ids]


def neighbors_of(row: dict[str, Any]) -> list[str]:
    return [neighbor["item_id"] for neighbor in row["neighbors"]]


def test_neighbors_from_parquet_and_from_the_live_store(tiny: TinyData, graph2image: Command) -> None:
    call = ("--steps", "2", "--device", "cpu", "--json")
    sampled = {row["item_id"]: row["neighbors"] for row in tiny.root.read(f"neighbors/{NEIGHBORS}").to_pylist()}
    known, new = made(tiny, graph2image("generate", "toy:03", NEW, *call, data=tiny.root.url))
    assert neighbors_of(known) == [neighbor["item_id"] for neighbor in sampled["toy:03"]][:3]
    assert len(neighbors_of(new)) == 3  # from the graph: it has no row
    assert NEW not in neighbors_of(new)
    assert set(neighbors_of(new)) <= set(tiny.item_ids[4:])
    (live,) = made(tiny, graph2image("generate", "toy:03", "--neighbors", "live", *call, data=tiny.root.url))
    assert len(neighbors_of(live)) == 3
    assert neighbors_of(live) != neighbors_of(known)
    with Settings(data=tiny.root.url).open_store(read_only=True) as store:
        weights = store.query("MATCH (g:GeneratedImage)-[c:CONDITIONED_ON]->(:Thing) RETURN g.id AS id, c.weight AS w")
    assert set(weights["w"].to_pylist()) == {1.5}


def test_a_whole_split_from_the_live_store(tiny: TinyData, graph2image: Command) -> None:
    call = ("generate", "--split", "train", "--limit", "17", "--neighbors", "live", "--steps", "1", "--json")
    rows = made(tiny, graph2image(*call, data=tiny.root.url))
    assert len({row["item_id"] for row in rows}) == 16
    assert all(len(neighbors_of(row)) == 3 and row["item_id"] not in neighbors_of(row) for row in rows)


def test_items_without_neighbors_or_text_say_so(tiny: TinyData, graph2image: Command) -> None:
    call = ("--steps", "1", "--json")
    result = graph2image("generate", "toy:00", *call, data=tiny.root.url)  # its row in the dataset is empty
    (row,) = made(tiny, result)
    assert row["neighbors"] == []
    assert json.loads(result.stdout)["notes"] == ["toy:00: no neighbors: made from the text only"]
    result = graph2image("generate", SILENT, "--graph-scale", "0", *call, data=tiny.root.url)
    assert result.exit_code == 1
    assert f"'{SILENT}' has no text, and no neighbors that count" in result.stderr
    said = graph2image("generate", "toy:00", "--steps", "1", data=tiny.root.url).stdout
    assert "1 image flagged" in said or "0 of 1 image flagged as copies." in said
    assert "Note: toy:00: no neighbors: made from the text only." in said


@pytest.mark.slow
def test_withdrawn_items_are_neither_made_nor_used(tiny: TinyData, graph2image: Command) -> None:
    sampled = {row["item_id"]: row["neighbors"] for row in tiny.root.read(f"neighbors/{NEIGHBORS}").to_pylist()}
    gone = sampled["toy:03"][0]["item_id"]
    assert graph2image("optout", gone, data=tiny.root.url).exit_code == 0
    call = ("--steps", "1", "--json")
    refused = graph2image("generate", gone, *call, data=tiny.root.url)
    assert refused.exit_code == 1
    assert f"'{gone}' was withdrawn" in refused.stderr
    for way in ((), ("--neighbors", "live")):
        (row,) = made(tiny, graph2image("generate", "toy:03", *way, *call, data=tiny.root.url))
        assert row["neighbors"]
        assert gone not in neighbors_of(row)
        rows = made(tiny, graph2image("generate", "--split", "train", *way, *call, data=tiny.root.url))
        assert gone not in {row["item_id"] for row in rows}
        assert not any(gone in neighbors_of(row) for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toy:nope",), "there is no item 'toy:nope'"),
        (("toy:00", "--steps", "0"), "must be from 1 to 1,000"),
        (("toy:00", "--interval", "0.9", "0.1"), "guidance interval 0.9 to 0.1"),
        (("toy:00", "--scheduler", "nope"), "Schedulers are: ddim"),
        (("toy:00", "--model", "nope"), "no model 'nope'"),
        (("toy:00", "--neighbors", "nope"), "no dataset 'neighbors/nope'"),
        (("toy:00", "--watermark", "much too long for it"), "12 bytes"),
    ],
)
def test_mistakes(shared_tiny: TinyData, graph2image: Command, arguments: tuple[str, ...], message: str) -> None:
    result = graph2image("generate", *arguments, data=shared_tiny.root.url)
    if "watermark" in result.stderr:
        pytest.importorskip("imwatermark", reason="the extra `watermark` is not installed")
    assert result.exit_code == 1, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2


@pytest.mark.slow
def test_fast_can_be_changed_in_parts(tiny: TinyData, graph2image: Command) -> None:
    def settings(*arguments: str) -> dict[str, Any]:
        (row,) = made(tiny, graph2image("generate", "toy:03", *arguments, "--json", data=tiny.root.url))
        value: dict[str, Any] = orjson.loads(row["settings"])
        return value

    fast, changed = settings("--fast"), settings("--fast", "--steps", "3", "--interval", "0", "1")
    assert fast["num_inference_steps"] < 20
    assert fast["scheduler"] == changed["scheduler"] is not None
    assert (changed["num_inference_steps"], changed["guidance_interval"]) == (3, [0.0, 1.0])


# -- lineage of a file -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_data(shared_tiny: TinyData, graph2image: Command, tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """A data root with one image, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("made") / "data"
    shutil.copytree(shared_tiny.root.path(), folder)
    assert graph2image("generate", "toy:03", "--steps", "1", data=folder).exit_code == 0
    return replace(shared_tiny, root=DataRoot(str(folder)))


@pytest.fixture(scope="module")
def made_file(made_data: TinyData) -> Path:
    (row,) = made_data.root.read("generated").to_pylist()
    return Path(made_data.root.path(row["image_path"]))


def told(graph2image: Command, file: Path, data: str) -> dict[str, Any]:
    result = graph2image("lineage", str(file), "--json", data=data)
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def test_a_file_tells_what_it_was_made_from(
    made_data: TinyData, graph2image: Command, made_file: Path, tmp_path: Path
) -> None:
    both = told(graph2image, made_file, made_data.root.url)
    assert both["agrees"] is True
    assert both["says"]["item_id"] == both["graph"]["item"]["id"] == "toy:03"
    assert [n["item_id"] for n in both["says"]["neighbors"]] == [n["id"] for n in both["graph"]["conditioned_on"]]
    assert both["says"]["software"]["graph2image"]
    assert both["graph"] == json.loads(graph2image("lineage", made_file.stem, "--json", data=made_data.root.url).stdout)
    elsewhere = told(graph2image, made_file, str(tmp_path / "nowhere"))
    assert (elsewhere["says"], elsewhere["graph"], elsewhere["agrees"]) == (both["says"], None, None)
    assert any("no graph store" in note for note in elsewhere["notes"])
    assert "toy:03" in graph2image("lineage", str(made_file), data=made_data.root.url).stdout


def with_record(made_file: Path, to: Path, record: object) -> Path:
    info = PngInfo()
    info.add_itxt("graph2image", record if isinstance(record, str) else orjson.dumps(record).decode(), zip=True)
    Image.open(made_file).save(to, pnginfo=info)
    return to


def test_a_forged_record_is_found_out_and_not_obeyed(
    made_data: TinyData, graph2image: Command, made_file: Path, tmp_path: Path
) -> None:
    record = orjson.loads(str(Image.open(made_file).info["graph2image"]))
    record["neighbors"] = record["neighbors"][:-1]
    record["image_path"] = "/etc/passwd"
    record["item_id"] = "toy:02\x1b[2J"
    forged = with_record(made_file, tmp_path / "forged.png", record)
    told_of = told(graph2image, forged, made_data.root.url)
    assert told_of["agrees"] is False
    assert told_of["notes"][-1] == "the file and the graph differ in: item, neighbors"
    assert "image_path" not in told_of["says"]
    shown = graph2image("lineage", str(forged), data=made_data.root.url).stdout
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "record is damaged"),
        ("[]", "not one of this program"),
        ('{"generated_id": "../../x"}', "not one of this program"),
        ("[" * 100_000, "record is damaged"),
        ('"' + "x" * 1_000_001 + '"', "too long"),
        ("x" * 100_000_000, "forged.png"),
    ],
    ids=["cut", "list", "path", "deep", "long", "bomb"],
)
def test_hostile_records(
    made_data: TinyData, graph2image: Command, made_file: Path, tmp_path: Path, record: str, message: str
) -> None:
    forged = with_record(made_file, tmp_path / "forged.png", record)
    result = graph2image("lineage", str(forged), data=made_data.root.url)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr) < 1000


def test_files_that_are_none_of_ours(
    made_data: TinyData, graph2image: Command, made_file: Path, tmp_path: Path
) -> None:
    def error(file: Path) -> str:
        result = graph2image("lineage", str(file), data=made_data.root.url)
        assert result.exit_code == 1, result.output
        return result.stderr

    foreign, cut, text = tmp_path / "foreign.png", tmp_path / "cut.png", tmp_path / "text.png"
    Image.new("RGB", (8, 8)).save(foreign)
    assert "has no record of graph2image" in error(foreign)
    content = made_file.read_bytes()
    cut.write_bytes(content[: len(content) * 2 // 3])
    assert "is damaged" in error(cut)
    text.write_text("hello")
    assert "is no image" in error(text)
    assert "there is no file" in error(tmp_path / "nothing.png")
    assert "no generated image" in graph2image("lineage", "0123456789abcdef", data=made_data.root.url).stderr


def test_a_watermark_outlives_the_record(tiny: TinyData, graph2image: Command, tmp_path: Path) -> None:
    pytest.importorskip("imwatermark", reason="the extra `watermark` is not installed")
    call = ("generate", "toy:03", "--steps", "1", "--watermark", "mine", "--json")
    assert "too small for a watermark" in graph2image(*call, data=tiny.root.url).stderr
    result = graph2image(*call, "--width", "256", "--height", "256", data=tiny.root.url)
    (row,) = made(tiny, result)
    assert json.loads(result.stdout)["generate"]["unmarked"] == 0
    file = Path(tiny.root.path(row["image_path"]))
    assert told(graph2image, file, tiny.root.url)["watermark"] == "mine"
    Image.fromarray(np.asarray(Image.open(file))).save(tmp_path / "stripped.png")
    stripped = told(graph2image, tmp_path / "stripped.png", tiny.root.url)
    assert (stripped["says"], stripped["watermark"]) == (None, "mine")
