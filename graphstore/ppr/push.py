"""The push of `ppr`: what its kernels work on, and the spreading of residuals.

`state[v]` has what a visit needs, in 16 bytes: the residual, and the degree, infinite for a node that is never pushed
(a hub of `hubs`, or a node without edges). A node has been touched if its residual is not 0: one that has been taken
leaves `_TAKEN`, to which adding a residual gives that residual. Only such a node has a score, and so that nobody looks
for others, its degree is negative here: in a large graph, whatever lies elsewhere is far away.

Kernels of other modules have this compiled in. numba keeps what it has compiled, and looks at a kernel's own file only
to tell whether that is current. So such a file has a comment with a digest of those compiled in, which a test checks.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]

_TAKEN = 1e-300


class Graph(NamedTuple):
    """What the kernel needs of a `Projection`.

    `by_degree`: the items that may be neighbors, largest degree first; `total_degree`: of all nodes but guests;
    `mean_weight`: of the edges.
    """

    offsets: npt.NDArray[np.int64]
    targets: _Indices
    weights: npt.NDArray[np.floating[Any]]
    degrees: _Floats
    is_neighbor: _Bools
    groups: _Indices
    id_hashes: npt.NDArray[np.uint32]
    by_degree: _Indices
    total_degree: float
    mean_weight: float
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
    """What one thread works in: `state` [n_nodes, 2], and `scores` and `slots` [n_nodes].

    Residuals, scores and slots are zero between sources. The others are scratch: `worths` and `sizes` are of the
    touched nodes, by their place in `touched`.
    """

    state: _Floats
    scores: _Floats
    slots: _Indices
    taken: _Floats
    worths: _Floats
    sizes: _Floats
    touched: _Indices
    frontiers: _Indices
    blocks: _Floats
    groups: _Floats


def make_buffers(graph: Graph, hubs: Hubs) -> Buffers:
    """Buffers for one thread."""
    n_nodes = len(graph.degrees)
    state, scores = np.zeros((n_nodes, 2)), np.zeros(n_nodes)
    state[:, 1] = np.where((graph.degrees == 0) | (hubs.number_of >= 0), np.inf, graph.degrees)
    taken, worths, sizes = np.empty((3, n_nodes))
    blocks, groups = np.empty((3, len(hubs.vectors))), np.empty((3, len(hubs.block_max)))
    # With room for one that is written and not counted.
    touched, frontiers = np.empty(n_nodes + 1, np.int32), np.empty((2, n_nodes + 1), np.int32)
    return Buffers(state, scores, np.zeros(n_nodes, np.int32), taken, worths, sizes, touched, frontiers, blocks, groups)


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
    offsets, targets, weights = graph[:3]
    state, scores, _, taken, _, _, touched, frontiers = buffers[:8]
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
            state[u, 0], state[u, 1] = _TAKEN, -abs(state[u, 1])
            scores[u] += (1.0 - damping_factor) * taken[i]
        n_coming = 0
        for i in range(n_frontier):
            u = frontier[i]
            share = damping_factor * taken[i] / -state[u, 1]
            for edge in range(offsets[u], offsets[u + 1]):
                v = targets[edge]
                before = state[v, 0]
                after = before + share * weights[edge]
                state[v, 0] = after
                # Written in any case, and counted if it holds: branches that nobody can foresee would take longer.
                touched[n_touched] = v
                n_touched += (before == 0.0) & (after > 0.0)
                # Once a round at most: residuals only grow until they are taken.
                enough = epsilon * abs(state[v, 1])
                coming[n_coming] = v
                n_coming += (after >= enough) & (before < enough)
        n_frontier, side = n_coming, 1 - side
    return n_touched, work, True
