"""Reader of PainterPalette.csv: what is known of ten thousand artists, to add to the graph of ART500K.

It has no items: the artists get the keys that the readers of artworks give them, and an artist is in the graph if a
relation leads to them. Columns of lists are partly mixed up (places, titles and paths among the teachers), so relations
between artists are taken only where the other one has a row, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ingest.batches import Batch, BatchBuilder
from ingest.errors import Graph2ImageError
from ingest.readers.artist_relations import relate_artist, relate_artist_to
from ingest.readers.artists import Attributed, listed_artists, parse_artists
from ingest.readers.delimited import DelimitedRow, Format, find_header, read_delimited
from ingest.readers.files import explain_read_errors
from ingest.records import RejectReason

logger = logging.getLogger(__name__)

ITEM_COLUMNS = pa.schema([])

#: Columns of artists, in the order that `relate_artist` takes them.
_ARTIST_COLUMNS = ("Influencedby", "Influencedon", "Teachers", "Pupils", "FriendsandCoworkers")

#: Other columns of lists, with the relation and the label of what they name.
_ENTITY_COLUMNS = (
    ("movement", "IN_MOVEMENT", "Movement"),
    ("Nationality", "HAS_NATIONALITY", "Nationality"),
    ("PaintingSchool", "OF_SCHOOL", "School"),
)


def read_painterpalette(path: Path) -> Iterator[Batch]:
    """Yield one batch with the artists, and how they relate to each other, to movements, nationalities and schools.

    Raises
    ------
    Graph2ImageError
        If the file cannot be read, is empty, or lacks a column.
    """
    batch = BatchBuilder("art500k", path.name, "Artwork", ITEM_COLUMNS)
    rows = list(_artists(path, batch))
    known = {artist.key for artist, _ in rows}
    left_out: set[str] = set()
    for artist, row in rows:
        batch.entity_names.setdefault(("Artist", artist.key), artist.name)
        others = [listed_artists(row[column]) for column in _ARTIST_COLUMNS]
        left_out.update(other.key for column in others for other in column if other.key not in known)
        relate_artist(batch, artist, *([other for other in column if other.key in known] for column in others))
        for column, relation, label in _ENTITY_COLUMNS:
            relate_artist_to(batch, artist, relation, label, row[column])
    logger.info("%s: %d artists; %d names that have no row are left out", path.name, len(known), len(left_out))
    yield batch.finish()


def _artists(path: Path, batch: BatchBuilder) -> Iterator[tuple[Attributed, dict[str, str]]]:
    """The rows that name an artist, by column; the others become rejects of the batch."""
    needed = {"artist", *_ARTIST_COLUMNS, *(column for column, _, _ in _ENTITY_COLUMNS)}
    format_ = Format(",")
    with explain_read_errors(path):
        header = find_header(path, format_, lambda cells: needed <= set(cells))
        if header is None:
            raise Graph2ImageError(f"{path} is empty")
        if isinstance(header, DelimitedRow):
            raise Graph2ImageError(
                f"{path} lacks the columns {', '.join(sorted(needed - set(header.cells or ())))}",
                "Is it the PainterPalette.csv of its project?",
            )
        for found in read_delimited(path, format_, *header):
            if found.cells is None:
                batch.rejects.append(found.reject(path.name))
                continue
            row = dict(zip(header[1], found.cells, strict=True))
            artist = next(iter(parse_artists(row["artist"])), None)
            if artist is None:
                batch.reject(found.line, RejectReason.MISSING_ID, "the row names no artist", found.raw)
            else:
                batch.auxiliary_rows += 1
                yield artist, row
