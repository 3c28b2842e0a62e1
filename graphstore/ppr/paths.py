"""Why a neighbor is one: the path of relations on which a walk from the source most likely comes to it.

A path is worth the product, over its steps, of `damping_factor` and the part of a node's weights that its edge has: the
probability that a walk goes just this way. `best_paths` finds the path that is worth most, by a search from the source,
likeliest nodes first (E. W. Dijkstra's, with products for sums), and from each neighbor backward.

The work is bounded, also beside hubs: the search visits at most `max_work` edges for a source, and so many again for
all of its neighbors together, and does not go on from a node with more edges than it has left. A path through a hub is
found nevertheless: the search reaches the hub itself, and each neighbor looks back along its own edges; and, where that
finds none, two steps more. A path through two hubs that are not beside each other may be missed, and so may one that is
likelier than the one found if it leads through a node that was too large. Where edges have one direction, there is no
looking back.
"""

from __future__ import annotations

import heapq
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from graphstore.ppr.push import Graph
from graphstore.ppr.walks import as_graph
from graphstore.projection.projection import Projection

_Indices: TypeAlias = npt.NDArray[np.int32]
_Longs: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]

#: Steps of the longest path.
_LONGEST = 16
_CHUNK = 64


def best_paths(
    projection: Projection,
    sources: npt.ArrayLike,
    nodes: npt.ArrayLike,
    *,
    damping_factor: float = 0.85,
    max_work: int = 5_000,
    threads: int | None = None,
) -> list[list[str]]:
    """The path of each source's walk that carries most to each of its `nodes`; the module's notes give the method.

    Parameters
    ----------
    sources, nodes
        [n_sources] and [n_sources, k] node numbers, as `top_k_ppr` takes and returns them.
    max_work
        Edges that are looked at for a source; the edges of the source and of `nodes` themselves come on top.

    Returns
    -------
    list of list of str
        Per source and node (without those that are -1): `"TYPE"` for a relation between the two; `"TYPE id"` for the
        node between them and the relation that leads from the source to it; `"TYPE id > TYPE id"` for two nodes between
        them, and so on, the last relation to the neighbor being left out; `"indirect"` if no path was found.
    """
    graph = as_graph(projection)
    starts = np.ascontiguousarray(sources, dtype=np.int32)
    ends = np.ascontiguousarray(nodes, dtype=np.int32)
    types = np.full((*ends.shape, _LONGEST), -1, dtype=np.int16)
    ways = np.full((*ends.shape, _LONGEST), -1, dtype=np.int32)
    chunks = iter(range(0, len(starts), _CHUNK))

    def run(_: int) -> None:
        n_nodes = len(graph.degrees)
        best, edge_to, last = np.zeros(n_nodes), np.empty(n_nodes, np.int64), np.empty(n_nodes, np.int32)
        for first in chunks:
            part = slice(first, first + _CHUNK)
            labels = _Labels(best, edge_to, last)
            limits = (damping_factor, max_work)
            _search(graph, projection.types, starts[part], ends[part], *limits, labels, types[part], ways[part])

    workers = min(threads or len(os.sched_getaffinity(0)), max(1, -(-len(starts) // _CHUNK)))
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, range(workers)))
    names = {int(node): str(projection.ids[int(node)].as_py()) for node in np.unique(ways[ways >= 0])}

    def describe(node: int, path_types: list[int], path: list[int]) -> str:
        between = [
            f"{projection.type_names[type_]} {names[way]}"
            for type_, way in zip(path_types, path, strict=True)
            if way >= 0 and way != node
        ]
        if between:
            return " > ".join(between)
        return projection.type_names[path_types[0]] if path[0] == node else "indirect"

    return [
        [describe(*way) for way in zip(row, row_types, row_ways, strict=True) if way[0] >= 0]
        for row, row_types, row_ways in zip(ends.tolist(), types.tolist(), ways.tolist(), strict=True)
    ]


class _Labels(NamedTuple):
    """[n_nodes]: what the likeliest way from the source is worth, 0 between sources; its last edge, and from where."""

    best: _Floats
    edge_to: _Longs
    last: _Indices


@njit(nogil=True, cache=True)
def _search(
    graph: Graph,
    edge_types: npt.NDArray[np.integer[Any]],
    sources: _Indices,
    nodes: _Indices,
    damping_factor: float,
    max_work: int,
    labels: _Labels,
    types: npt.NDArray[np.int16],
    ways: _Indices,
) -> None:
    """Write each node's best path: the types of its relations and where they lead, from the source on, then -1."""
    offsets, targets, weights, degrees = graph[:4]
    best, edge_to, last = labels
    back = np.empty(3, np.int64)
    for row in range(len(sources)):
        source = sources[row]
        best[source] = 1.0
        reached = [source]
        heap = [(-1.0, 0, source)]
        work = 0
        while len(heap) > 0:
            minus, steps, u = heapq.heappop(heap)
            n_edges = offsets[u + 1] - offsets[u]
            if -minus < best[u] or steps == _LONGEST - 3 or (u != source and work + n_edges > max_work):
                continue
            work += n_edges
            for edge in range(offsets[u], offsets[u + 1]):
                v = targets[edge]
                worth = -minus * damping_factor * weights[edge] / degrees[u]
                if worth > best[v]:
                    if best[v] == 0.0:
                        reached.append(v)
                    best[v], edge_to[v], last[v] = worth, edge, u
                    heapq.heappush(heap, (-worth, steps + 1, v))
        work = 0
        for column in range(nodes.shape[1]):
            end = nodes[row, column]
            if end < 0:
                continue
            work = _look_back(graph, end, damping_factor, max_work, work, best, back)
            # Forward as far as the node that the way back begins at.
            at = end
            for edge_back in back:
                if edge_back >= 0:
                    at = targets[edge_back]
            length, u = 0, at
            while u != source and best[at] > 0.0:
                u = last[u]
                length += 1
            u = at
            for place in range(length - 1, -1, -1):
                types[row, column, place], ways[row, column, place] = edge_types[edge_to[u]], u
                u = last[u]
            for i in range(2, -1, -1):
                if back[i] >= 0:
                    types[row, column, length] = edge_types[back[i]]
                    ways[row, column, length] = targets[back[i - 1]] if i > 0 else end
                    length += 1
        for v in reached:
            best[v] = 0.0


@njit(nogil=True, cache=True)
def _look_back(
    graph: Graph, end: int, damping_factor: float, max_work: int, work: int, best: _Floats, back: _Longs
) -> int:
    """Write to `back` the edges from `end` backward to a node that the search has reached, then -1; returns the work.

    Where weights are symmetric, the edges that lead to a node are its own, read backward.
    """
    offsets, targets, weights, degrees = graph[:4]
    back[:] = -1
    if not graph.is_symmetric:
        return work
    likeliest = best[end]
    for edge in range(offsets[end], offsets[end + 1]):
        u = targets[edge]
        worth = best[u] * damping_factor * weights[edge] / degrees[u]
        if worth > likeliest:
            likeliest, back[0] = worth, edge
    if likeliest > 0.0:
        return work
    for edge in range(offsets[end], offsets[end + 1]):
        u = targets[edge]
        if work + offsets[u + 1] - offsets[u] > max_work:
            continue
        work += offsets[u + 1] - offsets[u]
        step = damping_factor * weights[edge] / degrees[u]
        for second in range(offsets[u], offsets[u + 1]):
            x = targets[second]
            if x == end or work + offsets[x + 1] - offsets[x] > max_work:
                continue
            worth = step * damping_factor * weights[second] / degrees[x]
            if best[x] * worth > likeliest:
                likeliest, back[0], back[1], back[2] = best[x] * worth, edge, second, -1
            work += offsets[x + 1] - offsets[x]
            for third in range(offsets[x], offsets[x + 1]):
                y = targets[third]
                if best[y] * worth * damping_factor * weights[third] / degrees[y] > likeliest:
                    likeliest = best[y] * worth * damping_factor * weights[third] / degrees[y]
                    back[0], back[1], back[2] = edge, second, third
    return work
