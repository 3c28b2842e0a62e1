"""The same history gives the same graph on both stores: rows, types, counts, versions, projections and walks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_sources import SOURCES, ingest_samples, publish_images_made

from graphstore.bookkeeping import loaded_sources
from graphstore.connect import open_store
from graphstore.lineage import lineage, opt_out, record_lineage
from graphstore.loading.load import load_source
from graphstore.ppr import top_k_ppr
from graphstore.projection.projection import Projection, project
from graphstore.projection.settings import WalkSettings
from graphstore.schema import RELATION_PROPERTIES, TYPE_NAMES, GraphSchema
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import REJECT_SCHEMA
from ingest.ingestion import Art500k, Table
from ingest.sources import ingest_source

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Times at which something was written, which differ.
TIMES = ("loaded_at", "created_at")


@pytest.fixture(scope="module")
def stores(both_urls: tuple[str, str]) -> Iterator[list[GraphStore]]:
    opened = [open_store(url) for url in both_urls]
    yield opened
    for store in opened:
        store.close()


@pytest.fixture(scope="module")
def samples(stores: list[GraphStore], tmp_path_factory: pytest.TempPathFactory) -> tuple[DataRoot, Path]:
    """The sample data, and the folder of the files that it was ingested from."""
    folder = tmp_path_factory.mktemp("samples")
    data = DataRoot(str(folder / "data"))
    ingest_samples(data, folder / "files", items=80)
    return data, folder / "files"


def same(stores: list[GraphStore], do: Callable[[GraphStore], Any]) -> Any:
    """What `do` says of either store, which is the same."""
    embedded, server = (do(store) for store in stores)
    assert embedded == server
    return embedded


def schema(store: GraphStore) -> GraphSchema:
    told = store.schema()
    return GraphSchema(
        tuple(sorted(told.labels, key=lambda label: label.name)),
        tuple(sorted(told.relations, key=lambda relation: (relation.type, relation.from_label, relation.to_label))),
    )


def assert_same_graph(stores: list[GraphStore]) -> None:
    same(stores, lambda store: store.version())
    told = same(stores, schema)
    same(stores, lambda store: (store.labels_of_kind("item"), store.labels_of_kind("entity")))
    for label in told.labels:
        names = [name for name in label.properties if name not in TIMES]
        embedded, server = (store.nodes(label.name, names).sort_by("id") for store in stores)
        assert embedded.schema.equals(server.schema)
        assert embedded.num_rows == label.count
        assert embedded.equals(server), label.name
    for relation in told.relations:
        names = ["rank", "weight"] if relation.type == "CONDITIONED_ON" else ["role", "weight"]
        if relation.type in ("GENERATED_FOR", "GENERATED_BY", "TRAINED_ON", "PROMOTED", "REPLACED_BY"):
            names = []
        order = [("from_id", "ascending"), ("to_id", "ascending")]
        key = (relation.type, relation.from_label, relation.to_label)
        embedded, server = (store.relations(*key, names).sort_by(order) for store in stores)
        assert embedded.schema.equals(server.schema)
        assert embedded.num_rows == relation.count
        assert embedded.equals(server), key


def assert_same_projection(stores: list[GraphStore], **how: Any) -> Projection:
    embedded, server = (project(store, WalkSettings(**how)) for store in stores)
    for field in fields(Projection):
        ours, theirs = getattr(embedded, field.name), getattr(server, field.name)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype, field.name
            assert ours.tobytes() == theirs.tobytes(), field.name
        else:
            assert ours.equals(theirs) if isinstance(ours, pa.Table | pa.Array) else ours == theirs, field.name
    sources = np.arange(0, embedded.items.num_rows, 7)
    walks = [top_k_ppr(projection, sources, k=20, epsilon=1e-6, threads=1) for projection in (embedded, server)]
    for ours, theirs in zip(*walks, strict=True):
        assert ours.tobytes() == theirs.tobytes()
    return embedded


def test_a_history_of_the_sample_data(stores: list[GraphStore], samples: tuple[DataRoot, Path]) -> None:
    data, files = samples
    first = same(stores, lambda store: [load_source(store, data, source) for source in SOURCES])
    assert all(report.changed and report.items for report in first)
    assert_same_graph(stores)
    assert len(assert_same_projection(stores).targets) > 1000

    again = same(stores, lambda store: [load_source(store, data, source) for source in SOURCES])
    assert not any(report.changed for report in again)

    models = publish_images_made(data, first[-1].version)
    assert same(stores, lambda store: record_lineage(store, data, models)).images_new == 6
    assert_same_graph(stores)
    (told, _) = (lineage(store, "art500k-0") for store in stores)
    assert len(told["conditioned_on"]) == 3
    without_times = [{**lineage(store, "art500k-0"), **dict.fromkeys(("snapshot", "model"))} for store in stores]
    assert without_times[0] == without_times[1]

    # The gallery's catalog comes again: some works have moved, and the last ones are gone.
    catalog = files / "art500k/label_list.csv"
    rows = catalog.read_text(encoding="utf-8").replace("|Lisbon|", "|Porto|").splitlines(keepends=True)
    catalog.write_text("".join(rows[:-6]), encoding="utf-8")
    ingest_source(
        data,
        Art500k(
            files=(str(catalog),), images=files / "art500k", painters=(str(files / "PainterPalette.csv"),), prune=True
        ),
    )
    changed = same(stores, lambda store: load_source(store, data, "art500k"))
    assert changed.changed
    assert changed.items_gone
    assert_same_graph(stores)
    pruned = same(stores, lambda store: load_source(store, data, "art500k", prune=True))
    assert pruned.nodes_pruned
    assert_same_graph(stores)

    # Withdrawn: an entity, with its works; and a single item.
    artist = told["conditioned_on"][0]["entities"][0].removeprefix("CREATED_BY ")
    for id_ in (artist, data.read("items/amazon")["item_id"][0].as_py()):
        report = same(stores, lambda store, id_=id_: opt_out(store, data, id_, models))
        assert report.changed
        assert report.items
    assert_same_graph(stores)
    smaller = assert_same_projection(stores)
    assert smaller.node(artist) == -1
    assert_same_projection(stores, via=["CREATED_BY", "CO_VIEWED"], directions={"CO_VIEWED": "forward"})
    assert_same_projection(stores, entity_exponent=0.0, relation_weights={"SIMILAR_TO": 2.5, "ON_SHELF": 0.0})
    # New files brought nothing but fewer rejects.
    data.publish("rejects/amazon", [REJECT_SCHEMA.empty_table()], REJECT_SCHEMA)
    assert same(stores, lambda store: loaded_sources(store)["amazon"]["rejects"]) > 0
    assert not same(stores, lambda store: load_source(store, data, "amazon")).changed
    assert same(stores, lambda store: loaded_sources(store)["amazon"]["rejects"]) == 0


@pytest.mark.skipif("GRAPH2IMAGE_SHARED" not in os.environ, reason="GRAPH2IMAGE_SHARED does not name the data's folder")
def test_a_slice_of_the_fashion_data(stores: list[GraphStore], tmp_path: Path) -> None:
    shared = Path(os.environ["GRAPH2IMAGE_SHARED"]) / "data/fashion"
    with (shared / "products.csv").open(encoding="utf-8") as stream:
        (tmp_path / "products.csv").write_text("".join(itertools.islice(stream, 501)), encoding="utf-8")
    (tmp_path / "images.tar").symlink_to(shared / "images.tar")
    data = DataRoot(str(tmp_path / "data"))
    assert ingest_source(data, Table(spec=EXAMPLES / "fashion.toml", root=tmp_path)).items == 500
    report = same(stores, lambda store: load_source(store, data, "fashion"))
    assert report.items == 500
    assert_same_graph(stores)
    assert_same_projection(stores, via=["HAS_LOOK", "FOR_AUDIENCE", "BY_BRAND"])


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
_values: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): _texts,
    pa.bool_(): st.booleans(),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.date32(): st.dates(date(1, 1, 1), date(9999, 12, 31)),
    pa.timestamp("us"): st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),
}
_values |= {pa.list_(type_): st.lists(values, max_size=3) for type_, values in _values.items()}
_COLUMNS = {f"p{number}": type_ for number, type_ in enumerate(TYPE_NAMES)}
_NODES = pa.schema([("id", pa.string()), *_COLUMNS.items()])


@st.composite
def _node_tables(draw: st.DrawFn) -> pa.Table:
    """Nodes with some of the properties, of every type, null here and there."""
    ids = draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1))
    names = draw(st.lists(st.sampled_from(sorted(_COLUMNS)), unique=True))
    columns = {
        name: pa.array([draw(st.none() | _values[_COLUMNS[name]]) for _ in ids], _COLUMNS[name]) for name in names
    }
    return pa.table({"id": pa.array(ids), **columns})


@st.composite
def _relation_tables(draw: st.DrawFn) -> pa.Table:
    ends = draw(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), unique=True, min_size=1))
    schema = pa.schema([("from_id", pa.string()), ("to_id", pa.string()), *RELATION_PROPERTIES])
    rows = [
        {"from_id": start, "to_id": end, **{f.name: draw(st.none() | _values[f.type]) for f in RELATION_PROPERTIES}}
        for start, end in ends
    ]
    return pa.Table.from_pylist(rows, schema)


_numbers = itertools.count()


@settings(max_examples=15)
@given(st.lists(_node_tables(), min_size=1, max_size=3), st.lists(_relation_tables(), max_size=3), st.booleans())
def test_upserts_of_every_type(
    stores: list[GraphStore], nodes: list[pa.Table], relations: list[pa.Table], bulk: bool
) -> None:
    number = next(_numbers)
    label, type_ = f"Anything{number}", f"RELATES{number}"
    for store in stores:
        store.define_label(label, _NODES)
        store.define_relation(type_, label, label, RELATION_PROPERTIES)
        with store.bulk_load() if bulk else store.transaction():
            store.upsert_nodes(label, pa.table({"id": list("abcdef")}))
            for table in nodes:
                store.upsert_nodes(label, table)
            for table in relations:
                store.upsert_relations(type_, label, label, table)
    embedded, server = (store.nodes(label, _NODES.names).sort_by("id") for store in stores)
    assert embedded.schema.equals(server.schema)
    latest: dict[str, dict[str, Any]] = {id_: dict.fromkeys(_NODES.names) | {"id": id_} for id_ in "abcdef"}
    for table in nodes:
        for row in table.to_pylist():
            latest[row["id"]] |= row
    assert embedded.to_pylist() == server.to_pylist() == [latest[id_] for id_ in "abcdef"]

    ends = [("from_id", "ascending"), ("to_id", "ascending")]
    embedded, server = (store.relations(type_, label, label, ["weight", "role"]).sort_by(ends) for store in stores)
    written: dict[tuple[str, str], dict[str, Any]] = {}
    for table in relations:
        for row in table.to_pylist():
            written[row["from_id"], row["to_id"]] = row
    assert embedded.to_pylist() == server.to_pylist() == [written[key] for key in sorted(written)]
