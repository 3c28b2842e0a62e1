"""Small charts as inline SVG, colored by the page's style sheet, and images as data URLs."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from ingest.images.loading import Fit, decode_image, square

#: Side of the largest image on the page, in pixels; smaller ones keep their own.
IMAGE_SIZE = 192

_WIDTH, _HEIGHT, _SCATTER_HEIGHT = 440, 200, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 16, 42


def image_url(content: bytes, fit: Fit = "crop") -> str:
    """An image file as a data URL: the square that the model sees of it, in WebP."""
    image = decode_image(content)
    image = square(image, min(*image.size, IMAGE_SIZE), fit)
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=90, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def nice_ticks(top: float, count: int = 4) -> list[float]:
    """At most `count + 1` round numbers from 0 to `top`."""
    if top <= 0:
        return [0.0]
    unit = 10.0 ** math.floor(math.log10(top / count))
    step = next(unit * factor for factor in (1, 2, 5, 10) if top / (unit * factor) <= count)
    return [step * index for index in range(int(top / step + 1e-9) + 1)]


def size_bins(sizes: Sequence[int]) -> list[tuple[str, int]]:
    """Counts of `sizes`, one bin per number up to 12, else bins that double: 1, 2–3, 4–7 and so on."""
    if not sizes:
        return []
    top = max(sizes)
    if top <= 12:
        return [(str(size), sum(1 for other in sizes if other == size)) for size in range(min(sizes), top + 1)]
    counts: dict[int, int] = {}
    for size in sizes:
        counts[size.bit_length()] = counts.get(size.bit_length(), 0) + 1
    bins = []
    for bits in range(min(counts), max(counts) + 1):
        first, last = (2 ** (bits - 1), 2**bits - 1) if bits else (0, 0)
        bins.append((str(first) if first == last else f"{first}–{last}", counts.get(bits, 0)))
    return bins


def histogram(bins: Sequence[tuple[str, int]], x_label: str, y_label: str) -> Markup:
    """A bar per bin, its count above it; many bins are labeled by their lower edges, which have room."""
    top = max((count for _, count in bins), default=0)
    parts = [_axes(top, x_label, y_label)]
    width = (_WIDTH - _LEFT - _RIGHT) / max(1, len(bins))
    tick = "tick small" if len(bins) > 7 else "tick"
    for index, (label, count) in enumerate(bins):
        x, y = _LEFT + index * width, _y(count, top)
        middle = x + width / 2
        shown = label.split("–")[0] + "+" if len(bins) > 9 and "–" in label else label
        parts.append(
            Markup(
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2"/>'
                '<text class="value" x="{:.1f}" y="{:.1f}">{}</text><text class="{}" x="{:.1f}" y="{}">{}</text>'
            ).format(
                x + 0.12 * width, y, 0.76 * width, _y(0, top) - y,
                middle, y - 4, f"{count:,}", tick, middle, _HEIGHT - _BOTTOM + 15, shown,
            )
        )  # fmt: skip
    described = "; ".join(f"{label}: {count:,}" for label, count in bins)
    return _svg(f"{y_label} by {x_label}: {described}", parts)


def curve(points: Sequence[Sequence[float]], x_label: str, y_label: str) -> Markup:
    """A line through `points` (x, y); the y axis starts at 0."""
    if not points:
        return Markup("")
    last_x, top = points[-1][0], max(y for _, y in points)
    span = _WIDTH - _LEFT - _RIGHT
    path = " ".join(f"{_LEFT + span * x / last_x:.1f},{_y(y, top):.1f}" for x, y in points)
    ticks = [
        Markup('<text class="tick" x="{:.1f}" y="{}">{}</text>').format(
            _LEFT + span * x / last_x, _HEIGHT - _BOTTOM + 15, f"{x:,.0f}"
        )
        for x in nice_ticks(last_x, 5)
    ]
    line = Markup('<polyline class="line" points="{}"/>').format(path)
    described = f"{y_label} by {x_label}: from {points[0][1]:.3f} to {points[-1][1]:.3f}"
    return _svg(described, [_axes(top, x_label, y_label), *ticks, line])


@dataclass(frozen=True)
class Point:
    """A mark of a scatter plot, with a standard error to each side; `number` is the label that a legend explains."""

    number: str
    x: float
    y: float
    x_error: float = 0.0
    y_error: float = 0.0


def scatter(points: Sequence[Point], x_label: str, y_label: str) -> Markup:
    """Numbered marks, each with one standard error to each side; neither axis need start at 0."""
    if not points:
        return Markup("")
    x_low, x_high = _range([(one.x, one.x_error) for one in points])
    y_low, y_high = _range([(one.y, one.y_error) for one in points])
    bottom, right = _SCATTER_HEIGHT - _BOTTOM, _WIDTH - _RIGHT

    def x(value: float) -> float:
        return _LEFT + (right - _LEFT) * (value - x_low) / (x_high - x_low)

    def y(value: float) -> float:
        return bottom - (bottom - _TOP) * (value - y_low) / (y_high - y_low)

    parts = [Markup('<text class="axis start" x="0" y="9">{}</text>').format(y_label)]
    for tick in _ticks(y_low, y_high):
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text class="tick left" x="{}" y="{:.1f}">{}</text>'
            ).format(_LEFT, right, y(tick), y(tick), _LEFT - 6, y(tick) + 4, f"{tick:,g}")
        )
    for tick in _ticks(x_low, x_high):
        parts.append(
            Markup('<text class="tick" x="{:.1f}" y="{}">{}</text>').format(x(tick), bottom + 15, f"{tick:,g}")
        )
    parts.append(
        Markup('<text class="axis" x="{}" y="{}">{}</text>').format((_LEFT + right) / 2, _SCATTER_HEIGHT - 6, x_label)
    )
    for one in points:
        for x1, x2, y1, y2 in (
            (one.x - one.x_error, one.x + one.x_error, one.y, one.y),
            (one.x, one.x, one.y - one.y_error, one.y + one.y_error),
        ):
            parts.append(
                Markup('<line class="error" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                    x(x1), x(x2), y(y1), y(y2)
                )
            )
    for one in points:
        parts.append(
            Markup(
                '<circle class="mark" cx="{:.1f}" cy="{:.1f}" r="8"/>'
                '<text class="number" x="{:.1f}" y="{:.1f}">{}</text>'
            ).format(x(one.x), y(one.y), x(one.x), y(one.y) + 4, one.number)
        )
    described = "; ".join(f"{one.number}: {one.x:.4g}, {one.y:.4g}" for one in points)
    return _svg(f"{y_label} by {x_label}: {described}", parts, _SCATTER_HEIGHT)


def _range(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """From where to where an axis goes, with a margin."""
    low, high = min(value - error for value, error in values), max(value + error for value, error in values)
    margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """At most `count + 1` round numbers between two."""
    step = nice_ticks(high - low, count)[1]
    return [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def whisker(mean: float, error: float, reach: float, verdict: str) -> Markup:
    """A mean with two standard errors to each side, about a line at 0; the axis goes from -`reach` to `reach`."""

    def x(value: float) -> float:
        return 80 + 74 * value / reach

    return Markup(
        '<svg class="whisker {}" viewBox="0 0 160 16" aria-hidden="true"><line class="zero" x1="80" y1="0" x2="80" '
        'y2="16"/><line class="span" x1="{:.1f}" y1="8" x2="{:.1f}" y2="8"/><circle cx="{:.1f}" cy="8" r="4"/></svg>'
    ).format(verdict, x(mean - 2 * error), x(mean + 2 * error), x(mean))


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * (value / top if top else 0.0)


def _axes(top: float, x_label: str, y_label: str) -> Markup:
    parts = []
    for tick in nice_ticks(top):
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text class="tick left" x="{}" y="{:.1f}">{}</text>'
            ).format(_LEFT, _WIDTH - _RIGHT, _y(tick, top), _y(tick, top), _LEFT - 6, _y(tick, top) + 4, f"{tick:,g}")
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(Markup('<text class="axis" x="{}" y="{}">{}</text>').format(middle, _HEIGHT - 6, x_label))
    parts.append(Markup('<text class="axis start" x="0" y="9">{}</text>').format(y_label))
    return Markup("").join(parts)


def _svg(described: str, parts: Sequence[Markup], height: int = _HEIGHT) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, height, escape(described), Markup("").join(parts)
    )
