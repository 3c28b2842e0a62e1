"""The graph as arrays: one CSR of items and entities, with typed weights, for the walks of `ppr`.

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
item is a *source-only* node: it has its own outgoing edges, for walks that start from it, but no edge leads to it, and
none of the factors counts it. So a test item can be a source, and no walk ever reaches or passes through it.

What does not depend on the weights is a `BaseGraph`, which `projection.cache` keeps; a projection of it with other
weights, types or directions costs a few passes over its edges. Memory: an edge takes 9 bytes (target, type, weight); a
node takes 25, and its id.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from graphstore.projection.base_graph import BaseGraph
from graphstore.projection.cache import base_graph
from graphstore.projection.settings import DEFAULT_WALK, WalkSettings
from graphstore.projection.tables import GraphTables, StoreTables
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Indices: TypeAlias = npt.NDArray[np.int32]
_Longs: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]
_Weights: TypeAlias = npt.NDArray[np.float32]


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
        `(n_nodes,)` uint32, of `node_ids.hash_ids`: an order of nodes that does not depend on which others there are.
    is_neighbor
        `(n_nodes,)` bool, true for the items that may be neighbors of others.
    groups
        `(n_nodes,)` int32, equal for items of one group; -1 for entities.
    offsets, targets, weights, types
        CSR: the edges of node `u` are `offsets[u]:offsets[u + 1]` (int64) in `targets` (int32), `weights` (float32) and
        `types` (int8, or int16 for more than 127; indices of `type_names`). A node's edges are sorted by type; parallel
        edges of different types or directions stay apart.
    type_names
        All types of the graph, also those that these edges have none of.
    degrees
        `(n_nodes,)` float64, the sum of a node's weights; 0 for a node without edges.
    is_symmetric
        Whether edges between nodes of the graph lead both ways with the same weight; false if a type has a direction.
    """

    items: pa.Table
    ids: pa.Array
    id_hashes: npt.NDArray[np.uint32]
    is_neighbor: _Bools
    groups: _Indices
    offsets: _Longs
    targets: _Indices
    weights: _Weights
    types: npt.NDArray[np.integer[Any]]
    type_names: tuple[str, ...]
    degrees: _Floats
    is_symmetric: bool = True

    def node(self, node_id: str) -> int:
        """Number of the node `node_id`; -1 if it is not in the graph."""
        return int(pc.index(self.ids, pa.scalar(node_id, self.ids.type)).as_py())


def without_images(projection: Projection, image_hashes: pa.ChunkedArray, *, image_required: bool = True) -> Projection:
    """The projection with these images taken from the items that have them.

    If an image is required, those items are nobody's neighbors then.
    """
    if len(image_hashes) == 0:
        return projection
    hashes = projection.items["image_hash"]
    taken = pc.is_in(hashes, value_set=image_hashes.combine_chunks())
    column = projection.items.column_names.index("image_hash")
    items = projection.items.set_column(column, "image_hash", pc.if_else(taken, None, hashes))
    is_neighbor = projection.is_neighbor.copy()
    if image_required:
        is_neighbor[: len(taken)] &= ~taken.to_numpy()
    return replace(projection, items=items, is_neighbor=is_neighbor)


def project(
    graph: GraphStore | GraphTables, walk: WalkSettings = DEFAULT_WALK, *, cache: DataRoot | None = None
) -> Projection:
    """Project a graph; the module's notes say what becomes of it.

    Parameters
    ----------
    graph
        A store, or other tables: `tables.DatasetTables` gives the same arrays without a store.
    walk
        Which relations are walked, with which weights, and to which items. The damping factor has no part in it.
    cache
        Where to keep the arrays for the next projection of the same graph version; see `projection.cache`.

    Raises
    ------
    Graph2ImageError
        If there are no items, a load was cut off, a relation has no valid weight, or `walk` names a relation type that
        the graph does not have.
    """
    tables = graph if isinstance(graph, GraphTables) else StoreTables(graph)
    base = base_graph(tables, walk.neighbor_splits, cache)
    check_types(base.known_types, walk)
    allowed = set(base.type_names) if walk.via is None else set(walk.via)
    factors = np.array([walk.relation_weights.get(name, 1.0) if name in allowed else 0.0 for name in base.type_names])
    directions = [walk.directions.get(name, "both") for name in base.type_names]
    # Per type: are its edges along the relation walked, and those against it?
    walked = np.array([[one != "backward", one != "forward"] for one in directions], dtype=bool).reshape(-1, 2)
    walked &= (factors > 0)[:, None]
    return _weighted(base, factors, walked, walk)


def check_types(known: Collection[str], walk: WalkSettings) -> None:
    """Raise Graph2ImageError if `walk` names a type that is not among the graph's relation types `known`."""
    unknown = sorted({*walk.relation_weights, *(walk.via or ()), *walk.directions} - set(known))
    if unknown:
        existing = ", ".join(sorted(known))
        raise Graph2ImageError(
            f"there is no relation type {unknown[0]!r} in the graph",
            f"Its types are {existing}." if existing else "It has no relations.",
        )


