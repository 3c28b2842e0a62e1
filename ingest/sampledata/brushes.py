"""Ten ways to put a sketch on canvas; each movement of the gallery shares one.

A brush turns a `Sketch` and a palette's ramps into a picture: sRGB in [0, 1], shape (height, width, 3). What differs
between artists of one movement is their `Hand`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ingest.sampledata.palettes import Floats, Role
from ingest.sampledata.sketch import Sketch, noise

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Hand:
    """How one artist works.

    Attributes
    ----------
    size
        Of the marks (dots, strokes, tiles …), as a share of the picture's width.
    energy
        0 calm and regular, 1 wild.
    depth
        Strength of what is particular to the brush: broken color, relief, edge darkening, lead, shadow.
    ground
        The color under the paint.
    """

    size: float
    energy: float
    depth: float
    ground: Role = Role.LIGHT


Brush = Callable[[Sketch, Floats, Hand, np.random.Generator], Floats]


def flat_color(sketch: Sketch, ramps: Floats, tone: Floats | None = None) -> Floats:
    """The sketch in plain color."""
    index = (np.clip(sketch.tone if tone is None else tone, 0, 1) * 255).astype(np.uint8)
    color: Floats = ramps[sketch.role, index]
    return color


def blurred(plane: Floats, radius: float) -> Floats:
    """Gaussian blur of a plane (height, width) or picture (height, width, 3) with values in [0, 1]."""
    image = Image.fromarray((np.clip(plane, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def edges(labels: NDArray[np.integer], width: int = 1) -> Floats:
    """1.0 along borders between labels, `width` pixels to either side, else 0.0."""
    border = np.zeros(labels.shape, np.uint8)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    if width > 1:
        border = np.asarray(Image.fromarray(border).filter(ImageFilter.MaxFilter(2 * width - 1)))
    return border.astype(np.float32)


def warped(sketch: Sketch, rng: np.random.Generator, amount: float, cells: int) -> tuple[Labels, Labels]:
    """Row and column to read each pixel from so that outlines tremble by about `amount` pixels."""
    shape = (sketch.height, sketch.width)
    rows, columns = np.indices(shape, np.float32)
    rows = np.clip(rows + noise(rng, shape, cells) * amount, 0, shape[0] - 1).astype(np.int64)
    columns = np.clip(columns + noise(rng, shape, cells) * amount, 0, shape[1] - 1).astype(np.int64)
    return rows, columns


def redrawn(sketch: Sketch, at: tuple[Labels, Labels]) -> Sketch:
    """The sketch read through coordinates such as those of `warped`."""
    copy = Sketch(sketch.height, sketch.width, light=sketch.light)
    copy.role, copy.tone, copy.flow, copy.shape = sketch.role[at], sketch.tone[at], sketch.flow[at], sketch.shape[at]
    return copy


def relief(height: Floats, light: tuple[float, float]) -> Floats:
    """Shading of a height field lit from the side, mean about 0."""
    dy, dx = np.gradient(height)
    shade: Floats = -(dx * light[0] + dy * light[1])
    return shade


def cell_means(color: Floats, cells: Labels) -> Floats:
    """Each pixel gets the mean color of its cell; `cells` holds any integers."""
    _, index = np.unique(cells, return_inverse=True)
    index = index.ravel()
    count = np.bincount(index)
    means = np.stack([np.bincount(index, color[..., c].ravel()) / count for c in range(3)], -1).astype(np.float32)
    out: Floats = means[index].reshape(color.shape)
    return out


def _points(sketch: Sketch, spacing: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Jittered grid over the canvas, in random order: x and y in pixels."""
    rows, columns = int(sketch.height / spacing) + 2, int(sketch.width / spacing) + 2
    y, x = np.indices((rows, columns), np.float32)
    x = (x + 0.5 * (y % 2) - 0.5 + rng.uniform(-0.35, 0.35, x.shape)).ravel() * spacing
    y = (y - 0.5 + rng.uniform(-0.35, 0.35, y.shape)).ravel() * spacing
    order = rng.permutation(len(x))
    return x[order].astype(np.float32), y[order].astype(np.float32)


def _at(sketch: Sketch, x: Floats, y: Floats) -> tuple[Labels, Labels]:
    return (
        np.clip(y, 0, sketch.height - 1).astype(np.int64),
        np.clip(x, 0, sketch.width - 1).astype(np.int64),
    )


def _bytes(color: Floats) -> list[tuple[int, ...]]:
    return [tuple(c) for c in (np.clip(color, 0, 1) * 255).astype(int).tolist()]


