"""Books in the format of the Goodreads book graph: books, authors, works, series, genres, and covers.

A title says what is on the cover; the author decides its colors and technique, the series its layout.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import numpy as np
import orjson

from ingest.sampledata.captions import book_with_style
from ingest.sampledata.covers import LAYOUTS, LOOKS, Author, Cover, Look, print_cover
from ingest.sampledata.defects import assign_defects, broken
from ingest.sampledata.jackets import SHELVES_BY_USE, Draw, author_name, description
from ingest.sampledata.writing import (
    SampleReport,
    already_there,
    check_request,
    drafted,
    explain_write_errors,
    jpeg,
    paint_all,
    seed_of_cast,
    write_whole,
)

log = logging.getLogger(__name__)
T = TypeVar("T")

MAIN_FILE = "goodreads_books.json.gz"
IMAGES = "images"
#: URLs of the real shape on a host that cannot exist.
IMAGE_URL = "https://images.example/books/1473603845m/{}.jpg"
NO_COVER = "https://images.example/assets/nophoto/book/111x148-bcc042a9c91a29c1d680899eff700a03.png"
BOOK_URL = "https://www.goodreads.example/book/show/{}"

#: Share of the books that carries each defect of the real files; and how many are further editions of a work.
DEFECTS = {"no_cover": 0.030, "missing_file": 0.010, "broken_image": 0.005, "unknown_author": 0.005}
EDITIONS = 0.15

_NAMES = (
    "Marguerite Holloway", "Tobias Renn", "Ingrid Solberg", "Caspian Doyle", "Lucía Ferrante", "Emre Aydın",
    "Odette Marchand", "Wilhelm Krause", "Nkechi Obiora", "Saoirse Quinlan", "Hollis Pemberton", "Yuki Tanabe",
    "Rafael Quintana", "Dorothea Blackwood", "Priya Raman", "August Lindqvist",
)  # fmt: skip
AUTHORS = tuple(Author(name, look) for name, look in zip(_NAMES, LOOKS, strict=True))
#: Up to so many books the authors above have written them all; then there is one more author to every few books.
FEW_BOOKS, BOOKS_PER_AUTHOR = 4_000, 8

#: Genres, as the shelves of readers and as the genres file call them.
GENRES = {
    "fantasy": "fantasy, paranormal",
    "mystery": "mystery, thriller, crime",
    "romance": "romance",
    "poetry": "poetry",
    "history": "history, historical fiction, biography",
    "children": "children",
}
SECOND_GENRES = ("fiction", "young-adult", "non-fiction", "comics, graphic")
SHELVES = {
    "fantasy": ("fantasy", "magic", "adventure", "young-adult"),
    "mystery": ("mystery", "thriller", "crime", "suspense"),
    "romance": ("romance", "contemporary", "love", "chick-lit"),
    "poetry": ("poetry", "poems", "classics", "verse"),
    "history": ("history", "historical-fiction", "biography", "war"),
    "children": ("children", "picture-books", "read-aloud", "animals"),
}
SERIES = ("Chronicles", "Trilogy", "Saga", "Mysteries", "Quartet", "Tales", "Files", "Cycle")
NAMES = ("Hollow", "Ember", "Winter", "Saltmarsh", "Raven", "Juniper", "Glass", "Copper", "Thistle", "Meridian")

PUBLISHERS = ("", "", "Lantern & Finch", "Harrow House", "Meridian Press", "Oak Tree Books", "Corvid", "Pale Harbor")

#: What each subject is called in a title.
NOUNS = {
    "lake": "Mountain Lake", "church": "Church on the Hill", "hills": "Hills", "birches": "Birch Grove",
    "windmill": "Windmill", "harbor": "Harbor", "lighthouse": "Lighthouse", "bridge": "Stone Bridge",
    "street": "Old Street", "pears": "Pear and the Jug", "apples": "Bowl of Apples", "flowers": "Bouquet",
    "fish bowl": "Goldfish", "cat": "Cat", "bird": "Songbird", "woman": "Lady", "man": "Bearded Man",
}  # fmt: skip
TITLES = (
    "The {}", "The Last {}", "The {} at Midnight", "Return to the {}", "Beyond the {}", "The Secret of the {}",
    "The {} in Winter", "A Song for the {}", "The Silent {}", "Waiting for the {}",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Writer:
    author_id: str
    name: str
    look: Look


@dataclass(frozen=True, slots=True)
class _Series:
    series_id: str
    title: str
    layout: str


@dataclass(frozen=True, slots=True)
class _Book:
    """One edition."""

    book_id: str
    work_id: str
    author: int
    writer: _Writer
    genre: str
    series: _Series | None
    number: int
    subject: str
    title: str
    edition: int
    seed: tuple[int, int]
    defect: str | None

    @property
    def full_title(self) -> str:
        return f"{self.title} ({self.series.title}, #{self.number})" if self.series else self.title

    @property
    def layout(self) -> str:
        return self.series.layout if self.series else list(LAYOUTS)[(self.author + self.edition) % len(LAYOUTS)]

    def cover(self) -> Cover:
        number = str(self.number) if self.series else ""
        return Cover(self.subject, self.writer.look, self.layout, self.title, self.writer.name, number, self.edition)


def paint_goodreads(
    folder: Path,
    *,
    items: int = 600,
    seed: int = 0,
    workers: int | None = None,
    images: bool = True,
    authors: Sequence[Author] = AUTHORS,
    words_of_style: float = 0.0,
) -> SampleReport:
    """Print covers for books by invented authors, in the format of the Goodreads book graph.

    The files depend on `items`, `seed`, `authors` and `words_of_style` only. A folder that holds them already is left
    as it is.

    Parameters
    ----------
    folder
        Gets `goodreads_books.json.gz`, `goodreads_book_authors.json.gz`, `goodreads_book_works.json.gz`,
        `goodreads_book_series.json.gz`, `goodreads_book_genres_initial.json.gz` and `images/<book_id>.jpg`.
    items
        Books. About one in seven is a further edition of another one's work; a few have no cover, or a broken one:
        see `SampleReport.defects`.
    workers
        Processes that paint; None for one per core.
    images
        False for the five files alone, which are the same then; some thousand books a second.
    authors
        Who writes (`casts.invent_authors` makes others than the usual sixteen). Of more than a few thousand books some
        are by further authors, whose covers look like theirs.
    words_of_style
        Share of the titles that also say how the cover looks, and some of these by whom the book is.

    Raises
    ------
    Graph2ImageError
        If `items` or `seed` is too small, there is no author, `words_of_style` is no share, `folder` holds other books
        or cannot be written, or the disk is full.
    """
    check_request(items, seed, authors, words_of_style)
    folder = Path(folder)
    seed = seed_of_cast(seed, authors, AUTHORS)
    # The ids of the usual cast are small; those of any other start elsewhere, so that both fit into one graph.
    first_id = 0 if tuple(authors) == AUTHORS else (1 + seed % 999_999) * 10**9
    writers = _writers(authors, items, seed, first_id)
    books = _catalog(writers, items, seed, first_id)
    defects = Counter(book.defect for book in books if book.defect)
    defects["further_edition"] = sum(book.edition > 0 for book in books)
    others = {
        "goodreads_book_authors.json.gz": _author_rows(writers, seed),
        "goodreads_book_works.json.gz": _work_rows(books, seed),
        "goodreads_book_series.json.gz": _series_rows(books),
        "goodreads_book_genres_initial.json.gz": _genre_rows(books, seed),
    }
    printed = [book for book in books if images and book.defect not in ("no_cover", "missing_file")]
    with (
        explain_write_errors(folder),
        drafted(
            folder / MAIN_FILE,
            _lines(_book_rows(books, writers[: len(authors)], seed, defects, words_of_style)),
            what="books",
        ) as draft,
    ):
        report = SampleReport(folder, items, len(books), len(printed), dict(sorted(defects.items())), True)
        if already_there(folder, MAIN_FILE, draft, [*others, *(f"{IMAGES}/{book.book_id}.jpg" for book in printed)]):
            log.info("the books in %s exist already", folder)
            return replace(report, changed=False)
        if printed:
            log.info("printing %d covers into %s", len(printed), folder)
            paint_all(partial(_save_cover, folder / IMAGES), printed, workers=workers, what="printing")
        for name, rows in others.items():
            with drafted(folder / name, _lines(rows), what=name) as other:
                other.replace(folder / name)
        draft.replace(folder / MAIN_FILE)
    return report


def _save_cover(folder: Path, book: _Book) -> None:
    content = jpeg(print_cover(book.cover(), np.random.default_rng(book.seed)))
    write_whole(folder / f"{book.book_id}.jpg", broken(content) if book.defect == "broken_image" else content)


def _lines(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    return (orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


# -- the library -----------------------------------------------------------------------------------------------------
#
# `random.Random` instead of a NumPy generator: it draws single numbers many times faster, and a row takes a hundred.


def _draws(seed: int, what: str) -> Draw:
    return Random(f"goodreads {seed} {what}").random


def _between(draw: Draw, low: int, high: int) -> int:
    """A whole number from `low` on, below `high`."""
    return low + int(draw() * (high - low))


def _pick(draw: Draw, choices: Sequence[T]) -> T:
    return choices[int(draw() * len(choices))]


def _writers(authors: Sequence[Author], items: int, seed: int, first_id: int) -> list[_Writer]:
    """The authors, and further ones in their looks if there are many books."""
    draw = _draws(seed, "authors")
    further = (author_name(draw) for _ in range(max(0, items - FEW_BOOKS) // BOOKS_PER_AUTHOR))
    names = [*(author.name for author in authors), *further]
    return [
        _Writer(str(first_id + 2_000_003 + 7919 * number), name, authors[number % len(authors)].look)
        for number, name in enumerate(names)
    ]


def _catalog(writers: Sequence[_Writer], items: int, seed: int, first_id: int) -> list[_Book]:
    """Each author's series, books that stand alone, and further editions."""
    rng = np.random.default_rng((seed, 0x600D))
    flawed = assign_defects(rng, items, DEFECTS)
    longest_step = max(16, min(60_000, 90_000_000 // (2 * items)))
    ids = [str(first_id + i) for i in np.cumsum(rng.integers(7, longest_step, 2 * items)).tolist()]
    draw = _draws(seed, "catalog")
    genres, layouts, subjects = list(GENRES), list(LAYOUTS), list(NOUNS)
    open_series: dict[int, tuple[_Series, int, int]] = {}
    editions: Counter[str] = Counter()
    books: list[_Book] = []
    for i in range(items):
        if books and draw() < EDITIONS:
            first = _pick(draw, books)
            editions[first.work_id] += 1
            edition = editions[first.work_id]
            books.append(replace(first, book_id=ids[i], edition=edition, seed=(seed, i), defect=flawed.get(i)))
            continue
        author = _between(draw, 0, len(writers))
        series, number, length = open_series.get(author, (None, 0, 0))
        if series is None or number == length:
            name = f"The {_pick(draw, NAMES)} {_pick(draw, SERIES)}"
            series = _Series(ids[items + i], name, _pick(draw, layouts))
            number, length = 0, _between(draw, 3, 8)
        in_series = draw() < 0.7
        open_series[author] = (series, number + in_series, length)
        subject = _pick(draw, subjects)
        books.append(
            _Book(
                book_id=ids[i],
                work_id=ids[items + i],
                author=author,
                writer=writers[author],
                genre=genres[author % len(genres)],
                series=series if in_series else None,
                number=number + 1,
                subject=subject,
                title=_pick(draw, TITLES).format(NOUNS[subject]),
                edition=0,
                seed=(seed, i),
                defect=flawed.get(i),
            )
        )
    return books


# -- rows as upstream has them: every scalar a string, missing is the empty string ------------------------------------


def _book_rows(
    books: Sequence[_Book], translators: Sequence[_Writer], seed: int, defects: Counter[str], words_of_style: float
) -> Iterator[dict[str, Any]]:
    draw = _draws(seed, "books")
    by_author: defaultdict[int, list[_Book]] = defaultdict(list)
    by_genre: defaultdict[str, list[_Book]] = defaultdict(list)
    for book in books:
        by_author[book.author].append(book)
        by_genre[book.genre].append(book)
    for book in books:
        similar = _similar(draw, book, by_author[book.author], by_genre[book.genre])
        gone = [str(_between(draw, 90_000_000, 99_000_000)) for _ in range(_between(draw, 0, 5))]
        defects["dangling_link"] += len(gone)
        similar += gone
        similar.sort(key=lambda _: draw())
        row = _book_row(draw, book, translators[(book.author + 5) % len(translators)], similar)
        if Random(f"goodreads {seed} share {book.book_id}").random() < words_of_style:
            for key in ("title", "title_without_series"):
                words = Random(f"goodreads {seed} words {book.book_id}")  # the same in both
                row[key] = book_with_style(words, row[key], book.writer.name, book.writer.look, book.layout)
        yield row


def _similar(draw: Draw, book: _Book, near: Sequence[_Book], shelf: Sequence[_Book]) -> list[str]:
    """Other works of the same author, or of another one in the genre."""
    found: dict[str, None] = {}
    for pool, same_author, wanted in ((near, True, _between(draw, 3, 9)), (shelf, False, _between(draw, 2, 7))):
        enough = len(found) + wanted
        for _ in range(3 * wanted):
            other = _pick(draw, pool)
            if other.work_id != book.work_id and (other.author == book.author) is same_author:
                found[other.book_id] = None
                if len(found) == enough:
                    break
    return list(found)


def _shelves(draw: Draw, genre: str) -> list[dict[str, str]]:
    """Ten to a hundred, the most used first; of most books, few are used by more than a handful of readers."""
    readers = 4 * 1000 ** (draw() ** 1.5)
    names = dict.fromkeys(sorted(SHELVES[genre], key=lambda _: draw()))
    for _ in range(9 + int(88 * draw() ** 4)):
        names[SHELVES_BY_USE[int(len(SHELVES_BY_USE) * draw() ** 4)]] = None
    used = [(int(readers / (4 * rank**1.1)) + 1, name) for rank, name in enumerate(names, 1)]
    return [{"count": str(count), "name": name} for count, name in [(int(readers) + 1, "to-read"), *used]]


def _book_row(draw: Draw, book: _Book, translator: _Writer, similar: list[str]) -> dict[str, Any]:
    ebook = book.edition > 0 and draw() < 0.3
    isbn = "" if ebook else f"{_between(draw, 0, 10**9):09d}X"
    authors = [{"author_id": book.writer.author_id, "role": ""}]
    if draw() < 0.08:
        authors.append({"author_id": translator.author_id, "role": "Translator"})
    if book.defect == "unknown_author":
        authors = [{"author_id": "99999999", "role": ""}]
    url = BOOK_URL.format(f"{book.book_id}-{book.title.lower().replace(' ', '-')}")
    return {
        "isbn": isbn,
        "text_reviews_count": str(_between(draw, 1, 300)),
        "series": [book.series.series_id] if book.series else [],
        "country_code": "US",
        "language_code": _pick(draw, ("eng", "en-US", "")),
        "popular_shelves": _shelves(draw, book.genre),
        "asin": "",
        "is_ebook": str(ebook).lower(),
        "average_rating": f"{2.8 + 2 * draw():.2f}",
        "kindle_asin": "",
        "similar_books": similar,
        "description": description(draw),
        "format": "ebook" if ebook else _pick(draw, ("Hardcover", "Paperback", "")),
        "link": url,
        "authors": authors,
        "publisher": _pick(draw, PUBLISHERS),
        "num_pages": str(_between(draw, 24, 640)),
        "publication_day": "",
        "isbn13": f"978{isbn[:9]}0" if isbn else "",
        "publication_month": str(_between(draw, 1, 13)),
        "edition_information": f"Edition {book.edition + 1}" if book.edition else "",
        "publication_year": str(_between(draw, 1980, 2018)),
        "url": url,
        "image_url": NO_COVER if book.defect == "no_cover" else IMAGE_URL.format(book.book_id),
        "book_id": book.book_id,
        "ratings_count": str(_between(draw, 1, 9000)),
        "work_id": book.work_id,
        "title": book.full_title,
        "title_without_series": book.title,
    }


def _author_rows(writers: Sequence[_Writer], seed: int) -> Iterator[dict[str, str]]:
    draw = _draws(seed, "author rows")
    for writer in writers:
        yield {
            "average_rating": f"{3 + 1.6 * draw():.2f}",
            "author_id": writer.author_id,
            "text_reviews_count": str(_between(draw, 10, 2000)),
            "name": writer.name,
            "ratings_count": str(_between(draw, 100, 40_000)),
        }


def _work_rows(books: Sequence[_Book], seed: int) -> Iterator[dict[str, str]]:
    draw = _draws(seed, "works")
    editions = Counter(book.work_id for book in books)
    for book in books:
        if book.edition == 0:
            yield {
                "books_count": str(editions[book.work_id]),
                "best_book_id": book.book_id,
                "original_publication_year": str(_between(draw, 1950, 2017)),
                "original_title": book.title,
                "media_type": "book",
                "ratings_count": str(_between(draw, 1, 9000)),
                "work_id": book.work_id,
            }


def _series_rows(books: Sequence[_Book]) -> Iterator[dict[str, str]]:
    works = Counter(book.series for book in books if book.series and book.edition == 0)
    for series, count in works.items():
        yield {
            "numbered": "true",
            "note": "",
            "description": "",
            "title": series.title,
            "series_works_count": str(count),
            "series_id": series.series_id,
            "primary_work_count": str(count),
        }


def _genre_rows(books: Sequence[_Book], seed: int) -> Iterator[dict[str, Any]]:
    """What readers' shelves amount to; the counts are numbers here."""
    draw = _draws(seed, "genres")
    for book in books:
        genres = {GENRES[book.genre]: _between(draw, 3, 400)}
        if draw() < 0.4:
            genres[_pick(draw, SECOND_GENRES)] = _between(draw, 1, 3 + genres[GENRES[book.genre]])
        yield {"book_id": book.book_id, "genres": genres}
