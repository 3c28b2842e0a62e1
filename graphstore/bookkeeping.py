"""What a store knows about itself: which sources were loaded, whether a load was cut off, graph versions, opt-outs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from graphstore.schema import SYSTEM_LABELS
from graphstore.store import GraphStore
from ingest.datasets.names import LOADED_SOURCE, OPT_OUT, SNAPSHOT
from ingest.errors import Graph2ImageError

_NOTHING_LOADED: dict[str, Any] = {
    **dict.fromkeys(("items_digest", "entities_digest", "relations_digest", "gone_digest"), ""),
    **dict.fromkeys(("items", "entities", "relations", "pending", "rejects", "items_gone", "entities_gone"), 0),
    "item_labels": [],
    "entity_labels": [],
}


#: Begins the id of the record of a copy that is not finished.
_COPY = "copy of graph "


def now() -> datetime:
    """The time in UTC, as stores keep it: without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def upsert_record(store: GraphStore, label: str, **properties: Any) -> None:
    """Create or update one node of a system label."""
    schema = pa.schema([SYSTEM_LABELS[label].field(name) for name in properties])
    store.upsert_nodes(label, pa.Table.from_pylist([properties], schema))


def loaded_sources(store: GraphStore) -> dict[str, dict[str, Any]]:
    """The `LoadedSource` of every source, by source; its labels are those that the store has.

    A property that a store of an earlier version does not have is None.
    """
    labels = store.node_labels()
    names = SYSTEM_LABELS[LOADED_SOURCE].names
    stored = store.nodes(LOADED_SOURCE, [name for name in names if name in labels[LOADED_SOURCE].names])
    rows = [dict.fromkeys(names) | row for row in stored.sort_by("id").to_pylist()]
    for row in rows:
        for kind in ("item_labels", "entity_labels"):
            row[kind] = [label for label in row[kind] or () if label in labels]
    return {row["id"]: row for row in rows}


@contextmanager
def marked_as_loading(
    store: GraphStore, source: str, item_labels: list[str], entity_labels: list[str]
) -> Iterator[None]:
    """Mark the source as being loaded, so that a load that is killed inside is known to be incomplete.

    The record of the finished load, written by the caller, takes the mark away. After an exception, if it has undone
    what was written inside, the mark is what it was before.
    """
    before = loaded_sources(store).get(source)
    record = before or {"id": source, **_NOTHING_LOADED}
    marked = {
        **record,
        "item_labels": sorted({*record["item_labels"], *item_labels}),
        "entity_labels": sorted({*record["entity_labels"], *entity_labels}),
        "loading": True,
    }
    with store.transaction():
        upsert_record(store, LOADED_SOURCE, **marked)
    try:
        yield
    except BaseException:
        if not store.bulk_load_rolls_back:
            raise
        with store.transaction():
            if before is None:
                store.write(f"MATCH (s:{LOADED_SOURCE} {{id: $id}}) DELETE s", {"id": source})
            else:
                upsert_record(store, LOADED_SOURCE, **before)
        raise


def copy_mark(version: str) -> str:
    """Id of the `LoadedSource` that a store has, instead of its sources', while a copy into it is not finished."""
    return f"{_COPY}{version}"


def mark_as_copying(store: GraphStore, version: str) -> None:
    """Write the node of `copy_mark`."""
    upsert_record(store, LOADED_SOURCE, **{"id": copy_mark(version), **_NOTHING_LOADED, "loading": True})


def check_complete(store: GraphStore) -> None:
    """Raise if a load or a copy was cut off: then the graph has a part of a source's rows only.

    Raises
    ------
    Graph2ImageError
        Naming the source.
    """
    for source, row in loaded_sources(store).items():
        if source.startswith(_COPY):
            raise Graph2ImageError(
                "the copy into the graph store is not finished, or was cut off",
                "Run the same `graph2image copy` again.",
            )
        if row["loading"]:
            raise Graph2ImageError(
                f"the load of source {source!r} into the graph store is not finished, or was cut off",
                "Run the same `graph2image ingest` again.",
            )


def record_snapshot(store: GraphStore) -> str:
    """Make sure that the present graph version has its `Snapshot` node, for lineage to lead to; returns the version."""
    version = store.version()
    if store.read(f"MATCH (s:{SNAPSHOT} {{id: $id}}) RETURN s.id AS id", {"id": version}).num_rows == 0:
        rows = loaded_sources(store).values()
        totals = {name: sum(row[name] for row in rows) for name in ("items", "entities", "relations")}
        upsert_record(store, SNAPSHOT, id=version, created_at=now(), **totals)
    return version


def apply_opt_outs(store: GraphStore) -> None:
    """Mark what is opted out: nodes by their ids, and every item that leads to such an entity, by whatever relation."""
    ids = store.nodes(OPT_OUT, ["id"])["id"].to_pylist()
    if not ids:
        return
    items, entities = set(store.labels_of_kind("item")), set(store.labels_of_kind("entity"))
    for label in sorted(items | entities):
        store.write(f"MATCH (n:`{label}`) WHERE n.id IN $ids SET n.opted_out = true", {"ids": ids})
    for type_, from_label, to_label in store.relation_types():
        if from_label in items and to_label in entities:
            store.write(
                f"MATCH (n:`{from_label}`)-[:`{type_}`]->(e:`{to_label}`) WHERE e.opted_out = true "
                "SET n.opted_out = true"
            )


def count_differences(store: GraphStore) -> list[str]:
    """How the nodes and relations that a store has differ from those that were loaded; empty if they do not.

    What is being loaded or copied is not counted: then only that is told.
    """
    try:
        check_complete(store)
    except Graph2ImageError as error:
        return [error.message]
    rows = loaded_sources(store).values()
    found = []
    nodes: dict[str, int] = {}
    for kind, plural in (("item", "items"), ("entity", "entities")):
        nodes[plural] = sum(store.nodes(label, ["id"]).num_rows for label in store.labels_of_kind(kind))
        found.append((plural, nodes[plural], sum(row[plural] + row[f"{plural}_gone"] for row in rows)))
    labels = {*store.labels_of_kind("item"), *store.labels_of_kind("entity")}
    relations = sum(store.relations(*key).num_rows for key in store.relation_types() if {key[1], key[2]} <= labels)
    expected = sum(row["relations"] for row in rows)
    # What is no longer in its source keeps its relations, which no source counts.
    if relations < expected or not any(row["items_gone"] + row["entities_gone"] for row in rows):
        found.append(("relations", relations, expected))
    return [f"has {there:,} {what}, of {loaded:,} loaded" for what, there, loaded in found if there != loaded]
