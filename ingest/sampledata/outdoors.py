"""Scenes under the open sky: landscapes, marinas, cityscapes."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from ingest.sampledata.palettes import Role
from ingest.sampledata.sketch import Point, Sketch, curve, ring

DARK, AIR, EARTH, BODY, ACCENT, LIGHT, _ = Role


@dataclass(frozen=True)
class Hour:
    """A time of day: its words, the sky's tone (top, horizon), a shift of all tones on land, the sun or moon."""

    words: str
    sky: tuple[float, float]
    land: float
    sun_height: float | None = None
    moon: bool = False


HOURS = (
    Hour("at dawn", (0.50, 0.84), 0.02, 0.40),
    Hour("at midday", (0.46, 0.70), 0.10),
    Hour("at dusk", (0.34, 0.74), -0.04, 0.44),
    Hour("by moonlight", (0.12, 0.42), -0.14, 0.17, moon=True),
)


def _sky(s: Sketch, rng: np.random.Generator, hour: Hour, horizon: float) -> float:
    """Paint the sky; returns where the sun or moon stands, from left to right."""
    s.area([(0, 0), (1, 0), (1, horizon), (0, horizon)], AIR, hour.sky, flow=0.0)
    x = float(rng.uniform(0.2, 0.8))
    if hour.sun_height is not None:
        y = hour.sun_height * min(1.0, horizon / 0.55)
        s.glow(x, y, 0.30, 0.22)
        s.disc(x, y, 0.062, None, LIGHT if hour.moon else ACCENT, 0.62)
        s.glow(x, y, 0.09, 0.12)
    for _ in range(int(rng.integers(2, 5)) if not hour.moon else 1):
        _cloud(s, rng, float(rng.uniform(-0.05, 1.0)), float(rng.uniform(0.06, horizon * 0.62)), hour)
    return x


def _cloud(s: Sketch, rng: np.random.Generator, x: float, y: float, hour: Hour) -> None:
    length = rng.uniform(0.10, 0.22)
    puffs = [(x + length * t, y - 0.02 * rng.uniform(0, 1.6) * np.sin(pi * t)) for t in np.linspace(0, 1, 6)]
    points = [*puffs, (x + length * 0.8, y + 0.022), (x + length * 0.2, y + 0.025)]
    tone = 0.40 if hour.moon else 0.64
    s.area(curve(points), LIGHT if not hour.moon else AIR, (tone, tone - 0.2), flow=0.0)


def _ridge(rng: np.random.Generator, y: float, height: float, bumps: int) -> list[Point]:
    """Rolling outline from left to right about `y`, down to the bottom corners."""
    x = np.linspace(-0.1, 1.1, bumps + 2)
    top = curve([(float(a), y - height * float(rng.uniform(-1, 1))) for a in x], closed=False)
    return [*top, (1.1, 1.1), (-0.1, 1.1)]


def _hill(
    s: Sketch, rng: np.random.Generator, y: float, height: float, role: Role, tone: float, bumps: int = 3
) -> None:
    s.area(_ridge(rng, y, height, bumps), role, (tone + 0.10, tone - 0.16), flow=float(rng.uniform(-0.25, 0.25)))


def _tree(s: Sketch, x: float, foot: float, height: float, role: Role, tone: float) -> None:
    """A round-crowned tree: trunk, shaded crown, lit crown."""
    s.line([(x, foot), (x, foot - height * 0.5)], height * 0.10, DARK, 0.5)
    s.disc(x, foot - height * 0.66, height * 0.33, height * 0.38, role, tone, volume=0.22)
    s.disc(x - 0.1 * height, foot - height * 0.76, height * 0.17, height * 0.17, role, tone + 0.14)


def _cypress(s: Sketch, x: float, foot: float, height: float, tone: float) -> None:
    w = height * 0.13
    outline = [
        (x, foot - height),
        (x + w, foot - height * 0.4),
        (x + w * 0.6, foot),
        (x - w * 0.6, foot),
        (x - w, foot - height * 0.4),
    ]
    s.area(curve(outline), DARK, tone, volume=0.3, flow=pi / 2)


def _fir(s: Sketch, x: float, foot: float, height: float, tone: float) -> None:
    for i, t in enumerate((0.0, 0.28, 0.55)):
        w, base = height * (0.30 - 0.07 * i), foot - height * t
        s.area(
            [(x, base - height * 0.5), (x + w, base), (x - w, base)], DARK, tone + 0.06 * i, volume=0.25, flow=pi / 3
        )


