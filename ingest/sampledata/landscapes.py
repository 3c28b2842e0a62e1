"""Scenes in open country, and the hours of the day that every scene is lit by."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from ingest.sampledata.palettes import Role
from ingest.sampledata.sketch import Point, Sketch, mirrored, spline

DARK, AIR, EARTH, BODY, ACCENT, LIGHT, _ = Role
UPRIGHT = pi / 2


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


def sky(s: Sketch, rng: np.random.Generator, hour: Hour, horizon: float) -> None:
    """Air down to the horizon, with sun or moon and clouds."""
    s.area([(0, 0), (1, 0), (1, horizon), (0, horizon)], AIR, hour.sky)
    if hour.sun_height is not None:
        sun = (float(rng.uniform(0.2, 0.8)), hour.sun_height * min(1.0, horizon / 0.55))
        s.glow(sun, 0.30, 0.22)
        s.disc(sun, 0.062, LIGHT if hour.moon else ACCENT, 0.62)
        s.glow(sun, 0.09, 0.12)
    for _ in range(1 if hour.moon else int(rng.integers(2, 5))):
        cloud(s, rng, float(rng.uniform(-0.05, 1.0)), float(rng.uniform(0.06, horizon * 0.62)), dark=hour.moon)


def cloud(s: Sketch, rng: np.random.Generator, x: float, y: float, *, dark: bool) -> None:
    """A flat-bottomed cloud that starts at (x, y)."""
    length = float(rng.uniform(0.10, 0.22))
    puffs = [(length * t, -0.02 * float(rng.uniform(0, 1.6)) * sin(pi * t)) for t in np.linspace(0, 1, 6).tolist()]
    outline = [*puffs, (length * 0.8, 0.022), (length * 0.2, 0.025)]
    s.placed(x, y).curve(outline, AIR if dark else LIGHT, (0.40, 0.20) if dark else (0.64, 0.44))


def ridge(rng: np.random.Generator, y: float, height: float, bumps: int) -> list[Point]:
    """A rolling outline about `y`, closed below the image."""
    x = np.linspace(-0.1, 1.1, bumps + 2).tolist()
    top = spline([(a, y - height * float(rng.uniform(-1, 1))) for a in x])
    return [*top, (1.1, 1.1), (-0.1, 1.1)]


def hill(s: Sketch, rng: np.random.Generator, y: float, height: float, *, role: Role, tone: float) -> None:
    """A rolling hill across the image, darker towards its foot."""
    outline = ridge(rng, y, height, 3)
    s.area(outline, role, (tone + 0.10, tone - 0.16), flow=float(rng.uniform(-0.25, 0.25)))


def tree(s: Sketch, foot: Point, height: float, role: Role, tone: float) -> None:
    """A round-crowned tree: trunk, shaded crown, lit crown."""
    t = s.placed(*foot, scale=height)
    t.line("0,0 0,-.5", 0.10, DARK, 0.5)
    t.disc((0, -0.66), (0.33, 0.38), role, tone, volume=0.22)
    t.disc((-0.1, -0.76), 0.17, role, tone + 0.14)


def _fir(s: Sketch, x: float, foot: float, height: float, tone: float) -> None:
    fir = s.placed(x, foot, scale=height)
    for i, base in enumerate((0.0, -0.28, -0.55)):
        w = 0.30 - 0.07 * i
        fir.area([(0, base - 0.5), (w, base), (-w, base)], DARK, tone + 0.06 * i, volume=0.25, flow=pi / 3)


def mountain_lake(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Peaks mirrored in still water; variant 1 adds a rowing boat."""
    sky(s, rng, hour, 0.6)
    s.area(ridge(rng, 0.46, 0.06, 5), AIR, (0.40 + hour.land, 0.30), flow=0.3)
    high = (float(rng.uniform(0.22, 0.42)), float(rng.uniform(0.16, 0.24)))
    low = (float(rng.uniform(0.62, 0.82)), float(rng.uniform(0.24, 0.33)))
    for x, y in (low, high):
        w = (0.62 - y) * 0.95
        peak = s.placed(x, y)
        foot = 0.64 - y
        crest = [(0.05, foot), (-0.02, 0.22), (0.03, 0.12)]
        peak.area([(0, 0), (-w * 0.35, 0.15), (-w, foot), *crest], BODY, (0.62 + hour.land, 0.46), flow=2.2)
        peak.area([(0, 0), (w * 0.42, 0.17), (w, foot), *crest], BODY, (0.36 + hour.land, 0.26), flow=1.0)
        peak.area([(0, 0), (-w * 0.28, 0.12), (-0.035, 0.09), (0.012, 0.13)], LIGHT, 0.55, flow=2.2)
        peak.area([(0, 0), (0.012, 0.13), (0.05, 0.08), (w * 0.33, 0.14)], LIGHT, 0.34, flow=1.0)
    s.area(ridge(rng, 0.60, 0.015, 6), EARTH, (0.42 + hour.land, 0.3))
    for x in rng.uniform(-0.02, 1.02, 16).tolist():
        _fir(s, x, 0.635, float(rng.uniform(0.06, 0.13)), 0.42 + hour.land)
    s.reflect(0.635, rng)
    if variant == 1:
        boat = s.placed(float(rng.uniform(0.3, 0.6)), 0.79)
        boat.area("0,0 .24,0 .19,.055 .05,.055", ACCENT, (0.6, 0.3))
        boat.line(".02,0 .22,0", 0.012, LIGHT, 0.5)
        boat.disc((0.12, -0.07), (0.02, 0.022), DARK, 0.5)
        boat.area(".09,0 .10,-.055 .14,-.055 .155,0", DARK, 0.55)
    s.curve("-.1,.90 .15,.90 .4,.97 .6,1.1 -.1,1.1", EARTH, (0.5 + hour.land, 0.22))


