"""What `top_k_ppr` states of its results, against exact scores: errors, proven sets, limits; with and without hubs."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Array, make_projection, random_graph, solve, weight_matrices
from hypothesis import given
from hypothesis import strategies as st

from graphstore.ppr import TopK, exact_ppr, top_k_ppr
from graphstore.ppr.hubs import hub_vectors
from graphstore.projection.projection import Projection

#: What sums in another order may differ by.
ROUNDING = 1e-12


def check(top: TopK, projection: Projection, exact: Array, sources: list[int], tie_tolerance: float = 1e-3) -> None:
    """Everything that the result states is true of the `exact` scores [n_sources, n_nodes]."""
    for row, source in enumerate(sources):
        found = top.nodes[row][top.nodes[row] >= 0]
        scores = top.scores[row][: len(found)]
        assert np.all(np.abs(exact[row][found] - scores) <= top.errors[row] + exact[row][found] * 1e-9 + ROUNDING)
        if top.proven[row]:
            last = scores[-1] if len(found) == top.nodes.shape[1] else 0.0
            others = projection.is_neighbor.copy()
            others[found] = False
            others &= projection.groups != projection.groups[source]
            others[source] = False
            assert np.all(exact[row][others] <= last * (1 + tie_tolerance) + 1e-9)


@given(weight_matrices(), st.floats(0.1, 0.95), st.sampled_from([0.1, 1e-2, 1e-4]), st.data())
def test_a_score_lacks_no_more_than_epsilon_times_degree(
    weights: Array, damping_factor: float, epsilon: float, data: st.DataObject
) -> None:
    source = data.draw(st.integers(0, len(weights) - 1))
    projection = make_projection(weights)
    top = top_k_ppr(projection, [source], k=len(weights), damping_factor=damping_factor, epsilon=epsilon)
    exact = solve(weights, source, damping_factor)
    check(top, projection, exact[None], [source])
    scores = np.zeros(len(weights))
    found = top.nodes[0][top.nodes[0] >= 0]
    scores[found] = top.scores[0][: len(found)]
    scores[source] = exact[source]
    # Also of those that are not found.
    mean = weights[weights > 0].mean() if weights.any() else 1.0
    assert np.all(exact - scores <= damping_factor * epsilon * projection.degrees / mean + ROUNDING)


@given(weight_matrices(), st.booleans(), st.integers(1, 6), st.integers(0, 3), st.integers(0, 200), st.data())
def test_what_is_stated_is_true(
    weights: Array, one_way: bool, k: int, n_source_only: int, max_work: int, data: st.DataObject
) -> None:
    n = len(weights)
    source_only = tuple(range(min(n_source_only, n - 1)))
    if one_way:
        weights = weights * np.array(data.draw(st.lists(st.booleans(), min_size=n * n, max_size=n * n))).reshape(n, n)
    groups = np.array(data.draw(st.lists(st.integers(0, n), min_size=n, max_size=n)), dtype=np.int32)
    projection = make_projection(weights, source_only=source_only, groups=groups, is_symmetric=not one_way)
    sources = list(range(n))
    exact = exact_ppr(projection, sources)
    for epsilon in (0.5, 1e-3):
        top = top_k_ppr(projection, sources, k=k, epsilon=epsilon, max_work=max_work or None)
        check(top, projection, exact, sources)
        if max_work:
            assert np.all(top.work <= max_work)
    largest = projection.degrees.max() if n else 1.0
    best = top_k_ppr(projection, sources, k=k, epsilon=1e-14 / max(largest, 1.0))
    for row in sources:
        found = best.nodes[row][best.nodes[row] >= 0]
        eligible = projection.is_neighbor & (groups != groups[row]) & (np.arange(n) != row)
        expected = np.sort(exact[row][eligible & (exact[row] > 1e-9)])[::-1][:k]
        np.testing.assert_allclose(exact[row][found][: len(expected)], expected, rtol=1e-6, atol=1e-10)


@pytest.mark.slow
@given(weight_matrices(), st.integers(1, 4), st.integers(1, 6), st.sampled_from([0.1, 1e-3, 1e-6]), st.booleans())
def test_hubs_change_nothing_but_the_work(weights: Array, min_edges: int, k: int, epsilon: float, refine: bool) -> None:
    source_only = (0,)
    projection = make_projection(weights, source_only=source_only)
    sources = list(range(len(weights)))
    hubs = hub_vectors(projection, min_edges=min_edges)
    exact = exact_ppr(projection, sources)
    max_work = 100_000 if refine else None
    top = top_k_ppr(projection, sources, k=k, epsilon=epsilon, hubs=hubs, max_work=max_work)
    check(top, projection, exact, sources)


@pytest.fixture(scope="module")
def large() -> tuple[Projection, Array]:
    """1,500 items in small groups of their own entity, each also with one or two of 12 hubs; and the exact scores."""
    n_items, n_small, n_hubs = 1500, 300, 12
    rng = np.random.default_rng(3)
    weights = np.zeros((n_items + n_small + n_hubs,) * 2)
    for entities in (
        rng.integers(0, n_small, n_items),
        n_small + rng.integers(0, n_hubs // 2, n_items),
        n_small + rng.integers(n_hubs // 2, n_hubs, n_items),
    ):
        weights[np.arange(n_items), n_items + entities] = rng.random(n_items) + 0.5
    weights += weights.T
    projection = make_projection(weights, n_items=n_items)
    return projection, exact_ppr(projection, np.arange(40))


def test_what_continues_is_estimated_by_the_degrees(large: tuple[Projection, Array]) -> None:
    """Half of the walks still continue here: with their part by degree the scores are close, and above and below."""
    projection, exact = large
    top = top_k_ppr(projection, np.arange(40), k=20, epsilon=1e-4)
    wrong = np.concatenate(
        [scores - exact[row][nodes] for row, (nodes, scores) in enumerate(zip(*top[:2], strict=True))]
    )
    assert np.abs(wrong).mean() < 0.1 * top.errors.mean()
    assert 0.05 < (wrong > 0).mean() < 0.95


def test_an_item_that_only_a_source_only_node_leads_to() -> None:
    weights = np.zeros((4, 4))
    for one, other in ((0, 1), (0, 2), (1, 3)):
        weights[one, other] = weights[other, one] = 1.0
    projection = make_projection(weights, source_only=(0,))
    top = top_k_ppr(projection, [0], k=3, epsilon=0.1)
    check(top, projection, exact_ppr(projection, [0]), [0])
    assert top.scores[0, top.nodes[0] == 2] == pytest.approx(0.425)


def test_a_factor_of_all_weights_changes_nothing() -> None:
    one, other = (
        top_k_ppr(make_projection(weights), np.arange(100), k=20, epsilon=1e-3)
        for weights in (random_graph(), 2.0**-9 * random_graph())
    )
    for a, b in zip(one, other, strict=True):
        assert a.tobytes() == b.tobytes()


def test_candidates_are_known_a_step_further_than_the_push_went() -> None:
    """Their bounds too: what may be lacking has continued once more, or oftener, from candidate to candidate."""
    projection, sources = make_projection(random_graph()), list(range(100))
    exact = exact_ppr(projection, sources)
    top = top_k_ppr(projection, sources, k=20, epsilon=1e-3)
    check(top, projection, exact, sources)
    largest = projection.degrees[top.nodes].max(axis=1) / projection.weights.mean()
    assert np.all(top.errors <= 0.85**2 * 1e-3 * largest)
    wrong = [np.abs(scores - exact[row][nodes]) for row, (nodes, scores) in enumerate(zip(*top[:2], strict=True))]
    assert np.mean(wrong) < 0.05 * top.errors.mean()


@pytest.mark.slow
@pytest.mark.parametrize("with_hubs", [False, True])
def test_refining_proves_the_best(large: tuple[Projection, Array], with_hubs: bool) -> None:
    projection, exact = large
    hubs = hub_vectors(projection, min_edges=50) if with_hubs else None
    if hubs is not None:
        assert len(hubs.nodes) == 12
    sources = list(range(40))
    top = top_k_ppr(projection, sources, k=20, epsilon=1e-4, max_work=10_000_000, tie_tolerance=1e-6, hubs=hubs)
    assert top.proven.all()
    check(top, projection, exact, sources, 1e-6)
    for row in sources:
        scores = exact[row].copy()
        scores[1500:] = scores[row] = 0
        assert set(top.nodes[row].tolist()) == set(np.argsort(-scores)[:20].tolist())
    rough = top_k_ppr(projection, sources, k=20, epsilon=1e-4, max_work=10_000_000, tie_tolerance=0.5, hubs=hubs)
    assert rough.proven.all()
    assert rough.work.sum() < top.work.sum()
    check(rough, projection, exact, sources, 0.5)


def test_hubs_save_work(large: tuple[Projection, Array]) -> None:
    projection, exact = large
    hubs = hub_vectors(projection, min_edges=50)
    options = {"k": 20, "epsilon": 1e-4, "max_work": 10_000_000}
    plain = top_k_ppr(projection, np.arange(40), **options)
    with_hubs = top_k_ppr(projection, np.arange(40), **options, hubs=hubs)
    assert plain.proven.all()
    assert with_hubs.proven.all()
    assert with_hubs.work.sum() * 3 < plain.work.sum()
    check(with_hubs, projection, exact, list(range(40)))


def test_hubs_within_a_budget_are_the_largest(large: tuple[Projection, Array]) -> None:
    projection, exact = large
    edges = np.diff(projection.offsets)
    hubs = hub_vectors(projection, min_edges=50, max_bytes=4 * 1536 * 5)
    assert len(hubs.nodes) == 5
    assert edges[hubs.nodes].min() >= np.sort(edges)[-5]
    check(top_k_ppr(projection, np.arange(40), k=20, hubs=hubs), projection, exact, list(range(40)))
    assert len(hub_vectors(projection, min_edges=10_000).nodes) == 0


def test_hubs_of_another_walk_are_refused(large: tuple[Projection, Array]) -> None:
    projection, _ = large
    hubs = hub_vectors(projection, min_edges=50, damping_factor=0.5)
    with pytest.raises(ValueError, match="another projection or damping factor"):
        top_k_ppr(projection, [0], k=1, hubs=hubs)
    with pytest.raises(ValueError, match="another projection or damping factor"):
        top_k_ppr(make_projection(random_graph(30)), [0], k=1, damping_factor=0.5, hubs=hubs)


def test_any_number_of_threads_gives_the_same_hubs_and_bits(large: tuple[Projection, Array]) -> None:
    projection, _ = large
    results = [
        top_k_ppr(
            projection,
            np.arange(100),
            k=20,
            epsilon=1e-3,
            max_work=20_000,
            hubs=hub_vectors(projection, min_edges=50, threads=threads),
            threads=threads,
        )
        for threads in (1, 3)
    ]
    for one, other in zip(*results, strict=True):
        assert one.tobytes() == other.tobytes()


def test_items_that_only_a_hub_leads_to_are_found_however_large_it_is() -> None:
    """Of the items with the source's hub, one that shares a second is first; the others tie, by their hashes."""
    n = 600
    weights = np.zeros((n + 2, n + 2))
    weights[:n, n] = weights[n, :n] = 1.0
    weights[[0, 7], n + 1] = weights[n + 1, [0, 7]] = 1.0
    projection = make_projection(weights, n_items=n)
    hubs = hub_vectors(projection, min_edges=2)
    top = top_k_ppr(projection, np.arange(50), k=10, epsilon=1e-2, hubs=hubs, max_work=100_000)
    assert top.proven.all()
    assert top.nodes[0, 0] == 7
    assert set(top.nodes[1:7, :2].ravel().tolist()) == {0, 7}
    assert np.unique(np.float32(top.scores[1:7, 2:])).size == 1
    assert np.bincount(top.nodes[1:7, 2:].ravel()).max() < 6
