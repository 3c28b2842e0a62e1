"""The best of a push that ended at hubs: linear combinations of hub vectors, computed for few of the items.

What the residuals at hubs add to an item's score is the sum of the hubs' vectors, each times the hub's residual.
`hubs` says how blocks of items and their largest values tell which items need not be looked at.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from graphstore.ppr.push import DEGREE, RESIDUAL, Buffers, Graph, Hubs
from graphstore.ppr.ranking import FLOAT32_ROUNDING, TOLERANCE, Best, insert, is_excluded, tie_order

# compiled with: fe8617ede945

_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]

#: Bounds are sums in another order than what they bound.
_ROUNDING = 1.0 + 1e-12
#: Items in a block, and blocks in a group: as float32, one cache line.
FANOUT = 16


class Bounds(NamedTuple):
    """What a node's score may lack at most: `uniform`, and `per_degree` times its degree."""

    uniform: float
    per_degree: float


@njit(nogil=True, cache=True, error_model="numpy")
def drop_small(hubs: Hubs, state: _Floats, hub_nodes: _Indices, n_hubs: int, share: float) -> tuple[int, float]:
    """Keep the hubs that matter, those that add most first.

    Returns how many they are, and what any item can have of the others, which is `share` of the largest part at most.
    """
    added = np.empty(n_hubs)
    for j in range(n_hubs):
        added[j] = state[hub_nodes[j], RESIDUAL] * hubs.hub_max[hubs.hub_index[hub_nodes[j]]]
    for j in range(1, n_hubs):
        moved, node, index = added[j], hub_nodes[j], j
        while index > 0 and added[index - 1] < moved:
            added[index], hub_nodes[index] = added[index - 1], hub_nodes[index - 1]
            index -= 1
        added[index], hub_nodes[index] = moved, node
    dropped, kept = 0.0, n_hubs
    while kept > 0 and dropped + added[kept - 1] <= share * added[0]:
        kept -= 1
        dropped += added[kept]
    return kept, dropped


@njit(nogil=True, cache=True, error_model="numpy")
def _combine(vectors: npt.NDArray[np.float32], rows: _Indices, residuals: _Floats, out: _Floats) -> None:
    """Write the sum of these rows of `vectors` `(n_hubs, 16)`, each times its residual."""
    for i in range(FANOUT):
        out[i] = 0.0
    for j in range(len(rows)):
        row, residual = rows[j], residuals[j]
        for i in range(FANOUT):
            out[i] += residual * vectors[row, i]


@njit(nogil=True, cache=True, error_model="numpy")
def _score_without_hubs(buffers: Buffers, degrees: _Floats, v: int, damping_factor: float) -> Any:
    """What is known of a touched node's score without the hubs."""
    state, settled = buffers.state, buffers.settled
    if state[v, DEGREE] < np.inf:
        return settled[v] + (1.0 - damping_factor) * state[v, RESIDUAL]
    return settled[v] + (state[v, RESIDUAL] if degrees[v] == 0.0 else 0.0)


