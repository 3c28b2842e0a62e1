"""The drawing under the paint: what is where, how light it is, which way the brush should run.

A `Sketch` has no color. Scenes draw shapes into it in unit coordinates (x right, y down, both 0 to 1), far things
first; brushes read its planes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, cos, floor, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ingest.sampledata.palettes import Floats, Role

Point = tuple[float, float]
Tone = float | tuple[float, float]


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Floats:
    """Smooth noise of `shape`, about `cells` bumps across, mean 0 and standard deviation about 1."""
    grid = rng.standard_normal((cells + 2, cells + 2), np.float32)
    image = Image.fromarray(grid, "F").resize(
        (shape[1], shape[0]), Image.Resampling.BICUBIC, (0.5, 0.5, cells + 1.5, cells + 1.5)
    )
    return np.asarray(image) * np.float32(1.6)


def curve(points: Sequence[Point], *, closed: bool = True, steps: int = 8) -> list[Point]:
    """Catmull-Rom spline through `points`, as a polyline."""
    p = np.array(points, np.float32)
    n = len(p)
    if closed:
        before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
        segments = n
    else:
        before, after = np.vstack([p[:1], p[:-1]]), np.vstack([p[1:], p[-1:]])
        beyond = np.vstack([p[2:], p[-1:], p[-1:]])
        segments = n - 1
    t = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)[None, :, None]
    a, b, c, d = (q[:segments, None, :] for q in (before, p, after, beyond))
    line = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    out = [(float(x), float(y)) for x, y in line.reshape(-1, 2)]
    return out if closed else [*out, points[-1]]


class Sketch:
    """Planes of one picture, each of shape (height, width).

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
    """

    def __init__(self, height: int, width: int, *, light: Point) -> None:
        self.height, self.width, self.light = height, width, light
        self.role = np.full((height, width), Role.AIR, np.uint8)
        self.tone = np.full((height, width), 0.5, np.float32)
        self.flow = np.zeros((height, width), np.float32)
        self.shape = np.zeros((height, width), np.int32)
        self._shapes = 0

    def area(
        self, points: Sequence[Point], role: Role | None, tone: Tone, *, volume: float = 0.0, flow: float | None = 0.0
    ) -> None:
        """Polygon. `tone` is one value or (top, bottom); `volume` rounds it under the light.

        With `role` None the pixels keep their color and shape, and `tone` is added: a shadow or a light.
        With `flow` None brush strokes run around the middle.
        """
        x, y = [p[0] for p in points], [p[1] for p in points]
        box = (min(x), min(y), max(x), max(y))
        self._stamp(box, lambda draw, at: draw.polygon([at(p) for p in points], fill=255), role, tone, volume, flow)

    def disc(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float | None = None,
        role: Role | None = None,
        tone: Tone = 0.5,
        *,
        volume: float = 0.0,
        flow: float | None = None,
    ) -> None:
        """Ellipse around (x, y); see `area`."""
        ry = rx if ry is None else ry
        box = (x - rx, y - ry, x + rx, y + ry)
        corners = (box[:2], box[2:])
        self._stamp(
            box, lambda draw, at: draw.ellipse([at(corners[0]), at(corners[1])], fill=255), role, tone, volume, flow
        )

    def line(self, points: Sequence[Point], width: float, role: Role | None, tone: Tone) -> None:
        """Stroke along a polyline; `width` is a share of the picture's width. Flow follows its first segment."""
        x, y = [p[0] for p in points], [p[1] for p in points]
        box = (min(x) - width, min(y) - width, max(x) + width, max(y) + width)
        pixels = max(1, round(width * self.width))
        flow = float(np.arctan2(y[-1] - y[0], x[-1] - x[0]))

        def draw_line(draw: ImageDraw.ImageDraw, at: Callable[[Point], Point]) -> None:
            draw.line([at(p) for p in points], fill=255, width=pixels, joint="curve")

        self._stamp(box, draw_line, role, tone, 0.0, flow)

    def glow(self, x: float, y: float, radius: float, amount: float) -> None:
        """Soft light (or, below 0, shadow) around a point."""
        v = (np.arange(self.height, dtype=np.float32)[:, None] / self.height - y) / radius
        u = (np.arange(self.width, dtype=np.float32)[None, :] / self.width - x) / radius
        self.tone += amount * np.exp(-(u * u + v * v))

    def reflect(self, shore: float, rng: np.random.Generator, *, tone: float = -0.12, ripple: float = 0.012) -> None:
        """Everything below `shore` becomes a mirror of what is above, broken by ripples."""
        top = round(shore * self.height)
        rows = np.arange(top, self.height)
        depth = (rows - top) / max(1, self.height - top)
        source = np.clip(top - 1 - ((rows - top) * 0.95).astype(int), 0, None)
        wave = np.sin(np.cumsum(1.1 - 0.75 * depth) + rng.uniform(0, 6)) * depth**0.7
        shift = (wave * ripple * self.width * 2)[:, None]
        columns = np.clip(np.arange(self.width)[None, :] + shift.astype(int), 0, self.width - 1)
        at = (source[:, None], columns)
        self.role[top:] = self.role[at]
        self.tone[top:] = 0.5 + (self.tone[at] - 0.5) * 0.75 + tone
        self.flow[top:] = 0.0
        self.shape[top:] = self.shape[at] + self._shapes + 1
        self._shapes = self._shapes * 2 + 1

    def _stamp(
        self,
        box: tuple[float, float, float, float],
        draw_shape: Callable[[ImageDraw.ImageDraw, Callable[[Point], Point]], object],
        role: Role | None,
        tone: Tone,
        volume: float,
        flow: float | None,
    ) -> None:
        left, top, right, bottom = box[0] * self.width, box[1] * self.height, box[2] * self.width, box[3] * self.height
        x0, y0 = max(0, floor(left)), max(0, floor(top))
        x1, y1 = min(self.width, ceil(right) + 1), min(self.height, ceil(bottom) + 1)
        if x1 <= x0 or y1 <= y0:
            return
        image = Image.new("L", (x1 - x0, y1 - y0))
        draw_shape(ImageDraw.Draw(image), lambda p: (p[0] * self.width - x0, p[1] * self.height - y0))
        mask: NDArray[np.bool_] = np.asarray(image) > 0
        at = (slice(y0, y1), slice(x0, x1))
        v = ((np.arange(y0, y1, dtype=np.float32) - top) / max(1.0, bottom - top) * 2 - 1)[:, None]
        u = ((np.arange(x0, x1, dtype=np.float32) - left) / max(1.0, right - left) * 2 - 1)[None, :]
        first, last = tone if isinstance(tone, tuple) else (tone, tone)
        value = first + (last - first) * (v + 1) / 2 + volume * (u * self.light[0] + v * self.light[1])
        if role is None:
            self.tone[at] += np.where(mask, value, 0)
            return
        self._shapes += 1
        self.role[at][mask] = role
        self.shape[at][mask] = self._shapes
        np.copyto(self.tone[at], np.broadcast_to(value, mask.shape), where=mask)
        direction = np.arctan2(v, u) + np.float32(pi / 2) if flow is None else np.float32(flow)
        np.copyto(self.flow[at], np.broadcast_to(direction, mask.shape), where=mask)


def ring(x: float, y: float, rx: float, ry: float, *, start: float = 0.0, stop: float = 2 * pi) -> list[Point]:
    """Points on an ellipse from angle `start` to `stop` (radians, clockwise on the picture)."""
    return [(x + rx * cos(a), y + ry * sin(a)) for a in np.linspace(start, stop, 24).tolist()]
