"""The best k of what a push has left, how sure they are, and its refinement until they are proven.

What is left in the residuals `r` is worth `sum_u r[u] ppr_u(v)` to node `v`, `ppr_u` being the scores of a walk from
`u`. The first term of that walk, stopping right away, is added to the score. So what a score lacks at most is, `a`
being the damping factor:

- `a * sum_u r[u]`, because all that goes on is at most everything, and
- `a * d[v] * max_u r[u] / d[u]`, if weights are symmetric: the walk is reversible then, for every number `t` of steps
  `d[u] P^t(u, v) = d[v] P^t(v, u)`, and so `sum_u r[u] P^t(u, v) = d[v] sum_u (r[u] / d[u]) P^t(v, u)`, a mean of the
  ratios. A guest has edges that do not lead back, but no residual after its first push: nothing leads to it.

Of symmetric weights, the walks that still go on stop in the long run in proportion to the degrees. So `a * sum_u r[u]`,
divided among all nodes by degree, is added to the scores as an estimate; it is within these bounds, the mean of
`r[u] / d[u]` being no more than the largest. It decides who the candidates are, half as many again as are wanted. For
them, `candidates` has a better estimate and closer bounds, if they do not have too many edges. With hubs there is no
need for any of it.

A hub's residual `q[h]` is worth `q[h] * ppr_h(v)`, which `hubs` has computed before, but for its stated error.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from graphstore.ppr.candidates import count_edges, pull
from graphstore.ppr.mixtures import drop_small, select_mixed
from graphstore.ppr.push import Buffers, Graph, Hubs, push
from graphstore.ppr.ranking import DUST, FLOAT32, insert, is_excluded, put_best_first, tie_order

# compiled with: db89778cdbab

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]

#: Each refinement goes down to this part of the residual per degree.
_REFINEMENT = 1 / 16
#: Candidates are asked for their edges unless these are so many times as many as the push has visited.
_PULLED = 4


class Candidates(NamedTuple):
    """The best by the first estimate, with their ties; `sure` and `open` are of the module `candidates`.

    While they are collected, there is room for twice as many.
    """

    nodes: _Indices
    scores: _Floats
    ties: npt.NDArray[np.uint64]
    sure: _Floats
    open: _Floats


@njit(nogil=True, cache=True, error_model="numpy")
def _cut(
    candidates: Candidates, n: int, degrees: _Floats, flat: float, slope: float, share: float, other: float
) -> tuple[int, np.float32, float]:
    """Keep the best half of the room; returns how many there are, the least score, and what any other has at most."""
    nodes, scores = candidates.nodes, candidates.scores
    width = len(nodes) // 2
    if n > width:
        put_best_first(width, n, nodes, scores, candidates.ties)
        for i in range(width, n):
            degree = degrees[nodes[i]]
            other = max(other, scores[i] - share * degree + min(flat, slope * degree))
        n = width
    return n, np.float32(scores[:n].min()) if n == width else np.float32(0.0), other


@njit(nogil=True, cache=True, error_model="numpy")
def _choose(
    graph: Graph,
    buffers: Buffers,
    candidates: Candidates,
    n_candidates: int,
    max_edges: int,
    damping_factor: float,
    flat: float,
    slope: float,
    share: float,
    nodes: _Indices,
    scores: _Floats,
    ties: npt.NDArray[np.uint64],
) -> tuple[int, float, float, float, int]:
    """Write the best of the candidates.

    Returns how many there are, what a candidate that is not among them can have at most, what those that are have at
    least, by how much a score may be wrong, and the edges visited.
    """
    degrees, slots = graph.degrees, buffers.slots
    own, sure, open_ = candidates.nodes[:n_candidates], candidates.sure, candidates.open
    for i in range(n_candidates):
        slots[own[i]] = i + 1
    n_edges = count_edges(graph, own)
    if share > 0.0 and n_edges <= max_edges:
        pull(graph, buffers, own, n_edges, damping_factor, sure, open_)
    else:
        n_edges = 0
        sure[:n_candidates], open_[:n_candidates] = 0.0, 1.0
    found, other, least, error = 0, 0.0, np.inf, 0.0
    for i in range(n_candidates):
        v = own[i]
        # From here on, what is known of it without an estimate.
        candidates.scores[i] -= share * degrees[v]
        worth = candidates.scores[i] + degrees[v] * (sure[i] + share * open_[i])
        out = insert(v, worth, candidates.ties[i], found, nodes, scores, ties)
        if out < 0:
            found += 1
        else:
            j = slots[out] - 1
            other = max(
                other, candidates.scores[j] + min(flat, degrees[out] * sure[j] + slope * (degrees[out] * open_[j]))
            )
    for j in range(found):
        v, i = nodes[j], slots[nodes[j]] - 1
        lacks = min(flat, degrees[v] * sure[i] + slope * (degrees[v] * open_[i]))
        at_least = candidates.scores[i] + degrees[v] * sure[i]
        least = min(least, at_least)
        error = max(error, scores[j] - at_least, candidates.scores[i] + lacks - scores[j])
    slots[own] = 0
    return found, other, least, error, n_edges


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
    nodes: _Indices,
    scores: _Floats,
    ties: npt.NDArray[np.uint64],
) -> tuple[float, float, bool, int]:
    """Write the best so far.

    Returns by how much a score may be wrong, the residual left, whether the set is proven, and the edges visited.
    """
    degrees = graph.degrees
    state, known, _, _, worths, sizes, touched, frontiers = buffers[:8]
    k = len(nodes)
    # What is left: in ordinary nodes, and in hubs, whose numbers go into a frontier that is not in use.
    left, ratio, in_hubs, n_hubs, is_closed = 0.0, 0.0, 0.0, 0, True
    hub_nodes = frontiers[0]
    for i in range(n_touched):
        # Not by `mixtures._worth`: a call with so many arrays costs more than all of this.
        u = touched[i]
        residual, degree, worth = state[u, 0], state[u, 1], 0.0
        if degree < 0.0:
            degree, worth = -degree, known[u]
        if degree < np.inf:
            left += residual
            ratio = max(ratio, residual / degree)
            is_closed = is_closed and worth > 0.0
            worth += (1.0 - damping_factor) * residual
        else:
            degree = degrees[u]
            if degree > 0.0:
                in_hubs += residual
                hub_nodes[n_hubs] = u
                n_hubs += 1
            else:
                worth += residual
        worths[i], sizes[i] = worth, degree
    is_closed = is_closed and n_hubs == 0
    source_hash, is_reversible = np.uint64(0), graph.is_symmetric
    for seed in seeds:
        source_hash = source_hash ^ np.uint64(graph.id_hashes[seed])
        # A guest that was not pushed, because of the limit of work.
        is_reversible = is_reversible and (known[seed] > 0.0 or state[seed, 1] == np.inf)
    # The error of any node is at most `flat`, and at most `slope` times its degree; and what hubs add.
    flat = damping_factor * left
    slope = damping_factor * ratio if is_reversible else np.inf
    # What goes on ends up, roughly, in proportion to the degrees: the part of it that is estimated, per degree.
    share = flat / graph.total_degree if is_reversible and n_hubs == 0 and left > DUST else 0.0
    from_hubs = in_hubs * hubs.error
    if n_hubs > 0:
        n_hubs, dropped = drop_small(hubs, state, hub_nodes, n_hubs, 0.01 * tie_tolerance)
        from_hubs += dropped

    n_candidates, other, floor = 0, 0.0, np.float32(0.0)
    for i in range(n_touched):
        # Most are passed over here: without a call, and without a look at what else is known of the node.
        v, worth = touched[i], worths[i] + share * sizes[i]
        if np.float32(worth) < floor:
            most = worths[i] + min(flat, slope * sizes[i])
            if most > other and graph.is_neighbor[v]:
                other = most
            continue
        if not graph.is_neighbor[v]:
            continue
        if is_excluded(graph.groups, seeds, v):
            continue
        candidates.nodes[n_candidates], candidates.scores[n_candidates] = v, worth
        candidates.ties[n_candidates] = tie_order(source_hash, graph.id_hashes[v])
        n_candidates += 1
        if n_candidates == len(candidates.nodes):
            n_candidates, floor, other = _cut(candidates, n_candidates, degrees, flat, slope, share, other)
    n_candidates, _, other = _cut(candidates, n_candidates, degrees, flat, slope, share, other)

    nodes[:], scores[:] = -1, 0.0
    n_edges = 0
    if n_hubs > 0:
        # The k-th of what is known without the hubs is a floor that the best of all cannot be below.
        found = 0
        for i in range(n_candidates):
            v, worth, tie = candidates.nodes[i], candidates.scores[i], candidates.ties[i]
            found += insert(v, worth, tie, found, nodes, scores, ties) < 0
        found, other = select_mixed(
            graph,
            hubs,
            buffers,
            n_touched,
            n_hubs,
            seeds,
            source_hash,
            damping_factor,
            flat,
            slope,
            nodes,
            scores,
            ties,
        )
        least, error = np.inf, 0.0
        for i in range(found):
            least = min(least, scores[i])
            error = max(error, min(flat, slope * degrees[nodes[i]]))
    else:
        found, other_candidate, least, error, n_edges = _choose(
            graph,
            buffers,
            candidates,
            n_candidates,
            max_edges,
            damping_factor,
            flat,
            slope,
            share,
            nodes,
            scores,
            ties,
        )
        other = max(other, other_candidate)
    # Items that nothing has touched: the one with the largest degree lacks most.
    unseen = 0.0
    if not is_closed:
        unseen = flat
        if is_reversible:
            for v in graph.by_degree:
                if state[v, 0] == 0.0:
                    unseen = min(flat, slope * degrees[v])
                    break
    if found == 0:
        error = unseen
    if n_hubs > 0:
        # The vectors of the hubs are rounded down to float32.
        error += from_hubs + FLOAT32 * scores[0]
        other = (other + unseen) * (1.0 + FLOAT32) + from_hubs
    # With fewer than k, all that has any score is there, if what lies beneath the precision counts as none.
    threshold = least * (1.0 + tie_tolerance) if found == k else from_hubs + unseen * (left < DUST)
    return error, left, max(other, unseen) <= threshold, n_edges


@njit(nogil=True, cache=True, error_model="numpy")
def top_k(
    graph: Graph,
    hubs: Hubs,
    buffers: Buffers,
    seeds: _Indices,
    seed_weights: _Floats,
    seed_offsets: npt.NDArray[np.int64],
    damping_factor: float,
    epsilon: float,
    max_work: int,
    tie_tolerance: float,
    nodes: _Indices,
    scores: _Floats,
    errors: _Floats,
    proven: _Bools,
    work: npt.NDArray[np.int64],
) -> None:
    """For each row, the best of the personalization `seed_offsets[row]:seed_offsets[row + 1]`.

    With `max_work` 0 the push ends at `epsilon`; else it is refined until the set is proven or has cost that much.
    """
    state, known, _, _, _, _, touched, frontiers = buffers[:8]
    k = nodes.shape[1]
    ties, room = np.empty(k, np.uint64), 2 * (k + k // 2 + 10)
    candidates = Candidates(
        np.empty(room, np.int32), np.empty(room), np.empty(room, np.uint64), np.empty(room // 2), np.empty(room // 2)
    )
    limit = max_work if max_work > 0 else np.int64(2) ** 62
    for row in range(len(nodes)):
        own = seeds[seed_offsets[row] : seed_offsets[row + 1]]
        n_touched, n_frontier = 0, 0
        for i in range(len(own)):
            u = own[i]
            state[u, 0] = seed_weights[seed_offsets[row] + i]
            touched[n_touched] = u
            n_touched += 1
            if state[u, 1] < np.inf:
                frontiers[0, n_frontier] = u
                n_frontier += 1
        level = epsilon
        while True:
            n_touched, visited, is_done = push(
                graph, buffers, n_touched, n_frontier, damping_factor, level, limit - work[row]
            )
            work[row] += visited
            most = min(_PULLED * work[row], limit - work[row])
            errors[row], left, proven[row], pulled = _select(
                *(graph, hubs, buffers, n_touched, own, damping_factor, tie_tolerance, most, candidates),
                *(nodes[row], scores[row], ties),
            )
            work[row] += pulled
            if proven[row] or max_work == 0 or not is_done or left < DUST:
                break
            # With an error that is a tie, no other item is better: there is no need to go beyond.
            enough = tie_tolerance * scores[row, -1] / errors[row] if errors[row] > 0.0 else 1.0
            n_frontier = 0
            while n_frontier == 0:
                level *= max(_REFINEMENT, min(enough, 0.5))
                for i in range(n_touched):
                    u = touched[i]
                    if state[u, 0] > 0.0 and state[u, 0] >= level * abs(state[u, 1]):
                        frontiers[0, n_frontier] = u
                        n_frontier += 1
        for i in range(n_touched):
            u = touched[i]
            state[u, 0] = 0.0
            if state[u, 1] < 0.0:
                state[u, 1], known[u] = -state[u, 1], 0.0
