"""The order of scores: which of two is the better one, who takes no part, and the best so far."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

_Indices: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]

#: A residual of this much in all is rounding: it is refined no further.
TOLERANCE = 1e-13
#: More than the rounding to float32, in which scores are compared, changes one; relative.
FLOAT32_ROUNDING = 2.0**-22


class Best(NamedTuple):
    """The best so far, `(k,)` each, best first: nodes, their scores, and the hashes that order equal scores."""

    nodes: _Indices
    scores: _Floats
    ties: npt.NDArray[np.uint64]


@njit(nogil=True, cache=True, error_model="numpy")
def tie_order(source_hash: Any, node_hash: Any) -> Any:
    """A hash of both (the finalizer of splitmix64), uint64."""
    x = (np.uint64(source_hash) << np.uint64(32)) + np.uint64(node_hash) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True, error_model="numpy")
def is_excluded(groups: _Indices, seeds: _Indices, v: int) -> bool:
    """Whether `v` is one of the `seeds`, or in the group of one."""
    for seed in seeds:  # noqa: SIM110
        if v == seed or groups[v] == groups[seed]:
            return True
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def insert(best: Best, n_found: int, v: int, score: float, tie: Any) -> int:
    """Insert `v` into the first `n_found` of `best`; returns the node that does not stay (-1 if all do)."""
    nodes, scores, ties = best.nodes, best.scores, best.ties
    k = len(nodes)
    rounded, index = np.float32(score), n_found
    while index > 0 and (
        rounded > np.float32(scores[index - 1]) or (rounded == np.float32(scores[index - 1]) and tie < ties[index - 1])
    ):
        index -= 1
    if index == k:
        return v
    out = nodes[k - 1] if n_found == k else -1
    for j in range(min(n_found, k - 1), index, -1):
        nodes[j], scores[j], ties[j] = nodes[j - 1], scores[j - 1], ties[j - 1]
    nodes[index], scores[index], ties[index] = v, score, tie
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def put_best_first(k: int, n: int, nodes: _Indices, scores: _Floats, ties: npt.NDArray[np.uint64]) -> None:
    """Reorder the first `n` so that the best `k` of them come first, in any order (Hoare's quickselect)."""
    first, last = 0, n - 1
    while first < last:
        middle = (first + last) // 2
        pivot, tie = np.float32(scores[middle]), ties[middle]
        i, j = first, last
        while i <= j:
            while np.float32(scores[i]) > pivot or (np.float32(scores[i]) == pivot and ties[i] < tie):
                i += 1
            while np.float32(scores[j]) < pivot or (np.float32(scores[j]) == pivot and ties[j] > tie):
                j -= 1
            if i <= j:
                nodes[i], nodes[j] = nodes[j], nodes[i]
                scores[i], scores[j] = scores[j], scores[i]
                ties[i], ties[j] = ties[j], ties[i]
                i += 1
                j -= 1
        if k <= j:
            last = j
        elif k >= i:
            first = i
        else:
            return
