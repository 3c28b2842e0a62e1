from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import Graph2ImageError
from ingest.readers.table import read_table, remove_words
from ingest.readers.tablespec import EntitySpec, TableSpec
from ingest.records import EntityLink, ItemLink, ItemRecord, Record, RejectReason, RejectRecord

COLUMNS = ["id", "title", "color", "price", "year", "new", "tags", "similar", "part"]
ROW = {
    "id": "7",
    "title": 'A "red" hat',
    "color": "red",
    "price": "1e3",
    "year": "1928.0",
    "new": "Yes",
    "tags": "soft; ;round",
    "similar": "8;9",
    "part": "validation",
}


def _spec(file: str, **table: object) -> TableSpec:
    return TableSpec.model_validate(
        {
            "source": "shop",
            "table": {"file": file, **table},
            "item": {
                "label": "Thing",
                "id": "{id}",
                "title": "{title}",
                "remove_from_text": ["color"],
                "columns": {
                    "color": "string",
                    "price": "float",
                    "year": "int",
                    "is_new": {"type": "bool", "column": "new"},
                },
            },
            "entity": [
                {"label": "Color", "relation": "HAS_COLOR", "value": "{color}"},
                {"label": "Tag", "relation": "HAS_TAG", "value": "{tags}", "separator": ";"},
                {"label": "Word", "relation": "HAS_WORD", "value": "{title}", "pattern": r"^(\w+) "},
            ],
            "link": [{"relation": "SIMILAR_TO", "target": "{similar}", "separator": ";"}],
            "split": {"column": "part"},
        }
    )


def _csv(rows: list[dict[str, str]], delimiter: str = ",") -> str:
    def quote(value: str) -> str:
        return '"' + value.replace('"', '""') + '"'

    lines = [delimiter.join(COLUMNS)] + [delimiter.join(quote(row[c]) for c in COLUMNS) for row in rows]
    return "\r\n".join(lines) + "\r\n"


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    suffixes = path.suffixes
    if suffixes[0] == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    if suffixes[0] == ".jsonl":
        text = "\n".join(json.dumps(row) for row in rows)
    else:
        text = _csv(rows, {".csv": ",", ".tsv": "\t"}[suffixes[0]])
    path.write_bytes(gzip.compress(text.encode()) if suffixes[-1] == ".gz" else text.encode("utf-8-sig"))


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.jsonl", "t.jsonl.gz", "t.parquet"])
def test_same_item_from_every_format(tmp_path: Path, name: str) -> None:
    _write(tmp_path / name, [ROW])
    (record,) = read_table(_spec(name), tmp_path)
    assert isinstance(record, ItemRecord)
    assert record.item_id == "shop:7"
    assert record.label == "Thing"
    assert record.title == 'A "red" hat'
    assert record.text == 'A "" hat'
    assert record.columns == {"color": "red", "price": 1000.0, "year": 1928, "is_new": True}
    assert record.entities == (
        EntityLink("Color", "red", "HAS_COLOR"),
        EntityLink("Tag", "soft", "HAS_TAG"),
        EntityLink("Tag", "round", "HAS_TAG"),
        EntityLink("Word", "A", "HAS_WORD"),
    )
    assert record.links == (ItemLink("SIMILAR_TO", "shop:8"), ItemLink("SIMILAR_TO", "shop:9"))
    assert record.split == "val"
    assert record.row == (2 if ".csv" in name or ".tsv" in name else 1)


def test_names_of_entities_are_what_a_browser_shows(tmp_path: Path) -> None:
    row = {
        **ROW,
        "color": "<b>Dark</b>&nbsp;red",
        "tags": "Tom &amp; Jerry;<i>soft</i>;<br/>",
        "title": "&eacute;t&eacute; x",
    }
    _write(tmp_path / "t.csv", [row])
    (record,) = read_table(_spec("t.csv"), tmp_path)
    assert isinstance(record, ItemRecord)
    assert [(e.label, e.name) for e in record.entities] == [
        ("Color", "Dark red"),
        ("Tag", "Tom & Jerry"),
        ("Tag", "soft"),
    ]
    tag = EntitySpec(label="Tag", relation="HAS_TAG", value="{tags}", pattern="<i>(.*)</i>")
    (record,) = read_table(_spec("t.csv").model_copy(update={"entity": [tag]}), tmp_path)
    assert isinstance(record, ItemRecord)
    assert [e.name for e in record.entities] == ["soft"]


