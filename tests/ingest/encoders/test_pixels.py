"""Pixels as open_clip's own transforms make them, up to two levels of 255."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from ingest.encoders.pixels import PixelGeometry


def smooth_picture(width: int, height: int, seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def assert_like_open_clip(config: PreprocessCfg, picture: Image.Image) -> None:
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.mean, config.std))
    expected = (image_transform_v2(config, is_train=False)(picture) * std + mean) * 255
    fitted = PixelGeometry.from_preprocess_cfg(vars(config)).fit(picture)
    assert (fitted.shape, fitted.dtype) == (tuple(expected.shape), np.uint8)
    difference = np.abs(fitted - expected.numpy())
    assert difference.max() < 2.5
    assert difference.mean() < 0.25


@given(
    st.sampled_from(["shortest", "longest", "squash"]),
    st.sampled_from(["bicubic", "bilinear"]),
    st.integers(1, 130),
    st.integers(1, 130),
    st.integers(0, 100),
)
def test_like_open_clip(mode: str, interpolation: str, width: int, height: int, seed: int) -> None:
    config = PreprocessCfg(size=32, resize_mode=mode, interpolation=interpolation, fill_color=7)
    longest, shortest = max(width, height), min(width, height)
    if mode == "longest" and longest > 60 * shortest:
        return  # open_clip scales it to no pixels at all
    if mode == "shortest" and longest > 4 * shortest:
        return  # see below
    assert_like_open_clip(config, smooth_picture(width, height, seed))


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(100, 40), (40, 100), (64, 32)])
def test_models_that_are_not_square(mode: str, size: tuple[int, int]) -> None:
    assert_like_open_clip(PreprocessCfg(size=(32, 64), resize_mode=mode), smooth_picture(*size, 0))


@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 1), (100, 3), (7, 211)])
@pytest.mark.parametrize("mode", ["shortest", "longest"])
def test_very_long_pictures_need_no_memory(size: tuple[int, int], mode: str) -> None:
    picture = smooth_picture(*size, 1)
    fitted = PixelGeometry.from_preprocess_cfg(vars(PreprocessCfg(size=224, resize_mode=mode))).fit(picture)
    assert fitted.shape == (3, 224, 224)


def test_middle_of_a_long_picture_is_what_open_clip_sees() -> None:
    assert_like_open_clip(PreprocessCfg(size=32), smooth_picture(320, 32, 3))


def test_large_jpegs_may_be_decoded_smaller() -> None:
    rng = np.random.default_rng(0)
    pixels = np.zeros((1200, 1600, 3))
    for detail in (6, 24, 96, 384):  # as photos have it: less of the finer
        coarse = Image.fromarray(rng.integers(0, 256, (detail, detail, 3), np.uint8))
        pixels += np.asarray(coarse.resize((1600, 1200), Image.Resampling.BICUBIC)) / detail
    stream = io.BytesIO()
    Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    geometry = PixelGeometry.from_preprocess_cfg(vars(PreprocessCfg(size=224)))
    full, draft = Image.open(stream), Image.open(stream)
    draft.draft(None, geometry.smallest_size)
    assert draft.size == (800, 600)
    difference = np.abs(geometry.fit(full).astype(int) - geometry.fit(draft))
    assert difference.mean() < 0.5
    assert difference.max() < 8
