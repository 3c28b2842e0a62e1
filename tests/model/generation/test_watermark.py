"""The watermark, on images like those that are made; it needs the optional package."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ingest.errors import Graph2ImageError
from model.generation import watermark
from model.generation.watermark import (
    MAX_TEXT,
    add_watermark,
    check_watermark,
    read_watermark,
)

if not os.environ.get("CI"):  # where everything is to be there
    pytest.importorskip("imwatermark", reason="the extra `watermark` is not installed")


def smooth(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC)


def on_white(seed: int) -> Image.Image:
    """A thing before a white wall, as product photos are."""
    image = Image.new("RGB", (256, 256), "white")
    thing = smooth(seed).resize((90, 120))
    image.paste(thing, (80, 60))
    return image


def black() -> Image.Image:
    return Image.new("RGB", (300, 260))


@pytest.mark.parametrize("image", [smooth(0), smooth(1), on_white(2), on_white(3), black()])
@pytest.mark.parametrize("text", ["x", "graph2image", "ünïcöde"])
def test_what_is_hidden_can_be_read_and_is_not_seen(image: Image.Image, text: str) -> None:
    marked, readable = add_watermark(image, text)
    assert readable
    assert (marked.size, marked.mode) == (image.size, "RGB")
    content = io.BytesIO()
    marked.save(content, "png")
    assert read_watermark(Image.open(content)) == text
    difference = np.asarray(marked, float) - np.asarray(image, float)
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 33  # dB


@pytest.mark.parametrize("image", [smooth(0), on_white(2), black(), Image.new("RGB", (64, 64))])
def test_nothing_is_read_where_nothing_is_hidden(image: Image.Image) -> None:
    assert read_watermark(image) is None


def test_a_mark_outlives_a_good_jpeg(tmp_path: Path) -> None:
    image = on_white(5)
    ImageDraw.Draw(image).line((0, 0, 255, 255), "red", 5)
    marked, _ = add_watermark(image, "mine")
    marked.save(tmp_path / "mine.jpg", quality=95)
    assert read_watermark(Image.open(tmp_path / "mine.jpg")) == "mine"


@pytest.mark.parametrize("text", ["", "x" * (MAX_TEXT + 1), "é" * 7, "a\0b"])
def test_texts_that_do_not_fit(text: str) -> None:
    with pytest.raises(Graph2ImageError, match="must have 1 to 12 bytes"):
        check_watermark(text)


def test_images_that_are_too_small() -> None:
    with pytest.raises(Graph2ImageError, match="64 x 64 pixels is too small for a watermark"):
        add_watermark(Image.new("RGB", (64, 64)), "x")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise ImportError("No module named 'imwatermark'")

    monkeypatch.setattr("builtins.__import__", missing)
    with pytest.raises(Graph2ImageError, match=r"pip install 'graph2image\[watermark\]'"):
        watermark.read_watermark(Image.new("RGB", (256, 256)))
