"""FID and KID, against what their formulas give in numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from ingest.errors import Graph2ImageError
from model.evaluation.distances import fid, kid, least_for_fid
from model.evaluation.features import Features, cosines


def features(seed: int, n: int = 60, dim: int = 6, shift: float = 0.0, name: str = "clip-1") -> Features:
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(n, dim)) @ np.random.default_rng(99).normal(size=(dim, dim))
    return Features(name, (mixed + shift).astype(np.float32))


def frechet(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The formula, with a matrix square root."""
    one, other = np.cov(ours, rowvar=False), np.cov(theirs, rowvar=False)
    root = scipy.linalg.sqrtm(one @ other)
    return float(np.square(ours.mean(0) - theirs.mean(0)).sum() + np.trace(one + other - 2 * root.real))


def kernel_distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The unbiased estimate, pair by pair."""

    def kernel(first: np.ndarray, second: np.ndarray) -> float:
        return float((first @ second / len(first) + 1) ** 3)

    n = len(ours)
    within = [
        sum(kernel(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        for rows in (ours, theirs)
    ]
    between = sum(kernel(one, other) for one in ours for other in theirs) / n**2
    return within[0] + within[1] - 2 * between


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_fid_is_what_its_formula_gives(shift: float) -> None:
    ours, theirs = features(1, shift=shift), features(2, n=80)
    expected = frechet(ours.matrix.astype(float), theirs.matrix.astype(float))
    assert fid(ours, theirs) == pytest.approx(expected, rel=1e-6)


def test_kid_is_what_its_formula_gives() -> None:
    ours, theirs = features(1, n=20, shift=0.4), features(2, n=20)
    part = np.array([0, 3, 4, 9, 11])
    whole, of_parts = kid(ours, theirs, [part, np.array([2])])
    assert whole == pytest.approx(kernel_distance(ours.matrix.astype(float), theirs.matrix.astype(float)))
    assert of_parts[0] == pytest.approx(
        kernel_distance(ours.matrix[part].astype(float), theirs.matrix[part].astype(float))
    )
    assert np.isnan(of_parts[1])


def test_equal_sets_are_at_no_distance() -> None:
    same = features(3)
    assert fid(same, same) == pytest.approx(0, abs=1e-6)
    assert abs(kid(same, same)[0]) < kid(features(3, shift=1.0), same)[0]


def test_fewer_images_than_fid_needs() -> None:
    few = features(1, n=6)
    assert least_for_fid(6) == 7
    with pytest.raises(Graph2ImageError, match=r"FID of clip-1 needs 7 images.*there are 6") as error:
        fid(few, features(2))
    assert error.value.hint == "KID can be had of fewer."
    assert np.isfinite(kid(few, features(2, n=6))[0])
    with pytest.raises(Graph2ImageError, match="KID needs 2 images, there are 1"):
        kid(features(1, n=1), features(2, n=1))


@pytest.mark.parametrize("compare", [fid, kid, cosines])
def test_features_of_another_version_are_refused(compare: object) -> None:
    ours, theirs = features(1), features(2, name="clip-2")
    with pytest.raises(Graph2ImageError, match="features of clip-1 and of clip-2 cannot be compared"):
        compare(ours, theirs)  # type: ignore[operator]
