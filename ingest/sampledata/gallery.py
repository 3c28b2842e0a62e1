"""A gallery of paintings in ART500K's own file format: label file, folders, `Title##id.jpg`, and its defects."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ingest.sampledata.artists import ARTISTS, Artist, palette_of
from ingest.sampledata.palettes import Floats
from ingest.sampledata.scenes import HOURS, OUTDOOR_GENRES, SUBJECTS, Hour, Subject
from ingest.sampledata.sketch import Sketch
from ingest.sampledata.surfaces import framed, textured
from ingest.sampledata.writing import (
    SampleReport,
    already_there,
    explain_write_errors,
    jpeg,
    paint_all,
    write_whole,
)

log = logging.getLogger(__name__)

LABEL_FILE = "label_list.csv"
COLUMNS = (
    "author_name", "painting_name", "image_url", "Genre", "Style", "Nationality", "Painting School", "Art Movement",
    "Field", "Date", "Influenced by", "Media", "Influenced on", "Family and Relatives", "Tag", "Pupils", "Location",
    "Original Title", "Dimensions", "Series", "Teachers", "Friends and Co-workers", "Art institution", "Period",
    "Theme", "Path",
)  # fmt: skip
FOLDERS = ("Artists1", "Artists2", "Art Movement", "Medium")
CITIES = ("Antwerp", "Lisbon", "Trieste", "Bergen", "Kraków", "Kyoto", "Valparaíso", "Marseille")
MUSEUMS = ("Museum of the Lagoon", "Lantern Street Gallery", "House of Prints", "Hill Collection", "City Art Rooms")

#: Long side of a picture in pixels, and how much larger it is painted.
SIZE, OVERSAMPLING = 128, 2
SHAPES = ((1.0, 1.0), (1.0, 0.92), (0.92, 1.0), (1.0, 1.0))

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
    broken: bool


def paint_work(artist: Artist, subject: Subject, variant: int, hour: Hour, rng: np.random.Generator) -> Floats:
    """One picture: sRGB, long side `SIZE` pixels."""
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    height, width = (round(SIZE * OVERSAMPLING * side / 2) * 2 for side in shape)
    side = -1.0 if artist.hand.energy * 10 % 2 > 1 else 1.0
    sketch = Sketch(height, width, light=(0.7 * side, 0.6))
    # Step a little closer, and look in the mirror half of the time: no two compositions are the same.
    zoom, mirror = float(rng.uniform(1.0, 1.1)), float(rng.choice([-1.0, 1.0]))
    left, top = rng.uniform(0, zoom - 1, 2).tolist()
    view = sketch.placed(-left if mirror > 0 else 1 + left, -top, scale=zoom, flip=mirror)
    subject.draw(view, rng, hour, variant)
    ramps = palette_of(artist).jittered(rng, 0.010).ramps()
    hand = replace(artist.hand, size=artist.hand.size * float(rng.uniform(0.92, 1.08)))
    color = artist.movement.brush(sketch, ramps, hand, rng)
    color = framed(textured(color, artist.ground, rng), artist.frame, ramps)
    image = Image.fromarray((np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8))
    small = image.resize((width // OVERSAMPLING, height // OVERSAMPLING), Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32) / 255


def _save_work(folder: Path, work: Work) -> int:
    """Paint one work and write it; returns the number of files written."""
    content = jpeg(paint_work(work.artist, work.subject, work.variant, work.hour, np.random.default_rng(work.seed)))
    # A broken file of the real data set: the start of a picture, far below 5 KB.
    write_whole(folder / work.path, content[:700] if work.broken else content)
    return 1


class _Catalog:
    """Draws up the label file: who painted what, and what is wrong with which row."""

    def __init__(self, items: int, seed: int) -> None:
        self.items, self.seed = items, seed
        self.rng = np.random.default_rng((seed, 0x6A11E21))
        self.defects: Counter[str] = Counter()
        self.rows: list[list[str]] = []
        self.works: list[Work] = []
        self.flawed = self._choose_flawed()

    def _choose_flawed(self) -> dict[int, str]:
        """Which rows carry which defect: no row has two, and each kind occurs if there are rows enough."""
        order = iter(self.rng.permutation(self.items).tolist())
        flawed = {}
        for name, share in DEFECTS.items():
            for _ in range(max(1, round(share * self.items)) if self.items >= 2 * len(DEFECTS) else 0):
                flawed[next(order)] = name
        return flawed

    def draw_up(self) -> None:
        # A full round of artists, and a full round of subjects, before either repeats: every artist
        # paints every subject about equally often, so a title tells nothing about who painted it.
        artists = _rounds(len(ARTISTS), self.items, self.rng)
        subjects = _rounds(len(SUBJECTS), self.items, self.rng)
        for index in range(self.items):
            self._add(index, ARTISTS[artists[index]], SUBJECTS[subjects[index]])
        if self.flawed:
            for index in self.rng.choice(self.items, max(1, self.items // 200), replace=False).tolist():
                self.rows.append(self.rows[index])
                self.defects["duplicate_row"] += 1

    def _add(self, index: int, artist: Artist, subject: Subject) -> None:
        rng, defect = self.rng, self.flawed.get(index)
        variant, hour = int(rng.integers(len(subject.titles))), HOURS[int(rng.integers(len(HOURS)))]
        title = subject.title(rng, variant, hour)
        name = f"{title}##{_identifier(self.seed, index)}"
        movement = artist.movement
        top = FOLDERS[int(rng.integers(len(FOLDERS)))]
        middle = {"Art Movement": movement.name, "Medium": movement.media[0].title()}.get(top, movement.field.title())
        path = f"{top}/{middle}/{name}.jpg"
        stored = path
        row = self._row(artist, subject, hour, name, path)
        if defect is not None:
            self.defects[defect] += 1
        if defect == "swapped_field_and_path":
            row["Field"], row["Path"] = row["Path"], row["Field"]
        elif defect == "wrong_top_folder":
            other = [folder for folder in FOLDERS if folder != top][int(rng.integers(3))]
            stored = f"{other}/{middle}/{name}.jpg"
        elif defect == "pipe_in_author":
            row["author_name"] = "|".join([f"{artist.name} ({artist.aliases[0].split(' (')[0]})"] * 2)
        elif defect == "other_spelling":
            row["author_name"] = artist.aliases[int(rng.integers(len(artist.aliases)))]
        elif defect == "attribution":
            row["author_name"] = ATTRIBUTIONS[int(rng.integers(len(ATTRIBUTIONS)))].format(artist.name)
        elif defect == "unknown_author":
            row["author_name"] = ("NoAuthor", "")[int(rng.integers(2))]
        self.rows.append([row[column] for column in COLUMNS])
        if defect != "missing_file":
            work = Work((self.seed, index), artist, subject, variant, hour, stored, defect == "broken_image")
            self.works.append(work)

    def _row(self, artist: Artist, subject: Subject, hour: Hour, name: str, path: str) -> dict[str, str]:
        rng, movement = self.rng, artist.movement
        number = ARTISTS.index(artist)
        year = 1820 + 13 * (number % 9) + int(rng.integers(0, 24))
        date = (f"{year}", f"ca. {year}", f"ca. {year}-{year + 4}", "")[int(rng.integers(4))]
        height, width = int(rng.integers(30, 90)), int(rng.integers(30, 90))
        followers = [a.name for a in ARTISTS if artist.name in a.influences]
        friends = [a.name for a in ARTISTS if a.movement is movement and a is not artist]
        row = dict.fromkeys(COLUMNS, "")
        row |= {
            "author_name": artist.name,
            "painting_name": name,
            "image_url": f"https://gallery.example/{name.split('##')[1]}.jpg",
            "Genre": subject.genre,
            "Style": movement.style,
            "Nationality": artist.nationality,
            "Painting School": movement.school,
            "Art Movement": movement.name,
            "Field": movement.field,
            "Date": date,
            "Influenced by": ",".join(artist.influences),
            "Media": ",".join(movement.media),
            "Influenced on": ",".join(followers),
            "Tag": ",".join([subject.key, *([hour.words.split()[-1]] if subject.genre in OUTDOOR_GENRES else [])]),
            "Pupils": ",".join(followers[:1]),
            "Location": CITIES[number % len(CITIES)],
            "Dimensions": f"{height} x {width} cm",
            "Teachers": ",".join(artist.influences[:1]),
            "Friends and Co-workers": ",".join(friends[:2]),
            "Art institution": MUSEUMS[int(rng.integers(len(MUSEUMS)))],
            "Period": movement.period,
            "Path": path,
        }
        return row


def _rounds(kinds: int, count: int, rng: np.random.Generator) -> list[int]:
    """`count` numbers below `kinds`, each of them once per round, in random order within a round."""
    rounds: list[int] = np.concatenate([rng.permutation(kinds) for _ in range(-(-count // kinds))])[:count].tolist()
    return rounds


def _identifier(seed: int, index: int) -> str:
    """Fourteen characters as in the real file names, the same for the same picture."""
    digest = hashlib.sha256(f"art500k/{seed}/{index}".encode()).digest()
    return base64.b64encode(digest, b"AZ").decode()[:14]


def paint_art500k(folder: Path, *, items: int = 1200, seed: int = 0, workers: int | None = None) -> SampleReport:
    """Paint artworks by forty invented artists, in the format of ART500K's full label file.

    A title says what a picture shows and never who painted it; artist and movement decide palette and brush.
    The files depend on `items` and `seed` only. A folder that holds them already is left as it is.

    Parameters
    ----------
    folder
        Gets `label_list.csv` (pipe separated, 26 columns, no header), `head_info.csv` and the image folders.
    items
        Artworks in the label file. A few have no file, or a broken one: see `SampleReport.defects`.
    workers
        Processes that paint; None for one per core.

    Raises
    ------
    Graph2ImageError
        If `folder` holds another label file, cannot be written, or the disk is full.
    """
    folder = Path(folder)
    catalog = _Catalog(items, seed)
    catalog.draw_up()
    labels = "".join("|".join(row) + "\n" for row in catalog.rows).encode()
    report = SampleReport(
        folder, items, len(catalog.rows), len(catalog.works), dict(sorted(catalog.defects.items())), True
    )
    with explain_write_errors(folder):
        if already_there(folder, LABEL_FILE, labels, [work.path for work in catalog.works]):
            log.info("the gallery in %s is there already", folder)
            return replace(report, changed=False)
        log.info("painting %d artworks into %s", len(catalog.works), folder)
        paint_all(partial(_save_work, folder), catalog.works, workers=workers, what="painting")
        write_whole(folder / "head_info.csv", f"{list(COLUMNS)}\n".encode())
        write_whole(folder / LABEL_FILE, labels)
    return report
