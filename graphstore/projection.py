"""The graph as arrays: one CSR of items and entities, both directions, with typed weights, for the walks of `ppr`.

The weight of an edge decides how much of a walk goes along it. Three factors, the same for every source of data:

1. the relation's own weight, times the caller's weight for its type;
2. for a relation between an entity and the `s` items that share it: `s ** entity_exponent`. With 1, the walk through
   the entity is, step for step, the walk on the *expanded* graph, where every two items that share it (and each with
   itself) have an edge, without ever making those edges. With 0 it is the plain typed walk: small entities count more;
3. one scale per relation type, so that an item's edges of the type weigh 1 on average (for relations between entities:
   an entity's). Without it the type with the largest entities or the most links would take the whole walk; with it a
   hub, such as a season that thousands of products share, receives no more than its type's part of the walk, and
   spreads that over so many that it hardly ranks any.

Opted-out nodes are not in the graph. Items of `neighbor_splits` and entities have edges in both directions. Any other
item is a *guest*: it has its own outgoing edges, for walks that start from it, but no edge leads to it. So a test item
can be a source, and no walk ever reaches or passes through it.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from graphstore.bookkeeping import check_complete
from graphstore.store import GraphStore
from ingest.errors import Graph2ImageError

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Projection:
    """Nodes are numbered: items first, then entities, each sorted by id.

    Attributes
    ----------
    items
        Row `i` is node `i`: item_id, label, split, group_id, image_hash.
    ids
        Id of every node.
    id_hashes
        [n_nodes] uint32, CRC-32 of the ids: an order of nodes that does not depend on which others there are.
    is_neighbor
        [n_nodes] bool, true for the items that may be somebody's neighbor: in the graph, with an image.
    groups
        [n_nodes] int32, equal for items of one group; -1 for entities.
    offsets, targets, weights, types
        CSR: the edges of node `u` are `offsets[u]:offsets[u + 1]` (int64) in `targets` (int32), `weights` (float64) and
        `types` (int16, numbers of `type_names`). Parallel edges of different types stay apart.
    degrees
        [n_nodes] float64, the sum of a node's weights; 0 for a node without edges.
    """

    items: pa.Table
    ids: pa.StringArray
    id_hashes: npt.NDArray[np.uint32]
    is_neighbor: _Bools
    groups: _Indices
    offsets: npt.NDArray[np.int64]
    targets: _Indices
    weights: _Floats
    types: npt.NDArray[np.int16]
    type_names: tuple[str, ...]
    degrees: _Floats

    def node(self, node_id: str) -> int:
        """Number of the node `node_id`; -1 if it is not in the graph."""
        return int(pc.index(self.ids, node_id).as_py())


def without_pictures(projection: Projection, image_hashes: pa.ChunkedArray) -> Projection:
    """The projection with the items that have these pictures as items without a picture: nobody's neighbors."""
    hashes = projection.items["image_hash"]
    lost = pc.is_in(hashes, value_set=image_hashes.combine_chunks())
    position = projection.items.column_names.index("image_hash")
    items = projection.items.set_column(position, "image_hash", pc.if_else(lost, None, hashes))
    is_neighbor = projection.is_neighbor.copy()
    is_neighbor[: len(lost)] &= ~_to_numpy(lost)
    return replace(projection, items=items, is_neighbor=is_neighbor)


