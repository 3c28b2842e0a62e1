"""What the walks of `ppr` share: a projection as the kernels take it, sources, and exact walks, several at a time.

Exact scores come from visits: how often a walk is expected to be at each node before it stops. Visits are what starts
there and what arrives, `z = e + damping_factor * P^T z`, and `_sweep` is one Gauss-Seidel pass over this system: every
node takes what arrives, also from the nodes before it in the same pass, which takes about half the passes of a power
iteration. From no visits at first, they only grow. What a pass has added has yet to continue, and nothing else has, so
the L1 norm of the added part bounds what all scores together still lack.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from numba import njit

from graphstore.ppr.parallel import count_threads
from graphstore.ppr.push import Graph
from graphstore.projection.projection import Projection

# compiled with: ffecb5f16883

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
        has_in_edges = in_edges(projection.targets, len(projection.degrees))
        graph = _graphs[id(projection)] = Graph(
            offsets=projection.offsets,
            targets=projection.targets,
            weights=projection.weights,
            degrees=projection.degrees,
            is_neighbor=projection.is_neighbor,
            groups=projection.groups,
            id_hashes=projection.id_hashes,
            by_degree=items[np.argsort(-projection.degrees[items], kind="stable")].astype(np.int32),
            total_degree=float(projection.degrees[has_in_edges].sum()),
            mean_weight=float(projection.weights.mean(dtype=np.float64)) if len(projection.weights) else 1.0,
            is_symmetric=projection.is_symmetric,
        )
        weakref.finalize(projection, _graphs.pop, id(projection))
    return graph


def in_edges(targets: _Indices, n_nodes: int) -> _Bools:
    """`(n_nodes,)` whether an edge leads to each node; false for source-only nodes and for nodes without edges."""
    has_in_edges = np.zeros(n_nodes, dtype=bool)
    has_in_edges[targets] = True
    return has_in_edges


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
    """Scores of all nodes, `(n_sources, n_nodes)` float64; the module's notes say how.

    Memory: 90 bytes per node and thread beside the result, and a copy of the edges if some lead one way only.

    Parameters
    ----------
    sources
        Node numbers, or for each source a mapping from node numbers to weights.
    damping_factor
        Probability that the walk continues at each step.
    tolerance
        What the scores of a source lack at most, all together (L1).
    threads
        All cores by default. The result does not depend on it.
    """
    graph = as_graph(projection)
    steps = make_steps(graph, damping_factor)
    nodes, weights, offsets = flatten(sources, len(graph.degrees))
    result = np.empty((len(offsets) - 1, len(graph.degrees)))
    workers = count_threads(threads)
    # Equally many for each thread.
    n_blocks = max(1, -(-len(result) // (COLUMNS * workers)) * workers)

    def run(rows: _Longs) -> None:
        start = np.zeros((len(graph.degrees), COLUMNS))
        for column, row in enumerate(rows):
            for i in range(offsets[row], offsets[row + 1]):
                start[nodes[i], column] += weights[i]
                if not steps.has_in_edges[nodes[i]]:
                    first_step(graph, damping_factor * weights[i], nodes[i], start[:, column])
        for column, visits in all_visits(steps, start, len(rows), tolerance):
            result[rows[column]] = visits * steps.stop_prob

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, filter(len, np.array_split(np.arange(len(result)), n_blocks))))
    return result


class Steps(NamedTuple):
    """One step of a walk: the edges by the node that they lead to, those of node `v` being `starts[v]:ends[v]`.

    Attributes
    ----------
    out_rate
        `(n_nodes,)` float64, what continues of a visit, per weight of an edge. Nothing continues from a source-only
        node: no edge leads to it, so its step is the first one, which `first_step` takes before all others.
    stop_prob
        `(n_nodes,)` float64, the probability that a walk at the node stops there.
    has_in_edges
        `(n_nodes,)` bool, of `in_edges`.
    """

    starts: _Longs
    ends: _Longs
    sources: npt.NDArray[np.integer[Any]]
    weights: npt.NDArray[np.floating[Any]]
    degrees: _Floats
    out_rate: _Floats
    stop_prob: _Floats
    has_in_edges: _Bools


def make_steps(graph: Graph, damping_factor: float) -> Steps:
    """The steps of walks on `graph`."""
    has_edges = graph.degrees > 0
    has_in_edges = in_edges(graph.targets, len(has_edges))
    offsets, sources, weights = graph.offsets, graph.targets, graph.weights
    if not graph.is_symmetric:
        n_nodes = len(has_edges)
        by_target = sp.csr_array((weights, sources, offsets), shape=(n_nodes, n_nodes)).T.tocsr()
        offsets, sources, weights = by_target.indptr.astype(np.int64), by_target.indices, by_target.data
    return Steps(
        starts=offsets[:-1],
        ends=np.where(has_in_edges, offsets[1:], offsets[:-1]),
        sources=sources,
        weights=weights,
        degrees=graph.degrees,
        out_rate=damping_factor / np.where(has_edges & has_in_edges, graph.degrees, np.inf),
        stop_prob=np.where(has_edges, 1.0 - damping_factor, 1.0),
        has_in_edges=has_in_edges,
    )


def first_step(graph: Graph, mass: float, node: int, visits: _Floats) -> None:
    """Add to `visits` `(n_nodes,)` where the `mass` arrives that continues from `node`."""
    own = slice(graph.offsets[node], graph.offsets[node + 1])
    if graph.degrees[node] > 0:
        np.add.at(visits, graph.targets[own], mass / graph.degrees[node] * graph.weights[own])


def all_visits(steps: Steps, start: _Floats, n_columns: int, tolerance: float) -> Iterator[tuple[int, _Floats]]:
    """Each column of `start` `(n_nodes, COLUMNS)`, when its residual, all that has yet to continue, is `tolerance`.

    Yields the number of the column and the visits `(n_nodes,)`, which do not depend on the other columns.
    """
    outflow, l1_residual = np.zeros_like(start), np.empty(COLUMNS)
    open_columns = list(range(n_columns))
    while open_columns:
        _sweep(steps, start, outflow, l1_residual)
        for column in [column for column in open_columns if l1_residual[column] <= tolerance]:
            open_columns.remove(column)
            yield column, _arrivals(steps, start[:, column].copy(), outflow[:, column].copy())


@njit(nogil=True, cache=True)
def _sweep(steps: Steps, start: _Floats, outflow: _Floats, l1_residual: _Floats) -> None:
    """Update `outflow`, what continues from each node per weight of an edge; `l1_residual` is what that adds in all."""
    sources, weights, out_rate = steps.sources, steps.weights, steps.out_rate
    l1_residual[:] = 0.0
    visits = np.empty(COLUMNS)
    for v in range(len(steps.starts)):
        for j in range(COLUMNS):
            visits[j] = start[v, j]
        for edge in range(steps.starts[v], steps.ends[v]):
            u, weight = sources[edge], weights[edge]
            for j in range(COLUMNS):
                visits[j] += weight * outflow[u, j]
        for j in range(COLUMNS):
            after = out_rate[v] * visits[j]
            l1_residual[j] += steps.degrees[v] * (after - outflow[v, j])
            outflow[v, j] = after


@njit(nogil=True, cache=True)
def _arrivals(steps: Steps, start: _Floats, outflow: _Floats) -> _Floats:
    sources, weights = steps.sources, steps.weights
    visits = start.copy()
    for v in range(len(visits)):
        for edge in range(steps.starts[v], steps.ends[v]):
            visits[v] += weights[edge] * outflow[sources[edge]]
    return visits
