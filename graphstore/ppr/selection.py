"""The best k of what a push has left, how certain they are, and its refinement until they are proven.

What is left in the residuals `r` adds `sum_u r[u] ppr_u(v)` to the score of node `v`, `ppr_u` being the scores of a
walk from `u`. The first term of that walk, stopping right away, is added to the score. So what a score lacks at most
is, `a` being the damping factor:

- `a * sum_u r[u]`, because all that continues is at most everything, and
- `a * d[v] * max_u r[u] / d[u]`, if weights are symmetric: the walk is reversible then, for every number `t` of steps
  `d[u] P^t(u, v) = d[v] P^t(v, u)`, and so `sum_u r[u] P^t(u, v) = d[v] sum_u (r[u] / d[u]) P^t(v, u)`, a mean of the
  ratios. A source-only node has edges that do not lead back, but no residual after its first push: nothing leads to it.

Of symmetric weights, the walks that still continue stop in the long run in proportion to the degrees. So `a * sum_u
r[u]`, divided among all nodes by degree, is added to the scores as an estimate; it is within these bounds, the mean of
`r[u] / d[u]` being no more than the largest. It decides who the candidates are, half as many again as are wanted. For
them, `candidates` has a better estimate and closer bounds, if they do not have too many edges. With hubs there is no
need for any of it.

A hub's residual `q[h]` adds `q[h] * ppr_h(v)`, which `hubs` has computed before, but for its stated error.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from graphstore.ppr.candidates import count_edges, pull
from graphstore.ppr.hub_selection import Bounds, drop_small, select_with_hubs
from graphstore.ppr.push import DEGREE, RESIDUAL, Buffers, Graph, Hubs, push
from graphstore.ppr.ranking import (
    FLOAT32_ROUNDING,
    TOLERANCE,
    Best,
    insert,
    is_excluded,
    put_best_first,
    tie_order,
)

# compiled with: d1b97a888164

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]
_Longs: TypeAlias = npt.NDArray[np.int64]

#: Each refinement goes down to this part of the residual per degree.
_REFINEMENT = 1 / 16
#: Candidates are asked for their edges unless these are so many times as many as the push has visited.
_PULLED = 4


class Candidates(NamedTuple):
    """The best by the first estimate, with their ties; `lower_bounds` and `coefficients` are those of `candidates`.

    While they are collected, there is room for twice as many.
    """

    nodes: _Indices
    scores: _Floats
    ties: npt.NDArray[np.uint64]
    lower_bounds: _Floats
    coefficients: _Floats


class TopK(NamedTuple):
    """For each source, its items with the highest scores.

    Attributes
    ----------
    nodes
        `(n_sources, k)` int32, best first, filled up with -1.
    scores
        `(n_sources, k)` float64, filled up with 0. The true score differs by no more than the error.
    errors
        `(n_sources,)` float64, by how much any of these scores may be too low or too high.
    proven
        `(n_sources,)` bool: no other item has a true score above the last one's here, but for ties. If there are fewer
        than `k`, no other item has any score.
    work
        `(n_sources,)` int64, edges visited.
    """

    nodes: _Indices
    scores: _Floats
    errors: _Floats
    proven: _Bools
    work: _Longs


class _Residual(NamedTuple):
    """What a push has left: in all nodes but hubs, the largest per degree; in hubs, and in how many of them.

    `is_closed`: whether every touched node has been pushed, so that nothing lies beyond them.
    """

    total: float
    per_degree: float
    in_hubs: float
    n_hubs: int
    is_closed: bool


@njit(nogil=True, cache=True, error_model="numpy")
def _survey(graph: Graph, buffers: Buffers, n_touched: int, damping_factor: float) -> _Residual:
    """Write what is known of the scores and degrees of the touched nodes, and the hubs among them.

    The hubs go into a frontier that is not in use.
    """
    state, settled, hub_nodes = buffers.state, buffers.settled, buffers.frontiers[0]
    total, per_degree, in_hubs, n_hubs, is_closed = 0.0, 0.0, 0.0, 0, True
    for i in range(n_touched):
        u = buffers.touched[i]
        residual, degree, score = state[u, RESIDUAL], state[u, DEGREE], 0.0
        if degree < 0.0:
            degree, score = -degree, settled[u]
        if degree < np.inf:
            total += residual
            per_degree = max(per_degree, residual / degree)
            is_closed = is_closed and score > 0.0
            score += (1.0 - damping_factor) * residual
        else:
            degree = graph.degrees[u]
            if degree > 0.0:
                in_hubs += residual
                hub_nodes[n_hubs] = u
                n_hubs += 1
            else:
                score += residual
        buffers.touched_scores[i], buffers.touched_degrees[i] = score, degree
    return _Residual(total, per_degree, in_hubs, n_hubs, is_closed and n_hubs == 0)


@njit(nogil=True, cache=True, error_model="numpy")
def _cut(
    candidates: Candidates, n: int, degrees: _Floats, bounds: Bounds, estimate: float, other: float
) -> tuple[int, np.float32, float]:
    """Keep the best half of the room; returns how many there are, the least score, and what any other has at most."""
    nodes, scores = candidates.nodes, candidates.scores
    width = len(nodes) // 2
    if n > width:
        put_best_first(width, n, nodes, scores, candidates.ties)
        for i in range(width, n):
            degree = degrees[nodes[i]]
            other = max(other, scores[i] - estimate * degree + min(bounds.uniform, bounds.per_degree * degree))
        n = width
    return n, np.float32(scores[:n].min()) if n == width else np.float32(0.0), other


@njit(nogil=True, cache=True, error_model="numpy")
def _collect(
    graph: Graph,
    buffers: Buffers,
    n_touched: int,
    seeds: _Indices,
    source_hash: np.uint64,
    bounds: Bounds,
    estimate: float,
    candidates: Candidates,
) -> tuple[int, float]:
    """Collect the candidates: the touched items with the highest scores, the `estimate` per degree included.

    Returns how many there are, and what any other touched item can have at most.
    """
    degrees, touched = graph.degrees, buffers.touched
    scores, touched_degrees = buffers.touched_scores, buffers.touched_degrees
    n, other, floor = 0, 0.0, np.float32(0.0)
    for i in range(n_touched):
        # Most are passed over here: without a call, and without a look at what else is known of the node.
        v, score = touched[i], scores[i] + estimate * touched_degrees[i]
        if np.float32(score) < floor:
            at_most = scores[i] + min(bounds.uniform, bounds.per_degree * touched_degrees[i])
            if at_most > other and graph.is_neighbor[v]:
                other = at_most
            continue
        if not graph.is_neighbor[v]:
            continue
        if is_excluded(graph.groups, seeds, v):
            continue
        candidates.nodes[n], candidates.scores[n] = v, score
        candidates.ties[n] = tie_order(source_hash, graph.id_hashes[v])
        n += 1
        if n == len(candidates.nodes):
            n, floor, other = _cut(candidates, n, degrees, bounds, estimate, other)
    n, _, other = _cut(candidates, n, degrees, bounds, estimate, other)
    return n, other


@njit(nogil=True, cache=True, error_model="numpy")
def _choose(
    graph: Graph,
    buffers: Buffers,
    candidates: Candidates,
    n_candidates: int,
    max_edges: int,
    damping_factor: float,
    bounds: Bounds,
    estimate: float,
    best: Best,
) -> tuple[int, float, float, float, int]:
    """Write the best of the candidates.

    Returns how many there are, what a candidate that is not among them can have at most, what those that are have at
    least, by how much a score may be wrong, and the edges visited.
    """
    degrees, slots = graph.degrees, buffers.slots
    own, lower_bounds, coefficients = candidates.nodes[:n_candidates], candidates.lower_bounds, candidates.coefficients
    for i in range(n_candidates):
        slots[own[i]] = i + 1
    n_edges = count_edges(graph, own)
    if estimate > 0.0 and n_edges <= max_edges:
        pull(graph, buffers, own, n_edges, damping_factor, lower_bounds, coefficients)
    else:
        n_edges = 0
        lower_bounds[:n_candidates], coefficients[:n_candidates] = 0.0, 1.0
    n_found, other, least, error = 0, 0.0, np.inf, 0.0
    for i in range(n_candidates):
        v = own[i]
        # From here on, what is known of it without an estimate.
        candidates.scores[i] -= estimate * degrees[v]
        score = candidates.scores[i] + degrees[v] * (lower_bounds[i] + estimate * coefficients[i])
        out = insert(best, n_found, v, score, candidates.ties[i])
        if out < 0:
            n_found += 1
        else:
            j, degree = slots[out] - 1, degrees[out]
            lack = min(bounds.uniform, degree * lower_bounds[j] + bounds.per_degree * (degree * coefficients[j]))
            other = max(other, candidates.scores[j] + lack)
    for j in range(n_found):
        i, degree = slots[best.nodes[j]] - 1, degrees[best.nodes[j]]
        lack = min(bounds.uniform, degree * lower_bounds[i] + bounds.per_degree * (degree * coefficients[i]))
        at_least = candidates.scores[i] + degree * lower_bounds[i]
        least = min(least, at_least)
        error = max(error, best.scores[j] - at_least, candidates.scores[i] + lack - best.scores[j])
    slots[own] = 0
    return n_found, other, least, error, n_edges


@njit(nogil=True, cache=True, error_model="numpy")
def _largest_lack_of_untouched(graph: Graph, state: _Floats, bounds: Bounds, is_reversible: bool) -> float:
    """What an item that nothing has touched can have at most: the one with the largest degree lacks most."""
    if is_reversible:
        for v in graph.by_degree:
            if state[v, RESIDUAL] == 0.0:
                return float(min(bounds.uniform, bounds.per_degree * graph.degrees[v]))
    return bounds.uniform


@njit(nogil=True, cache=True, error_model="numpy")
def _select(
    graph: Graph,
    hubs: Hubs,
    buffers: Buffers,
    n_touched: int,
    seeds: _Indices,
    damping_factor: float,
    tie_tolerance: float,
    max_edges: int,
    candidates: Candidates,
    best: Best,
) -> tuple[float, float, bool, int]:
    """Write the best so far.

    Returns by how much a score may be wrong, the residual left, whether the set is proven, and the edges visited.
    """
    degrees, state = graph.degrees, buffers.state
    nodes, scores = best.nodes, best.scores
    k = len(nodes)
    left = _survey(graph, buffers, n_touched, damping_factor)
    source_hash, is_reversible = np.uint64(0), graph.is_symmetric
    for seed in seeds:
        source_hash = source_hash ^ np.uint64(graph.id_hashes[seed])
        # A source-only node that was not pushed, because of the limit of work.
        is_reversible = is_reversible and (buffers.settled[seed] > 0.0 or state[seed, DEGREE] == np.inf)
    bounds = Bounds(damping_factor * left.total, damping_factor * left.per_degree if is_reversible else np.inf)
    # What continues ends up, roughly, in proportion to the degrees: the part of it that is estimated, per degree.
    is_estimated = is_reversible and left.n_hubs == 0 and left.total > TOLERANCE
    estimate = bounds.uniform / graph.total_degree if is_estimated else 0.0
    n_hubs, from_hubs = left.n_hubs, left.in_hubs * hubs.error
    if n_hubs > 0:
        n_hubs, dropped = drop_small(hubs, state, buffers.frontiers[0], n_hubs, 0.01 * tie_tolerance)
        from_hubs += dropped
    n_candidates, other = _collect(graph, buffers, n_touched, seeds, source_hash, bounds, estimate, candidates)

    nodes[:], scores[:] = -1, 0.0
    n_edges = 0
    if n_hubs > 0:
        # The k-th of what is known without the hubs is a floor that the best of all cannot be below.
        n_found = 0
        for i in range(n_candidates):
            v, score, tie = candidates.nodes[i], candidates.scores[i], candidates.ties[i]
            n_found += insert(best, n_found, v, score, tie) < 0
        n_found, other = select_with_hubs(
            graph, hubs, buffers, n_touched, n_hubs, seeds, source_hash, damping_factor, bounds, best
        )
        least, error = np.inf, 0.0
        for i in range(n_found):
            least = min(least, scores[i])
            error = max(error, min(bounds.uniform, bounds.per_degree * degrees[nodes[i]]))
    else:
        n_found, other_candidate, least, error, n_edges = _choose(
            graph, buffers, candidates, n_candidates, max_edges, damping_factor, bounds, estimate, best
        )
        other = max(other, other_candidate)
    untouched = 0.0 if left.is_closed else _largest_lack_of_untouched(graph, state, bounds, is_reversible)
    if n_found == 0:
        error = untouched
    if n_hubs > 0:
        # The vectors of the hubs are rounded down to float32.
        error += from_hubs + FLOAT32_ROUNDING * scores[0]
        other = (other + untouched) * (1.0 + FLOAT32_ROUNDING) + from_hubs
    # With fewer than k, all that has any score is there, if what lies beneath the precision counts as none.
    threshold = least * (1.0 + tie_tolerance) if n_found == k else from_hubs + untouched * (left.total < TOLERANCE)
    return error, left.total, max(other, untouched) <= threshold, n_edges


@njit(nogil=True, cache=True, error_model="numpy")
def top_k(
    graph: Graph,
    hubs: Hubs,
    buffers: Buffers,
    seeds: _Indices,
    seed_weights: _Floats,
    seed_offsets: _Longs,
    damping_factor: float,
    epsilon: float,
    max_work: int,
    tie_tolerance: float,
    results: TopK,
) -> None:
    """For each row of `results`, the best of the personalization `seed_offsets[row]:seed_offsets[row + 1]`.

    With `max_work` 0 the push ends at `epsilon`; else it is refined until the set is proven or has cost that much.
    """
    state, touched, frontiers = buffers.state, buffers.touched, buffers.frontiers
    errors, proven, work = results.errors, results.proven, results.work
    n_rows, k = results.nodes.shape
    ties, room = np.empty(k, np.uint64), 2 * (k + k // 2 + 10)
    candidates = Candidates(
        np.empty(room, np.int32), np.empty(room), np.empty(room, np.uint64), np.empty(room // 2), np.empty(room // 2)
    )
    limit = max_work if max_work > 0 else np.int64(2) ** 62
    for row in range(n_rows):
        best = Best(results.nodes[row], results.scores[row], ties)
        own = seeds[seed_offsets[row] : seed_offsets[row + 1]]
        n_touched, n_frontier = 0, 0
        for i in range(len(own)):
            u = own[i]
            state[u, RESIDUAL] = seed_weights[seed_offsets[row] + i]
            touched[n_touched] = u
            n_touched += 1
            if state[u, DEGREE] < np.inf:
                frontiers[0, n_frontier] = u
                n_frontier += 1
        level = epsilon
        while True:
            n_touched, visited, is_done = push(
                graph, buffers, n_touched, n_frontier, damping_factor, level, limit - work[row]
            )
            work[row] += visited
            max_edges = min(_PULLED * work[row], limit - work[row])
            errors[row], left, proven[row], pulled = _select(
                graph, hubs, buffers, n_touched, own, damping_factor, tie_tolerance, max_edges, candidates, best
            )
            work[row] += pulled
            if proven[row] or max_work == 0 or not is_done or left < TOLERANCE:
                break
            # With an error that is a tie, no other item is better: there is no need to go beyond.
            enough = tie_tolerance * best.scores[k - 1] / errors[row] if errors[row] > 0.0 else 1.0
            n_frontier = 0
            while n_frontier == 0:
                level *= max(_REFINEMENT, min(enough, 0.5))
                for i in range(n_touched):
                    u = touched[i]
                    if state[u, RESIDUAL] > 0.0 and state[u, RESIDUAL] >= level * abs(state[u, DEGREE]):
                        frontiers[0, n_frontier] = u
                        n_frontier += 1
        for i in range(n_touched):
            u = touched[i]
            state[u, RESIDUAL] = 0.0
            if state[u, DEGREE] < 0.0:
                state[u, DEGREE], buffers.settled[u] = -state[u, DEGREE], 0.0
