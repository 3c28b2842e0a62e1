"""Reader of ART500K's full label file: 26 pipe-separated columns, no header, UTF-8.

What the file is really like: authors contain the separator (`A|A`), so a row may have more fields than columns; the
`Field` and `Path` columns are swapped in some rows; the first folder of a path is sometimes wrong; titles end in
`##<id>`; an unknown author is empty or `NoAuthor`; an author may be an attribution ("after Rembrandt").

Item ids are `art500k:<id>` with the `##<id>` of the path, and `art500k:path-<hash>` (16 hex digits of the path's
SHA-256) for the paths that have none, so they depend on the row alone.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pyarrow as pa

from ingest.errors import Graph2ImageError
from ingest.readers.files import explain_read_errors, is_text, open_text
from ingest.records import EntityLink, EntityRelation, ItemRecord, Record, RejectReason, RejectRecord, squeeze

COLUMNS = (
    "author_name",
    "painting_name",
    "image_url",
    "Genre",
    "Style",
    "Nationality",
    "Painting School",
    "Art Movement",
    "Field",
    "Date",
    "Influenced by",
    "Media",
    "Influenced on",
    "Family and Relatives",
    "Tag",
    "Pupils",
    "Location",
    "Original Title",
    "Dimensions",
    "Series",
    "Teachers",
    "Friends and Co-workers",
    "Art institution",
    "Period",
    "Theme",
    "Path",
)

#: First folders of the paths; when a file is not under the one named, it may be under another.
TOP_FOLDERS = ("Artists1", "Artists2", "Art Movement", "Medium")

#: Columns of an item beside the common ones, with the label file's column that each is taken from.
ITEM_COLUMNS = {
    "author": "author_name",
    "attribution": None,
    "field": "Field",
    "date": "Date",
    "media": "Media",
    "location": "Location",
    "original_title": "Original Title",
    "dimensions": "Dimensions",
}
ITEM_COLUMN_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in ITEM_COLUMNS])

#: (column, relation, label) of the entities an artwork has.
_ENTITIES = (
    ("Genre", "IN_GENRE", "Genre"),
    ("Style", "HAS_STYLE", "Style"),
    ("Art Movement", "IN_MOVEMENT", "Movement"),
)

#: (column, relation, whether the relation leads from the artist to those named, or back).
_ARTIST_RELATIONS = (
    ("Influenced by", "INFLUENCED_BY", True),
    ("Influenced on", "INFLUENCED_BY", False),
    ("Teachers", "TAUGHT_BY", True),
    ("Pupils", "TAUGHT_BY", False),
)

_ATTRIBUTION = re.compile(
    r"(?P<attribution>(?:copy |copies )?after|attributed to|ascribed to|circle of|follower of|followers of|imitator of"
    r"|in the manner of|manner of|school of|studio of|style of|workshop of)\s+(?P<artist>\S.*)",
    re.IGNORECASE,
)
_ID_SUFFIX = re.compile(r"##([A-Za-z0-9_-]+)$")
_IMAGE_PATH = re.compile(r".+/.+\.(?:jpe?g|png|gif|bmp|tiff?|webp)", re.IGNORECASE)


def read_art500k(label_file: Path) -> Iterator[Record]:
    """Yield one record per line of the label file.

    Raises
    ------
    Graph2ImageError
        If the file, or the `head_info.csv` beside it, cannot be read.
    """
    columns = _column_names(label_file.parent / "head_info.csv")
    with explain_read_errors(label_file), open_text(label_file) as stream:
        for number, ended_line in enumerate(stream, 1):
            line = ended_line.rstrip("\r\n")
            if not line.strip():
                continue
            reject = _row_problem(line, len(columns))
            if reject is not None:
                yield RejectRecord(label_file.name, number, *reject, line)
                continue
            row = _fields(line, columns)
            _mend_swapped_path(row)
            if not row["Path"]:
                detail = "neither Path nor Field holds the path of a picture"
                yield RejectRecord(label_file.name, number, RejectReason.IMAGE_MISSING, detail, line)
                continue
            yield _item(row, label_file.name, number, line)


def _row_problem(line: str, columns: int) -> tuple[RejectReason, str] | None:
    if not is_text(line):
        return RejectReason.BAD_ENCODING, "the row is not UTF-8 text"
    fields = line.count("|") + 1
    if fields < columns:
        return RejectReason.MALFORMED_ROW, f"{fields} fields instead of {columns}"
    return None


def _column_names(head_info: Path) -> tuple[str, ...]:
    """The names in `head_info.csv` (one line, a Python list) if it is there; its last is `Path`, whatever it says."""
    if not head_info.exists():
        return COLUMNS
    with explain_read_errors(head_info), open_text(head_info) as stream:
        text = stream.read(1 << 16)
    try:
        names = ast.literal_eval(text.strip())
        missing = set(COLUMNS[:-1]) - set(names)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise Graph2ImageError(
            f"{head_info} does not hold a list of column names", "Remove it to use the built-in names."
        ) from error
    if missing:
        raise Graph2ImageError(f"{head_info} lacks the columns {', '.join(sorted(missing))}")
    return (*names[:-1], "Path")


def _fields(line: str, columns: tuple[str, ...]) -> dict[str, str]:
    values = line.split("|")
    surplus = len(values) - len(columns)
    values = ["|".join(values[: surplus + 1]), *values[surplus + 1 :]]
    return {name: squeeze(value) for name, value in zip(columns, values, strict=True)}


def _mend_swapped_path(row: dict[str, str]) -> None:
    """Put the path of the picture under `Path`, where it is often, or leave nothing there."""
    if _IMAGE_PATH.fullmatch(row["Path"]):
        return
    if _IMAGE_PATH.fullmatch(row["Field"]):
        row["Field"], row["Path"] = row["Path"], row["Field"]
    else:
        row["Path"] = ""


def _item(row: dict[str, str], file: str, number: int, line: str) -> ItemRecord:
    path = PurePosixPath(row["Path"])
    title = _ID_SUFFIX.sub("", row["painting_name"]).strip() or _ID_SUFFIX.sub("", path.stem).strip()
    artists, attribution = parse_authors(row["author_name"])
    columns = {name: row[source] or None for name, source in ITEM_COLUMNS.items() if source}
    return ItemRecord(
        row=number,
        file=file,
        item_id=f"art500k:{_identifier(path)}",
        label="Artwork",
        title=title,
        text=title,
        raw=line,
        image_refs=_places(path),
        entities=(
            *(EntityLink("Artist", artist, "CREATED_BY") for artist in artists),
            *(
                EntityLink(label, name, relation)
                for column, relation, label in _ENTITIES
                for name in _list(row[column])
            ),
        ),
        entity_relations=tuple(
            EntityRelation(relation, "Artist", artist, "Artist", other)
            if outward
            else EntityRelation(relation, "Artist", other, "Artist", artist)
            for artist in artists
            for column, relation, outward in _ARTIST_RELATIONS
            for other in _list(row[column])
        ),
        columns={**columns, "attribution": attribution},
    )


def _identifier(path: PurePosixPath) -> str:
    if found := _ID_SUFFIX.search(path.stem):
        return found[1]
    return f"path-{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"


def _places(path: PurePosixPath) -> tuple[str, ...]:
    """Where the picture may be: as listed, then under the other top folders."""
    top, *rest = path.parts
    if top not in TOP_FOLDERS:
        return (str(path),)
    return (str(path), *("/".join((other, *rest)) for other in TOP_FOLDERS if other != top))


def parse_authors(author: str) -> tuple[tuple[str, ...], str | None]:
    """The artists that an author value names, and how the work is attributed to them (None: by their own hand).

    >>> parse_authors("after Rembrandt (Rembrandt van Rijn)|after Rembrandt (Rembrandt van Rijn)")
    (('Rembrandt',), 'after')
    """
    artists: dict[str, None] = {}
    attribution = None
    for part in author.split("|"):
        name = squeeze(re.sub(r"\([^()]*\)", " ", part)) or squeeze(part)
        if found := _ATTRIBUTION.fullmatch(name):
            attribution = attribution or found["attribution"].lower()
            name = found["artist"]
        if name and name.casefold() not in ("noauthor", "unknown", "anonymous"):
            artists.setdefault(name)
    return tuple(artists), attribution


def _list(value: str) -> Iterator[str]:
    return (name for part in value.split(",") if (name := squeeze(part)))
