"""From the Parquet datasets of one source into the graph store.

After a load the store has every item, entity and relation of the source's snapshot, checked by counting in the store:
lost relationships are the classic silent failure of graph loads.

- An unchanged snapshot is recognized by its digests and costs nothing.
- All that can be checked first is. Then the source is marked while it is loaded, and its digests are recorded when
  all of it is durable. After a load that was killed, or that failed in a store that cannot undo it, the mark is still
  there, sampling refuses the graph, and the same load again completes it.
- A relation whose end is not in the store is *pending*: it stays in the relations dataset, and appears as soon as a
  load of any source brings that end.
- Nodes that were deleted at the source stay in the store and are counted; `prune` removes those that no lineage leads
  to. Relations that a row no longer has are removed.
- `opted_out` in the store only ever becomes true: a re-ingest does not bring back what somebody withdrew.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from graphstore.bookkeeping import (
    apply_opt_outs,
    loaded_sources,
    marked_as_loading,
    now,
    record_snapshot,
    upsert_record,
)
from graphstore.loading.relations import (
    LoadedRelations,
    check_count,
    check_relations,
    count,
    load_relations,
)
from graphstore.optouts import take_opt_outs
from graphstore.schema import (
    ENTITY_PROPERTIES,
    ITEM_LINEAGE_RELATIONS,
    ITEM_PROPERTIES,
    conform,
    new_properties,
    property_type,
)
from graphstore.store import GraphStore
from ingest.datasets.names import GENERATED_IMAGE, LOADED_SOURCE, GraphNames, check_identifier
from ingest.datasets.root import DataRoot, digest
from ingest.datasets.schemas import ENTITY_SCHEMA, ITEM_SCHEMA, RELATION_SCHEMA
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What one load did.

    Attributes
    ----------
    items, entities, relations
        Rows of the source's snapshot that are in the store now.
    pending
        Relations of the source that wait for an end that is not in the store yet.
    items_gone, entities_gone
        Nodes in the store that were deleted at the source: the snapshot no longer has them.
    nodes_pruned
        Nodes that this load removed, since the snapshot no longer has them.
    relations_removed
        Relations that nodes of the snapshot no longer have.
    resolved
        Relations of other sources that were pending and appeared with this load.
    version
        The graph version after the load.
    changed
        False if this snapshot had been loaded already.
    """

    source: str
    items: int
    entities: int
    relations: int
    pending: int
    items_gone: int
    entities_gone: int
    nodes_pruned: int
    relations_removed: int
    resolved: int
    version: str
    changed: bool


@dataclass(frozen=True)
class _Plan:
    """What a load will write of one kind of node, items or entities, by label; made before anything is written.

    Attributes
    ----------
    ids
        Of the snapshot.
    tables
        The nodes to upsert.
    to_delete
        Ids of stored nodes to remove.
    deleted
        Ids of stored nodes that the snapshot no longer has, and that stay.
    labels
        Those that the source has after the load.
    """

    kind: str
    ids: pa.ChunkedArray
    tables: dict[str, pa.Table]
    to_delete: dict[str, list[str]]
    deleted: list[str]
    labels: list[str]

    @property
    def count_to_delete(self) -> int:
        return sum(map(len, self.to_delete.values()))


