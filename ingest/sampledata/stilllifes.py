"""Scenes on a table: fruit, flowers, a fish bowl."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from ingest.sampledata.landscapes import Hour
from ingest.sampledata.palettes import Role
from ingest.sampledata.sketch import Point, Sketch, arc, mirrored, spline

DARK, AIR, EARTH, BODY, ACCENT, LIGHT, _ = Role
UPRIGHT = pi / 2


def leaf(s: Sketch, stem: Point, angle: float, length: float, tone: float) -> None:
    """A leaf that grows from the point `stem`."""
    tips = ((0.0, 0.0), (0.58, -0.5), (1.0, 0.0), (0.58, 0.5))
    outline = [(stem[0] + length * r * cos(angle + t), stem[1] + length * r * sin(angle + t)) for r, t in tips]
    s.curve(outline, EARTH, tone, flow=angle)


def _room(s: Sketch, hour: Hour, table: float) -> None:
    """A wall lit from the side of the light, and a table across the foot of the image."""
    wall = sum(hour.sky) / 2
    s.area("0,0 1,0 1,1 0,1", AIR, (wall - 0.06, wall + 0.02), flow=0.8)
    s.glow((0.5 - s.light[0] * 0.4, 0.25), 0.45, 0.20)
    s.area([(0, table), (1, table), (1, 1), (0, 1)], EARTH, (0.60 + hour.land, 0.38))
    s.line([(0, table), (1, table)], 0.008, None, -0.15)


def _shadow(s: Sketch, x: float, y: float, r: float) -> None:
    """Cast on the table, away from the light."""
    s.disc((x + s.light[0] * r * 0.7, y), (r * 1.25, r * 0.28), None, -0.20)


def _pear(s: Sketch, x: float, y: float, r: float, lean: float) -> None:
    _shadow(s, x, y, r)
    pear = s.placed(x, y, scale=r)
    half = mirrored("0,-2.25 .3,-2.05 .42,-1.55 .72,-1.05 1,-.5 .72,-.02 0,.1")
    pear.curve([(a - lean * b, b) for a, b in half], ACCENT, (0.62, 0.44), volume=0.34)
    pear.line([(lean * 2.2, -2.2), (lean * 3.2 + 0.1, -2.75)], 0.16, DARK, 0.5)
    pear.disc((-s.light[0] * 0.42, -0.78), (0.15, 0.24), LIGHT, 0.55)


def _apple(s: Sketch, x: float, y: float, r: float, role: Role) -> None:
    apple = s.placed(x, y, scale=r)
    apple.disc((0, 0), (1, 0.95), role, 0.52, volume=0.36)
    apple.disc((-s.light[0] * 0.45, -0.42), (0.16, 0.14), LIGHT, 0.6)
    apple.line("0,-.75 .2,-1.3", 0.14, DARK, 0.5)


def pears_and_jug(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A jug on a cloth with two, three or five pears (variants 0, 1, 2)."""
    _room(s, hour, 0.64)
    side = float(rng.choice([-1.0, 1.0]))
    jug = s.placed(0.5 - side * 0.17, flip=side)
    s.curve(".1,.72 .9,.70 .97,.86 .62,.92 .5,1.02 .36,.92 .05,.88", LIGHT, (0.56, 0.36), flow=0.1)
    _shadow(s, 0.5 - side * 0.17, 0.80, 0.16)
    jug.line(arc((-0.17, 0.50), (0.10, 0.13)), 0.034, BODY, 0.38)
    jug.curve(mirrored(".075,.25 .065,.33 .10,.40 .175,.54 .165,.70 .11,.80"), BODY, (0.56, 0.44), volume=0.32)
    jug.disc((0, 0.255), (0.085, 0.022), DARK, 0.55)
    jug.area(".05,.24 .125,.235 .07,.31", BODY, 0.58)
    jug.line(spline("-.165,.56 0,.60 .165,.56"), 0.028, LIGHT, 0.46)
    jug.line(spline("-.168,.62 0,.66 .168,.62"), 0.014, ACCENT, 0.5)
    count, r = ((2, 0.098), (3, 0.088), (5, 0.078))[variant]
    spots = ((0.30, 0.80), (0.46, 0.83), (0.17, 0.88), (-0.10, 0.90), (0.36, 0.92))
    for dx, y in sorted(spots[:count], key=lambda spot: spot[1]):
        x = 0.5 + side * (dx - 0.17) + float(rng.uniform(-0.015, 0.015))
        _pear(s, x, y, r, float(rng.uniform(-0.2, 0.2)))


