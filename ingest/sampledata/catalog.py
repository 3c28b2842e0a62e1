"""The label file: who painted what, in ART500K's 26 columns and with its defects."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np

from ingest.sampledata.artists import ARTISTS, Artist, palette_of
from ingest.sampledata.captions import artwork_with_style
from ingest.sampledata.defects import assign_defects
from ingest.sampledata.palettes import Palette
from ingest.sampledata.scenes import HOURS, OUTDOOR_GENRES, SUBJECTS, Hour, Subject

COLUMNS = (
    "author_name", "painting_name", "image_url", "Genre", "Style", "Nationality", "Painting School", "Art Movement",
    "Field", "Date", "Influenced by", "Media", "Influenced on", "Family and Relatives", "Tag", "Pupils", "Location",
    "Original Title", "Dimensions", "Series", "Teachers", "Friends and Co-workers", "Art institution", "Period",
    "Theme", "Path",
)  # fmt: skip
FOLDERS = ("Artists1", "Artists2", "Art Movement", "Medium")
CITIES = ("Antwerp", "Lisbon", "Trieste", "Bergen", "Kraków", "Kyoto", "Valparaíso", "Marseille")
MUSEUMS = ("Museum of the Lagoon", "Lantern Street Gallery", "House of Prints", "Hill Collection", "City Art Rooms")

#: Share of the rows that carries each defect of the real file.
DEFECTS = {
    "swapped_field_and_path": 0.010,
    "wrong_top_folder": 0.015,
    "missing_file": 0.005,
    "pipe_in_author": 0.010,
    "other_spelling": 0.080,
    "attribution": 0.030,
    "unknown_author": 0.010,
    "broken_image": 0.005,
}
#: Those that are not in the label file but among the images.
IMAGE_DEFECTS = ("wrong_top_folder", "missing_file", "broken_image")
ATTRIBUTIONS = ("after {}", "attributed to {}", "circle of {}", "workshop of {}")


@dataclass(frozen=True)
class Work:
    """One painting to be: everything that decides its pixels.

    Attributes
    ----------
    palette
        The artist's, after their influences.
    """

    seed: tuple[int, int]
    artist: Artist
    palette: Palette = field(compare=False, repr=False)
    subject: Subject
    variant: int
    hour: Hour
    path: str
    broken: bool = False


@dataclass(frozen=True)
class Catalog:
    """The rows of the label file, the images that belong to it, and how often each defect occurs."""

    rows: list[tuple[str, ...]]
    works: list[Work]
    defects: dict[str, int]


def draw_up_catalog(items: int, seed: int, artists: Sequence[Artist] = ARTISTS, words_of_style: float = 0.0) -> Catalog:
    """Decide on `items` artworks by `artists`.

    Every artist comes once before any comes again, and so with subjects: all paint everything about equally often,
    and a title tells nothing about who painted it, but for the share `words_of_style` that says how a work looks.
    """
    rng = np.random.default_rng((seed, 0x6A11E21))
    flawed = assign_defects(rng, items, DEFECTS)
    painters, subjects = _rounds(rng, len(artists), items), _rounds(rng, len(SUBJECTS), items)
    palettes = [palette_of(artist, artists) for artist in artists]
    columns = [_artist_columns(number, artists) for number in range(len(artists))]
    rows, works = [], []
    for index in range(items):
        number, subject = painters[index], SUBJECTS[subjects[index]]
        artist, palette = artists[number], palettes[number]
        variant, hour = int(rng.integers(len(subject.titles))), HOURS[int(rng.integers(len(HOURS)))]
        title = subject.title(rng, variant, hour)
        words = Random(f"art500k {seed} {index}")
        if words.random() < words_of_style:
            title = artwork_with_style(words, title, artist, palette)
        name = f"{title}##{_identifier(seed, index)}"
        top = FOLDERS[int(rng.integers(len(FOLDERS)))]
        movement = artist.movement
        middle = {"Art Movement": movement.name, "Medium": movement.media[0].title()}.get(top, movement.field.title())
        work = Work((seed, index), artist, palette, subject, variant, hour, f"{top}/{middle}/{name}.jpg")
        row = _row(rng, work, name, columns[number], _first_year(number))
        defect = flawed.get(index)
        if defect == "wrong_top_folder":
            elsewhere = [folder for folder in FOLDERS if folder != top][int(rng.integers(3))]
            work = replace(work, path=f"{elsewhere}/{middle}/{name}.jpg")
        elif defect == "swapped_field_and_path":
            row["Field"], row["Path"] = row["Path"], row["Field"]
        elif defect is not None:
            row["author_name"] = _flawed_author(rng, artist, defect)
        rows.append(tuple(row[column] for column in COLUMNS))
        if defect != "missing_file":
            works.append(replace(work, broken=defect == "broken_image"))
    defects = Counter(flawed.values())
    if flawed:
        for index in rng.choice(items, max(1, items // 200), replace=False).tolist():
            rows.append(rows[index])
            defects["duplicate_row"] += 1
    return Catalog(rows, works, dict(sorted(defects.items())))


def _flawed_author(rng: np.random.Generator, artist: Artist, defect: str) -> str:
    """How a row with this defect writes the artist's name; most defects leave it alone."""
    if defect == "pipe_in_author":
        return "|".join([f"{artist.name} ({artist.aliases[0].split(' (')[0]})"] * 2)
    if defect == "other_spelling":
        return artist.aliases[int(rng.integers(len(artist.aliases)))]
    if defect == "attribution":
        return ATTRIBUTIONS[int(rng.integers(len(ATTRIBUTIONS)))].format(artist.name)
    if defect == "unknown_author":
        return ("NoAuthor", "")[int(rng.integers(2))]
    return artist.name


