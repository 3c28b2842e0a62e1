"""Hub vectors: what a walk from each hub adds to the score of every item, computed once for all sources.

A genre with 50,000 works spreads what it receives over all of them. Personalized PageRank is linear, so a push need not
do that for every source again: whatever residual `q[h]` arrives at a hub `h` stays there, and adds `q[h] * ppr_h(v)` to
the score of every item `v` (G. Jeh, J. Widom, "Scaling personalized web search", WWW 2003). The push of a source then
ends where hubs begin, and its work does not depend on their size. Weights need not be equal.

*The vectors* `ppr_h` come from walks that end at the hubs: `S[h, v]`, that such a walk from `h` stops at `v` before it
meets any hub, and `Q[h, g]`, that it meets hub `g` first, give `ppr = (I - Q)^-1 S`. Those walks are short, and all
hubs' walks go over the edges together.

*The best items* of a linear combination `sum_h q[h] ppr_h` are found without looking at all. Items that share hubs lie
together in blocks of 16, and blocks in groups of 16, each with the largest value of each hub in it; where the bound
`sum_h q[h] max_h` is beneath the best `k` so far, they are passed over (as in S. Ding, T. Suel, "Faster top-k document
retrieval using block-max indexes", SIGIR 2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from graphstore.ppr.hub_selection import FANOUT
from graphstore.ppr.parallel import share_out
from graphstore.ppr.push import Graph, Hubs
from graphstore.ppr.walks import COLUMNS, Steps, all_visits, as_graph, first_step, in_edges, make_steps
from graphstore.projection.projection import Projection

# compiled with: 4919725d1287

_Indices: TypeAlias = npt.NDArray[np.int32]
_Longs: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]
_Vectors: TypeAlias = npt.NDArray[np.float32]

#: A node with as many edges is a hub; and what the vectors of all hubs may take.
MIN_EDGES, MAX_BYTES = 1_000, 1 << 30
#: Hub vectors are used if the hubs have this share of the weight of all edges.
_MIN_SHARE = 0.1


@dataclass(frozen=True)
class HubVectors:
    """Of one projection and damping factor; made by `hub_vectors`, used by `topk.top_k_ppr`.

    Attributes
    ----------
    damping_factor
        For which they hold.
    nodes
        `(n_hubs,)` int32, the hubs.
    arrays
        As the kernels take them: `vectors` `(n_blocks, n_hubs, 16)` float32, rounded down; the largest of each block,
        `block_max` `(n_groups, n_hubs, 16)`, of each group, `group_max` `(n_hubs, n_groups)`, and of all, `hub_max`
        `(n_hubs,)`; `items` `(n_blocks * 16,)`, the items in the order of the blocks, filled up with -1; `item_index`
        and `hub_index` `(n_nodes,)`, the index of an item in `items` and of a hub in `nodes`, or -1; `error`, by how
        much a value may be too low, beside the rounding.
    """

    damping_factor: float
    nodes: _Indices
    arrays: Hubs

    @property
    def nbytes(self) -> int:
        """Memory, bytes."""
        return sum(array.nbytes for array in self.arrays if isinstance(array, np.ndarray))


def no_hubs(n_nodes: int) -> Hubs:
    """What the kernels take where there are no hubs."""
    none = np.full(n_nodes, -1, np.int32)
    empty = np.empty((0, 0, FANOUT), np.float32)
    return Hubs(
        hub_index=none,
        vectors=empty,
        block_max=empty,
        group_max=np.empty((0, 0), np.float32),
        items=np.empty(0, np.int32),
        item_index=none,
        hub_max=np.empty(0),
        error=0.0,
    )


def use_hub_vectors(projection: Projection) -> bool:
    """Whether walks from all items should use `hub_vectors`, with its own `min_edges` and `max_bytes`.

    They should if those hubs have a tenth of the weight of all edges. In the long run that is how often a walk is at a
    hub, and so what a push without the vectors either loses there or pays for with all edges of the hub. Nothing else
    counts, such as the memory that is free: the same graph is sampled in the same way everywhere.
    """
    graph = as_graph(projection)
    hubs = _largest_hubs(graph, MIN_EDGES, MAX_BYTES)
    return len(hubs) > 0 and float(graph.degrees[hubs].sum()) >= _MIN_SHARE * graph.total_degree


def _largest_hubs(graph: Graph, min_edges: int, max_bytes: int) -> _Indices:
    """The largest nodes of `min_edges` or more, ascending, as many as have room."""
    edges = np.diff(graph.offsets)
    most = max_bytes // max(1, 4 * _rounded_up(int(graph.is_neighbor.sum())))
    # No walk comes to a source-only node, so it is no hub however many edges it has.
    hubs = np.flatnonzero((edges >= min_edges) & in_edges(graph.targets, len(edges)))
    return np.sort(hubs[np.argsort(-edges[hubs], kind="stable")][:most]).astype(np.int32)


def _rounded_up(n_items: int) -> int:
    """Values of a vector: those of the items, filled up to whole groups of blocks."""
    return -(-n_items // FANOUT**2) * FANOUT**2


def hub_vectors(
    projection: Projection,
    *,
    damping_factor: float = 0.85,
    min_edges: int = MIN_EDGES,
    max_bytes: int = MAX_BYTES,
    tolerance: float = 1e-10,
    threads: int | None = None,
) -> HubVectors:
    """Compute the vectors of the largest hubs.

    Parameters
    ----------
    damping_factor
        Probability that the walk continues at each step.
    min_edges
        A node with as many edges is a hub.
    max_bytes
        Memory for the vectors: 4 bytes for each hub and each item that may be a neighbor; the largest hubs are taken.
        While they are computed, as much again and 90 bytes per node and thread are needed.
    tolerance
        By how much, over all items together, a hub's values may be too low.
    threads
        All cores by default. The result does not depend on it.
    """
    graph = as_graph(projection)
    edges = np.diff(graph.offsets)
    items = np.flatnonzero(graph.is_neighbor).astype(np.int32)
    n_values = _rounded_up(len(items))
    nodes = _largest_hubs(graph, min_edges, max_bytes)
    hub_index = np.full(len(edges), -1, np.int32)
    hub_index[nodes] = np.arange(len(nodes))

    steps = make_steps(graph, damping_factor)
    out_rate = steps.out_rate.copy()
    out_rate[nodes] = 0.0
    steps = steps._replace(out_rate=out_rate)
    stops = np.zeros((len(nodes), len(items)), np.float32)
    meets = np.zeros((len(nodes), len(nodes)))
    # A walk meets hubs 1 / (1 - damping_factor) times at most, and each time may lose what is left of one.
    own_tolerance = tolerance * (1.0 - damping_factor)

    def walk(columns: slice) -> None:
        stops[columns], meets[columns] = _until_hubs(graph, steps, nodes, columns, items, damping_factor, own_tolerance)

    share_out(len(nodes), COLUMNS, lambda: walk, threads=threads)

    order = _order_by_hubs(graph, hub_index, items, edges)
    ordered = np.full(n_values, -1, np.int32)
    ordered[: len(items)] = items[order]
    item_index = np.full(len(edges), -1, np.int32)
    item_index[items[order]] = np.arange(len(items))
    # Not np.zeros: numpy asks for huge pages for the one only, and these are read here and there.
    vectors = np.empty((n_values // FANOUT, len(nodes), FANOUT), np.float32)
    vectors[:] = 0.0
    _multiply_blocks(_inverse(meets), stops, order, vectors)
    block_max = _maxima(vectors)
    group_max = np.ascontiguousarray(block_max.max(axis=2, initial=0.0).T)
    arrays = Hubs(
        hub_index=hub_index,
        vectors=vectors,
        block_max=block_max,
        group_max=group_max,
        items=ordered,
        item_index=item_index,
        hub_max=group_max.max(axis=1, initial=0.0).astype(np.float64),
        error=tolerance,
    )
    return HubVectors(damping_factor, nodes, arrays)


def _maxima(vectors: _Vectors) -> _Vectors:
    """`(n_groups, n_hubs, 16)` of `(n_groups * 16, n_hubs, 16)`: the largest of each block, by group."""
    by_group = vectors.max(axis=2, initial=0.0).reshape(len(vectors) // FANOUT, FANOUT, vectors.shape[1])
    return np.ascontiguousarray(by_group.transpose(0, 2, 1))


def _until_hubs(
    graph: Graph,
    steps: Steps,
    nodes: _Indices,
    columns: slice,
    items: _Indices,
    damping_factor: float,
    tolerance: float,
) -> tuple[_Vectors, _Floats]:
    """Where walks from the hubs `nodes[columns]` stop, `(n, n_items)`, and which hub they meet first, `(n, n_hubs)`.

    In `steps` nothing continues from hubs: only the first step of each walk does, taken here.
    """
    own = nodes[columns]
    start = np.zeros((len(graph.degrees), COLUMNS))
    for column, hub in enumerate(own):
        first_step(graph, damping_factor, hub, start[:, column])
    stops, meets = np.empty((len(own), len(items)), np.float32), np.empty((len(own), len(nodes)))
    for column, visits in all_visits(steps, start, len(own), tolerance):
        meets[column] = visits[nodes]
        visits[nodes] = 0.0
        visits[own[column]] = 1.0
        stops[column] = (visits * steps.stop_prob)[items]
    return stops, meets


@njit(nogil=True, cache=True)
def _inverse(meets: _Floats) -> _Floats:
    """`(I - meets)^-1` by elimination, without pivots: the rows of `meets` have sums below 1.

    Not by BLAS, whose last bits depend on the processor and on its threads; nor is the product below.
    """
    left, result = np.eye(len(meets)) - meets, np.eye(len(meets))
    for pivot in range(len(meets)):
        scale = 1.0 / left[pivot, pivot]
        left[pivot] *= scale
        result[pivot] *= scale
        for row in range(len(meets)):
            factor = left[row, pivot]
            if row != pivot and factor != 0.0:
                left[row] -= factor * left[pivot]
                result[row] -= factor * result[pivot]
    return result


@njit(nogil=True, cache=True)
def _multiply_blocks(inverse: _Floats, stops: _Vectors, order: _Longs, vectors: _Vectors) -> None:
    """Write `inverse @ stops[:, order]`, rounded down, to the blocks of `vectors`."""
    own, sums = np.empty((len(stops), FANOUT)), np.empty(FANOUT)
    for block in range(len(vectors)):
        for hub in range(len(stops)):
            for i in range(FANOUT):
                index = block * FANOUT + i
                own[hub, i] = stops[hub, order[index]] if index < len(order) else 0.0
        for hub in range(len(stops)):
            sums[:] = 0.0
            for other in range(len(stops)):
                factor = inverse[hub, other]
                for i in range(FANOUT):
                    sums[i] += factor * own[other, i]
            for i in range(FANOUT):
                vectors[block, hub, i] = sums[i] * (1.0 - 2.0**-23)


def _order_by_hubs(graph: Graph, hub_index: _Indices, items: _Indices, edges: _Longs) -> _Longs:
    """An order of `items` in which those that share hubs lie together."""
    return np.lexsort(_hubs_of_items(graph, hub_index, items, edges).T[::-1])


@njit(nogil=True, cache=True)
def _hubs_of_items(graph: Graph, hub_index: _Indices, items: _Indices, edges: _Longs) -> _Indices:
    """`(n_items, 6)`: of each item the hubs with the most edges, largest first."""
    none = len(edges)
    result = np.full((len(items), 6), none, np.int32)
    for row in range(len(items)):
        best = result[row]
        for edge in range(graph.offsets[items[row]], graph.offsets[items[row] + 1]):
            h = graph.targets[edge]
            if hub_index[h] < 0:
                continue
            index = len(best)
            while index > 0 and (best[index - 1] == none or edges[h] > edges[best[index - 1]]):
                index -= 1
            for j in range(len(best) - 1, index, -1):
                best[j] = best[j - 1]
            if index < len(best):
                best[index] = h
    return result
