"""Means and their errors where items of a cluster are not independent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.evaluation.statistics import Floats, Interval, cluster_halves, clustered_intervals


def drawn(seed: int, clusters: int, items: int, spread: float = 1.0) -> tuple[Floats, list[str]]:
    """Values of items whose clusters differ by `spread`, about 0; and the clusters."""
    generator = np.random.default_rng(seed)
    names = [f"cluster {index % clusters}" for index in range(clusters * items)]
    effects = dict(zip(sorted(set(names)), generator.normal(0, spread, clusters), strict=True))
    noise = generator.normal(0, 0.3, len(names))
    return np.array([effects[name] + value for name, value in zip(names, noise, strict=True)])[:, None], names


def one(values: Floats, clusters: list[str]) -> Interval:
    [interval] = clustered_intervals(values, clusters)
    return interval


cases = st.tuples(st.integers(0, 2**31), st.integers(2, 12), st.integers(1, 6))


@given(cases)
@settings(max_examples=25)
def test_the_order_of_items_decides_nothing(case: tuple[int, int, int]) -> None:
    values, clusters = drawn(*case)
    order = np.random.default_rng(case[0]).permutation(len(values))
    before, after = one(values, clusters), one(values[order], [clusters[index] for index in order])
    assert before.model_dump() == pytest.approx(after.model_dump())


@given(cases, st.integers(2, 4))
@settings(max_examples=25)
def test_repeating_the_items_of_clusters_adds_no_certainty(case: tuple[int, int, int], times: int) -> None:
    values, clusters = drawn(*case)
    before, after = one(values, clusters), one(np.repeat(values, times, axis=0), [*np.repeat(clusters, times)])
    assert (after.mean, after.se, after.low, after.high) == pytest.approx(
        (before.mean, before.se, before.low, before.high)
    )
    assert after.n == times * before.n


@given(cases, st.floats(-5, 5))
@settings(max_examples=25)
def test_a_shift_moves_the_interval_and_keeps_its_width(case: tuple[int, int, int], shift: float) -> None:
    values, clusters = drawn(*case)
    before, after = one(values, clusters), one(values + shift, clusters)
    assert None not in (before.mean, before.low, before.high)
    assert (after.mean, after.low, after.high) == pytest.approx(
        (before.mean + shift, before.low + shift, before.high + shift)  # type: ignore[operator]
    )
    assert after.se == pytest.approx(before.se)


@given(cases)
@settings(max_examples=25)
def test_pairs_that_are_equal_have_no_difference(case: tuple[int, int, int]) -> None:
    values, clusters = drawn(*case)
    assert one(values - values, clusters).model_dump(include={"mean", "se", "low", "high"}) == {
        "mean": 0, "se": 0, "low": 0, "high": 0,
    }  # fmt: skip


def test_without_clusters_it_is_the_plain_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=(400, 1))
    found = one(values, [str(index) for index in range(400)])
    assert found.mean == pytest.approx(values.mean())
    assert found.se == pytest.approx(values.std(ddof=1) / 20, rel=0.05)
    assert (found.n, found.clusters) == (400, 400)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of items that share much within clusters, the plain standard error is far too small."""
    held = plainly = 0
    for seed in range(200):
        values, clusters = drawn(seed, clusters=30, items=8)
        found = one(values, clusters)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
        plainly += abs(values.mean()) <= 1.96 * values.std(ddof=1) / len(values) ** 0.5
    assert held >= 180
    assert plainly < 120


def test_values_that_are_missing_take_no_part() -> None:
    values, clusters = drawn(1, 5, 6)
    holed = np.concatenate([values, values], axis=1)
    holed[::7, 1] = np.nan
    whole, some = clustered_intervals(holed, clusters)
    assert (whole.n, some.n) == (30, 25)
    assert some.mean == pytest.approx(np.nanmean(holed[:, 1]))
    assert whole.model_dump() == pytest.approx(one(values, clusters).model_dump())


def test_one_cluster_has_no_error_and_no_value_has_no_mean() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    single, none = clustered_intervals(values, ["a", "a"])
    assert single == Interval(mean=2.0, n=2, clusters=1)
    assert none == Interval(mean=None)


def test_halves_are_of_clusters_and_spread_as_the_whole_does() -> None:
    values, clusters = drawn(2, 40, 5)
    halves = cluster_halves(clusters)
    names = np.array(clusters)
    for half in halves[:5]:
        assert len(set(names[half])) == 20
        assert set(names[half]).isdisjoint(names[np.setdiff1d(np.arange(len(names)), half)])
    spread = np.std([values[half].mean() for half in halves], ddof=1)
    assert spread == pytest.approx(one(values, clusters).se, rel=0.25)
    assert cluster_halves(["a", "a"]) == []