def test_native_values_of_json_and_parquet(tmp_path: Path) -> None:
    row = {**ROW, "id": 7, "price": 2.5, "year": None, "new": False, "tags": ["soft", "a; b"], "similar": [8]}
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    for name in ("t.jsonl", "t.parquet"):
        (record,) = read_table(_spec(name), tmp_path)
        assert isinstance(record, ItemRecord)
        assert record.item_id == "shop:7"
        assert record.columns == {"color": "red", "price": 2.5, "year": None, "is_new": False}
        assert [e.name for e in record.entities if e.label == "Tag"] == ["soft", "a", "b"]
        assert record.links == (ItemLink("SIMILAR_TO", "shop:8"),)


@pytest.mark.parametrize("value", ["NA", "NaN", "null", "None", "N/A", "-", "001", "1.0", "TRUE"])
def test_text_is_never_taken_for_something_else(tmp_path: Path, value: str) -> None:
    for name in ("t.csv", "t.tsv", "t.jsonl", "t.parquet"):
        _write(tmp_path / name, [{**ROW, "id": value, "color": value}])
        (record,) = read_table(_spec(name), tmp_path)
        assert isinstance(record, ItemRecord)
        assert record.item_id == f"shop:{value}"
        assert record.columns["color"] == value
        assert record.entities[0].name == value


def _single(tmp_path: Path, **changes: str) -> Record:
    _write(tmp_path / "t.csv", [{**ROW, **changes}])
    (record,) = read_table(_spec("t.csv"), tmp_path)
    return record


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"year": "about 1900"}, "bad_value", "year: 'about 1900' is no int"),
        ({"year": "1900.5"}, "bad_value", "year: '1900.5' is no int"),
        ({"year": "9" * 40}, "bad_value", "is no int"),
        ({"year": "inf"}, "bad_value", "is no int"),
        ({"price": "12 EUR"}, "bad_value", "price: '12 EUR' is no float"),
        ({"new": "maybe"}, "bad_value", "new: 'maybe' is no bool"),
        ({"part": "training"}, "bad_value", "part: 'training' is no split"),
        ({"id": "  "}, "missing_id", "no value for the id '{id}'"),
    ],
)
def test_bad_values_are_rejects(tmp_path: Path, changes: dict[str, str], reason: str, detail: str) -> None:
    record = _single(tmp_path, **changes)
    assert isinstance(record, RejectRecord)
    assert record.reason == reason
    assert detail in record.detail
    assert record.row == 2


def test_empty_cells(tmp_path: Path) -> None:
    empty = {column: "" for column in COLUMNS if column not in ("id", "part")}
    record = _single(tmp_path, **empty)
    assert isinstance(record, ItemRecord)
    assert (record.title, record.text, record.entities, record.links) == (None, None, (), ())
    assert record.columns == {"color": "", "price": None, "year": None, "is_new": None}


def test_malformed_rows_do_not_take_their_neighbors_along(tmp_path: Path) -> None:
    good = _csv([ROW]).splitlines()[1].encode()
    lines = [
        ",".join(COLUMNS).encode(),
        good,
        b"1,too,short",
        b"",
        good + b",long",
        b'"1"x,' + good[4:],
        good.replace(b"hat", b"h\xe4t"),
        good.replace(b"hat", "hüt".encode()),
    ]
    (tmp_path / "t.csv").write_bytes(b"\n".join(lines))
    records = list(read_table(_spec("t.csv"), tmp_path))
    outcome = [(r.row, r.reason.value if isinstance(r, RejectRecord) else "item") for r in records]
    assert outcome == [
        (2, "item"),
        (3, "malformed_row"),
        (5, "malformed_row"),
        (6, "malformed_row"),
        (7, "bad_encoding"),
        (8, "item"),
    ]


