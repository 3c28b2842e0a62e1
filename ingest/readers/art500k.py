"""Reader of ART500K: the full label file (26 pipe-separated columns without a header, UTF-8), and the toy set.

What the full file is really like: authors contain the separator (`A|A`), so a row may have more fields than columns;
other rows have fewer, and only their first, second and last field can be relied on; `Field` and `Path` are swapped in
some rows; the first folder of a path is sometimes another one, or its case is; titles end in `##<id>`; an unknown
author is empty or `NoAuthor`; an author may be an attribution ("after Rembrandt").

The toy set has another schema: tab separated under a header, Latin-1, with images named `<ID>.jpg`.

Item ids are `art500k:<id>` with the `##<id>` of the path, or the toy set's `ID`, and `art500k:path-<hash>` (16 hex
digits of the path's SHA-256) for paths without one, so they depend on the row alone.

Rows are split one by one. The rest is done column by column, and each distinct value is parsed once.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain, count, repeat
from pathlib import Path

import pyarrow as pa

from ingest.batches import Batch, BatchBuilder
from ingest.datasets.names import GraphNames
from ingest.errors import Graph2ImageError
from ingest.readers.artist_relations import listed_names, relate_artist, relate_artist_to
from ingest.readers.artists import listed_artists, parse_artists, usual_names
from ingest.readers.dates import year_interval
from ingest.readers.files import explain_read_errors
from ingest.readers.jsonrows import decode_json
from ingest.readers.lines import Block, read_batches
from ingest.readers.markup import SUSPECT, visible_text
from ingest.readers.recognize import Kind, first_recognized, kind_of_line, kind_of_row, refusal
from ingest.records import RejectReason, squeeze

COLUMNS = (
    "author_name", "painting_name", "image_url", "Genre", "Style", "Nationality", "Painting School", "Art Movement",
    "Field", "Date", "Influenced by", "Media", "Influenced on", "Family and Relatives", "Tag", "Pupils", "Location",
    "Original Title", "Dimensions", "Series", "Teachers", "Friends and Co-workers", "Art institution", "Period",
    "Theme", "Path",
)  # fmt: skip

#: Columns of the toy set that are needed.
TOY_COLUMNS = ("ID", "AUTHOR", "TITLE", "DATE", "TECHNIQUE", "LOCATION", "FORM", "TYPE", "SCHOOL", "TIMELINE")

#: First folders of the paths; when a file is not under the one named, it may be under another.
TOP_FOLDERS = ("Artists1", "Artists2", "Art Movement", "Medium")

ITEM_COLUMNS = pa.schema(
    [
        ("author", pa.string()),
        ("attribution", pa.string()),
        ("field", pa.string()),
        ("date", pa.string()),
        ("year_from", pa.int64()),
        ("year_to", pa.int64()),
        ("media", pa.string()),
        ("location", pa.string()),
        ("original_title", pa.string()),
        ("dimensions", pa.string()),
    ]
)

#: Rows that are gone through column by column together: their values should stay in the processor's cache.
ROWS_AT_A_TIME = 250

#: Columns of an item that are a column of the label file as it is.
_TEXT_COLUMNS = {
    "author": "author_name",
    "field": "Field",
    "date": "Date",
    "media": "Media",
    "location": "Location",
    "original_title": "Original Title",
    "dimensions": "Dimensions",
}

_TOY_TEXT_COLUMNS = {
    "author": "AUTHOR",
    "field": "FORM",
    "date": "DATE",
    "media": "TECHNIQUE",
    "location": "LOCATION",
}

#: Columns of lists that name entities: the relation, the label, the column.
_ENTITY_COLUMNS = (
    ("IN_GENRE", "Genre", "Genre"),
    ("HAS_STYLE", "Style", "Style"),
    ("IN_MOVEMENT", "Movement", "Art Movement"),
    ("OF_SCHOOL", "School", "Painting School"),
    ("IN_MEDIUM", "Medium", "Media"),
    ("HAS_TAG", "Tag", "Tag"),
    ("IN_SERIES", "Series", "Series"),
    ("OF_PERIOD", "Period", "Period"),
    ("ON_THEME", "Theme", "Theme"),
)

#: What the source brings to the graph, with what PainterPalette adds.
NAMES = GraphNames(
    items=frozenset(["Artwork"]),
    entities=frozenset(["Artist", "Institution", "Nationality", *(label for _, label, _ in _ENTITY_COLUMNS)]),
    relation_types=frozenset(
        [
            *(relation for relation, _, _ in _ENTITY_COLUMNS),
            *("CREATED_BY", "HELD_BY", "HAS_NATIONALITY", "INFLUENCED_BY", "TAUGHT_BY", "FRIEND_OF"),
        ]
    ),
)

#: The columns that describe the artist, in the order that `relate_artist` takes them.
_ARTIST_COLUMNS = (
    "author_name",
    "Influenced by",
    "Influenced on",
    "Teachers",
    "Pupils",
    "Friends and Co-workers",
    "Nationality",
)

_ID = re.compile(r"[A-Za-z0-9_-]+")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp")


def read_art500k(path: Path, workers: int = 1) -> Iterator[Batch]:
    """Yield the rows of a label file in batches; which one it is shows in the first line that can be recognized.

    Parameters
    ----------
    path
        The label file. Column names of the full one are taken from a `head_info.csv` beside it, if there is one.
    workers
        Processes that parse.

    Raises
    ------
    Graph2ImageError
        If the file, or the `head_info.csv` beside it, cannot be read, or the file is no label list.
    """
    found = first_recognized(path, _recognized, 1)
    kind, line = found[0] if found else (None, b"")
    if kind not in (Kind.ART500K_LABELS, Kind.ART500K_TOY_LABELS):
        raise refusal(path, kind, Kind.ART500K_LABELS, "Give label_list.csv, or the toy set's toy_dataset_label.csv.")
    header = _toy_header(line)
    if header is not None:
        yield from read_batches(path, partial(_parse_toy_block, header=header), workers)
    else:
        columns = _column_names(path.parent / "head_info.csv")
        yield from read_batches(path, partial(_parse_block, columns=columns), workers)


def _recognized(line: bytes) -> tuple[Kind, bytes] | None:
    kind = Kind.ART500K_TOY_LABELS if _toy_header(line) else kind_of_line(line)
    if kind is None and line.lstrip().startswith(b"{"):
        with contextlib.suppress(ValueError):
            kind = kind_of_row(decode_json(line))
    return None if kind is None else (kind, line)


def _toy_header(line: bytes) -> tuple[str, ...] | None:
    """The column names in the first line of a toy set."""
    names = tuple(name.strip() for name in line.decode("latin-1").split("\t"))
    return names if set(TOY_COLUMNS) <= set(names) else None


def _column_names(head_info: Path) -> tuple[str, ...]:
    """The names in `head_info.csv` (one line, a Python list) if it is there; its last is `Path`, whatever it says."""
    if not head_info.exists():
        return COLUMNS
    with explain_read_errors(head_info), head_info.open("rb") as stream:
        text = stream.read(1 << 16).decode("utf-8-sig", "replace")
    try:
        names = [name.strip() for name in ast.literal_eval(text.strip())]
    except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError) as error:
        raise Graph2ImageError(
            f"{head_info} does not hold a list of column names", "Remove it to use the built-in names."
        ) from error
    if missing := set(COLUMNS[:-1]) - set(names):
        raise Graph2ImageError(f"{head_info} lacks the columns {', '.join(sorted(missing))}")
    if tuple(names[:2]) != COLUMNS[:2]:
        raise Graph2ImageError(f"{head_info} does not begin with {COLUMNS[0]} and {COLUMNS[1]}")
    return (*names[:-1], "Path")


def _parse_block(block: Block, columns: tuple[str, ...]) -> Batch:
    """The rows of the full label file."""
    batch = BatchBuilder("art500k", block.file, "Artwork", ITEM_COLUMNS)
    authors: Counter[str] = Counter()
    described: dict[tuple[str, ...], None] = {}
    for start in range(0, len(block.lines), ROWS_AT_A_TIME):
        lines = block.lines[start : start + ROWS_AT_A_TIME]
        values = _split_rows(batch, block.first_row + start, lines, columns)
        for own, column in _TEXT_COLUMNS.items():
            batch.columns[own] += map(_text, values[column])
        _add_artists(batch, values["author_name"])
        _add_years(batch, map(year_interval, values["Date"]))
        for relation, label, column in _ENTITY_COLUMNS:
            _add_entities(batch, relation, label, values[column])
        _add_entities(batch, "HELD_BY", "Institution", values["Art institution"], _institutions)
        authors.update(values["author_name"])
        described |= dict.fromkeys(zip(*(values[column] for column in _ARTIST_COLUMNS), strict=True))
    _name_artists(batch, authors)
    _describe_artists(batch, described)
    batch.texts = batch.titles
    return batch.finish()


def _split_rows(
    batch: BatchBuilder, first_row: int, lines: Sequence[bytes], columns: tuple[str, ...]
) -> dict[str, list[str]]:
    """Add the items of some rows, with what is each one's own; returns all values by column."""
    width = len(columns)
    field_column = columns.index("Field")
    is_id, is_suspect, other_folders = _ID.fullmatch, re.compile(SUSPECT).search, _other_folders
    add_row, add_id, add_raw = batch.rows.append, batch.ids.append, batch.raw_rows.append
    add_title, add_refs = batch.titles.append, batch.image_refs.append
    # One list: the garbage collector would have much to look after with one per row.
    table: list[str] = []
    for row, line in enumerate(lines, first_row):
        try:
            fields = line.decode().split("|")
        except UnicodeDecodeError:
            batch.reject(row, RejectReason.BAD_ENCODING, "the row is not UTF-8 text", line)
            continue
        path = fields[-1].strip()
        if len(fields) != width or not path.endswith(".jpg") or "/" not in path or b"\0" in line:
            if not line.strip():
                continue
            try:
                fields, path = _mended(fields, path, width, field_column)
            except _BadRowError as error:
                batch.reject(row, error.reason, error.detail, line)
                continue
        name, marks, identifier = path[path.rfind("/") + 1 : path.rfind(".")].rpartition("##")
        if not marks or not is_id(identifier):
            name += marks + identifier
            identifier = f"path-{hashlib.sha256(path.encode()).hexdigest()[:16]}"
        title = fields[1]
        head, marks, suffix = title.rpartition("##")
        if marks and (suffix == identifier or is_id(suffix.rstrip())):
            title = head
        top, _, rest = path.partition("/")
        add_row(row)
        add_id(identifier)
        add_raw(line)
        if is_suspect(title):
            title = visible_text(title) or ""
        add_title(" ".join(title.split()) or squeeze(name) or None)
        add_refs((path, *[folder + rest for folder in other_folders(top)]))
        table += fields
    return {name: table[number::width] for number, name in enumerate(columns)}


