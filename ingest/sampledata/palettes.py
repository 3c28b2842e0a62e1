"""Colors: OKLab conversion, and palettes of six colors from which a whole image is mixed.

A scene names no colors, only roles (`AIR`, `BODY` …) and tones; a palette turns both into color. Every hue runs
from the palette's own dark to its own light, so that any image painted from it is in harmony. Mixing is done in
OKLab (Ottosson 2020), where it stays vivid and even.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
_LMS_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)
_LAB_TO_LMS = np.linalg.inv(_LMS_TO_LAB).astype(np.float32)
_LMS_TO_RGB = np.linalg.inv(_RGB_TO_LMS).astype(np.float32)


def srgb_to_oklab(rgb: Floats) -> Floats:
    """sRGB in [0, 1], shape (..., 3), to OKLab (L in [0, 1]; a, b about ±0.3)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lab: Floats = (np.cbrt(linear @ _RGB_TO_LMS.T) @ _LMS_TO_LAB.T).astype(np.float32)
    return lab


def oklab_to_srgb(lab: Floats) -> Floats:
    """OKLab, shape (..., 3), to sRGB clipped to [0, 1]."""
    linear = np.clip((lab @ _LAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T, 0, 1)
    rgb: Floats = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)
    return rgb


class Role(IntEnum):
    """What a color is for; also its index in a palette."""

    DARK = 0
    AIR = 1  # sky, water, wall behind a sitter
    EARTH = 2  # ground, table, foliage
    BODY = 3  # what the image is about
    ACCENT = 4  # small and vivid
    LIGHT = 5  # paper, snow, lamp light
    SKIN = 6  # mixed from LIGHT and the warmest color; not a color of its own


@dataclass(frozen=True)
class Palette:
    """Six colors, one per `Role` but SKIN, as OKLab rows: shape (6, 3), float32."""

    lab: Floats

    @staticmethod
    def of(hex_colors: str) -> Palette:
        """Palette from six space-separated `rrggbb` values in the order of `Role`."""
        values = [bytes.fromhex(color) for color in hex_colors.split()]
        return Palette(srgb_to_oklab(np.array([list(v) for v in values], np.float32) / 255))

    def drifted(self, other: Palette, amount: float) -> Palette:
        """This palette moved towards another (0 = this one, 1 = the other)."""
        return Palette(self.lab + (other.lab - self.lab) * np.float32(amount))

    def jittered(self, rng: np.random.Generator, amount: float) -> Palette:
        """As mixed on another day: every color off by a normal error of `amount` in OKLab."""
        return Palette(self.lab + rng.normal(0, amount, self.lab.shape).astype(np.float32))

    def rgb(self, role: Role) -> Floats:
        """sRGB of one color in [0, 1], shape (3,)."""
        return oklab_to_srgb(self.lab[role])

    def ramps(self, contrast: float = 1.0) -> Floats:
        """Color of each role at 256 tones, sRGB in [0, 1], shape (7, 256, 3).

        Tone 0.5 is the color itself; lower tones run to the palette's dark, higher ones to its light.
        """
        tone = np.clip((np.linspace(0, 1, 256, dtype=np.float32) - 0.5) * contrast + 0.5, 0, 1)[None, :, None]
        warmest = self.lab[1:5][np.argmax(self.lab[1:5] @ np.array([0.25, 1.0, 0.6]))]
        skin = self.lab[Role.LIGHT] * 0.66 + warmest * 0.34
        hue = np.vstack([self.lab, skin])[:, None, :]
        dark, light = self.lab[Role.DARK] * np.array([0.7, 1, 1]), self.lab[Role.LIGHT]
        low = dark + (hue - dark) * np.clip(tone * 2 * 0.9 + 0.1, 0, 1)
        high = hue + (light - hue) * np.clip((tone - 0.5) * 2, 0, 1) * 0.9
        return oklab_to_srgb(np.where(tone < 0.5, low, high))
