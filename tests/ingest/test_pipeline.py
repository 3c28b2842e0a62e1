from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batches import from_records
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import ITEM_SCHEMA
from ingest.errors import Graph2ImageError
from ingest.ingestion import Art500k, Table
from ingest.pipeline import IngestReport, InputFile, ingest, map_ordered
from ingest.readers.art500k import COLUMNS
from ingest.records import EntityLink, EntityRelation, ItemLink, ItemRecord, Record, RejectReason, RejectRecord
from ingest.sources import ingest_source

SNAPSHOTS = ("items", "entities", "relations", "rejects", "missing-images", "entity-names")


def _rows(data: DataRoot, name: str) -> list[dict[str, object]]:
    return data.read(name).to_pylist()


def _state(data: DataRoot, source: str = "shop") -> dict[str, object]:
    """All that was published: digests of the snapshots, and the images with their bytes."""
    images = sorted(_rows(data, "images"), key=lambda row: str(row["image_hash"]))
    return {
        **{name: data.snapshot(f"{name}/{source}") for name in SNAPSHOTS},
        "images": images,
        "bytes": [data.read_bytes(str(row["path"])) for row in images],
    }


# -- the whole way -----------------------------------------------------------------------------------------------------


def test_every_row_is_an_item_a_duplicate_or_a_reject(shop, data, picture) -> None:
    shop.fill(20)
    shop.add("bad1,Missing,red,1,2000,,")
    shop.add("bad2,Empty,red,1,2000,,", b"")
    shop.add("bad3,Page,red,1,2000,,", b"<html>not found</html>")
    shop.add("bad4,Cut,red,1,2000,,", picture(50)[:-100])
    shop.add("../../etc/passwd,Escape,red,1,2000,,")
    shop.add("bad5,Year,red,1,soon,,", picture(51))
    shop.add(",No id,red,1,2000,,")
    shop.add("too,few,fields")
    shop.add("t3,Again,blue,1,2000,,")
    shop.add("bad2,Now good,blue,1,2000,,")
    (shop.images / "bad2.jpg").write_bytes(b"")
    shop.add("t20,Last,blue,1,2000,round,t0;t0;t20;gone", picture(52))

    report = ingest_source(data, Table(spec=shop.spec, root=shop.root, require_images=True))
    assert report.rejected == {
        "bad_value": 1,
        "image_empty": 2,
        "image_missing": 1,
        "image_not_an_image": 1,
        "image_truncated": 1,
        "image_unsafe_path": 1,
        "malformed_row": 1,
        "missing_id": 1,
    }
    assert (report.rows_read, report.items, report.duplicates) == (31, 21, 1)
    assert report.rows_read == report.items + report.duplicates + sum(report.rejected.values())
    assert report.images_new == 21
    assert report.changed

    items = {row["item_id"]: row for row in _rows(data, "items/shop")}
    assert len(items) == report.items
    assert data.read("items/shop").schema.names == [*ITEM_SCHEMA.names, "color", "price", "year"]
    last = items["shop:t2"]
    assert (last["title"], last["text"], last["color"]) == ("Thing 2 NA", "Thing 2", "NA")
    assert (last["price"], last["year"], last["image_ref"], last["opted_out"]) == (2.5, 1992, "t2.jpg", False)

    rejects = _rows(data, "rejects/shop")
    assert Counter(r["reason"] for r in rejects) == Counter({**report.rejected, "duplicate_id": 1})
    duplicate = next(r for r in rejects if r["reason"] == "duplicate_id")
    assert (duplicate["row"], duplicate["detail"]) == (30, "the id shop:t3 is that of row 5 already")
    assert json.loads(str(duplicate["raw"]))["title"] == "Again"

    entities = {row["entity_id"]: row["name"] for row in _rows(data, "entities/shop")}
    assert entities["shop/Color/na"] == "NA"
    relations = _rows(data, "relations/shop")
    assert len(relations) == report.relations
    ends = {(r["type"], r["to_id"]) for r in relations if r["from_id"] == "shop:t20"}
    assert ends == {
        ("HAS_COLOR", "shop/Color/blue"),
        ("HAS_TAG", "shop/Tag/round"),
        ("SIMILAR_TO", "shop:t0"),
        ("SIMILAR_TO", "shop:gone"),
    }
    assert {r["to_id"] for r in relations if r["type"] != "SIMILAR_TO"} == set(entities)


