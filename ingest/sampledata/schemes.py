"""Palettes drawn as a designer would: a scheme of hues, a mood of lightness, a strength of color."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ingest.sampledata.palettes import Floats, Role, oklab_to_srgb, srgb_to_oklab

Range = tuple[float, float]
T = TypeVar("T")

#: Hues of air, earth, body and accent in degrees from the first; which of them gets which is drawn.
SCHEMES = {
    "near-monochrome": (0, 8, -8, 14),
    "analogous": (0, 25, -25, 45),
    "one against its like": (0, 20, -20, 180),
    "complementary": (0, 12, 180, 192),
    "split complementary": (0, 15, 150, 210),
    "triadic": (0, 120, 240, 10),
    "tetradic": (0, 70, 180, 250),
    "warm and cool": (0, 55, 160, 215),
}


@dataclass(frozen=True)
class Mood:
    """Lightness of four roles, in OKLab; dark and light are dark and light in any mood."""

    air: Range
    earth: Range
    body: Range
    accent: Range


BRIGHT = Mood((0.72, 0.92), (0.55, 0.84), (0.44, 0.78), (0.48, 0.93))
MIDDLE = Mood((0.52, 0.78), (0.46, 0.70), (0.42, 0.76), (0.56, 0.88))
LIT = Mood((0.38, 0.62), (0.36, 0.60), (0.64, 0.84), (0.62, 0.92))  # the subject is lighter than what surrounds it
DARK = Mood((0.36, 0.55), (0.30, 0.46), (0.52, 0.70), (0.66, 0.88))
#: On white, in one color and a second.
PRODUCT = Mood((0.80, 0.94), (0.48, 0.78), (0.38, 0.86), (0.34, 0.95))

#: Chroma of air, earth and body, then of the accent, in OKLab.
STRENGTHS: Mapping[str, tuple[Range, Range]] = {
    "vivid": ((0.11, 0.21), (0.14, 0.23)),
    "medium": ((0.06, 0.14), (0.10, 0.19)),
    "muted": ((0.025, 0.075), (0.06, 0.15)),
    "gray with a spark": ((0.004, 0.04), (0.12, 0.21)),
    "earthy": ((0.04, 0.10), (0.07, 0.15)),
}
#: Hues in which small chroma is earth and not mud: from red over ochre to olive.
_EARTH_HUES = (25.0, 120.0)
#: Most papers are warm.
_PAPER_HUES = (60.0, 110.0)
_FOUR = (Role.AIR, Role.EARTH, Role.BODY, Role.ACCENT)


def draw_palette(rng: np.random.Generator, moods: Mapping[Mood, float], strengths: Mapping[str, float]) -> str:
    """Draw a palette: six hex values in the order of `Role`.

    Parameters
    ----------
    moods, strengths
        Those that may occur, and how often compared to each other.
    """
    while True:
        mood, strength = _one_of(rng, moods), _one_of(rng, strengths)
        common, accent = STRENGTHS[strength]
        if strength == "earthy":
            hues = rng.uniform(*_EARTH_HUES, 4)
        else:
            angles = SCHEMES[str(rng.choice(list(SCHEMES)))]
            hues = rng.uniform(0, 360) + rng.permutation(angles) + rng.normal(0, 6, 4)
        lightness = [rng.uniform(*span) for span in (mood.air, mood.earth, mood.body, mood.accent)]
        chroma = [*rng.uniform(*common, 3), rng.uniform(*accent)]
        lab = np.empty((6, 3), np.float32)
        lab[list(_FOUR)] = [_in_gamut(*color) for color in zip(lightness, chroma, hues, strict=True)]
        dark_hue = hues[int(rng.integers(4))] + rng.normal(0, 20)
        lab[Role.DARK] = _in_gamut(
            rng.uniform(0.15, min(0.40, lab[1:5, 0].min() - 0.10)), rng.gamma(2, 0.025), dark_hue
        )
        paper_hue = rng.uniform(*_PAPER_HUES) if rng.random() < 0.75 else hues[int(rng.integers(4))]
        lab[Role.LIGHT] = _in_gamut(rng.uniform(0.92, 0.995), 0.075 * rng.random() ** 1.4, paper_hue)
        if rng.random() < _taste(lab) and is_readable(lab):
            rgb = np.round(oklab_to_srgb(lab) * 255).astype(np.uint8)
            return " ".join(bytes(color).hex() for color in rgb)


def _one_of(rng: np.random.Generator, weights: Mapping[T, float]) -> T:
    shares = np.array(list(weights.values()))
    return list(weights)[int(rng.choice(len(weights), p=shares / shares.sum()))]


def _in_gamut(lightness: float, chroma: float, hue: float) -> Floats:
    """The color in OKLab, with as much of the chroma as a screen can show."""
    angle = np.deg2rad(hue)
    for share in np.linspace(1, 0, 26):
        lab = np.array([lightness, chroma * share * np.cos(angle), chroma * share * np.sin(angle)], np.float32)
        if np.abs(srgb_to_oklab(oklab_to_srgb(lab)) - lab).max() < 0.004:
            break
    return lab


def _taste(lab: Floats) -> float:
    """How readily a designer takes such colors: less so without a warm one, or with a dull yellow."""
    four = lab[list(_FOUR)]
    hues, chroma = np.rad2deg(np.arctan2(four[:, 2], four[:, 1])) % 360, np.hypot(four[:, 1], four[:, 2])
    warm = ((hues > 15) & (hues < 105) & (chroma > 0.05)).any()
    dull = ((hues > 85) & (hues < 125) & (chroma > 0.05) & (four[:, 0] < 0.62)).any()
    return float(1.0 if warm else 0.45) * float(0.4 if dull else 1.0)


def is_readable(lab: Floats) -> bool:
    """Whether the subject stands out from what surrounds it, and light from dark."""
    _, air, earth, body, accent, light = lab
    return bool(
        np.linalg.norm(body - air) > 0.13
        and np.linalg.norm(body - earth) > 0.10
        and np.linalg.norm(body - accent) > 0.11
        and np.linalg.norm(air - earth) > 0.05
        # Hues alone do not carry a drawing.
        and max(abs(body[0] - air[0]), abs(body[0] - earth[0])) > 0.08
        and light[0] > lab[:5, 0].max()
    )
