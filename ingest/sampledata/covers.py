"""Book covers: a scene in the author's colors and technique, in the layout of its series."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ingest.sampledata import brushes
from ingest.sampledata.brushes import Brush, Hand
from ingest.sampledata.marks import mixed
from ingest.sampledata.palettes import Floats, Palette, Role
from ingest.sampledata.scenes import HOURS, SUBJECTS, Subject
from ingest.sampledata.sketch import Sketch
from ingest.sampledata.surfaces import Ground, textured

#: Width and height of a cover in pixels, and how much larger it is painted.
WIDTH, HEIGHT, OVERSAMPLING = 112, 148, 2


@dataclass(frozen=True)
class Layout:
    """Where things stand on a cover; all but colors are shares of its width or height.

    Attributes
    ----------
    image
        Left, top, right and bottom of the illustration.
    paper, letters
        The colors around the illustration, and of the title.
    title, room
        Middle of the title, and height for it.
    author
        Middle of the author's name.
    rules
        Tops of thin lines in the accent color.
    """

    motif: tuple[float, float, float, float]
    paper: Role
    letters: Role
    title: float
    room: float
    author: float
    rules: tuple[float, ...] = ()


DARK, LIGHT = Role.DARK, Role.LIGHT
LAYOUTS = {
    "band": Layout((0, 0, 1, 1), DARK, LIGHT, title=0.72, room=0.15, author=0.93, rules=(0.615, 0.816)),
    "block": Layout((0, 0.36, 1, 1), DARK, LIGHT, title=0.205, room=0.23, author=0.93, rules=(0.35,)),
    "window": Layout((0.10, 0.10, 0.90, 0.66), DARK, LIGHT, title=0.78, room=0.18, author=0.94),
    "plate": Layout((0, 0, 1, 0.70), LIGHT, DARK, title=0.81, room=0.14, author=0.94, rules=(0.695,)),
    "poster": Layout((0, 0, 1, 1), DARK, LIGHT, title=0.20, room=0.23, author=0.93),
}


@dataclass(frozen=True)
class Look:
    """How an author's covers are made."""

    colors: str
    brush: Brush
    hand: Hand


@dataclass(frozen=True)
class Author:
    """A writer of books."""

    name: str
    look: Look


@dataclass(frozen=True)
class Cover:
    """One cover: what it shows and what it says. `edition` 0 is the first; later ones are set again."""

    subject: str
    look: Look
    layout: str
    title: str
    author: str
    number: str
    edition: int


LOOKS = tuple(
    Look(colors, brush, hand)
    for colors, brush, hand in (
        ("142850 4f86c6 2f5d50 f2b134 ed553b fdf6e3", brushes.cut_paper, Hand(0.022, 0.3, 0.9)),
        ("2d132c ee9b8d 801336 c72c41 f8d49b fff3e4", brushes.cut_paper, Hand(0.030, 0.7, 1.0)),
        ("0b3c49 9fd8cb 517664 e1bc29 e15554 fbfbf2", brushes.woodcut, Hand(0.034, 0.4, 0.9)),
        ("1b1b1e d8c99b a1683a 8c2f39 3f5e5a f6efdc", brushes.woodcut, Hand(0.042, 0.7, 1.0)),
        ("2e294e b8b8ff 5a6fa8 9467c9 ffd803 f8f7ff", brushes.watercolor, Hand(0.014, 0.4, 0.9)),
        ("3d405b cfe8e0 81b29a e07a5f f2cc8f fdfaf3", brushes.watercolor, Hand(0.018, 0.6, 1.0)),
        ("10002b 5a2ca0 240046 e0479e ff9e00 f7e9ff", brushes.facets, Hand(0.050, 0.7, 1.1)),
        ("1d2d44 a8b7cc 748cab 3e5c76 d95d39 f7f3e8", brushes.facets, Hand(0.070, 0.4, 0.9)),
        ("031926 2a9d8f 264653 e9c46a f4a261 fff8e7", brushes.glaze, Hand(0.012, 0.4, 0.7)),
        ("200a0a 8f2d2d 4a1c1c d98c3f f2d096 fbeed6", brushes.glaze, Hand(0.014, 0.5, 0.8)),
        ("22333b eae0d5 c6ac8f 5e503f b23a48 fffdf8", brushes.hatching, Hand(0.022, 0.4, 1.0)),
        ("1a3a1f b7d7a8 6a994e 386641 f2a65a f6fbe8", brushes.hatching, Hand(0.020, 0.5, 0.9)),
        ("03045e 48a9e6 0077b6 f5f5f0 ff595e ffffff", brushes.impasto, Hand(0.026, 0.6, 1.0)),
        ("33261d f3b05a b5651d 6b3e26 2a7f8f fff1d6", brushes.impasto, Hand(0.030, 0.4, 1.0)),
        ("190b28 e55381 685762 9bc53d fde74c fff7fb", brushes.dots, Hand(0.034, 0.2, 0.8)),
        ("0d2c54 7fb800 00796b ffb400 f6511d fbfff1", brushes.dots, Hand(0.040, 0.4, 0.9)),
    )
)