def test_second_run_changes_nothing_and_a_changed_row_changes_its_item(shop, data, picture) -> None:
    shop.fill(12)
    first = ingest_source(data, Table(spec=shop.spec, root=shop.root))
    state = _state(data)
    second = ingest_source(data, Table(spec=shop.spec, root=shop.root))
    assert second == dataclasses.replace(first, images_new=0, changed=False)
    assert _state(data) == state

    text = shop.table.read_text().replace("Thing 3 red", "Thing 3b red")
    shop.table.write_text(text)
    (shop.images / "t4.jpg").write_bytes(picture(999))  # same name, other image
    third = ingest_source(data, Table(spec=shop.spec, root=shop.root))
    assert (third.changed, third.images_new, third.items) == (True, 1, 12)
    before = {row["item_id"]: row for row in DataRoot(data.url).dataset("items/shop").to_table().to_pylist()}
    assert before["shop:t3"]["title"] == "Thing 3b red"
    assert len(_rows(data, "images")) == 13


def test_strict_fails_at_the_first_reject_and_publishes_nothing(shop, data, picture) -> None:
    shop.fill(3)
    ingest_source(data, Table(spec=shop.spec, root=shop.root, strict=True))
    state = _state(data)
    shop.add("t9,Cut,red,1,2000,,", picture(60)[:-200])
    with pytest.raises(Graph2ImageError, match=r"things.csv, row 5: .*image_truncated"):
        ingest_source(data, Table(spec=shop.spec, root=shop.root, strict=True, require_images=True))
    shop.table.write_text("\n".join([*shop.table.read_text().splitlines()[:-1], "t1,Twin,red,1,2000,,", ""]))
    with pytest.raises(Graph2ImageError, match=r"row 5: the id shop:t1 is that of row 3 already"):
        ingest_source(data, Table(spec=shop.spec, root=shop.root, strict=True))
    assert _state(data) == state


def test_missing_pictures_folder_and_table(shop, data) -> None:
    shop.fill(1)
    shop.images.rename(shop.root / "elsewhere")
    with pytest.raises(Graph2ImageError, match=r"cannot read the images in .*images: No such file"):
        ingest_source(data, Table(spec=shop.spec, root=shop.root))
    (shop.root / "elsewhere").rename(shop.images)
    shop.table.unlink()
    with pytest.raises(Graph2ImageError, match=r"cannot read .*things.csv: No such file"):
        ingest_source(data, Table(spec=shop.spec, root=shop.root))
    assert data.names() == []


def test_near_duplicates_share_group_and_split(shop, data, picture) -> None:
    for number in range(60):
        shop.add(f"a{number},A,red,1,2000,,", picture(number, size=200))
        shop.add(f"b{number},B,red,1,2000,,", picture(number, size=150, quality=70))
        shop.add(f"c{number},C,red,1,2000,,", picture(number, size=200))
    report = ingest_source(data, Table(spec=shop.spec, root=shop.root))
    assert (report.items, report.images_new) == (180, 120)
    groups: dict[object, set[object]] = {}
    splits: dict[object, set[object]] = {}
    for row in _rows(data, "items/shop"):
        groups.setdefault(row["group_id"], set()).add(row["item_id"])
        splits.setdefault(row["group_id"], set()).add(row["split"])
    expected = {f"shop:a{n}": {f"shop:a{n}", f"shop:b{n}", f"shop:c{n}"} for n in range(60)}
    assert groups == expected
    assert all(len(names) == 1 for names in splits.values())
    assert set.union(*splits.values()) == {"train", "val", "test"}


