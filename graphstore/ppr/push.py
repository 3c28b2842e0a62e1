"""The push of `top_k_ppr`: what its kernels work on, and the spreading of residuals.

`Buffers.state` has what a visit needs of a node, in 16 bytes: its residual, and its degree, infinite for a node that is
never pushed (a hub of `hubs`, or a node without edges). A node has been touched if its residual is not 0: one whose
residual has been taken keeps `_TAKEN`, to which adding a residual gives that residual. Only such a node has a settled
score, and so that nobody looks for others, its degree is negative here: in a large graph, whatever lies elsewhere is
far away.

Kernels of other modules have these compiled in. numba keeps what it has compiled, and looks at a kernel's own file only
to tell whether that is current. So such a file has a comment with a digest of those compiled in; `make kernels` writes
it, and a test checks it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]

#: Columns of `Buffers.state`.
RESIDUAL, DEGREE = 0, 1
_TAKEN = 1e-300


class Graph(NamedTuple):
    """What the kernels need of a `Projection`.

    Attributes
    ----------
    offsets, targets, weights, degrees, is_neighbor, groups, id_hashes, is_symmetric
        As in the projection.
    by_degree
        The items that may be neighbors, largest degree first.
    total_degree
        Sum of the degrees of all nodes that an edge leads to.
    mean_weight
        Mean weight of the edges.
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

    hub_index: _Indices
    vectors: npt.NDArray[np.float32]
    block_max: npt.NDArray[np.float32]
    group_max: npt.NDArray[np.float32]
    items: _Indices
    item_index: _Indices
    hub_max: _Floats
    error: float


class Buffers(NamedTuple):
    """What one thread works in. Residuals, settled scores and slots are 0 between sources; the others are scratch.

    Attributes
    ----------
    state
        `(n_nodes, 2)` float64: `RESIDUAL` and `DEGREE`.
    settled
        `(n_nodes,)` float64, the part of each node's score that pushes have settled.
    slots
        `(n_nodes,)` int32, the number of each candidate, from 1.
    touched
        `(n_nodes + 1,)` int32, the nodes that have been touched; room for one that is written and not counted.
    touched_scores, touched_degrees
        `(n_nodes,)` float64, of the touched nodes, by their index in `touched`.
    frontiers
        `(2, n_nodes + 1)` int32, the nodes of this round and of the next.
    taken
        `(n_nodes,)` float64, the residuals that the nodes of this round had.
    block_scores, block_lacks, block_bounds
        `(n_blocks,)` float64, of each block of `Hubs`: of its touched items the largest score and the most that one may
        lack, and an upper bound of all its scores.
    group_scores, group_lacks, group_bounds
        `(n_groups,)` float64, the same of each group of blocks.
    """

    state: _Floats
    settled: _Floats
    slots: _Indices
    touched: _Indices
    touched_scores: _Floats
    touched_degrees: _Floats
    frontiers: _Indices
    taken: _Floats
    block_scores: _Floats
    block_lacks: _Floats
    block_bounds: _Floats
    group_scores: _Floats
    group_lacks: _Floats
    group_bounds: _Floats


def make_buffers(graph: Graph, hubs: Hubs) -> Buffers:
    """Buffers for one thread."""
    n_nodes = len(graph.degrees)
    state = np.zeros((n_nodes, 2))
    state[:, DEGREE] = np.where((graph.degrees == 0) | (hubs.hub_index >= 0), np.inf, graph.degrees)
    block_scores, block_lacks, block_bounds = np.empty((3, len(hubs.vectors)))
    group_scores, group_lacks, group_bounds = np.empty((3, len(hubs.block_max)))
    return Buffers(
        state=state,
        settled=np.zeros(n_nodes),
        slots=np.zeros(n_nodes, np.int32),
        touched=np.empty(n_nodes + 1, np.int32),
        touched_scores=np.empty(n_nodes),
        touched_degrees=np.empty(n_nodes),
        frontiers=np.empty((2, n_nodes + 1), np.int32),
        taken=np.empty(n_nodes),
        block_scores=block_scores,
        block_lacks=block_lacks,
        block_bounds=block_bounds,
        group_scores=group_scores,
        group_lacks=group_lacks,
        group_bounds=group_bounds,
    )


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
    """Push the nodes of `frontiers[0]` and all that come after.

    In rounds: all residuals of a round are taken before any is spread, so nodes in the same position fare the same.

    Returns
    -------
    n_touched, work, is_done
        How many nodes have been touched; the edges visited; whether it came to its end before `max_work` of them.
    """
    offsets, targets, weights = graph.offsets, graph.targets, graph.weights
    state, settled, touched, taken = buffers.state, buffers.settled, buffers.touched, buffers.taken
    work, side = 0, 0
    while n_frontier > 0:
        frontier, following = buffers.frontiers[side], buffers.frontiers[1 - side]
        edges = 0
        for i in range(n_frontier):
            edges += offsets[frontier[i] + 1] - offsets[frontier[i]]
        if work + edges > max_work:
            return n_touched, work, False
        work += edges
        for i in range(n_frontier):
            u = frontier[i]
            taken[i] = state[u, RESIDUAL]
            state[u, RESIDUAL], state[u, DEGREE] = _TAKEN, -abs(state[u, DEGREE])
            settled[u] += (1.0 - damping_factor) * taken[i]
        n_following = 0
        for i in range(n_frontier):
            u = frontier[i]
            share = damping_factor * taken[i] / -state[u, DEGREE]
            for edge in range(offsets[u], offsets[u + 1]):
                v = targets[edge]
                before = state[v, RESIDUAL]
                after = before + share * weights[edge]
                state[v, RESIDUAL] = after
                # Written in any case, and counted if it holds: branches that nobody can foresee would take longer.
                touched[n_touched] = v
                n_touched += (before == 0.0) & (after > 0.0)
                # Once a round at most: residuals only grow until they are taken.
                enough = epsilon * abs(state[v, DEGREE])
                following[n_following] = v
                n_following += (after >= enough) & (before < enough)
        n_frontier, side = n_following, 1 - side
    return n_touched, work, True