_SUBJECTS: dict[str, Subject] = {subject.key: subject for subject in SUBJECTS}


def print_cover(cover: Cover, rng: np.random.Generator) -> Floats:
    """A cover: sRGB, shape (`HEIGHT`, `WIDTH`, 3)."""
    width, height = WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING
    ramps = Palette.of(cover.look.colors).jittered(rng, 0.008 + 0.03 * min(cover.edition, 1)).ramps()
    layout = LAYOUTS[cover.layout]
    left, top, right, bottom = (
        round(edge * side) for edge, side in zip(layout.motif, (width, height, width, height), strict=True)
    )
    page: Floats = np.ones((height, width, 3)) * ramps[layout.paper, 128]
    page[top:bottom, left:right] = _illustration(cover, ramps, (bottom - top, right - left), rng)
    page = _typeset(np.clip(page, 0, 1), cover, ramps)
    page = textured(page, Ground.PLAIN, rng)
    page[:, : width // 40] *= 0.86  # the hinge beside the spine
    image = Image.fromarray((np.clip(page, 0, 1) * 255 + 0.5).astype(np.uint8))
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS), np.float32) / 255


def _illustration(cover: Cover, ramps: Floats, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """The scene, painted square and as large as the box is long, so that it is cropped and never squeezed."""
    side = ceil(max(shape) / 2) * 2
    sketch = Sketch(side, side, light=(0.7, 0.6))
    subject = _SUBJECTS[cover.subject]
    variant, hour = int(rng.integers(len(subject.titles))), HOURS[int(rng.integers(len(HOURS)))]
    subject.draw(sketch, rng, hour, variant)
    scene = cover.look.brush(sketch, ramps, cover.look.hand, rng)
    left = (side - shape[1]) // 2
    return scene[: shape[0], left : left + shape[1]]


def _typeset(page: Floats, cover: Cover, ramps: Floats) -> Floats:
    """Title, author and the number in the series, where the layout wants them."""
    layout = LAYOUTS[cover.layout]
    h, w = page.shape[:2]
    # Letters on an image need a quiet ground.
    row = np.arange(h) / h
    shade = np.where((row > 0.87) & (layout.motif[3] == 1), 0.72, 0.0)
    if cover.layout == "band":
        shade[(row > 0.61) & (row < 0.83)] = 1.0
    elif cover.layout == "poster":
        shade += np.clip(0.95 - row * 2, 0, 0.75)
    page = mixed(page, ramps[Role.DARK, 100], np.repeat(np.clip(shade, 0, 1)[:, None], w, 1))
    for rule in layout.rules:
        page[round(rule * h) : round(rule * h) + 4] = ramps[Role.ACCENT, 128]
    letters = ramps[layout.letters, 128]
    page = _lettered(page, cover.title.upper(), round(layout.title * h), round(layout.room * h), letters)
    page = _lettered(page, cover.author, round(layout.author * h), round(0.055 * h), letters)
    if cover.number:
        page = _lettered(page, f"BOOK {cover.number}", round(0.035 * h), round(0.05 * h), ramps[Role.LIGHT, 128])
    return page


def _lettered(page: Floats, text: str, middle: int, room: int, color: Floats) -> Floats:
    """Text centered around row `middle`, in the largest type that fits into `room` rows and the page's width."""
    h, w = page.shape[:2]
    # The type that comes with Pillow has no accented letters.
    text = unicodedata.normalize("NFKD", text.replace("ı", "i")).encode("ascii", "ignore").decode()
    mask = Image.new("L", (w, h))
    draw = ImageDraw.Draw(mask)
    for size in range(room, 7, -1):
        font = ImageFont.load_default(size)
        wrapped = _wrapped(text, font, 0.86 * w)
        left, top, right, bottom = draw.multiline_textbbox((0, 0), wrapped, font, spacing=size * 0.1)
        if bottom - top <= room and right - left <= 0.90 * w:
            break
    at = (w / 2 - (left + right) / 2, middle - (top + bottom) / 2)
    draw.multiline_text(at, wrapped, 255, font, spacing=size * 0.1, align="center")
    return mixed(page, color, np.asarray(mask, np.float32) / 255)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
