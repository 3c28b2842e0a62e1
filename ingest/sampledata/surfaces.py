"""What the paint lies on, and how the image ends: grounds and frames."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from PIL import Image, ImageDraw

from ingest.sampledata.marks import blurred, mixed
from ingest.sampledata.palettes import Floats, Role
from ingest.sampledata.sketch import noise

PAPER_WHITE = np.array([0.965, 0.955, 0.93], np.float32)


class Ground(StrEnum):
    """Texture that shows through the paint."""

    PLAIN = "plain"
    CANVAS = "canvas"
    PAPER = "paper"
    PANEL = "panel"


class Frame(StrEnum):
    """What happens towards the image's border."""

    BLEED = "bleed"  # paint to the very edge
    MARGIN = "margin"  # white paper around
    BORDER = "border"  # a painted band in the palette's dark and accent
    VIGNETTE = "vignette"  # corners sink into the dark
    ARCH = "arch"  # a pointed window, dark stone around


def textured(color: Floats, ground: Ground, rng: np.random.Generator) -> Floats:
    """The image with its ground's texture; shape (height, width, 3), sRGB."""
    h, w = color.shape[:2]
    rows, columns = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None, :]
    if ground is Ground.CANVAS:
        weave = np.sin(rows * 2.09) * (0.6 + 0.4 * np.sin(columns * 1.05)) + np.sin(columns * 2.09) * (
            0.6 + 0.4 * np.sin(rows * 1.05)
        )
        grain = weave * 0.016 + noise(rng, (h, w), 127) * 0.008
    elif ground is Ground.PAPER:
        grain = noise(rng, (h, w), 127) * 0.014
    elif ground is Ground.PANEL:
        grain = (
            np.sin((rows + noise(rng, (h, w), 3) * 9 + columns * 0.06) * 0.9) * 0.018 + noise(rng, (h, w), 100) * 0.010
        )
    else:
        grain = noise(rng, (h, w), 110) * 0.012
    out: Floats = color * (1 + grain[..., None])
    return out


def framed(color: Floats, frame: Frame, ramps: Floats) -> Floats:
    """The image with its frame; the size stays, a frame covers the outermost pixels."""
    h, w = color.shape[:2]
    unit = w / 128
    rows, columns = np.arange(h)[:, None], np.arange(w)[None, :]
    inset = np.minimum(np.minimum(rows, h - 1 - rows), np.minimum(columns, w - 1 - columns)) / unit
    if frame is Frame.MARGIN:
        return mixed(color, PAPER_WHITE, np.clip(6.5 - inset, 0, 1))
    if frame is Frame.BORDER:
        for edge, band in ((6.5, ramps[Role.DARK, 120]), (5.3, ramps[Role.ACCENT, 140]), (1.9, ramps[Role.DARK, 120])):
            color = mixed(color, band, np.clip(edge - inset, 0, 1))
        return color
    if frame is Frame.VIGNETTE:
        v, u = rows / h * 2 - 1, columns / w * 2 - 1
        corner = np.clip((np.abs(u) ** 3 + np.abs(v) ** 3) ** 0.667 - 0.55, 0, 1)
        return mixed(color, ramps[Role.DARK, 60] * 0.55, 0.55 * corner)
    if frame is Frame.ARCH:
        return mixed(color, ramps[Role.DARK, 90] * 0.6, 1 - _arch(h, w, 4 * unit))
    return color


def _arch(h: int, w: int, inset: float) -> Floats:
    """1.0 inside a pointed window that fills the image but for `inset` pixels, 0.0 outside."""
    spring, span = h * 0.42, w - 2 * inset
    body = Image.new("L", (w, h))
    ImageDraw.Draw(body).rectangle((inset, spring, w - inset, h - inset), fill=255)
    # The point is where two circles meet, each centered beyond the middle.
    circle = Image.new("L", (w, h))
    ImageDraw.Draw(circle).ellipse((inset, spring - 0.62 * span, inset + 1.3 * span, spring + 0.62 * span), fill=255)
    point = np.minimum(np.asarray(circle), np.asarray(circle)[:, ::-1])
    point[int(spring) :] = 0
    return blurred(np.maximum(np.asarray(body), point) / 255, w / 180)
