"""Explanations of neighbors, against the likeliest walks that a brute-force search finds."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from graphs import Array, make_projection, weight_matrices
from hypothesis import given
from sources import HOKUSAI, MONET, entity, item, publish, relation

from graphstore.loading.load import load_source
from graphstore.ppr import best_paths
from graphstore.projection.projection import project
from graphstore.projection.settings import WalkSettings
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot


def _probability_of_best(weights: Array, source: int, longest: int) -> Array:
    """[n_nodes], of the likeliest path of at most so many steps, by trying all."""
    degrees = weights.sum(axis=1)
    steps = np.divide(0.85 * weights, degrees[:, None], out=np.zeros_like(weights), where=degrees[:, None] > 0)
    best = now = np.eye(len(weights))[source]
    for _ in range(longest):
        now = (now[:, None] * steps).max(axis=0)
        best = np.maximum(best, now)
    return best


def _probability_of(weights: Array, path: list[int]) -> Any:
    return np.prod([0.85 * weights[a, b] / weights[a].sum() for a, b in itertools.pairwise(path)])


@pytest.mark.slow
@given(weight_matrices())
def test_the_path_is_the_likeliest(weights: Array) -> None:
    n = len(weights)
    nodes = np.array([[v for v in range(n) if v != source] for source in range(n)], dtype=np.int32)
    for source, row in enumerate(best_paths(make_projection(weights), np.arange(n), nodes)):
        within_4, any_length = _probability_of_best(weights, source, 4), _probability_of_best(weights, source, n)
        for node, text in zip(nodes[source].tolist(), row, strict=True):
            if text == "indirect":
                assert within_4[node] == 0
                continue
            between = [] if text == "R" else [int(step.removeprefix("R n")) for step in text.split(" > ")]
            probability = _probability_of(weights, [source, *between, node])
            assert within_4[node] * (1 - 1e-9) <= probability <= any_length[node] * (1 + 1e-9)


def test_a_path_through_hubs_is_found_within_the_limit() -> None:
    # 0 - hub - 1..900; 900 - small - 901; 0 - small2 - 902 - hub2 - 903..1800
    n = 1801
    hub, hub2, small, small2 = n, n + 1, n + 2, n + 3
    weights = np.zeros((n + 4, n + 4))
    for a, others in (
        (hub, [0, *range(1, 901)]),
        (small, [900, 901]),
        (small2, [0, 902]),
        (hub2, list(range(902, 1801))),
    ):
        weights[a, others] = weights[others, a] = 1.0
    projection = make_projection(weights, n_items=n)
    assert best_paths(projection, [0, 0], [[5, 901, 902], [1000, -1, -1]], max_work=100) == [
        [f"R n{hub}", f"R n{hub} > R n900 > R n{small}", f"R n{small2}"],
        [f"R n{small2} > R n902 > R n{hub2}"],
    ]


def test_influence_is_a_path(store: GraphStore, data: DataRoot) -> None:
    publish(
        data,
        "art",
        [item("art:1"), item("art:2")],
        [entity(MONET), entity(HOKUSAI)],
        [
            relation("CREATED_BY", "art:1", MONET),
            relation("INFLUENCED_BY", MONET, HOKUSAI),
            relation("CREATED_BY", "art:2", HOKUSAI),
        ],
    )
    load_source(store, data, "art")
    assert best_paths(project(store), [0, 1], [[1], [0]]) == [
        [f"CREATED_BY {MONET} > INFLUENCED_BY {HOKUSAI}"],
        [f"CREATED_BY {HOKUSAI} > INFLUENCED_BY {MONET}"],
    ]
    one_way = project(store, WalkSettings(directions={"INFLUENCED_BY": "forward"}))
    assert best_paths(one_way, [0, 1], [[1], [0]]) == [
        [f"CREATED_BY {MONET} > INFLUENCED_BY {HOKUSAI}"],
        ["indirect"],
    ]
