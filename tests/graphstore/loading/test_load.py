"""Loading: upserts, pending relations, refusals, and that the store equals the snapshot whatever came before."""

from __future__ import annotations

import math
import tempfile
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import HOKUSAI, LANDSCAPE, MONET, entity, item, publish, publish_art, relation

from graphstore.bookkeeping import check_complete
from graphstore.connect import open_store
from graphstore.loading.load import load_source
from graphstore.schema import SYSTEM_LABELS
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError


def _relations(store: GraphStore) -> set[tuple[str, str, str, float]]:
    return {
        (type_, row["a"], row["b"], row["w"])
        for type_, start, end in store.relation_types()
        if start not in SYSTEM_LABELS
        for row in store.read(
            f"MATCH (a:`{start}`)-[r:`{type_}`]->(b:`{end}`) RETURN a.id AS a, b.id AS b, r.weight AS w"
        ).to_pylist()
    }


def test_load_counts_and_again_changes_nothing(store: GraphStore, data: DataRoot) -> None:
    publish_art(data)
    first = load_source(store, data, "art")
    assert (first.items, first.entities, first.relations, first.pending, first.changed) == (5, 3, 7, 0, True)
    assert ("INFLUENCED_BY", MONET, HOKUSAI, 1.0) in _relations(store)
    again = load_source(store, data, "art")
    assert not again.changed
    assert (again.items, again.relations, again.version) == (first.items, first.relations, first.version)


def test_columns_of_a_source_become_properties(store: GraphStore, data: DataRoot) -> None:
    extra = {
        "year": pa.int32(),
        "price": pa.float32(),
        "tags": pa.list_(pa.string()),
        "order": pa.large_string(),
        "seen": pa.timestamp("ns", tz="UTC"),
        "color": pa.dictionary(pa.int8(), pa.string()),
        "empty": pa.null(),
    }
    values: dict[str, Any] = {"year": 1872, "price": 0.5, "tags": ["a", "b"], "order": "x", "seen": 0, "color": "red"}
    rows = [item("art:1", **values), item("art:2")]
    publish(data, "art", rows, extra=[pa.field(name, type_) for name, type_ in extra.items()])
    load_source(store, data, "art")
    columns = ", ".join(f"a.`{name}` AS {name}_" for name in extra)
    table = store.query(f"MATCH (a:Artwork) RETURN {columns} ORDER BY a.id")
    assert table.column("year_").to_pylist() == [1872, None]
    assert table.column("price_").to_pylist() == [0.5, None]
    assert table.column("tags_").to_pylist() == [["a", "b"], None]
    assert table.column("order_").to_pylist() == ["x", None]
    assert table.column("color_").to_pylist() == ["red", None]
    assert table.column("empty_").to_pylist() == [None, None]
    assert table.schema.field("seen_").type == pa.timestamp("us")


def test_a_changed_row_updates_its_node_and_relations(store: GraphStore, data: DataRoot) -> None:
    publish_art(data)
    version = load_source(store, data, "art").version
    publish(
        data,
        "art",
        [item("art:1", title="new title", text=None), item("art:2"), item("art:6")],
        [entity(HOKUSAI), entity(LANDSCAPE)],
        [relation("CREATED_BY", "art:1", HOKUSAI, 0.5), relation("IN_GENRE", "art:1", LANDSCAPE, 2.0)],
    )
    report = load_source(store, data, "art")
    assert report.changed
    assert report.version != version
    assert (report.items, report.items_gone, report.entities_gone, report.relations_removed) == (3, 3, 1, 2)
    assert store.read("MATCH (a:Artwork {id: 'art:1'}) RETURN a.title AS title, a.text AS text").to_pylist() == [
        {"title": "new title", "text": None}
    ]
    # What a gone node had stays; what a present node no longer has does not.
    assert _relations(store) == {
        ("CREATED_BY", "art:1", HOKUSAI, 0.5),
        ("CREATED_BY", "art:3", HOKUSAI, 1.0),
        ("CREATED_BY", "art:4", HOKUSAI, 1.0),
        ("IN_GENRE", "art:1", LANDSCAPE, 2.0),
        ("IN_GENRE", "art:3", LANDSCAPE, 1.0),
        ("INFLUENCED_BY", MONET, HOKUSAI, 1.0),
    }
    assert not load_source(store, data, "art").changed