def test_other_encodings(tmp_path: Path) -> None:
    text = _csv([{**ROW, "title": "Hüte"}])
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    (record,) = read_table(_spec("t.csv", encoding="latin-1"), tmp_path)
    assert isinstance(record, ItemRecord)
    assert record.title == "Hüte"


def test_bad_json_lines(tmp_path: Path) -> None:
    lines = [json.dumps(ROW), "{'id': 1}", "[1, 2]", "", json.dumps({"id": "8", "part": "test"}), '{"id": "\xff']
    (tmp_path / "t.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    records = list(read_table(_spec("t.jsonl"), tmp_path))
    outcome = [(r.row, r.reason.value if isinstance(r, RejectRecord) else r.item_id) for r in records]
    assert outcome == [
        (1, "shop:7"),
        (2, "malformed_row"),
        (3, "malformed_row"),
        (5, "shop:8"),
        (6, "bad_encoding"),
    ]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_unknown_column_is_told_before_any_row(tmp_path: Path, name: str) -> None:
    if name == "t.csv":
        (tmp_path / name).write_text(_csv([ROW]).replace("color", "colour"))
    else:
        _write(tmp_path / name, [{("colour" if key == "color" else key): value for key, value in ROW.items()}])
    with pytest.raises(Graph2ImageError, match=r"uses column 'color' \(did you mean 'colour'\?\)") as caught:
        next(read_table(_spec(name), tmp_path))
    assert "Columns of t" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", None, "No such file"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"id,id,title,color,price,year,new,tags,similar,part\n", "two columns named 'id'"),
        ("t.csv.gz", b"no gzip", "does not fit"),
        ("t.jsonl", b"", "no JSON object"),
        ("t.parquet", b"PAR1 or not", "no readable Parquet"),
        ("t.xlsx", b"", "cannot tell the format"),
    ],
)
def test_unreadable_tables(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(Graph2ImageError, match=message):
        list(read_table(_spec(name), tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t.csv.gz", "t.jsonl.gz"])
@pytest.mark.parametrize("rows", [5000, 60_000])
def test_rows_before_the_cut_are_kept(tmp_path: Path, name: str, rows: int) -> None:
    table = [{**ROW, "id": str(i)} for i in range(rows)]
    text = _csv(table) if name == "t.csv.gz" else "".join(json.dumps(row) + "\n" for row in table)
    whole = gzip.compress(text.encode())
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    *items, reject = list(read_table(_spec(name), tmp_path))
    assert 1000 < len(items) < rows
    assert [item.item_id.partition(":")[2] for item in items] == [str(i) for i in range(len(items))]
    assert reject.reason == RejectReason.FILE_DAMAGED
    assert reject.row == items[-1].row + 1


def test_zstd_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(pa.Codec("zstd").compress(_csv([ROW]).encode()))
    assert len(list(read_table(_spec("t.csv"), tmp_path))) == 1


def test_remove_words() -> None:
    assert remove_words("Red Tape Men redder red-hot RED Shoes", ["red"]) == "Tape Men redder red-hot Shoes"
    assert remove_words("Off Shoulder off white Off-White Top", ["Off White"]) == "Shoulder Off-White Top"
    assert remove_words("C++ (new) top", ["c++", "(new)"]) == "top"
    assert remove_words("nothing  to do", ["", " "]) == "nothing  to do"


@given(st.lists(st.sampled_from(["red", "Navy", "BLUE", "hat", "redder", "navy-blue"])))
def test_removed_words_are_gone_and_others_stay(words: list[str]) -> None:
    text = remove_words(" ".join(words), ["Red", "navy blue"])
    assert text.split() == [word for word in words if word.lower() not in ("red", "navy", "blue")]
