"""Scenes seen from near: still lifes, flowers, portraits, animals."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from ingest.sampledata.outdoors import Hour
from ingest.sampledata.palettes import Role
from ingest.sampledata.sketch import Point, Sketch, curve, ring

DARK, AIR, EARTH, BODY, ACCENT, LIGHT, SKIN = Role


def _room(s: Sketch, rng: np.random.Generator, hour: Hour, table: float) -> None:
    """A wall lit from the side of the light, and a table across the foot of the picture."""
    wall = (hour.sky[0] + hour.sky[1]) / 2
    s.area([(0, 0), (1, 0), (1, 1), (0, 1)], AIR, (wall - 0.06, wall + 0.02), flow=0.8)
    s.glow(0.5 - s.light[0] * 0.4, 0.25, 0.45, 0.20)
    s.area([(0, table), (1, table), (1, 1), (0, 1)], EARTH, (0.60 + hour.land, 0.38), flow=0.0)
    s.line([(0, table), (1, table)], 0.008, None, -0.15)


def _cast(s: Sketch, x: float, y: float, r: float) -> None:
    """Shadow on the table, away from the light."""
    s.disc(x + s.light[0] * r * 0.7, y, r * 1.25, r * 0.28, None, -0.20)


def _pear(s: Sketch, x: float, y: float, r: float, lean: float, role: Role) -> None:
    _cast(s, x, y, r)
    half = [(0.0, -2.25), (0.30, -2.05), (0.42, -1.55), (0.72, -1.05), (1.0, -0.5), (0.72, -0.02), (0.0, 0.1)]
    outline = [*half, *[(-a, b) for a, b in reversed(half[1:-1])]]
    s.area(curve([(x + r * a - lean * r * b, y + r * b) for a, b in outline]), role, (0.62, 0.44), volume=0.34)
    s.line([(x + lean * r * 2.2, y - 2.2 * r), (x + lean * r * 3.2 + 0.01, y - 2.75 * r)], 0.014, DARK, 0.5)
    s.disc(x - s.light[0] * r * 0.42, y - r * 0.78, r * 0.15, r * 0.24, LIGHT, 0.55)


def _apple(s: Sketch, x: float, y: float, r: float, role: Role) -> None:
    s.disc(x, y, r, r * 0.95, role, 0.52, volume=0.36)
    s.disc(x - s.light[0] * r * 0.45, y - r * 0.42, r * 0.16, r * 0.14, LIGHT, 0.6)
    s.line([(x, y - r * 0.75), (x + r * 0.2, y - r * 1.3)], 0.012, DARK, 0.5)


def pears_and_jug(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A jug on a cloth with two, three or five pears (variants 0, 1, 2)."""
    _room(s, rng, hour, 0.64)
    side = float(rng.choice([-1.0, 1.0]))
    x = 0.5 - side * 0.17
    s.area(
        curve(
            [(0.10, 0.72), (0.90, 0.70), (0.97, 0.86), (0.62, 0.92), (0.5, 1.02), (0.36, 0.92), (0.05, 0.88)], steps=4
        ),
        LIGHT,
        (0.56, 0.36),
        flow=0.1,
    )
    _cast(s, x, 0.80, 0.16)
    handle = ring(x - side * 0.17, 0.50, 0.10, 0.13)
    s.line([*handle, handle[0]], 0.034, BODY, 0.38)
    half = [(0.075, 0.25), (0.065, 0.33), (0.10, 0.40), (0.175, 0.54), (0.165, 0.70), (0.11, 0.80)]
    s.area(
        curve([(x + a, b) for a, b in half] + [(x - a, b) for a, b in reversed(half)]), BODY, (0.56, 0.44), volume=0.32
    )
    s.disc(x, 0.255, 0.085, 0.022, DARK, 0.55)
    s.area([(x + side * 0.05, 0.24), (x + side * 0.125, 0.235), (x + side * 0.07, 0.31)], BODY, 0.58)
    s.line(curve([(x - 0.165, 0.56), (x, 0.60), (x + 0.165, 0.56)], closed=False), 0.028, LIGHT, 0.46)
    s.line(curve([(x - 0.168, 0.62), (x, 0.66), (x + 0.168, 0.62)], closed=False), 0.014, ACCENT, 0.5)
    count = (2, 3, 5)[variant]
    r = (0.098, 0.088, 0.078)[variant]
    spots = [
        (x + side * 0.30, 0.80),
        (x + side * 0.46, 0.83),
        (x + side * 0.17, 0.88),
        (x - side * 0.10, 0.90),
        (x + side * 0.36, 0.92),
    ]
    for px, py in sorted(spots[:count], key=lambda p: p[1]):
        _pear(s, px + float(rng.uniform(-0.015, 0.015)), py, r, float(rng.uniform(-0.2, 0.2)), ACCENT)


