"""Cells that are not text, in Parquet and in JSON lines: the text that a person would write, or a message."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.errors import Graph2ImageError
from ingest.readers.table import read_table
from ingest.readers.tablespec import TableSpec
from ingest.records import ItemRecord, Record, RejectRecord


def _spec(file: str, **columns: str) -> TableSpec:
    item = {"label": "Thing", "id": "{id}", "title": "{title}", "columns": columns}
    tag = {"label": "Tag", "relation": "HAS_TAG", "value": "{tags}"}
    return TableSpec.model_validate(
        {
            "source": "shop",
            "table": {"file": file},
            "item": item,
            "image": {"folder": "images", "path": "{id}.jpg"},
            "entity": [tag] if columns.pop("tags", None) else [],
        }
    )


def _parquet(tmp_path: Path, spec: TableSpec, **columns: pa.Array) -> list[Record]:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    return list(read_table(spec, tmp_path))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pa.array(["Dürers Hase".encode()], pa.binary()), "Dürers Hase"),
        (pa.array(["Dürers Hase".encode()], pa.large_binary()), "Dürers Hase"),
        (pa.array([b"Hase"], pa.binary(4)), "Hase"),
        (pa.array(["Hase"]).dictionary_encode(), "Hase"),
        (pa.array(["Hase"], pa.large_string()), "Hase"),
        (pa.array([101.0]), "101"),
        (pa.array([101.0], pa.float32()), "101"),
        (pa.array([-0.0]), "0"),
        (pa.array([2.5]), "2.5"),
        (pa.array([1e300]), "1e+300"),
        (pa.array([float("nan")]), None),
        (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
        (pa.array([Decimal("101.00")]), "101"),
        (pa.array([Decimal("12.50")]), "12.50"),
        (pa.array([Decimal("0.0000001")]), "0.0000001"),
        (pa.array([date(1928, 3, 1)]), "1928-03-01"),
        (pa.array([datetime(1928, 3, 1, 12, 30)]), "1928-03-01 12:30:00"),
        (pa.array([1_000_000_001], pa.timestamp("ns")), "1970-01-01 00:00:01"),
        (pa.array([0], pa.timestamp("s", "UTC")), "1970-01-01 00:00:00+00:00"),
        (pa.array([time(12, 30)]), "12:30:00"),
        (pa.array([True]), "true"),
        (pa.array([["soft", None, "round"]]), "soft, round"),
        (pa.array([[1.0, 2.5]]), "1, 2.5"),
        (pa.array([UUID(int=1).bytes], pa.uuid()), "00000000-0000-0000-0000-000000000001"),
        (pa.nulls(1), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_cells_of_parquet_are_text(tmp_path: Path, value: pa.Array, text: str | None) -> None:
    (record,) = _parquet(tmp_path, _spec("t.parquet"), id=pa.array(["7"]), title=value)
    assert isinstance(record, ItemRecord)
    assert record.title == text


@pytest.mark.parametrize(
    "value",
    [
        pa.array([{"bytes": b"", "path": "a.jpg"}]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.array([[["a"]]]),
        pa.array([timedelta(days=1)]),
    ],
    ids=lambda value: str(value.type),
)
def test_a_type_that_is_no_text_is_refused_by_column(tmp_path: Path, value: pa.Array) -> None:
    with pytest.raises(Graph2ImageError, match=r"item\.title uses column 'title', of type .*, which is no text"):
        _parquet(tmp_path, _spec("t.parquet"), id=pa.array(["7"]), title=value)
    # A column that the spec does not use may be anything.
    titles = pa.array(["Hase"])
    assert len(_parquet(tmp_path, _spec("t.parquet"), id=titles, title=titles, other=value)) == 1


def test_bytes_that_are_no_text_cost_their_row_only(tmp_path: Path) -> None:
    titles = pa.array([b"Hase", b"\xff\xfe", "Gänse".encode()], pa.binary())
    first, second, third = _parquet(tmp_path, _spec("t.parquet"), id=pa.array([1, 2, 3]), title=titles)
    assert isinstance(first, ItemRecord)
    assert isinstance(third, ItemRecord)
    assert third.title == "Gänse"
    assert isinstance(second, RejectRecord)
    assert (second.row, second.reason.value) == (2, "bad_encoding")
    assert second.detail.startswith("title holds bytes")


def test_what_pandas_makes_of_columns_with_nulls(tmp_path: Path) -> None:
    """Whole numbers as floats, NaN for null: the ids and years that they were."""
    records = _parquet(
        tmp_path,
        _spec("t.parquet", year="int", price="float", is_new="bool"),
        id=pa.array([101.0, 102.0]),
        title=pa.array(["Hase", "Gans"]),
        year=pa.array([1502.0, float("nan")]),
        price=pa.array([2.5, float("nan")]),
        is_new=pa.array([1.0, float("nan")]),
    )
    assert all(isinstance(record, ItemRecord) for record in records)
    first, second = records
    assert isinstance(first, ItemRecord)
    assert isinstance(second, ItemRecord)
    assert (first.item_id, first.image_refs) == ("shop:101", ("101.jpg",))
    assert first.columns == {"year": 1502, "price": 2.5, "is_new": True}
    assert second.columns == {"year": None, "price": None, "is_new": None}


def test_cells_of_json(tmp_path: Path) -> None:
    rows = [
        json.dumps({"id": 101, "title": 1984, "tags": [1.0, "b", None]}),
        json.dumps({"id": 102.0, "title": float("nan"), "tags": None}),
        json.dumps({"id": 103, "title": {"en": "Hase"}, "tags": []}),
        json.dumps({"id": 104, "title": "Hase", "tags": [{"a": 1}]}),
        r'{"id": "105", "title": "\ud83d\ude00 \ud83d", "tags": []}',
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    records = list(read_table(_spec("t.jsonl", tags="string"), tmp_path))
    found = {
        record.row: (record.item_id, record.title, [entity.name for entity in record.entities])
        for record in records
        if isinstance(record, ItemRecord)
    }
    assert found == {
        1: ("shop:101", "1984", ["1", "b"]),
        2: ("shop:102", None, []),
        5: ("shop:105", "\U0001f600 \ufffd", []),
    }
    rejects = {record.row: record.detail for record in records if isinstance(record, RejectRecord)}
    assert rejects == {
        3: "title holds a value of type dict, which is no text",
        4: "tags holds a value of type dict, which is no text",
    }


def test_columns_may_come_late(tmp_path: Path) -> None:
    """Any key may be absent from any row, and any number of bad lines may stand in front."""
    rows = ["bad"] * 1500 + [json.dumps({"id": n}) for n in range(1500)] + [json.dumps({"id": "x", "title": "Hase"})]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    records = list(read_table(_spec("t.jsonl"), tmp_path))
    assert [isinstance(record, ItemRecord) for record in records] == [False] * 1500 + [True] * 1501


def test_titles_of_a_table_are_what_a_browser_shows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,title\n1,Ducks &amp; <b>Geese</b>\n2,<Limited Edition> <3\n")
    first, second = read_table(_spec("t.csv"), tmp_path)
    assert isinstance(first, ItemRecord)
    assert isinstance(second, ItemRecord)
    assert (first.title, first.text) == ("Ducks & Geese", "Ducks & Geese")
    assert second.title == "<Limited Edition> <3"
