"""Relations on their way into the graph store: which can be there, which have changed, which to remove.

Node ids are looked up once and are indices from then on: a graph has many times more relations than nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from graphstore.schema import RELATION_PROPERTIES
from graphstore.store import GraphStore
from ingest.datasets.names import check_user_name
from ingest.errors import Graph2ImageError

_KEYS = ["from_id", "to_id"]

#: Stands for null in joins, where null equals nothing.
_NO_ROLE = ""


@dataclass(frozen=True)
class LoadedRelations:
    """What became of the relations of a source.

    Attributes
    ----------
    loaded, pending
        Relations that are in the store now, and that wait for an end.
    added, removed
        Relations that are new or have changed, and that nodes of the source have no longer.
    """

    loaded: int
    pending: int
    added: int
    removed: int


@dataclass(frozen=True)
class _Nodes:
    """All nodes of some labels: their ids, and the index of the label of each."""

    labels: list[str]
    ids: pa.StringArray
    label_indices: npt.NDArray[np.int64]


def load_relations(store: GraphStore, rows: pa.Table, source: str, snapshot_ids: pa.ChunkedArray) -> LoadedRelations:
    """Upsert the relations of `source` whose ends are in the store; count them there.

    Relations of the nodes `snapshot_ids` that are not in `rows` are removed.

    Raises
    ------
    Graph2ImageError
        If the counts in the store differ from the counts sent.
    """
    nodes = _nodes(store, sorted({*store.labels_of_kind("item"), *store.labels_of_kind("entity")}))
    starts, ends = (_indices(nodes, rows[key]) for key in _KEYS)
    there = (starts >= 0) & (ends >= 0)
    pending = _distinct(rows.filter(pa.array(~there)))
    resolved, starts, ends = rows.filter(pa.array(there)), starts[there], ends[there]

    types = resolved["type"].combine_chunks().dictionary_encode()
    type_indices = types.indices.to_numpy().astype(np.int64)
    # The same relation twice: the last row counts.
    relation = (type_indices * len(nodes.ids) + starts) * len(nodes.ids) + ends
    last = pl.Series(relation).is_last_distinct().to_numpy()
    if not last.all():
        resolved, starts, ends, type_indices = (
            resolved.filter(pa.array(last)),
            starts[last],
            ends[last],
            type_indices[last],
        )
    # One code for type and labels, from which the three can be had again.
    count_of_labels = len(nodes.labels)
    kinds = (type_indices * count_of_labels + nodes.label_indices[starts]) * count_of_labels + nodes.label_indices[ends]
    sent = {
        (types.dictionary[kind // count_of_labels**2].as_py(), *_label_pair(nodes, kind)): pa.array(kinds == kind)
        for kind in np.unique(kinds).tolist()
    }
    existing = {key for key in store.relation_types() if {key[1], key[2]} <= set(nodes.labels)}
    added = removed = 0
    for key in sorted(sent.keys() | existing):
        if key not in existing:
            store.define_relation(key[0], key[1], key[2], RELATION_PROPERTIES)
        table = resolved.filter(sent[key]) if key in sent else resolved.slice(0, 0)
        table = table.select([*_KEYS, *RELATION_PROPERTIES.names])
        changed, dropped = _load_kind(store, key, table, source, snapshot_ids)
        added += changed
        removed += dropped
    return LoadedRelations(resolved.num_rows, pending, added, removed)


def check_relations(rows: pa.Table, source: str) -> None:
    """Check what does not depend on the store.

    Raises
    ------
    Graph2ImageError
        If a type cannot be used, a weight is no finite number or negative, or a relation leads from a node of another
        source.
    """
    for type_ in rows["type"].unique().to_pylist():
        check_user_name(type_, "relation type")
    invalid = rows.filter(pc.invert(pc.and_(pc.is_finite(rows["weight"]), pc.greater_equal(rows["weight"], 0))))
    if invalid.num_rows:
        row = invalid.slice(0, 1).to_pylist()[0]
        raise Graph2ImageError(
            f"relation {row['type']} from {row['from_id']} to {row['to_id']} has weight {row['weight']}"
        )
    foreign = rows.filter(pc.invert(_is_own(rows["from_id"], source)))
    if foreign.num_rows:
        raise Graph2ImageError(f"relation from {foreign['from_id'][0]} does not belong to source {source!r}")


def _nodes(store: GraphStore, labels: list[str]) -> _Nodes:
    found = [store.nodes(label, ["id"])["id"] for label in labels]
    chunks = [chunk.cast(pa.string()) for ids in found for chunk in ids.chunks]
    return _Nodes(
        labels,
        pa.concat_arrays([pa.array([], pa.string()), *chunks]),
        np.repeat(np.arange(len(labels)), [len(ids) for ids in found]),
    )


def _indices(nodes: _Nodes, ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Index of each of `ids` among the nodes; -1 if it is none."""
    found = pc.fill_null(pc.index_in(ids, value_set=nodes.ids), -1)
    return found.to_numpy().astype(np.int64)  # type: ignore[no-any-return]  # pyarrow is untyped


