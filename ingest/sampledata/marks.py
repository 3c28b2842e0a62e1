"""What the brushes are made of: flat color, blur, outlines, trembling, cells, scattered points.

Images and planes are arrays of pixels, row by row; lengths are in pixels unless they are called a share.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ingest.sampledata.palettes import Floats
from ingest.sampledata.sketch import Point, Sketch, noise

Labels = NDArray[np.integer[Any]]


def flat_color(sketch: Sketch, ramps: Floats, tone: Floats | None = None) -> Floats:
    """The sketch in plain color, at its own tones or others."""
    index = (np.clip(sketch.tone if tone is None else tone, 0, 1) * 255).astype(np.uint8)
    color: Floats = ramps[sketch.role, index]
    return color


def mixed(color: Floats, other: Floats, share: Floats) -> Floats:
    """`color` with `share` (height, width) of `other`, which is an image or one color."""
    return color + (other - color) * share[..., None]


def blurred(plane: Floats, radius: float) -> Floats:
    """Gaussian blur of a plane (height, width) or image (height, width, 3) with values in [0, 1]."""
    image = Image.fromarray((np.clip(plane, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def large(labels: Labels, smallest: float) -> NDArray[np.bool_]:
    """True where the pixel's label covers at least the share `smallest` of the image."""
    covered: NDArray[np.bool_] = (np.bincount(labels.ravel()) >= smallest * labels.size)[labels]
    return covered


def outlines(labels: Labels, width: int = 1, *, smallest: float = 0.0) -> Floats:
    """1.0 along borders between labels, `width` pixels to either side, else 0.0.

    Labels that cover less than the share `smallest` get no border: eyes and petals would drown in it.
    """
    border = np.zeros(labels.shape, np.bool_)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    if smallest > 0:
        keep = large(labels, smallest)
        border &= keep
        border[:, 1:] &= keep[:, :-1]
        border[1:] &= keep[:-1]
    lines = border.astype(np.uint8)
    if width > 1:
        lines = np.asarray(Image.fromarray(lines).filter(ImageFilter.MaxFilter(2 * width - 1)))
    return lines.astype(np.float32)


def redrawn(sketch: Sketch, rows: Floats, columns: Floats) -> Sketch:
    """The sketch with each pixel read from another place."""
    at = (
        np.clip(rows, 0, sketch.height - 1).astype(np.intp),
        np.clip(columns, 0, sketch.width - 1).astype(np.intp),
    )
    moved = copy(sketch)
    moved.role, moved.tone = sketch.role[at], sketch.tone[at]
    moved.flow, moved.shape = sketch.flow[at], sketch.shape[at]
    return moved


def trembling(sketch: Sketch, rng: np.random.Generator, amount: float, cells: int) -> Sketch:
    """The sketch with outlines that tremble by about `amount` pixels, `cells` times across the image."""
    shape = sketch.role.shape
    rows, columns = np.indices(shape, np.float32)
    return redrawn(sketch, rows + noise(rng, shape, cells) * amount, columns + noise(rng, shape, cells) * amount)


def numbered(cells: Labels) -> tuple[NDArray[np.intp], int]:
    """Cells renumbered from 0 without gaps, and how many there are."""
    _, index = np.unique(cells, return_inverse=True)
    return index.reshape(cells.shape), int(index.max()) + 1


def cell_means(values: Floats, cells: NDArray[np.intp]) -> Floats:
    """Mean of `values` (height, width) or (height, width, 3) in each numbered cell, shape (cells,) or (cells, 3)."""
    index = cells.ravel()
    count = np.bincount(index)
    planes = values.reshape(len(index), -1)
    means: Floats = np.stack([np.bincount(index, planes[:, c]) / count for c in range(planes.shape[1])], -1)
    return means if values.ndim == 3 else means[:, 0]


def relief(height: Floats, light: Point) -> Floats:
    """Shading of a height field lit from the side, mean about 0."""
    shade: Floats = -(np.gradient(height, axis=1) * light[0] + np.gradient(height, axis=0) * light[1])
    return shade


def smeared(values: Floats, flow: Floats, reach: int) -> Floats:
    """Line integral convolution: `values` averaged along `flow`, contrast kept."""
    rows, columns = np.indices(values.shape, np.float32)
    dy, dx = np.sin(flow), np.cos(flow)
    total = values.copy()
    for step in range(-reach, reach + 1):
        if step:
            y = np.clip(rows + dy * step, 0, values.shape[0] - 1).astype(np.int32)
            x = np.clip(columns + dx * step, 0, values.shape[1] - 1).astype(np.int32)
            total += values[y, x]
    return total / np.float32(2 * reach + 1) ** 0.5


def scattered(sketch: Sketch, spacing: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Points of a jittered grid over the canvas, in random order: x and y in pixels."""
    rows, columns = np.indices((int(sketch.height / spacing) + 2, int(sketch.width / spacing) + 2), np.float32)
    x = (columns + 0.5 * (rows % 2) - 0.5 + rng.uniform(-0.35, 0.35, rows.shape)).ravel() * spacing
    y = (rows - 0.5 + rng.uniform(-0.35, 0.35, rows.shape)).ravel() * spacing
    order = rng.permutation(len(x))
    return x[order], y[order]


def pixel_at(sketch: Sketch, x: Floats, y: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of the pixel under each point, the nearest one for points off the canvas."""
    return np.clip(y, 0, sketch.height - 1).astype(np.intp), np.clip(x, 0, sketch.width - 1).astype(np.intp)


def fills(color: Floats) -> list[tuple[int, ...]]:
    """Colors in [0, 1], shape (n, channels), as Pillow wants them."""
    return [tuple(c) for c in (np.clip(color, 0, 1) * 255).astype(int).tolist()]
