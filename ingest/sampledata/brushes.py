"""Ten ways to put a sketch on canvas; each movement shares one.

A brush turns a `Sketch` and a palette's ramps into an image: sRGB in [0, 1], shape (height, width, 3). What differs
between artists of one movement is their `Hand`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ingest.sampledata import marks
from ingest.sampledata.marks import blurred, flat_color, mixed, outlines
from ingest.sampledata.palettes import Floats, Role
from ingest.sampledata.sketch import Sketch, noise


@dataclass(frozen=True)
class Hand:
    """How one artist works.

    Attributes
    ----------
    size
        Of the marks (dots, strokes, tiles …), as a share of the image's width.
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

#: Shapes below this share of the image (eyes, lips, petals) are painted with finer marks.
DETAIL = 0.0035


def dots(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Pointillism: layers of dots; each strays in tone, some take a neighboring hue (broken color)."""
    ground = flat_color(sketch, ramps) * 0.6 + ramps[hand.ground, 150] * 0.4
    image = Image.fromarray((ground * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    everywhere, detail = np.ones(sketch.role.shape, np.bool_), ~marks.large(sketch.shape, DETAIL)
    for scale, where in ((1.0, everywhere), (0.72, everywhere), (0.42, detail)):
        radius = hand.size * sketch.width * scale / 2
        x, y = marks.scattered(sketch, radius * 1.55, rng)
        keep = where[marks.pixel_at(sketch, x, y)]
        x, y = x[keep], y[keep]
        at = marks.pixel_at(sketch, x, y)
        stray = rng.random(len(x)) < 0.13 * hand.depth
        role = np.where(stray, rng.integers(1, 6, len(x)), sketch.role[at])
        tone = sketch.tone[at] + rng.normal(0, 0.08 * hand.depth, len(x))
        color = ramps[role, (np.clip(tone, 0, 1) * 255).astype(np.uint8)]
        size = radius * rng.uniform(0.8, 1.2, len(x)) * (1 - 0.25 * stray)
        height = size * (1 - 0.35 * hand.energy * rng.random(len(x)))
        boxes = np.stack([x - size, y - height, x + size, y + height], 1).tolist()
        for box, fill in zip(boxes, marks.fills(color), strict=True):
            draw.ellipse(box, fill)
    return np.asarray(image, np.float32) / 255


def cut_paper(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Cut-outs: every shape is a few flat sheets with a hand-cut edge that casts a soft shadow."""
    sketch = marks.trembling(sketch, rng, hand.energy * 3.0, 9)
    levels = 3
    tone = (np.floor(np.clip(sketch.tone, 0.02, 0.98) * levels) + 0.5) / levels
    color = flat_color(sketch, ramps, 0.5 + (tone - 0.5) * 0.85)
    reach, steps = hand.size * sketch.width, 5
    shadow = np.zeros(sketch.role.shape, np.float32)
    for i in range(1, steps + 1):
        shift = (round(reach * i / steps * sketch.light[1]), round(reach * i / steps * sketch.light[0]))
        shadow += np.roll(sketch.shape, shift, (0, 1)) > sketch.shape
    shadow = blurred(shadow / steps, reach * 0.3)
    fiber = noise(rng, sketch.role.shape, 120) * 0.008
    lit: Floats = color * (1 - 0.42 * hand.depth * shadow[..., None]) + fiber[..., None]
    return lit


def impasto(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Expressionism: thick strokes along the flow of the shapes, with bristle furrows under raking light."""
    shape = sketch.role.shape
    flow = sketch.flow + noise(rng, shape, 3) * (0.25 + hand.energy)
    # The fourth channel is the thickness of the paint.
    start = np.dstack([flat_color(sketch, ramps), np.full(shape, 0.5)])
    image = Image.fromarray((start * 255).astype(np.uint8), "RGBA")
    draw = ImageDraw.Draw(image)
    busy = np.where(marks.large(sketch.shape, DETAIL), blurred(outlines(sketch.shape, 2), 2.5), 1.0)
    for scale, least, most in ((1.0, 0.0, 0.30), (0.6, 0.10, 0.9), (0.32, 0.34, 1.0)):
        width = hand.size * sketch.width * scale
        x, y = marks.scattered(sketch, width * 1.05, rng)
        here = busy[marks.pixel_at(sketch, x, y)]
        x, y = x[(here >= least) & (here <= most)], y[(here >= least) & (here <= most)]
        at = marks.pixel_at(sketch, x, y)
        tone = sketch.tone[at] + rng.normal(0, 0.09 * (0.4 + hand.energy), len(x))
        role = np.where(rng.random(len(x)) < 0.06 * hand.energy, rng.integers(1, 6, len(x)), sketch.role[at])
        color = ramps[role, (np.clip(tone, 0, 1) * 255).astype(np.uint8)]
        paint = marks.fills(np.column_stack([color, rng.uniform(0.25, 1, len(x))]))
        paths = _strokes(sketch, flow, x, y, width * rng.uniform(1.6, 3.0, len(x)))
        for path, fill in zip(paths, paint, strict=True):
            draw.line(path, fill, max(2, round(width)), joint="curve")
    painted = np.asarray(image, np.float32) / 255
    bristles = marks.smeared(rng.standard_normal(shape, np.float32), flow, 6)
    height = blurred(painted[..., 3], 0.8) * 1.5 + bristles * 0.35
    shade = (marks.relief(height, sketch.light) * 0.42 * hand.depth)[..., None]
    lit: Floats = painted[..., :3] * (1 + shade) + np.clip(shade, 0, 1) * 0.18
    return lit


def _strokes(sketch: Sketch, flow: Floats, x: Floats, y: Floats, length: Floats) -> list[list[float]]:
    """Paths of five points along `flow`, (x, y) in the middle, as flat lists for Pillow."""
    path = [(x, y)]
    for sign in (1, -1):
        end_x, end_y = x, y
        for _ in range(2):
            a = flow[marks.pixel_at(sketch, end_x, end_y)]
            end_x, end_y = end_x + sign * np.cos(a) * length / 4, end_y + sign * np.sin(a) * length / 4
            path = [*path, (end_x, end_y)] if sign > 0 else [(end_x, end_y), *path]
    lines: list[list[float]] = np.stack([np.stack(p, 1) for p in path], 1).reshape(len(x), -1).tolist()
    return lines


def watercolor(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Washes on white paper: wandering outlines, pigment that gathers at edges, blooms, an unpainted rim."""
    shape = sketch.role.shape
    sketch = marks.trembling(sketch, rng, 1.0 + 2.2 * hand.energy, 14)
    color = blurred(flat_color(sketch, ramps, 0.56 + (sketch.tone - 0.5) * 0.9), 0.8 + 1.4 * hand.energy)
    contour = outlines(sketch.shape)
    pooled = np.clip(blurred(contour, hand.size * sketch.width) * 3.2, 0, 1) * 0.5
    density = 0.90 + noise(rng, shape, 5) * 0.11 + noise(rng, shape, 16) * 0.05 + noise(rng, shape, 120) * 0.02
    density += hand.depth * (pooled - 0.12)
    density -= np.clip(noise(rng, shape, 40) - 1.7, 0, 0.5) * contour
    v, u = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None, :]
    rim = np.maximum(np.abs(u), np.abs(v)) + noise(rng, shape, 5) * 0.012 + noise(rng, shape, 28) * 0.008
    density *= np.clip((0.93 - rim) / 0.03, 0, 1) * (1 + 0.3 * np.exp(-(((rim - 0.905) / 0.02) ** 2)))
    # Beer–Lambert: what the paper reflects fades with the amount of pigment.
    paper = np.array([0.985, 0.975, 0.95])
    washed: Floats = paper * np.clip(color, 0.03, 1) ** np.clip(density, 0, 1.25)[..., None]
    return washed


def facets(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Cubism: straight cuts split the view into planes, each a little displaced and shaded on its own."""
    h, w = sketch.role.shape
    rows, columns = np.indices((h, w), np.float32)
    sides = np.zeros((h, w), np.int64)
    for i in range(round(2.2 / hand.size**0.5)):
        angle = rng.choice([0.35, 1.2, 1.95, 2.75]) + rng.normal(0, 0.16)
        x, y = rng.uniform(0.05, 0.95, 2) * (w, h)
        sides |= ((columns - x) * np.cos(angle) + (rows - y) * np.sin(angle) > 0).astype(np.int64) << i
    cells, count = marks.numbered(sides)
    push = rng.normal(0, hand.energy * 0.030 * w, (2, count))[:, cells]
    broken = marks.redrawn(sketch, rows + push[0], columns + push[1])
    angle = rng.uniform(0, 2 * np.pi, count)
    across = (columns - marks.cell_means(columns, cells)[cells]) * np.cos(angle)[cells]
    down = (rows - marks.cell_means(rows, cells)[cells]) * np.sin(angle)[cells]
    shade = np.tanh((across + down) / (0.10 * w)) * 0.17 * hand.depth + rng.normal(0, 0.05, count)[cells]
    color = flat_color(broken, ramps, broken.tone + shade)
    lines = np.maximum(outlines(cells) * 0.30, outlines(broken.shape) * (1 - outlines(cells, 2)) * 0.55)
    return mixed(color, ramps[Role.DARK, 110], blurred(lines, 0.7) * 1.3)


def stained_glass(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Panes between lead cames, lit from behind: brightest in the middle of each pane and of the window."""
    h, w = sketch.role.shape
    panes = _nearest_point(sketch, hand.size * w, rng) * (int(sketch.shape.max()) + 1) + sketch.shape
    panes, count = marks.numbered(panes)
    tone = marks.cell_means(sketch.tone, panes) + rng.normal(0, 0.07 * hand.energy, count)
    color = flat_color(sketch, ramps, tone[panes])
    gray = color.mean(-1, keepdims=True)
    lead = np.maximum(outlines(panes, smallest=0.0006), outlines(sketch.shape, 2, smallest=0.0025) * 0.9)
    v, u = np.linspace(-0.45, 0.55, h)[:, None], np.linspace(-0.5, 0.5, w)[None, :]
    light = 0.72 + 0.46 * blurred(1 - outlines(panes, 3), 3.0) + 0.06 * noise(rng, (h, w), 26)
    light *= 1.1 - 0.7 * (v * v + u * u)
    vivid = np.clip(gray + (color - gray) * 1.25, 0, 1) * light[..., None]
    return mixed(vivid, ramps[Role.DARK, 30] * 0.55, np.clip(blurred(lead, 0.9) * (1.2 + hand.depth), 0, 1))


def _nearest_point(sketch: Sketch, spacing: float, rng: np.random.Generator) -> marks.Labels:
    """Voronoi cells of scattered points: for each pixel the number of the nearest one."""
    h, w = sketch.role.shape
    rows, columns = np.indices((h, w), np.float32)
    nearest, best = np.zeros((h, w), np.int64), np.full((h, w), np.inf, np.float32)
    reach = int(spacing * 1.6)
    x, y = marks.scattered(sketch, spacing, rng)
    for i, (cx, cy) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        at = np.s_[max(0, int(cy) - reach) : max(0, int(cy) + reach), max(0, int(cx) - reach) : max(0, int(cx) + reach)]
        distance = (rows[at] - cy) ** 2 + (columns[at] - cx) ** 2
        closer = distance < best[at]
        best[at][closer] = distance[closer]
        nearest[at][closer] = i
    return nearest


def mosaic(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Square stones in grout, in straight rows (low energy) or in arcs around a point (high energy)."""
    h, w = sketch.role.shape
    rows, columns = np.indices((h, w), np.float32)
    size = hand.size * w
    if hand.energy > 0.5:
        x, y = rng.uniform(0.3, 0.7) * w, rng.uniform(0.9, 1.2) * h
        v = np.hypot(columns - x, rows - y) / size
        course = np.floor(v)
        stones_around = np.maximum(1, np.round((course + 0.5) * 2 * np.pi))
        u = np.arctan2(rows - y, columns - x) * stones_around / (2 * np.pi) + course * 0.37
    else:
        v = rows / size
        u = columns / size + 0.5 * (np.floor(v) % 2) * (hand.energy > 0.2)
    u, v = u + noise(rng, (h, w), 8) * 0.07, v + noise(rng, (h, w), 8) * 0.07
    stones = np.floor(u).astype(np.int64) * 4096 + np.floor(v).astype(np.int64)
    # A stone that would straddle an outline is cut along it, as a mosaicist does.
    stones, count = marks.numbered(stones * (int(sketch.shape.max()) + 1) + sketch.shape)
    color = marks.cell_means(flat_color(sketch, ramps, sketch.tone * 1.1 - 0.05), stones)
    color = (color * (1 + rng.normal(0, 0.09, count))[:, None])[stones]
    u, v = u - np.floor(u), v - np.floor(v)
    tilt = rng.normal(0, 0.08 * hand.depth, (2, count))[:, stones]
    bevel = (np.clip((0.25 - v) * 4, 0, 1) - np.clip((v - 0.75) * 4, 0, 1)) * 0.10 * hand.depth
    color = color * (1 + tilt[0] * (u - 0.5) + tilt[1] * (v - 0.5))[..., None] + bevel[..., None]
    gap = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) * size
    stone = np.clip((gap - 0.55) / 0.9, 0, 1) * (1 - 0.6 * outlines(sketch.shape, smallest=0.002))
    return mixed(color, ramps[hand.ground, 128] * 0.75, 1 - stone)


def woodcut(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Color blocks under a dark key block whose carved lines thin out towards the light."""
    shape = sketch.role.shape
    sketch = marks.trembling(sketch, rng, 0.8, 24)
    color = flat_color(sketch, ramps, np.where(sketch.tone > 0.52, 0.60, 0.46))
    misprint = round(1.5 + hand.energy * 1.5)
    color = np.roll(color, (misprint, -misprint), (0, 1))
    starved = np.clip(noise(rng, shape, 70) * 0.5 + noise(rng, shape, 12) * 0.4 - 0.75, 0, 1)
    color = mixed(color, ramps[Role.LIGHT, 140], starved * 0.8)
    rows, columns = np.indices(shape, np.float32)
    turn = np.round(sketch.flow / 0.26) * 0.26
    across = rows * np.cos(turn) - columns * np.sin(turn) + noise(rng, shape, 6) * (1 + 4 * hand.energy)
    wave = 0.5 + 0.5 * np.sin(across * (2 * np.pi / (hand.size * sketch.width)))
    dark = np.clip(np.where(sketch.role == Role.SKIN, 0.50, 0.66) - sketch.tone, 0, 1)
    carved = (dark * hand.depth > wave) | (sketch.role == Role.DARK)
    key = blurred(np.maximum(carved, outlines(sketch.shape, 2, smallest=0.002)), 0.8) * 1.6 - 0.3
    return mixed(color, ramps[Role.DARK, 100], np.clip(key, 0, 1) * (1 - 0.5 * starved))


def hatching(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Pen and wash: crossed ink lines model the shadows over a pale tint on paper."""
    shape = sketch.role.shape
    sketch = marks.trembling(sketch, rng, 0.7 + hand.energy, 18)
    tint = blurred(flat_color(sketch, ramps, 0.54 + (sketch.tone - 0.5) * 0.6), 2.0)
    paper = np.broadcast_to(ramps[hand.ground, 150], tint.shape)
    color = mixed(paper, tint, np.clip(0.66 + 0.12 * noise(rng, shape, 6), 0, 1))
    rows, columns = np.indices(shape, np.float32)
    pitch = hand.size * sketch.width
    dark = 1 - sketch.tone + np.select([sketch.role == Role.DARK, sketch.role == Role.SKIN], [0.35, -0.16])
    ink = np.zeros(shape, np.float32)
    for angle, threshold in ((0.8, 0.44), (-0.75, 0.58), (0.05, 0.70), (1.6, 0.82)):
        across = rows * np.cos(angle) - columns * np.sin(angle) + noise(rng, shape, 5) * 2.5 * (0.3 + hand.energy)
        line = np.clip(1.25 - np.abs((across / pitch) % 1 - 0.5) * pitch * 0.95, 0, 1)
        ink = np.maximum(ink, line * np.clip((dark - threshold) * 9, 0, 1) * (0.8 + 0.2 * noise(rng, shape, 40)))
    contour = blurred(outlines(sketch.shape, smallest=0.0004), 0.5) * 2.0 * (0.75 + 0.3 * noise(rng, shape, 30))
    return mixed(color, ramps[Role.DARK, 110], np.clip(np.maximum(ink * 0.9, contour), 0, 1) * hand.depth)


def glaze(sketch: Sketch, ramps: Floats, hand: Hand, rng: np.random.Generator) -> Floats:
    """Old-master oil: smooth modeling, lost edges, one pool of light and deep corners, fine cracks."""
    h, w = sketch.role.shape
    v, u = np.linspace(-1, 1, h)[:, None], np.linspace(-1, 1, w)[None, :]
    pool = np.exp(-((u + sketch.light[0] * 0.35) ** 2 + (v + sketch.light[1] * 0.2) ** 2) / 0.75)
    tone = sketch.tone * (1 - 0.55 * hand.depth) + (sketch.tone + 0.12) * pool * 0.62 * hand.depth
    color = flat_color(sketch, ramps, tone)
    color = color * 0.45 + blurred(color, hand.size * w) * 0.55
    color = color + blurred(color - 0.55, 9) * 0.40
    cracks = np.abs(noise(rng, (h, w), 22)) < 0.035
    return color * (1 + 0.012 * noise(rng, (h, w), 90) - 0.22 * hand.energy * cracks)[..., None]
