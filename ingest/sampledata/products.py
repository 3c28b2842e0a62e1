"""Product photos: eight things for the home on white, in the colors and pattern of their brand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.sampledata.marks import blurred, flat_color, mixed
from ingest.sampledata.palettes import Floats, Palette, Role
from ingest.sampledata.sketch import Sketch, arc, mirrored, noise, spline

DARK, AIR, EARTH, BODY, ACCENT, LIGHT, _ = Role

#: Side of a photo in pixels, and how much larger it is drawn.
SIZE, OVERSAMPLING = 128, 2

Mask = NDArray[np.bool_]
#: Whether the print's second color is at (u, v), both shares of the image's height.
Pattern = Callable[[Floats, Floats], Mask]


def _plain(u: Floats, v: Floats) -> Mask:
    return np.zeros(u.shape, np.bool_)


def _stripes(u: Floats, v: Floats) -> Mask:
    return np.asarray((v * 9) % 1 < 0.38)


def _pinstripes(u: Floats, v: Floats) -> Mask:
    return np.asarray((u * 14) % 1 < 0.30)


def _dots(u: Floats, v: Floats) -> Mask:
    row = np.floor(v * 8)
    return np.asarray(np.hypot((u * 8 + row % 2 / 2) % 1 - 0.5, v * 8 % 1 - 0.5) < 0.28)


def _checks(u: Floats, v: Floats) -> Mask:
    return np.asarray((np.floor(u * 8) + np.floor(v * 8)) % 2 < 0.5)


def _chevrons(u: Floats, v: Floats) -> Mask:
    return np.asarray((v * 7 + np.abs((u * 5) % 1 - 0.5) * 1.2) % 1 < 0.42)


def _waves(u: Floats, v: Floats) -> Mask:
    return np.asarray((v * 7 + 0.22 * np.sin(u * 26)) % 1 < 0.40)


def _halves(u: Floats, v: Floats) -> Mask:
    return np.asarray(v + 0.25 * u > 0.72)


def _diagonals(u: Floats, v: Floats) -> Mask:
    return np.asarray(((u + v) * 8) % 1 < 0.40)


def _lattice(u: Floats, v: Floats) -> Mask:
    return np.asarray(((u * 7) % 1 < 0.22) | ((v * 7) % 1 < 0.22))


def _diamonds(u: Floats, v: Floats) -> Mask:
    return np.asarray(np.abs((u * 6) % 1 - 0.5) + np.abs((v * 6) % 1 - 0.5) < 0.34)


def _bands(u: Floats, v: Floats) -> Mask:
    return np.asarray((v * 3.6) % 1 < 0.45)


#: Each pattern and the word for it.
PATTERNS: dict[Pattern, str] = {
    _plain: "plain",
    _stripes: "striped",
    _pinstripes: "pinstriped",
    _dots: "dotted",
    _checks: "checked",
    _chevrons: "zigzag",
    _waves: "wavy",
    _halves: "two-tone",
    _diagonals: "diagonally striped",
    _lattice: "latticed",
    _diamonds: "diamond-patterned",
    _bands: "banded",
}


@dataclass(frozen=True)
class Brand:
    """A brand: its colors (hex, in the order of `Role`), the pattern on everything it makes, the sides of its logo."""

    name: str
    colors: str
    pattern: Pattern
    sides: int


BRANDS = (
    Brand("Nordlys Home", "1f2a38 d5e2e8 a7b8bf 5f8fae f2f5f4 ffffff", _pinstripes, 3),
    Brand("Casa Limón", "4a3a10 fff0b0 c9b458 f7cf2e f08a24 fffdf0", _dots, 4),
    Brand("Thistle & Rye", "2d1f3d cbb6dc 8a7aa0 7d55a8 c9e08a fbf8ff", _checks, 5),
    Brand("Ember Works", "2a0f0a f0b59a 8a4a3a d1452b f7b733 fff3ea", _chevrons, 6),
    Brand("Blue Heron", "0e2340 a9c9ea 6a8fb5 1f5fae f4f0e6 ffffff", _waves, 3),
    Brand("Mossgrove", "1d2b1c cfe0b8 8fa878 4f7f45 e9e2c0 fbfdf5", _halves, 4),
    Brand("Rosa & Pine", "3a1524 f6cdd6 b58a92 e0708f 2f7f6b fff7f8", _stripes, 5),
    Brand("Kiln Street", "2b1d14 e2cbb0 a88a6a b0713f 3f3a36 fdf6ec", _plain, 6),
    Brand("Paperlantern", "33100f fbd9a8 c08a5a ef6f3c 7a1f3d fff8ec", _dots, 3),
    Brand("Juniper Bay", "0d2f30 b5e3dc 6fa8a0 1f8f8a f2a07b f7fffd", _chevrons, 4),
    Brand("O'Mara Supply", "15171a cfd2d6 8a8f96 3a3f47 e8c44a f7f8f9", _stripes, 5),
    Brand("Sugarloaf", "3d2a4f f3d9f0 c8a2c8 f08fc0 8fd3e8 fffafd", _waves, 6),
)


def _mug(s: Sketch) -> None:
    s.line(arc((0.70, 0.52), (0.14, 0.14)), 0.055, BODY, 0.34)
    s.area([*arc((0.45, 0.74), (0.23, 0.06), 0, pi), (0.22, 0.30), (0.68, 0.30)], BODY, (0.54, 0.44), volume=0.28)
    s.disc((0.45, 0.30), (0.23, 0.055), LIGHT, 0.42)
    s.disc((0.45, 0.305), (0.205, 0.040), DARK, 0.6)


def _teapot(s: Sketch) -> None:
    s.line(arc((0.24, 0.54), (0.13, 0.15)), 0.045, BODY, 0.36)
    s.curve(".68,.62 .86,.40 .93,.38 .90,.45 .78,.66", BODY, (0.56, 0.40), volume=0.2)
    s.disc((0.50, 0.58), (0.29, 0.23), BODY, (0.56, 0.42), volume=0.30)
    s.disc((0.50, 0.375), (0.17, 0.05), LIGHT, 0.40)
    s.disc((0.50, 0.355), (0.155, 0.05), ACCENT, 0.52, volume=0.2)
    s.disc((0.50, 0.285), 0.045, DARK, 0.6, volume=0.3)


def _lamp(s: Sketch) -> None:
    s.glow((0.5, 0.36), 0.3, 0.1)
    s.disc((0.5, 0.82), (0.17, 0.04), DARK, 0.56, volume=0.2)
    lamp = s.placed(0.5)
    lamp.curve(mirrored(".025,.52 .045,.60 .10,.70 .05,.80"), ACCENT, (0.54, 0.42), volume=0.3)
    lamp.area("-.16,.18 .16,.18 .29,.54 -.29,.54", BODY, (0.62, 0.46), volume=0.18)
    lamp.disc((0, 0.54), (0.29, 0.035), LIGHT, 0.7)


def _pillow(s: Sketch) -> None:
    s.curve(".14,.20 .50,.24 .86,.20 .83,.50 .86,.82 .50,.78 .14,.82 .17,.50", BODY, (0.56, 0.44), volume=0.22)
    s.disc((0.5, 0.51), 0.025, LIGHT, 0.45, volume=0.2)


def _vase(s: Sketch) -> None:
    vase = s.placed(0.5)
    vase.curve(mirrored(".09,.16 .06,.30 .20,.50 .19,.70 .10,.84"), BODY, (0.56, 0.42), volume=0.32)
    vase.disc((0, 0.165), (0.095, 0.028), DARK, 0.62)


def _clock(s: Sketch) -> None:
    s.disc((0.5, 0.5), 0.36, BODY, 0.5, volume=0.18)
    s.disc((0.5, 0.5), 0.27, LIGHT, 0.5)
    for hour in range(12):
        a = hour * pi / 6
        tip = [(0.5 + r * cos(a), 0.5 + r * sin(a)) for r in (0.215, 0.245)]
        s.line(tip, 0.018, DARK, 0.5)
    s.line(".5,.5 .38,.40", 0.026, DARK, 0.4)
    s.line(".5,.5 .58,.31", 0.018, DARK, 0.4)
    s.disc((0.5, 0.5), 0.026, ACCENT, 0.5)


def _bottle(s: Sketch) -> None:
    bottle = s.placed(0.5)
    bottle.area("-.06,.10 .06,.10 .06,.20 -.06,.20", DARK, 0.6, volume=0.24)
    bottle.line(spline("-.06,.12 0,.05 .06,.12"), 0.02, DARK, 0.6)
    bottle.area(
        spline(mirrored(".07,.20 .13,.28 .14,.40 .14,.70 .13,.85"), closed=True), BODY, (0.54, 0.44), volume=0.30
    )
    bottle.area("-.14,.34 .14,.34 .14,.40 -.14,.40", LIGHT, 0.46, volume=0.24)


def _armchair(s: Sketch) -> None:
    for x in (0.24, 0.76):
        s.area([(x - 0.02, 0.78), (x + 0.02, 0.78), (x + 0.01, 0.88), (x - 0.01, 0.88)], DARK, 0.6)
    s.curve(".26,.60 .24,.22 .50,.15 .76,.22 .74,.60 .50,.66", BODY, (0.58, 0.44), volume=0.16)
    s.curve(".24,.56 .50,.52 .76,.56 .78,.68 .50,.72 .22,.68", LIGHT, (0.50, 0.34), volume=0.12)
    s.area(".20,.66 .80,.66 .80,.80 .20,.80", BODY, (0.46, 0.34))
    for side in (-1.0, 1.0):
        arm = s.placed(0.5, flip=side)
        arm.curve(".24,.48 .30,.42 .38,.46 .38,.80 .26,.80", BODY, (0.56, 0.38), volume=0.2)


@dataclass(frozen=True)
class Product:
    """A kind of product: how it is drawn, and the words of its titles."""

    category: str
    draw: Callable[[Sketch], None]
    titles: tuple[str, ...]


PRODUCTS = (
    Product("Mugs", _mug, ("Ceramic Coffee Mug, 12 oz", "Stoneware Mug with Handle", "Large Tea Mug")),
    Product("Teapots", _teapot, ("Porcelain Teapot with Lid, 34 oz", "Ceramic Teapot with Infuser")),
    Product("Table Lamps", _lamp, ("Bedside Table Lamp with Fabric Shade", "Ceramic Table Lamp")),
    Product("Throw Pillows", _pillow, ("Square Throw Pillow, 18 x 18", "Cotton Cushion for Sofa & Bed")),
    Product("Vases", _vase, ("Tall Ceramic Flower Vase", "Hand-Glazed Vase for Dried Flowers")),
    Product("Wall Clocks", _clock, ("Silent Wall Clock, 12 Inch", "Round Wall Clock for Kitchen & Office")),
    Product("Water Bottles", _bottle, ("Insulated Water Bottle, 24 oz", "Leakproof Steel Water Bottle")),
    Product("Armchairs", _armchair, ("Upholstered Armchair with Cushion", "Accent Chair for Living Room")),
)


def photograph(product: Product, brand: Brand, rng: np.random.Generator) -> Floats:
    """A product photo: sRGB, `SIZE` pixels square, white background."""
    side = SIZE * OVERSAMPLING
    sketch = Sketch(side, side, light=(0.7, 0.5))
    zoom = float(rng.uniform(0.98, 1.14))
    left, top = (1 - zoom) / 2 + float(rng.uniform(-0.02, 0.02)), (1 - zoom) * 0.55
    flip = float(rng.choice([-1.0, 1.0]))
    view = sketch.placed(left if flip > 0 else 1 - left, top, scale=zoom, flip=flip)
    product.draw(view)
    _print_pattern(sketch, brand.pattern, rng)
    _print_logo(view, brand)
    ramps = Palette.of(brand.colors).jittered(rng, 0.008).ramps(contrast=0.85)
    there = sketch.shape > 0
    color = blurred(flat_color(sketch, ramps), 0.8)
    color = color * (1 + 0.008 * noise(rng, there.shape, 100))[..., None]
    white = np.ones((side, side, 3)) * np.linspace(1.0, 0.965, side)[:, None, None]
    backdrop = mixed(white, np.array([0.25, 0.26, 0.30]), _soft_shadow(there, side))
    photo = mixed(backdrop, color, blurred(there.astype(np.float32), 0.8))
    image = Image.fromarray((np.clip(photo, 0, 1) * 255 + 0.5).astype(np.uint8))
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS), np.float32) / 255


def _print_pattern(sketch: Sketch, pattern: Pattern, rng: np.random.Generator) -> None:
    """Give the pattern's share of the body its second color; the cloth or clay bends it a little."""
    shape = sketch.role.shape
    v, u = np.indices(shape, np.float32) / sketch.height
    bend = noise(rng, shape, 4) * 0.008
    sketch.role[pattern(u + bend, v + bend) & (sketch.role == BODY)] = ACCENT


def _print_logo(view: Sketch, brand: Brand) -> None:
    """A small mark at the foot of the product, the same for all of a brand."""
    mark = view.placed(0.5, 0.70, scale=0.035)
    mark.disc((0, 0), 1.35, LIGHT, 0.55)
    turns = [2 * pi * i / brand.sides for i in range(brand.sides)]
    mark.area([(sin(turn), -cos(turn)) for turn in turns], DARK, 0.45)


def _soft_shadow(there: Mask, side: int) -> Floats:
    """Where the floor is in shadow: a wide soft pool and a narrow dark line under the product."""
    rows, columns = np.nonzero(there)
    foot, center, width = rows.max(), (columns.min() + columns.max()) / 2, np.ptp(columns) / 2
    v, u = np.indices((side, side), np.float32)
    wide = np.exp(-((((u - center - 0.03 * side) / (width * 0.9)) ** 2) ** 1.5) - ((v - foot) / (0.035 * side)) ** 2)
    near = np.exp(-((((u - center) / (width * 0.7)) ** 2) ** 2) - ((v - foot) / (0.012 * side)) ** 2)
    shadow: Floats = 0.34 * wide + 0.38 * near
    return shadow
