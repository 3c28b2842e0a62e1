"""Portraits and animals."""

from __future__ import annotations

from math import pi

import numpy as np

from ingest.sampledata.landscapes import Hour
from ingest.sampledata.palettes import Role
from ingest.sampledata.sketch import Sketch, arc, mirrored, spline
from ingest.sampledata.stilllifes import UPRIGHT, leaf

DARK, AIR, EARTH, BODY, ACCENT, LIGHT, SKIN = Role


def _bust(s: Sketch, rng: np.random.Generator, hour: Hour) -> Sketch:
    """Backdrop and shoulders; returns the sketch placed at the middle of the sitter."""
    wall = sum(hour.sky) / 2
    s.area("0,0 1,0 1,1 0,1", AIR, (wall - 0.04, wall - 0.08), flow=1.0)
    s.glow((0.5 - s.light[0] * 0.35, 0.3), 0.4, 0.2)
    sitter = s.placed(0.5 + float(rng.uniform(-0.03, 0.03)))
    sitter.curve(mirrored(".10,.74 .30,.80 .42,1 .42,1.2"), BODY, (0.60, 0.36), volume=0.16, flow=1.2)
    return sitter


def _face(sitter: Sketch, eyes: float, lips: float) -> None:
    """Neck, head with its shaded side, and features; `eyes` and `lips` are heights."""
    s = sitter.placed(0, eyes)
    turned = s.placed(0, flip=1.0 if s.light[0] > 0 else -1.0)
    s.area("-.065,.10 .065,.10 .085,.36 -.085,.36", SKIN, (0.34, 0.46), volume=0.1)
    s.curve(mirrored("0,-.19 .125,-.12 .14,.02 .095,.15 0,.215"), SKIN, 0.52, volume=0.12, flow=UPRIGHT)
    turned.curve(".03,-.19 .125,-.12 .14,.02 .095,.15 .02,.205 .055,.03", None, -0.13)
    for side in (-0.058, 0.058):
        s.line(spline([(side - 0.036, -0.032), (side, -0.047), (side + 0.036, -0.032)]), 0.013, DARK, 0.42)
        s.disc((side, 0), (0.031, 0.016), LIGHT, 0.58)
        s.disc((side, 0), (0.0145, 0.0165), DARK, 0.3)
    turned.area("-.004,-.01 .030,.085 -.006,.09", None, -0.14)
    mouth = sitter.placed(0, lips)
    mouth.curve("-.045,0 -.012,-.013 0,-.008 .012,-.013 .045,0 0,.020", ACCENT, 0.42)