def load_source(store: GraphStore, data: DataRoot, source: str, *, prune: bool = False) -> LoadReport:
    """Bring the store up to date with the published items, entities and relations of `source`.

    Parameters
    ----------
    prune
        Remove the nodes of the source that it no longer has, unless lineage leads to them.

    Raises
    ------
    Graph2ImageError
        If nothing was ingested for `source`; if a label, relation type or column cannot be used in a graph; if ids
        repeat, belong to another source, or have changed their label; if a column's type is not that of the property
        in the store, a weight is no finite number or negative. Nothing is changed then. If the counts in the store
        differ from the counts sent, or the store fails during the load.
    """
    digests = {f"{name}_digest": _digest(data, f"{name}/{source}") for name in ("items", "entities", "relations")}
    if not any(digests.values()):
        raise Graph2ImageError(f"there is nothing to load for source {source!r}", "Run `graph2image ingest` first.")
    # Before there is anything in a new store that could be sampled.
    take_opt_outs(store, data)
    before = loaded_sources(store)
    known = before.get(source)
    may_prune = prune and known and known["items_gone"] + known["entities_gone"] > 0
    if (
        known
        and not may_prune
        and not known["loading"]
        and all(known[name] == value for name, value in digests.items())
    ):
        # A file can bring rejects and nothing else.
        if known["rejects"] != (rejects := _rejects(data, source)):
            with store.transaction():
                upsert_record(store, LOADED_SOURCE, id=source, rejects=rejects)
        return _report(known, store.version(), changed=False)

    item_rows = _read(data, f"items/{source}", ITEM_SCHEMA)
    entity_rows = _read(data, f"entities/{source}", ENTITY_SCHEMA)
    relation_rows = _read(data, f"relations/{source}", RELATION_SCHEMA)
    with store.exclusive():
        before = loaded_sources(store)
        item_labels, entity_labels = (rows["label"].unique().to_pylist() for rows in (item_rows, entity_rows))
        types = relation_rows["type"].unique().to_pylist()
        _check_names(store, GraphNames(frozenset(item_labels), frozenset(entity_labels), frozenset(types)), before)
        plans = [
            _plan_nodes(store, rows, kind, source, before, prune=prune)
            for kind, rows in (("item", item_rows), ("entity", entity_rows))
        ]
        check_relations(relation_rows, source)
        with marked_as_loading(store, source, item_labels, entity_labels), store.bulk_load():
            for plan in plans:
                _load_nodes(store, plan, source)
            items, entities = plans
            ids = pa.chunked_array([*items.ids.chunks, *entities.ids.chunks], pa.string())
            relations = load_relations(store, relation_rows, source, ids)
            resolved = {name: _retry_pending(store, data, row) for name, row in before.items() if name != source}
            apply_opt_outs(store)
        return _record(store, source, digests, items, entities, relations, resolved, rejects=_rejects(data, source))


def _record(
    store: GraphStore,
    source: str,
    digests: dict[str, str],
    items: _Plan,
    entities: _Plan,
    relations: LoadedRelations,
    resolved: dict[str, LoadedRelations | None],
    *,
    rejects: int,
) -> LoadReport:
    """Record a load that is complete, which takes its mark away."""
    record = {
        "id": source,
        **digests,
        "gone_digest": digest(items.deleted, entities.deleted),
        "item_labels": items.labels,
        "entity_labels": entities.labels,
        "items": len(items.ids),
        "entities": len(entities.ids),
        "relations": relations.loaded,
        "pending": relations.pending,
        "rejects": rejects,
        "items_gone": len(items.deleted),
        "entities_gone": len(entities.deleted),
        "loaded_at": now(),
        "loading": False,
    }
    with store.transaction():
        upsert_record(store, LOADED_SOURCE, **record)
        for name, others in resolved.items():
            if others:
                upsert_record(store, LOADED_SOURCE, id=name, relations=others.loaded, pending=others.pending)
        version = record_snapshot(store)
    appeared = sum(others.added for others in resolved.values() if others)
    report = _report(
        record,
        version,
        changed=True,
        nodes_pruned=items.count_to_delete + entities.count_to_delete,
        relations_removed=relations.removed,
        resolved=appeared,
    )
    log.info(
        "loaded %s: %d items, %d entities, %d relations, %d pending",
        *(source, report.items, report.entities, report.relations, report.pending),
    )
    if items.deleted or entities.deleted:
        log.warning(
            "%d items and %d entities of %s are in the store, but no longer in the source",
            *(report.items_gone, report.entities_gone, source),
        )
    return report