def dots(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Pointillism: two layers of dots; each strays in tone, some take a neighboring hue (broken color)."""
    ground = flat_color(sketch, ramps) * 0.6 + ramps[hand.ground, 150] * 0.4
    image = Image.fromarray((ground * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for scale in (1.0, 0.72):
        radius = hand.size * sketch.width * scale / 2
        x, y = _points(sketch, radius * 1.55, rng)
        at = _at(sketch, x, y)
        role = sketch.role[at]
        stray = rng.random(len(x)) < 0.20 * hand.depth
        role = np.where(stray, rng.integers(1, 6, len(x)), role)
        tone = sketch.tone[at] + rng.normal(0, 0.10 * hand.depth, len(x))
        color = ramps[role, (np.clip(tone, 0, 1) * 255).astype(np.uint8)]
        size = radius * rng.uniform(0.8, 1.2, len(x)) * (1 - 0.25 * stray)
        squash = 1 - 0.35 * hand.energy * rng.random(len(x))
        boxes = np.stack([x - size, y - size * squash, x + size, y + size * squash], 1).tolist()
        for box, fill in zip(boxes, _bytes(color), strict=True):
            draw.ellipse(box, fill)
    return np.asarray(image, np.float32) / 255


def cut_paper(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Cut-outs: every shape is one or two flat sheets with a hand-cut edge that casts a soft shadow."""
    sketch = redrawn(sketch, warped(sketch, rng, hand.energy * 3.0, 9))
    levels = 3.0
    tone = (np.floor(np.clip(sketch.tone, 0.02, 0.98) * levels) + 0.5) / levels
    color = flat_color(sketch, ramps, 0.5 + (tone.astype(np.float32) - 0.5) * 0.85)
    shadow = np.zeros((sketch.height, sketch.width), np.float32)
    reach = hand.size * sketch.width
    steps = 5
    for i in range(1, steps + 1):
        dy, dx = (round(reach * i / steps * c) for c in (sketch.light[1], sketch.light[0]))
        shadow += np.roll(sketch.shape, (dy, dx), (0, 1)) > sketch.shape
    shadow = blurred(shadow / steps, reach * 0.3)
    fiber = noise(rng, shadow.shape, 90) * 0.012 + noise(rng, shadow.shape, 30) * 0.008
    out: Floats = color * (1 - 0.42 * hand.depth * shadow[..., None]) + fiber[..., None]
    return out


def impasto(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Expressionism: thick strokes along the flow of the shapes, with bristle furrows under raking light."""
    shape = (sketch.height, sketch.width)
    flow = sketch.flow + noise(rng, shape, 3) * (0.25 + 1.0 * hand.energy)
    start = np.dstack([flat_color(sketch, ramps), np.full(shape, 0.5, np.float32)])
    image = Image.fromarray((start * 255).astype(np.uint8), "RGBA")
    draw = ImageDraw.Draw(image)
    busy = blurred(edges(sketch.shape, 2), 2.5)
    for scale in (1.0, 0.55):
        width = hand.size * sketch.width * scale
        x, y = _points(sketch, width * 1.05, rng)
        at = _at(sketch, x, y)
        keep = busy[at] < 0.30 if scale == 1.0 else busy[at] > 0.12
        x, y, at = x[keep], y[keep], (at[0][keep], at[1][keep])
        tone = sketch.tone[at] + rng.normal(0, 0.09 * (0.4 + hand.energy), len(x))
        role = np.where(rng.random(len(x)) < 0.06 * hand.energy, rng.integers(1, 6, len(x)), sketch.role[at])
        color = ramps[role, (np.clip(tone, 0, 1) * 255).astype(np.uint8)]
        fills = _bytes(np.column_stack([color, rng.uniform(0.25, 1, len(x))]))
        length = width * rng.uniform(1.6, 3.0, len(x))
        path = [(x, y)]
        for sign in (1, -1):
            px, py = x, y
            for _ in range(2):
                a = flow[_at(sketch, px, py)]
                px, py = px + sign * np.cos(a) * length / 4, py + sign * np.sin(a) * length / 4
                path = [*path, (px, py)] if sign > 0 else [(px, py), *path]
        lines = np.stack([np.stack(p, 1) for p in path], 1).reshape(len(x), -1).tolist()
        for line, fill in zip(lines, fills, strict=True):
            draw.line(line, fill, max(2, round(width)), joint="curve")
    painted = np.asarray(image, np.float32) / 255
    bristles = _smeared(rng.standard_normal(shape, np.float32), flow, 7)
    height = blurred(painted[..., 3], 0.8) * 1.5 + bristles * 0.35
    shade = relief(height, sketch.light) * 0.42 * hand.depth
    out: Floats = painted[..., :3] * (1 + shade[..., None]) + np.clip(shade, 0, 1)[..., None] * 0.18
    return out


def _smeared(values: Floats, flow: Floats, reach: int) -> Floats:
    """Line integral convolution: `values` averaged along `flow`."""
    rows, columns = np.indices(values.shape, np.float32)
    dy, dx = np.sin(flow), np.cos(flow)
    total = values.copy()
    for i in range(1, reach + 1):
        for sign in (i, -i):
            y = np.clip(rows + dy * sign, 0, values.shape[0] - 1).astype(np.int32)
            x = np.clip(columns + dx * sign, 0, values.shape[1] - 1).astype(np.int32)
            total += values[y, x]
    return total / np.float32(2 * reach + 1) ** 0.5


def watercolor(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Washes on white paper: wandering outlines, pigment that gathers at edges, blooms, an unpainted rim."""
    shape = (sketch.height, sketch.width)
    sketch = redrawn(sketch, warped(sketch, rng, 1.0 + 2.2 * hand.energy, 14))
    color = blurred(flat_color(sketch, ramps, 0.56 + (sketch.tone - 0.5) * 0.9), 1.0 + 2.5 * hand.energy)
    rim = edges(sketch.shape)
    pooled = np.clip(blurred(rim, hand.size * sketch.width) * 3.2, 0, 1) * 0.5
    density = 0.80 + noise(rng, shape, 5) * 0.11 + noise(rng, shape, 16) * 0.06 + noise(rng, shape, 110) * 0.035
    density += hand.depth * (pooled - 0.12)
    paper = np.float32([0.985, 0.975, 0.95])
    v, u = (
        np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None],
        np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :],
    )
    border = np.maximum(np.abs(u), np.abs(v)) + noise(rng, shape, 9) * 0.022
    density *= np.clip((0.93 - border) / 0.03, 0, 1) * (1 + 0.3 * np.exp(-(((border - 0.905) / 0.02) ** 2)))
    dry = np.clip(noise(rng, shape, 40) - 1.7, 0, 0.5) * rim
    density = np.clip(density - dry, 0, 1.25)
    out: Floats = paper * np.exp(density[..., None] * np.log(np.clip(color, 0.03, 1) / 1.0))
    return out


