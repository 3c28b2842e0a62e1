"""How far apart the colors of two images are."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

#: Directions in CIELAB of the sliced palette distance.
DIRECTIONS = 32

Floats: TypeAlias = npt.NDArray[np.float64]
#: uint8 sRGB.
Pixels: TypeAlias = npt.NDArray[np.uint8]


def palette_distance(first: Pixels, second: Pixels) -> float:
    """How far apart the colors of two images are, wherever in the image they lie: ΔE*ab (CIE 1976).

    The sliced 1-Wasserstein distance of the two sets of pixels in CIELAB (Bonneel et al. 2015), over fixed directions,
    scaled so that a shift of every pixel by ΔE counts ΔE: a unit vector's component in a random direction of space is
    1/2 on average. Images are `(height, width, 3)` uint8 sRGB with equal numbers of pixels.
    """
    return sliced_distance(palette(first), palette(second))


def palette(pixels: Pixels) -> Floats:
    """Sorted projections of the pixels on the directions, `(n, DIRECTIONS)`, as `sliced_distance` takes them."""
    return np.sort(to_lab(pixels.reshape(-1, 3)) @ _directions().T, axis=0)


def sliced_distance(first: Floats, second: Floats) -> float:
    """`palette_distance` of two images, from their `palette`."""
    return float(2 * np.abs(first - second).mean())


def _directions() -> Floats:
    """Unit vectors, evenly spread over the half sphere (a Fibonacci lattice)."""
    index = np.arange(DIRECTIONS) + 0.5
    height = 1 - index / DIRECTIONS
    angle = np.pi * (1 + 5**0.5) * index
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


def to_lab(rgb: npt.NDArray[np.uint8]) -> Floats:
    """CIELAB (D65) of `(n, 3)` sRGB bytes."""
    value = rgb / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    cube = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = cube.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
