"""Books in the format of the Goodreads book graph: books, authors, works, series, genres, and covers.

A title says what is on the cover; the author decides its colors and technique, the series its layout.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ingest.sampledata.covers import LAYOUTS, LOOKS, Cover, print_cover
from ingest.sampledata.defects import assign_defects, broken
from ingest.sampledata.writing import (
    SampleReport,
    already_there,
    check_request,
    explain_write_errors,
    gzipped,
    jpeg,
    paint_all,
    write_whole,
)

log = logging.getLogger(__name__)

MAIN_FILE = "goodreads_books.json.gz"
IMAGES = "images"
#: Addresses of the real shape on a host that cannot exist.
IMAGE_URL = "https://images.example/books/1473603845m/{}.jpg"
NO_COVER = "https://images.example/assets/nophoto/book/111x148-bcc042a9c91a29c1d680899eff700a03.png"
BOOK_URL = "https://www.goodreads.example/book/show/{}"

#: Share of the books that carries each defect of the real files; and how many are further editions of a work.
DEFECTS = {"no_cover": 0.030, "missing_file": 0.010, "broken_image": 0.005, "unknown_author": 0.005}
EDITIONS = 0.15

AUTHORS = (
    "Marguerite Holloway", "Tobias Renn", "Ingrid Solberg", "Caspian Doyle", "Lucía Ferrante", "Emre Aydın",
    "Odette Marchand", "Wilhelm Krause", "Nkechi Obiora", "Saoirse Quinlan", "Hollis Pemberton", "Yuki Tanabe",
    "Rafael Quintana", "Dorothea Blackwood", "Priya Raman", "August Lindqvist",
)  # fmt: skip
GENRES = ("fantasy", "mystery", "romance", "poetry", "history", "children")
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


@dataclass(frozen=True)
class _Series:
    series_id: str
    title: str
    layout: str


@dataclass(frozen=True)
class _Book:
    """One edition."""

    book_id: str
    work_id: str
    author: int
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

    def cover(self) -> Cover:
        layout = self.series.layout if self.series else list(LAYOUTS)[(self.author + self.edition) % len(LAYOUTS)]
        number = str(self.number) if self.series else ""
        return Cover(self.subject, LOOKS[self.author], layout, self.title, AUTHORS[self.author], number, self.edition)


def paint_goodreads(folder: Path, *, items: int = 600, seed: int = 0, workers: int | None = None) -> SampleReport:
    """Print covers for books by sixteen invented authors, in the format of the Goodreads book graph.

    The files depend on `items` and `seed` only. A folder that holds them already is left as it is.

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

    Raises
    ------
    Graph2ImageError
        If `items` or `seed` is too small, `folder` holds other books or cannot be written, or the disk is full.
    """
    check_request(items, seed)
    folder = Path(folder)
    rng = np.random.default_rng((seed, 0x600D))
    books = _catalog(rng, items, seed)
    defects = Counter(book.defect for book in books if book.defect)
    defects["further_edition"] = sum(book.edition > 0 for book in books)
    content = _lines(_book_row(book, _similar(rng, books, book, defects), rng) for book in books)
    others = {
        "goodreads_book_authors.json.gz": _lines(_author_row(i, rng) for i in range(len(AUTHORS))),
        "goodreads_book_works.json.gz": _lines(_work_rows(books, rng)),
        "goodreads_book_series.json.gz": _lines(_series_rows(books)),
        "goodreads_book_genres_initial.json.gz": _lines(
            {"book_id": book.book_id, "genres": {book.genre: int(rng.integers(3, 400))}} for book in books
        ),
    }
    printed = [book for book in books if book.defect not in ("no_cover", "missing_file")]
    report = SampleReport(folder, items, len(books), len(printed), dict(sorted(defects.items())), True)
    with explain_write_errors(folder):
        if already_there(folder, MAIN_FILE, content, [*others, *(f"{IMAGES}/{book.book_id}.jpg" for book in printed)]):
            log.info("the books in %s are there already", folder)
            return replace(report, changed=False)
        log.info("printing %d covers into %s", len(printed), folder)
        paint_all(partial(_save_cover, folder / IMAGES), printed, workers=workers, what="printing")
        for name, rows in others.items():
            write_whole(folder / name, rows)
        write_whole(folder / MAIN_FILE, content)
    return report


def _save_cover(folder: Path, book: _Book) -> None:
    content = jpeg(print_cover(book.cover(), np.random.default_rng(book.seed)))
    write_whole(folder / f"{book.book_id}.jpg", broken(content) if book.defect == "broken_image" else content)


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return gzipped(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def _catalog(rng: np.random.Generator, items: int, seed: int) -> list[_Book]:
    """Each author's series, books that stand alone, and further editions."""
    flawed = assign_defects(rng, items, DEFECTS)
    ids = [str(i) for i in np.cumsum(rng.integers(7, 60_000, 2 * items)).tolist()]
    subjects = list(NOUNS)
    open_series: dict[int, tuple[_Series, int, int]] = {}
    books: list[_Book] = []
    for i in range(items):
        if books and rng.random() < EDITIONS:
            first = books[int(rng.integers(len(books)))]
            editions = sum(book.work_id == first.work_id for book in books)
            books.append(replace(first, book_id=ids[i], edition=editions, seed=(seed, i), defect=flawed.get(i)))
            continue
        author = int(rng.integers(len(AUTHORS)))
        series, number, length = open_series.get(author, (None, 0, 0))
        if series is None or number == length:
            name = f"The {NAMES[int(rng.integers(len(NAMES)))]} {SERIES[int(rng.integers(len(SERIES)))]}"
            series = _Series(ids[items + i], name, list(LAYOUTS)[int(rng.integers(len(LAYOUTS)))])
            number, length = 0, int(rng.integers(3, 8))
        in_series = bool(rng.random() < 0.7)
        open_series[author] = (series, number + in_series, length)
        subject = subjects[int(rng.integers(len(subjects)))]
        books.append(
            _Book(
                book_id=ids[i],
                work_id=ids[items + i],
                author=author,
                genre=GENRES[author % len(GENRES)],
                series=series if in_series else None,
                number=number + 1,
                subject=subject,
                title=TITLES[int(rng.integers(len(TITLES)))].format(NOUNS[subject]),
                edition=0,
                seed=(seed, i),
                defect=flawed.get(i),
            )
        )
    return books


