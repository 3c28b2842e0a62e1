"""What the paint lies on, and how the picture ends: grounds and frames."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

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
    """What happens towards the picture's border."""

    BLEED = "bleed"  # paint to the very edge
    MARGIN = "margin"  # white paper around
    BORDER = "border"  # a painted band in the palette's dark and accent
    VIGNETTE = "vignette"  # corners sink into the dark
    ARCH = "arch"  # a pointed window, dark stone around


def textured(color: Floats, ground: Ground, rng: np.random.Generator) -> Floats:
    """The picture with its ground's texture; shape (height, width, 3), sRGB."""
    h, w = color.shape[:2]
    rows, columns = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None, :]
    if ground is Ground.CANVAS:
        weave = np.sin(rows * 2.09) * (0.6 + 0.4 * np.sin(columns * 1.05)) + np.sin(columns * 2.09) * (
            0.6 + 0.4 * np.sin(rows * 1.05)
        )
        grain = weave * 0.016 + noise(rng, (h, w), 100) * 0.014
    elif ground is Ground.PAPER:
        grain = noise(rng, (h, w), 120) * 0.018 + noise(rng, (h, w), 48) * 0.012
    elif ground is Ground.PANEL:
        grain = (
            np.sin((rows + noise(rng, (h, w), 3) * 9 + columns * 0.06) * 0.9) * 0.018 + noise(rng, (h, w), 100) * 0.010
        )
    else:
        grain = noise(rng, (h, w), 110) * 0.012
    return color * (1 + grain.astype(np.float32)[..., None])


def framed(color: Floats, frame: Frame, ramps: Floats) -> Floats:
    """The picture with its frame; the size stays, a frame covers the outermost pixels."""
    h, w = color.shape[:2]
    unit = w / 128
    rows, columns = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None, :]
    inset = np.minimum(np.minimum(rows, h - 1 - rows), np.minimum(columns, w - 1 - columns)) / unit
    if frame is Frame.MARGIN:
        inside = np.clip(inset - 5.5, 0, 1)[..., None]
        return color * inside + PAPER_WHITE * (1 - inside)
    if frame is Frame.BORDER:
        out = color
        for edge, role, tone in ((6.0, Role.DARK, 120), (4.8, Role.ACCENT, 140), (1.4, Role.DARK, 120)):
            inside = np.clip(inset - edge + 0.5, 0, 1)[..., None]
            out = out * inside + ramps[role, tone] * (1 - inside)
        return out
    if frame is Frame.VIGNETTE:
        v, u = rows / h * 2 - 1, columns / w * 2 - 1
        corner = np.clip(((u * u) ** 1.5 + (v * v) ** 1.5) ** 0.667 - 0.55, 0, 1)[..., None]
        return color * (1 - 0.55 * corner) + ramps[Role.DARK, 60] * 0.30 * corner
    if frame is Frame.ARCH:
        image = Image.new("L", (w, h))
        draw = ImageDraw.Draw(image)
        pad = 4 * unit
        draw.rectangle((pad, h * 0.42, w - pad, h - pad), fill=255)
        left = Image.new("L", (w, h))
        ImageDraw.Draw(left).ellipse(
            (pad, h * 0.42 - (w - 2 * pad) * 0.62, pad + (w - 2 * pad) * 1.30, h * 0.42 + (w - 2 * pad) * 0.62),
            fill=255,
        )
        half = np.asarray(left) & np.asarray(left)[:, ::-1]
        half[int(h * 0.42) :] = 0
        inside = np.maximum(np.asarray(image), half)
        soft = (
            np.asarray(Image.fromarray(inside).filter(ImageFilter.GaussianBlur(unit * 0.7)), np.float32)[..., None]
            / 255
        )
        return color * soft + ramps[Role.DARK, 90] * 0.6 * (1 - soft)
    return color
