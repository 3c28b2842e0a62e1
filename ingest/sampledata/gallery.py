"""Synthetic paintings in ART500K's own file format: label file, folders, `Title##id.jpg`, and its defects."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ingest.sampledata.artists import ARTISTS, Artist
from ingest.sampledata.catalog import COLUMNS, IMAGE_DEFECTS, Work, draw_up_catalog
from ingest.sampledata.defects import broken
from ingest.sampledata.palettes import Floats
from ingest.sampledata.sketch import Sketch
from ingest.sampledata.surfaces import framed, textured
from ingest.sampledata.writing import (
    SampleReport,
    already_there,
    check_request,
    explain_write_errors,
    jpeg,
    paint_all,
    seed_of_cast,
    write_whole,
)

log = logging.getLogger(__name__)

LABEL_FILE = "label_list.csv"
#: Long side of an image in pixels, and how much larger it is painted.
SIZE, OVERSAMPLING = 128, 2
SHAPES = ((1.0, 1.0), (1.0, 0.92), (0.92, 1.0), (1.0, 1.0))


def paint_work(work: Work, rng: np.random.Generator) -> Floats:
    """One image: sRGB, long side `SIZE` pixels."""
    artist = work.artist
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    height, width = (round(SIZE * OVERSAMPLING * side / 2) * 2 for side in shape)
    # The window of a studio is always on the same side.
    sketch = Sketch(height, width, light=(0.7 if len(artist.name) % 2 else -0.7, 0.6))
    # Step a little closer, and look in the mirror half of the time: no two compositions are the same.
    zoom, mirror = float(rng.uniform(1.0, 1.1)), float(rng.choice([-1.0, 1.0]))
    left, top = rng.uniform(0, zoom - 1, 2).tolist()
    view = sketch.placed(-left if mirror > 0 else 1 + left, -top, scale=zoom, flip=mirror)
    work.subject.draw(view, rng, work.hour, work.variant)
    ramps = work.palette.jittered(rng, 0.010).ramps()
    hand = replace(artist.hand, size=artist.hand.size * float(rng.uniform(0.92, 1.08)))
    color = artist.movement.brush(sketch, ramps, hand, rng)
    color = framed(textured(color, artist.ground, rng), artist.frame, ramps)
    image = Image.fromarray((np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8))
    small = image.resize((width // OVERSAMPLING, height // OVERSAMPLING), Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32) / 255


def _save_work(folder: Path, work: Work) -> None:
    content = jpeg(paint_work(work, np.random.default_rng(work.seed)))
    write_whole(folder / work.path, broken(content) if work.broken else content)


def paint_art500k(
    folder: Path,
    *,
    items: int = 1200,
    seed: int = 0,
    workers: int | None = None,
    images: bool = True,
    artists: Sequence[Artist] = ARTISTS,
    words_of_style: float = 0.0,
) -> SampleReport:
    """Paint artworks by invented artists, in the format of ART500K's full label file.

    A title says what an image shows and, by default, never who painted it; artist and movement decide palette and
    brush. The files depend on `items`, `seed`, `artists` and `words_of_style` only. A folder that holds them already
    is left as it is.

    Parameters
    ----------
    folder
        Gets `label_list.csv` (pipe separated, 26 columns, no header), `head_info.csv` and the image folders.
    items
        Artworks in the label file. A few have no file, or a broken one: see `SampleReport.defects`.
    workers
        Processes that paint; None for one per core.
    images
        False for the same label file without the images, to try out how much metadata is handled.
    artists
        Who paints; influences are among them (`casts.invent_artists` makes others than the usual forty).
    words_of_style
        Share of the titles that also say how the work looks, and some of these by whom it is.

    Raises
    ------
    Graph2ImageError
        If `items` or `seed` is too small, there is no artist, `words_of_style` is no share, `folder` holds another
        label file, cannot be written, or the disk is full.
    """
    check_request(items, seed, artists, words_of_style)
    folder = Path(folder)
    catalog = draw_up_catalog(items, seed_of_cast(seed, artists, ARTISTS), artists, words_of_style)
    works = catalog.works if images else []
    defects = {name: count for name, count in catalog.defects.items() if images or name not in IMAGE_DEFECTS}
    labels = b"".join(f"{'|'.join(row)}\n".encode() for row in catalog.rows)
    report = SampleReport(folder, items, len(catalog.rows), len(works), defects, True)
    with explain_write_errors(folder):
        if already_there(folder, LABEL_FILE, labels, [work.path for work in works]):
            log.info("the data in %s exists already", folder)
            return replace(report, changed=False)
        log.info("generating %d images of artworks in %s", len(works), folder)
        paint_all(partial(_save_work, folder), works, workers=workers, what="painting")
        write_whole(folder / "head_info.csv", f"{list(COLUMNS)}\n".encode())
        write_whole(folder / LABEL_FILE, labels)
    return report