@njit(nogil=True, cache=True, error_model="numpy")
def select_with_hubs(
    graph: Graph,
    hubs: Hubs,
    buffers: Buffers,
    n_touched: int,
    n_hubs: int,
    seeds: _Indices,
    source_hash: Any,
    damping_factor: float,
    bounds: Bounds,
    best: Best,
) -> tuple[int, float]:
    """Add what the hubs add: write the best of all items to `best`, which has the best without the hubs.

    The hubs are the first `n_hubs` of `buffers.frontiers[0]`. Returns how many items there are, and what any other can
    have at most, but for what items that are not touched may lack.
    """
    state, degrees = buffers.state, graph.degrees
    nodes, scores = best.nodes, best.scores
    k, n_blocks, n_groups = len(nodes), len(hubs.vectors), len(hubs.block_max)
    block_scores, block_lacks, block_bounds = buffers.block_scores, buffers.block_lacks, buffers.block_bounds
    group_scores, group_lacks, group_bounds = buffers.group_scores, buffers.group_lacks, buffers.group_bounds
    block_scores[:], block_lacks[:], block_bounds[:] = 0.0, 0.0, 0.0
    group_scores[:], group_lacks[:], group_bounds[:] = 0.0, 0.0, 0.0
    for i in range(n_touched):
        index = hubs.item_index[buffers.touched[i]]
        if index >= 0:
            block = index // FANOUT
            block_scores[block] = max(block_scores[block], buffers.touched_scores[i])
            lack = min(bounds.uniform, bounds.per_degree * buffers.touched_degrees[i])
            block_lacks[block] = max(block_lacks[block], lack)
            group = block // FANOUT
            group_scores[group] = max(group_scores[group], block_scores[block])
            group_lacks[group] = max(group_lacks[group], block_lacks[block])
    residuals, rows = np.empty(n_hubs), np.empty(n_hubs, np.int32)
    for j in range(n_hubs):
        hub = buffers.frontiers[0, j]
        residuals[j], rows[j] = state[hub, RESIDUAL], hubs.hub_index[hub]
        for group in range(n_groups):
            group_bounds[group] += residuals[j] * hubs.group_max[rows[j], group]

    floor = np.float32(scores[k - 1] * (1.0 - FLOAT32_ROUNDING))
    nodes[:], scores[:] = -1, 0.0
    n_found, other, level = 0, 0.0, 0.0
    for group in range(n_groups):
        group_bounds[group] = (group_bounds[group] + group_scores[group]) * _ROUNDING
        level = max(level, group_bounds[group])
    # A group's blocks have bounds once it is opened, and its own is 0 then; so is a block's once it has been looked at.
    combined = np.empty(FANOUT)
    # From the most promising down, until none that is left can have one of the best.
    while level > 0.0:
        level = level * 0.7 if np.float32(level) >= floor and level > TOLERANCE else 0.0
        for group in range(n_groups):
            first = group * FANOUT
            if group_bounds[group] > level and np.float32(group_bounds[group]) >= floor:
                group_bounds[group] = 0.0
                _combine(hubs.block_max[group], rows, residuals, combined)
                for i in range(FANOUT):
                    block_bounds[first + i] = (combined[i] + block_scores[first + i]) * _ROUNDING
            elif group_bounds[group] > 0.0:
                continue
            for block in range(first, first + FANOUT):
                if block_bounds[block] <= level or np.float32(block_bounds[block]) < floor:
                    continue
                block_bounds[block] = 0.0
                _combine(hubs.vectors[block], rows, residuals, combined)
                for i in range(FANOUT):
                    v = hubs.items[block * FANOUT + i]
                    if v < 0:
                        continue
                    score, lack = combined[i], 0.0
                    if state[v, RESIDUAL] > 0.0:
                        score += _score_without_hubs(buffers, degrees, v, damping_factor)
                        lack = min(bounds.uniform, bounds.per_degree * degrees[v])
                    if score <= 0.0 or np.float32(score) < floor:
                        other = max(other, score + lack)
                        continue
                    if is_excluded(graph.groups, seeds, v):
                        continue
                    last = scores[k - 1]
                    out = insert(best, n_found, v, score, tie_order(source_hash, graph.id_hashes[v]))
                    if out < 0:
                        n_found += 1
                    else:
                        lack = min(bounds.uniform, bounds.per_degree * degrees[out])
                        other = max(other, (score if out == v else last) + lack)
                if n_found == k:
                    floor = max(floor, np.float32(scores[k - 1]))
    for group in range(n_groups):
        if group_bounds[group] > 0.0:
            other = max(other, group_bounds[group] + group_lacks[group])
    for block in range(n_blocks):
        if block_bounds[block] > 0.0:
            other = max(other, block_bounds[block] + block_lacks[block])
    return n_found, other
