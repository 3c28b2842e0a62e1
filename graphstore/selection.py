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
`r[u] / d[u]` being no more than the largest. What has to be proven is proven without it. With hubs there is no need.

A hub's residual `q[h]` is worth `q[h] * ppr_h(v)`, which `hubs` has computed before, but for its stated error.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from graphstore.push import Buffers, Graph, Hubs, push

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]

#: Each refinement goes down to this part of the residual per degree.
_REFINEMENT = 1 / 16
#: A residual of this much in all is rounding: it is refined no further.
_DUST = 1e-13
_FLOAT32 = 2.0**-22
#: Bounds are sums in another order than what they bound.
_ROUNDING = 1.0 + 1e-12
#: Items in a block, and blocks in a group: as float32, one cache line.
FANOUT = 16


@njit(nogil=True, cache=True, error_model="numpy")
def tie_order(source_hash: Any, node_hash: Any) -> Any:
    """A hash of both (the finalizer of splitmix64), uint64."""
    x = (np.uint64(source_hash) << np.uint64(32)) + np.uint64(node_hash) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True, error_model="numpy")
def _is_excluded(groups: _Indices, seeds: _Indices, v: int) -> bool:
    for seed in seeds:  # noqa: SIM110
        if v == seed or groups[v] == groups[seed]:
            return True
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def _insert(
    v: int, value: float, tie: Any, found: int, nodes: _Indices, scores: _Floats, ties: npt.NDArray[np.uint64]
) -> int:
    """Insert into the best so far, which are sorted; returns the node that does not stay (-1 if all do)."""
    k = len(nodes)
    rounded, place = np.float32(value), found
    while place > 0 and (
        rounded > np.float32(scores[place - 1]) or (rounded == np.float32(scores[place - 1]) and tie < ties[place - 1])
    ):
        place -= 1
    if place == k:
        return v
    out = nodes[k - 1] if found == k else -1
    for j in range(min(found, k - 1), place, -1):
        nodes[j], scores[j], ties[j] = nodes[j - 1], scores[j - 1], ties[j - 1]
    nodes[place], scores[place], ties[place] = v, value, tie
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def _drop_small(hubs: Hubs, state: _Floats, hub_nodes: _Indices, n_hubs: int, part: float) -> tuple[int, float]:
    """Keep the hubs that matter, most worth first; returns how many, and what any item can have of the others."""
    worth = np.empty(n_hubs)
    for j in range(n_hubs):
        worth[j] = state[hub_nodes[j], 0] * hubs.max[hubs.number_of[hub_nodes[j]]]
    for j in range(1, n_hubs):
        moved, node, place = worth[j], hub_nodes[j], j
        while place > 0 and worth[place - 1] < moved:
            worth[place], hub_nodes[place] = worth[place - 1], hub_nodes[place - 1]
            place -= 1
        worth[place], hub_nodes[place] = moved, node
    dropped, kept = 0.0, n_hubs
    while kept > 0 and dropped + worth[kept - 1] <= part * worth[0]:
        kept -= 1
        dropped += worth[kept]
    return kept, dropped


@njit(nogil=True, cache=True, error_model="numpy")
def _mix(rows: npt.NDArray[np.float32], which: _Indices, residuals: _Floats, out: _Floats) -> None:
    """The mixture of 16 values by the hubs' residuals: `rows` is [n_hubs, 16]."""
    for i in range(FANOUT):
        out[i] = 0.0
    for j in range(len(which)):
        row, residual = which[j], residuals[j]
        for i in range(FANOUT):
            out[i] += residual * rows[row, i]


@njit(nogil=True, cache=True, error_model="numpy")
def _worth(state: _Floats, known: _Floats, degrees: _Floats, v: int, damping_factor: float) -> Any:
    """What is known of a touched node's score without the hubs."""
    if state[v, 1] < np.inf:
        return known[v] + (1.0 - damping_factor) * state[v, 0]
    return known[v] + (state[v, 0] if degrees[v] == 0.0 else 0.0)


