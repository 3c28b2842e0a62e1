"""The best of a push that ended at hubs: mixtures of the hubs' vectors, of which few items are looked at."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from graphstore.ppr.push import Buffers, Graph, Hubs
from graphstore.ppr.ranking import DUST, FLOAT32, insert, is_excluded, tie_order

# compiled with: 50e9e3f74753

_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]

#: Bounds are sums in another order than what they bound.
_ROUNDING = 1.0 + 1e-12
#: Items in a block, and blocks in a group: as float32, one cache line.
FANOUT = 16


@njit(nogil=True, cache=True, error_model="numpy")
def drop_small(hubs: Hubs, state: _Floats, hub_nodes: _Indices, n_hubs: int, part: float) -> tuple[int, float]:
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
def select_mixed(
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
    state, known, _, _, worths, sizes, touched, frontiers = buffers[:8]
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

    floor = np.float32(scores[k - 1] * (1.0 - FLOAT32))
    nodes[:], scores[:] = -1, 0.0
    found, other, level = 0, 0.0, 0.0
    for group in range(n_groups):
        bounds[group] = (bounds[group] + group_value[group]) * _ROUNDING
        level = max(level, bounds[group])
    # A group's blocks have bounds once it is opened, and its own is 0 then; so is a block's once it has been looked at.
    row = np.empty(FANOUT)
    # From the most promising down, until none that is left can have one of the best.
    while level > 0.0:
        level = level * 0.7 if np.float32(level) >= floor and level > DUST else 0.0
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
                    if is_excluded(graph.groups, seeds, v):
                        continue
                    last = scores[k - 1]
                    out = insert(v, worth, tie_order(source_hash, graph.id_hashes[v]), found, nodes, scores, ties)
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