class _BadRowError(Exception):
    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def _mended(fields: list[str], path: str, width: int, field_column: int) -> tuple[list[str], str]:
    """The fields of an unusual row as they should be, and the path of its image.

    Raises
    ------
    _BadRowError
        If they cannot be inferred.
    """
    if any("\0" in field for field in fields):
        raise _BadRowError(RejectReason.MALFORMED_ROW, "the row has NUL bytes")
    surplus = len(fields) - width
    if surplus > 0:
        fields = ["|".join(fields[: surplus + 1]), *fields[surplus + 1 :]]
    elif surplus < 0 and len(fields) > 2 and _is_image_path(path):
        # Which fields are lacking cannot be known.
        fields = [*fields[:2], *[""] * (width - 2)]
    elif surplus < 0:
        raise _BadRowError(RejectReason.MALFORMED_ROW, f"{len(fields)} fields instead of {width}")
    if _is_image_path(path):
        return fields, path
    path, fields[field_column] = fields[field_column].strip(), path
    if not _is_image_path(path):
        raise _BadRowError(RejectReason.IMAGE_MISSING, "neither Path nor Field holds the path of an image")
    return fields, path


def _parse_toy_block(block: Block, header: tuple[str, ...]) -> Batch:
    """The rows of the toy set."""
    batch = BatchBuilder("art500k", block.file, "Artwork", ITEM_COLUMNS)
    id_column, title_column = header.index("ID"), header.index("TITLE")
    table: list[str] = []
    for row, line in enumerate(block.lines, block.first_row):
        if not line or line.isspace():
            continue
        # A copy that somebody saved as UTF-8 shows in its letters: they make no sense as Latin-1, nor the reverse.
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = line.decode("latin-1")
        fields = text.split("\t")
        if len(fields) != len(header) or "\0" in text:
            detail = "the row has NUL bytes" if "\0" in text else f"{len(fields)} fields instead of {len(header)}"
            batch.reject(row, RejectReason.MALFORMED_ROW, detail, line)
            continue
        identifier = fields[id_column].strip()
        if identifier == "ID":
            batch.header_lines += 1
            continue
        if not identifier:
            batch.reject(row, RejectReason.MISSING_ID, "the row has no ID", line)
            continue
        batch.rows.append(row)
        batch.ids.append(identifier)
        batch.raw_rows.append(line)
        batch.titles.append(visible_text(fields[title_column]))
        batch.image_refs.append([f"{identifier}.jpg"])
        table += fields
    values = {name: table[number :: len(header)] for number, name in enumerate(header)}
    for own, column in _TOY_TEXT_COLUMNS.items():
        batch.columns[own] += map(_text, values[column])
    _add_artists(batch, values["AUTHOR"])
    _name_artists(batch, Counter(values["AUTHOR"]))
    dates = zip(values["DATE"], values["TIMELINE"], strict=True)
    _add_years(batch, (year_interval(date) or year_interval(period) for date, period in dates))
    _add_entities(batch, "IN_GENRE", "Genre", values["TYPE"])
    _add_entities(batch, "OF_SCHOOL", "School", values["SCHOOL"])
    _add_entities(batch, "IN_MEDIUM", "Medium", values["TECHNIQUE"], _technique)
    _add_entities(batch, "HELD_BY", "Institution", values["LOCATION"], _institutions)
    batch.texts = batch.titles
    return batch.finish()


