"""Scenes by the water and in town."""

from __future__ import annotations

from math import pi

import numpy as np

from ingest.sampledata.landscapes import UPRIGHT, Hour, cloud, hill, ridge, sky, tree
from ingest.sampledata.palettes import Role
from ingest.sampledata.sketch import Sketch, arc, spline

DARK, AIR, EARTH, BODY, ACCENT, LIGHT, _ = Role


def harbor(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Sailboats (one, or three in variant 1) on calm water before a town."""
    sky(s, rng, hour, 0.58)
    s.area(ridge(rng, 0.50, 0.04, 4), AIR, (0.36 + hour.land, 0.28))
    left = -0.02
    while left < 1.0:
        w, h = float(rng.uniform(0.06, 0.10)), float(rng.uniform(0.04, 0.11))
        wall, roof = ((LIGHT, ACCENT), (BODY, DARK), (EARTH, ACCENT))[int(rng.integers(3))]
        house = s.placed(left, 0.57 - h)
        house.area([(0, 0), (w, 0), (w, h + 0.03), (0, h + 0.03)], wall, 0.40 + hour.land)
        house.area([(-0.01, 0.002), (w / 2, -0.04), (w + 0.01, 0.002)], roof, 0.42 + hour.land)
        left += w
    s.reflect(0.58, rng, tone=-0.06)
    for y in np.linspace(0.61, 0.97, 14).tolist():
        x = float(rng.uniform(-0.1, 0.9))
        s.line([(x, y), (x + float(rng.uniform(0.06, 0.22)), y)], 0.008, None, 0.14)
    fleet = [(float(rng.uniform(0.40, 0.60)), 0.72, 0.52, BODY, ACCENT)]
    if variant == 1:
        fleet = [(0.20, 0.64, 0.24, DARK, LIGHT), (0.80, 0.66, 0.30, DARK, BODY), *fleet]
    for x, y, size, hull, sail in fleet:
        _sailboat(s.placed(x, y, scale=size), rng, hull, sail, hour.land * 0.5)


def _sailboat(boat: Sketch, rng: np.random.Generator, hull: Role, sail: Role, land: float) -> None:
    for k in range(5):
        half, y, shift = 0.34 - 0.05 * k, 0.13 + 0.07 * k, float(rng.uniform(-0.04, 0.04))
        boat.line([(shift - half, y), (shift + half, y)], 0.03, sail if k % 2 else hull, 0.42)
    boat.line("0,0 0,-1", 0.035, DARK, 0.5)
    boat.curve(".03,-.12 .03,-1 .30,-.5 .42,-.12", sail, (0.62 + land, 0.44 + land), flow=1.2)
    boat.area("-.04,-.12 -.04,-.84 -.36,-.12", LIGHT, (0.58 + land, 0.42 + land), flow=1.9)
    boat.curve("-.46,-.06 .50,-.08 .36,.10 -.32,.10", hull, (0.56, 0.28))


def lighthouse(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A banded lighthouse on rocks above the sea; variant 1 in a storm."""
    sky(s, rng, hour, 0.66)
    if variant == 1:
        for _ in range(5):
            cloud(s, rng, float(rng.uniform(-0.1, 0.9)), float(rng.uniform(0.05, 0.3)), dark=True)
    s.area("0,.64 1,.64 1,1 0,1", BODY, (0.52 + hour.land, 0.30))
    swell, waves = ((0.012, 7), (0.032, 10))[variant]
    for y in np.linspace(0.68, 0.98, waves).tolist():
        crests = (np.linspace(-0.1, 1.1, 9) + rng.uniform(-0.05, 0.05)).tolist()
        crest = spline([(x, y + swell * (-1.0) ** i) for i, x in enumerate(crests)])
        s.line(crest, swell * 0.4 + 0.006, LIGHT if rng.random() < 0.6 else AIR, 0.44)
    side = float(rng.choice([-1.0, 1.0]))
    tower = s.placed(0.5 - side * float(rng.uniform(0.16, 0.24)), flip=side)
    if hour.moon:
        tower.area("0,.205 .9,.06 .9,.30", LIGHT, 0.56, flow=0.1)
    tower.area("-.075,.68 -.05,.25 .05,.25 .075,.68", LIGHT, 0.54, volume=0.24, flow=UPRIGHT)
    for y in (0.30, 0.45, 0.60):
        w = 0.052 + (y - 0.27) * 0.062
        tower.area([(-w, y), (w, y), (w + 0.004, y + 0.07), (-w - 0.004, y + 0.07)], ACCENT, 0.48, volume=0.22)
    tower.area("-.068,.235 .068,.235 .06,.26 -.06,.26", DARK, 0.5)
    tower.area("-.035,.17 .035,.17 .035,.237 -.035,.237", ACCENT, 0.85)
    tower.glow((0, 0.205), 0.07, 0.3)
    tower.area("-.05,.175 0,.115 .05,.175", DARK, 0.55)
    rock = "-.7,.70 -.22,.655 -.06,.665 .10,.66 .20,.72 .30,.86 .48,1.1 -.7,1.1"
    tower.area(rock, EARTH, (0.58 + hour.land, 0.22), flow=0.7)
    for x, y, h in ((-0.3, 0.70, 0.2), (-0.12, 0.72, 0.24), (0.07, 0.74, 0.22)):
        tower.area([(x, y), (x + 0.12, y + 0.04), (x + 0.04, y + h)], None, -0.14)
    for foam in ((0.28, 0.88), (0.36, 0.95), (0.22, 0.80)):
        tower.disc(foam, (0.055, 0.022), LIGHT, 0.55)


def stone_bridge(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A bridge of two or (variant 1) three arches, mirrored in a river."""
    sky(s, rng, hour, 0.6)
    hill(s, rng, 0.46, 0.05, role=AIR, tone=0.34 + hour.land)
    for x in (0.04, 0.16, 0.86, 0.97):
        tree(s, (x, 0.58), float(rng.uniform(0.24, 0.36)), EARTH, 0.44 + hour.land)
    deck = spline("-.1,.46 .2,.38 .5,.345 .8,.38 1.1,.46")
    s.area([*deck, (1.1, 0.66), (-0.1, 0.66)], BODY, (0.62 + hour.land, 0.46))
    for x, y in zip(rng.uniform(0, 1, 22).tolist(), rng.uniform(0.42, 0.62, 22).tolist(), strict=True):
        s.line([(x, y), (x + 0.05, y)], 0.008, None, -0.12)
    count = 2 + variant
    for i in range(count):
        arch, w = s.placed((i + 0.5) / count), 0.33 / count
        foot = [(w, 0.67), (-w, 0.67)]
        arch.line(arc((0, 0.60), (w + 0.012, 0.145), pi), 0.03, LIGHT, 0.40 + hour.land)
        arch.area([*arc((0, 0.60), (w, 0.13), pi), *foot], BODY, 0.20)
        arch.placed(s.light[0] * 0.03).area([*arc((0, 0.615), (w * 0.92, 0.12), pi), *foot], AIR, (0.70, 0.62))
    s.line(deck, 0.034, LIGHT, 0.46)
    s.reflect(0.66, rng, tone=-0.14, ripple=0.014)
    for x in (0.0, 1.0):
        s.disc((x, 1.02), (0.34, 0.20), EARTH, (0.60 + hour.land, 0.24), flow=0.0)


def old_street(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Gabled houses on both sides of a street that leads to a tower; variant 1 shows a lantern and a walker."""
    sky(s, rng, hour, 0.62)
    s.area(".42,.62 .42,.24 .50,.10 .58,.24 .58,.62", AIR, (0.40 + hour.land, 0.32))
    s.area(".38,.60 .62,.60 1.15,1.05 -.15,1.05", EARTH, (0.74 + hour.land, 0.40))
    for y in (np.linspace(0.66, 0.98, 8) ** 1.1).tolist():
        s.line([(0.5 - (y - 0.50) * 1.1, y), (0.5 + (y - 0.50) * 1.1, y)], 0.008, None, -0.08)
    for side in (-1.0, 1.0):
        row = s.placed(0.5, flip=side)
        lit = 0.56 if side * s.light[0] < 0 else 0.38
        colors = [(BODY, LIGHT, ACCENT)[i] for i in rng.permutation(3)]
        for k, (inner, outer, height) in enumerate(((0.10, 0.20, 0.16), (0.18, 0.33, 0.28), (0.30, 0.56, 0.42))):
            _house(
                row,
                rng,
                hour,
                (inner, outer, height + float(rng.uniform(-0.02, 0.03))),
                wall=colors[k],
                floor=k,
                lit=lit,
            )
    if variant == 1:
        walker = s.placed(0.5 + float(rng.uniform(-0.05, 0.05)))
        walker.disc((0, 0.895), (0.05, 0.014), None, -0.2)
        walker.curve("-.035,.89 -.02,.76 .02,.76 .035,.89", DARK, 0.5)
        walker.disc((0, 0.735), (0.021, 0.026), DARK, 0.55)
        s.line(".27,.86 .27,.50", 0.014, DARK, 0.5)
        s.area(".25,.50 .24,.43 .30,.43 .29,.50", ACCENT, 0.85)
        s.glow((0.27, 0.46), 0.10, 0.25)


def _house(
    row: Sketch,
    rng: np.random.Generator,
    hour: Hour,
    size: tuple[float, float, float],
    *,
    wall: Role,
    floor: int,
    lit: float,
) -> None:
    """A house seen along the street: (far side, near side, height) from the street's middle; `floor` windows high."""
    far, near, height = size
    top_far, top_near = 0.55 - height * 0.75, 0.55 - height
    front = [(far, 0.5 + far), (far, top_far), (near, top_near), (near, 0.5 + near)]
    row.area(front, wall, (lit + hour.land, lit + hour.land - 0.08), flow=UPRIGHT)
    peak = ((far + near) / 2, (top_far + top_near) / 2 - 0.11 - 0.05 * floor)
    gable = [(far - 0.012, top_far + 0.01), peak, (near + 0.012, top_near + 0.01)]
    row.area(gable, EARTH if wall is BODY else DARK, (0.62 + hour.land, 0.44), flow=0.8)
    glow = hour.moon and wall is not ACCENT
    for story in range(1 + floor):
        for t in (0.28, 0.68):
            x, y = far + (near - far) * t, top_far + (top_near - top_far) * t + 0.05 + story * 0.12
            h, w = 0.035 + 0.018 * floor, (near - far) * 0.10
            pane = [(x - w, y), (x + w, y), (x + w, y + h), (x - w, y + h)]
            row.area(pane, ACCENT if glow and rng.random() < 0.8 else DARK, 0.78 if glow else 0.5)
