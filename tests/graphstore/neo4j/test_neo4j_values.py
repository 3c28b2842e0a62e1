"""Values at the limits of what a graph can hold: on both stores where both hold them, refused where Neo4j does not."""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import entity, item, publish, publish_art, relation

from graphstore.bookkeeping import check_complete
from graphstore.connect import open_store
from graphstore.loading.load import load_source
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

INT64, INF = 2**63, math.inf
# Of every plane of Unicode: characters, spread over it, and its ends.
PLANES = [
    "".join(chr(start + offset) for offset in (*range(0, 0x10000, 0x3D1), 0xFFFF) if not 0xD800 <= offset < 0xE000)
    if start
    else "".join(chr(code) for code in (*range(1, 0xD800, 0x3D1), *range(0xE000, 0x10000, 0x3D1), 0xFFFF))
    for start in range(0, 0x110000, 0x10000)
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def put(store: GraphStore, **columns: pa.Array) -> list[dict[str, Any]]:
    """Nodes with these columns, written and read again."""
    ids = [f"x/Thing/{row}" for row in range(len(next(iter(columns.values()))))]
    table = pa.table({"id": ids, **columns})
    store.define_label("Thing", table.schema)
    store.upsert_nodes("Thing", table)
    back = store.nodes("Thing", table.column_names)
    assert back.schema == table.schema
    return back.sort_by("id").to_pylist()


def test_every_plane_of_unicode_in_names_ids_titles_and_lists(store: GraphStore, data: DataRoot) -> None:
    publish(
        data,
        "all",
        [item(f"all:{text}", title=text, text=text, tags=[text, text[::-1]]) for text in PLANES],
        [{"entity_id": f"all/Tag/{text}", "label": "Tag", "name": text} for text in PLANES],
        [relation("TAGGED", f"all:{text}", f"all/Tag/{text}") for text in PLANES],
        extra=[pa.field("tags", pa.list_(pa.string()))],
    )
    load_source(store, data, "all")
    items = store.nodes("Artwork", ["id", "title", "tags"]).to_pylist()
    assert {row["id"]: (row["title"], row["tags"]) for row in items} == {
        f"all:{text}": (text, [text, text[::-1]]) for text in PLANES
    }
    assert set(store.nodes("Tag", ["name"])["name"].to_pylist()) == set(PLANES)
    pairs = store.relations("TAGGED", "Artwork", "Tag").to_pylist()
    assert sorted((row["from_id"][4:], row["to_id"][8:]) for row in pairs) == sorted((text, text) for text in PLANES)
    found = store.query("MATCH (t:Tag {name: $name}) RETURN t.id AS id", {"name": PLANES[1]})
    assert found["id"].to_pylist() == [f"all/Tag/{PLANES[1]}"]
    assert not load_source(store, data, "all").changed


@settings(max_examples=15)
@given(st.dictionaries(TEXT, st.tuples(st.none() | TEXT, st.lists(TEXT, max_size=3)), min_size=1, max_size=30))
def test_any_text_comes_back(store: GraphStore, rows: dict[str, tuple[str | None, list[str]]]) -> None:
    table = pa.table(
        {
            "id": pa.array(rows, pa.string()),
            "name": pa.array([name for name, _ in rows.values()], pa.string()),
            "tags": pa.array([tags for _, tags in rows.values()], pa.list_(pa.string())),
        }
    )
    store.define_label("Thing", table.schema)
    store.write("MATCH (n:Thing) DETACH DELETE n")
    store.upsert_nodes("Thing", table)
    store.upsert_nodes("Thing", table)
    back = store.nodes("Thing", table.column_names).to_pylist()
    assert {row["id"]: (row["name"], row["tags"]) for row in back} == rows


@pytest.mark.parametrize(
    "values",
    [
        pa.array([-INT64, -1, 0, None, INT64 - 1]),
        pa.array([INF, -INF, 5e-324, 1.7976931348623157e308, None, 0.1]),
        pa.array([date.min, date(1969, 12, 31), None, date.max], pa.date32()),
        pa.array([datetime.min, datetime(1969, 12, 31, 23, 59, 59, 999_999), None, datetime.max], pa.timestamp("us")),
        pa.array([True, None, False]),
        pa.array([[-INT64, INT64 - 1], [], None]),
        pa.array([[INF, 0.1], [], None]),
        pa.array([[date.min, date.max], [], None], pa.list_(pa.date32())),
        pa.array([[datetime.min, datetime.max], [], None], pa.list_(pa.timestamp("us"))),
        pa.array([["", "\n"], [], None]),
    ],
    ids=lambda values: str(values.type),
)
def test_values_at_the_ends_of_their_types_come_back(store: GraphStore, values: pa.Array) -> None:
    assert [row["value"] for row in put(store, value=values)] == values.to_pylist()
    # In a query's answer too, whose types are made from the values.
    answer = store.query("MATCH (n:Thing) RETURN n.value AS value ORDER BY n.id")
    assert answer["value"].to_pylist() == values.to_pylist()


def test_no_number_is_a_number(store: GraphStore) -> None:
    (row,) = put(store, value=pa.array([math.nan]))
    assert math.isnan(row["value"])


def test_a_title_of_two_megabytes(store: GraphStore, data: DataRoot) -> None:
    title = "märchen " * 250_000
    publish(data, "long", [item(f"long:{number}", title=f"{title}{number}") for number in range(6)])
    load_source(store, data, "long")
    assert sorted(store.nodes("Artwork", ["title"])["title"].to_pylist()) == [f"{title}{n}" for n in range(6)]


def test_an_id_at_the_limit(store: GraphStore, data: DataRoot) -> None:
    longest = "big:" + "x" * 7_996
    publish(data, "big", [item(longest)], [entity("big/Tag/1")], [relation("TAGGED", longest, "big/Tag/1")])
    load_source(store, data, "big")
    assert store.nodes("Artwork", ["id"])["id"].to_pylist() == [longest]
    assert load_source(store, data, "big").relations == 1


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({"item_id": "art:" + "x" * 7_997}, None, "Artwork art:xxx.* has an id of more than 8000 bytes"),
        ({"x": ["a", None]}, pa.list_(pa.string()), "Artwork art:6 has an empty place in its list 'x'"),
        ({"x": -719_163}, pa.date32(), "Artwork art:6 has a date in 'x' that is not in the years 1 to 9999"),
        ({"x": 2_932_897}, pa.date32(), "Artwork art:6 has a date in 'x' that is not in the years 1 to 9999"),
        ({"x": [0, 2**61]}, pa.list_(pa.timestamp("us")), "Artwork art:6 has a date in 'x' that is not in the years 1"),
    ],
    ids=["id", "null in a list", "before the year 1", "after 9999", "time after 9999"],
)
def test_what_neo4j_cannot_store_is_refused_before_anything_is_written(
    neo4j_url: str, data: DataRoot, row: dict[str, Any], field: pa.DataType | None, message: str
) -> None:
    publish_art(data)
    with open_store(neo4j_url) as store:
        before = load_source(store, data, "art").version
        rows = [item("art:1"), item("art:6") | row]
        publish(data, "art", rows, [entity("art/Style/new")], extra=[pa.field("x", field)] if field else [])
        with pytest.raises(Graph2ImageError, match=message):
            load_source(store, data, "art")
        check_complete(store)
        assert store.version() == before
        assert "Style" not in store.node_labels()


def test_lists_of_lists_are_refused_before_anything_is_written(store: GraphStore, data: DataRoot) -> None:
    publish(data, "deep", [item("deep:1", x=[["a"]])], extra=[pa.field("x", pa.list_(pa.list_(pa.string())))])
    with pytest.raises(Graph2ImageError, match=r"column 'x' has type .*, which a graph property cannot have"):
        load_source(store, data, "deep")
    assert "Artwork" not in store.node_labels()
    check_complete(store)


def test_another_type_for_a_property_is_refused_before_anything_is_written(store: GraphStore, data: DataRoot) -> None:
    publish(data, "one", [item("one:1", year=1900)], extra=[pa.field("year", pa.int64())])
    publish(data, "two", [item("two:1", year="MCM")], [entity("two/Tag/1")], extra=[pa.field("year", pa.string())])
    before = load_source(store, data, "one").version
    with pytest.raises(Graph2ImageError, match=r"property Artwork.year holds INT64, but the column now has string"):
        load_source(store, data, "two")
    assert store.version() == before
    assert "Tag" not in store.node_labels()
