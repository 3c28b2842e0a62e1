"""Personalized PageRank on a `Projection`: top-k by forward push, and exactly by power iteration.

The walk starts at the source; with probability `damping_factor` it goes on, along an edge with probability in
proportion to the edge's weight, and else it stops. A node's score is the probability that the walk stops there; all
scores sum to 1. A node without edges keeps the walk: it stops there.

`top_k_ppr` is the forward push of R. Andersen, F. Chung, K. Lang, "Local graph partitioning using PageRank vectors",
FOCS 2006: every node has a score `p` and a residual `r`, at first 1 at the source; pushing a node turns a part
`1 - damping_factor` of its residual into score and spreads the rest over its edges. It ends when every residual
`r[u] < epsilon * n[u]`, `n[u]` being the number of edges of `u` (at least 1). What is notable here:

- The work for one source is at most `1 / (epsilon * (1 - damping_factor))` edge visits, however large the graph and its
  hubs: pushing a node costs its edges, and uses up in proportion.
- The scores are never above the true ones, and all together are too low by the error that is returned with them. On a
  graph with symmetric weights and degrees `d`, `true[v] - score[v] <= epsilon * d[v] * max(n / d)`; with unit weights
  that is the paper's `epsilon * d[v]`.
- Nodes are pushed in rounds: all residuals of a round are taken before any is spread. So nodes in the same position
  get the same score, whatever their number. Scores that are equal as float32 are ties, and a hash of the two ids
  orders them: their order favors nobody, and is the same in every run, with any number of threads.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from graphstore.projection import Projection

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Indices: TypeAlias = npt.NDArray[np.int32]
_Longs: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]


class TopK(NamedTuple):
    """For each source, its items with the highest scores.

    Attributes
    ----------
    nodes
        [n_sources, k] int32, best first, filled up with -1.
    scores
        [n_sources, k] float64, filled up with 0.
    errors
        [n_sources] float64, by how much any score may be too low.
    """

    nodes: _Indices
    scores: _Floats
    errors: _Floats


class _Graph(NamedTuple):
    """What the kernels need of a `Projection`."""

    offsets: npt.NDArray[np.int64]
    targets: _Indices
    weights: _Floats
    degrees: _Floats
    is_neighbor: _Bools
    groups: _Indices
    id_hashes: npt.NDArray[np.uint32]


class _Buffers(NamedTuple):
    """Arrays [n_nodes] that one thread works in. `score`, `residual`, `seen` and `waiting` are zero between sources."""

    score: _Floats
    residual: _Floats
    taken: _Floats
    seen: _Bools
    waiting: _Bools
    touched: _Indices
    frontiers: _Indices


def _graph(projection: Projection) -> _Graph:
    return _Graph(
        projection.offsets,
        projection.targets,
        projection.weights,
        projection.degrees,
        projection.is_neighbor,
        projection.groups,
        projection.id_hashes,
    )


def top_k_ppr(
    projection: Projection,
    sources: npt.ArrayLike,
    *,
    k: int,
    damping_factor: float = 0.85,
    epsilon: float = 1e-5,
    threads: int | None = None,
) -> TopK:
    """The `k` items with the highest personalized PageRank for each of `sources`; the module's notes give the method.

    Only items that may be neighbors are returned, never the source or an item of its group.

    Parameters
    ----------
    sources
        [n_sources] node numbers.
    damping_factor
        Probability that the walk goes on at each step.
    epsilon
        Residual per edge that is left unspread; the smaller, the more exact and the slower.
    threads
        All cores by default. The result does not depend on it.
    """
    numbers = np.ascontiguousarray(sources, dtype=np.int32)
    nodes = np.full((len(numbers), k), -1, dtype=np.int32)
    scores = np.zeros((len(numbers), k))
    errors = np.zeros(len(numbers))
    workers = min(threads or len(os.sched_getaffinity(0)), max(1, len(numbers)))

    graph = _graph(projection)

    def run(part: slice) -> None:
        top = TopK(nodes[part], scores[part], errors[part])
        _top_k(graph, numbers[part], damping_factor, epsilon, top)

    bounds = np.linspace(0, len(numbers), workers + 1).astype(int).tolist()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, map(slice, bounds, bounds[1:])))
    return TopK(nodes, scores, errors)


def exact_ppr(
    projection: Projection, source: int, *, damping_factor: float = 0.85, tolerance: float = 1e-12
) -> _Floats:
    """Scores of all nodes, [n_nodes] float64, by power iteration until the L1 error is below `tolerance`."""
    n_nodes = len(projection.ids)
    starts = np.repeat(np.arange(n_nodes), np.diff(projection.offsets))
    dangling = projection.degrees == 0
    steps = projection.weights / projection.degrees[starts]
    walk: _Floats = np.zeros(n_nodes)
    walk[source] = 1.0
    scores: _Floats = np.zeros(n_nodes)
    # `walk` is where a walk that has gone on so far is; what is left of it bounds the error.
    while walk.sum() > tolerance:
        scores = scores + np.where(dangling, walk, (1.0 - damping_factor) * walk)
        walk = damping_factor * np.bincount(projection.targets, walk[starts] * steps, n_nodes).astype(np.float64)
    return scores


def best_paths(projection: Projection, sources: npt.ArrayLike, nodes: npt.ArrayLike) -> list[list[str]]:
    """Through what a walk of one or two steps from each source most likely reaches each of its `nodes`.

    Parameters
    ----------
    sources, nodes
        [n_sources] and [n_sources, k] node numbers, as `top_k_ppr` takes and returns them.

    Returns
    -------
    list of list of str
        Per source and node (without those that are -1): `"TYPE"` for a relation between the two, `"TYPE id"` for the
        node between them and the relation that leads from the source to it, `"indirect"` if it takes more steps.
    """
    sources = np.ascontiguousarray(sources, dtype=np.int32)
    nodes = np.ascontiguousarray(nodes, dtype=np.int32)
    edges = _best_edges(_graph(projection), sources, nodes)

    def path(node: int, edge: int) -> str:
        if edge < 0:
            return "indirect"
        relation = projection.type_names[projection.types[edge]]
        between = projection.targets[edge]
        return relation if between == node else f"{relation} {projection.ids[between]}"

    return [
        [path(node, edge) for node, edge in zip(row, row_edges, strict=True) if node >= 0]
        for row, row_edges in zip(nodes.tolist(), edges.tolist(), strict=True)
    ]


@njit(nogil=True, cache=True)
def _push(graph: _Graph, source: int, damping_factor: float, epsilon: float, buffers: _Buffers) -> int:
    """Forward push from `source`; returns how many nodes are `touched`."""
    offsets, targets, weights, degrees = graph[:4]
    score, residual, taken, seen, waiting, touched, frontiers = buffers
    n_touched, n_frontier, side = 1, 1, 0
    touched[0] = frontiers[0, 0] = source
    seen[source] = True
    residual[source] = 1.0
    while n_frontier > 0:
        frontier, coming = frontiers[side], frontiers[1 - side]
        for i in range(n_frontier):
            taken[i] = residual[frontier[i]]
            residual[frontier[i]] = 0.0
            waiting[frontier[i]] = False
        n_coming = 0
        for i in range(n_frontier):
            u = frontier[i]
            if degrees[u] == 0.0:
                score[u] += taken[i]
                continue
            score[u] += (1.0 - damping_factor) * taken[i]
            share = damping_factor * taken[i] / degrees[u]
            for edge in range(offsets[u], offsets[u + 1]):
                v = targets[edge]
                residual[v] += share * weights[edge]
                if not seen[v]:
                    seen[v] = True
                    touched[n_touched] = v
                    n_touched += 1
                if not waiting[v] and residual[v] >= epsilon * max(1, offsets[v + 1] - offsets[v]):
                    waiting[v] = True
                    coming[n_coming] = v
                    n_coming += 1
        n_frontier, side = n_coming, 1 - side
    return n_touched


@njit(nogil=True, cache=True)
def _tie_order(source_hash: int, node_hash: int) -> Any:
    """A hash of both (the finalizer of splitmix64), uint64."""
    x = (np.uint64(source_hash) << np.uint64(32)) + np.uint64(node_hash) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True)
def _top_k(
    graph: _Graph,
    sources: _Indices,
    damping_factor: float,
    epsilon: float,
    top: TopK,
) -> None:
    nodes, scores, errors = top
    n_nodes, k = len(graph.degrees), nodes.shape[1]
    buffers = _Buffers(
        np.zeros(n_nodes),
        np.zeros(n_nodes),
        np.zeros(n_nodes),
        np.zeros(n_nodes, np.bool_),
        np.zeros(n_nodes, np.bool_),
        np.empty(n_nodes, np.int32),
        np.empty((2, n_nodes), np.int32),
    )
    ties = np.empty(k, np.uint64)
    for row in range(len(sources)):
        source = sources[row]
        found = 0
        for i in range(_push(graph, source, damping_factor, epsilon, buffers)):
            v = buffers.touched[i]
            # The first step of pushing what is left: a part of it stops right here.
            stays = 1.0 if graph.degrees[v] == 0.0 else 1.0 - damping_factor
            value = buffers.score[v] + stays * buffers.residual[v]
            errors[row] += (1.0 - stays) * buffers.residual[v]
            buffers.score[v] = buffers.residual[v] = 0.0
            buffers.seen[v] = False
            if not graph.is_neighbor[v] or v == source or graph.groups[v] == graph.groups[source]:
                continue
            # Insertion into the best so far, which are sorted.
            rounded, tie, place = np.float32(value), _tie_order(graph.id_hashes[source], graph.id_hashes[v]), found
            while place > 0 and (
                rounded > np.float32(scores[row, place - 1])
                or (rounded == np.float32(scores[row, place - 1]) and tie < ties[place - 1])
            ):
                place -= 1
            if place < k:
                found = min(found + 1, k)
                for j in range(found - 1, place, -1):
                    nodes[row, j], scores[row, j], ties[j] = nodes[row, j - 1], scores[row, j - 1], ties[j - 1]
                nodes[row, place], scores[row, place], ties[place] = v, value, tie


@njit(nogil=True, cache=True)
def _best_edges(graph: _Graph, sources: _Indices, nodes: _Indices) -> npt.NDArray[np.int64]:
    """For each source and node, the source's edge that begins the likeliest walk of at most two steps, or -1."""
    offsets, targets, weights, degrees = graph[:4]
    first_step = np.zeros(len(degrees))
    first_edge = np.full(len(degrees), -1, np.int64)
    best = np.full(nodes.shape, -1, np.int64)
    for row in range(len(sources)):
        source = sources[row]
        for edge in range(offsets[source], offsets[source + 1]):
            step = weights[edge] / degrees[source]
            if step > first_step[targets[edge]]:
                first_step[targets[edge]] = step
                first_edge[targets[edge]] = edge
        for column in range(nodes.shape[1]):
            v = nodes[row, column]
            if v < 0:
                continue
            likeliest, best[row, column] = first_step[v], first_edge[v]
            # Neighbors are in the graph, so their edges lead both ways with the same weight.
            for edge in range(offsets[v], offsets[v + 1]):
                between = targets[edge]
                if first_step[between] > 0.0:
                    walk = first_step[between] * weights[edge] / degrees[between]
                    if walk > likeliest:
                        likeliest, best[row, column] = walk, first_edge[between]
        for edge in range(offsets[source], offsets[source + 1]):
            first_step[targets[edge]] = 0.0
            first_edge[targets[edge]] = -1
    return best