def _similar(rng: np.random.Generator, books: list[_Book], book: _Book, defects: Counter[str]) -> list[str]:
    """Books of the same author or series, of the same genre, and some that are not in the file."""
    near = [b.book_id for b in books if b.author == book.author and b.work_id != book.work_id]
    shelf = [b.book_id for b in books if b.genre == book.genre and b.author != book.author]
    picked: list[str] = []
    for pool, count in ((near, int(rng.integers(2, 7))), (shelf, int(rng.integers(1, 5)))):
        picked += rng.choice(pool, min(count, len(pool)), replace=False).tolist() if pool else []
    gone = [str(i) for i in rng.integers(90_000_000, 99_000_000, int(rng.integers(0, 5))).tolist()]
    defects["dangling_link"] += len(gone)
    picked += gone
    return [picked[i] for i in rng.permutation(len(picked))]


def _book_row(book: _Book, similar: list[str], rng: np.random.Generator) -> dict[str, Any]:
    """A row as upstream has it: every scalar a string, missing is the empty string."""
    shelves = [{"count": str(int(rng.integers(20, 900))), "name": "to-read"}]
    for name in SHELVES[book.genre]:
        shelves.append({"count": str(int(rng.integers(2, 90))), "name": name})
    ebook = book.edition > 0 and rng.random() < 0.3
    isbn = "" if ebook else f"{int(rng.integers(0, 10**9)):09d}X"
    authors = [{"author_id": _author_id(book.author), "role": ""}]
    if rng.random() < 0.08:
        second = (book.author + 5) % len(AUTHORS)
        authors.append({"author_id": _author_id(second), "role": "Translator"})
    if book.defect == "unknown_author":
        authors = [{"author_id": "99999999", "role": ""}]
    url = BOOK_URL.format(f"{book.book_id}-{book.title.lower().replace(' ', '-')}")
    return {
        "isbn": isbn,
        "text_reviews_count": str(int(rng.integers(1, 300))),
        "series": [book.series.series_id] if book.series else [],
        "country_code": "US",
        "language_code": ("eng", "en-US", "")[int(rng.integers(3))],
        "popular_shelves": shelves,
        "asin": "",
        "is_ebook": str(ebook).lower(),
        "average_rating": f"{rng.uniform(2.8, 4.8):.2f}",
        "kindle_asin": "",
        "similar_books": similar,
        "description": f"A story of {book.title.lower()}.",
        "format": "ebook" if ebook else ("Hardcover", "Paperback", "")[int(rng.integers(3))],
        "link": url,
        "authors": authors,
        "publisher": "",
        "num_pages": str(int(rng.integers(24, 640))),
        "publication_day": "",
        "isbn13": f"978{isbn[:9]}0" if isbn else "",
        "publication_month": str(int(rng.integers(1, 13))),
        "edition_information": f"Edition {book.edition + 1}" if book.edition else "",
        "publication_year": str(int(rng.integers(1980, 2018))),
        "url": url,
        "image_url": NO_COVER if book.defect == "no_cover" else IMAGE_URL.format(book.book_id),
        "book_id": book.book_id,
        "ratings_count": str(int(rng.integers(1, 9000))),
        "work_id": book.work_id,
        "title": book.full_title,
        "title_without_series": book.title,
    }


def _author_id(author: int) -> str:
    return str(2_000_003 + 7919 * author)


def _author_row(author: int, rng: np.random.Generator) -> dict[str, str]:
    return {
        "average_rating": f"{rng.uniform(3, 4.6):.2f}",
        "author_id": _author_id(author),
        "text_reviews_count": str(int(rng.integers(10, 2000))),
        "name": AUTHORS[author],
        "ratings_count": str(int(rng.integers(100, 40_000))),
    }


def _work_rows(books: list[_Book], rng: np.random.Generator) -> Iterable[dict[str, str]]:
    editions = Counter(book.work_id for book in books)
    for book in books:
        if book.edition == 0:
            yield {
                "books_count": str(editions[book.work_id]),
                "best_book_id": book.book_id,
                "original_publication_year": str(int(rng.integers(1950, 2017))),
                "original_title": book.title,
                "media_type": "book",
                "ratings_count": str(int(rng.integers(1, 9000))),
                "work_id": book.work_id,
            }


def _series_rows(books: list[_Book]) -> Iterable[dict[str, str]]:
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