def _weighted(base: BaseGraph, factors: _Floats, walked: _Bools, walk: WalkSettings) -> Projection:
    n_items, n_nodes = base.items.num_rows, len(base.ids)
    edges = _Edges(base.offsets, base.targets, base.types, base.backward, base.weights)
    entities = _Entities(*_entity_weights(edges, n_items, walk.entity_exponent))
    totals, counts = _total_weights(edges, entities, walked, base.is_reachable, n_items)
    # Of items if any have edges of the type, else of entities.
    means = np.where(counts[0] > 0, totals[0] / counts[0].clip(1), totals[1] / counts[1].clip(1))
    scales = factors / np.where(means > 0, means, 1.0)
    if walked.all():
        offsets, targets, types = base.offsets, base.targets, base.types
    else:
        offsets = np.zeros(n_nodes + 1, dtype=np.int64)
        np.cumsum(_count_walked(edges, walked), out=offsets[1:])
        targets = np.empty(offsets[-1], dtype=np.int32)
        types = np.empty(offsets[-1], dtype=base.types.dtype)
        _copy_walked(edges, walked, targets, types)
    weights = np.empty(offsets[-1], dtype=np.float32)
    degrees = np.zeros(n_nodes)
    _set_weights(edges, entities, walked, scales, n_items, weights, degrees)
    is_neighbor = base.is_reachable.copy()
    if walk.image_required:
        is_neighbor[:n_items] &= base.items["image_hash"].is_valid().to_numpy()
    is_neighbor[n_items:] = False
    return Projection(
        items=base.items,
        ids=base.ids,
        id_hashes=base.id_hashes,
        is_neighbor=is_neighbor,
        groups=base.groups,
        offsets=offsets,
        targets=targets,
        weights=weights,
        types=types,
        type_names=base.type_names,
        degrees=degrees,
        is_symmetric=bool((walked[:, 0] == walked[:, 1]).all()),
    )


class _Edges(NamedTuple):
    """The edges of a `BaseGraph`."""

    offsets: _Longs
    targets: _Indices
    types: npt.NDArray[np.integer[Any]]
    backward: _Bools
    weights: _Weights


class _Entities(NamedTuple):
    """Per entity and relation type, the weight that its size gives: CSR by entity, numbered from 0."""

    offsets: _Longs
    types: npt.NDArray[np.int16]
    weights: _Floats


@njit(nogil=True, cache=True)
def _entity_weights(edges: _Edges, n_items: int, exponent: float) -> Any:
    """The arrays of `_Entities`."""
    n_entities = len(edges.offsets) - 1 - n_items
    offsets = np.zeros(n_entities + 1, np.int64)
    types, weights = np.empty(0, np.int16), np.empty(0)
    for filling in (False, True):
        if filling:
            types, weights = np.empty(offsets[n_entities], np.int16), np.empty(offsets[n_entities])
        found = 0
        for entity in range(n_entities):
            edge, end = edges.offsets[n_items + entity], edges.offsets[n_items + entity + 1]
            while edge < end:
                type_, size = edges.types[edge], 0
                while edge < end and edges.types[edge] == type_:
                    size += edges.targets[edge] < n_items
                    edge += 1
                if size > 0:
                    if filling:
                        types[found], weights[found] = type_, float(size) ** exponent
                    found += 1
            offsets[entity + 1] = found
    return offsets, types, weights


@njit(nogil=True, cache=True)
def _edge_weight(edges: _Edges, entities: _Entities, start: int, edge: int, n_items: int) -> Any:
    """The relation's own weight times that of the entity, if it is between an entity and an item."""
    own, end = float(edges.weights[edge]), edges.targets[edge]
    if (start < n_items) == (end < n_items):
        return own
    entity = max(start, end) - n_items
    for i in range(entities.offsets[entity], entities.offsets[entity + 1]):
        if entities.types[i] == edges.types[edge]:
            return own * entities.weights[i]
    return own  # only source-only nodes have the entity


@njit(nogil=True, cache=True)
def _total_weights(edges: _Edges, entities: _Entities, walked: _Bools, is_reachable: _Bools, n_items: int) -> Any:
    """`(2, n_types)`: weights of all edges of items, and of entities, summed; and how many of them have such edges."""
    n_types = len(walked)
    totals, counts = np.zeros((2, n_types)), np.zeros((2, n_types), np.int64)
    for node in range(len(is_reachable)):
        if not is_reachable[node]:
            continue
        kind, last_type = int(node >= n_items), -1
        for edge in range(edges.offsets[node], edges.offsets[node + 1]):
            type_ = edges.types[edge]
            if walked[type_, int(edges.backward[edge])]:
                totals[kind, type_] += _edge_weight(edges, entities, node, edge, n_items)
                counts[kind, type_] += type_ != last_type
                last_type = type_
    return totals, counts


@njit(nogil=True, cache=True)
def _count_walked(edges: _Edges, walked: _Bools) -> _Longs:
    counts = np.zeros(len(edges.offsets) - 1, np.int64)
    for node in range(len(counts)):
        for edge in range(edges.offsets[node], edges.offsets[node + 1]):
            counts[node] += walked[edges.types[edge], int(edges.backward[edge])]
    return counts


@njit(nogil=True, cache=True)
def _copy_walked(edges: _Edges, walked: _Bools, targets: _Indices, types: Any) -> None:
    n_copied = 0
    for edge in range(len(edges.targets)):
        if walked[edges.types[edge], int(edges.backward[edge])]:
            targets[n_copied], types[n_copied] = edges.targets[edge], edges.types[edge]
            n_copied += 1


@njit(nogil=True, cache=True)
def _set_weights(
    edges: _Edges,
    entities: _Entities,
    walked: _Bools,
    scales: _Floats,
    n_items: int,
    weights: _Weights,
    degrees: _Floats,
) -> None:
    index = 0
    for node in range(len(degrees)):
        for edge in range(edges.offsets[node], edges.offsets[node + 1]):
            type_ = edges.types[edge]
            if walked[type_, int(edges.backward[edge])]:
                weights[index] = scales[type_] * _edge_weight(edges, entities, node, edge, n_items)
                degrees[node] += weights[index]
                index += 1
