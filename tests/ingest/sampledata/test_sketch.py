"""What all images stand on: color conversion, palettes, outlines, shapes and light."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sampledata import marks
from ingest.sampledata.palettes import Palette, Role, oklab_to_srgb, srgb_to_oklab
from ingest.sampledata.sketch import Sketch, mirrored, noise, points, spline

unit = st.floats(0, 1, width=32)


@given(st.tuples(unit, unit, unit))
def test_oklab_there_and_back(rgb: tuple[float, float, float]) -> None:
    color = np.array(rgb)
    assert oklab_to_srgb(srgb_to_oklab(color)) == pytest.approx(color, abs=2e-3)


def test_oklab_of_white_and_red() -> None:
    assert srgb_to_oklab(np.array([1.0, 1.0, 1.0])) == pytest.approx([1, 0, 0], abs=1e-3)
    assert srgb_to_oklab(np.array([1.0, 0.0, 0.0])) == pytest.approx([0.628, 0.225, 0.126], abs=1e-3)


def test_ramps_run_from_dark_over_the_color_to_light() -> None:
    palette = Palette.of("101030 80a0c0 608050 a05040 e0b030 fff8e8")
    ramps = palette.ramps()
    assert ramps.shape == (7, 256, 3)
    for role in (Role.AIR, Role.EARTH, Role.BODY, Role.ACCENT):
        assert ramps[role, 128] == pytest.approx(palette.rgb(role), abs=0.02)
        lightness = srgb_to_oklab(ramps[role])[:, 0]
        assert (np.diff(lightness) > -1e-3).all()


def test_outlines_are_written_as_in_svg() -> None:
    assert points("0,0 1,.5 -.25,2") == [(0, 0), (1, 0.5), (-0.25, 2)]
    assert mirrored(".5,0 1,1") == [(0.5, 0), (1, 1), (-1, 1), (-0.5, 0)]


@given(st.lists(st.tuples(unit, unit), min_size=3, max_size=8), st.booleans())
def test_a_spline_passes_through_its_points(outline: list[tuple[float, float]], closed: bool) -> None:
    line = np.array(spline(outline, closed=closed, steps=4))
    assert line[: 4 * (len(outline) - 1) + 1 : 4] == pytest.approx(np.array(outline)[: len(line[::4])], abs=1e-6)


def test_shapes_stack_and_shadows_only_darken() -> None:
    sketch = Sketch(64, 64, light=(0.7, 0.6))
    sketch.area("0,0 1,0 1,1 0,1", Role.AIR, 0.6)
    sketch.disc((0.5, 0.5), 0.2, Role.BODY, 0.5, volume=0.3)
    assert sketch.role[32, 32] == Role.BODY
    assert sketch.shape[32, 32] > sketch.shape[2, 2] > 0
    assert sketch.tone[25, 25] > sketch.tone[39, 39]  # light falls from the upper left
    role, tone = sketch.role.copy(), sketch.tone.copy()
    sketch.disc((0.5, 0.5), 0.1, None, -0.2)
    assert (sketch.role == role).all()
    assert sketch.tone[32, 32] == pytest.approx(tone[32, 32] - 0.2)
    assert sketch.tone[2, 2] == tone[2, 2]


def test_a_placed_sketch_draws_into_the_same_picture() -> None:
    plain, nested = (Sketch(80, 80, light=(0.7, 0.6)) for _ in range(2))
    plain.area(".5,.25 1,.25 1,.5", Role.BODY, 0.5, volume=0.2)
    nested.placed(0.75, 0.125).placed(0.25, 0.125, scale=0.25, flip=-1).area("2,0 0,0 0,1", Role.BODY, 0.5, volume=0.2)
    assert (plain.role == nested.role).all()
    assert plain.tone == pytest.approx(nested.tone, abs=1e-5)


def test_light_comes_from_the_same_side_in_a_mirrored_sketch() -> None:
    plain, flipped = (Sketch(64, 64, light=(0.7, 0.6)) for _ in range(2))
    plain.disc((0.5, 0.5), 0.3, Role.BODY, 0.5, volume=0.3)
    flipped.placed(1.0, flip=-1).disc((0.5, 0.5), 0.3, Role.BODY, 0.5, volume=0.3)
    assert plain.tone == pytest.approx(flipped.tone, abs=1e-5)
    assert flipped.placed(1.0, flip=-1).light == (-0.7, 0.6)


def test_water_mirrors_what_is_above() -> None:
    sketch = Sketch(100, 100, light=(0.7, 0.6))
    sketch.area("0,.3 1,.3 1,.5 0,.5", Role.BODY, 0.5)
    sketch.reflect(0.5, np.random.default_rng(0))
    assert 0.6 < (sketch.role[50:70] == Role.BODY).mean() < 1  # some waves mirror the sky instead
    assert (sketch.role[75:] == Role.AIR).all()
    assert sketch.shape[50:].min() > sketch.shape[:50].max()


def test_noise_is_smooth_and_centered() -> None:
    plane = np.stack([noise(np.random.default_rng(i), (96, 80), 8) for i in range(20)])
    assert plane.shape == (20, 96, 80)
    assert abs(plane.mean()) < 0.1
    assert 1.1 < plane.std() < 1.5
    assert np.abs(np.diff(plane, axis=1)).max() < 1.5


def test_small_shapes_get_no_outline() -> None:
    labels = np.zeros((50, 50), np.int32)
    labels[:, 25:] = 1
    labels[10:12, 10:12] = 2
    assert marks.outlines(labels)[10, 10] == 1
    assert marks.outlines(labels, smallest=0.01)[8:14, 8:14].sum() == 0
    assert (marks.outlines(labels, smallest=0.01)[:, 25] == 1).all()


def test_cell_means() -> None:
    cells, count = marks.numbered(np.array([[7, 7, 99], [7, 7, 99]]))
    values = np.array([[1.0, 3.0, 5.0], [1.0, 3.0, 7.0]])
    assert count == 2
    assert marks.cell_means(values, cells).tolist() == [2.0, 6.0]
    assert marks.cell_means(np.dstack([values] * 3), cells).shape == (2, 3)
