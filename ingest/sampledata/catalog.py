"""The label file: who painted what, in ART500K's 26 columns and with its defects."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ingest.sampledata.artists import ARTISTS, Artist
from ingest.sampledata.defects import assign_defects
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
    """One painting to be: everything that decides its pixels."""

    seed: tuple[int, int]
    artist: Artist
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


def draw_up_catalog(items: int, seed: int) -> Catalog:
    """Decide on `items` artworks.

    Every artist comes once before any comes again, and so with subjects: all paint everything about equally often,
    and a title tells nothing about who painted it.
    """
    rng = np.random.default_rng((seed, 0x6A11E21))
    flawed = assign_defects(rng, items, DEFECTS)
    artists, subjects = _rounds(rng, len(ARTISTS), items), _rounds(rng, len(SUBJECTS), items)
    rows, works = [], []
    for index in range(items):
        artist, subject = ARTISTS[artists[index]], SUBJECTS[subjects[index]]
        variant, hour = int(rng.integers(len(subject.titles))), HOURS[int(rng.integers(len(HOURS)))]
        name = f"{subject.title(rng, variant, hour)}##{_identifier(seed, index)}"
        top = FOLDERS[int(rng.integers(len(FOLDERS)))]
        movement = artist.movement
        middle = {"Art Movement": movement.name, "Medium": movement.media[0].title()}.get(top, movement.field.title())
        work = Work((seed, index), artist, subject, variant, hour, f"{top}/{middle}/{name}.jpg")
        row = _row(rng, work, name)
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


def _row(rng: np.random.Generator, work: Work, name: str) -> dict[str, str]:
    subject, hour = work.subject, work.hour
    year = _first_year(work.artist) + int(rng.integers(0, 24))
    date = (f"{year}", f"ca. {year}", f"ca. {year}-{year + 4}", "")[int(rng.integers(4))]
    height, width = int(rng.integers(30, 90)), int(rng.integers(30, 90))
    return _artist_columns(work.artist) | {
        "painting_name": name,
        "image_url": f"https://gallery.example/{name.split('##')[1]}.jpg",
        "Genre": subject.genre,
        "Date": date,
        "Tag": ",".join([subject.key, *([hour.words.split()[-1]] if subject.genre in OUTDOOR_GENRES else [])]),
        "Dimensions": f"{height} x {width} cm",
        "Art institution": MUSEUMS[int(rng.integers(len(MUSEUMS)))],
        "Path": work.path,
    }


def _first_year(artist: Artist) -> int:
    return 1820 + 13 * (ARTISTS.index(artist) % 9)


@cache
def _artist_columns(artist: Artist) -> dict[str, str]:
    """The columns that are the same for all works of an artist; the others are empty."""
    movement = artist.movement
    followers = [a.name for a in ARTISTS if artist.name in a.influences]
    friends = [a.name for a in ARTISTS if a.movement is movement and a is not artist]
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
        "Location": CITIES[ARTISTS.index(artist) % len(CITIES)],
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
