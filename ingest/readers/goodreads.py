"""Reader of the UCSD book graph of Goodreads: books, and the files about their authors, works, series and genres.

What the files are really like: JSON lines in which every scalar is a string and a missing one is empty; authors are
known by id, their names are in a file of their own; a book without a cover has the URL of a placeholder; shelves
are what readers call their piles, so most say nothing about the book; editions of one work are rows of their own.

A book's row is mostly shelves, too many to look at one by one in Python. So a block of rows that are as upstream writes
them is parsed into columns by Arrow and handled a column at a time. Any other block (a line that is no JSON, numbers
instead of strings, anything else) goes through Python, row by row, and into the same columns.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingest.batches import BATCH_SCHEMA, Batch, BatchBuilder
from ingest.datasets.names import GraphNames
from ingest.readers.columns import (
    columns_of,
    edges,
    flat,
    links,
    parsed_rows,
    prefixed,
    squeezed,
    stripped,
)
from ingest.readers.jsonrows import decode_json, json_rows
from ingest.readers.lines import Block, read_batches
from ingest.readers.markup import visible_text, visible_texts
from ingest.readers.recognize import Kind, first_recognized, kind_of_line, kind_of_row, refusal
from ingest.readers.values import json_text
from ingest.records import RejectReason, RejectRecord

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

#: What the source brings to the graph.
NAMES = GraphNames(
    items=frozenset(["Book"]),
    entities=frozenset(["Author", "Series", "Work", "Shelf", "Genre"]),
    relation_types=frozenset(["SIMILAR_TO", "WRITTEN_BY", "IN_SERIES", "EDITION_OF", "ON_SHELF", "IN_GENRE"]),
)

#: Shelves that say what a reader does with a copy, not what the book is: plans, possession, medium, liking.
BOOKKEEPING_SHELVES = pa.array(
    [
        "to-read", "want-to-read", "tbr", "maybe", "wish-list", "wishlist", "to-buy", "to-get",
        "currently-reading", "read", "re-read", "unread", "unfinished", "did-not-finish", "dnf", "abandoned",
        "owned", "own", "i-own", "own-it", "owned-books", "books-i-own", "own-to-read", "my-books", "my-library",
        "home-library", "personal-library", "library", "library-books", "default", "my-bookshelf", "bookshelf",
        "kindle", "ebook", "ebooks", "e-book", "e-books", "audio", "audiobook", "audiobooks", "audio-books",
        "favorites", "favourites", "favorite", "all-time-favorites",
    ]
)  # fmt: skip

#: Part of the URL of what upstream shows for a book without a cover.
PLACEHOLDER_COVER = "/assets/nophoto/book/"

#: Rows that show what a file is.
_ROWS_LOOKED_AT = 20

_INT64 = range(-(2**63), 2**63)

#: What only rows of other files have: reviews and interactions.
_FOREIGN_KEYS = ("user_id", "review_id")
_SCALARS = (*ITEM_COLUMNS.names, "book_id", "title", "title_without_series", "image_url")
#: What is read of a book's row.
_ROW_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in (*_SCALARS, *_FOREIGN_KEYS)),
        ("similar_books", pa.list_(pa.string())),
        ("series", pa.list_(pa.string())),
        ("authors", pa.list_(pa.struct([("author_id", pa.string()), ("role", pa.string())]))),
        ("popular_shelves", pa.list_(pa.struct([("count", pa.string()), ("name", pa.string())]))),
    ]
)


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
    kinds = Counter(first_recognized(path, _recognized, _ROWS_LOOKED_AT))
    kind = kinds.most_common(1)[0][0] if kinds else None
    parsers: dict[Kind | None, Callable[[Block], Batch]] = {
        Kind.GOODREADS_BOOKS: partial(_parse_books, min_shelf_count=min_shelf_count),
        Kind.GOODREADS_GENRES: _parse_genres,
        Kind.GOODREADS_AUTHORS: partial(_parse_names, label="Author", key="author_id", name="name"),
        Kind.GOODREADS_WORKS: partial(_parse_names, label="Work", key="work_id", name="original_title"),
        Kind.GOODREADS_SERIES: partial(_parse_names, label="Series", key="series_id", name="title"),
    }
    if kind not in parsers:
        raise refusal(
            path,
            kind,
            "Goodreads books, authors, works, series or genres",
            "Give goodreads_books*.json.gz, or goodreads_book_{authors,works,series,genres_initial}.json.gz.",
        )
    return read_batches(path, parsers[kind], workers, in_threads=True)


def _recognized(line: bytes) -> Kind | None:
    try:
        row = decode_json(line)
    except ValueError:
        return kind_of_line(line)
    return kind_of_row(row) if isinstance(row, dict) else None


# -- books -----------------------------------------------------------------------------------------------------------


def _parse_books(block: Block, min_shelf_count: int) -> Batch:
    rejects: list[RejectRecord] = []
    numbers: Sequence[int] = range(block.first_row, block.first_row + len(block.lines))
    raw_rows: Sequence[bytes] = block.lines
    table = parsed_rows(block.lines, _ROW_SCHEMA)
    if table is None:
        rows = list(json_rows(block, rejects, decode_json))
        numbers = [number for number, _, _ in rows]
        raw_rows = [line for _, line, _ in rows]
        table = pa.Table.from_pylist([_as_upstream(row) for _, _, row in rows], _ROW_SCHEMA)
    columns = columns_of(table)
    ids = stripped(columns["book_id"])
    is_foreign = pc.coalesce(*(columns[key] for key in _FOREIGN_KEYS)).is_valid()
    if ids.null_count or is_foreign.true_count:
        for position in pc.indices_nonzero(pc.or_(ids.is_null(), is_foreign)).to_pylist():
            reject = _missing_id(block.file, numbers[position], "book_id", raw_rows[position])
            if is_foreign[position].as_py():
                detail = "the row is a reader's, not a book's: it has a user_id or a review_id"
                reject = replace(reject, reason=RejectReason.WRONG_KIND, detail=detail)
            rejects.append(reject)
        kept = pc.indices_nonzero(pc.and_(ids.is_valid(), pc.invert(is_foreign)))
        numbers, raw_rows = ([values[position] for position in kept.to_pylist()] for values in (numbers, raw_rows))
        columns, ids = {name: column.take(kept) for name, column in columns.items()}, ids.take(kept)
    works = stripped(columns["work_id"])
    titles = visible_texts(squeezed(columns["title"]))
    items = [
        pa.array(numbers, pa.int64()),
        prefixed("goodreads:", ids),
        pa.repeat(pa.scalar("Book"), len(ids)),
        titles,
        pc.coalesce(visible_texts(squeezed(columns["title_without_series"])), titles),
        _image_refs(columns["image_url"]),
        works,
        pa.nulls(len(ids), pa.string()),
        *(_typed(columns[field.name], field.type) for field in ITEM_COLUMNS),
    ]
    return Batch(
        file=block.file,
        items=pa.table(items, schema=pa.schema([*BATCH_SCHEMA, *ITEM_COLUMNS])),
        raw_rows=raw_rows,
        edges=[
            links("goodreads", "SIMILAR_TO", *flat(columns["similar_books"]), ids),
            edges("WRITTEN_BY", "Author", *_authors(columns["authors"])),
            edges("IN_SERIES", "Series", *flat(columns["series"])),
            edges("EDITION_OF", "Work", pa.array(range(len(works)), pa.int32()), works),
            edges("ON_SHELF", "Shelf", *_shelves(columns["popular_shelves"], min_shelf_count)),
        ],
        rejects=rejects,
    )


# -- columns ---------------------------------------------------------------------------------------------------------


def _typed(values: pa.StringArray, type_: pa.DataType) -> pa.Array:
    """Null where a string holds no value of that type."""
    strings = stripped(values)
    if pa.types.is_string(type_):
        return strings
    if pa.types.is_boolean(type_):
        return pc.if_else(pc.is_in(strings, pa.array(["true", "false"])), pc.equal(strings, "true"), None)
    try:
        numbers = strings.cast(type_)
    except pa.ArrowInvalid:
        parse = _integer if pa.types.is_integer(type_) else _number
        return pa.array([None if text is None else parse(text) for text in strings.to_pylist()], type_)
    return pc.if_else(pc.is_finite(numbers), numbers, None)


def _integer(text: str) -> int | None:
    """The number without its fraction; None if there is none, or if it is beyond 64 bits."""
    try:
        number = int(text)
    except ValueError:
        parsed = _number(text)
        if parsed is None:
            return None
        number = int(parsed)
    return number if number in _INT64 else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _image_refs(urls: pa.StringArray) -> pa.ListArray:
    """One URL, or none where there is no cover."""
    urls = stripped(urls)
    has_cover = pc.and_(urls.is_valid(), pc.invert(pc.match_substring(urls, PLACEHOLDER_COVER).fill_null(False)))
    ends = pc.cumulative_sum(has_cover.cast(pa.int32()))
    return pa.ListArray.from_arrays(pa.concat_arrays([pa.array([0], pa.int32()), ends]), urls.filter(has_cover))


# -- relations -------------------------------------------------------------------------------------------------------


def _authors(lists: pa.ListArray) -> tuple[pa.Int32Array, pa.StringArray, None, pa.StringArray]:
    items, authors = flat(lists)
    return items, pc.struct_field(authors, "author_id"), None, squeezed(pc.struct_field(authors, "role"))


def _shelves(lists: pa.ListArray, min_count: int) -> tuple[pa.Int32Array, pa.StringArray, pa.DoubleArray]:
    items, shelves = flat(lists)
    counts = _typed(pc.struct_field(shelves, "count"), pa.int64())
    used = pc.indices_nonzero(pc.greater_equal(counts, min_count).fill_null(False))
    items, counts = items.take(used), counts.take(used)
    names = visible_texts(squeezed(pc.struct_field(shelves, "name").take(used)))
    said = pc.and_(names.is_valid(), pc.invert(pc.is_in(names, BOOKKEEPING_SHELVES)))
    return items.filter(said), names.filter(said), counts.filter(said).cast(pa.float64())


# -- rows that are not as upstream writes them ------------------------------------------------------------------------


def _as_upstream(row: dict[str, Any]) -> dict[str, Any]:
    """A row of any values under any keys, as upstream would have written it."""
    return {
        **{name: _text(row.get(name)) for name in _SCALARS},
        **{name: json_text(row.get(name)) for name in _FOREIGN_KEYS},
        "similar_books": [_text(value) for value in _list(row.get("similar_books"))],
        "series": [_text(value) for value in _list(row.get("series"))],
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
    return json_text(value) or ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _missing_id(file: str, row: int, key: str, raw: bytes) -> RejectRecord:
    return RejectRecord(file, row, RejectReason.MISSING_ID, f"the row has no {key}", raw)


# -- what other files say of books and of what they are related to ---------------------------------------------------


def _parse_names(block: Block, label: str, key: str, name: str) -> Batch:
    """Rows of entities; a work without an original title has no name."""
    batch = BatchBuilder("goodreads", block.file, "Book", ITEM_COLUMNS)
    for number, line, row in json_rows(block, batch.rejects, decode_json):
        identifier = _text(row.get(key))
        if not identifier:
            batch.rejects.append(_missing_id(block.file, number, key, line))
            continue
        batch.auxiliary_rows += 1
        if called := visible_text(_text(row.get(name))):
            batch.entity_names[label, identifier] = called
    return batch.finish()


def _parse_genres(block: Block) -> Batch:
    """Rows of books with what readers' shelves make of their genres, weighted by how often."""
    batch = BatchBuilder("goodreads", block.file, "Book", ITEM_COLUMNS)
    for number, line, row in json_rows(block, batch.rejects, decode_json):
        book_id = _text(row.get("book_id"))
        if not book_id:
            batch.rejects.append(_missing_id(block.file, number, "book_id", line))
            continue
        batch.auxiliary_rows += 1
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
        called = visible_text(_text(name))
        weight = _number(_text(count))
        if called and (weight is None or weight > 0):
            yield called, 1.0 if weight is None else weight