def facets(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Cubism: straight cuts split the view into planes, each a little displaced and shaded on its own."""
    h, w = sketch.height, sketch.width
    rows, columns = np.indices((h, w), np.float32)
    cells = np.zeros((h, w), np.int64)
    count = round(2.2 / hand.size**0.5)
    for i in range(count):
        angle = rng.choice([0.35, 1.2, 1.95, 2.75]) + rng.normal(0, 0.16)
        x, y = rng.uniform(0.05, 0.95, 2) * (w, h)
        cells |= ((columns - x) * np.cos(angle) + (rows - y) * np.sin(angle) > 0).astype(np.int64) << i
    _, cells = np.unique(cells, return_inverse=True)
    cells = cells.reshape(h, w)
    total = int(cells.max()) + 1
    push = rng.normal(0, hand.energy * 0.030 * w, (total, 2))[cells]
    at = (
        np.clip(rows + push[..., 0], 0, h - 1).astype(np.int64),
        np.clip(columns + push[..., 1], 0, w - 1).astype(np.int64),
    )
    broken = redrawn(sketch, at)
    angle = rng.uniform(0, 2 * np.pi, total)[cells]
    area = np.bincount(cells.ravel())
    center = [np.bincount(cells.ravel(), p.ravel())[cells] / area[cells] for p in (columns, rows)]
    along = (columns - center[0]) * np.cos(angle) + (rows - center[1]) * np.sin(angle)
    shade = np.tanh(along / (0.10 * w)) * 0.17 * hand.depth + rng.normal(0, 0.05, total)[cells]
    color = flat_color(broken, ramps, (broken.tone + shade).astype(np.float32))
    cut = edges(cells) * np.float32(0.30)
    outline = edges(broken.shape) * (1 - edges(cells, 2)) * np.float32(0.55)
    ink = ramps[Role.DARK, 110]
    mask = blurred(np.maximum(cut, outline), 0.7)[..., None] * 1.3
    out: Floats = color * (1 - mask) + ink * mask
    return out


def stained_glass(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Panes between lead cames, lit from behind: brightest in the middle of each pane and of the window."""
    h, w = sketch.height, sketch.width
    rows, columns = np.indices((h, w), np.float32)
    spacing = hand.size * w
    x, y = _points(sketch, spacing, rng)
    tile = Image.new("I", (w, h))
    nearest = np.zeros((h, w), np.int64)
    best = np.full((h, w), np.inf, np.float32)
    reach = int(spacing * 1.6)
    del tile
    for i, (px, py) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        y0, y1, x0, x1 = max(0, int(py) - reach), int(py) + reach, max(0, int(px) - reach), int(px) + reach
        if y1 <= 0 or x1 <= 0:
            continue
        distance = (rows[y0:y1, x0:x1] - py) ** 2 + (columns[y0:y1, x0:x1] - px) ** 2
        closer = distance < best[y0:y1, x0:x1]
        best[y0:y1, x0:x1][closer] = distance[closer]
        nearest[y0:y1, x0:x1][closer] = i
    panes = nearest * (int(sketch.shape.max()) + 1) + sketch.shape
    _, panes = np.unique(panes, return_inverse=True)
    panes = panes.reshape(h, w)
    total = int(panes.max()) + 1
    tone = np.bincount(panes.ravel(), sketch.tone.ravel()) / np.bincount(panes.ravel()) + rng.normal(
        0, 0.07 * hand.energy, total
    )
    color = flat_color(sketch, ramps, tone[panes].astype(np.float32))
    lead = edges(panes, 2) * 0.0 + edges(panes)
    thick = np.clip(blurred(np.maximum(lead, edges(sketch.shape, 2) * 0.9), 0.9) * (1.2 + hand.depth), 0, 1)
    inner = blurred(1 - edges(panes, 3), 3.0)
    light = 0.72 + 0.46 * inner + 0.06 * noise(rng, (h, w), 26)
    light *= 1.1 - 0.35 * (((rows / h - 0.45) ** 2 + (columns / w - 0.5) ** 2) * 2)
    gray = color.mean(-1, keepdims=True)
    vivid = np.clip(gray + (color - gray) * 1.25, 0, 1) * light[..., None]
    ink = ramps[Role.DARK, 30] * 0.55
    out: Floats = vivid * (1 - thick[..., None]) + ink * thick[..., None]
    return out


def mosaic(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Square stones in grout, in straight rows (low energy) or in arcs around a point (high energy)."""
    h, w = sketch.height, sketch.width
    rows, columns = np.indices((h, w), np.float32)
    size = hand.size * w
    if hand.energy > 0.5:
        cx, cy = rng.uniform(0.3, 0.7) * w, rng.uniform(0.9, 1.2) * h
        radius = np.hypot(columns - cx, rows - cy)
        v = radius / size
        ring = np.floor(v)
        u = (
            np.arctan2(rows - cy, columns - cx) * np.maximum(1, np.round((ring + 0.5) * 2 * np.pi)) / (2 * np.pi)
            + ring * 0.37
        )
    else:
        u, v = columns / size, rows / size
        u = u + 0.5 * (np.floor(v) % 2) * (hand.energy > 0.2)
    u, v = u + noise(rng, (h, w), 8) * 0.07, v + noise(rng, (h, w), 8) * 0.07
    stones = np.floor(u).astype(np.int64) * 4096 + np.floor(v).astype(np.int64)
    color = cell_means(flat_color(sketch, ramps, sketch.tone * 1.1 - 0.05), stones)
    _, index = np.unique(stones, return_inverse=True)
    index = index.reshape(h, w)
    total = int(index.max()) + 1
    color = color * (1 + rng.normal(0, 0.09, total).astype(np.float32)[index][..., None])
    fu, fv = u - np.floor(u), v - np.floor(v)
    tilt = rng.normal(0, 0.5, (2, total)).astype(np.float32)[:, index] * 0.16 * hand.depth
    color = color * (1 + (tilt[0] * (fu - 0.5) + tilt[1] * (fv - 0.5))[..., None])
    gap = np.minimum(np.minimum(fu, 1 - fu), np.minimum(fv, 1 - fv)) * size
    stone = np.clip((gap - 0.55) / 0.9, 0, 1)[..., None]
    bevel = (np.clip((0.25 - fv) * 4, 0, 1) - np.clip((fv - 0.75) * 4, 0, 1)) * 0.10 * hand.depth
    grout = ramps[hand.ground, 128] * 0.75
    out: Floats = (color + bevel[..., None]) * stone + grout * (1 - stone)
    return out


def woodcut(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Color blocks under a dark key block whose carved lines thin out towards the light."""
    shape = (sketch.height, sketch.width)
    sketch = redrawn(sketch, warped(sketch, rng, 0.8, 24))
    rows, columns = np.indices(shape, np.float32)
    levels = np.where(sketch.tone > 0.52, 0.60, 0.46).astype(np.float32)
    color = flat_color(sketch, ramps, levels)
    shift = round(1.5 + hand.energy * 1.5)
    color = np.roll(color, (shift, -shift), (0, 1))
    starved = np.clip(noise(rng, shape, 70) * 0.5 + noise(rng, shape, 12) * 0.4 - 0.75, 0, 1)
    paper = ramps[Role.LIGHT, 140]
    color = color + (paper - color) * starved[..., None] * 0.8
    turn = np.round(sketch.flow / 0.26) * 0.26
    across = columns * -np.sin(turn) + rows * np.cos(turn)
    across = across + noise(rng, shape, 6) * (1 + 4 * hand.energy)
    pitch = hand.size * sketch.width
    wave = 0.5 + 0.5 * np.sin(across * (2 * np.pi / pitch))
    dark = np.clip(0.72 - sketch.tone * 1.05, 0, 1)
    carved = (dark * hand.depth > wave) | (sketch.role == Role.DARK)
    carved |= (sketch.role == Role.DARK) & (wave < 0.9)
    key = np.maximum(carved, edges(sketch.shape, 2) > 0).astype(np.float32)
    key = np.clip(blurred(key, 0.8) * 1.6 - 0.3, 0, 1) * (1 - 0.5 * starved)
    ink = ramps[Role.DARK, 100]
    out: Floats = color * (1 - key[..., None]) + ink * key[..., None]
    return out


def hatching(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Pen and wash: crossed ink lines model the shadows over a pale tint on paper."""
    shape = (sketch.height, sketch.width)
    sketch = redrawn(sketch, warped(sketch, rng, 0.7 + hand.energy, 18))
    rows, columns = np.indices(shape, np.float32)
    tint = blurred(flat_color(sketch, ramps, 0.54 + (sketch.tone - 0.5) * 0.6), 2.0)
    paper = ramps[hand.ground, 150]
    wash = 0.66 + 0.12 * noise(rng, shape, 6)
    color = paper + (tint - paper) * np.clip(wash, 0, 1)[..., None]
    pitch = hand.size * sketch.width
    dark = 1 - sketch.tone + np.where(sketch.role == Role.DARK, 0.35, 0)
    ink = np.zeros(shape, np.float32)
    for angle, threshold in ((0.8, 0.44), (-0.75, 0.58), (0.05, 0.70), (1.6, 0.82)):
        across = columns * -np.sin(angle) + rows * np.cos(angle) + noise(rng, shape, 5) * 2.5 * (0.3 + hand.energy)
        line = np.clip(1.25 - np.abs((across / pitch) % 1 - 0.5) * pitch * 0.95, 0, 1)
        ink = np.maximum(ink, line * np.clip((dark - threshold) * 9, 0, 1) * (0.8 + 0.2 * noise(rng, shape, 40)))
    outline = blurred(edges(sketch.shape, 1), 0.5) * 2.0 * (0.75 + 0.3 * noise(rng, shape, 30))
    ink = np.clip(np.maximum(ink * 0.9, outline), 0, 1) * hand.depth
    pen = ramps[Role.DARK, 110]
    out: Floats = color * (1 - ink[..., None]) + pen * ink[..., None]
    return out


def glaze(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Old-master oil: smooth modeling, lost edges, one pool of light and deep corners, fine cracks."""
    shape = (sketch.height, sketch.width)
    v, u = (
        np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None],
        np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :],
    )
    pool = np.exp(-(((u + sketch.light[0] * 0.35) ** 2 + (v + sketch.light[1] * 0.2) ** 2) / 0.75))
    tone = sketch.tone * (1 - 0.55 * hand.depth) + (sketch.tone + 0.12) * pool * 0.62 * hand.depth
    color = flat_color(sketch, ramps, tone.astype(np.float32))
    soft = blurred(color, hand.size * sketch.width)
    color = color * 0.45 + soft * 0.55
    bloom = blurred(np.clip(color - 0.55, 0, 1), 9)
    color = color + bloom * 0.55
    color = color * (1 + 0.035 * noise(rng, shape, 60)[..., None])
    cracks = np.abs(noise(rng, shape, 22)) < 0.035
    out: Floats = color * (1 - 0.22 * hand.energy * cracks[..., None])
    return out