def _plan_nodes(
    store: GraphStore, rows: pa.Table, kind: str, source: str, before: dict[str, dict[str, Any]], *, prune: bool
) -> _Plan:
    """Check the rows of items or entities against the store, and decide what is to be done with each."""
    base = ITEM_PROPERTIES if kind == "item" else ENTITY_PROPERTIES
    rows = rows.rename_columns({f"{kind}_id": "id"})
    ids = rows.column("id")
    prefix = _prefix(kind, source)
    _check_ids(ids, kind, source, prefix)

    stored = {}
    for label in before[source][f"{kind}_labels"] if source in before else []:
        nodes = store.nodes(label, ["id", "opted_out"])
        stored[label] = nodes.filter(pc.starts_with(nodes["id"], prefix))
    deleted: list[str] = []
    to_delete: dict[str, list[str]] = {}
    for label, known in stored.items():
        others = ids.filter(pc.not_equal(rows.column("label"), label))
        moved = known.column("id").filter(pc.is_in(known.column("id"), value_set=others))
        if len(moved):
            raise Graph2ImageError(
                f"{kind} {moved[0]} is a {label} in the graph store, but has another label now",
                "Load the source into a new store, or give it another name.",
            )
        deleted_here = known.column("id").filter(pc.invert(pc.is_in(known.column("id"), value_set=ids))).to_pylist()
        if prune and deleted_here:
            kept = _with_lineage(store, label, deleted_here) if kind == "item" else set()
            to_delete[label] = [id_ for id_ in deleted_here if id_ not in kept]
            deleted_here = sorted(kept)
        deleted += deleted_here

    known_labels = store.node_labels()
    tables = {}
    for label in sorted(pc.unique(rows.column("label")).to_pylist()):
        table = _properties(rows.filter(pc.equal(rows.column("label"), label)), base)
        if label in known_labels:
            new = new_properties(label, known_labels[label], table.schema)
            table = conform(table, pa.schema([*known_labels[label], *new]), label)
        if label in stored:
            withdrawn = stored[label].filter(stored[label].column("opted_out")).column("id")
            opted_out = pc.or_(table.column("opted_out"), pc.is_in(table.column("id"), value_set=withdrawn))
            table = table.set_column(table.column_names.index("opted_out"), "opted_out", opted_out)
        store.check_nodes(label, table)
        tables[label] = table
    labels = sorted({*tables, *(label for label in stored if stored[label].num_rows)})
    return _Plan(kind, ids, tables, to_delete, sorted(deleted), labels)


def _load_nodes(store: GraphStore, plan: _Plan, source: str) -> None:
    """Do what the plan says, label by label, and count the nodes in the store."""
    for label, ids in plan.to_delete.items():
        store.write(f"MATCH (n:`{label}`) WHERE n.id IN $ids DETACH DELETE n", {"ids": ids})
    for label, table in plan.tables.items():
        store.define_label(label, table.schema)
        if plan.kind == "item":
            for type_, properties in ITEM_LINEAGE_RELATIONS.items():
                store.define_relation(type_, GENERATED_IMAGE, label, properties)
        store.upsert_nodes(label, table)
    in_store = sum(
        count(
            store,
            f"MATCH (n:`{label}`) WHERE n.id STARTS WITH $prefix RETURN count(n) AS count",
            {"prefix": _prefix(plan.kind, source)},
        )
        for label in plan.labels
    )
    check_count(f"{plan.kind} nodes of {source}", in_store, len(plan.ids) + len(plan.deleted))


def _prefix(kind: str, source: str) -> str:
    return f"{source}:" if kind == "item" else f"{source}/"


def _with_lineage(store: GraphStore, label: str, ids: list[str]) -> set[str]:
    """Those of the items that generated images were made from or for."""
    types = "|".join(ITEM_LINEAGE_RELATIONS)
    made_from = store.read(
        f"MATCH (:{GENERATED_IMAGE})-[:{types}]->(n:`{label}`) WHERE n.id IN $ids RETURN DISTINCT n.id AS id",
        {"ids": ids},
    )
    return set(made_from["id"].to_pylist())


