"""Other casts than the usual ones, as many as wanted: artists, brands and authors drawn from a seed.

A model trained on pictures by such casts has seen none of the usual forty artists, twelve brands and sixteen authors:
no invented member has the name or the palette of one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from ingest.errors import Graph2ImageError
from ingest.sampledata.artists import ARTISTS, MOVEMENTS, Artist, Movement, influenced, palette_of
from ingest.sampledata.brushes import Brush, Hand, glaze, stained_glass
from ingest.sampledata.covers import LOOKS, Author, Look
from ingest.sampledata.goodreads import AUTHORS
from ingest.sampledata.jackets import FIRST_NAMES, LAST_NAMES
from ingest.sampledata.palettes import Floats, Palette, Role
from ingest.sampledata.products import BRANDS, PATTERNS, Brand
from ingest.sampledata.schemes import BRIGHT, DARK, LIT, MIDDLE, PRODUCT, Mood, draw_palette, is_readable
from ingest.sampledata.surfaces import Frame, Ground

T = TypeVar("T")

#: How far, in OKLab, a palette keeps from each of the usual cast; and, while there is room, from each of its own.
APART_FROM_USUAL, APART = 0.07, 0.06
#: Share of the artists who were influenced by an earlier one of the cast, and of those who were by two.
INFLUENCED, TWICE = 0.55, 0.3

_MOODS: dict[Brush, dict[Mood, float]] = {glaze: {DARK: 0.75, LIT: 0.25}}
_USUAL_MOODS = {BRIGHT: 0.55, MIDDLE: 0.20, LIT: 0.20, DARK: 0.05}
_STRENGTHS_OF: dict[Brush, dict[str, float]] = {
    stained_glass: {"vivid": 0.65, "medium": 0.35},
    glaze: {"medium": 0.4, "muted": 0.2, "earthy": 0.4},
}
_STRENGTHS = {"vivid": 0.42, "medium": 0.28, "muted": 0.09, "gray with a spark": 0.11, "earthy": 0.10}

_GROUNDS, _FRAMES = tuple(Ground), (Frame.BLEED, Frame.MARGIN, Frame.BORDER, Frame.VIGNETTE)

_GIVEN = (
    "Abelard", "Adela", "Aksel", "Albin", "Alma", "Alvaro", "Amara", "Anouk", "Arvid", "Asta", "Aurelio", "Basil",
    "Benedikt", "Birgit", "Bruno", "Carmela", "Casimir", "Celia", "Chidi", "Clara", "Corin", "Cyril", "Damaris",
    "Delia", "Dov", "Edda", "Eino", "Elif", "Elspeth", "Emeka", "Enzo", "Esme", "Fabian", "Feodora", "Flora", "Gaspard",
    "Gerda", "Goran", "Greta", "Hakan", "Hedda", "Hiroko", "Honora", "Ignatius", "Ilse", "Iris", "Isamu", "Ivo", "Jana",
    "Jorge", "Judith", "Kasper", "Kemal", "Klara", "Lars", "Leopold", "Lioba", "Lorenz", "Ludmila", "Maeve", "Malachi",
    "Marisol", "Matilda", "Milos", "Minh", "Naoko", "Nestor", "Nora", "Olga", "Omar", "Orla", "Otto", "Pavel", "Petra",
    "Pilar", "Raul", "Renata", "Rhea", "Rufus", "Sabine", "Selma", "Sibyl", "Stellan", "Sunniva", "Tamsin", "Tarek",
    "Tove", "Ursula", "Valentin", "Vilma", "Wim", "Xenia", "Yann", "Yusuf", "Zelda", "Zora",
)  # fmt: skip
_ONSETS = (
    "b", "br", "d", "dr", "f", "fr", "g", "gr", "h", "j", "k", "kl", "l", "m", "n", "p", "pr", "r", "s", "st", "t",
    "tr", "v", "w", "z", "sch", "th",
)  # fmt: skip
_VOWELS = (
    "a", "e", "i", "o", "u", "a", "e", "o", "ie", "au", "ei",
)  # fmt: skip
_MIDDLES = (
    "l", "r", "n", "m", "s", "t", "d", "v", "b", "g", "k", "nd", "ll", "rr", "st", "lm", "rk", "nt", "ss",
)  # fmt: skip
_ENDINGS = (
    "en", "er", "in", "an", "o", "a", "os", "ek", "ova", "ini", "au", "eth", "ström", "mann", "sen", "ard", "elli",
    "is", "us", "ay", "wick", "feld", "ez", "ic", "ian",
)  # fmt: skip
_NATIONALITIES = (*dict.fromkeys(artist.nationality for artist in ARTISTS), "Austrian", "Brazilian", "Canadian",
                  "Chilean", "Egyptian", "Estonian", "Georgian", "Hungarian", "Indian", "Kenyan", "Korean", "Scottish",
                  "Serbian", "Slovene", "Welsh")  # fmt: skip
_TRADES = ("Atelier", "Collective", "Goods", "Interiors", "Living", "Makers", "Trading", "Wares", "& Daughters", "& Co",
           "Pottery", "Mill")  # fmt: skip

#: All words of the names of the usual casts but those that name nobody.
USUAL_WORDS = {
    word
    for name in (
        *(name for artist in ARTISTS for name in (artist.name, *artist.aliases)),
        *(brand.name for brand in BRANDS),
        *(author.name for author in AUTHORS),
        *FIRST_NAMES,
        *LAST_NAMES,
    )
    for word in name.casefold().replace(",", "").split()
} - {"&"}


def invent_artists(count: int, seed: int) -> tuple[Artist, ...]:
    """Draw `count` artists, equally many in each movement; equal seeds give equal artists.

    They work as the movement's usual artists do, and somewhat beyond; some were influenced by others of them.

    Raises
    ------
    Graph2ImageError
        If `count` is less than one or `seed` less than zero.
    """
    rng = _generator(count, seed, 0xA2)
    names = _people(rng)
    taken = _Taken([palette_of(artist) for artist in ARTISTS])
    cast: list[Artist] = []
    for movement in _rounds(rng, MOVEMENTS, count):
        name = next(names)
        given, family = name.split(" ", 1)
        like = [artist for artist in ARTISTS if artist.movement is movement]
        influences = _influences(rng, movement, cast)
        draw = partial(draw_palette, rng, *_manner(movement.brush))
        cast.append(
            Artist(
                name=name,
                aliases=(f"{family}, {given}", f"{given[0]}. {family}"),
                nationality=str(rng.choice(_NATIONALITIES)),
                movement=movement,
                colors=taken.add(draw, [artist.colors for artist in influences]),
                hand=_hand(rng, [artist.hand for artist in like]),
                ground=_like(rng, [artist.ground for artist in like], _GROUNDS),
                frame=_like(rng, [artist.frame for artist in like], _FRAMES),
                influences=tuple(artist.name for artist in influences),
            )
        )
    return tuple(cast)


def invent_brands(count: int, seed: int) -> tuple[Brand, ...]:
    """Draw `count` brands, equally many with each pattern; equal seeds give equal brands.

    Raises
    ------
    Graph2ImageError
        If `count` is less than one or `seed` less than zero.
    """
    rng = _generator(count, seed, 0xB2)
    names = _distinct(lambda: f"{_word(rng)} {_one(rng, _TRADES)}")
    # Only these two are seen in large.
    taken = _Taken([Palette.of(brand.colors) for brand in BRANDS], (Role.BODY, Role.ACCENT))
    draw = partial(draw_palette, rng, {PRODUCT: 1.0}, _STRENGTHS)
    return tuple(
        Brand(next(names), taken.add(draw), pattern, int(rng.integers(3, 8)))
        for pattern in _rounds(rng, tuple(PATTERNS), count)
    )


def invent_authors(count: int, seed: int) -> tuple[Author, ...]:
    """Draw `count` authors of books, equally many with each brush; equal seeds give equal authors.

    Raises
    ------
    Graph2ImageError
        If `count` is less than one or `seed` less than zero.
    """
    rng = _generator(count, seed, 0xC2)
    names = _people(rng)
    taken = _Taken([Palette.of(look.colors) for look in LOOKS])
    authors = []
    for movement in _rounds(rng, MOVEMENTS, count):
        brush = movement.brush
        hands = [look.hand for look in LOOKS if look.brush is brush]
        hands = hands or [artist.hand for artist in ARTISTS if artist.movement is movement]
        colors = taken.add(partial(draw_palette, rng, *_manner(brush)))
        authors.append(Author(next(names), Look(colors, brush, _hand(rng, hands))))
    return tuple(authors)


class _Taken:
    """The palettes that are taken: those of the usual cast, and of the new one so far."""

    def __init__(self, usual: Sequence[Palette], roles: Sequence[Role] = tuple(Role)[:6]) -> None:
        self._roles = list(roles)
        self._usual = [palette.lab[self._roles] for palette in usual]
        self._new: list[Floats] = []

    def add(self, draw: Callable[[], str], influences: Sequence[str] = ()) -> str:
        """The first palette drawn that keeps apart from the others; `influences` are palettes it leans towards."""
        apart = APART
        while True:
            colors = draw()
            lab = influenced(colors, influences).lab
            seen = lab[self._roles]
            # Influences can bring what stood out closer to what surrounds it.
            if is_readable(lab) and _distance(seen, self._usual) > APART_FROM_USUAL:
                if _distance(seen, self._new) > apart:
                    self._new.append(seen)
                    return colors
                apart *= 0.98  # a large cast needs more room than there is


def _distance(lab: Floats, others: Sequence[Floats]) -> float:
    """Mean distance of the colors to those of the nearest palette."""
    return float(np.linalg.norm(np.stack(others) - lab, axis=-1).mean(-1).min()) if others else np.inf


def _generator(count: int, seed: int, what: int) -> np.random.Generator:
    if count < 1 or seed < 0:
        raise Graph2ImageError(
            f"cannot invent a cast of {count} from seed {seed}", "Ask for one member or more, and seed 0 or more."
        )
    return np.random.default_rng((seed, what))


def _manner(brush: Brush) -> tuple[dict[Mood, float], dict[str, float]]:
    """The moods and strengths of the palettes that suit a brush."""
    return _MOODS.get(brush, _USUAL_MOODS), _STRENGTHS_OF.get(brush, _STRENGTHS)


def _rounds(rng: np.random.Generator, kinds: Sequence[T], count: int) -> Iterator[T]:
    """`count` of the kinds, each of them once per round; those of a longer cast begin with those of a shorter one."""
    for start in range(0, count, len(kinds)):
        for number in rng.permutation(len(kinds))[: count - start]:
            yield kinds[int(number)]


def _influences(rng: np.random.Generator, movement: Movement, cast: Sequence[Artist]) -> list[Artist]:
    """None, one or two earlier artists, the first of the same movement if it has one."""
    if not cast or rng.random() > INFLUENCED:
        return []
    first = _one(rng, [artist for artist in cast if artist.movement is movement] or cast)
    second = _one(rng, cast)
    return [first, second] if second is not first and rng.random() < TWICE else [first]


def _hand(rng: np.random.Generator, like: Sequence[Hand]) -> Hand:
    """One among these hands, or a little beyond them."""
    size = np.log([hand.size for hand in like])
    energy, depth = [hand.energy for hand in like], [hand.depth for hand in like]
    return Hand(
        round(float(np.exp(rng.uniform(size.min() - 0.15, size.max() + 0.15))), 4),
        round(float(rng.uniform(max(0.05, min(energy) - 0.15), min(0.95, max(energy) + 0.15))), 3),
        round(float(rng.uniform(min(depth) - 0.1, max(depth) + 0.1)), 3),
        _one(rng, [hand.ground for hand in like]),
    )


def _like(rng: np.random.Generator, usual: Sequence[T], others: Sequence[T]) -> T:
    return _one(rng, usual if rng.random() < 0.75 else others)


def _one(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _people(rng: np.random.Generator) -> Iterator[str]:
    return _distinct(lambda: f"{_one(rng, _GIVEN)} {_word(rng)}")


def _word(rng: np.random.Generator) -> str:
    """An invented family name."""
    middles = "".join(_one(rng, _VOWELS) + _one(rng, _MIDDLES) for _ in range(int(rng.integers(1, 3))))
    return f"{_one(rng, _ONSETS)}{middles}{_one(rng, _ENDINGS)}".capitalize()


def _distinct(draw: Callable[[], str]) -> Iterator[str]:
    """Names that differ from each other, and share no word with anybody of the usual casts."""
    seen: set[str] = set()
    while True:
        name = draw()
        if name not in seen and not USUAL_WORDS & set(name.casefold().split()):
            seen.add(name)
            yield name
