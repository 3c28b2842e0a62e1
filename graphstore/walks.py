"""What the walks of `ppr` share: a projection as the kernels take it, sources, and one step of many walks at once."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from graphstore.projection import Projection
from graphstore.push import Graph

_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]

#: Where a walk starts: a node, or nodes with weights, of which each is taken in proportion to its weight.
Source: TypeAlias = int | Mapping[int, float]

#: Walks that go over the edges together: their values for one node are one cache line.
COLUMNS = 8

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
            projection.is_symmetric,
        )
        weakref.finalize(projection, _graphs.pop, id(projection))
    return graph


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
    """Scores of all nodes, [n_sources, n_nodes] float64, by power iteration to an L1 error below `tolerance`."""
    graph = as_graph(projection)
    nodes, weights, offsets = flatten(sources, len(graph.degrees))
    result = np.empty((len(offsets) - 1, len(graph.degrees)))

    def run(first: int) -> None:
        columns = range(first, min(first + COLUMNS, len(result)))
        walk = np.zeros((len(graph.degrees), COLUMNS))
        for column in columns:
            own = slice(offsets[column], offsets[column + 1])
            walk[nodes[own], column - first] = weights[own]
        scores, following = np.zeros_like(walk), np.zeros_like(walk)
        # `walk` is where a walk that has gone on so far is; what is left of it bounds the error.
        while walk.sum(axis=0).max() > tolerance:
            spread(graph, walk, scores, following, damping_factor)
            walk, following = following, walk
        result[columns.start : columns.stop] = scores.T[: len(columns)]

    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        list(pool.map(run, range(0, len(result), COLUMNS)))
    return result


@njit(nogil=True, cache=True)
def spread(graph: Graph, walk: _Floats, scores: _Floats, following: _Floats, damping_factor: float) -> None:
    """One step of walks [n_nodes, COLUMNS]: what stops is added to `scores`, what goes on is `following`."""
    offsets, targets, weights, degrees = graph[:4]
    following[:] = 0.0
    share = np.empty(COLUMNS)
    for u in range(len(degrees)):
        mass = 0.0
        for j in range(COLUMNS):
            mass += walk[u, j]
        if mass == 0.0:
            continue
        stays = 1.0 if degrees[u] == 0.0 else 1.0 - damping_factor
        goes = 0.0 if degrees[u] == 0.0 else damping_factor / degrees[u]
        for j in range(COLUMNS):
            scores[u, j] += stays * walk[u, j]
            share[j] = goes * walk[u, j]
        for edge in range(offsets[u], offsets[u + 1]):
            following_v, weight = following[targets[edge]], weights[edge]
            for j in range(COLUMNS):
                following_v[j] += share[j] * weight
