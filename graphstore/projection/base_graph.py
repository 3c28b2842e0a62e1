"""The graph as arrays, as it was loaded: what every projection of one graph version has in common.

Built by counting sort from relations that are read piece by piece, so that no more than the numbers of their ends and
their weights (12 bytes each) are in memory beside the result (20 bytes each: two edges), and the result does not depend
on the order of the rows: equal graphs give equal arrays, bit for bit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from graphstore.projection.tables import GraphTables
from ingest.datasets.node_ids import NodeIndex, hash_ids
from ingest.errors import Graph2ImageError

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Indices: TypeAlias = npt.NDArray[np.int32]
_Longs: TypeAlias = npt.NDArray[np.int64]
_Weights: TypeAlias = npt.NDArray[np.float32]
_Types: TypeAlias = npt.NDArray[np.int8] | npt.NDArray[np.int16]


@dataclass(frozen=True)
class BaseGraph:
    """Nodes are numbered: items first, then entities, each sorted by id.

    Attributes
    ----------
    items
        Row `i` is node `i`: item_id, label, split, group_id, image_hash.
    ids
        Id of every node.
    id_hashes
        `(n_nodes,)` uint32, of `node_ids.hash_ids`.
    groups
        `(n_nodes,)` int32, equal for items of one group; -1 for entities.
    is_reachable
        `(n_nodes,)` bool, false for source-only nodes: items that no edge leads to.
    offsets, targets, types, backward, weights
        CSR: the edges of node `u` are `offsets[u]:offsets[u + 1]` (int64) in `targets` (int32), `types` (int8, or int16
        for more than 127; indices of `type_names`), `backward` (bool, true for the direction against the relation) and
        `weights` (float32, the relation's own). A node's edges are sorted by type, forward first, then by target.
    type_names
        The types that have edges, sorted.
    known_types
        Those, and types whose relations lead to nodes that are not in the graph.
    """

    items: pa.Table
    ids: pa.Array
    id_hashes: npt.NDArray[np.uint32]
    groups: _Indices
    is_reachable: _Bools
    offsets: _Longs
    targets: _Indices
    types: _Types
    backward: _Bools
    weights: _Weights
    type_names: tuple[str, ...]
    known_types: tuple[str, ...]


#: Values that a column has room for at first, and at a time: 32 MiB, of which the system gives what is used, and
#: which it takes back at once. Smaller pieces would stay with the process.
_BLOCK_ROWS = 1 << 23


class _Column:
    """Values that come piece by piece."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._blocks = [np.empty(_BLOCK_ROWS, dtype)]
        self._used = 0

    def append(self, values: npt.NDArray[Any]) -> None:
        while len(values):
            if self._used == _BLOCK_ROWS:
                self._blocks.append(np.empty_like(self._blocks[0]))
                self._used = 0
            part, values = np.split(values, [_BLOCK_ROWS - self._used])
            self._blocks[-1][self._used : self._used + len(part)] = part
            self._used += len(part)

    def take(self) -> npt.NDArray[Any]:
        """All values, which the column then has no longer."""
        last = self._blocks.pop()[: self._used]
        return np.concatenate([*self._blocks, last]) if self._blocks else last


class _Relations:
    """The relations of one type: node numbers of both ends, and weights."""

    def __init__(self) -> None:
        self.from_, self.to, self.weights = _Column(np.int32), _Column(np.int32), _Column(np.float32)


def build_base_graph(tables: GraphTables, neighbor_splits: Collection[str]) -> BaseGraph:
    """Read a graph; items outside of `neighbor_splits` are source-only nodes.

    Raises
    ------
    Graph2ImageError
        If there are no items, a node is there twice, or a weight is negative or not a number that float32 can hold.
    """
    items = tables.items().sort_by("item_id").combine_chunks()
    if items.num_rows == 0:
        raise Graph2ImageError("there are no items in the graph store", "Run `graph2image ingest` first.")
    entity_ids = tables.entity_ids()
    ids = _concat([*items["item_id"].chunks, *entity_ids.take(pc.array_sort_indices(entity_ids)).chunks])
    n_items, n_nodes = items.num_rows, len(ids)
    is_reachable = np.ones(n_nodes, dtype=bool)
    is_reachable[:n_items] = _to_numpy(pc.is_in(items["split"], value_set=pa.array(list(neighbor_splits), pa.string())))
    groups = np.full(n_nodes, -1, dtype=np.int32)
    groups[:n_items] = _to_numpy(items["group_id"].combine_chunks().dictionary_encode().indices)

    relations, known_types = _read_relations(tables, ids, is_reachable)
    pa.default_memory_pool().release_unused()
    sorted_relations = {name: _sorted(relations.pop(name), n_nodes) for name in sorted(relations)}
    sorted_relations = {name: columns for name, columns in sorted_relations.items() if len(columns[0])}
    type_names = tuple(sorted_relations)
    offsets = np.zeros(n_nodes + 1, dtype=np.int64)
    for from_, to, _ in sorted_relations.values():
        _count_edges(from_, to, is_reachable, offsets[1:])
    np.cumsum(offsets, out=offsets)
    targets = np.empty(offsets[-1], dtype=np.int32)
    types = np.empty(offsets[-1], dtype=np.int8 if len(type_names) <= np.iinfo(np.int8).max else np.int16)
    backward = np.empty(offsets[-1], dtype=bool)
    weights = np.empty(offsets[-1], dtype=np.float32)
    ends = offsets[:-1].copy()
    for type_index, name in enumerate(type_names):
        _append_edges(*sorted_relations.pop(name), is_reachable, type_index, ends, targets, types, backward, weights)
    return BaseGraph(
        items=items,
        ids=ids,
        id_hashes=hash_ids(ids),
        groups=groups,
        is_reachable=is_reachable,
        offsets=offsets,
        targets=targets,
        types=types,
        backward=backward,
        weights=weights,
        type_names=type_names,
        known_types=tuple(sorted(known_types)),
    )


def _read_relations(tables: GraphTables, ids: pa.Array, is_reachable: _Bools) -> tuple[dict[str, _Relations], set[str]]:
    """The relations that become edges, by type and in the order of the rows; and all types there are."""
    index = NodeIndex(ids)
    found: dict[str, _Relations] = {}
    known: set[str] = set()
    for table in tables.relations():
        types = table["type"].combine_chunks()
        types = types if isinstance(types, pa.DictionaryArray) else types.dictionary_encode()
        names = types.dictionary.to_pylist()
        known.update(names)
        from_, to = index.find(table["from_id"]), index.find(table["to_id"])
        with np.errstate(over="ignore"):
            weights = _to_numpy(table["weight"]).astype(np.float32)
        wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if len(wrong):
            row = table.slice(int(wrong[0]), 1).to_pylist()[0]
            raise Graph2ImageError(
                f"relation {row['type']} from {row['from_id']} to {row['to_id']} has weight {row['weight']}",
                f"A weight is a number from 0 to {np.finfo(np.float32).max:.1e}.",
            )
        kept = (from_ >= 0) & (to >= 0) & (from_ != to)
        kept &= is_reachable[from_] | is_reachable[to]
        indices = _to_numpy(types.indices)
        for type_index, name in enumerate(names):
            rows = np.flatnonzero(kept & (indices == type_index))
            if len(rows):
                relations = found.setdefault(name, _Relations())
                relations.from_.append(from_[rows])
                relations.to.append(to[rows])
                relations.weights.append(weights[rows])
    return found, known


def _sorted(relations: _Relations, n_nodes: int) -> tuple[_Indices, _Indices, _Weights]:
    """Both ends and weights in the order of the ends, each relation once (the last of equal ones), no weight 0."""
    from_, to, weights = relations.from_.take(), relations.to.take(), relations.weights.take()
    dtype = np.int32 if len(from_) <= np.iinfo(np.int32).max else np.int64
    order = _counting_order(to, n_nodes, np.empty(len(to), dtype=dtype))
    order = order[_counting_order(from_[order], n_nodes, np.empty(len(to), dtype=dtype))]
    from_ = from_[order]
    to = to[order]
    weights = weights[order]
    kept = weights > 0
    kept[:-1] &= (from_[1:] != from_[:-1]) | (to[1:] != to[:-1])
    return (from_, to, weights) if kept.all() else (from_[kept], to[kept], weights[kept])


def _concat(chunks: list[pa.Array]) -> pa.Array:
    """One array of strings, with 64-bit offsets if they are too long for 32-bit ones."""
    size = sum(int(pc.sum(pc.binary_length(chunk), min_count=0).as_py()) for chunk in chunks)
    type_ = pa.string() if size <= np.iinfo(np.int32).max else pa.large_string()
    return pa.concat_arrays([pa.array([], type_), *(chunk.cast(type_) for chunk in chunks)])


def _to_numpy(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    array: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


@njit(nogil=True, cache=True)
def _counting_order(keys: _Indices, n_keys: int, order: Any) -> Any:
    """Fill `order` with the stable order of `keys`, each below `n_keys`."""
    ends = np.zeros(n_keys + 1, np.int64)
    for key in keys:
        ends[key + 1] += 1
    for key in range(n_keys):
        ends[key + 1] += ends[key]
    for i in range(len(keys)):
        order[ends[keys[i]]] = i
        ends[keys[i]] += 1
    return order


@njit(nogil=True, cache=True)
def _count_edges(from_: _Indices, to: _Indices, is_reachable: _Bools, counts: _Longs) -> None:
    """Add the number of edges of each node: none leads to a source-only node."""
    for i in range(len(from_)):
        counts[from_[i]] += is_reachable[to[i]]
        counts[to[i]] += is_reachable[from_[i]]


@njit(nogil=True, cache=True)
def _append_edges(
    from_: _Indices,
    to: _Indices,
    own_weights: _Weights,
    is_reachable: _Bools,
    type_index: int,
    ends: _Longs,
    targets: _Indices,
    types: Any,
    backward: _Bools,
    weights: _Weights,
) -> None:
    """Append the edges of one type to each node's so far, which end at `ends`.

    The relations are sorted by `from_`, then `to`, so in both directions a node's edges come sorted by target.
    """
    for against in (False, True):
        for i in range(len(from_)):
            start, end = (to[i], from_[i]) if against else (from_[i], to[i])
            if is_reachable[end]:
                index = ends[start]
                ends[start] = index + 1
                targets[index] = end
                types[index] = type_index
                backward[index] = against
                weights[index] = own_weights[i]