def _label_pair(nodes: _Nodes, kind: int) -> tuple[str, str]:
    start, end = divmod(kind % len(nodes.labels) ** 2, len(nodes.labels))
    return nodes.labels[start], nodes.labels[end]


def _distinct(rows: pa.Table) -> int:
    return pl.DataFrame(rows.select(["type", *_KEYS])).n_unique() if rows.num_rows else 0


def _load_kind(
    store: GraphStore, key: tuple[str, str, str], sent: pa.Table, source: str, snapshot_ids: pa.ChunkedArray
) -> tuple[int, int]:
    """Bring the relations of one type between two labels to what is `sent`; how many were written, and removed."""
    type_, from_label, to_label = key
    matches = f"MATCH (a:`{from_label}`)-[r:`{type_}`]->(b:`{to_label}`)"
    stored = store.relations(type_, from_label, to_label, RELATION_PROPERTIES.names)
    stored = stored.filter(_is_own(stored["from_id"], source))
    changed, dropped, kept = sent, stored, 0
    if stored.num_rows:
        changed = _with_role(sent, pc.fill_null(sent["role"], _NO_ROLE)).join(
            _with_role(stored, pc.fill_null(stored["role"], _NO_ROLE)),
            [*_KEYS, *RELATION_PROPERTIES.names],
            join_type="left anti",
        )
        changed = _with_role(changed, pc.if_else(pc.equal(changed["role"], _NO_ROLE), None, changed["role"]))
        dropped = stored.join(sent, _KEYS, join_type="left anti")
        from_present = pc.is_in(dropped["from_id"], value_set=snapshot_ids)
        dropped, kept = dropped.filter(from_present), dropped.num_rows - pc.sum(from_present, min_count=0).as_py()
    store.upsert_relations(type_, from_label, to_label, changed)
    store.remove_relations(type_, from_label, to_label, dropped)
    in_store = count(
        store,
        f"{matches} WHERE a.id STARTS WITH $item OR a.id STARTS WITH $entity RETURN count(r) AS count",
        {"item": f"{source}:", "entity": f"{source}/"},
    )
    check_count(f"{type_} relations of {source}", in_store, sent.num_rows + kept)
    return changed.num_rows, dropped.num_rows


def _with_role(relations: pa.Table, role: pa.ChunkedArray) -> pa.Table:
    return relations.set_column(relations.column_names.index("role"), "role", role)


def _is_own(ids: pa.ChunkedArray, source: str) -> pa.ChunkedArray:
    """Which of `ids` name items or entities of `source`."""
    return pc.or_(pc.starts_with(ids, f"{source}:"), pc.starts_with(ids, f"{source}/"))


def labels_of(store: GraphStore, ids: pa.ChunkedArray, labels: Iterable[str]) -> pa.Array:
    """Which of `labels` each of `ids` has in the store; null if none."""
    nodes = _nodes(store, list(labels))
    indices = _indices(nodes, ids)
    names = pa.array(nodes.labels, pa.string())
    owners = names.take(pa.array(nodes.label_indices))
    return owners.take(pa.array(indices, mask=indices < 0))


def count(store: GraphStore, cypher: str, parameters: dict[str, str]) -> int:
    """The one number that a query returns as `count`."""
    return int(store.read(cypher, parameters).column("count")[0].as_py())


def check_count(what: str, found: int, expected: int) -> None:
    """Raise Graph2ImageError unless the store has as many as were sent."""
    if found != expected:
        raise Graph2ImageError(
            f"the graph store has {found} {what} after the load, but {expected} were sent",
            "Run the same command again; if it says the same again, please report it.",
        )