def test_a_pending_relation_appears_when_its_end_comes(store: GraphStore, data: DataRoot) -> None:
    publish(
        data,
        "books",
        [item("books:1", "Book"), item("books:2", "Book")],
        [],
        [
            relation("SIMILAR_TO", "books:1", "books:2"),
            relation("SIMILAR_TO", "books:1", "films:1"),
            relation("SIMILAR_TO", "books:1", "films:9"),
        ],
    )
    first = load_source(store, data, "books")
    assert (first.relations, first.pending) == (1, 2)
    publish(data, "films", [item("films:1", "Film")])
    films = load_source(store, data, "films")
    assert films.resolved == 1
    assert ("SIMILAR_TO", "books:1", "films:1", 1.0) in _relations(store)
    again = load_source(store, data, "books")
    assert (again.changed, again.relations, again.pending) == (False, 2, 1)


def test_the_order_of_loads_does_not_matter_for_the_version(tmp_path: Any) -> None:
    data = DataRoot(str(tmp_path / "data"))
    publish_art(data)
    publish(data, "books", [item("books:1", "Book")], [], [relation("SHOWS", "books:1", "art:1")])
    versions, graphs = set(), []
    for number, order in enumerate([("art", "books"), ("books", "art")]):
        with open_store(f"ladybug://{tmp_path}/graph{number}.lbug") as store:
            for source in order:
                load_source(store, data, source)
            versions.add(store.version())
            graphs.append(_relations(store))
    assert len(versions) == 1
    assert graphs[0] == graphs[1]


def test_the_last_of_repeated_relations_counts(store: GraphStore, data: DataRoot) -> None:
    rows = [relation("CREATED_BY", "art:1", MONET, weight) for weight in (1.0, 3.0, 2.0)]
    publish(data, "art", [item("art:1")], [entity(MONET)], rows)
    assert load_source(store, data, "art").relations == 1
    assert _relations(store) == {("CREATED_BY", "art:1", MONET, 2.0)}


def test_the_role_of_a_relation_follows_the_dataset(store: GraphStore, data: DataRoot) -> None:
    def roles() -> list[object]:
        return store.read("MATCH (:Artwork)-[r:CREATED_BY]->(:Artist) RETURN r.role AS role")["role"].to_pylist()

    for role in ("after", None, "workshop of"):
        publish(
            data, "art", [item("art:1")], [entity(MONET)], [relation("CREATED_BY", "art:1", MONET) | {"role": role}]
        )
        assert load_source(store, data, "art").changed
        assert roles() == [role]
        assert not load_source(store, data, "art").changed


def test_prune_removes_what_is_gone(store: GraphStore, data: DataRoot) -> None:
    publish_art(data)
    load_source(store, data, "art")
    publish(data, "art", [item("art:1")], [entity(MONET)], [relation("CREATED_BY", "art:1", MONET)])
    kept = load_source(store, data, "art")
    assert (kept.items_gone, kept.entities_gone, kept.nodes_pruned) == (4, 2, 0)
    pruned = load_source(store, data, "art", prune=True)
    assert (pruned.changed, pruned.items_gone, pruned.entities_gone, pruned.nodes_pruned) == (True, 0, 0, 6)
    assert _relations(store) == {("CREATED_BY", "art:1", MONET, 1.0)}
    assert pruned.version != kept.version
    assert not load_source(store, data, "art", prune=True).changed


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (([item("art:1"), item("art:1")], [], []), "item art:1 twice"),
        (([item("other:1")], [], []), "does not belong to source 'art'"),
        (([item("art:1", "Art work")], [], []), "'Art work' cannot be a label"),
        (([item("art:1", "A`) DETACH DELETE (n")], [], []), "cannot be a label"),
        (([item("art:1", "Model")], [], []), "graph2image uses that name itself"),
        (([item("art:1", "model")], [], []), "graph2image uses that name itself"),
        (([item("art:1", "Artist")], [entity(MONET)], []), "given to items and to entities"),
        (([item("art:1", "artist")], [entity(MONET)], []), "cannot be told from"),
        (([item("art:1")], [entity(MONET)], [relation("CREATED BY", "art:1", MONET)]), "cannot be a relation type"),
        (([item("art:1")], [entity(MONET)], [relation("ARTIST", "art:1", MONET)]), "from the label 'Artist'"),
        (([item("art:1")], [entity(MONET)], [relation("TRAINED_ON", "art:1", MONET)]), "graph2image uses that name"),
        (([item("art:1")], [entity(MONET)], [relation("BY", "art:1", MONET, math.nan)]), "has weight nan"),
        (([item("art:1")], [entity(MONET)], [relation("BY", "art:1", MONET, -1.0)]), "has weight -1.0"),
        (([item("art:1")], [entity(MONET)], [relation("BY", "books:1", MONET)]), "does not belong to source 'art'"),
    ],
)
def test_what_cannot_be_a_graph_is_refused_and_changes_nothing(
    store: GraphStore, data: DataRoot, rows: tuple[list[Any], list[Any], list[Any]], message: str
) -> None:
    before = store.schema()
    publish(data, "art", *rows)
    with pytest.raises(Graph2ImageError, match=message):
        load_source(store, data, "art")
    assert store.schema() == before
    publish_art(data)
    assert load_source(store, data, "art").changed