def test_an_image_of_very_many_items_groups_none(shop, data, picture) -> None:
    shop.fill(30)
    for number in range(12):
        shop.add(f"s{number},Other {number},red,1,2000,,", picture(500))
    for number in range(3):
        shop.add(f"v{number},Variant {number},red,1,2000,,", picture(600))
    report = ingest_source(data, Table(spec=shop.spec, root=shop.root))
    items = {str(row["item_id"]): row for row in _rows(data, "items/shop")}
    assert report.shared_images == {items["shop:s0"]["image_hash"]: 12}
    assert {items[f"shop:s{number}"]["group_id"] for number in range(12)} == {f"shop:s{n}" for n in range(12)}
    assert {items[f"shop:v{number}"]["group_id"] for number in range(3)} == {"shop:v0"}


def test_appended_rows_leave_the_splits_of_others_alone(shop, data, picture) -> None:
    shop.fill(40)
    ingest_source(data, Table(spec=shop.spec, root=shop.root))
    before = {row["item_id"]: row["split"] for row in _rows(data, "items/shop")}
    for number in range(40, 60):
        shop.add(f"t{number},New,red,1,2000,,", picture(number))
    ingest_source(data, Table(spec=shop.spec, root=shop.root))
    after = {row["item_id"]: row["split"] for row in _rows(data, "items/shop")}
    assert {item: after[item] for item in before} == before


def test_art500k_with_a_picture_in_another_folder_and_related_artists(tmp_path, data, picture) -> None:
    def line(**changes: str) -> str:
        row = {"author_name": "Ann", "Genre": "portrait", "Influenced by": "Old Master, Ann", **changes}
        return "|".join(row.get(column, "") for column in COLUMNS)

    images = tmp_path / "art"
    (images / "Medium" / "Oil").mkdir(parents=True)
    (images / "Medium" / "Oil" / "One##id1.jpg").write_bytes(picture(1))
    lines = [
        line(painting_name="One##id1", Path="Artists1/Oil/One##id1.jpg"),
        line(author_name="Ann (1850-1910)", painting_name="Two##id2", Path="Artists1/Oil/Two##id2.jpg"),
        line(author_name="ann", painting_name="One##id1", Path="Artists1/Oil/One##id1.jpg"),
    ]
    (images / "label_list.csv").write_text("\n".join(lines))
    report = ingest_source(data, Art500k(files=(str(images / "label_list.csv"),), images=images))
    assert (report.items, report.duplicates, report.missing_images) == (2, 1, {"image_missing": 1})
    item, other = _rows(data, "items/art500k")
    assert item["image_ref"] == "Medium/Oil/One##id1.jpg"
    assert (other["image_ref"], other["image_hash"]) == ("Artists1/Oil/Two##id2.jpg", None)
    assert _rows(data, "entities/art500k") == [
        {"entity_id": "art500k/Artist/ann", "label": "Artist", "name": "Ann"},
        {"entity_id": "art500k/Artist/old-master", "label": "Artist", "name": "Old Master"},
        {"entity_id": "art500k/Genre/portrait", "label": "Genre", "name": "portrait"},
    ]
    assert {(r["type"], r["from_id"], r["to_id"]) for r in _rows(data, "relations/art500k")} == {
        ("CREATED_BY", "art500k:id1", "art500k/Artist/ann"),
        ("IN_GENRE", "art500k:id1", "art500k/Genre/portrait"),
        ("CREATED_BY", "art500k:id2", "art500k/Artist/ann"),
        ("IN_GENRE", "art500k:id2", "art500k/Genre/portrait"),
        ("INFLUENCED_BY", "art500k/Artist/ann", "art500k/Artist/old-master"),
    }


