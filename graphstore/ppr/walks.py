"""What the walks of `ppr` share: a projection as the kernels take it, sources, and exact walks, several at a time.

Exact scores come from visits: how often a walk is expected to be at each node before it stops. Visits are what starts
there and what arrives, `z = e + damping_factor * P^T z`, and `_sweep` is one Gauss-Seidel pass over this system: every
node takes what arrives, also from the nodes before it in the same pass, which takes about half the passes of a power
iteration. From no visits at first, they only grow. What a pass has added has yet to go on, and nothing else has, so the
added part bounds what all scores together still lack.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from numba import njit

from graphstore.ppr.push import Graph
from graphstore.projection.projection import Projection

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Indices: TypeAlias = npt.NDArray[np.int32]
_Longs: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]

#: Where a walk starts: a node, or nodes with weights, of which each is taken in proportion to its weight.
Source: TypeAlias = int | Mapping[int, float]

#: Walks that go over the edges together. With more, their values would be in a slower cache.
COLUMNS = 4

_graphs: dict[int, Graph] = {}


def as_graph(projection: Projection) -> Graph:
    """The arrays of `projection`; kept as long as it is."""
    graph = _graphs.get(id(projection))
    if graph is None:
        items = np.flatnonzero(projection.is_neighbor)
        graph = _graphs[id(projection)] = Graph(
            projection.offsets,
            projection.targets,
            projection.weights,
            projection.degrees,
            projection.is_neighbor,
            projection.groups,
            projection.id_hashes,
            items[np.argsort(-projection.degrees[items], kind="stable")].astype(np.int32),
            float(projection.degrees[is_reached(projection.targets, len(projection.degrees))].sum()),
            float(projection.weights.mean(dtype=np.float64)) if len(projection.weights) else 1.0,
            projection.is_symmetric,
        )
        weakref.finalize(projection, _graphs.pop, id(projection))
    return graph


def is_reached(targets: _Indices, n_nodes: int) -> _Bools:
    """[n_nodes], false for guests and for nodes without edges."""
    reached = np.zeros(n_nodes, dtype=bool)
    reached[targets] = True
    return reached


def flatten(sources: npt.ArrayLike | Sequence[Source], n_nodes: int) -> tuple[_Indices, _Floats, npt.NDArray[np.int64]]:
    """Nodes and weights of all sources one after the other, each source's weights with sum 1, and where each begins.

    Raises
    ------
    ValueError
        If a node is not in the graph, or the weights of a source are not finite, negative, or 0 in all.
    """
    if isinstance(sources, Sequence) and any(isinstance(source, Mapping) for source in sources):
        seeds = [
            {node: weight for node, weight in source.items() if weight != 0}
            if isinstance(source, Mapping)
            else {source: 1.0}
            for source in sources
        ]
        offsets = np.cumsum([0, *map(len, seeds)])
        nodes = np.array([node for seed in seeds for node in seed], dtype=np.int32)
        weights = np.array([weight for seed in seeds for weight in seed.values()], dtype=np.float64)
        if not np.all(np.isfinite(weights) & (weights >= 0)):
            raise ValueError("weights of sources must be finite and not negative")
        sums = np.add.reduceat(np.append(weights, 0.0), offsets[:-1]) * (np.diff(offsets) > 0)
        if not np.all(sums > 0):
            raise ValueError("a source has no node with a weight above 0")
        weights /= np.repeat(sums, np.diff(offsets))
    else:
        nodes = np.ascontiguousarray(sources, dtype=np.int32)
        weights, offsets = np.ones(len(nodes)), np.arange(len(nodes) + 1)
    if len(nodes) and not 0 <= nodes.min() <= nodes.max() < n_nodes:
        raise ValueError(f"a source is not one of the {n_nodes} nodes")
    return nodes, weights, offsets.astype(np.int64)


def exact_ppr(
    projection: Projection,
    sources: npt.ArrayLike | Sequence[Source],
    *,
    damping_factor: float = 0.85,
    tolerance: float = 1e-12,
    threads: int | None = None,
) -> _Floats:
    """Scores of all nodes, [n_sources, n_nodes] float64, to an L1 error below `tolerance`; the module's notes say how.

    Memory: 90 bytes per node and thread beside the result, and a copy of the edges if some lead one way only.
    """
    graph = as_graph(projection)
    steps = make_steps(graph, damping_factor)
    nodes, weights, offsets = flatten(sources, len(graph.degrees))
    result = np.empty((len(offsets) - 1, len(graph.degrees)))
    workers = threads or len(os.sched_getaffinity(0))
    # Equally many for each thread.
    n_blocks = max(1, -(-len(result) // (COLUMNS * workers)) * workers)

    def run(rows: _Longs) -> None:
        start = np.zeros((len(graph.degrees), COLUMNS))
        for column, row in enumerate(rows):
            for i in range(offsets[row], offsets[row + 1]):
                start[nodes[i], column] += weights[i]
                if not steps.is_reached[nodes[i]]:
                    first_step(graph, damping_factor * weights[i], nodes[i], start[:, column])
        for column, visits in all_visits(steps, start, len(rows), tolerance):
            result[rows[column]] = visits * steps.stays

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, filter(len, np.array_split(np.arange(len(result)), n_blocks))))
    return result


class Steps(NamedTuple):
    """One step of a walk: the edges by the node that they lead to, those of node `v` being `begins[v]:ends[v]`.

    Attributes
    ----------
    goes, stays
        [n_nodes] what of a visit goes on, per weight of an edge, and what stops. Nothing goes on from a guest: to it no
        edge leads, so its step is the first one, and `first_step` takes it beforehand.
    is_reached
        [n_nodes] bool, of `is_reached`.
    """

    begins: _Longs
    ends: _Longs
    sources: npt.NDArray[np.integer[Any]]
    weights: npt.NDArray[np.floating[Any]]
    degrees: _Floats
    goes: _Floats
    stays: _Floats
    is_reached: _Bools


def make_steps(graph: Graph, damping_factor: float) -> Steps:
    """The steps of walks on `graph`."""
    has_edges = graph.degrees > 0
    reached = is_reached(graph.targets, len(has_edges))
    offsets, sources, weights = graph.offsets, graph.targets, graph.weights
    if not graph.is_symmetric:
        n_nodes = len(has_edges)
        by_target = sp.csr_array((weights, sources, offsets), shape=(n_nodes, n_nodes)).T.tocsr()
        offsets, sources, weights = by_target.indptr.astype(np.int64), by_target.indices, by_target.data
    goes = damping_factor / np.where(has_edges & reached, graph.degrees, np.inf)
    stays = np.where(has_edges, 1.0 - damping_factor, 1.0)
    ends = np.where(reached, offsets[1:], offsets[:-1])
    return Steps(offsets[:-1], ends, sources, weights, graph.degrees, goes, stays, reached)


def first_step(graph: Graph, going: float, node: int, visits: _Floats) -> None:
    """Add to `visits` [n_nodes] where `going` arrives that goes on from `node`."""
    own = slice(graph.offsets[node], graph.offsets[node + 1])
    if graph.degrees[node] > 0:
        np.add.at(visits, graph.targets[own], going / graph.degrees[node] * graph.weights[own])


def all_visits(steps: Steps, start: _Floats, n_columns: int, tolerance: float) -> Iterator[tuple[int, _Floats]]:
    """Each column of `start` [n_nodes, COLUMNS], when all that has yet to go on of it is `tolerance` at most.

    Yields the number of the column and the visits [n_nodes], which do not depend on the other columns.
    """
    going, rest = np.zeros_like(start), np.empty(COLUMNS)
    left = list(range(n_columns))
    while left:
        _sweep(steps, start, going, rest)
        for column in [column for column in left if rest[column] <= tolerance]:
            left.remove(column)
            yield column, _arrivals(steps, start[:, column].copy(), going[:, column].copy())


@njit(nogil=True, cache=True)
def _sweep(steps: Steps, start: _Floats, going: _Floats, rest: _Floats) -> None:
    """Update `going`, what goes on from each node per weight; `rest` is by how much that is, over all edges."""
    begins, ends, sources, weights, degrees, goes = steps[:6]
    rest[:] = 0.0
    visits = np.empty(COLUMNS)
    for v in range(len(begins)):
        for j in range(COLUMNS):
            visits[j] = start[v, j]
        for edge in range(begins[v], ends[v]):
            u, weight = sources[edge], weights[edge]
            for j in range(COLUMNS):
                visits[j] += weight * going[u, j]
        for j in range(COLUMNS):
            after = goes[v] * visits[j]
            rest[j] += degrees[v] * (after - going[v, j])
            going[v, j] = after


@njit(nogil=True, cache=True)
def _arrivals(steps: Steps, start: _Floats, going: _Floats) -> _Floats:
    begins, ends, sources, weights = steps[:4]
    visits = start.copy()
    for v in range(len(visits)):
        for edge in range(begins[v], ends[v]):
            visits[v] += weights[edge] * going[sources[edge]]
    return visits