def test_conflicts_with_what_was_loaded_before(store: GraphStore, data: DataRoot) -> None:
    publish_art(data)
    load_source(store, data, "art")
    version = store.version()
    publish(data, "art", [item("art:1", "Drawing")])
    with pytest.raises(Graph2ImageError, match="item art:1 is a Artwork in the graph store"):
        load_source(store, data, "art")
    publish(data, "more", [item("more:1", "Artist")])
    with pytest.raises(Graph2ImageError, match="'Artist' is given to items and to entities"):
        load_source(store, data, "more")
    publish(data, "more", [item("more:1", title=None)], extra=[pa.field("Title", pa.string())])
    with pytest.raises(Graph2ImageError, match="'title' already, which 'Title' cannot be told from"):
        load_source(store, data, "more")
    publish(data, "more", [item("more:1", year=1900)], extra=[pa.field("year", pa.int64())])
    load_source(store, data, "more")
    publish(data, "third", [item("third:1", year=1900.5)], extra=[pa.field("year", pa.float64())])
    with pytest.raises(Graph2ImageError, match="does not fit"):
        load_source(store, data, "third")
    publish(data, "third", [item("third:1", year="1900")], extra=[pa.field("year", pa.string())])
    with pytest.raises(Graph2ImageError, match=r"property Artwork\.year holds INT64"):
        load_source(store, data, "third")
    publish(data, "third", [item("third:1", year=1900.0)], extra=[pa.field("year", pa.float64())])
    load_source(store, data, "third")
    with pytest.raises(Graph2ImageError, match="nothing to load for source 'fourth'"):
        load_source(store, data, "fourth")
    assert store.version() != version


def test_a_load_that_loses_relations_fails_and_counts_for_nothing(
    store: GraphStore, data: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_art(data)
    upsert = store.upsert_relations

    def lossy(type_: str, start: str, end: str, relations: pa.Table) -> None:
        upsert(type_, start, end, relations.slice(1))

    with monkeypatch.context() as patch:
        patch.setattr(store, "upsert_relations", lossy)
        with pytest.raises(Graph2ImageError, match="has 3 CREATED_BY relations of art after the load, but 4 were sent"):
            load_source(store, data, "art")
    if store.bulk_load_rolls_back:
        assert "Artwork" not in store.node_labels()
    else:
        with pytest.raises(Graph2ImageError, match=r"the load of source 'art' .* is not finished"):
            check_complete(store)
    assert load_source(store, data, "art").relations == 7
    check_complete(store)


# Any text can be a name: quotes, control characters, every plane of Unicode.
_names = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=5)
_ids = st.sampled_from([f"s:{n}" for n in range(6)])
_entities = st.sampled_from([f"s/Tag/{n}" for n in range(4)])


@st.composite
def _snapshots(draw: st.DrawFn) -> tuple[list[Any], list[Any], list[Any]]:
    items = [item(id_, title=draw(_names)) for id_ in sorted(draw(st.sets(_ids)))]
    entities = [entity(id_, name=draw(_names)) for id_ in sorted(draw(st.sets(_entities)))]
    ends = st.tuples(st.sampled_from(["TAGGED", "LIKE"]), _ids, st.one_of(_ids, _entities), st.sampled_from([0.5, 1.0]))
    return items, entities, [relation(*row) for row in draw(st.lists(ends, max_size=12))]


@pytest.mark.slow
@settings(max_examples=15)
@given(st.lists(_snapshots(), min_size=1, max_size=3))
def test_after_any_history_the_store_has_the_last_snapshot(
    snapshots: list[tuple[list[Any], list[Any], list[Any]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, open_store(f"ladybug://{folder}/graph.lbug") as store:
        data = DataRoot(f"{folder}/data")
        seen: set[str] = set()
        expected: dict[tuple[str, str, str], float] = {}
        for items, entities, relations in snapshots:
            publish(data, "s", items, entities, relations)
            load_source(store, data, "s")
            present = {row["item_id"] for row in items} | {row["entity_id"] for row in entities}
            seen |= present
            expected = {key: weight for key, weight in expected.items() if key[1] not in present}
            for row in relations:
                if row["from_id"] in seen and row["to_id"] in seen:
                    expected[row["type"], row["from_id"], row["to_id"]] = row["weight"]
            titles = {row["item_id"]: row["title"] for row in items}
            if items:
                stored = store.read("MATCH (n:Artwork) RETURN n.id AS id, n.title AS title").to_pylist()
                assert titles.items() <= {row["id"]: row["title"] for row in stored}.items()
            assert _relations(store) == {(*key, weight) for key, weight in expected.items()}
