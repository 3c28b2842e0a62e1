"""Reader of the UCSD book graph of Goodreads: books, and the files about their authors, works, series and genres.

What the files are really like: JSON lines in which every scalar is a string and a missing one is empty; authors are
known by id, their names are in a file of their own; a book without a cover has the address of a placeholder; shelves
are what readers call their piles, so most say nothing about the book; editions of one work are rows of their own.

Rows that are as upstream writes them take a path without checks. Others (numbers instead of strings, keys that are not
there, anything else) are first brought into that shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import orjson
import pyarrow as pa

from ingest.batches import Batch, BatchBuilder
from ingest.errors import Graph2ImageError
from ingest.readers.jsonrows import json_rows
from ingest.readers.lines import Block, first_lines, read_batches
from ingest.records import RejectReason, squeeze

#: Columns of a book beside the common ones, named as upstream.
ITEM_COLUMNS = pa.schema(
    [
        ("work_id", pa.string()),
        ("publication_year", pa.int64()),
        ("num_pages", pa.int64()),
        ("average_rating", pa.float64()),
        ("ratings_count", pa.int64()),
        ("is_ebook", pa.bool_()),
        ("language_code", pa.string()),
        ("country_code", pa.string()),
        ("format", pa.string()),
        ("publisher", pa.string()),
        ("isbn13", pa.string()),
    ]
)

#: Shelves that say what a reader does with a copy, not what the book is: plans, possession, medium, liking.
BOOKKEEPING_SHELVES = frozenset(
    (
        "to-read", "want-to-read", "tbr", "maybe", "wish-list", "wishlist", "to-buy", "to-get",
        "currently-reading", "read", "re-read", "unread", "unfinished", "did-not-finish", "dnf", "abandoned",
        "owned", "own", "i-own", "own-it", "owned-books", "books-i-own", "own-to-read", "my-books", "my-library",
        "home-library", "personal-library", "library", "library-books", "default", "my-bookshelf", "bookshelf",
        "kindle", "ebook", "ebooks", "e-book", "e-books", "audio", "audiobook", "audiobooks", "audio-books",
        "favorites", "favourites", "favorite", "all-time-favorites",
    )
)  # fmt: skip

#: Part of the address of what upstream shows for a book without a cover.
PLACEHOLDER_COVER = "/assets/nophoto/book/"

#: Rows that are looked at to tell what a file is.
_PEEKED_ROWS = 20

#: What a row that is not as upstream writes it makes the unchecked path raise.
_UNUSUAL = (KeyError, TypeError, AttributeError)

_INT64 = range(-(2**63), 2**63)
_BOOLEANS = {"true": True, "false": False, "": None}
_SCALARS = (*ITEM_COLUMNS.names, "book_id", "title", "title_without_series", "image_url")

T = TypeVar("T")


def read_goodreads(path: Path, workers: int = 1, *, min_shelf_count: int = 5) -> Iterator[Batch]:
    """Read one of the files; which one it is, its rows tell.

    Parameters
    ----------
    path
        Books yield items. Authors, works and series yield names of entities; genres yield relations of books that are
        in another file.
    min_shelf_count
        Readers who must have put a book on a shelf for that to be a relation.

    Raises
    ------
    Graph2ImageError
        If the file is none of these, cannot be read, or is empty.
    """
    for line in first_lines(path, _PEEKED_ROWS):
        parse = _parser(line, min_shelf_count)
        if parse is not None:
            return read_batches(path, parse, workers)
    raise Graph2ImageError(
        f"{path} is none of the Goodreads files: its first rows describe no book, author, work, series or genres",
        "Give goodreads_books*.json.gz, or goodreads_book_{authors,works,series,genres_initial}.json.gz.",
    )


def _parser(line: bytes, min_shelf_count: int) -> Callable[[Block], Batch] | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    keys = row.keys() if isinstance(row, dict) else set()
    if keys >= {"book_id", "title"}:
        return partial(_parse_books, min_shelf_count=min_shelf_count)
    if keys >= {"book_id", "genres"}:
        return _parse_genres
    if keys >= {"author_id", "name"}:
        return partial(_parse_names, label="Author", key="author_id", name="name")
    if "work_id" in keys and keys & {"best_book_id", "original_title"}:
        return partial(_parse_names, label="Work", key="work_id", name="original_title")
    if keys >= {"series_id", "title"}:
        return partial(_parse_names, label="Series", key="series_id", name="title")
    return None


# -- books -----------------------------------------------------------------------------------------------------------


class _Book(NamedTuple):
    book_id: str
    work: str | None
    title: str | None
    text: str | None
    image_refs: tuple[str, ...]
    columns: tuple[str | int | float | bool | None, ...]
    similar: list[str]
    series: list[str]
    authors: list[tuple[str, str | None]]
    shelves: list[tuple[str, float]]


class _Memo(dict[Any, T], Generic[T]):
    """What a function makes of the values that were looked up."""

    def __init__(self, function: Callable[[Any], T]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, value: Any) -> T:
        result = self[value] = self._function(value)
        return result


class _BookReader:
    """Makes books of rows; of values that repeat from row to row, each is looked at once."""

    def __init__(self, min_shelf_count: int) -> None:
        self._ids: _Memo[str] = _Memo(str.strip)
        self._integers = _Memo(_integer)
        self._numbers = _Memo(_number)
        self._names: _Memo[str | None] = _Memo(lambda name: " ".join(str.split(name)) or None)
        self._shelves = _Memo(_shelf)
        self._counts: _Memo[float | None] = _Memo(partial(_shelf_weight, least=min_shelf_count))

    def book(self, row: dict[str, Any]) -> _Book:
        """Raises one of `_UNUSUAL` unless the row has the keys and types that upstream writes."""
        integers, names, shelves, counts = self._integers, self._names, self._shelves, self._counts
        title = squeeze(row["title"])
        plain_title = row["title_without_series"]
        image = row["image_url"].strip()
        work = row["work_id"].strip() or None
        return _Book(
            row["book_id"].strip(),
            work,
            title or None,
            squeeze(plain_title) or title or None,
            (image,) if image and PLACEHOLDER_COVER not in image else (),
            (
                work,
                integers[row["publication_year"]],
                integers[row["num_pages"]],
                self._numbers[row["average_rating"]],
                integers[row["ratings_count"]],
                _BOOLEANS[row["is_ebook"]],
                names[row["language_code"]],
                names[row["country_code"]],
                names[row["format"]],
                names[row["publisher"]],
                row["isbn13"].strip() or None,
            ),
            _ids(row["similar_books"]),
            _ids(row["series"]),
            [(self._ids[author["author_id"]], names[author["role"]]) for author in row["authors"]],
            [
                (name, count)
                for shelf in row["popular_shelves"]
                if (count := counts[shelf["count"]]) is not None and (name := shelves[shelf["name"]]) is not None
            ],
        )


def _parse_books(block: Block, min_shelf_count: int) -> Batch:
    batch = BatchBuilder("goodreads", block.file, "Book", ITEM_COLUMNS)
    similar_to = batch.edges("SIMILAR_TO")
    written_by = batch.edges("WRITTEN_BY", "Author")
    in_series = batch.edges("IN_SERIES", "Series")
    edition_of = batch.edges("EDITION_OF", "Work")
    on_shelf = batch.edges("ON_SHELF", "Shelf")
    read = _BookReader(min_shelf_count).book
    columns: list[tuple[str | int | float | bool | None, ...]] = []
    for number, line, row in json_rows(block, batch):
        try:
            book = read(row)
        except _UNUSUAL:
            book = read(_as_upstream(row))
        book_id, work, title, text, image_refs, values, similar, series, authors, shelves = book
        if not book_id:
            batch.reject(number, RejectReason.MISSING_ID, "the row has no book_id", line)
            continue
        position = len(columns)
        columns.append(values)
        batch.rows.append(number)
        batch.ids.append(book_id)
        batch.raws.append(line)
        batch.groups.append(work)
        batch.titles.append(title)
        batch.texts.append(text)
        batch.image_refs.append(image_refs)
        if similar:
            similar_to.extend(position, similar)
        if series:
            in_series.extend(position, series)
        if work is not None:
            edition_of.items.append(position)
            edition_of.targets.append(work)
        for author, role in authors:
            if author:
                written_by.items.append(position)
                written_by.targets.append(author)
                written_by.roles.append(role)
        if shelves:
            names, counts = zip(*shelves, strict=True)
            on_shelf.extend(position, names)
            on_shelf.weights += counts
    if columns:
        batch.columns = dict(zip(ITEM_COLUMNS.names, map(list, zip(*columns, strict=True)), strict=True))
    return batch.finish()


def _ids(values: Any) -> list[str]:
    """`values` if it is a list of strings, none of them empty; a TypeError otherwise."""
    if type(values) is not list or not all(values):
        raise TypeError
    "".join(values)  # raises if one is no string, in a tenth of the time that a loop takes
    return values


def _integer(value: Any) -> int | None:
    """The whole number that `value` is or begins with; None if there is none, or if it is beyond 64 bits."""
    try:
        number = int(value)
    except (ValueError, OverflowError):
        parsed = _number(value)
        if parsed is None:
            return None
        number = int(parsed)
    return number if number in _INT64 else None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _shelf(name: Any) -> str | None:
    name = squeeze(name)
    return None if not name or name in BOOKKEEPING_SHELVES else name


def _shelf_weight(count: Any, least: int) -> float | None:
    number = _integer(count)
    return float(number) if number is not None and number >= least else None


def _as_upstream(row: dict[str, Any]) -> dict[str, Any]:
    """A row of any values under any keys, as upstream would have written it."""
    scalars = {name: _text(row.get(name)) for name in _SCALARS}
    ebook = scalars["is_ebook"].lower()
    return {
        **scalars,
        "is_ebook": ebook if ebook in _BOOLEANS else "",
        "similar_books": [text for value in _list(row.get("similar_books")) if (text := _text(value))],
        "series": [text for value in _list(row.get("series")) if (text := _text(value))],
        "authors": [
            {"author_id": _text(author.get("author_id")), "role": _text(author.get("role"))}
            for author in _list(row.get("authors"))
            if isinstance(author, dict)
        ],
        "popular_shelves": [
            {"count": _text(shelf.get("count")), "name": _text(shelf.get("name"))}
            for shelf in _list(row.get("popular_shelves"))
            if isinstance(shelf, dict)
        ],
    }


def _text(value: Any) -> str:
    """A scalar as upstream writes it; an id that went through a float column (`123.0`) is whole again."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# -- what other files say of books and of what they are related to ---------------------------------------------------