def project(
    store: GraphStore,
    *,
    relation_weights: Mapping[str, float] | None = None,
    entity_exponent: float = 1.0,
    neighbor_splits: Collection[str] = ("train",),
) -> Projection:
    """Read the graph from `store`; the module's notes say what becomes of it.

    Parameters
    ----------
    relation_weights
        Factor per relation type; 1 for a type that is not named, and 0 leaves a type out.
    entity_exponent
        How the weight of an entity's relations grows with the number of items that share it.
    neighbor_splits
        Splits of the items that walks may reach.

    Raises
    ------
    Graph2ImageError
        If the store has no items, a load was cut off, or `relation_weights` names a type that the store does not have.
    """
    check_complete(store)
    item_labels, entity_labels = store.labels_of_kind("item"), store.labels_of_kind("entity")
    items = _read_items(store, item_labels)
    entity_ids = _concat(
        [
            store.read(f"MATCH (n:`{label}`) WHERE n.opted_out = false RETURN n.id AS id").column("id")
            for label in entity_labels
        ]
    )
    ids = pa.concat_arrays([items["item_id"].combine_chunks(), entity_ids.take(pc.array_sort_indices(entity_ids))])
    n_items, n_nodes = items.num_rows, len(ids)
    in_graph = np.ones(n_nodes, dtype=bool)
    in_graph[:n_items] = _to_numpy(pc.is_in(items["split"], value_set=pa.array(list(neighbor_splits))))
    has_image = np.zeros(n_nodes, dtype=bool)
    has_image[:n_items] = _to_numpy(pc.is_valid(items["image_hash"]))
    groups = np.full(n_nodes, -1, dtype=np.int32)
    groups[:n_items] = _to_numpy(pc.dictionary_encode(items["group_id"]).combine_chunks().indices)

    factors = dict(relation_weights or {})
    triples = [
        (type_, start, end)
        for type_, start, end in store.relation_types()
        if {start, end} <= {*item_labels, *entity_labels}
    ]
    unknown = sorted(factors.keys() - {type_ for type_, _, _ in triples})
    if unknown:
        raise Graph2ImageError(
            f"there is no relation type {unknown[0]!r} in the graph",
            f"There are {', '.join(sorted({type_ for type_, _, _ in triples}))}.",
        )
    type_names = tuple(sorted({type_ for type_, _, _ in triples if factors.get(type_, 1.0) > 0}))
    sides = [(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0), np.empty(0, np.int16))]
    for number, type_ in enumerate(type_names):
        from_, to, weights = _read_edges(store, [key for key in triples if key[0] == type_], ids)
        weights *= _entity_sizes(from_, to, in_graph, n_items) ** entity_exponent
        weights *= factors.get(type_, 1.0) / _mean_weight(from_, to, weights, in_graph, n_items)
        # Nothing leads to a guest, an edge of weight 0 leads nowhere, and a node is not its own neighbor.
        for start_, end_ in ((from_, to), (to, from_)):
            kept = in_graph[end_] & (weights > 0) & (start_ != end_)
            sides.append((start_[kept], end_[kept], weights[kept], np.full(kept.sum(), number, dtype=np.int16)))
    starts, targets, weights, types = (np.concatenate(parts) for parts in zip(*sides, strict=True))
    order = np.lexsort((weights, types, targets, starts))
    offsets = np.zeros(n_nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(starts, minlength=n_nodes), out=offsets[1:])
    return Projection(
        items=items,
        ids=ids,
        id_hashes=np.fromiter((zlib.crc32(id_.encode()) for id_ in ids.to_pylist()), np.uint32, n_nodes),
        is_neighbor=in_graph & has_image,
        groups=groups,
        offsets=offsets,
        targets=targets[order],
        weights=weights[order],
        types=types[order],
        type_names=type_names,
        degrees=np.bincount(starts[order], weights[order], n_nodes).astype(np.float64),
    )


def _read_items(store: GraphStore, labels: list[str]) -> pa.Table:
    tables = [
        store.read(
            f"MATCH (n:`{label}`) WHERE n.opted_out = false RETURN n.id AS item_id, n.split AS split, "
            "n.group_id AS group_id, n.image_hash AS image_hash"
        )
        for label in labels
    ]
    if not any(table.num_rows for table in tables):
        raise Graph2ImageError("there are no items in the graph store", "Run `graph2image ingest` first.")
    labeled = [
        table.append_column("label", pa.repeat(label, table.num_rows))
        for label, table in zip(labels, tables, strict=True)
    ]
    return pa.concat_tables(labeled).sort_by("item_id").combine_chunks()


def _read_edges(
    store: GraphStore, triples: list[tuple[str, str, str]], ids: pa.StringArray
) -> tuple[_Indices, _Indices, _Floats]:
    """From, to and weight of the relations between nodes `ids`, in an order that does not depend on the store's.

    Sums are taken in this order, so equal graphs give equal weights to the last bit.
    """
    edges = pa.concat_tables(
        store.read(
            f"MATCH (a:`{start}`)-[r:`{type_}`]->(b:`{end}`) RETURN a.id AS from_id, b.id AS to_id, r.weight AS weight"
        )
        for type_, start, end in triples
    )
    edges = edges.set_column(0, "from_id", pc.index_in(edges["from_id"], value_set=ids))
    edges = edges.set_column(1, "to_id", pc.index_in(edges["to_id"], value_set=ids)).drop_null()
    from_, to, weights = (_to_numpy(column) for column in edges.columns)
    order = np.lexsort((weights, to, from_))
    return from_[order], to[order], weights[order]


def _entity_sizes(from_: _Indices, to: _Indices, in_graph: _Bools, n_items: int) -> _Floats:
    """For each edge, how many items of the graph share the entity at its one end; 1 if it has none or two."""
    item, entity = np.minimum(from_, to), np.maximum(from_, to)
    is_shared = (item < n_items) & (entity >= n_items)
    sizes = np.bincount(entity[is_shared & in_graph[item]], minlength=len(in_graph)).clip(1)
    result: _Floats = np.where(is_shared, sizes[entity], 1).astype(np.float64)
    return result


def _mean_weight(from_: _Indices, to: _Indices, weights: _Floats, in_graph: _Bools, n_items: int) -> float:
    """Mean over the items of the graph that have any of these edges, or else over the entities, of their sum."""
    sums = np.bincount(from_, weights, len(in_graph)) + np.bincount(to, weights, len(in_graph))
    sums[~in_graph] = 0.0
    of_items, of_entities = sums[:n_items], sums[n_items:]
    counted = of_items[of_items > 0] if of_items.any() else of_entities[of_entities > 0]
    return float(counted.mean()) if len(counted) else 1.0


def _concat(columns: list[pa.ChunkedArray]) -> pa.StringArray:
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string()).combine_chunks()


def _to_numpy(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    array: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array
