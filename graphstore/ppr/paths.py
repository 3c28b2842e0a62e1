"""Why a neighbor is one: the path of relations on which a walk from the source most likely comes to it.

The probability of a path is the product, over its steps, of `damping_factor` and the share that the step's edge has of
its node's weights. `best_paths` finds the likeliest path by a search from the source, likeliest nodes first (E. W.
Dijkstra's, with products for sums), and from each neighbor backward.

The work is bounded, also beside hubs: the search visits at most `max_work` edges for a source, and so many again for
all of its neighbors together, and does not continue from a node with more edges than it has left. A path through a hub
is found nevertheless: the search reaches the hub itself, and each neighbor looks back along its own edges; and, where
that finds none, two steps more. A path through two hubs that are not beside each other may be missed, and so may one
that is likelier than the one found if it leads through a node that was too large. Where edges have one direction, there
is no looking back.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from graphstore.ppr.parallel import share_out
from graphstore.ppr.push import Graph
from graphstore.ppr.walks import as_graph
from graphstore.projection.projection import Projection

# compiled with: 94351295752b

_Indices: TypeAlias = npt.NDArray[np.int32]
_Longs: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]

#: Steps of the longest path, and how many of them are found backward.
_MAX_STEPS, _MAX_BACK = 16, 3
#: Sources that a thread takes at a time.
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
    """The likeliest path from each source to each of its `nodes`; the module's notes give the method.

    Parameters
    ----------
    sources, nodes
        `(n_sources,)` and `(n_sources, k)` node numbers, as `top_k_ppr` takes and returns them.
    damping_factor
        Probability that the walk continues at each step.
    max_work
        Edges that are looked at for a source; the edges of the source and of `nodes` themselves come on top.
    threads
        All cores by default. The result does not depend on it.

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
    paths = _Paths(
        types=np.full((*ends.shape, _MAX_STEPS), -1, dtype=np.int16),
        nodes=np.full((*ends.shape, _MAX_STEPS), -1, dtype=np.int32),
    )

    def make_worker() -> Callable[[slice], None]:
        n_nodes = len(graph.degrees)
        labels = _Labels(np.zeros(n_nodes), np.empty(n_nodes, np.int64), np.empty(n_nodes, np.int32))

        def search(part: slice) -> None:
            own = _Paths(paths.types[part], paths.nodes[part])
            _search(graph, projection.types, starts[part], ends[part], damping_factor, max_work, labels, own)

        return search

    share_out(len(starts), _CHUNK, make_worker, threads=threads)
    names = {int(node): str(projection.ids[int(node)].as_py()) for node in np.unique(paths.nodes[paths.nodes >= 0])}

    def describe(end: int, types: list[int], path: list[int]) -> str:
        between = [
            f"{projection.type_names[type_]} {names[node]}"
            for type_, node in zip(types, path, strict=True)
            if node >= 0 and node != end
        ]
        if between:
            return " > ".join(between)
        return projection.type_names[types[0]] if path[0] == end else "indirect"

    return [
        [describe(*one) for one in zip(row, types, path, strict=True) if one[0] >= 0]
        for row, types, path in zip(ends.tolist(), paths.types.tolist(), paths.nodes.tolist(), strict=True)
    ]


class _Paths(NamedTuple):
    """`(n_sources, k, _MAX_STEPS)`: relation types of the steps, and the nodes that they lead to; filled up with -1."""

    types: npt.NDArray[np.int16]
    nodes: _Indices


class _Labels(NamedTuple):
    """`(n_nodes,)`: probability of the likeliest path from the source, 0 between sources; its last edge and node."""

    probability: _Floats
    edge: _Longs
    previous: _Indices


@njit(nogil=True, cache=True)
def _search(
    graph: Graph,
    edge_types: npt.NDArray[np.integer[Any]],
    sources: _Indices,
    ends: _Indices,
    damping_factor: float,
    max_work: int,
    labels: _Labels,
    paths: _Paths,
) -> None:
    """Write the best path from each of the sources to each of its `ends` `(n_sources, k)`."""
    offsets, targets, weights, degrees = graph.offsets, graph.targets, graph.weights, graph.degrees
    probability, edge_to, previous = labels.probability, labels.edge, labels.previous
    back = np.empty(_MAX_BACK, np.int64)
    for row in range(len(sources)):
        source = sources[row]
        probability[source] = 1.0
        reached = [source]
        heap = [(-1.0, 0, source)]
        work = 0
        while len(heap) > 0:
            minus, steps, u = heapq.heappop(heap)
            n_edges = offsets[u + 1] - offsets[u]
            if (
                -minus < probability[u]
                or steps == _MAX_STEPS - _MAX_BACK
                or (u != source and work + n_edges > max_work)
            ):
                continue
            work += n_edges
            for edge in range(offsets[u], offsets[u + 1]):
                v = targets[edge]
                likely = -minus * damping_factor * weights[edge] / degrees[u]
                if likely > probability[v]:
                    if probability[v] == 0.0:
                        reached.append(v)
                    probability[v], edge_to[v], previous[v] = likely, edge, u
                    heapq.heappush(heap, (-likely, steps + 1, v))
        work = 0
        for column in range(ends.shape[1]):
            end = ends[row, column]
            if end < 0:
                continue
            work = _look_back(graph, end, damping_factor, max_work, work, probability, back)
            # Forward as far as the node that the way back begins at.
            at = end
            for edge_back in back:
                if edge_back >= 0:
                    at = targets[edge_back]
            length, u = 0, at
            while u != source and probability[at] > 0.0:
                u = previous[u]
                length += 1
            u = at
            for step in range(length - 1, -1, -1):
                paths.types[row, column, step], paths.nodes[row, column, step] = edge_types[edge_to[u]], u
                u = previous[u]
            for i in range(_MAX_BACK - 1, -1, -1):
                if back[i] >= 0:
                    paths.types[row, column, length] = edge_types[back[i]]
                    paths.nodes[row, column, length] = targets[back[i - 1]] if i > 0 else end
                    length += 1
        for v in reached:
            probability[v] = 0.0


@njit(nogil=True, cache=True)
def _look_back(
    graph: Graph, end: int, damping_factor: float, max_work: int, work: int, probability: _Floats, back: _Longs
) -> int:
    """Write to `back` the edges from `end` backward to a node that the search has reached, then -1; returns the work.

    Where weights are symmetric, the edges that lead to a node are its own, read backward.
    """
    offsets, targets, weights, degrees = graph.offsets, graph.targets, graph.weights, graph.degrees
    back[:] = -1
    if not graph.is_symmetric:
        return work
    likeliest = probability[end]
    for edge in range(offsets[end], offsets[end + 1]):
        u = targets[edge]
        likely = probability[u] * damping_factor * weights[edge] / degrees[u]
        if likely > likeliest:
            likeliest, back[0] = likely, edge
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
            likely = step * damping_factor * weights[second] / degrees[x]
            if probability[x] * likely > likeliest:
                likeliest, back[0], back[1], back[2] = probability[x] * likely, edge, second, -1
            work += offsets[x + 1] - offsets[x]
            for third in range(offsets[x], offsets[x + 1]):
                y = targets[third]
                if probability[y] * likely * damping_factor * weights[third] / degrees[y] > likeliest:
                    likeliest = probability[y] * likely * damping_factor * weights[third] / degrees[y]
                    back[0], back[1], back[2] = edge, second, third
    return work
