"""What the residuals that a push has left add to the best candidates, from their edges and from each other.

With `r` the residuals, `d` the degrees and `a` the damping factor, node `v` still lacks `d[v] y[v]`, where

    y = a P ((1 - a) r / d + y),

as weights are symmetric: a residual is pulled in over the edges over which a push would send it. Here the `y` of all
nodes but the candidates is replaced by one number, and what depends on it is kept apart:

    y[v] = lower_bound[v] + coefficient[v] * y_elsewhere.

With 0 for the others this is what `v` lacks at least; with their largest possible one, `a max r / d`, what it lacks at
most; and with the mean one, `a sum r / sum d`, an estimate that has the next step of every walk exactly, and the steps
after it where they lead from candidate to candidate.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from graphstore.ppr.push import DEGREE, RESIDUAL, Buffers, Graph

# compiled with: 838ada53eea9

_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]

#: Passes over the edges between candidates: each takes the walks among them a step further.
_PASSES = 3


@njit(nogil=True, cache=True, error_model="numpy")
def count_edges(graph: Graph, nodes: _Indices) -> int:
    """Edges of all `nodes`."""
    edges = 0
    for v in nodes:
        edges += graph.offsets[v + 1] - graph.offsets[v]
    return edges


@njit(nogil=True, cache=True, error_model="numpy")
def pull(
    graph: Graph,
    buffers: Buffers,
    nodes: _Indices,
    n_edges: int,
    damping_factor: float,
    lower_bounds: _Floats,
    coefficients: _Floats,
) -> None:
    """Write `lower_bounds` and `coefficients` of the candidates `nodes`.

    They have `n_edges` in all, and their numbers, from 1, in the buffers' `slots`.
    """
    offsets, targets, weights, degrees = graph.offsets, graph.targets, graph.weights, graph.degrees
    state, slots = buffers.state, buffers.slots
    n = len(nodes)
    # Edges from candidate to candidate, by the one that they are pulled to: in buffers that only a push needs.
    fits = n_edges < len(degrees)
    others = buffers.frontiers[1] if fits else np.empty(n_edges + 1, np.int32)
    shares = buffers.taken if fits else np.empty(n_edges + 1)
    ends, own, elsewhere = np.empty(n, np.int64), np.empty(n), np.empty(n)
    n_inner = 0
    for i in range(n):
        v = nodes[i]
        # Without edges it lacks nothing: its one neighbor is a source-only node.
        degree = degrees[v] if degrees[v] > 0.0 else 1.0
        first, pulled, inner = n_inner, 0.0, 0.0
        for edge in range(offsets[v], offsets[v + 1]):
            u, weight = targets[edge], weights[edge]
            pulled += weight * (state[u, RESIDUAL] / abs(state[u, DEGREE]))
            # Written in any case, and counted if it holds, as in `push`.
            others[n_inner], shares[n_inner] = slots[u] - 1, weight
            n_inner += slots[u] > 0
        for j in range(first, n_inner):
            shares[j] /= degree
            inner += shares[j]
        own[i], elsewhere[i], ends[i] = (1.0 - damping_factor) * pulled / degree, max(0.0, 1.0 - inner), n_inner
        # The first pass: nothing is known of the others.
        lower_bounds[i], coefficients[i] = damping_factor * own[i], damping_factor
    next_bounds, next_coefficients = np.empty(n), np.empty(n)
    for _ in range(_PASSES - 1):
        first = 0
        for i in range(n):
            bound, coefficient = own[i], elsewhere[i]
            for j in range(first, ends[i]):
                bound += shares[j] * lower_bounds[others[j]]
                coefficient += shares[j] * coefficients[others[j]]
            next_bounds[i], next_coefficients[i], first = damping_factor * bound, damping_factor * coefficient, ends[i]
        lower_bounds[:n], coefficients[:n] = next_bounds, next_coefficients
