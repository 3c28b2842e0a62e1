"""The push of `ppr`: what its kernels work on, and the spreading of residuals.

`state[v]` has all that a visit needs side by side, in half a cache line: the residual; the degree, infinite for a node
that is never pushed (a hub of `hubs`, or a node without edges); the score; and the degree again, -1 for a node that is
no item or may not be a neighbor. A node has been touched if its residual or its score is not 0.

`selection.top_k` has this compiled in, and numba looks at that file only to tell whether what it has kept is current:
after a change here, save that file too.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]


class Graph(NamedTuple):
    """What the kernel needs of a `Projection`; `by_degree`: the items that may be neighbors, largest degree first."""

    offsets: npt.NDArray[np.int64]
    targets: _Indices
    weights: npt.NDArray[np.floating[Any]]
    degrees: _Floats
    is_neighbor: _Bools
    groups: _Indices
    id_hashes: npt.NDArray[np.uint32]
    by_degree: _Indices
    is_symmetric: bool


class Hubs(NamedTuple):
    """Scores of walks from the hubs; `hubs.HubVectors` says how they are computed and laid out."""

    number_of: _Indices
    vectors: npt.NDArray[np.float32]
    block_max: npt.NDArray[np.float32]
    group_max: npt.NDArray[np.float32]
    nodes: _Indices
    place_of: _Indices
    max: _Floats
    error: float


class Buffers(NamedTuple):
    """What one thread works in: `state` [n_nodes, 4], residuals and scores zero between sources; the others scratch."""

    state: _Floats
    taken: _Floats
    value: _Floats
    touched: _Indices
    frontiers: _Indices
    blocks: _Floats
    groups: _Floats


def make_buffers(graph: Graph, hubs: Hubs) -> Buffers:
    """Buffers for one thread."""
    n_nodes = len(graph.degrees)
    state = np.zeros((n_nodes, 4))
    state[:, 1] = np.where((graph.degrees == 0) | (hubs.number_of >= 0), np.inf, graph.degrees)
    state[:, 3] = np.where(graph.is_neighbor, graph.degrees, -1.0)
    taken, value = np.empty(n_nodes), np.empty(n_nodes)
    blocks, groups = np.empty((3, len(hubs.vectors))), np.empty((3, len(hubs.block_max)))
    touched, frontiers = np.empty(n_nodes, np.int32), np.empty((2, n_nodes), np.int32)
    return Buffers(state, taken, value, touched, frontiers, blocks, groups)


@njit(nogil=True, cache=True, error_model="numpy")
def push(
    graph: Graph,
    buffers: Buffers,
    n_touched: int,
    n_frontier: int,
    damping_factor: float,
    epsilon: float,
    max_work: int,
) -> tuple[int, int, bool]:
    """Push the nodes of `frontiers[0]` and all that come after; number of touched nodes, edges visited, at an end?

    In rounds: all residuals of a round are taken before any is spread, so nodes in the same position fare the same.
    """
    offsets, targets, weights, degrees = graph[:4]
    state, taken, _, touched, frontiers = buffers[:5]
    work, side = 0, 0
    while n_frontier > 0:
        frontier, coming = frontiers[side], frontiers[1 - side]
        edges = 0
        for i in range(n_frontier):
            edges += offsets[frontier[i] + 1] - offsets[frontier[i]]
        if work + edges > max_work:
            return n_touched, work, False
        work += edges
        for i in range(n_frontier):
            u = frontier[i]
            taken[i] = state[u, 0]
            state[u, 0] = 0.0
            state[u, 2] += (1.0 - damping_factor) * taken[i]
        n_coming = 0
        for i in range(n_frontier):
            u = frontier[i]
            share = damping_factor * taken[i] / degrees[u]
            for edge in range(offsets[u], offsets[u + 1]):
                v = targets[edge]
                before = state[v, 0]
                after = before + share * weights[edge]
                state[v, 0] = after
                if before == 0.0 and state[v, 2] == 0.0 and after > 0.0:
                    touched[n_touched] = v
                    n_touched += 1
                # Once a round at most: residuals only grow until they are taken.
                enough = epsilon * state[v, 1]
                if after >= enough and before < enough:
                    coming[n_coming] = v
                    n_coming += 1
        n_frontier, side = n_coming, 1 - side
    return n_touched, work, True