def church_on_hill(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A white church with a spire on a round hill, a path leading up; variant 1 puts snow on the land."""
    land, path = (LIGHT, EARTH) if variant == 1 else (EARTH, LIGHT)
    sky(s, rng, hour, 0.75)
    hill(s, rng, 0.62, 0.05, role=AIR, tone=0.36 + hour.land)
    hill(s, rng, 0.72, 0.04, role=land, tone=0.36 + hour.land)
    x = float(rng.uniform(0.40, 0.60))
    s.disc((x, 1.12), (0.78, 0.56), land, (0.66 + hour.land, 0.30), flow=0.0)
    c = s.placed(x)
    for step, width in (
        ("-.02,.60 .05,.65 .06,.70", 0.03),
        ("0.06,.70 0,.76 -.12,.82", 0.055),
        ("-.12,.82 -.055,.935 -.05,1.05", 0.09),
    ):
        c.line(spline(step), width, path, 0.44)
    wall = 0.50 + hour.land * 0.4
    c.area("-.02,.42 .22,.42 .22,.60 -.02,.60", LIGHT, (wall, wall - 0.12))
    c.area("-.05,.43 .02,.31 .20,.31 .25,.43", BODY, (0.52, 0.38), flow=0.2)
    c.area("-.15,.28 -.01,.28 -.01,.61 -.15,.61", LIGHT, wall + 0.04, volume=0.14)
    c.area("-.17,.29 -.08,.07 .01,.29", BODY, (0.58, 0.34), volume=0.12, flow=UPRIGHT)
    c.line("-.08,.09 -.08,.025", 0.010, DARK, 0.5)
    c.line("-.105,.05 -.055,.05", 0.010, DARK, 0.5)
    glass, lit = (ACCENT, 0.75) if hour.moon else (DARK, 0.5)
    c.area("-.10,.61 -.10,.53 -.08,.505 -.06,.53 -.06,.61", ACCENT, 0.42)
    c.disc((-0.08, 0.37), (0.022, 0.026), glass, lit)
    for dx in (0.04, 0.10, 0.16):
        c.placed(dx).curve("0,.55 0,.48 .014,.465 .028,.48 .028,.55", glass, lit)
    for dx in (-0.34, 0.36, 0.46):
        crown, height = (EARTH if variant == 0 else DARK), float(rng.uniform(0.18, 0.26))
        tree(s, (x + dx + float(rng.uniform(-0.03, 0.03)), 0.72), height, crown, 0.34 + hour.land)


def cypress_hills(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Rolling fields, with cypresses (variant 0) or haystacks (variant 1)."""
    sky(s, rng, hour, 0.5)
    hill(s, rng, 0.40, 0.05, role=AIR, tone=0.34 + hour.land)
    hill(s, rng, 0.50, 0.05, role=BODY, tone=0.46 + hour.land)
    house = s.placed(float(rng.uniform(0.15, 0.75)))
    house.area("0,.46 .11,.46 .11,.53 0,.53", LIGHT, 0.46)
    house.area("-.02,.465 .02,.42 .09,.42 .13,.465", ACCENT, 0.42)
    hill(s, rng, 0.58, 0.05, role=EARTH, tone=0.58 + hour.land)
    hill(s, rng, 0.72, 0.05, role=BODY, tone=0.62 + hour.land)
    vanish = float(rng.uniform(0.2, 0.8))
    for i in range(-7, 9):
        s.line([(vanish + i * 0.05, 0.70), (vanish + i * 0.26, 1.05)], 0.016, None, -0.16)
    s.area(ridge(rng, 0.93, 0.03, 3), EARTH, (0.5 + hour.land, 0.24))
    if variant == 0:
        for x in np.sort(rng.uniform(0.06, 0.94, 6)).tolist():
            foot = float(rng.uniform(0.60, 0.92))
            cypress = s.placed(x, foot, scale=0.16 + (foot - 0.55) * 0.95)
            cypress.curve("0,-1 .13,-.4 .08,0 -.08,0 -.13,-.4", DARK, 0.48 + hour.land, volume=0.3, flow=UPRIGHT)
        return
    for x, y in ((0.48, 0.68), (0.86, 0.70), (0.24, 0.80), (0.66, 0.86)):
        stack = s.placed(x + float(rng.uniform(-0.05, 0.05)), y, scale=0.05 + (y - 0.6) * 0.42)
        stack.disc((s.light[0] * 0.7, 0.1), (1.2, 0.24), None, -0.22)
        dome = "-1,0 -.85,-.8 0,-1.65 .85,-.8 1,0 0,.14"
        stack.curve(dome, ACCENT, (0.70, 0.42), volume=0.24, flow=1.2)


def birch_grove(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """White trunks before a bright clearing; variant 1 is in snow."""
    ground, path = (LIGHT, AIR) if variant == 1 else (EARTH, ACCENT)
    s.area("0,0 1,0 1,.7 0,.7", AIR, hour.sky, flow=UPRIGHT)
    s.glow((float(rng.uniform(0.3, 0.7)), 0.45), 0.28, 0.22)
    for x in np.linspace(0, 1, 13).tolist():
        crown = (x, 0.10 + float(rng.uniform(-0.08, 0.16)))
        s.disc(crown, float(rng.uniform(0.08, 0.13)), BODY, float(rng.uniform(0.42, 0.62)) + hour.land, volume=0.1)
    for x in rng.uniform(0, 1, 9).tolist():
        s.line([(x, 0.2), (x, 0.64)], 0.014, EARTH, 0.26)
    s.area(ridge(rng, 0.62, 0.02, 4), ground, (0.62 + hour.land, 0.34))
    clearing = s.placed(float(rng.uniform(0.4, 0.6)))
    clearing.curve("-.02,.63 .02,.63 .06,.78 .20,1.08 -.22,1.08 -.03,.78", path, (0.62, 0.50))
    places = (0.04, 0.15, 0.27, 0.38, 0.62, 0.73, 0.85, 0.96)
    for i in rng.permutation(len(places)):
        near = float(rng.uniform(0, 1))
        _birch(s, rng, places[i] + float(rng.uniform(-0.03, 0.03)), near, 0.50 + hour.land * 0.5)
    for x in rng.uniform(0, 1, 12).tolist():
        spray = (x, float(rng.uniform(-0.02, 0.12)))
        s.disc(spray, float(rng.uniform(0.03, 0.06)), ACCENT, float(rng.uniform(0.45, 0.65)) + hour.land)


def _birch(s: Sketch, rng: np.random.Generator, x: float, near: float, tone: float) -> None:
    foot, w, lean = 0.68 + 0.26 * near, 0.026 + 0.032 * near, float(rng.uniform(-0.03, 0.03))
    birch = s.placed(x)
    birch.line([(0, foot), (s.light[0] * 0.28, foot + 0.05)], 0.02, None, -0.12)
    trunk = [(-w / 2, foot), (lean - w / 2.6, -0.02), (lean + w / 2.6, -0.02), (w / 2, foot)]
    birch.area(trunk, LIGHT, tone, volume=0.22, flow=UPRIGHT)
    for mark in np.arange(0.06, foot - 0.03, 0.09).tolist():
        y = mark + float(rng.uniform(0, 0.05))
        side = lean * (1 - y) + float(rng.choice([-1.0, 1.0])) * w * 0.2
        birch.line([(side - w * 0.22, y), (side + w * 0.22, y + 0.006)], 0.014, DARK, 0.5)


def windmill(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A windmill against a high sky; variant 0 stands in a field, variant 1 by a canal."""
    sky(s, rng, hour, 0.75)
    hill(s, rng, 0.70, 0.012, role=AIR, tone=0.36 + hour.land)
    s.area(ridge(rng, 0.755, 0.012, 3), EARTH, (0.62 + hour.land, 0.34))
    if variant == 1:
        s.area("0,.86 1,.80 1,.93 0,1.02", AIR, (0.72, 0.5), flow=-0.05)
    else:
        for y in np.linspace(0.80, 0.99, 6).tolist():
            s.line(spline([(-0.05, y), (0.5, y - 0.025), (1.05, y)]), 0.014, ACCENT, 0.62 + hour.land)
    mill = s.placed(float(rng.uniform(0.38, 0.62)))
    mill.disc((s.light[0] * 0.2, 0.79), (0.24, 0.025), None, -0.18)
    mill.area("-.13,.79 -.075,.36 .075,.36 .13,.79", BODY, (0.54, 0.44), volume=0.26, flow=UPRIGHT)
    mill.curve(mirrored("0,.255 .07,.29 .095,.375"), DARK, 0.6, volume=0.2)
    mill.line("-.15,.60 .15,.60", 0.022, LIGHT, 0.42)
    mill.area("-.035,.79 -.035,.69 .035,.69 .035,.79", DARK, 0.5)
    mill.area("-.02,.50 -.02,.44 .02,.44 .02,.50", ACCENT if hour.moon else LIGHT, 0.6)
    hub = mill.placed(0, 0.33)
    turn = float(rng.uniform(0.2, 1.2))
    for angle in (turn, turn + pi / 2, turn + pi, turn + 3 * pi / 2):
        c, d = cos(angle), sin(angle)
        corners = ((0.09, 0.008), (0.33, 0.008), (0.33, 0.085), (0.09, 0.07))
        hub.area([(c * along - d * out, d * along + c * out) for along, out in corners], LIGHT, 0.54, flow=angle)
        for rung in (0.15, 0.21, 0.27):
            hub.line([(c * rung, d * rung), (c * rung - d * 0.08, d * rung + c * 0.08)], 0.006, None, -0.2)
        hub.line([(0, 0), (c * 0.33, d * 0.33)], 0.016, DARK, 0.46)
    hub.disc((0, 0), 0.022, DARK, 0.5)