def _parse_names(block: Block, label: str, key: str, name: str) -> Batch:
    """Rows of entities; a work without an original title has no name."""
    batch = BatchBuilder("goodreads", block.file, "Book", ITEM_COLUMNS)
    for number, line, row in json_rows(block, batch):
        identifier = _text(row.get(key))
        if not identifier:
            batch.reject(number, RejectReason.MISSING_ID, f"the row has no {key}", line)
        elif called := squeeze(_text(row.get(name))):
            batch.entity_names[label, identifier] = called
    return batch.finish()


def _parse_genres(block: Block) -> Batch:
    """Rows of books with what readers' shelves make of their genres, weighted by how often."""
    batch = BatchBuilder("goodreads", block.file, "Book", ITEM_COLUMNS)
    for number, line, row in json_rows(block, batch):
        book_id = _text(row.get("book_id"))
        if not book_id:
            batch.reject(number, RejectReason.MISSING_ID, "the row has no book_id", line)
            continue
        for name, weight in _genres(row.get("genres")):
            batch.item_edges.append(("IN_GENRE", book_id, "Genre", name, weight))
    return batch.finish()


def _genres(value: Any) -> Iterator[tuple[str, float]]:
    """Genres with positive weights, from `{name: count}`, a list of names, or a list of objects as shelves are."""
    pairs: list[tuple[Any, Any]]
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        pairs = [
            (entry.get("name", entry.get("genre")), entry.get("count")) if isinstance(entry, dict) else (entry, None)
            for entry in _list(value)
        ]
    for name, count in pairs:
        called = squeeze(_text(name))
        weight = _number(_text(count))
        if called and (weight is None or weight > 0):
            yield called, 1.0 if weight is None else weight