def apples_and_bottle(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A bowl of apples beside a bottle (variant 0) or a candle (variant 1)."""
    _room(s, rng, hour, 0.62)
    side = float(rng.choice([-1.0, 1.0]))
    tall, bowl = 0.5 - side * 0.26, 0.5 + side * 0.13
    _cast(s, tall, 0.78, 0.10)
    if variant == 0:
        half = [(0.032, 0.13), (0.032, 0.32), (0.085, 0.42), (0.09, 0.74), (0.07, 0.79)]
        s.area(
            curve([(tall + a, b) for a, b in half] + [(tall - a, b) for a, b in reversed(half)], steps=4),
            DARK,
            (0.66, 0.5),
            volume=0.3,
            flow=pi / 2,
        )
        s.area(
            [(tall - 0.088, 0.50), (tall + 0.088, 0.50), (tall + 0.088, 0.65), (tall - 0.088, 0.65)],
            LIGHT,
            0.46,
            volume=0.12,
        )
        s.line([(tall - s.light[0] * 0.045, 0.42), (tall - s.light[0] * 0.045, 0.48)], 0.016, LIGHT, 0.6)
        s.area([(tall - 0.036, 0.10), (tall + 0.036, 0.10), (tall + 0.036, 0.17), (tall - 0.036, 0.17)], ACCENT, 0.45)
    else:
        s.disc(tall, 0.77, 0.12, 0.035, DARK, 0.6)
        s.area(
            [(tall - 0.042, 0.34), (tall + 0.042, 0.34), (tall + 0.042, 0.76), (tall - 0.042, 0.76)],
            LIGHT,
            0.48,
            volume=0.18,
            flow=pi / 2,
        )
        s.glow(tall, 0.26, 0.26, 0.32)
        s.area(curve([(tall, 0.17), (tall + 0.030, 0.27), (tall, 0.33), (tall - 0.030, 0.27)]), ACCENT, (0.75, 0.95))
    r = 0.088
    heap = [(-0.14, 0.53), (0.14, 0.53), (0.0, 0.51), (-0.075, 0.40), (0.085, 0.41), (0.0, 0.30)]
    _cast(s, bowl, 0.84, 0.24)
    for dx, y in heap:
        _apple(s, bowl + dx, y + float(rng.uniform(-0.01, 0.01)), r, ACCENT if rng.random() < 0.75 else BODY)
    s.area(
        curve(
            [
                (bowl - 0.27, 0.555),
                (bowl + 0.27, 0.555),
                (bowl + 0.19, 0.76),
                (bowl + 0.09, 0.83),
                (bowl - 0.09, 0.83),
                (bowl - 0.19, 0.76),
            ],
            steps=5,
        ),
        BODY,
        (0.60, 0.36),
        volume=0.22,
    )
    s.line(curve([(bowl - 0.265, 0.565), (bowl, 0.60), (bowl + 0.265, 0.565)], closed=False), 0.022, LIGHT, 0.5)
    _cast(s, bowl + side * 0.28, 0.92, r)
    _apple(s, bowl + side * 0.27, 0.86, r, ACCENT)


def flowers_in_vase(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A bouquet of daisies, tulips or roses (variants 0, 1, 2)."""
    _room(s, rng, hour, 0.76)
    x = 0.5 + float(rng.uniform(-0.04, 0.04))
    heads: list[Point] = [(x + float(rng.uniform(-0.03, 0.03)), 0.13)]
    for ring_radius, count in ((0.19, 5), (0.31, 6)):
        for a in np.linspace(pi * 0.98, pi * 2.02, count):
            heads.append(
                (
                    x + ring_radius * cos(a) * 1.1 + float(rng.uniform(-0.02, 0.02)),
                    0.42 + ring_radius * 0.92 * sin(a) + float(rng.uniform(-0.02, 0.02)),
                )
            )
    for hx, hy in heads:
        s.line(curve([(x, 0.62), ((x + hx) / 2 + 0.02, (0.6 + hy) / 2), (hx, hy)], closed=False), 0.014, EARTH, 0.26)
    for _ in range(18):
        a, d = float(rng.uniform(pi, 2 * pi)), float(rng.uniform(0.06, 0.33))
        lx, ly = x + d * cos(a), 0.48 + d * sin(a) * 0.8
        s.area(
            curve(
                [
                    (lx, ly),
                    (lx + 0.07 * cos(a - 0.5), ly + 0.07 * sin(a - 0.5)),
                    (lx + 0.12 * cos(a), ly + 0.12 * sin(a)),
                    (lx + 0.07 * cos(a + 0.5), ly + 0.07 * sin(a + 0.5)),
                ]
            ),
            EARTH,
            float(rng.uniform(0.28, 0.5)),
            flow=a,
        )
    _cast(s, x, 0.90, 0.13)
    half = [(0.085, 0.56), (0.065, 0.62), (0.135, 0.72), (0.14, 0.80), (0.08, 0.90)]
    s.area(
        curve([(x + a, b) for a, b in half] + [(x - a, b) for a, b in reversed(half)]), BODY, (0.56, 0.42), volume=0.32
    )
    s.line(curve([(x - 0.138, 0.76), (x, 0.79), (x + 0.138, 0.76)], closed=False), 0.022, LIGHT, 0.46)
    for hx, hy in sorted(heads, key=lambda p: p[1]):
        r = float(rng.uniform(0.062, 0.078))
        if variant == 0:
            for a in np.linspace(0, 2 * pi, 9)[:-1] + float(rng.uniform(0, 0.7)):
                s.disc(
                    hx + r * 0.62 * cos(a),
                    hy + r * 0.62 * sin(a),
                    r * 0.34,
                    r * 0.34,
                    LIGHT,
                    0.56 - 0.12 * cos(a) * s.light[0],
                    flow=float(a),
                )
            s.disc(hx, hy, r * 0.38, None, ACCENT, 0.5, volume=0.2)
        elif variant == 1:
            s.area(
                curve(
                    [
                        (hx - r * 0.8, hy - r * 0.8),
                        (hx - r * 0.35, hy - r * 0.35),
                        (hx, hy - r * 1.15),
                        (hx + r * 0.35, hy - r * 0.35),
                        (hx + r * 0.8, hy - r * 0.8),
                        (hx + r * 0.72, hy + r * 0.5),
                        (hx, hy + r),
                        (hx - r * 0.72, hy + r * 0.5),
                    ]
                ),
                ACCENT,
                (0.66, 0.38),
                volume=0.2,
                flow=pi / 2,
            )
            s.line([(hx, hy - r * 0.9), (hx, hy + r * 0.6)], 0.010, None, -0.14)
        else:
            role = ACCENT if rng.random() < 0.7 else LIGHT
            for k, tone in ((1.05, 0.36), (0.78, 0.50), (0.50, 0.62), (0.24, 0.40)):
                s.disc(hx + (1 - k) * 0.012, hy - (1 - k) * 0.01, r * k, None, role, tone, volume=0.16)


def goldfish_bowl(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A glass bowl with one fish or (variant 1) three."""
    _room(s, rng, hour, 0.72)
    x, y, r = 0.5 + float(rng.uniform(-0.04, 0.04)), 0.53, 0.335
    _cast(s, x, 0.86, 0.30)
    s.disc(x, y, r + 0.012, None, LIGHT, 0.42)
    s.disc(x, y, r - 0.006, None, AIR, 0.66, volume=0.14, flow=0.0)
    water = ring(x, y, r - 0.006, r - 0.006, start=-0.38, stop=pi + 0.38)
    s.area(water, BODY, (0.74, 0.52), volume=0.12, flow=0.0)
    s.disc(x, y - 0.125, r * 0.90, 0.035, BODY, 0.86, flow=0.0)
    s.area(ring(x, y, r - 0.012, r - 0.012, start=pi * 0.22, stop=pi * 0.78), EARTH, (0.58, 0.44))
    for px in (-0.15, 0.17):
        for k in range(3):
            bend = float(rng.uniform(-0.05, 0.05))
            s.line(
                curve(
                    [
                        (x + px + 0.02 * k, 0.78),
                        (x + px + 0.02 * k + bend, 0.66),
                        (x + px + 0.02 * k - bend, 0.53 + 0.03 * k),
                    ],
                    closed=False,
                ),
                0.016,
                EARTH,
                0.28,
            )
    school = [(0.0, 0.56, 0.15)] if variant == 0 else [(-0.12, 0.50, 0.10), (0.12, 0.58, 0.11), (-0.07, 0.68, 0.085)]
    for dx, fy, size in school:
        side = float(rng.choice([-1.0, 1.0]))
        fx = x + dx
        s.area(
            curve(
                [
                    (fx - side * size * 0.75, fy),
                    (fx - side * size * 1.5, fy - size * 0.55),
                    (fx - side * size * 1.25, fy),
                    (fx - side * size * 1.5, fy + size * 0.55),
                ]
            ),
            ACCENT,
            0.62,
        )
        s.area(
            curve(
                [
                    (fx - size * 0.3, fy - size * 0.3),
                    (fx + side * 0.1 * size, fy - size * 0.78),
                    (fx + size * 0.3, fy - size * 0.3),
                ]
            ),
            ACCENT,
            0.42,
        )
        s.disc(fx, fy, size, size * 0.5, ACCENT, 0.52, volume=0.26)
        s.disc(fx + side * size * 0.58, fy - size * 0.08, size * 0.14, None, LIGHT, 0.55)
        s.disc(fx + side * size * 0.60, fy - size * 0.08, size * 0.08, None, DARK, 0.3)
    s.disc(x, y - r + 0.02, r * 0.62, 0.032, LIGHT, 0.5)
    s.disc(x, y - r + 0.024, r * 0.54, 0.022, AIR, 0.5)
    s.line(ring(x, y, r * 0.84, r * 0.84, start=pi * 1.06, stop=pi * 1.34), 0.026, LIGHT, 0.7)


def _bust(s: Sketch, rng: np.random.Generator, hour: Hour, cloth: Role) -> float:
    """Backdrop, shoulders, neck and face; returns the x of the middle of the face."""
    wall = (hour.sky[0] + hour.sky[1]) / 2
    s.area([(0, 0), (1, 0), (1, 1), (0, 1)], AIR, (wall - 0.04, wall - 0.08), flow=1.0)
    s.glow(0.5 - s.light[0] * 0.35, 0.3, 0.4, 0.2)
    x = 0.5 + float(rng.uniform(-0.03, 0.03))
    s.area(
        curve(
            [
                (x - 0.10, 0.74),
                (x - 0.30, 0.80),
                (x - 0.42, 1.0),
                (x - 0.42, 1.2),
                (x + 0.42, 1.2),
                (x + 0.42, 1.0),
                (x + 0.30, 0.80),
                (x + 0.10, 0.74),
            ]
        ),
        cloth,
        (0.60, 0.36),
        volume=0.16,
        flow=1.2,
    )
    return x


def _face(s: Sketch, x: float, y: float, *, lips: float) -> None:
    """Neck, head with its shaded side, and features; `y` is the height of the eyes."""
    away = 1.0 if s.light[0] > 0 else -1.0
    s.area(
        [(x - 0.065, y + 0.10), (x + 0.065, y + 0.10), (x + 0.085, y + 0.36), (x - 0.085, y + 0.36)],
        SKIN,
        (0.34, 0.46),
        volume=0.1,
    )
    oval = curve(
        [
            (x, y - 0.19),
            (x + 0.125, y - 0.12),
            (x + 0.14, y + 0.02),
            (x + 0.095, y + 0.15),
            (x, y + 0.215),
            (x - 0.095, y + 0.15),
            (x - 0.14, y + 0.02),
            (x - 0.125, y - 0.12),
        ]
    )
    s.area(oval, SKIN, 0.52, volume=0.12, flow=pi / 2)
    s.area(
        curve(
            [
                (x + away * 0.03, y - 0.19),
                (x + away * 0.125, y - 0.12),
                (x + away * 0.14, y + 0.02),
                (x + away * 0.095, y + 0.15),
                (x + away * 0.02, y + 0.205),
                (x + away * 0.055, y + 0.03),
            ]
        ),
        None,
        -0.13,
    )
    for side in (-1.0, 1.0):
        ex = x + side * 0.058
        s.line(
            curve([(ex - 0.036, y - 0.032), (ex, y - 0.047), (ex + 0.036, y - 0.032)], closed=False), 0.013, DARK, 0.42
        )
        s.disc(ex, y, 0.031, 0.016, LIGHT, 0.58)
        s.disc(ex, y, 0.0145, 0.0165, DARK, 0.3)
    s.area([(x - away * 0.004, y - 0.01), (x + away * 0.030, y + 0.085), (x - away * 0.006, y + 0.09)], None, -0.14)
    s.area(
        curve(
            [
                (x - 0.045, y + lips),
                (x - 0.012, y + lips - 0.013),
                (x, y + lips - 0.008),
                (x + 0.012, y + lips - 0.013),
                (x + 0.045, y + lips),
                (x, y + lips + 0.020),
            ]
        ),
        ACCENT,
        0.42,
    )


def woman_in_hat(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Portrait with a wide hat (variant 0) or a headscarf (variant 1)."""
    x = _bust(s, rng, hour, BODY)
    y = 0.44
    hair = DARK
    if variant == 0:
        s.area(
            curve(
                [
                    (x - 0.16, 0.28),
                    (x - 0.21, 0.50),
                    (x - 0.19, 0.76),
                    (x, 0.70),
                    (x + 0.19, 0.76),
                    (x + 0.21, 0.50),
                    (x + 0.16, 0.28),
                ]
            ),
            hair,
            (0.46, 0.30),
            flow=pi / 2,
        )
    else:
        s.area(
            curve(
                [
                    (x, 0.16),
                    (x + 0.19, 0.26),
                    (x + 0.20, 0.50),
                    (x + 0.24, 0.80),
                    (x, 0.72),
                    (x - 0.24, 0.80),
                    (x - 0.20, 0.50),
                    (x - 0.19, 0.26),
                ]
            ),
            ACCENT,
            (0.60, 0.36),
            volume=0.2,
            flow=1.3,
        )
    _face(s, x, y, lips=0.125)
    s.area(curve([(x - 0.10, 0.78), (x, 0.90), (x + 0.10, 0.78), (x, 0.755)], steps=4), SKIN, 0.46)
    for a in np.linspace(0.25 * pi, 0.75 * pi, 7):
        s.disc(x + 0.115 * cos(a), 0.71 + 0.11 * sin(a), 0.015, None, ACCENT if variant == 0 else LIGHT, 0.62)
    if variant == 0:
        tilt = float(rng.uniform(-0.04, 0.04))
        s.area([(x - 0.14, y - 0.13), (x + 0.14, y - 0.13), (x + 0.13, y - 0.05), (x - 0.13, y - 0.05)], None, -0.14)
        s.area(
            curve([(x - 0.15, 0.30), (x - 0.14, 0.13), (x, 0.07), (x + 0.14, 0.13), (x + 0.15, 0.30)]),
            ACCENT,
            (0.66, 0.40),
            volume=0.24,
            flow=0.4,
        )
        s.area(
            curve(
                [
                    (x - 0.38, 0.33 + tilt),
                    (x - 0.16, 0.255),
                    (x + 0.16, 0.255),
                    (x + 0.38, 0.33 - tilt),
                    (x + 0.15, 0.345),
                    (x - 0.15, 0.345),
                ]
            ),
            ACCENT,
            (0.60, 0.34),
            flow=0.0,
        )
        s.line(curve([(x - 0.15, 0.235), (x, 0.262), (x + 0.15, 0.235)], closed=False), 0.042, DARK, 0.5)
        s.disc(x + 0.11, 0.225, 0.04, None, LIGHT, 0.52, volume=0.2)
        return
    s.line(
        curve([(x - 0.145, 0.36), (x - 0.11, 0.27), (x, 0.225), (x + 0.11, 0.27), (x + 0.145, 0.36)], closed=False),
        0.05,
        ACCENT,
        0.64,
    )


def bearded_man(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Portrait with a beard, with a cap and pipe (variant 0) or spectacles (variant 1)."""
    x = _bust(s, rng, hour, BODY)
    y = 0.40
    hair = LIGHT if rng.random() < 0.4 else DARK
    s.area(curve([(x - 0.155, 0.18), (x - 0.17, 0.46), (x + 0.17, 0.46), (x + 0.155, 0.18), (x, 0.12)]), hair, 0.38)
    for side in (-1.0, 1.0):
        s.disc(x + side * 0.145, y + 0.025, 0.028, 0.042, SKIN, 0.42)
    _face(s, x, y, lips=0.135)
    s.area(
        curve(
            [
                (x - 0.14, y + 0.0),
                (x - 0.115, y + 0.10),
                (x - 0.05, y + 0.105),
                (x, y + 0.092),
                (x + 0.05, y + 0.105),
                (x + 0.115, y + 0.10),
                (x + 0.14, y),
                (x + 0.16, y + 0.17),
                (x + 0.09, y + 0.33),
                (x, y + 0.39),
                (x - 0.09, y + 0.33),
                (x - 0.16, y + 0.17),
            ]
        ),
        hair,
        (0.52, 0.32),
        volume=0.2,
        flow=pi / 2,
    )
    s.area(curve([(x - 0.05, y + 0.14), (x, y + 0.13), (x + 0.05, y + 0.14), (x, y + 0.165)]), ACCENT, 0.4)
    for side in (-1.0, 1.0):
        s.area(
            [(x, 0.80), (x + side * 0.16, 0.76), (x + side * 0.20, 0.90), (x + side * 0.06, 1.02)],
            BODY,
            0.64 if side * s.light[0] < 0 else 0.40,
            flow=1.0,
        )
    if variant == 0:
        s.area(
            curve([(x - 0.17, 0.27), (x - 0.19, 0.15), (x, 0.08), (x + 0.19, 0.15), (x + 0.17, 0.27)]),
            ACCENT,
            (0.58, 0.40),
            volume=0.22,
            flow=0.2,
        )
        s.area(curve([(x - 0.18, 0.27), (x, 0.23), (x + 0.18, 0.27), (x, 0.305)]), DARK, 0.5)
        side = 1.0 if s.light[0] < 0 else -1.0
        s.line([(x + side * 0.03, y + 0.15), (x + side * 0.20, y + 0.20)], 0.020, DARK, 0.5)
        s.area(
            [
                (x + side * 0.17, y + 0.14),
                (x + side * 0.25, y + 0.13),
                (x + side * 0.24, y + 0.23),
                (x + side * 0.18, y + 0.23),
            ],
            DARK,
            0.55,
        )
        for k in range(3):
            s.disc(x + side * (0.22 + 0.02 * k), y + 0.07 - 0.07 * k, 0.022 + 0.010 * k, None, LIGHT, 0.40)
        return
    for side in (-1.0, 1.0):
        rim = ring(x + side * 0.06, y + 0.004, 0.046, 0.042)
        s.line([*rim, rim[0]], 0.012, DARK, 0.45)
    s.line([(x - 0.016, y), (x + 0.016, y)], 0.012, DARK, 0.45)
    s.area(
        curve([(x - 0.14, 0.24), (x - 0.05, 0.16), (x + 0.13, 0.17), (x + 0.155, 0.30), (x + 0.03, 0.235)]),
        hair,
        0.46,
        flow=0.4,
    )


def _window(s: Sketch, rng: np.random.Generator, hour: Hour) -> None:
    """A window with hills outside, its frame, a curtain and a sill."""
    s.area([(0, 0), (1, 0), (1, 1), (0, 1)], EARTH, 0.40 + hour.land)
    s.area([(0.12, 0.04), (0.88, 0.04), (0.88, 0.74), (0.12, 0.74)], AIR, (hour.sky[0] + 0.04, hour.sky[1]), flow=0.0)
    if hour.sun_height is not None:
        s.disc(float(rng.uniform(0.25, 0.42)), 0.20, 0.055, None, LIGHT if hour.moon else ACCENT, 0.66)
    hills = curve([(0.12, 0.56), (0.35, 0.47), (0.6, 0.56), (0.88, 0.50)], closed=False)
    s.area([*hills, (0.88, 0.74), (0.12, 0.74)], EARTH, (0.66 + hour.land, 0.46))
    for a, b in (
        ((0.12, 0.04), (0.12, 0.76)),
        ((0.88, 0.04), (0.88, 0.76)),
        ((0.5, 0.04), (0.5, 0.76)),
        ((0.12, 0.04), (0.88, 0.04)),
        ((0.12, 0.34), (0.88, 0.34)),
    ):
        s.line([a, b], 0.030, LIGHT, 0.46)
    s.area([(0.02, 0.74), (0.98, 0.74), (1.0, 0.83), (0.0, 0.83)], LIGHT, (0.56, 0.38), flow=0.0)


def cat_at_window(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A cat on a windowsill, sitting (variant 0) or asleep (variant 1)."""
    _window(s, rng, hour)
    fur = BODY if rng.random() < 0.6 else DARK
    side = float(rng.choice([-1.0, 1.0]))
    curtain = 0.5 - side * 0.42
    s.area(
        curve(
            [
                (curtain - 0.10, -0.05),
                (curtain + 0.10, -0.05),
                (curtain - side * 0.02, 0.45),
                (curtain + 0.08, 0.80),
                (curtain - 0.10, 0.80),
            ],
            steps=5,
        ),
        ACCENT,
        (0.58, 0.40),
        volume=0.16,
        flow=pi / 2,
    )
    x = 0.5 + side * 0.10

    def p(dx: float, y: float) -> Point:
        return x + side * dx, y

    if variant == 0:
        tail = curve([p(-0.13, 0.76), p(-0.23, 0.84), p(-0.20, 0.95), p(-0.10, 0.94)], closed=False)
        s.line(tail, 0.050, fur, 0.40)
        body = [
            p(-0.02, 0.38),
            p(0.10, 0.45),
            p(0.155, 0.62),
            p(0.13, 0.785),
            p(-0.15, 0.785),
            p(-0.185, 0.66),
            p(-0.12, 0.48),
        ]
        s.area(curve(body), fur, (0.50, 0.36), volume=0.22, flow=pi / 2)
        hx, hy, r = x + side * 0.02, 0.335, 0.115
    else:
        s.disc(x - side * 0.03, 0.70, 0.29, 0.125, fur, (0.56, 0.34), volume=0.16)
        s.line(curve([p(-0.29, 0.72), p(-0.22, 0.80), p(-0.02, 0.805)], closed=False), 0.055, fur, 0.34)
        hx, hy, r = x + side * 0.20, 0.655, 0.115
    for k in (-1.0, 1.0):
        s.area(
            [
                (hx + k * r * 0.95, hy - r * 0.35),
                (hx + k * r * 0.86, hy - r * 1.45),
                (hx + k * r * 0.15, hy - r * 0.85),
            ],
            fur,
            0.40,
        )
        s.area(
            [
                (hx + k * r * 0.78, hy - r * 0.62),
                (hx + k * r * 0.76, hy - r * 1.15),
                (hx + k * r * 0.38, hy - r * 0.85),
            ],
            ACCENT,
            0.56,
        )
    s.disc(hx, hy, r * 1.08, r * 0.94, fur, 0.46, volume=0.16)
    s.disc(hx, hy + r * 0.42, r * 0.46, r * 0.34, LIGHT, 0.46)
    for k in (-1.0, 1.0):
        if variant == 0:
            s.disc(hx + k * r * 0.42, hy - r * 0.06, r * 0.24, r * 0.22, LIGHT, 0.66)
            s.disc(hx + k * r * 0.42, hy - r * 0.06, r * 0.10, r * 0.19, DARK, 0.15)
        else:
            s.line(
                curve(
                    [(hx + k * r * 0.22, hy), (hx + k * r * 0.42, hy + r * 0.1), (hx + k * r * 0.62, hy)], closed=False
                ),
                0.012,
                DARK,
                0.1,
            )
    s.area([(hx - r * 0.13, hy + r * 0.24), (hx + r * 0.13, hy + r * 0.24), (hx, hy + r * 0.40)], ACCENT, 0.42)
    if variant == 0:
        s.area(curve([p(0.0, 0.50), p(0.075, 0.56), p(0.05, 0.70), p(-0.03, 0.68)]), LIGHT, 0.40, flow=pi / 2)


def bird_on_branch(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """One bird or (variant 1) two on a branch in leaf, before a large sun or moon."""
    s.area([(0, 0), (1, 0), (1, 1), (0, 1)], AIR, hour.sky, flow=0.5)
    side = float(rng.choice([-1.0, 1.0]))

    def p(x: float, y: float) -> Point:
        return 0.5 + side * (x - 0.5), y

    disc = p(float(rng.uniform(0.60, 0.72)), float(rng.uniform(0.28, 0.36)))
    s.glow(*disc, 0.32, 0.12)
    s.disc(*disc, 0.20, None, LIGHT, 0.5, flow=0.0)
    s.area(
        [(0, 0.86), *curve([(0.0, 0.88), (0.4, 0.84), (0.7, 0.90), (1.0, 0.86)], closed=False), (1, 1), (0, 1)],
        EARTH,
        (0.56 + hour.land, 0.40),
    )
    branch = curve([p(-0.06, 0.86), p(0.25, 0.74), p(0.55, 0.70), p(0.82, 0.60), p(1.05, 0.56)], closed=False)
    s.line(branch, 0.042, DARK, 0.52)
    for start, end in ((p(0.30, 0.73), p(0.22, 0.55)), (p(0.72, 0.64), p(0.80, 0.80)), (p(0.12, 0.79), p(0.10, 0.92))):
        s.line(
            curve([start, ((start[0] + end[0]) / 2 + 0.02, (start[1] + end[1]) / 2), end], closed=False),
            0.020,
            DARK,
            0.5,
        )
        for _ in range(5):
            t = float(rng.uniform(0.3, 1.1))
            lx, ly = start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t
            a = float(rng.uniform(0, 2 * pi))
            s.area(
                curve(
                    [
                        (lx, ly),
                        (lx + 0.05 * cos(a - 0.5), ly + 0.05 * sin(a - 0.5)),
                        (lx + 0.10 * cos(a), ly + 0.10 * sin(a)),
                        (lx + 0.05 * cos(a + 0.5), ly + 0.05 * sin(a + 0.5)),
                    ]
                ),
                EARTH,
                float(rng.uniform(0.30, 0.52)),
                flow=a,
            )
        s.disc(end[0] + 0.02, end[1] + 0.01, 0.024, None, ACCENT, 0.6, volume=0.2)
    perches = [(0.52, 0.575, 0.155, 1.0)] if variant == 0 else [(0.40, 0.61, 0.115, 1.0), (0.68, 0.555, 0.115, -1.0)]
    for bx, by, r, face in perches:
        _bird(s, *p(bx, by), r, side * face)


def _bird(s: Sketch, x: float, y: float, r: float, face: float) -> None:
    def q(dx: float, dy: float) -> Point:
        return x + face * r * dx, y + r * dy

    s.area(curve([q(-0.7, 0.1), q(-1.9, 0.75), q(-1.75, 1.0), q(-0.5, 0.6)], steps=5), BODY, 0.32, flow=0.5)
    for dx in (0.0, 0.28):
        s.line([q(dx, 0.75), q(dx + 0.05, 1.05)], 0.014, DARK, 0.4)
    s.area(
        curve([q(-0.85, 0.1), q(-0.3, -0.55), q(0.4, -0.75), q(0.95, -0.1), q(0.6, 0.65), q(-0.2, 0.78)]),
        ACCENT,
        (0.52, 0.46),
        volume=0.22,
    )
    s.area(curve([q(0.95, -0.1), q(0.6, 0.65), q(-0.1, 0.78), q(0.3, 0.2)]), LIGHT, 0.44)
    s.disc(*q(0.62, -0.78), r * 0.52, r * 0.48, ACCENT, 0.54, volume=0.16)
    s.area([q(1.05, -0.92), q(1.62, -0.70), q(1.05, -0.58)], DARK, 0.5)
    s.disc(*q(0.76, -0.86), r * 0.13, None, LIGHT, 0.6)
    s.disc(*q(0.78, -0.86), r * 0.08, None, DARK, 0.2)
    s.area(
        curve([q(-1.0, 0.25), q(-0.3, -0.42), q(0.35, -0.28), q(0.25, 0.25), q(-0.35, 0.48)]),
        BODY,
        (0.52, 0.34),
        flow=0.4,
    )
    for k in (0.0, 0.2):
        s.line([q(-0.75, 0.22 + k * 0.5), q(0.15, 0.0 + k)], 0.012, None, -0.16)
