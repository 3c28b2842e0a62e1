"""Small graphs as projections, and their scores by another way than ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import strategies as st

from graphstore.projection.projection import Projection

Array = npt.NDArray[Any]


def make_projection(
    weights: Array,
    *,
    n_items: int | None = None,
    groups: Array | None = None,
    source_only: tuple[int, ...] = (),
    is_symmetric: bool = True,
) -> Projection:
    """A projection with the edges of the matrix `weights`; its last nodes are entities."""
    n_nodes = len(weights)
    n_items = n_nodes if n_items is None else n_items
    weights = weights.copy()
    weights[:, list(source_only)] = 0
    starts, targets = np.nonzero(weights)
    is_neighbor = np.arange(n_nodes) < n_items
    is_neighbor[list(source_only)] = False
    return Projection(
        items=pa.table({"item_id": [f"n{i}" for i in range(n_items)]}),
        ids=pa.array([f"n{i}" for i in range(n_nodes)]),
        id_hashes=np.arange(n_nodes, dtype=np.uint32),
        is_neighbor=is_neighbor,
        groups=np.where(is_neighbor, np.arange(n_nodes), -1).astype(np.int32) if groups is None else groups,
        offsets=np.searchsorted(starts, np.arange(n_nodes + 1)).astype(np.int64),
        targets=targets.astype(np.int32),
        weights=weights[starts, targets],
        types=np.zeros(len(starts), np.int16),
        type_names=("R",),
        degrees=weights.sum(axis=1),
        is_symmetric=is_symmetric,
    )


@st.composite
def weight_matrices(draw: st.DrawFn, unit: bool = False) -> Array:
    """Symmetric, sparse, with isolated nodes and several components."""
    n = draw(st.integers(2, 12))
    matrix = np.zeros((n, n))
    value = st.just(1.0) if unit else st.floats(0.01, 100)
    node = st.integers(0, n - 1)
    for i, j, w in draw(st.lists(st.tuples(node, node, value), max_size=3 * n)):
        if i != j:
            matrix[i, j] = matrix[j, i] = w
    return matrix


def solve(weights: Array, source: int, damping_factor: float) -> Array:
    """PPR by the linear system p = (1 - d) e + d Pᵀ p; a node without edges has a loop."""
    n = len(weights)
    loops = np.diag((weights.sum(axis=1) == 0).astype(float))
    walk = (weights + loops) / (weights + loops).sum(axis=1, keepdims=True)
    return np.linalg.solve(np.eye(n) - damping_factor * walk.T, (1 - damping_factor) * np.eye(n)[source])


@st.composite
def bipartite_graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, int]]]:
    """Items, and their (item, relation type, entity) without repetition."""
    n = draw(st.integers(2, 8))
    links = draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, 1), st.integers(0, 3)), max_size=20))
    return n, sorted(links)


def random_graph(n: int = 400, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    weights = np.triu(np.where(rng.random((n, n)) < 0.02, rng.random((n, n)), 0), 1)
    return weights + weights.T