def _is_image_path(path: str) -> bool:
    return "/" in path and path.lower().endswith(_IMAGE_SUFFIXES)


@lru_cache
def _other_folders(top: str) -> tuple[str, ...]:
    """Where else than under `top` an image may be, each with a slash; nowhere if `top` is not one of those folders."""
    if top.casefold() not in map(str.casefold, TOP_FOLDERS):
        return ()
    likely_first = sorted(TOP_FOLDERS, key=lambda folder: folder.casefold() != top.casefold())
    return tuple(f"{folder}/" for folder in likely_first if folder != top)


@lru_cache(maxsize=1 << 16)
def _text(value: str) -> str | None:
    return squeeze(value) or None


@lru_cache(maxsize=1 << 16)
def _institutions(value: str) -> tuple[str, ...]:
    """As `listed_names`, but a comma before a blank is one of an address: `Louvre, Paris, France,Tate, London, UK`."""
    parts = re.split(r",(?! )", visible_text(value) or "")
    return tuple(dict.fromkeys(name for part in parts if (name := squeeze(part).strip(" ,-"))))


@lru_cache(maxsize=1 << 16)
def _technique(value: str) -> tuple[str, ...]:
    """`Oil on canvas` of `Oil on canvas, 56 x 47 cm`."""
    return listed_names((visible_text(value) or "").partition(",")[0])


