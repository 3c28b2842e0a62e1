"""Goodreads sample data: strings only, series and editions, similar books that dangle, covers and placeholders."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ingest.errors import Graph2ImageError
from ingest.sampledata import SampleReport, paint_goodreads
from ingest.sampledata.goodreads import AUTHORS
from ingest.sampledata.scenes import SUBJECTS

ITEMS = 64


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> SampleReport:
    return paint_goodreads(tmp_path_factory.mktemp("library"), items=ITEMS, seed=2, workers=2)


def rows_of(report: SampleReport, name: str) -> list[dict[str, Any]]:
    with gzip.open(report.folder / f"goodreads_{name}.json.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def scalars(value: object) -> list[object]:
    if isinstance(value, dict):
        return [scalar for item in value.values() for scalar in scalars(item)]
    if isinstance(value, list):
        return [scalar for item in value for scalar in scalars(item)]
    return [value]


def test_every_scalar_is_a_string(library: SampleReport) -> None:
    books = rows_of(library, "books")
    assert len(books) == len({book["book_id"] for book in books}) == ITEMS == library.items == library.rows
    for name in ("books", "book_authors", "book_works", "book_series"):
        assert all(isinstance(value, str) for row in rows_of(library, name) for value in scalars(row))
    assert {book["is_ebook"] for book in books} <= {"true", "false"}


def test_ids_lead_to_the_other_files(library: SampleReport) -> None:
    books = rows_of(library, "books")
    authors = {row["author_id"]: row["name"] for row in rows_of(library, "book_authors")}
    assert set(authors.values()) == {author.name for author in AUTHORS}
    unknown = sum(book["authors"][0]["author_id"] not in authors for book in books)
    assert unknown == library.defects["unknown_author"] > 0
    assert {book["work_id"] for book in books} == {row["work_id"] for row in rows_of(library, "book_works")}
    series = {row["series_id"]: row["title"] for row in rows_of(library, "book_series")}
    assert any(book["series"] for book in books)
    for book in books:
        assert all(name in series for name in book["series"])
        if book["series"]:
            assert book["title"].startswith(f"{book['title_without_series']} ({series[book['series'][0]]}, #")
    assert {row["book_id"] for row in rows_of(library, "book_genres_initial")} == {book["book_id"] for book in books}


def test_editions_share_a_work_and_differ_in_cover(library: SampleReport) -> None:
    books = rows_of(library, "books")
    works = Counter(book["work_id"] for book in books)
    assert len(books) - len(works) == library.defects["further_edition"] > 0
    work, _ = works.most_common(1)[0]
    files = [library.folder / "images" / f"{book['book_id']}.jpg" for book in books if book["work_id"] == work]
    covers = [file.read_bytes() for file in files if file.exists()]
    assert len(set(covers)) == len(covers)
    assert len({book["title"] for book in books if book["work_id"] == work}) == 1


def test_similar_books_share_author_or_genre_or_dangle(library: SampleReport) -> None:
    books = {book["book_id"]: book for book in rows_of(library, "books")}
    genres = {row["book_id"]: next(iter(row["genres"])) for row in rows_of(library, "book_genres_initial")}
    dangling = 0
    for book_id, book in books.items():
        for other in book["similar_books"]:
            if other in books:
                assert books[other]["work_id"] != book["work_id"]
                assert genres[other] == genres[book_id]
            else:
                dangling += 1
    assert dangling == library.defects["dangling_link"] > 0


def test_covers_and_placeholders(library: SampleReport) -> None:
    books = rows_of(library, "books")
    placeholders = [book for book in books if "/assets/nophoto/book/" in book["image_url"]]
    assert len(placeholders) == library.defects["no_cover"] > 0
    assert not any((library.folder / "images" / f"{book['book_id']}.jpg").exists() for book in placeholders)
    wanted = {book["image_url"].rsplit("/", 1)[1] for book in books} - {
        book["image_url"].rsplit("/", 1)[1] for book in placeholders
    }
    files = {path.name for path in (library.folder / "images").iterdir()}
    assert files < wanted
    assert len(wanted - files) == library.defects["missing_file"]
    broken = 0
    for file in files:
        try:
            with Image.open(library.folder / "images" / file) as image:
                image.load()
                assert min(image.size) >= 64
        except OSError:
            broken += 1
    assert broken == library.defects["broken_image"]


def test_titles_say_what_is_on_the_cover(library: SampleReport) -> None:
    titles = {book["title_without_series"] for book in rows_of(library, "books")}
    assert not any(author.name.split()[-1] in title for author in AUTHORS for title in titles)
    assert len(titles) > 2 * len(SUBJECTS)


def test_rows_are_as_long_as_real_ones(library: SampleReport) -> None:
    for book in rows_of(library, "books"):
        assert 300 <= len(book["description"]) <= 800
        counts = [int(shelf["count"]) for shelf in book["popular_shelves"]]
        assert 10 <= len(counts) <= 100
        assert counts == sorted(counts, reverse=True)
        assert len({shelf["name"] for shelf in book["popular_shelves"]}) == len(counts)


def test_without_images_the_rows_are_the_same(library: SampleReport, tmp_path: Path) -> None:
    report = paint_goodreads(tmp_path, items=ITEMS, seed=2, images=False)
    assert (report.images, report.rows, report.defects) == (0, library.rows, library.defects)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == sorted(path.name for path in library.folder.glob("*.gz"))
    assert all((tmp_path / file).read_bytes() == (library.folder / file).read_bytes() for file in files)
    assert not paint_goodreads(tmp_path, items=ITEMS, seed=2, images=False).changed


def test_many_books_have_many_authors(tmp_path: Path) -> None:
    report = paint_goodreads(tmp_path, items=5_000, images=False)
    authors = {row["author_id"] for row in rows_of(report, "book_authors")}
    assert len(authors) > 2 * len(AUTHORS)
    used = {author["author_id"] for book in rows_of(report, "books") for author in book["authors"]}
    assert len(used - authors) == 1


@pytest.mark.slow
def test_same_request_same_bytes_and_a_second_run_is_unchanged(library: SampleReport, tmp_path: Path) -> None:
    again = paint_goodreads(tmp_path, items=ITEMS, seed=2, workers=1)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((tmp_path / file).read_bytes() == (library.folder / file).read_bytes() for file in files)
    assert again.changed
    assert not paint_goodreads(tmp_path, items=ITEMS, seed=2).changed
    with pytest.raises(Graph2ImageError, match="is not this sample data"):
        paint_goodreads(tmp_path, items=ITEMS, seed=3)
