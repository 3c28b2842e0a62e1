"""Titles that also say how a thing looks: technique, colors, pattern or layout, and whose it is.

Without these words only the graph knows. A model that is to understand words of style needs titles that hold them.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from ingest.sampledata import brushes
from ingest.sampledata.artists import Artist
from ingest.sampledata.brushes import Brush
from ingest.sampledata.covers import Look
from ingest.sampledata.palettes import Floats, Palette, Role
from ingest.sampledata.products import PATTERNS, Brand

#: No title with words of style is longer, unless it was without them.
MOST_WORDS = 20

TECHNIQUES: dict[Brush, tuple[str, ...]] = {
    brushes.dots: ("pointillism", "pointillist dots", "painted in dots"),
    brushes.cut_paper: ("cut paper", "paper cut-out", "paper collage"),
    brushes.impasto: ("impasto", "thick impasto", "expressionist brushstrokes"),
    brushes.watercolor: ("watercolor", "watercolor wash", "watercolor on paper"),
    brushes.facets: ("cubism", "cubist", "cubist facets"),
    brushes.stained_glass: ("stained glass", "stained glass window", "glass and lead"),
    brushes.mosaic: ("mosaic", "mosaic of small tiles", "tesserae"),
    brushes.woodcut: ("woodcut", "woodcut print", "block print"),
    brushes.hatching: ("pen and ink", "cross-hatching", "ink drawing"),
    brushes.glaze: ("chiaroscuro", "tenebrism", "dark glazed oil"),
}
LAYOUTS = {
    "band": ("title on a band", "full-page image with a band"),
    "block": ("title above the image", "title block on top"),
    "window": ("image in a window", "framed image"),
    "plate": ("title below the image", "pale paper below the image"),
    "poster": ("poster layout", "full-page image"),
}
_SUPPORTS = ("canvas", "paper", "panel")

_SHADES = {
    "red": "c0242b d8352f e8483c", "dark red": "7a1f2a 5a1620", "salmon": "ee8a72", "orange": "f08a2c e5701f",
    "ochre": "c8922f b07a2a", "yellow": "f6d433 ffe36a e8c53a", "olive": "7d7c2e a3a04a",
    "green": "2f8f4a 5cae5a 4c7f4a", "light green": "a9d89a c9e4b0", "dark green": "1f4a2c 24392b",
    "teal": "1c8a86 2a6b6c", "turquoise": "5fd0c4 8fe0d4", "light blue": "a6cbee 8fc0e0 c4dcec",
    "blue": "2b62c8 3f7fc0 5a78b0", "dark blue": "1a2a5e 203a5c", "violet": "7a45b8 5a2f80 9468c8",
    "lilac": "c2a6e2 a9a0d8", "pink": "f2a3ba f4c6d0 e47aa0", "magenta": "d23a8c b02a78",
    "brown": "7b4b2a 5a3a22 96704c", "beige": "d9c4a2 c4ac88", "gray": "8b8d8c 6a6d70", "dark gray": "45474b",
    "light gray": "c6c9cb", "black": "141416 221f20", "white": "ffffff f5f7f8", "cream": "f9f0d6 f3e6c8",
}  # fmt: skip
_NAMES = [name for name, shades in _SHADES.items() for _ in shades.split()]
_ANCHORS = Palette.of(" ".join(_SHADES.values())).lab


def color_name(lab: Floats) -> str:
    """What most people would call a color given in OKLab, shape (3,)."""
    # A difference of hue changes the name sooner than one of lightness.
    return _NAMES[int((((_ANCHORS - lab) * (0.8, 1.3, 1.3)) ** 2).sum(1).argmin())]


def artwork_with_style(draw: Random, title: str, artist: Artist, palette: Palette) -> str:
    """The title of an artwork with words for its technique or style, two main colors, or both; and by whom it is."""
    movement = artist.movement
    ways = [*TECHNIQUES[movement.brush], movement.style.lower(), movement.name.lower()]
    support = next((medium for medium in movement.media if medium in _SUPPORTS), None)
    if support:
        ways.append(f"{movement.media[0]} on {support}")
    colors = _color_names(palette, draw.sample((Role.AIR, Role.EARTH, Role.BODY, Role.ACCENT), 4))
    return _arranged(draw, title, [draw.choice(ways)], colors, artist.name)


def product_with_style(draw: Random, title: str, brand: Brand) -> str:
    """The title of a product with its colors and its pattern, and by whom it is."""
    pattern = PATTERNS[brand.pattern]
    palette = Palette.of(brand.colors)
    colors = " and ".join(_color_names(palette, (Role.BODY,) if pattern == "plain" else (Role.BODY, Role.ACCENT)))
    way = draw.random()
    if way < 0.4:
        told = f"{_capitalized(f'{colors} {pattern}')} {title}"
    elif way < 0.6:
        told = f"{title}, {pattern} in {colors}"
    elif way < 0.8:
        told = f"{title}, {colors}"
    else:
        told = f"{_capitalized(colors)} {title}, {pattern}"
    return f"{told}, by {brand.name}" if draw.random() < 0.5 else told


def book_with_style(draw: Random, title: str, author: str, look: Look, layout: str) -> str:
    """The title of a book with the cover's technique, two main colors, or both; its layout; and by whom it is."""
    technique = draw.choice(TECHNIQUES[look.brush])
    ways = [draw.choice((technique, f"{technique} cover"))]
    if draw.random() < 0.3:
        ways.append(draw.choice(LAYOUTS[layout]))
    colors = _color_names(Palette.of(look.colors), draw.sample((Role.AIR, Role.EARTH, Role.BODY, Role.ACCENT), 4))
    return _arranged(draw, title, ways, colors, author)


def _capitalized(words: str) -> str:
    return words.title().replace(" And ", " and ")


def _color_names(palette: Palette, roles: Sequence[Role]) -> list[str]:
    """Names of the first two of the palette's colors that have different ones."""
    return list(dict.fromkeys(color_name(palette.lab[role]) for role in roles))[:2]


def _arranged(draw: Random, title: str, ways: list[str], colors: list[str], name: str) -> str:
    """Title, ways or colors or both, and in half of the cases the name, in one of the orders in which people say it."""
    draw.shuffle(colors)
    in_colors = draw.choice(("in {}", "{}")).format(" and ".join(colors))
    told = draw.random()
    parts = [in_colors] if told < 0.2 else ways if told < 0.4 else [*ways, in_colors]
    by_name = [f"by {name}"] if draw.random() < 0.5 else []
    parts = [title, *parts] if draw.random() < 0.6 else [parts[0], title, *parts[1:]]
    # What is said last is what a long title goes without.
    for part in reversed([part for part in parts if part != title]):
        if sum(len(said.split()) for said in parts + by_name) > MOST_WORDS:
            parts.remove(part)
    text = ", ".join(parts + by_name)
    return text[0].upper() + text[1:]
