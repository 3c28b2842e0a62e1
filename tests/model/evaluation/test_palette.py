"""The palette distance: a metric of colors alone, in units that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.evaluation.palette import palette_distance, to_lab


def test_lab_of_known_colors() -> None:
    colors = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(to_lab(colors), expected, atol=0.1)


IMAGES = st.integers(0, 10_000).map(
    lambda seed: np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
)


@given(IMAGES, IMAGES, IMAGES)
@settings(max_examples=30)
def test_palette_distance_is_a_metric(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> None:
    assert palette_distance(first, second) == pytest.approx(palette_distance(second, first))
    assert palette_distance(first, third) <= palette_distance(first, second) + palette_distance(second, third) + 1e-9
    assert palette_distance(first, np.ascontiguousarray(first[::-1, ::-1])) == pytest.approx(0, abs=1e-9)  # only colors


@given(st.integers(0, 255), st.integers(0, 255))
def test_palette_distance_of_two_grays_is_their_difference_in_lightness(first: int, second: int) -> None:
    grays = [np.full((4, 4, 3), value, np.uint8) for value in (first, second)]
    lightness = [to_lab(gray[0, :1])[0, 0] for gray in grays]
    assert palette_distance(*grays) == pytest.approx(abs(lightness[0] - lightness[1]), rel=0.03, abs=0.05)