# What follows is about the last items of a batch, of as many as there are values.


def _add_entities(
    batch: BatchBuilder,
    relation: str,
    label: str,
    values: Sequence[str],
    names: Callable[[str], tuple[str, ...]] = listed_names,
) -> None:
    """Relate each item to the entities that its value names."""
    if any(values):
        named = list(map(names, values))
        edges = batch.edges(relation, label)
        edges.items += chain.from_iterable(map(repeat, count(len(batch.ids) - len(named)), map(len, named)))
        edges.targets += chain.from_iterable(named)


def _add_years(batch: BatchBuilder, intervals: Iterable[tuple[int, int] | None]) -> None:
    both = [interval or (None, None) for interval in intervals]
    batch.columns["year_from"] += [first for first, _ in both]
    batch.columns["year_to"] += [last for _, last in both]


def _add_artists(batch: BatchBuilder, authors: Sequence[str]) -> None:
    """Relate each item to its artists."""
    edges = batch.edges("CREATED_BY", "Artist")
    attributions = batch.columns["attribution"]
    for item, artists in enumerate(map(parse_artists, authors), len(batch.ids) - len(authors)):
        attribution = None
        for key, _, role in artists:
            edges.items.append(item)
            edges.targets.append(key)
            edges.roles.append(role)
            attribution = attribution or role
        attributions.append(attribution)


def _name_artists(batch: BatchBuilder, authors: Counter[str]) -> None:
    """Call the artists in `authors` what they are called most often."""
    counted = ((artist, times) for author, times in authors.items() for artist in parse_artists(author))
    batch.entity_names |= {("Artist", key): name for key, name in usual_names(counted).items()}


def _describe_artists(batch: BatchBuilder, described: Iterable[tuple[str, ...]]) -> None:
    """Add what rows say of their artists in `_ARTIST_COLUMNS`, taken from works by one artist's own hand."""
    for author, *others, nationalities in described:
        artists = parse_artists(author)
        if len(artists) == 1 and artists[0].role is None:
            relate_artist(batch, artists[0], *map(listed_artists, others))
            relate_artist_to(batch, artists[0], "HAS_NATIONALITY", "Nationality", nationalities)