def apples_and_bottle(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A bowl of apples beside a bottle (variant 0) or a candle (variant 1)."""
    _room(s, hour, 0.62)
    side = float(rng.choice([-1.0, 1.0]))
    tall = s.placed(0.5 - side * 0.26)
    _shadow(s, 0.5 - side * 0.26, 0.78, 0.10)
    if variant == 0:
        glass = mirrored(".032,.13 .032,.30 .05,.36 .085,.42 .09,.58 .09,.76 .08,.79")
        tall.area(glass, DARK, (0.66, 0.5), volume=0.3, flow=UPRIGHT)
        tall.area("-.088,.50 .088,.50 .088,.65 -.088,.65", LIGHT, 0.46, volume=0.12)
        tall.line([(-s.light[0] * 0.065, 0.42), (-s.light[0] * 0.065, 0.48)], 0.016, LIGHT, 0.6)
        tall.area("-.036,.10 .036,.10 .036,.17 -.036,.17", ACCENT, 0.45)
    else:
        tall.disc((0, 0.77), (0.12, 0.035), DARK, 0.6)
        tall.area("-.042,.34 .042,.34 .042,.76 -.042,.76", LIGHT, 0.48, volume=0.18, flow=UPRIGHT)
        tall.glow((0, 0.26), 0.26, 0.32)
        tall.curve("0,.17 .030,.27 0,.33 -.030,.27", ACCENT, (0.75, 0.95))
    x, r = 0.5 + side * 0.13, 0.088
    _shadow(s, x, 0.84, 0.24)
    for dx, y in ((-0.14, 0.53), (0.14, 0.53), (0.0, 0.51), (-0.075, 0.40), (0.085, 0.41), (0.0, 0.30)):
        _apple(s, x + dx, y + float(rng.uniform(-0.01, 0.01)), r, ACCENT if rng.random() < 0.75 else BODY)
    bowl = s.placed(x)
    bowl.curve(mirrored(".24,.555 .275,.565 .19,.76 .09,.83"), BODY, (0.60, 0.36), volume=0.22)
    bowl.line(spline("-.265,.565 0,.60 .265,.565"), 0.022, LIGHT, 0.5)
    _shadow(s, x + side * 0.28, 0.92, r)
    _apple(s, x + side * 0.27, 0.86, r, ACCENT)


def flowers_in_vase(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A bouquet of daisies, tulips or roses (variants 0, 1, 2)."""
    _room(s, hour, 0.76)
    x = 0.5 + float(rng.uniform(-0.04, 0.04))
    heads = [(x + float(rng.uniform(-0.03, 0.03)), 0.13)]
    for reach, count in ((0.19, 5), (0.31, 6)):
        spots = arc((x, 0.42), (reach * 1.1, reach * 0.92), pi * 0.98, pi * 2.02)
        for i in np.linspace(0, len(spots) - 1, count).astype(int):
            dx, dy = rng.uniform(-0.02, 0.02, 2)
            heads.append((spots[i][0] + float(dx), spots[i][1] + float(dy)))
    for hx, hy in heads:
        s.line(spline([(x, 0.62), ((x + hx) / 2 + 0.02, (0.6 + hy) / 2), (hx, hy)]), 0.014, EARTH, 0.26)
    for _ in range(18):
        a, d = float(rng.uniform(pi, 2 * pi)), float(rng.uniform(0.06, 0.33))
        leaf(s, (x + d * cos(a), 0.48 + d * sin(a) * 0.8), a, 0.12, float(rng.uniform(0.28, 0.5)))
    _shadow(s, x, 0.90, 0.13)
    vase = s.placed(x)
    vase.curve(mirrored(".085,.56 .065,.62 .135,.72 .14,.80 .08,.90"), BODY, (0.56, 0.42), volume=0.32)
    vase.line(spline("-.138,.76 0,.79 .138,.76"), 0.022, LIGHT, 0.46)
    bloom = (_daisy, _tulip, _rose)[variant]
    for hx, hy in sorted(heads, key=lambda head: head[1]):
        bloom(s.placed(hx, hy, scale=float(rng.uniform(0.062, 0.078))), rng)


def _daisy(s: Sketch, rng: np.random.Generator) -> None:
    for a in (np.linspace(0, 2 * pi, 9)[:-1] + rng.uniform(0, 0.7)).tolist():
        s.disc((0.64 * cos(a), 0.64 * sin(a)), 0.36, LIGHT, 0.56 - 0.12 * cos(a) * s.light[0], flow=a)
    s.disc((0, 0), 0.40, ACCENT, 0.5, volume=0.2)


def _tulip(s: Sketch, rng: np.random.Generator) -> None:
    cup = "-.8,-.8 -.35,-.35 0,-1.15 .35,-.35 .8,-.8 .72,.5 0,1 -.72,.5"
    s.curve(cup, ACCENT, (0.66, 0.38), volume=0.2, flow=UPRIGHT + float(rng.uniform(-0.2, 0.2)))
    s.line("0,-.9 0,.6", 0.16, None, -0.14)


def _rose(s: Sketch, rng: np.random.Generator) -> None:
    role = ACCENT if rng.random() < 0.7 else LIGHT
    for r, tone in ((1.08, 0.36), (0.80, 0.50), (0.52, 0.62), (0.25, 0.40)):
        s.disc(((1 - r) * 0.17, (r - 1) * 0.14), r, role, tone, volume=0.16)


def fish_bowl(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A glass bowl with one fish or (variant 1) three."""
    _room(s, hour, 0.72)
    x, y, r = 0.5 + float(rng.uniform(-0.04, 0.04)), 0.53, 0.335
    _shadow(s, x, 0.86, 0.30)
    s.disc((x, y), r + 0.012, LIGHT, 0.42)
    s.disc((x, y), r - 0.006, AIR, 0.66, volume=0.14, flow=0.0)
    s.area(arc((x, y), (r - 0.006, r - 0.006), -0.38, pi + 0.38), BODY, (0.74, 0.52), volume=0.12)
    s.disc((x, y - 0.125), (r * 0.90, 0.035), BODY, 0.86, flow=0.0)
    s.area(arc((x, y), (r - 0.012, r - 0.012), pi * 0.22, pi * 0.78), EARTH, (0.58, 0.44))
    for weed in (x - 0.15, x + 0.17):
        for k in range(3):
            bend, foot = float(rng.uniform(-0.05, 0.05)), weed + 0.02 * k
            path = [(foot, 0.78), (foot + bend, 0.66), (foot - bend, 0.53 + 0.03 * k)]
            s.line(spline(path), 0.016, EARTH, 0.28)
    school = ((0.0, 0.56, 0.15),) if variant == 0 else ((-0.12, 0.50, 0.10), (0.12, 0.58, 0.11), (-0.07, 0.68, 0.085))
    for dx, fish_y, size in school:
        fish = s.placed(x + dx, fish_y, scale=size, flip=float(rng.choice([-1.0, 1.0])))
        fish.curve("-.75,0 -1.5,-.55 -1.25,0 -1.5,.55", ACCENT, 0.62)
        fish.curve("-.3,-.3 .1,-.78 .3,-.3", ACCENT, 0.42)
        fish.disc((0, 0), (1, 0.5), ACCENT, 0.52, volume=0.26)
        fish.disc((0.58, -0.08), 0.15, LIGHT, 0.55)
        fish.disc((0.60, -0.08), 0.09, DARK, 0.3)
    s.disc((x, y - r + 0.02), (r * 0.62, 0.032), LIGHT, 0.5)
    s.disc((x, y - r + 0.024), (r * 0.54, 0.022), AIR, 0.5)
    s.line(arc((x, y), (r * 0.84, r * 0.84), pi * 1.06, pi * 1.34), 0.026, LIGHT, 0.7)
