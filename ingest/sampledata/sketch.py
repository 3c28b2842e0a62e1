"""The drawing under the paint: what is where, how light it is, which way the brush should run.

A `Sketch` has no color. Scenes draw shapes into it, far things first, and brushes read its planes. Coordinates are
shares of the image (x right, y down, 0 to 1); outlines are written as in an SVG `points` attribute: "0,0 1,0 1,1".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from math import ceil, cos, floor, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ingest.sampledata.palettes import Floats, Role

Point = tuple[float, float]
Outline = str | Sequence[Point]
Tone = float | tuple[float, float]


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Floats:
    """Smooth noise of `shape`, about `cells` bumps across, mean 0 and standard deviation about 1.3."""
    grid = Image.fromarray(rng.standard_normal((cells + 2, cells + 2), np.float32))
    box = (0.5, 0.5, cells + 1.5, cells + 1.5)
    return np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box)) * np.float32(1.6)


def points(outline: Outline) -> list[Point]:
    """An outline as a list of points."""
    if not isinstance(outline, str):
        return list(outline)
    pairs = (pair.split(",") for pair in outline.split())
    return [(float(x), float(y)) for x, y in pairs]


def mirrored(right_half: str) -> list[Point]:
    """A closed outline from its right half, mirrored at x = 0."""
    half = points(right_half)
    return [*half, *[(-x, y) for x, y in reversed(half)]]


def spline(outline: Outline, *, closed: bool = False, steps: int = 8) -> list[Point]:
    """Catmull-Rom spline through an outline, as a polyline."""
    p = np.array(points(outline))
    n = len(p)
    if closed:
        before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
        segments = n
    else:
        before, after = np.vstack([p[:1], p[:-1]]), np.vstack([p[1:], p[-1:]])
        beyond = np.vstack([p[2:], p[-1:], p[-1:]])
        segments = n - 1
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (q[:segments, None, :] for q in (before, p, after, beyond))
    line = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    out = [(float(x), float(y)) for x, y in line.reshape(-1, 2)]
    return out if closed else [*out, (float(p[-1, 0]), float(p[-1, 1]))]


def arc(center: Point, radius: Point, start: float = 0.0, stop: float = 2 * pi) -> list[Point]:
    """Points on an ellipse from angle `start` to `stop` (radians, clockwise on the image)."""
    return [(center[0] + radius[0] * cos(a), center[1] + radius[1] * sin(a)) for a in np.linspace(start, stop, 24)]


class Sketch:
    """Planes of one image, each of shape (height, width).

    Attributes
    ----------
    role : uint8
        The `Role` whose color the pixel takes.
    tone : float32
        0 shadow, 0.5 the role's own color, 1 light; may overshoot.
    flow : float32
        Direction of brush strokes, radians.
    shape : int32
        Number of the topmost shape; grows in drawing order, so a higher number lies in front.
    light : Point
        The direction in which light travels, in this sketch's own coordinates.
    """

    def __init__(self, height: int, width: int, *, light: Point) -> None:
        self.height, self.width, self.light = height, width, light
        self.role = np.full((height, width), Role.AIR, np.uint8)
        self.tone = np.full((height, width), 0.5, np.float32)
        self.flow = np.zeros((height, width), np.float32)
        self.shape = np.zeros((height, width), np.int32)
        self._origin, self._scale, self._flip = (0.0, 0.0), 1.0, 1.0

    def placed(self, x: float, y: float = 0.0, *, scale: float = 1.0, flip: float = 1.0) -> Sketch:
        """The same sketch with its origin at (x, y), lengths times `scale`, and x to the left if `flip` is -1."""
        view = copy(self)
        view._origin = (self._origin[0] + self._flip * self._scale * x, self._origin[1] + self._scale * y)
        view._scale, view._flip = self._scale * scale, self._flip * flip
        view.light = (self.light[0] * flip, self.light[1])
        return view

    def area(
        self, outline: Outline, role: Role | None, tone: Tone, *, volume: float = 0.0, flow: float | None = 0.0
    ) -> None:
        """Polygon. `tone` is one value or (top, bottom); `volume` rounds it under the light.

        With `role` None the pixels keep their color and shape, and `tone` is added: a shadow or a light.
        With `flow` None brush strokes run around the middle.
        """
        corners = [self._pixel(p) for p in points(outline)]
        x, y = [p[0] for p in corners], [p[1] for p in corners]

        def draw(canvas: ImageDraw.ImageDraw, left: int, top: int) -> None:
            canvas.polygon([(a - left, b - top) for a, b in corners], fill=255)

        self._stamp((min(x), min(y), max(x), max(y)), draw, role, tone, volume=volume, flow=flow)

    def curve(
        self, outline: Outline, role: Role | None, tone: Tone, *, volume: float = 0.0, flow: float | None = 0.0
    ) -> None:
        """Area with a smooth outline through the given points."""
        self.area(spline(outline, closed=True), role, tone, volume=volume, flow=flow)

    def disc(
        self,
        center: Point,
        radius: float | Point,
        role: Role | None,
        tone: Tone,
        *,
        volume: float = 0.0,
        flow: float | None = None,
    ) -> None:
        """Ellipse with one radius or two; see `area`."""
        rx, ry = radius if isinstance(radius, tuple) else (radius, radius)
        x, y = self._pixel(center)
        rx, ry = rx * self._scale * self.width, ry * self._scale * self.height

        def draw(canvas: ImageDraw.ImageDraw, left: int, top: int) -> None:
            canvas.ellipse((x - rx - left, y - ry - top, x + rx - left, y + ry - top), fill=255)

        self._stamp((x - rx, y - ry, x + rx, y + ry), draw, role, tone, volume=volume, flow=flow)

    def line(self, path: Outline, width: float, role: Role | None, tone: Tone) -> None:
        """Stroke along a polyline; brush strokes run from its start to its end."""
        corners = [self._pixel(p) for p in points(path)]
        x, y = [p[0] for p in corners], [p[1] for p in corners]
        pixels = max(1, round(width * self._scale * self.width))

        def draw(canvas: ImageDraw.ImageDraw, left: int, top: int) -> None:
            canvas.line([(a - left, b - top) for a, b in corners], fill=255, width=pixels, joint="curve")

        box = (min(x) - pixels, min(y) - pixels, max(x) + pixels, max(y) + pixels)
        self._stamp(box, draw, role, tone, flow=float(np.arctan2(y[-1] - y[0], x[-1] - x[0])))

    def glow(self, center: Point, radius: float, amount: float) -> None:
        """Soft light (or, below 0, shadow) around a point."""
        x, y = self._pixel(center)
        reach = radius * self._scale
        v = (np.arange(self.height, dtype=np.float32)[:, None] - y) / (reach * self.height)
        u = (np.arange(self.width, dtype=np.float32)[None, :] - x) / (reach * self.width)
        self.tone += amount * np.exp(-(u * u + v * v))

    def reflect(self, shore: float, rng: np.random.Generator, *, tone: float = -0.12, ripple: float = 0.012) -> None:
        """Everything below `shore` becomes a mirror of what is above, broken by ripples."""
        top = round(self._pixel((0, shore))[1])
        rows = np.arange(top, self.height)
        depth = (rows - top) / max(1, self.height - top)
        source = np.clip(top - 1 - ((rows - top) * 0.95).astype(int), 0, None)
        wave = np.sin(np.cumsum(1.1 - 0.75 * depth) + rng.uniform(0, 6)) * depth**0.7
        shift = (wave * ripple * self.width * 2)[:, None]
        columns = np.clip(np.arange(self.width)[None, :] + shift.astype(int), 0, self.width - 1)
        at = (source[:, None], columns)
        self.role[top:] = self.role[at]
        self.tone[top:] = 0.5 + (self.tone[at] - 0.5) * 0.75 + tone
        # Where a wave leans towards the sky, it mirrors the sky.
        glint = (wave > 0.62 * depth**0.7 + 0.12)[:, None] & (self.role[top:] != Role.AIR)
        self.role[top:][glint] = Role.AIR
        self.tone[top:][glint] = 0.5 + tone / 2
        self.flow[top:] = 0.0
        self.shape[top:] = self.shape[at] + self.shape.max() + 1

    def _pixel(self, point: Point) -> Point:
        x = self._origin[0] + self._flip * self._scale * point[0]
        y = self._origin[1] + self._scale * point[1]
        return x * self.width, y * self.height

    def _stamp(
        self,
        box: tuple[float, float, float, float],
        draw: Callable[[ImageDraw.ImageDraw, int, int], None],
        role: Role | None,
        tone: Tone,
        *,
        volume: float = 0.0,
        flow: float | None = 0.0,
    ) -> None:
        left, top, right, bottom = box
        x0, y0 = max(0, floor(left)), max(0, floor(top))
        x1, y1 = min(self.width, ceil(right) + 1), min(self.height, ceil(bottom) + 1)
        if x1 <= x0 or y1 <= y0:
            return
        image = Image.new("L", (x1 - x0, y1 - y0))
        draw(ImageDraw.Draw(image), x0, y0)
        mask: NDArray[np.bool_] = np.asarray(image) > 0
        at = (slice(y0, y1), slice(x0, x1))
        v = ((np.arange(y0, y1, dtype=np.float32) - top) / max(1.0, bottom - top) * 2 - 1)[:, None]
        u = ((np.arange(x0, x1, dtype=np.float32) - left) / max(1.0, right - left) * 2 - 1)[None, :]
        first, last = tone if isinstance(tone, tuple) else (tone, tone)
        lit = -(u * self.light[0] * self._flip + v * self.light[1])
        value = first + (last - first) * (v + 1) / 2 + volume * lit
        if role is None:
            self.tone[at] += np.where(mask, value, 0)
            return
        self.role[at][mask] = role
        self.shape[at][mask] = self.shape.max() + 1
        np.copyto(self.tone[at], np.broadcast_to(value, mask.shape), where=mask)
        direction = np.arctan2(v, u) + np.float32(pi / 2) if flow is None else np.float32(flow)
        np.copyto(self.flow[at], np.broadcast_to(direction, mask.shape), where=mask)