def woman_in_hat(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Portrait with a wide hat (variant 0) or a headscarf (variant 1)."""
    sitter = _bust(s, rng, hour)
    if variant == 0:
        sitter.curve(mirrored(".16,.28 .21,.50 .19,.76 .08,.70"), DARK, (0.46, 0.34), flow=UPRIGHT)
    else:
        scarf = "0,.16 .19,.26 .20,.50 .24,.80 0,.72 -.24,.80 -.20,.50 -.19,.26"
        sitter.curve(scarf, ACCENT, (0.60, 0.36), volume=0.2, flow=1.3)
    _face(sitter, 0.44, 0.565)
    sitter.curve("-.10,.78 0,.90 .10,.78 0,.755", SKIN, 0.46)
    for x, y in arc((0, 0.71), (0.115, 0.11), 0.25 * pi, 0.75 * pi)[::4]:
        sitter.disc((x, y), 0.015, ACCENT if variant == 0 else LIGHT, 0.62)
    if variant == 1:
        sitter.line(spline("-.145,.36 -.11,.27 0,.225 .11,.27 .145,.36"), 0.05, ACCENT, 0.64)
        return
    tilt = float(rng.uniform(-0.04, 0.04))
    sitter.area("-.14,.31 .14,.31 .13,.39 -.13,.39", None, -0.14)
    sitter.curve("-.15,.30 -.14,.13 0,.07 .14,.13 .15,.30", ACCENT, (0.66, 0.40), volume=0.24, flow=0.4)
    brim = [(-0.38, 0.33 + tilt), (-0.16, 0.255), (0.16, 0.255), (0.38, 0.33 - tilt), (0.15, 0.345), (-0.15, 0.345)]
    sitter.curve(brim, ACCENT, (0.60, 0.34))
    sitter.line(spline("-.15,.235 0,.262 .15,.235"), 0.042, DARK, 0.5)
    sitter.disc((0.11, 0.225), 0.04, LIGHT, 0.52, volume=0.2)


def bearded_man(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """Portrait with a beard, with a cap and pipe (variant 0) or spectacles (variant 1)."""
    sitter = _bust(s, rng, hour)
    hair = LIGHT if rng.random() < 0.4 else DARK
    sitter.curve("-.155,.18 -.17,.46 .17,.46 .155,.18 0,.12", hair, 0.38)
    for side in (-0.145, 0.145):
        sitter.disc((side, 0.425), (0.028, 0.042), SKIN, 0.42)
    _face(sitter, 0.40, 0.535)
    beard = "0,.492 .05,.505 .115,.50 .14,.40 .16,.57 .09,.73 0,.79"
    sitter.curve(mirrored(beard), hair, (0.52, 0.32), volume=0.2, flow=UPRIGHT)
    sitter.curve("-.05,.54 0,.53 .05,.54 0,.565", ACCENT, 0.4)
    for side in (-1.0, 1.0):
        lapel = [(0.0, 0.80), (side * 0.16, 0.76), (side * 0.20, 0.90), (side * 0.06, 1.02)]
        sitter.area(lapel, BODY, 0.64 if side * s.light[0] < 0 else 0.40, flow=1.0)
    if variant == 1:
        for side in (-0.06, 0.06):
            sitter.line(arc((side, 0.404), (0.046, 0.042)), 0.012, DARK, 0.45)
        sitter.line("-.016,.40 .016,.40", 0.012, DARK, 0.45)
        sitter.curve("-.14,.24 -.05,.16 .13,.17 .155,.30 .03,.235", hair, 0.46, flow=0.4)
        return
    sitter.curve("-.17,.27 -.19,.15 0,.08 .19,.15 .17,.27", ACCENT, (0.58, 0.40), volume=0.22, flow=0.2)
    sitter.curve("-.18,.27 0,.23 .18,.27 0,.305", DARK, 0.5)
    pipe = sitter.placed(0, 0.40, flip=1.0 if s.light[0] < 0 else -1.0)
    pipe.line(".03,.15 .20,.20", 0.020, DARK, 0.5)
    pipe.area(".17,.14 .25,.13 .24,.23 .18,.23", DARK, 0.55)
    for k in range(3):
        pipe.disc((0.22 + 0.02 * k, 0.07 - 0.07 * k), 0.022 + 0.010 * k, LIGHT, 0.40)


def _window(s: Sketch, rng: np.random.Generator, hour: Hour) -> None:
    """A wall with a window to hills, its frame and sill; the sketch is flipped so that the sun is to the left."""
    s.area("-.5,0 .5,0 .5,1 -.5,1", EARTH, 0.40 + hour.land)
    s.area("-.38,.04 .38,.04 .38,.74 -.38,.74", AIR, (hour.sky[0] + 0.04, hour.sky[1]))
    if hour.sun_height is not None:
        s.disc((float(rng.uniform(-0.22, -0.12)), 0.20), 0.055, LIGHT if hour.moon else ACCENT, 0.66)
    hills = spline("-.38,.56 -.15,.47 .1,.56 .38,.50")
    s.area([*hills, (0.38, 0.74), (-0.38, 0.74)], EARTH, (0.66 + hour.land, 0.46))
    for bar in ("-.38,.04 -.38,.76", ".38,.04 .38,.76", "0,.04 0,.76", "-.38,.04 .38,.04", "-.38,.34 .38,.34"):
        s.line(bar, 0.030, LIGHT, 0.46)
    s.area("-.48,.74 .48,.74 .5,.83 -.5,.83", LIGHT, (0.56, 0.38))


def cat_at_window(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """A cat on a windowsill, sitting (variant 0) or asleep (variant 1)."""
    room = s.placed(0.5, flip=float(rng.choice([-1.0, 1.0])))
    _window(room, rng, hour)
    fur = BODY if rng.random() < 0.6 else DARK
    curtain = "-.52,-.05 -.30,-.05 -.44,.45 -.34,.80 -.52,.80"
    room.curve(curtain, ACCENT, (0.58, 0.40), volume=0.16, flow=UPRIGHT)
    if variant == 0:
        room.line(spline("-.03,.76 -.13,.84 -.10,.95 0,.94"), 0.050, fur, 0.40)
        body = ".08,.38 .20,.45 .255,.62 .23,.785 -.05,.785 -.085,.66 -.02,.48"
        room.curve(body, fur, (0.50, 0.36), volume=0.22, flow=UPRIGHT)
        room.curve(".10,.50 .175,.56 .15,.70 .07,.68", LIGHT, 0.40, flow=UPRIGHT)
        head = room.placed(0.12, 0.335, scale=0.115)
    else:
        room.disc((0.07, 0.70), (0.29, 0.125), fur, (0.56, 0.34), volume=0.16)
        room.line(spline("-.19,.72 -.12,.80 .08,.805"), 0.055, fur, 0.34)
        head = room.placed(0.30, 0.655, scale=0.115)
    for k in (-1.0, 1.0):
        head.area([(k * 0.95, -0.35), (k * 0.86, -1.45), (k * 0.15, -0.85)], fur, 0.40)
        head.area([(k * 0.78, -0.62), (k * 0.76, -1.15), (k * 0.38, -0.85)], ACCENT, 0.56)
    head.disc((0, 0), (1.08, 0.94), fur, 0.46, volume=0.16)
    head.disc((0, 0.42), (0.46, 0.34), LIGHT, 0.46)
    for k in (-1.0, 1.0):
        if variant == 0:
            head.disc((k * 0.42, -0.06), (0.25, 0.22), LIGHT, 0.66)
            head.disc((k * 0.42, -0.06), (0.11, 0.19), DARK, 0.15)
        else:
            head.line(spline([(k * 0.22, 0.0), (k * 0.42, 0.1), (k * 0.62, 0.0)]), 0.10, DARK, 0.1)
    head.area("-.13,.24 .13,.24 0,.40", ACCENT, 0.42)


def bird_on_branch(s: Sketch, rng: np.random.Generator, hour: Hour, variant: int) -> None:
    """One bird or (variant 1) two on a branch in leaf, before a large sun or moon."""
    s.area("0,0 1,0 1,1 0,1", AIR, hour.sky, flow=0.5)
    side = float(rng.choice([-1.0, 1.0]))
    tree = s.placed(0.0 if side > 0 else 1.0, flip=side)
    sun = (float(rng.uniform(0.60, 0.72)), float(rng.uniform(0.28, 0.36)))
    tree.glow(sun, 0.32, 0.12)
    tree.disc(sun, 0.20, LIGHT, 0.5, flow=0.0)
    s.area([(0, 1), *spline("0,.88 .4,.84 .7,.90 1,.86"), (1, 1)], EARTH, (0.56 + hour.land, 0.40))
    tree.line(spline("-.06,.86 .25,.74 .55,.70 .82,.60 1.05,.56"), 0.042, DARK, 0.52)
    for (x0, y0), (x1, y1) in (
        ((0.30, 0.73), (0.22, 0.55)),
        ((0.72, 0.64), (0.80, 0.80)),
        ((0.12, 0.79), (0.10, 0.92)),
    ):
        tree.line(spline([(x0, y0), ((x0 + x1) / 2 + 0.02, (y0 + y1) / 2), (x1, y1)]), 0.020, DARK, 0.5)
        for t in rng.uniform(0.3, 1.1, 5).tolist():
            angle, tone = float(rng.uniform(0, 2 * pi)), float(rng.uniform(0.30, 0.52))
            leaf(tree, (x0 + (x1 - x0) * t, y0 + (y1 - y0) * t), angle, 0.10, tone)
        tree.disc((x1 + 0.02, y1 + 0.01), 0.024, ACCENT, 0.6, volume=0.2)
    perches = ((0.52, 0.575, 0.155, 1.0),) if variant == 0 else ((0.40, 0.61, 0.115, 1.0), (0.68, 0.555, 0.115, -1.0))
    for x, y, size, facing in perches:
        _bird(tree.placed(x, y, scale=size, flip=facing))


def _bird(bird: Sketch) -> None:
    bird.curve("-.7,.1 -1.9,.75 -1.75,1 -.5,.6", BODY, 0.32, flow=0.5)
    for leg in (0.0, 0.28):
        bird.line([(leg, 0.75), (leg + 0.05, 1.05)], 0.09, DARK, 0.4)
    bird.curve("-.85,.1 -.3,-.55 .4,-.75 .95,-.1 .6,.65 -.2,.78", ACCENT, (0.52, 0.46), volume=0.22)
    bird.curve(".95,-.1 .6,.65 -.1,.78 .3,.2", LIGHT, 0.44)
    bird.disc((0.62, -0.78), (0.52, 0.48), ACCENT, 0.54, volume=0.16)
    bird.area("1.05,-.92 1.62,-.70 1.05,-.58", DARK, 0.5)
    bird.disc((0.76, -0.86), 0.13, LIGHT, 0.6)
    bird.disc((0.78, -0.86), 0.08, DARK, 0.2)
    bird.curve("-1,.25 -.3,-.42 .35,-.28 .25,.25 -.35,.48", BODY, (0.52, 0.34), flow=0.4)
    for dy in (0.0, 0.2):
        bird.line([(-0.75, 0.22 + dy / 2), (0.15, dy)], 0.08, None, -0.16)
