"""Personalized PageRank, against the linear system and walks on the expanded graph; what is projected and explained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Array, bipartite_graphs, make_projection, random_graph, solve, weight_matrices
from hypothesis import given
from hypothesis import strategies as st
from sources import LANDSCAPE, MONET, entity, item, publish, publish_art, relation

from graphstore.loading.load import load_source
from graphstore.ppr import best_paths, exact_ppr, implied_edges, top_k_ppr
from graphstore.ppr.compiled_with import marked_sources
from graphstore.projection.projection import Projection, project
from graphstore.projection.settings import WalkSettings
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError


@given(weight_matrices(), st.floats(0.05, 0.95), st.data())
def test_exact_ppr_solves_the_linear_system(weights: Array, damping_factor: float, data: st.DataObject) -> None:
    source = data.draw(st.integers(0, len(weights) - 1))
    scores = exact_ppr(make_projection(weights), [source], damping_factor=damping_factor)[0]
    np.testing.assert_allclose(scores, solve(weights, source, damping_factor), atol=1e-11)
    assert abs(scores.sum() - 1) < 1e-11


@given(weight_matrices(), st.integers(1, 5), st.data())
def test_top_k_is_the_order_of_the_exact_scores(weights: Array, k: int, data: st.DataObject) -> None:
    source = data.draw(st.integers(0, len(weights) - 1))
    top = top_k_ppr(make_projection(weights), [source], k=k, epsilon=1e-10)
    exact = exact_ppr(make_projection(weights), [source])[0]
    exact[source] = 0
    found = top.nodes[0][top.nodes[0] >= 0]
    np.testing.assert_allclose(top.scores[0][: len(found)], np.sort(exact)[::-1][: len(found)], atol=1e-7)
    np.testing.assert_allclose(top.scores[0][: len(found)], exact[found], atol=1e-7)
    assert len(found) == min(k, int((exact > 0).sum()))
    assert len(set(found.tolist())) == len(found)


@given(weight_matrices(), st.data())
def test_several_sources_are_the_weighted_mean_of_each(weights: Array, data: st.DataObject) -> None:
    node = st.integers(0, len(weights) - 1)
    seeds = data.draw(st.dictionaries(node, st.floats(0.1, 10), min_size=1, max_size=3))
    projection = make_projection(weights)
    mean = sum(weight * solve(weights, seed, 0.85) for seed, weight in seeds.items()) / sum(seeds.values())
    np.testing.assert_allclose(exact_ppr(projection, [seeds])[0], mean, atol=1e-11)
    top = top_k_ppr(projection, [seeds, 0], k=len(weights), epsilon=1e-12)
    found = top.nodes[0][top.nodes[0] >= 0]
    assert not set(found.tolist()) & seeds.keys()
    np.testing.assert_allclose(top.scores[0][: len(found)], mean[found], atol=1e-9)
    assert len(found) == int((np.delete(mean, list(seeds)) > 0).sum())
    assert top.nodes[1].tolist() == top_k_ppr(projection, [0], k=len(weights), epsilon=1e-12).nodes[0].tolist()


def test_any_number_of_threads_gives_the_same_bits() -> None:
    projection = make_projection(random_graph(), n_items=300)
    sources = np.arange(300)
    one = top_k_ppr(projection, sources, k=20, threads=1)
    for threads in (2, 3, 7):
        other = top_k_ppr(projection, sources, k=20, threads=threads)
        for a, b in zip(one, other, strict=True):
            assert a.tobytes() == b.tobytes()
    shuffled = np.random.default_rng(1).permutation(sources)
    assert np.array_equal(top_k_ppr(projection, shuffled, k=20).nodes, one.nodes[shuffled])


def test_only_neighbors_outside_the_group_are_returned() -> None:
    weights = random_graph(60)
    groups = (np.arange(60) // 3).astype(np.int32)
    groups[50:] = -1
    projection = make_projection(weights, n_items=50, groups=groups, source_only=(3, 4))
    top = top_k_ppr(projection, np.arange(60), k=60)
    for source in range(60):
        found = top.nodes[source][top.nodes[source] >= 0]
        assert np.all(projection.is_neighbor[found])
        assert source not in found
        assert not np.any(groups[found] == groups[source]) or groups[source] == -1
        assert not {3, 4} & set(found.tolist())


def test_a_source_only_node_can_be_a_source_but_is_never_passed_through() -> None:
    # 0 - 1 (source-only) - 2: nothing of a walk from 0 arrives at 2; a walk from 1 arrives at both, and ends there.
    weights = np.zeros((3, 3))
    weights[0, 1] = weights[1, 0] = weights[1, 2] = weights[2, 1] = 1.0
    projection = make_projection(weights, source_only=(1,))
    assert top_k_ppr(projection, [0], k=3).nodes.tolist() == [[-1, -1, -1]]
    top = top_k_ppr(projection, [1], k=3)
    assert sorted(top.nodes[0].tolist()) == [-1, 0, 2]
    np.testing.assert_allclose(top.scores[0][:2], 0.425)
    np.testing.assert_allclose(exact_ppr(projection, [1])[0], [0.425, 0.15, 0.425], atol=1e-12)


def test_ties_favor_nobody() -> None:
    """One artist with 100 works: every work is as near to each as any other, and each is chosen about equally often."""
    n = 100
    weights = np.zeros((n + 1, n + 1))
    weights[:n, n] = weights[n, :n] = 1.0
    top = top_k_ppr(make_projection(weights, n_items=n), np.arange(n), k=10, epsilon=1e-4)
    assert np.unique(top.scores.astype(np.float32)).size == 1
    chosen = np.bincount(top.nodes.ravel(), minlength=n)
    assert chosen.max() < 25


@given(bipartite_graphs(), st.floats(0.1, 5.0), st.floats(0.2, 0.95), st.data())
def test_exponent_1_is_the_walk_on_the_expanded_graph(
    graph: tuple[int, list[tuple[int, int, int]]], factor: float, damping_factor: float, data: st.DataObject
) -> None:
    n, links = graph
    source = data.draw(st.integers(0, n - 1))
    # Expanded by brute force: every two items that share an entity, and each with itself.
    type_weights = (1.0, factor)
    pairs = np.zeros((n, n))
    for a, type_a, entity_a in links:
        for b, type_b, entity_b in links:
            if (type_a, entity_a) == (type_b, entity_b):
                pairs[a, b] += type_weights[type_a]
    # Through the entities: weight of the type times the number of items that share the entity.
    sizes: dict[tuple[int, int], int] = {}
    for _, type_, entity_ in links:
        sizes[type_, entity_] = sizes.get((type_, entity_), 0) + 1
    weights = np.zeros((n + 8, n + 8))
    for a, type_, entity_ in links:
        e = n + 4 * type_ + entity_
        weights[a, e] = weights[e, a] = type_weights[type_] * sizes[type_, entity_]
    expanded = solve(pairs, source, damping_factor)
    projection = make_projection(weights, n_items=n)
    # Every second step is the way through an entity, and half a step of the expanded walk.
    half = np.sqrt(damping_factor)
    scores = (1 + half) * exact_ppr(projection, [source], damping_factor=half)[0, :n]
    if any(a == source for a, _, _ in links):
        np.testing.assert_allclose(scores, expanded, atol=1e-9)
    top = top_k_ppr(projection, [source], k=n, damping_factor=damping_factor, epsilon=1e-14, expanded=True)
    found = top.nodes[0][top.nodes[0] >= 0]
    np.testing.assert_allclose(top.scores[0][: len(found)], expanded[found], atol=1e-9)
    assert set(found.tolist()) == set(np.flatnonzero(expanded > 0).tolist()) - {source}


def test_the_expanded_walk_needs_items_and_entities_only() -> None:
    with pytest.raises(ValueError, match="between an item and an entity"):
        top_k_ppr(make_projection(np.ones((3, 3)) - np.eye(3)), [0], k=1, expanded=True)


def test_implied_edges_are_the_pairs_that_share_an_entity() -> None:
    weights = np.zeros((9, 9))
    for item_, entity_ in [(0, 7), (1, 7), (2, 7), (2, 8), (3, 8), (4, 8), (5, 8)]:
        weights[item_, entity_] = weights[entity_, item_] = 1.0
    assert implied_edges(make_projection(weights, n_items=7)) == {"R": 3 + 6}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([3], "not one of the 3 nodes"),
        ([-1], "not one of the 3 nodes"),
        ([{0: float("nan")}], "finite"),
        ([{0: 2.0, 1: -1.0}], "not negative"),
        ([{0: 0.0}], "above 0"),
        ([0, {}], "above 0"),
    ],
)
def test_sources_that_are_none(sources: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        top_k_ppr(make_projection(np.ones((3, 3)) - np.eye(3)), sources, k=1)


def _load_art(store: GraphStore, data: DataRoot) -> None:
    publish_art(data)
    load_source(store, data, "art")


def _edges(projection: Projection) -> dict[tuple[str, str, str], float]:
    starts = np.repeat(np.arange(len(projection.ids)), np.diff(projection.offsets))
    ids = projection.ids.to_pylist()
    return {
        (ids[start], projection.type_names[type_], ids[target]): weight
        for start, type_, target, weight in zip(
            starts, projection.types, projection.targets, projection.weights, strict=True
        )
    }


def test_projection_has_both_directions_and_equal_shares_per_type(store: GraphStore, data: DataRoot) -> None:
    _load_art(store, data)
    projection = project(store)
    edges = _edges(projection)
    assert projection.items["item_id"].to_pylist() == [f"art:{n}" for n in range(1, 6)]
    assert len(edges) == 2 * 7
    assert all(edges[b, type_, a] == weight for (a, type_, b), weight in edges.items())
    # All artists and genres here have two works, so each relation is an average one.
    assert edges["art:1", "CREATED_BY", MONET] == edges["art:1", "IN_GENRE", LANDSCAPE] == 1.0
    weighted = _edges(project(store, WalkSettings(relation_weights={"CREATED_BY": 3.0, "IN_GENRE": 0.0})))
    assert weighted["art:1", "CREATED_BY", MONET] == 3.0
    assert not any(type_ == "IN_GENRE" for _, type_, _ in weighted)
    with pytest.raises(Graph2ImageError, match="no relation type 'PAINTED_BY'"):
        project(store, WalkSettings(relation_weights={"PAINTED_BY": 1.0}))


def test_a_hub_gets_the_share_of_its_type_and_ranks_little(store: GraphStore, data: DataRoot) -> None:
    items = [item(f"shop:{n:02}", "Product") for n in range(40)]
    look, season = "shop/Look/{}", "shop/Season/summer"
    relations = [relation("HAS_LOOK", f"shop:{n:02}", look.format(n // 4)) for n in range(40)]
    relations += [relation("IN_SEASON", f"shop:{n:02}", season) for n in range(40)]
    publish(data, "shop", items, [entity(look.format(n)) for n in range(10)] + [entity(season)], relations)
    load_source(store, data, "shop")
    projection = project(store)
    edges = _edges(projection)
    assert edges["shop:00", "HAS_LOOK", look.format(0)] == pytest.approx(1.0)
    assert edges["shop:00", "IN_SEASON", season] == pytest.approx(1.0)
    top = top_k_ppr(projection, [0], k=5)
    assert sorted(top.nodes[0][:3].tolist()) == [1, 2, 3]
    assert top.scores[0, 2] > 3 * top.scores[0, 3]


def test_test_items_are_source_only_and_opted_out_items_are_not_there(store: GraphStore, data: DataRoot) -> None:
    items = [item("art:1"), item("art:2", split="test"), item("art:3", opted_out=True), item("art:4", image_hash=None)]
    publish(data, "art", items, [entity(MONET)], [relation("CREATED_BY", f"art:{n}", MONET) for n in range(1, 5)])
    load_source(store, data, "art")
    projection = project(store)
    assert projection.ids.to_pylist() == ["art:1", "art:2", "art:4", MONET]
    assert projection.is_neighbor.tolist() == [True, False, False, False]
    edges = _edges(projection)
    assert ("art:2", "CREATED_BY", MONET) in edges
    assert (MONET, "CREATED_BY", "art:2") not in edges
    assert (MONET, "CREATED_BY", "art:4") in edges  # without an image it is no neighbor, but walks pass through it
    everyone = project(store, WalkSettings(neighbor_splits=("train", "test")))
    assert everyone.is_neighbor.tolist() == [True, True, False, False]


def test_an_empty_store_and_a_graph_without_relations(store: GraphStore, data: DataRoot) -> None:
    with pytest.raises(Graph2ImageError, match="no items in the graph store"):
        project(store)
    publish(data, "art", [item("art:1"), item("art:2")])
    load_source(store, data, "art")
    projection = project(store)
    assert top_k_ppr(projection, [0, 1], k=2).nodes.tolist() == [[-1, -1], [-1, -1]]
    np.testing.assert_array_equal(exact_ppr(projection, [0])[0], [1.0, 0.0])


def test_best_paths_name_what_lies_between(store: GraphStore, data: DataRoot) -> None:
    publish(
        data,
        "art",
        [item(f"art:{n}") for n in range(1, 6)],
        [entity(MONET), entity(LANDSCAPE)],
        [
            relation("CREATED_BY", "art:1", MONET),
            relation("CREATED_BY", "art:2", MONET),
            relation("IN_GENRE", "art:1", LANDSCAPE),
            relation("IN_GENRE", "art:2", LANDSCAPE),
            relation("IN_GENRE", "art:3", LANDSCAPE),
            relation("SIMILAR_TO", "art:4", "art:1"),
            relation("SIMILAR_TO", "art:4", "art:5"),
        ],
    )
    load_source(store, data, "art")
    projection = project(store, WalkSettings(entity_exponent=0.0))
    assert best_paths(projection, [0, 2], [[1, 2, 3, 4], [3, -1, -1, -1]]) == [
        [f"CREATED_BY {MONET}", f"IN_GENRE {LANDSCAPE}", "SIMILAR_TO", "SIMILAR_TO art:4"],
        [f"IN_GENRE {LANDSCAPE} > IN_GENRE art:1"],
    ]


def test_kernels_say_what_they_were_compiled_with() -> None:
    marked = marked_sources()
    assert "selection.py" in {path.name for path in marked}
    outdated = [path.name for path, source in marked.items() if source != path.read_text()]
    assert not outdated, "run `make kernels`"


@pytest.mark.slow
def test_a_new_process_does_not_compile_again() -> None:
    top_k_ppr(make_projection(np.ones((2, 2)) - np.eye(2)), [0], k=1)
    code = (
        "import time, numpy as np\n"
        "from graphstore.ppr import top_k_ppr\n"
        "from graphstore.ppr.selection import top_k\n"
        "from graphs import make_projection\n"
        "top_k_ppr(make_projection(np.ones((2, 2)) - np.eye(2)), [0], k=1)\n"
        "assert top_k.stats.cache_hits and not top_k.stats.cache_misses, top_k.stats\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