# -- records -----------------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["a", "A", " a ", "b", "ß", "SS", "日本"])
_IDS = st.sampled_from([f"s:{i}" for i in range(12)])
_ITEMS = st.builds(
    ItemRecord,
    row=st.integers(1, 99),
    file=st.just("f"),
    item_id=_IDS,
    label=st.just("Thing"),
    title=st.none() | st.text(max_size=5),
    text=st.none() | st.text(max_size=5),
    raw=st.just("raw"),
    entities=st.lists(st.builds(EntityLink, st.just("E"), _NAMES, st.sampled_from(["R", "Q"])), max_size=3).map(tuple),
    entity_relations=st.lists(
        st.builds(EntityRelation, st.just("T"), st.just("E"), _NAMES, st.just("E"), _NAMES), max_size=2
    ).map(tuple),
    links=st.lists(st.builds(ItemLink, st.just("L"), _IDS), max_size=3).map(tuple),
    group=st.none() | st.sampled_from(["g", "h"]),
    split=st.none() | st.sampled_from(["train", "val", "test"]),
)


def _ingest(data: DataRoot, records: Iterable[Record], version: int = 0) -> IngestReport:
    file = InputFile("f", [], lambda: [from_records(records, "s", "f", pa.schema([]))], version)
    return ingest(data, "s", [file], pa.schema([]))


_REJECTS = st.builds(
    RejectRecord,
    st.just("f"),
    st.none() | st.integers(1, 99),
    st.sampled_from([reason for reason in RejectReason if reason != RejectReason.DUPLICATE_ID]),
    st.text(max_size=5),
    st.text(max_size=5),
)


