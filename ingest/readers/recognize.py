"""What a file is, by its rows: data sets come as several files, and only some of them hold what a reader wants.

The rows that are looked at are the first ones that can be recognized, wherever they stand, so that a bad start does not
cost the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TypeVar

from ingest.errors import Graph2ImageError
from ingest.readers.files import printable
from ingest.readers.lines import read_blocks

T = TypeVar("T")


class Kind(StrEnum):
    """What the rows of a file are, in words for messages."""

    AMAZON_PRODUCTS = "Amazon product metadata"
    AMAZON_REVIEWS = "Amazon reviews"
    AMAZON_RATINGS = "Amazon ratings"
    AMAZON_QUESTIONS = "Amazon questions and answers"
    GOODREADS_BOOKS = "Goodreads books"
    GOODREADS_AUTHORS = "Goodreads authors"
    GOODREADS_WORKS = "Goodreads works"
    GOODREADS_SERIES = "Goodreads series"
    GOODREADS_GENRES = "Goodreads genres"
    GOODREADS_REVIEWS = "Goodreads reviews"
    GOODREADS_INTERACTIONS = "Goodreads interactions"
    GOODREADS_ID_MAP = "a map of Goodreads ids"
    INSTRUCTG2I_ROWS = "rows of InstructG2I's metadata.jsonl"
    ART500K_LABELS = "ART500K's label list"
    ART500K_TOY_LABELS = "the label list of ART500K's toy set"
    ART500K_COLUMN_NAMES = "the column names of ART500K's label list"
    PAINTERPALETTE = "PainterPalette's artists"


#: What to do with a file that is another source's, or only goes with another file.
_USE = {
    Kind.AMAZON_PRODUCTS: "Ingest it with `graph2image ingest amazon`.",
    **dict.fromkeys(
        (
            Kind.GOODREADS_BOOKS,
            Kind.GOODREADS_AUTHORS,
            Kind.GOODREADS_WORKS,
            Kind.GOODREADS_SERIES,
            Kind.GOODREADS_GENRES,
        ),
        "Ingest it with `graph2image ingest goodreads`.",
    ),
    Kind.INSTRUCTG2I_ROWS: "Ingest the folder above it with `graph2image ingest instructg2i`.",
    Kind.ART500K_LABELS: "Ingest it with `graph2image ingest art500k`.",
    Kind.ART500K_TOY_LABELS: "Ingest it with `graph2image ingest art500k`.",
    Kind.ART500K_COLUMN_NAMES: "Give label_list.csv; this file is read when it stands beside it.",
    Kind.PAINTERPALETTE: "Give it with --painters, beside ART500K's label list.",
}

_RATING = re.compile(rb"[^,]{1,64},[^,]{1,64},[0-5](?:\.\d)?,\d{9,13}(?:,[^,]*)?\s*")
_HEADERS = (
    (b"user_id,parent_asin,", Kind.AMAZON_RATINGS),
    (b"user_id,book_id,is_read", Kind.GOODREADS_INTERACTIONS),
    (b"book_id_csv,book_id", Kind.GOODREADS_ID_MAP),
    (b"user_id_csv,user_id", Kind.GOODREADS_ID_MAP),
    (b"['author_name', 'painting_name'", Kind.ART500K_COLUMN_NAMES),
)

_IMAGE_PATH = re.compile(rb"[^|]*/[^|]*\.(?:jpe?g|png|gif|bmp|tiff?|webp)\s*", re.IGNORECASE)


def kind_of_row(keys: Collection[str]) -> Kind | None:
    """What a JSON row with these keys is."""
    has = set(keys).issuperset
    if has(("review_id",)) or has(("book_id", "user_id")):
        is_review = has(("review_text",)) or has(("review_sentences",))
        return Kind.GOODREADS_REVIEWS if is_review else Kind.GOODREADS_INTERACTIONS
    if has(("book_id", "title")):
        return Kind.GOODREADS_BOOKS
    if has(("book_id", "genres")):
        return Kind.GOODREADS_GENRES
    if has(("author_id", "name")):
        return Kind.GOODREADS_AUTHORS
    if has(("work_id", "best_book_id")) or has(("work_id", "original_title")):
        return Kind.GOODREADS_WORKS
    if has(("series_id", "title")):
        return Kind.GOODREADS_SERIES
    if has(("asin",)) or has(("parent_asin",)):
        if not set(keys).isdisjoint(("reviewerID", "user_id", "reviewText", "unixReviewTime", "helpful_vote")):
            return Kind.AMAZON_REVIEWS
        if not set(keys).isdisjoint(("question", "questions", "questionType")):
            return Kind.AMAZON_QUESTIONS
        return Kind.AMAZON_PRODUCTS
    if (has(("center",)) or has(("center_image",))) and not has(("title",)):
        return Kind.INSTRUCTG2I_ROWS
    return None


def kind_of_line(line: bytes) -> Kind | None:
    """What a line that is no JSON is."""
    if (found := next((kind for start, kind in _HEADERS if line.startswith(start)), None)) is not None:
        return found
    if _RATING.fullmatch(line):
        return Kind.AMAZON_RATINGS
    if line.count(b"|") >= 2 and any(map(_IMAGE_PATH.fullmatch, line.split(b"|"))):
        return Kind.ART500K_LABELS
    if {b"ID", b"AUTHOR", b"TITLE", b"TIMELINE"} <= {name.strip() for name in line.split(b"\t")}:
        return Kind.ART500K_TOY_LABELS
    if {b"artist", b"Influencedby", b"PaintingSchool"} <= set(line.strip().split(b",")):
        return Kind.PAINTERPALETTE
    return None


def first_recognized(path: Path, recognize: Callable[[bytes], T | None], count: int) -> list[T]:
    """What `recognize` says of lines of a file, up to `count` times; it says None of one that it does not know.

    Raises
    ------
    Graph2ImageError
        If the file cannot be read, is empty or holds no text.
    """
    lines = (line for block in read_blocks(path) for line in block.lines if line.strip())
    return list(islice((found for line in lines if (found := recognize(line)) is not None), count))


def refusal(path: Path, found: Kind | None, wanted: str, files: str) -> Graph2ImageError:
    """The error that a file holds `found`, which is not what is wanted.

    Parameters
    ----------
    files
        What to give instead.
    """
    if found is not None:
        return Graph2ImageError(f"{path} holds {found}, not {wanted}", _USE.get(found, files))
    start = next((line for block in read_blocks(path) for line in block.lines if line.strip()), None)
    if start is None:
        return Graph2ImageError(f"{path} has no row that can be read", "It is blank, or cut off at its start.")
    shown = printable(start[:200].decode("utf-8", "replace"))
    return Graph2ImageError(f"{path} does not hold {wanted}: it starts with {shown!r}", files)
