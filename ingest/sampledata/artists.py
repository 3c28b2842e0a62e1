"""Forty invented artists in ten movements: who they are, and how they paint.

A movement shares a brush; what tells its artists apart is palette, hand, surface and framing. An artist's palette leans
towards the palettes of those who influenced them, so a path in the graph is a likeness to the eye.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingest.errors import Graph2ImageError
from ingest.sampledata import brushes
from ingest.sampledata.brushes import Brush, Hand
from ingest.sampledata.palettes import Palette, Role
from ingest.sampledata.surfaces import Frame, Ground

#: How far a palette leans towards the palette of each influence.
INFLUENCE = 0.15


@dataclass(frozen=True)
class Movement:
    """Artists who share a way of painting; the words fill columns of the label file."""

    name: str
    style: str
    school: str
    field: str
    media: tuple[str, ...]
    period: str
    brush: Brush


@dataclass(frozen=True)
class Artist:
    """One artist.

    Attributes
    ----------
    aliases
        Other spellings of the name found in catalogs.
    colors
        Own palette in hex, in the order of `Role`, before any influence.
    influences
        Names of other artists of the same cast.
    """

    name: str
    aliases: tuple[str, ...]
    nationality: str
    movement: Movement
    colors: str
    hand: Hand
    ground: Ground
    frame: Frame
    influences: tuple[str, ...] = ()


POINTILLISM = Movement(
    "Neo-Impressionism",
    "Pointillism",
    "School of the Lagoon",
    "painting",
    ("oil", "canvas"),
    "Early period",
    brushes.dots,
)
CUT_OUT = Movement(
    "New Simplicity", "Cut-Outs", "Paper Workshop", "collage", ("gouache", "paper"), "Late period", brushes.cut_paper
)
EXPRESSIONISM = Movement(
    "Northern Expressionism",
    "Expressionism",
    "Cliff Colony",
    "painting",
    ("oil", "canvas", "impasto"),
    "Middle period",
    brushes.impasto,
)
WASH = Movement(
    "Plein Air",
    "Watercolor Wash",
    "Meadow School",
    "drawing",
    ("watercolor", "paper"),
    "Early period",
    brushes.watercolor,
)
CUBISM = Movement(
    "Crystal Group", "Cubism", "Crystal Group", "painting", ("oil", "panel"), "Middle period", brushes.facets
)
GLASS = Movement(
    "Arts and Crafts",
    "Stained Glass",
    "Cathedral Workshop",
    "stained glass",
    ("glass", "lead"),
    "Late period",
    brushes.stained_glass,
)
MOSAIC = Movement(
    "Byzantine Revival", "Mosaic", "School of the Lagoon", "mosaic", ("tesserae", "gold"), "Late period", brushes.mosaic
)
WOODCUT = Movement(
    "Floating Print", "Woodcut", "Print Guild", "print", ("woodcut", "paper"), "Early period", brushes.woodcut
)
ETCHING = Movement(
    "Pen and Wash Society",
    "Hatching",
    "Print Guild",
    "drawing",
    ("ink", "wash", "paper"),
    "Middle period",
    brushes.hatching,
)
LUMINISM = Movement(
    "Luminism", "Tenebrism", "Lantern Street School", "painting", ("oil", "panel"), "Early period", brushes.glaze
)

D, E = Role.DARK, Role.EARTH

# Colors in the order dark, air, earth, body, accent, light.
# fmt: off
ARTISTS = (
    Artist("Odile Marchetti", ("Marchetti, Odile", "O. Marchetti"), "Italian", POINTILLISM,
           "27305f 79b8e0 86b35f f09a62 e4472e fff4d8", Hand(0.034, 0.2, 0.9), Ground.CANVAS, Frame.BLEED),
    Artist("Teodor Vancea", ("Teodor Vancea (Theodor Wantscha)",), "Romanian", POINTILLISM,
           "3a1f63 b79fe6 5f9c86 d1569a f7c844 fcf0fa", Hand(0.042, 0.5, 1.1), Ground.CANVAS, Frame.BORDER,
           ("Odile Marchetti",)),
    Artist("Inês Cardoso Leal", ("Ines Cardoso Leal", "I. Cardoso Leal"), "Portuguese", POINTILLISM,
           "0d4b4f 8fe0c9 e6c25a f08a3a c23f4b fffbe4", Hand(0.038, 0.1, 0.7), Ground.PLAIN, Frame.MARGIN,
           ("Odile Marchetti", "Calliope Drakou")),
    Artist("Mathis Overbeek", ("Overbeek, Mathis",), "Dutch", POINTILLISM,
           "4b1f3d f2a39c a3577f 5a6ec0 ffd35c fff0e4", Hand(0.046, 0.8, 1.0, E), Ground.CANVAS, Frame.BLEED),
    Artist("Amadou Keïta-Roux", ("Amadou Keita-Roux", "A. Keïta-Roux"), "French", CUT_OUT,
           "0d1c63 2a66e0 f6d02f f4553f 16a37c fdf9ee", Hand(0.026, 0.6, 1.0), Ground.PAPER, Frame.BLEED),
    Artist("Signe Halvorsrud", ("Halvorsrud, Signe",), "Norwegian", CUT_OUT,
           "25211f f6d6c1 3c8a68 e4668f f0ae2c fffaf0", Hand(0.020, 0.3, 0.8), Ground.PAPER, Frame.MARGIN,
           ("Amadou Keïta-Roux",)),
    Artist("Paloma Iriarte", ("P. Iriarte",), "Spanish", CUT_OUT,
           "5c2412 fbd935 ef7d3c 7a2f8f 0fa3a8 fffbea", Hand(0.032, 0.9, 1.1), Ground.PLAIN, Frame.BLEED,
           ("Amadou Keïta-Roux", "Ruy Tavira")),
    Artist("Kaarina Lehto-Salo", ("Kaarina Lehto Salo",), "Finnish", CUT_OUT,
           "1c2b2d cfe3dc 7f9f8a 2f5d73 e76f51 fbfaf4", Hand(0.016, 0.15, 0.7), Ground.PAPER, Frame.BORDER),
    Artist("Ludvik Černohor", ("Ludvik Cernohor", "L. Černohor"), "Czech", EXPRESSIONISM,
           "101a4a 2f55b0 2a8c7e f2b632 f7e06a fdf6d0", Hand(0.026, 0.8, 1.1, D), Ground.CANVAS, Frame.BLEED),
    Artist("Berit Tangen", ("Tangen, Berit",), "Norwegian", EXPRESSIONISM,
           "3b0f1e e2582f 8c2f39 264e70 f6b93b fff0d0", Hand(0.030, 0.6, 1.0, D), Ground.CANVAS, Frame.BLEED,
           ("Ludvik Černohor",)),
    Artist("Joaquim Ferrer Soler", ("J. Ferrer Soler", "Joaquín Ferrer Soler"), "Spanish", EXPRESSIONISM,
           "2b2a12 b9b53a 6f7d2c d4572a 2e7f9e fbf3c6", Hand(0.024, 0.35, 1.1), Ground.CANVAS, Frame.BORDER,
           ("Berit Tangen",)),
    Artist("Wanda Strzelecka", ("Wanda Strzelecka (Wanda Strelecka)",), "Polish", EXPRESSIONISM,
           "16302b 2f9e7a 6b4c8a f0806a f9d9a0 f7f4e8", Hand(0.032, 0.8, 1.2), Ground.CANVAS, Frame.VIGNETTE),
    Artist("Eleanor Whitcombe", ("E. Whitcombe", "Whitcombe, Eleanor"), "English", WASH,
           "3c4a63 a9c4d8 a8b58a c98f7a d9a441 fdfbf4", Hand(0.014, 0.4, 0.8), Ground.PAPER, Frame.BLEED),
    Artist("Haruka Mizuno", ("Mizuno Haruka",), "Japanese", WASH,
           "2c2f4f f5c9cf 8fae94 6f7fb5 e0526a fffaf6", Hand(0.016, 0.5, 1.0), Ground.PAPER, Frame.BLEED,
           ("Sōan Kitamura",)),
    Artist("Lucien Daubray", ("L. Daubray",), "French", WASH,
           "4a3b1e f3dc8c b7b04a 6f9a8d d2692f fffbea", Hand(0.012, 0.2, 0.7), Ground.PAPER, Frame.BLEED,
           ("Eleanor Whitcombe",)),
    Artist("Nadia Benhaddou", ("Nadia Ben Haddou",), "Moroccan", WASH,
           "123a4a 6fc7c4 d9a86c 2f7f9e ee7752 fffaf0", Hand(0.018, 0.6, 1.1), Ground.PAPER, Frame.BLEED,
           ("Eleanor Whitcombe",)),
    Artist("Ruy Tavira", ("R. Tavira", "Rui Tavira"), "Portuguese", CUBISM,
           "2d2418 b5a68a 8a6f4a 5f6e6a d08a3c f4ead2", Hand(0.060, 0.5, 1.0), Ground.CANVAS, Frame.BLEED),
    Artist("Irena Kovalchuk", ("Kovalchuk, Irena", "Irena Kowaltschuk"), "Ukrainian", CUBISM,
           "14233f 8db7e8 3f7fb0 f2d14a e5533d f6f6ee", Hand(0.040, 0.8, 1.2), Ground.CANVAS, Frame.BLEED,
           ("Ruy Tavira",)),
    Artist("Giles Aramburu", ("G. Aramburu",), "Argentine", CUBISM,
           "22313a a5c8b4 5f8f7d b84a62 f0b7a4 f5f3e7", Hand(0.075, 0.4, 0.9), Ground.PANEL, Frame.BORDER,
           ("Ruy Tavira",)),
    Artist("Dagny Eklöf", ("Dagny Eklof",), "Swedish", CUBISM,
           "33104a c77dd6 e0559c f58f29 2bb5c9 fdf0fb", Hand(0.032, 0.9, 1.2), Ground.CANVAS, Frame.BLEED,
           ("Irena Kovalchuk",)),
    Artist("Brother Anselm Roth", ("Anselm Roth", "Br. Anselm Roth"), "German", GLASS,
           "0c0d24 1f4fc0 1a8f58 d02438 f6bf2a fff3c4", Hand(0.120, 0.5, 0.9), Ground.PLAIN, Frame.BLEED),
    Artist("Clemency Byrne", ("Byrne, Clemency",), "Irish", GLASS,
           "0f1d16 48b27c 2a6b4a f0a92e c9364f f7f6cf", Hand(0.095, 0.8, 0.8), Ground.PLAIN, Frame.ARCH,
           ("Brother Anselm Roth",)),
    Artist("Edgar Villanueva", ("E. Villanueva",), "Mexican", GLASS,
           "1f0b2e 8a3fc4 d63f8c 21b6c4 ffd23a fbe9ff", Hand(0.140, 0.3, 1.1), Ground.PLAIN, Frame.BLEED),
    Artist("Mirela Todorova", ("Todorova, Mirela",), "Bulgarian", GLASS,
           "2a0f0a f08a2c b8371f 7a1f3d 3fa7d6 fff0c0", Hand(0.105, 0.6, 1.0), Ground.PLAIN, Frame.ARCH,
           ("Brother Anselm Roth",)),
    Artist("Calliope Drakou", ("C. Drakou", "Kalliope Drakou"), "Greek", MOSAIC,
           "1d2546 3f8fc2 c9a24a a8402f f3e2b0 fbf6e4", Hand(0.040, 0.8, 1.0), Ground.PLAIN, Frame.BLEED),
    Artist("Ruggero Balbi", ("Balbi, Ruggero",), "Italian", MOSAIC,
           "2c1c0e d9a62e 8f5a24 1f6f6b c8402c fff2c2", Hand(0.044, 0.1, 1.1, D), Ground.PLAIN, Frame.BLEED,
           ("Calliope Drakou",)),
    Artist("Leyla Sarıkaya", ("Leyla Sarikaya",), "Turkish", MOSAIC,
           "0b2f3a 35c0b4 e9e2c8 1c55a5 e5673a f6fbf4", Hand(0.034, 0.4, 0.8), Ground.PLAIN, Frame.BORDER,
           ("Calliope Drakou",)),
    Artist("Tomaso Quercia", ("T. Quercia",), "Italian", MOSAIC,
           "33161f e3b0b4 a4907a 7a3054 e9b94a faf0e6", Hand(0.050, 0.9, 1.0, E), Ground.PLAIN, Frame.BLEED,
           ("Ruggero Balbi",)),
    Artist("Sōan Kitamura", ("Soan Kitamura", "Kitamura Sōan"), "Japanese", WOODCUT,
           "16294d b8d0d6 7c9a7e 2f5f9c d9482f f6ecd4", Hand(0.030, 0.3, 1.0), Ground.PAPER, Frame.MARGIN),
    Artist("Gudrun Asmus", ("Asmus, Gudrun",), "German", WOODCUT,
           "17120f ded3bd 9a8f7c b5342a 5f5a52 f4eddc", Hand(0.042, 0.8, 1.0), Ground.PAPER, Frame.MARGIN),
    Artist("Cosmo Feverly", ("C. Feverly",), "English", WOODCUT,
           "23302a c7d68a 5f8a4a e08f3c 3f6f8a f7f4d8", Hand(0.036, 0.5, 1.0), Ground.PAPER, Frame.BORDER,
           ("Sōan Kitamura",)),
    Artist("Thuy Lan Pham", ("Pham Thuy Lan", "Thúy Lan Phạm"), "Vietnamese", WOODCUT,
           "3a1030 f2a65a c24a3f 5b2a6e f7d44c fdf0d8", Hand(0.034, 0.4, 0.9), Ground.PAPER, Frame.BLEED,
           ("Sōan Kitamura",)),
    Artist("Aurel Zimmerli", ("A. Zimmerli",), "Swiss", ETCHING,
           "3b2415 d8c3a0 b89a6a a06f48 8a4a2c f7eeda", Hand(0.019, 0.3, 1.0), Ground.PAPER, Frame.MARGIN),
    Artist("Philippa Stroud", ("Stroud, Philippa",), "English", ETCHING,
           "22262e c4ccd6 a3acb2 7f8c9c c96a5a f6f7f8", Hand(0.016, 0.5, 0.9), Ground.PAPER, Frame.BLEED,
           ("Aurel Zimmerli",)),
    Artist("Bartholomew Nkosi", ("B. Nkosi",), "South African", ETCHING,
           "1f3a2c b6d9b0 7fae6f e0a04a d96a3f f3f8e6", Hand(0.022, 0.7, 1.0), Ground.PAPER, Frame.BLEED),
    Artist("Violaine Perrault-Gy", ("Violaine Perrault Gy",), "French", ETCHING,
           "33265e cdb6ee 9fa0d8 f09ab0 f4c95d fbf7ff", Hand(0.018, 0.4, 0.9), Ground.PAPER, Frame.BORDER,
           ("Aurel Zimmerli",)),
    Artist("Cornelis van der Gracht", ("Cornelis van der Graght", "C. van der Gracht"), "Dutch", LUMINISM,
           "1a120c 6b5232 5a3c20 a8672e d9a03f f8e3b0", Hand(0.012, 0.8, 0.9), Ground.CANVAS, Frame.VIGNETTE),
    Artist("Ersilia Montanari", ("Montanari, Ersilia",), "Italian", LUMINISM,
           "1c0a10 7a2a34 4a2a2a c4573f e8b06a fbe6c8", Hand(0.016, 0.5, 0.8), Ground.CANVAS, Frame.VIGNETTE,
           ("Cornelis van der Gracht",)),
    Artist("Anton Vesterholm", ("A. Vesterholm",), "Danish", LUMINISM,
           "0c1626 3f6277 3a4f4a 8fa3a0 e6c98a f3f1e2", Hand(0.014, 0.2, 0.7), Ground.PANEL, Frame.BORDER,
           ("Cornelis van der Gracht",)),
    Artist("Rosalind Achterberg", ("Achterberg, Rosalind", "R. Achterberg"), "Dutch", LUMINISM,
           "0a1f18 2f6b4f 56602c 9c7b3a e27d5a f4ecc8", Hand(0.018, 0.6, 0.8), Ground.CANVAS, Frame.VIGNETTE,
           ("Ersilia Montanari",)),
)
# fmt: on

MOVEMENTS = tuple(dict.fromkeys(artist.movement for artist in ARTISTS))


def palette_of(artist: Artist, artists: Sequence[Artist] = ARTISTS) -> Palette:
    """The artist's palette after their influences among `artists`.

    Raises
    ------
    Graph2ImageError
        If an influence is none of `artists`.
    """
    colors = {other.name: other.colors for other in artists}
    strangers = [name for name in artist.influences if name not in colors]
    if strangers:
        raise Graph2ImageError(
            f"{artist.name} is influenced by {strangers[0]}, who is not among the artists",
            "Paint with whole casts of artists.",
        )
    return influenced(artist.colors, [colors[name] for name in artist.influences])


def influenced(colors: str, others: Iterable[str]) -> Palette:
    """A palette that leans towards each of the others."""
    palette = Palette.of(colors)
    for other in others:
        palette = palette.drifted(Palette.of(other), INFLUENCE)
    return palette