def _row(
    rng: np.random.Generator, work: Work, name: str, artist_columns: dict[str, str], first_year: int
) -> dict[str, str]:
    subject, hour = work.subject, work.hour
    year = first_year + int(rng.integers(0, 24))
    date = (f"{year}", f"ca. {year}", f"ca. {year}-{year + 4}", "")[int(rng.integers(4))]
    height, width = int(rng.integers(30, 90)), int(rng.integers(30, 90))
    return artist_columns | {
        "painting_name": name,
        "image_url": f"https://gallery.example/{name.split('##')[1]}.jpg",
        "Genre": subject.genre,
        "Date": date,
        "Tag": ",".join([subject.key, *([hour.words.split()[-1]] if subject.genre in OUTDOOR_GENRES else [])]),
        "Dimensions": f"{height} x {width} cm",
        "Art institution": MUSEUMS[int(rng.integers(len(MUSEUMS)))],
        "Path": work.path,
    }


def _first_year(number: int) -> int:
    return 1820 + 13 * (number % 9)


def _artist_columns(number: int, artists: Sequence[Artist]) -> dict[str, str]:
    """The columns that are the same for all works of an artist; the others are empty."""
    artist = artists[number]
    movement = artist.movement
    followers = [a.name for a in artists if artist.name in a.influences]
    friends = [a.name for a in artists if a.movement is movement and a is not artist]
    return dict.fromkeys(COLUMNS, "") | {
        "author_name": artist.name,
        "Style": movement.style,
        "Nationality": artist.nationality,
        "Painting School": movement.school,
        "Art Movement": movement.name,
        "Field": movement.field,
        "Influenced by": ",".join(artist.influences),
        "Media": ",".join(movement.media),
        "Influenced on": ",".join(followers),
        "Pupils": ",".join(followers[:1]),
        "Location": CITIES[number % len(CITIES)],
        "Teachers": ",".join(artist.influences[:1]),
        "Friends and Co-workers": ",".join(friends[:2]),
        "Period": movement.period,
    }


def _rounds(rng: np.random.Generator, kinds: int, count: int) -> list[int]:
    """`count` numbers below `kinds`, each of them once per round, in random order within a round."""
    rounds: list[int] = np.concatenate([rng.permutation(kinds) for _ in range(-(-count // kinds))])[:count].tolist()
    return rounds


def _identifier(seed: int, index: int) -> str:
    """Fourteen characters as in the real file names, the same for the same image."""
    digest = hashlib.sha256(f"art500k/{seed}/{index}".encode()).digest()
    return base64.b64encode(digest, b"AZ").decode()[:14]