def _check_ids(ids: pa.ChunkedArray, kind: str, source: str, prefix: str) -> None:
    counts = pc.value_counts(ids)
    repeated = counts.field(0).filter(pc.greater(counts.field(1), 1))
    if len(repeated):
        raise Graph2ImageError(f"the dataset of source {source!r} has {kind} {repeated[0]} twice")
    foreign = ids.filter(pc.invert(pc.starts_with(ids, prefix)))
    if len(foreign):
        raise Graph2ImageError(f"{kind} {foreign[0]} does not belong to source {source!r}: ids begin with {prefix!r}")


def check_fits(store: GraphStore, names: GraphNames, item_columns: pa.Schema) -> None:
    """Check, before a source is read, that the graph can take what its rows will bring.

    Parameters
    ----------
    item_columns
        Arrow schema of the items' own columns.

    Raises
    ------
    Graph2ImageError
        If a label, relation type or column cannot be used beside those that are in the store.
    """
    _check_names(store, names, loaded_sources(store))
    labels = store.node_labels()
    for label in sorted(names.items & labels.keys()):
        properties = pa.schema([*ITEM_PROPERTIES, *item_columns])
        new = new_properties(label, labels[label], properties)
        conform(properties.empty_table(), pa.schema([*labels[label], *new]), label)


def _check_names(store: GraphStore, names: GraphNames, before: dict[str, dict[str, Any]]) -> None:
    """The rules of `GraphNames`, with all that is in the store: a label is of items only or of entities only, too."""
    uses = dict.fromkeys(store.labels(), "label")
    uses |= {type_: "relation type" for type_, _, _ in store.relation_types()}
    names.check(uses)
    everything = GraphNames(
        names.items.union(*(row["item_labels"] for row in before.values())),
        names.entities.union(*(row["entity_labels"] for row in before.values())),
    )
    everything.check()


def _properties(rows: pa.Table, base: pa.Schema) -> pa.Table:
    """The node properties of `rows` (one label): `base` first, then the source's own columns, in the store's types."""
    rows = rows.drop_columns(["label", *({"source_group", "source_split"} & set(rows.column_names))])
    if "opted_out" not in rows.column_names:
        rows = rows.append_column("opted_out", pa.repeat(False, rows.num_rows))
    own = [
        pa.field(check_identifier(field.name, "column"), property_type(field.type, field.name))
        for field in rows.schema
        if field.name not in base.names
    ]
    schema = pa.schema([*base, *own])
    return rows.select(schema.names).cast(schema)


def _retry_pending(store: GraphStore, data: DataRoot, row: dict[str, Any]) -> LoadedRelations | None:
    """Load the relations of another source whose missing ends may have come; None if there was nothing to do.

    If that source's relations have been published again since, its own load will see to them.
    """
    if row["pending"] == 0 or _digest(data, f"relations/{row['id']}") != row["relations_digest"]:
        return None
    rows = _read(data, f"relations/{row['id']}", RELATION_SCHEMA)
    return load_relations(store, rows, row["id"], pa.chunked_array([], pa.string()))


def _digest(data: DataRoot, name: str) -> str:
    snapshot = data.snapshot(name)
    return snapshot.digest if snapshot else ""


def _rejects(data: DataRoot, source: str) -> int:
    snapshot = data.snapshot(f"rejects/{source}")
    return snapshot.rows if snapshot else 0


def _read(data: DataRoot, name: str, schema: pa.Schema) -> pa.Table:
    if data.snapshot(name) is None:
        return schema.empty_table()
    table = data.read(name)
    missing = [column for column in schema.names if column not in table.column_names]
    if missing:
        raise Graph2ImageError(f"dataset {name!r} has no column {missing[0]!r}", "Run `graph2image ingest` again.")
    return table


def _report(row: dict[str, Any], version: str, **of_this_load: Any) -> LoadReport:
    counts = {field.name: row[field.name] for field in fields(LoadReport) if field.name in row}
    done = {"nodes_pruned": 0, "relations_removed": 0, "resolved": 0} | of_this_load
    return LoadReport(source=row["id"], **counts, **done, version=version)