@njit(nogil=True, cache=True, error_model="numpy")
def _select_mixed(
    graph: Graph,
    hubs: Hubs,
    buffers: Buffers,
    n_touched: int,
    n_hubs: int,
    seeds: _Indices,
    source_hash: Any,
    damping_factor: float,
    flat: float,
    slope: float,
    nodes: _Indices,
    scores: _Floats,
    ties: npt.NDArray[np.uint64],
) -> tuple[int, float]:
    """Add what the hubs are worth: write the best of all items, of which `scores` has the best without the hubs.

    Returns how many there are, and what any other can have at most, but for what items that are not touched may lack.
    """
    state, known, _, worths, sizes, touched, frontiers = buffers[:7]
    k, degrees = len(nodes), graph.degrees
    n_blocks, n_groups = len(hubs.vectors), len(hubs.block_max)
    # Of the touched items in each block and in each group of blocks: the largest value, and the largest lack.
    buffers.blocks[:], buffers.groups[:] = 0.0, 0.0
    block_value, block_lack, block_bounds = buffers.blocks
    group_value, group_lack, bounds = buffers.groups
    for i in range(n_touched):
        place = hubs.place_of[touched[i]]
        if place >= 0:
            block = place // FANOUT
            block_value[block] = max(block_value[block], worths[i])
            block_lack[block] = max(block_lack[block], min(flat, slope * sizes[i]))
            group = block // FANOUT
            group_value[group] = max(group_value[group], block_value[block])
            group_lack[group] = max(group_lack[group], block_lack[block])
    residuals, which = np.empty(n_hubs), np.empty(n_hubs, np.int32)
    for j in range(n_hubs):
        residuals[j], which[j] = state[frontiers[0, j], 0], hubs.number_of[frontiers[0, j]]
        for group in range(n_groups):
            bounds[group] += residuals[j] * hubs.group_max[which[j], group]

    floor = np.float32(scores[k - 1] * (1.0 - _FLOAT32))
    nodes[:], scores[:] = -1, 0.0
    found, other, level = 0, 0.0, 0.0
    for group in range(n_groups):
        bounds[group] = (bounds[group] + group_value[group]) * _ROUNDING
        level = max(level, bounds[group])
    # A group's blocks have bounds once it is opened, and its own is 0 then; so is a block's once it has been looked at.
    row = np.empty(FANOUT)
    # From the most promising down, until none that is left can have one of the best.
    while level > 0.0:
        level = level * 0.7 if np.float32(level) >= floor and level > _DUST else 0.0
        for group in range(n_groups):
            first = group * FANOUT
            if bounds[group] > level and np.float32(bounds[group]) >= floor:
                bounds[group] = 0.0
                _mix(hubs.block_max[group], which, residuals, row)
                for i in range(FANOUT):
                    block_bounds[first + i] = (row[i] + block_value[first + i]) * _ROUNDING
            elif bounds[group] > 0.0:
                continue
            for block in range(first, first + FANOUT):
                if block_bounds[block] <= level or np.float32(block_bounds[block]) < floor:
                    continue
                block_bounds[block] = 0.0
                _mix(hubs.vectors[block], which, residuals, row)
                for i in range(FANOUT):
                    v = hubs.nodes[block * FANOUT + i]
                    if v < 0:
                        continue
                    worth, lack = row[i], 0.0
                    if state[v, 0] > 0.0:
                        worth += _worth(state, known, degrees, v, damping_factor)
                        lack = min(flat, slope * degrees[v])
                    if worth <= 0.0 or np.float32(worth) < floor:
                        other = max(other, worth + lack)
                        continue
                    if _is_excluded(graph.groups, seeds, v):
                        continue
                    last = scores[k - 1]
                    out = _insert(v, worth, tie_order(source_hash, graph.id_hashes[v]), found, nodes, scores, ties)
                    if out < 0:
                        found += 1
                    else:
                        other = max(other, (worth if out == v else last) + min(flat, slope * degrees[out]))
                if found == k:
                    floor = max(floor, np.float32(scores[k - 1]))
    for group in range(n_groups):
        if bounds[group] > 0.0:
            other = max(other, bounds[group] + group_lack[group])
    for block in range(n_blocks):
        if block_bounds[block] > 0.0:
            other = max(other, block_bounds[block] + block_lack[block])
    return found, other