def mountain_lake(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Peaks mirrored in still water; variant 1 adds a rowing boat."""
    _sky(s, rng, hour, 0.6)
    s.area(_ridge(rng, 0.46, 0.06, 5), AIR, (0.40 + hour.land, 0.30), flow=0.3)
    peaks = [
        (float(rng.uniform(0.22, 0.42)), float(rng.uniform(0.16, 0.24))),
        (float(rng.uniform(0.62, 0.82)), float(rng.uniform(0.24, 0.33))),
    ]
    for x, y in sorted(peaks, key=lambda p: -p[1]):
        spread = (0.62 - y) * 0.95
        crest = [(x, y), (x + 0.03, y + 0.12), (x - 0.02, y + 0.22), (x + 0.05, 0.64)]
        left = [(x, y), (x - spread * 0.35, y + 0.15), (x - spread, 0.64)]
        right = [(x, y), (x + spread * 0.42, y + 0.17), (x + spread, 0.64)]
        s.area([*left, *reversed(crest)], BODY, (0.62 + hour.land, 0.46), flow=2.2)
        s.area([*right, *reversed(crest)], BODY, (0.36 + hour.land, 0.26), flow=1.0)
        cap = 0.40
        s.area(
            [(x, y), (x - spread * 0.35 * cap * 2, y + 0.15 * cap * 2), (x - 0.035, y + 0.09), (x + 0.012, y + 0.13)],
            LIGHT,
            0.55,
            flow=2.2,
        )
        s.area(
            [(x, y), (x + 0.012, y + 0.13), (x + 0.05, y + 0.08), (x + spread * 0.33, y + 0.14)], LIGHT, 0.34, flow=1.0
        )
    s.area(_ridge(rng, 0.60, 0.015, 6), EARTH, (0.42 + hour.land, 0.3))
    for x in rng.uniform(-0.02, 1.02, 16):
        _fir(s, float(x), 0.635, float(rng.uniform(0.06, 0.13)), 0.42 + hour.land)
    s.reflect(0.635, rng)
    if variant == 1:
        x = float(rng.uniform(0.3, 0.6))
        s.area([(x, 0.79), (x + 0.24, 0.79), (x + 0.19, 0.845), (x + 0.05, 0.845)], ACCENT, (0.6, 0.3), flow=0.0)
        s.line([(x + 0.02, 0.79), (x + 0.22, 0.79)], 0.012, LIGHT, 0.5)
        s.disc(x + 0.12, 0.72, 0.02, 0.022, DARK, 0.5)
        s.area([(x + 0.09, 0.79), (x + 0.10, 0.735), (x + 0.14, 0.735), (x + 0.155, 0.79)], DARK, 0.55)
    s.area(curve([(-0.1, 0.90), (0.15, 0.90), (0.4, 0.97), (0.6, 1.1), (-0.1, 1.1)]), EARTH, (0.5 + hour.land, 0.22))


def church_on_hill(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A white church with a spire on a round hill, a path leading up; variant 1 puts snow on the land."""
    land = LIGHT if variant == 1 else EARTH
    _sky(s, rng, hour, 0.75)
    _hill(s, rng, 0.62, 0.05, AIR, 0.36 + hour.land)
    _hill(s, rng, 0.72, 0.04, land, 0.36 + hour.land)
    x = float(rng.uniform(0.40, 0.60))
    s.disc(x, 1.12, 0.78, 0.56, land, (0.66 + hour.land, 0.30), flow=0.0)
    path = [(x - 0.02, 0.60), (x + 0.06, 0.70), (x - 0.12, 0.82), (x - 0.05, 1.05)]
    for a, b, w in zip(path, path[1:], (0.03, 0.055, 0.09), strict=False):
        s.line(
            curve([a, ((a[0] + b[0]) / 2 + 0.03, (a[1] + b[1]) / 2), b], closed=False),
            w,
            LIGHT if land is EARTH else EARTH,
            0.44,
        )
    wall = 0.50 + hour.land * 0.4
    s.area([(x - 0.02, 0.42), (x + 0.22, 0.42), (x + 0.22, 0.60), (x - 0.02, 0.60)], LIGHT, (wall, wall - 0.12))
    s.area([(x - 0.05, 0.43), (x + 0.02, 0.31), (x + 0.20, 0.31), (x + 0.25, 0.43)], BODY, (0.52, 0.38), flow=0.2)
    s.area([(x - 0.15, 0.28), (x - 0.01, 0.28), (x - 0.01, 0.61), (x - 0.15, 0.61)], LIGHT, wall + 0.04, volume=0.14)
    s.area([(x - 0.17, 0.29), (x - 0.08, 0.07), (x + 0.01, 0.29)], BODY, (0.58, 0.34), volume=0.12, flow=pi / 2)
    s.line([(x - 0.08, 0.09), (x - 0.08, 0.025)], 0.010, DARK, 0.5)
    s.line([(x - 0.105, 0.05), (x - 0.055, 0.05)], 0.010, DARK, 0.5)
    glass, lit = (ACCENT, 0.75) if hour.moon else (DARK, 0.5)
    s.area([(x - 0.10, 0.61), (x - 0.10, 0.53), (x - 0.08, 0.505), (x - 0.06, 0.53), (x - 0.06, 0.61)], ACCENT, 0.42)
    s.disc(x - 0.08, 0.37, 0.022, 0.026, glass, lit)
    for dx in (0.04, 0.10, 0.16):
        s.area(
            curve(
                [
                    (x + dx, 0.55),
                    (x + dx, 0.48),
                    (x + dx + 0.014, 0.465),
                    (x + dx + 0.028, 0.48),
                    (x + dx + 0.028, 0.55),
                ]
            ),
            glass,
            lit,
        )
    for tx in (x - 0.34, x + 0.36, x + 0.46):
        _tree(
            s,
            tx + float(rng.uniform(-0.03, 0.03)),
            0.72,
            float(rng.uniform(0.18, 0.26)),
            EARTH if land is EARTH else DARK,
            0.34 + hour.land,
        )


def cypress_hills(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Rolling fields, with cypresses (variant 0) or haystacks (variant 1)."""
    _sky(s, rng, hour, 0.5)
    _hill(s, rng, 0.40, 0.05, AIR, 0.34 + hour.land)
    _hill(s, rng, 0.50, 0.05, BODY, 0.46 + hour.land)
    house = float(rng.uniform(0.15, 0.75))
    s.area([(house, 0.46), (house + 0.11, 0.46), (house + 0.11, 0.53), (house, 0.53)], LIGHT, 0.46)
    s.area([(house - 0.02, 0.465), (house + 0.02, 0.42), (house + 0.09, 0.42), (house + 0.13, 0.465)], ACCENT, 0.42)
    _hill(s, rng, 0.58, 0.05, EARTH, 0.58 + hour.land)
    _hill(s, rng, 0.72, 0.05, BODY, 0.62 + hour.land)
    vanish = float(rng.uniform(0.2, 0.8))
    for i in range(-7, 9):
        s.line([(vanish + i * 0.05, 0.70), (vanish + i * 0.26, 1.05)], 0.016, None, -0.16)
    s.area(_ridge(rng, 0.93, 0.03, 3), EARTH, (0.5 + hour.land, 0.24))
    if variant == 0:
        for x in np.sort(rng.uniform(0.06, 0.94, 6)):
            foot = float(rng.uniform(0.60, 0.92))
            _cypress(s, float(x), foot, 0.16 + (foot - 0.55) * 0.95, 0.48 + hour.land)
        return
    for x, y in ((0.24, 0.80), (0.66, 0.86), (0.86, 0.70), (0.48, 0.68)):
        r = 0.05 + (y - 0.6) * 0.42
        x += float(rng.uniform(-0.05, 0.05))
        s.disc(x + r * 0.5, y + r * 0.15, r * 1.2, r * 0.24, None, -0.22)
        s.area(
            curve(
                [
                    (x - r, y),
                    (x - r * 0.85, y - r * 0.8),
                    (x, y - r * 1.65),
                    (x + r * 0.85, y - r * 0.8),
                    (x + r, y),
                    (x, y + r * 0.14),
                ]
            ),
            ACCENT,
            (0.70, 0.42),
            volume=0.24,
            flow=1.2,
        )


def birch_grove(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """White trunks before a bright clearing; variant 1 is in snow."""
    ground = LIGHT if variant == 1 else EARTH
    s.area([(0, 0), (1, 0), (1, 0.7), (0, 0.7)], AIR, hour.sky, flow=pi / 2)
    s.glow(float(rng.uniform(0.3, 0.7)), 0.45, 0.28, 0.22)
    for x in np.linspace(0, 1, 13):
        r = float(rng.uniform(0.08, 0.13))
        s.disc(
            float(x),
            0.10 + float(rng.uniform(-0.08, 0.16)),
            r,
            r,
            BODY,
            float(rng.uniform(0.42, 0.62)) + hour.land,
            volume=0.1,
        )
    for x in rng.uniform(0, 1, 9):
        s.line([(float(x), 0.2), (float(x), 0.64)], 0.014, EARTH, 0.26)
    s.area(_ridge(rng, 0.62, 0.02, 4), ground, (0.62 + hour.land, 0.34))
    vanish = float(rng.uniform(0.4, 0.6))
    s.area(
        curve(
            [
                (vanish - 0.02, 0.63),
                (vanish + 0.02, 0.63),
                (vanish + 0.06, 0.78),
                (vanish + 0.20, 1.08),
                (vanish - 0.22, 1.08),
                (vanish - 0.03, 0.78),
            ]
        ),
        ACCENT if variant == 0 else AIR,
        (0.62, 0.50),
    )
    slots = [0.04, 0.15, 0.27, 0.38, 0.62, 0.73, 0.85, 0.96]
    for i in rng.permutation(len(slots)):
        x, near = slots[i] + float(rng.uniform(-0.03, 0.03)), float(rng.uniform(0, 1))
        foot, w, lean = 0.68 + 0.26 * near, 0.026 + 0.032 * near, float(rng.uniform(-0.03, 0.03))
        s.line([(x, foot), (x - 0.2, foot + 0.05)], 0.02, None, -0.12)
        s.area(
            [(x - w / 2, foot), (x + lean - w / 2.6, -0.02), (x + lean + w / 2.6, -0.02), (x + w / 2, foot)],
            LIGHT,
            0.50 + hour.land * 0.5,
            volume=0.22,
            flow=pi / 2,
        )
        for y in np.arange(0.06, foot - 0.03, 0.09):
            y += float(rng.uniform(0, 0.05))
            side = x + lean * (1 - y) + float(rng.choice([-1.0, 1.0])) * w * 0.2
            s.line([(side - w * 0.22, y), (side + w * 0.22, y + 0.006)], 0.014, DARK, 0.5)
    for x in rng.uniform(0, 1, 12):
        r = float(rng.uniform(0.03, 0.06))
        s.disc(float(x), float(rng.uniform(-0.02, 0.12)), r, r, ACCENT, float(rng.uniform(0.45, 0.65)) + hour.land)


def windmill(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A windmill against a high sky; variant 0 stands in a field, variant 1 by a canal."""
    _sky(s, rng, hour, 0.75)
    _hill(s, rng, 0.70, 0.012, AIR, 0.36 + hour.land)
    s.area(_ridge(rng, 0.755, 0.012, 3), EARTH, (0.62 + hour.land, 0.34))
    if variant == 1:
        s.area([(0.0, 0.86), (1.0, 0.80), (1.0, 0.93), (0.0, 1.02)], AIR, (0.72, 0.5), flow=-0.05)
    else:
        for y in np.linspace(0.80, 0.99, 6):
            s.line(
                curve([(-0.05, float(y)), (0.5, float(y) - 0.025), (1.05, float(y))], closed=False),
                0.014,
                ACCENT,
                0.62 + hour.land,
            )
    x, turn = float(rng.uniform(0.38, 0.62)), float(rng.uniform(0.2, 1.2))
    s.disc(x + 0.14, 0.79, 0.24, 0.025, None, -0.18)
    s.area(
        [(x - 0.13, 0.79), (x - 0.075, 0.36), (x + 0.075, 0.36), (x + 0.13, 0.79)],
        BODY,
        (0.54, 0.44),
        volume=0.26,
        flow=pi / 2,
    )
    s.area(
        curve([(x - 0.095, 0.375), (x - 0.07, 0.29), (x, 0.255), (x + 0.07, 0.29), (x + 0.095, 0.375)]),
        DARK,
        0.6,
        volume=0.2,
    )
    s.line([(x - 0.15, 0.60), (x + 0.15, 0.60)], 0.022, LIGHT, 0.42)
    s.area([(x - 0.035, 0.79), (x - 0.035, 0.69), (x + 0.035, 0.69), (x + 0.035, 0.79)], DARK, 0.5)
    s.area(
        [(x - 0.02, 0.50), (x - 0.02, 0.44), (x + 0.02, 0.44), (x + 0.02, 0.50)], ACCENT if hour.moon else LIGHT, 0.6
    )
    hub = (x, 0.33)
    for quarter in range(4):
        a = turn + quarter * pi / 2
        c, d = float(np.cos(a)), float(np.sin(a))
        tip = (hub[0] + c * 0.33, hub[1] + d * 0.33)
        cloth = [
            (hub[0] + c * t - d * o, hub[1] + d * t + c * o)
            for t, o in ((0.09, 0.008), (0.33, 0.008), (0.33, 0.085), (0.09, 0.07))
        ]
        s.area(cloth, LIGHT, 0.54, flow=a)
        for t in (0.15, 0.21, 0.27):
            s.line(
                [(hub[0] + c * t, hub[1] + d * t), (hub[0] + c * t - d * 0.08, hub[1] + d * t + c * 0.08)],
                0.006,
                None,
                -0.2,
            )
        s.line([hub, tip], 0.016, DARK, 0.46)
    s.disc(*hub, 0.022, None, DARK, 0.5)


def _sailboat(s: Sketch, x: float, y: float, size: float, hull: Role, sail: Role, land: float) -> None:
    s.line([(x, y), (x, y - size)], size * 0.035, DARK, 0.5)
    s.area(
        curve(
            [
                (x + size * 0.03, y - size * 0.12),
                (x + size * 0.03, y - size),
                (x + size * 0.30, y - size * 0.5),
                (x + size * 0.42, y - size * 0.12),
            ],
            steps=5,
        ),
        sail,
        (0.62 + land, 0.44 + land),
        flow=1.2,
    )
    s.area(
        [(x - size * 0.04, y - size * 0.12), (x - size * 0.04, y - size * 0.84), (x - size * 0.36, y - size * 0.12)],
        LIGHT,
        (0.58 + land, 0.42 + land),
        flow=1.9,
    )
    s.area(
        curve(
            [
                (x - size * 0.46, y - size * 0.06),
                (x + size * 0.50, y - size * 0.08),
                (x + size * 0.36, y + size * 0.10),
                (x - size * 0.32, y + size * 0.10),
            ],
            steps=5,
        ),
        hull,
        (0.56, 0.28),
        flow=0.0,
    )


def harbor(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Sailboats (one, or three in variant 1) on calm water before a town."""
    _sky(s, rng, hour, 0.58)
    s.area(_ridge(rng, 0.50, 0.04, 4), AIR, (0.36 + hour.land, 0.28))
    x = -0.02
    while x < 1.0:
        w, h = float(rng.uniform(0.06, 0.10)), float(rng.uniform(0.04, 0.11))
        role = (LIGHT, BODY, EARTH)[int(rng.integers(3))]
        s.area([(x, 0.57 - h), (x + w, 0.57 - h), (x + w, 0.6), (x, 0.6)], role, 0.40 + hour.land)
        s.area(
            [(x - 0.01, 0.572 - h), (x + w / 2, 0.53 - h), (x + w + 0.01, 0.572 - h)],
            ACCENT if role is not BODY else DARK,
            0.42 + hour.land,
        )
        x += w
    fleet = [(float(rng.uniform(0.40, 0.60)), 0.72, 0.52, BODY, ACCENT)]
    if variant == 1:
        fleet = [(0.20, 0.64, 0.24, DARK, LIGHT), (0.80, 0.66, 0.30, DARK, BODY), *fleet]
    s.reflect(0.58, rng, tone=-0.06)
    for y in np.linspace(0.61, 0.97, 14):
        a, w = float(rng.uniform(-0.1, 0.9)), float(rng.uniform(0.06, 0.22))
        s.line([(a, float(y)), (a + w, float(y))], 0.008, None, 0.14)
    for bx, by, size, hull, sail in fleet:
        for k in range(5):
            half = size * (0.34 - 0.05 * k)
            y = by + size * (0.13 + 0.07 * k)
            shift = float(rng.uniform(-0.02, 0.02))
            s.line([(bx - half + shift, y), (bx + half + shift, y)], 0.016, sail if k % 2 else hull, 0.42)
        _sailboat(s, bx, by, size, hull, sail, hour.land * 0.5)


def lighthouse(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A banded lighthouse on rocks above the sea; variant 1 in a storm."""
    _sky(s, rng, hour, 0.66)
    side = float(rng.choice([-1.0, 1.0]))
    at = 0.5 - side * float(rng.uniform(0.16, 0.24))

    def p(x: float, y: float) -> Point:
        return at + side * x, y

    if variant == 1:
        for _ in range(5):
            _cloud(s, rng, float(rng.uniform(-0.1, 0.9)), float(rng.uniform(0.05, 0.3)), HOURS[3])
    s.area([(0, 0.64), (1, 0.64), (1, 1), (0, 1)], BODY, (0.52 + hour.land, 0.30), flow=0.0)
    for y in np.linspace(0.68, 0.98, 7 if variant == 0 else 10):
        swell = 0.012 if variant == 0 else 0.032
        line = curve(
            [
                (float(x), float(y) + swell * (-1.0) ** i)
                for i, x in enumerate(np.linspace(-0.1, 1.1, 9) + rng.uniform(-0.05, 0.05))
            ],
            closed=False,
        )
        s.line(line, 0.010 if variant == 0 else 0.018, LIGHT if rng.random() < 0.6 else AIR, 0.44)
    if hour.moon:
        s.area([p(0, 0.205), p(0.9, 0.06), p(0.9, 0.30)], LIGHT, 0.56, flow=0.1)
    s.area([p(-0.075, 0.68), p(-0.05, 0.25), p(0.05, 0.25), p(0.075, 0.68)], LIGHT, 0.54, volume=0.24, flow=pi / 2)
    for y in (0.30, 0.45, 0.60):
        w = 0.052 + (y - 0.27) * 0.062
        s.area(
            [p(-w, y), p(w, y), p(w + 0.004, y + 0.07), p(-w - 0.004, y + 0.07)], ACCENT, 0.48, volume=0.22, flow=0.0
        )
    s.area([p(-0.068, 0.235), p(0.068, 0.235), p(0.06, 0.26), p(-0.06, 0.26)], DARK, 0.5)
    s.area([p(-0.035, 0.17), p(0.035, 0.17), p(0.035, 0.237), p(-0.035, 0.237)], ACCENT, 0.85)
    s.glow(*p(0, 0.205), 0.07, 0.3)
    s.area([p(-0.05, 0.175), p(0, 0.115), p(0.05, 0.175)], DARK, 0.55)
    rock = [
        p(-0.7, 0.70),
        p(-0.22, 0.655),
        p(-0.06, 0.665),
        p(0.10, 0.66),
        p(0.20, 0.72),
        p(0.30, 0.86),
        p(0.48, 1.1),
        p(-0.7, 1.1),
    ]
    s.area(rock, EARTH, (0.58 + hour.land, 0.22), flow=0.7)
    for x, y, h in ((-0.3, 0.70, 0.2), (-0.12, 0.72, 0.24), (0.07, 0.74, 0.22)):
        s.area([p(x, y), p(x + 0.12, y + 0.04), p(x + 0.04, y + h)], None, -0.14)
    for x, y in ((0.28, 0.88), (0.36, 0.95), (0.22, 0.80)):
        s.disc(*p(x, y), 0.055, 0.022, LIGHT, 0.55)


def stone_bridge(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A bridge of two or (variant 1) three arches, mirrored in a river."""
    _sky(s, rng, hour, 0.6)
    _hill(s, rng, 0.46, 0.05, AIR, 0.34 + hour.land)
    for x in (0.04, 0.16, 0.86, 0.97):
        _tree(s, x, 0.60, float(rng.uniform(0.24, 0.36)), EARTH, 0.44 + hour.land)
    top = curve([(-0.1, 0.50), (0.2, 0.42), (0.5, 0.385), (0.8, 0.42), (1.1, 0.50)], closed=False)
    s.area([*top, (1.1, 0.66), (-0.1, 0.66)], BODY, (0.60 + hour.land, 0.42), flow=0.0)
    s.line(top, 0.03, LIGHT, 0.44)
    count = 3 if variant == 1 else 2
    for i in range(count):
        x, w = (i + 0.5) / count, 0.36 / count
        s.area([*ring(x, 0.65, w + 0.03, 0.185, start=pi, stop=2 * pi), (x + w, 0.67), (x - w, 0.67)], BODY, 0.26)
        s.area([*ring(x, 0.66, w, 0.165, start=pi, stop=2 * pi), (x + w, 0.67), (x - w, 0.67)], AIR, (0.74, 0.62))
        s.area([*ring(x, 0.66, w, 0.055, start=pi, stop=2 * pi)], EARTH, 0.5 + hour.land)
    for _ in range(14):
        x, y = float(rng.uniform(0, 1)), float(rng.uniform(0.46, 0.60))
        s.line([(x, y), (x + 0.05, y)], 0.008, None, -0.12)
    s.reflect(0.64, rng, tone=-0.1, ripple=0.01)
    for x in (0.0, 1.0):
        s.disc(x, 1.02, 0.34, 0.20, EARTH, (0.60 + hour.land, 0.24), flow=0.0)


def old_street(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Gabled houses on both sides of a street that leads to a tower; variant 1 shows a lantern and a walker."""
    _sky(s, rng, hour, 0.62)
    s.area([(0.42, 0.62), (0.42, 0.24), (0.50, 0.10), (0.58, 0.24), (0.58, 0.62)], AIR, (0.40 + hour.land, 0.32))
    s.area([(0.38, 0.60), (0.62, 0.60), (1.15, 1.05), (-0.15, 1.05)], EARTH, (0.74 + hour.land, 0.40), flow=0.0)
    for y in np.linspace(0.66, 0.98, 8) ** 1.1:
        s.line([(0.5 - (y - 0.50) * 1.1, float(y)), (0.5 + (y - 0.50) * 1.1, float(y))], 0.008, None, -0.08)
    for side in (-1.0, 1.0):
        roles = [(BODY, LIGHT, ACCENT)[int(i)] for i in rng.permutation(3)]
        for k, (inner, outer) in enumerate(((0.10, 0.20), (0.18, 0.33), (0.30, 0.56))):
            height = (0.16, 0.28, 0.42)[k] + float(rng.uniform(-0.02, 0.03))
            near, far = 0.5 + side * outer, 0.5 + side * inner
            foot_far, foot_near = 0.5 + inner * 1.0, 0.5 + outer * 1.0
            top_far, top_near = 0.55 - height * 0.75, 0.55 - height
            shade = (0.56 if side < 0 else 0.38) + hour.land
            s.area(
                [(far, foot_far), (far, top_far), (near, top_near), (near, foot_near)],
                roles[k],
                (shade, shade - 0.08),
                flow=pi / 2,
            )
            peak = ((far + near) / 2, (top_far + top_near) / 2 - 0.11 - 0.05 * k)
            s.area(
                [(far - side * 0.012, top_far + 0.01), peak, (near + side * 0.012, top_near + 0.01)],
                DARK if roles[k] is not BODY else EARTH,
                (0.62 + hour.land, 0.44),
                flow=0.8,
            )
            for row in range(1 + k):
                for t in (0.28, 0.68):
                    x = far + (near - far) * t
                    y0 = top_far + (top_near - top_far) * t + 0.05 + row * 0.12
                    h, w = 0.035 + 0.018 * k, (outer - inner) * 0.10
                    s.area(
                        [(x - w, y0), (x + w, y0), (x + w, y0 + h), (x - w, y0 + h)],
                        ACCENT if hour.moon and roles[k] is not ACCENT else DARK,
                        0.78 if hour.moon else 0.5,
                    )
    if variant == 1:
        x = 0.5 + float(rng.uniform(-0.05, 0.05))
        s.disc(x, 0.895, 0.05, 0.014, None, -0.2)
        s.area(curve([(x - 0.035, 0.89), (x - 0.02, 0.76), (x + 0.02, 0.76), (x + 0.035, 0.89)]), DARK, 0.5)
        s.disc(x, 0.735, 0.021, 0.026, DARK, 0.55)
        s.line([(0.27, 0.86), (0.27, 0.50)], 0.014, DARK, 0.5)
        s.area([(0.25, 0.50), (0.24, 0.43), (0.30, 0.43), (0.29, 0.50)], ACCENT, 0.85)
        s.glow(0.27, 0.46, 0.10, 0.25)