@pytest.mark.slow
@settings(max_examples=50)
@given(st.lists(_ITEMS | _REJECTS, max_size=25))
def test_counts_reconcile_and_nothing_dangles(tmp_path_factory, records) -> None:
    data = DataRoot(str(tmp_path_factory.mktemp("data")))
    report = _ingest(data, records)
    assert report.rows_read == len(records) == report.items + report.duplicates + sum(report.rejected.values())
    items, entities, relations = (_rows(data, f"{name}/s") for name in SNAPSHOTS[:3])
    assert [row["item_id"] for row in items] == list(
        dict.fromkeys(r.item_id for r in records if isinstance(r, ItemRecord))
    )
    assert len(_rows(data, "rejects/s")) == report.duplicates + sum(report.rejected.values())
    known = {row["item_id"] for row in items} | {row["entity_id"] for row in entities}
    assert len(entities) == len({row["entity_id"] for row in entities}) == report.entities
    assert all(row["from_id"] in known for row in relations)
    keys = [(row["type"], row["from_id"], row["to_id"]) for row in relations]
    assert len(set(keys)) == len(keys) == report.relations
    by_group: dict[object, set[object]] = {}
    for row in items:
        by_group.setdefault(row["group_id"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_group.values())
    skipped = _ingest(data, records)
    read_again = _ingest(data, records, version=1)
    assert skipped == dataclasses.replace(report, changed=False, files_unchanged=1)
    assert read_again == dataclasses.replace(report, changed=False)


def test_rejects_keep_the_row_as_far_as_it_can_be_kept(data) -> None:
    rows = [("x" * 9000, "x" * 4096), ("caf\udce9|b", "caf\ufffd|b"), ({"a": 1, "b": None}, '{"a":1,"b":null}')]
    rejects = [RejectRecord("f", 1, RejectReason.MALFORMED_ROW, "d", raw) for raw, _ in rows]
    _ingest(data, rejects)
    assert [row["raw"] for row in _rows(data, "rejects/s")] == [kept for _, kept in rows]


def test_map_ordered_keeps_order_and_looks_only_a_little_ahead() -> None:
    drawn = itertools.count()

    def source() -> Iterator[int]:
        while True:
            yield next(drawn)

    results = map_ordered(lambda number: number * 2, source(), threads=3)
    for expected in range(500):
        assert next(results) == expected * 2
    assert next(drawn) < 500 + 8 * 3 + 2
    results.close()


def test_map_ordered_passes_errors_on() -> None:
    with pytest.raises(ZeroDivisionError):
        list(map_ordered(lambda number: 1 // number, [3, 2, 1, 0, 1], threads=2))


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_runs_at_once(shop, data, tmp_path) -> None:
    shop.fill(40)
    other = DataRoot(str(tmp_path / "quiet"))
    ingest_source(other, Table(spec=shop.spec, root=shop.root))
    script = """
import sys
from ingest.datasets.root import DataRoot
from ingest.ingestion import Table
from ingest.sources import ingest_source
ingest_source(DataRoot(sys.argv[1]), Table(spec=sys.argv[2], root=sys.argv[3]))
"""
    command = [sys.executable, "-c", script, data.url, str(shop.spec), str(shop.root)]
    runs = [subprocess.Popen(command) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    for name in SNAPSHOTS:
        assert data.snapshot(f"{name}/shop") == other.snapshot(f"{name}/shop")
        assert data.read(f"{name}/shop").equals(other.read(f"{name}/shop"))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 512 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, check=False, capture_output=True).returncode:
        if os.environ.get("CI"):
            pytest.fail("a small filesystem has to be mounted for this test")
        pytest.skip("may not mount a small filesystem here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_no_space_left(shop, full_disk, picture) -> None:
    data = DataRoot(str(full_disk / "data"))
    shop.fill(10)
    ingest_source(data, Table(spec=shop.spec, root=shop.root))
    state = _state(data)
    for number in range(100, 300):
        shop.add(f"u{number},Big,red,1,2000,,", picture(number, size=200))
    with pytest.raises(Graph2ImageError, match="no space left while writing"):
        ingest_source(data, Table(spec=shop.spec, root=shop.root))
    assert {name: data.snapshot(f"{name}/shop") for name in SNAPSHOTS} == {name: state[name] for name in SNAPSHOTS}
    assert len(_rows(data, "items/shop")) == 10
    assert not list(full_disk.rglob("*.tmp"))

    text = "".join(shop.table.read_text().splitlines(keepends=True)[:21])
    shop.table.write_text(text)  # fewer images fit
    for path in (full_disk / "data" / "images" / "files").rglob("*.jpg"):
        if f"images/files/{path.parent.name}/{path.name}" not in {row["path"] for row in state["images"]}:
            path.unlink()
    assert ingest_source(data, Table(spec=shop.spec, root=shop.root)).items == 20


def test_a_file_in_the_way_of_the_data_root(shop, tmp_path) -> None:
    shop.fill(1)
    (tmp_path / "file").write_text("")
    with pytest.raises(Graph2ImageError, match="cannot write"):
        ingest_source(DataRoot(str(tmp_path / "file")), Table(spec=shop.spec, root=shop.root))


@pytest.mark.slow
def test_memory_does_not_grow_with_what_a_row_holds(data) -> None:
    """Of 600 MB of text, little is in memory at a time."""
    script = """
import resource, sys
import pyarrow as pa
from ingest.datasets.root import DataRoot
from ingest.batches import from_records
from ingest.pipeline import InputFile, ingest
from ingest.records import ItemRecord

def batches():
    for start in range(0, int(sys.argv[2]), 500):
        records = (
            ItemRecord(i, "f", f"s:{i}", "Thing", "t", str(i % 10) * 12_000, "raw") for i in range(start, start + 500)
        )
        yield from_records(records, "s", "f", pa.schema([]))

ingest(DataRoot(sys.argv[1]), "s", [InputFile("f", [], batches, sys.argv[2])], pa.schema([]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    peaks = []
    for rows in ("1", "50000"):
        run = subprocess.run([sys.executable, "-c", script, data.url, rows], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        peaks.append(int(run.stdout))
    assert peaks[1] - peaks[0] < 300, peaks


def test_every_reason_is_explained() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "ingestion.md").read_text()
    assert [reason for reason in RejectReason if f"`{reason}`" not in guide] == []