@njit(nogil=True, cache=True, error_model="numpy")
def _select(
    graph: Graph,
    hubs: Hubs,
    buffers: Buffers,
    n_touched: int,
    seeds: _Indices,
    damping_factor: float,
    tie_tolerance: float,
    nodes: _Indices,
    scores: _Floats,
    ties: npt.NDArray[np.uint64],
) -> tuple[float, float, bool]:
    """Write the best so far; returns how much a score may lack, the residual left, and whether the set is proven."""
    degrees = graph.degrees
    state, known, _, worths, sizes, touched, frontiers = buffers[:7]
    k = len(nodes)
    # What is left: in ordinary nodes, and in hubs, whose numbers go into a frontier that is not in use.
    left, ratio, in_hubs, n_hubs, is_closed = 0.0, 0.0, 0.0, 0, True
    hub_nodes = frontiers[0]
    for i in range(n_touched):
        # Not by `_worth`: a call with so many arrays costs more than all of this.
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
    share = flat / graph.total_degree if is_reversible and n_hubs == 0 and left > _DUST else 0.0
    from_hubs = in_hubs * hubs.error
    if n_hubs > 0:
        n_hubs, dropped = _drop_small(hubs, state, hub_nodes, n_hubs, 0.01 * tie_tolerance)
        from_hubs += dropped

    nodes[:], scores[:] = -1, 0.0
    found, other, floor = 0, 0.0, np.float32(0.0)
    # What is known of each without the hubs; the k-th of these is a floor that the best of all cannot be below.
    for i in range(n_touched):
        # Most are passed over here: without a call, and without a look at what else is known of the node.
        v, worth = touched[i], worths[i] + share * sizes[i]
        if np.float32(worth) < floor:
            most = worth - share * sizes[i] + min(flat, slope * sizes[i])
            if most > other and graph.is_neighbor[v]:
                other = most
            continue
        if not graph.is_neighbor[v]:
            continue
        if _is_excluded(graph.groups, seeds, v):
            continue
        last = scores[k - 1]
        out = _insert(v, worth, tie_order(source_hash, graph.id_hashes[v]), found, nodes, scores, ties)
        if out < 0:
            found += 1
        else:
            known_of_out = (worth if out == v else last) - share * degrees[out]
            other = max(other, known_of_out + min(flat, slope * degrees[out]))
        if found == k:
            floor = np.float32(scores[k - 1])

    if n_hubs > 0:
        found, other = _select_mixed(
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
    # Items that nothing has touched: the one with the largest degree lacks most.
    unseen = 0.0
    if not is_closed:
        unseen = flat
        if is_reversible:
            for v in graph.by_degree:
                if state[v, 0] == 0.0:
                    unseen = min(flat, slope * degrees[v])
                    break
    largest, least = 0.0, np.inf
    for i in range(found):
        largest = max(largest, degrees[nodes[i]])
        least = min(least, scores[i] - share * degrees[nodes[i]])
    error = min(flat, slope * largest) if found > 0 else unseen
    if n_hubs > 0:
        # The vectors of the hubs are rounded down to float32.
        error += from_hubs + _FLOAT32 * scores[0]
        other = (other + unseen) * (1.0 + _FLOAT32) + from_hubs
    # With fewer than k, all that has any score is there, if what lies beneath the precision counts as none.
    threshold = least * (1.0 + tie_tolerance) if found == k else from_hubs + unseen * (left < _DUST)
    return error, left, max(other, unseen) <= threshold


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
    state, known, _, _, _, touched, frontiers = buffers[:7]
    ties = np.empty(nodes.shape[1], np.uint64)
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
            errors[row], left, proven[row] = _select(
                graph, hubs, buffers, n_touched, own, damping_factor, tie_tolerance, nodes[row], scores[row], ties
            )
            if proven[row] or max_work == 0 or not is_done or left < _DUST:
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
