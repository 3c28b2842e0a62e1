"""Goodreads files as they really are: strings only, ids that lead to other files, shelves that say little."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from flat import entity_names, items, rejects
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batches import Batch
from ingest.errors import Graph2ImageError
from ingest.readers.goodreads import ITEM_COLUMNS, read_goodreads
from ingest.records import RejectReason
from ingest.sampledata import paint_goodreads

#: A row as upstream writes it.
BOOK: dict[str, Any] = {
    "isbn": "1591935857",
    "series": ["189911"],
    "country_code": "US",
    "language_code": "",
    "popular_shelves": [
        {"count": "90", "name": "to-read"},
        {"count": "12", "name": "picture-books"},
        {"count": "5", "name": "ducks"},
        {"count": "4", "name": "birds"},
    ],
    "is_ebook": "false",
    "average_rating": "4.29",
    "similar_books": ["828466", "1569211", "828466", "27036533"],
    "description": "Not the text.",
    "format": "Hardcover",
    "authors": [{"author_id": "13195", "role": ""}, {"author_id": "30853", "role": "Photographs"}],
    "publisher": "Adventurekeen",
    "num_pages": "36",
    "isbn13": "9781591935858",
    "publication_year": "2016",
    "image_url": "https://images.gr-assets.com/books/1473603845m/27036533.jpg",
    "book_id": "27036533",
    "ratings_count": "7",
    "work_id": "47077776",
    "title": "Jump, Little Wood Ducks (Ducks, #1)",
    "title_without_series": "Jump, Little Wood Ducks",
}


def read(folder: Path, *rows: Any, **options: Any) -> list[Batch]:
    """What is read of a file of these rows; text and bytes are lines as they are."""
    lines = [row if isinstance(row, bytes) else row.encode() if isinstance(row, str) else dump(row) for row in rows]
    path = folder / "file.json.gz"
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines), 1))
    return list(read_goodreads(path, **options))


def dump(row: Any) -> bytes:
    return json.dumps(row).encode()


def book(folder: Path, **values: Any) -> dict[str, Any]:
    """The one item of a row with some other values."""
    (item,) = items(read(folder, BOOK | values)).values()
    return item


# -- books -----------------------------------------------------------------------------------------------------------


def test_a_book_as_upstream_writes_it(tmp_path: Path) -> None:
    item = book(tmp_path)
    edges = item.pop("edges")
    assert item == {
        "row": 1,
        "item_id": "goodreads:27036533",
        "label": "Book",
        "title": "Jump, Little Wood Ducks (Ducks, #1)",
        "text": "Jump, Little Wood Ducks",
        "image_refs": ["https://images.gr-assets.com/books/1473603845m/27036533.jpg"],
        "source_group": "47077776",
        "source_split": None,
        "work_id": "47077776",
        "publication_year": 2016,
        "num_pages": 36,
        "average_rating": 4.29,
        "ratings_count": 7,
        "is_ebook": False,
        "language_code": None,
        "country_code": "US",
        "format": "Hardcover",
        "publisher": "Adventurekeen",
        "isbn13": "9781591935858",
    }
    assert edges == {
        ("SIMILAR_TO", None): ["goodreads:828466", "goodreads:1569211"],
        ("WRITTEN_BY", "Author"): [("13195", None), ("30853", "Photographs")],
        ("IN_SERIES", "Series"): ["189911"],
        ("EDITION_OF", "Work"): ["47077776"],
        ("ON_SHELF", "Shelf"): [("picture-books", 12.0), ("ducks", 5.0)],
    }


@pytest.mark.parametrize(
    "values",
    [
        {"book_id": 27036533, "work_id": 47077776.0, "num_pages": 36, "is_ebook": False, "average_rating": 4.29},
        {"series": ["189911", "", None], "similar_books": [828466, "1569211 ", None, {}]},
        {"popular_shelves": [None, "x", {"name": "nobody"}, {"count": 12, "name": "picture-books"},
                             {"count": "5.0", "name": " ducks"}, {"count": "many", "name": "birds"}]},
        {"authors": [{"author_id": 13195}, {"author_id": "30853", "role": " Photographs "}, {}, 5, {"author_id": ""}]},
        {"ratings_count": " 7", "publication_year": "2016.0"},
    ],
)  # fmt: skip
def test_other_types_mean_the_same(tmp_path: Path, values: dict[str, Any]) -> None:
    assert book(tmp_path, **values) == book(tmp_path)


def test_missing_is_empty_or_absent(tmp_path: Path) -> None:
    scalars = dict.fromkeys((*ITEM_COLUMNS.names, "title_without_series", "image_url"), "")
    lists: dict[str, Any] = {"similar_books": [], "series": [], "authors": [], "popular_shelves": []}
    empty = book(tmp_path, **scalars, **lists)
    assert empty["text"] == empty["title"] == BOOK["title"]
    assert empty["image_refs"] == []
    assert empty["edges"] == {}
    assert all(empty[name] is None for name in (*ITEM_COLUMNS.names, "source_group"))
    # Keys must be known for the file to be told; later rows may lack any but the id.
    found = items(read(tmp_path, BOOK, {"book_id": "7"}, {"book_id": "8", "title": None, "authors": None}))
    for number in (7, 8):
        assert found[f"goodreads:{number}"]["edges"] == {}
        assert found[f"goodreads:{number}"]["text"] is None


@pytest.mark.parametrize(
    ("values", "column", "expected"),
    [
        ({"num_pages": "ca. 300"}, "num_pages", None),
        ({"num_pages": "9" * 30}, "num_pages", None),
        ({"num_pages": "12.7"}, "num_pages", 12),
        ({"average_rating": "nan"}, "average_rating", None),
        ({"average_rating": "1e999"}, "average_rating", None),
        ({"is_ebook": "true"}, "is_ebook", True),
        ({"is_ebook": "perhaps"}, "is_ebook", None),
        ({"title": "  The\n  Way "}, "title", "The Way"),
        ({"title_without_series": " "}, "text", BOOK["title"]),
        ({"image_url": "https://s.gr-assets.com/assets/nophoto/book/111x148-bcc0.png"}, "image_refs", []),
        ({"work_id": ""}, "source_group", None),
    ],
)
def test_odd_values(tmp_path: Path, values: dict[str, Any], column: str, expected: object) -> None:
    assert book(tmp_path, **values)[column] == expected


def test_shelves_count_from_a_threshold(tmp_path: Path) -> None:
    def shelves(least: int) -> Any:
        (item,) = items(read(tmp_path, BOOK, min_shelf_count=least)).values()
        return item["edges"].get(("ON_SHELF", "Shelf"), [])

    assert shelves(0) == [("picture-books", 12.0), ("ducks", 5.0), ("birds", 4.0)]
    assert shelves(12) == [("picture-books", 12.0)]
    assert shelves(13) == []


def test_bad_rows_are_rejected_and_the_others_kept(tmp_path: Path) -> None:
    batches = read(
        tmp_path,
        BOOK,
        "",
        b'{"book_id": "2", "title": "caf\xe9"}',
        '{"book_id": "3", "title": ',
        BOOK | {"book_id": " "},
        "[]",
        '{"book_id": "4", "title": "\\ud800"}',
        BOOK | {"book_id": "5"},
        b'{"book_id": "6"}\r',
        b"\0",
        '{"book_id": "7"} {"book_id": "8"}',
    )
    assert {id_: item["row"] for id_, item in items(batches).items()} == {
        "goodreads:27036533": 1,
        "goodreads:4": 7,
        "goodreads:5": 8,
        "goodreads:6": 9,
    }
    assert sorted((r.row or 0, r.reason) for r in rejects(batches)) == [
        (3, RejectReason.BAD_ENCODING),
        (4, RejectReason.MALFORMED_ROW),
        (5, RejectReason.MISSING_ID),
        (6, RejectReason.MALFORMED_ROW),
        (10, RejectReason.MALFORMED_ROW),
        (11, RejectReason.MALFORMED_ROW),
    ]
    assert all(r.file == "file.json.gz" and r.raw for r in rejects(batches))


def test_bad_encoding_counts_in_any_field(tmp_path: Path) -> None:
    bad = dump(BOOK).replace(b"Not the text", b"caf\xe9")
    assert [r.reason for r in rejects(read(tmp_path, BOOK, bad))] == [RejectReason.BAD_ENCODING]


@pytest.mark.parametrize("key", ["series", "unread"])
def test_deep_nesting_is_no_way_to_stop_the_reader(tmp_path: Path, key: str) -> None:
    deep = b'{"book_id": "2", "%s": ' % key.encode() + b"[" * 1_000_000
    batches = read(tmp_path, BOOK, deep, BOOK | {"book_id": "3"})
    assert list(items(batches)) == ["goodreads:27036533", "goodreads:3"]
    assert [(r.row, r.reason) for r in rejects(batches)] == [(2, RejectReason.MALFORMED_ROW)]


def test_a_row_without_id_is_rejected_among_good_ones(tmp_path: Path) -> None:
    rows = [BOOK | {"book_id": "1"}, BOOK | {"book_id": ""}, BOOK | {"book_id": "3", "similar_books": ["1"]}]
    batches = read(tmp_path, *rows)
    (reject,) = rejects(batches)
    assert (reject.row, reject.reason, reject.raw) == (2, RejectReason.MISSING_ID, dump(rows[1]))
    found = items(batches)
    assert found["goodreads:3"]["row"] == 3
    assert found["goodreads:3"]["edges"]["SIMILAR_TO", None] == ["goodreads:1"]
    assert [raw for batch in batches for raw in batch.raw_rows] == [dump(rows[0]), dump(rows[2])]


# Text that JSON can carry: no half of a surrogate pair.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
upstream_rows = st.fixed_dictionaries(
    {
        **dict.fromkeys(ITEM_COLUMNS.names, texts | st.integers().map(str) | st.floats().map(str)),
        "book_id": st.integers(1, 99).map(str) | texts,
        "is_ebook": st.sampled_from(["true", "false", ""]),
        "title": texts,
        "title_without_series": texts,
        "image_url": texts,
        "similar_books": st.lists(st.integers(1, 9).map(str) | texts, max_size=4),
        "series": st.lists(texts, max_size=2),
        "authors": st.lists(st.fixed_dictionaries({"author_id": texts, "role": texts}), max_size=3),
        "popular_shelves": st.lists(
            st.fixed_dictionaries({"count": st.integers(-1, 50).map(str) | texts, "name": texts}), max_size=4
        ),
    }
)


@settings(max_examples=80)
@given(st.lists(upstream_rows, max_size=5))
def test_a_bad_line_among_them_does_not_change_what_is_read_of_the_others(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    """Blocks with a bad line are read in another way."""

    def content(batches: list[Batch]) -> list[Any]:
        (batch,) = batches
        edges = [
            (edges.type, edges.items.to_pylist(), edges.targets.to_pylist(), *map(str, (edges.weights, edges.roles)))
            for edges in batch.edges
        ]
        return [batch.items.to_pylist(), edges, [r.row for r in batch.rejects if r.row != len(rows) + 2]]

    assert content(read(tmp_path, BOOK, *rows)) == content(read(tmp_path, BOOK, *rows, "{"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["count", "name", "author_id", "role", "genre"]) | st.text(max_size=2), inner, max_size=3
        )
    ),
    max_leaves=8,
)
FILES: tuple[dict[str, Any], ...] = (
    BOOK,
    {"book_id": "1", "genres": {}},
    {"author_id": "1", "name": "A"},
    {"work_id": "1", "best_book_id": "2", "original_title": "W"},
    {"series_id": "1", "title": "S"},
)


@settings(max_examples=150)
@given(st.data())
def test_no_value_breaks_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    first = data.draw(st.sampled_from(FILES))
    any_row = st.fixed_dictionaries({}, optional=dict.fromkeys(first, json_values))
    rows = data.draw(st.lists(any_row | json_values, max_size=4))
    batches = read(tmp_path, first, *map(dump, rows))
    if first is BOOK:
        assert sum(len(batch.items) for batch in batches) + len(rejects(batches)) == 1 + len(rows)
    for batch in batches:
        batch.items.validate(full=True)
        for edges in batch.edges:
            assert len(edges.items) == len(edges.targets)
            assert None not in edges.targets.to_pylist()


# -- the other files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [{"author_id": "7", "name": " Kat  Menschik", "ratings_count": "1"}, {"author_id": 8, "name": "B"}],
            {("Author", "7"): "Kat Menschik", ("Author", "8"): "B"},
        ),
        (
            [
                {"work_id": "5", "best_book_id": "1", "original_title": "Der Weg"},
                {"work_id": "6", "best_book_id": "2", "original_title": ""},
            ],
            {("Work", "5"): "Der Weg"},
        ),
        ([{"series_id": "9", "title": "\n Ducks ", "note": ""}], {("Series", "9"): "Ducks"}),
    ],
)
def test_names(tmp_path: Path, rows: list[dict[str, Any]], expected: dict[tuple[str, str], str]) -> None:
    batches = read(tmp_path, *rows, {"name": "nobody"}, "{")
    assert entity_names(batches) == expected
    assert not items(batches)
    assert [(r.row, r.reason) for r in rejects(batches)] == [
        (len(rows) + 1, RejectReason.MISSING_ID),
        (len(rows) + 2, RejectReason.MALFORMED_ROW),
    ]


@pytest.mark.parametrize(
    ("genres", "expected"),
    [
        ({"poetry": 9, "history, biography": "2"}, [("poetry", 9.0), ("history, biography", 2.0)]),
        (["poetry", " ", None], [("poetry", 1.0)]),
        ([{"name": "poetry", "count": "3"}, {"genre": "crime"}], [("poetry", 3.0), ("crime", 1.0)]),
        ({"poetry": 0, "crime": -1, "": 3, "romance": "?"}, [("romance", 1.0)]),
        ({}, []),
        ("poetry", []),
        (None, []),
    ],
)
def test_genres_are_relations_of_books_that_are_elsewhere(
    tmp_path: Path, genres: Any, expected: list[tuple[str, float]]
) -> None:
    batches = read(tmp_path, {"book_id": "5333265", "genres": genres}, {"genres": {"crime": 1}})
    assert not items(batches)
    assert [r.reason for r in rejects(batches)] == [RejectReason.MISSING_ID]
    assert [row for batch in batches for row in batch.item_edges.to_pylist()] == [
        {"type": "IN_GENRE", "item_id": "goodreads:5333265", "label": "Genre", "key": name, "weight": weight}
        for name, weight in expected
    ]


@pytest.mark.parametrize(
    ("rows", "message", "hint"),
    [
        (
            [{"user_id": "u", "book_id": "1", "review_id": "r", "rating": 5}],
            "Goodreads interactions",
            "goodreads_books",
        ),
        ([{"user_id": "u", "book_id": "1", "review_text": "?"}], "Goodreads reviews", "goodreads_books"),
        ([{"book_id": "1", "review_sentences": [], "review_id": "r"}], "Goodreads reviews", "goodreads_books"),
        (["user_id,book_id,is_read,rating,is_reviewed", "0,1,1,5,0"], "Goodreads interactions", "goodreads_books"),
        (["book_id_csv,book_id", "0,34684622"], "a map of Goodreads ids", "goodreads_books"),
        ([{"asin": "B000", "title": "A mug"}], "holds Amazon product metadata", "graph2image ingest amazon"),
        (["title,author", "The Way,me"], "does not hold Goodreads books", "goodreads_books"),
        (["", " "], "no row that can be read", "blank"),
    ],
)
def test_other_files_are_an_error(tmp_path: Path, rows: list[Any], message: str, hint: str) -> None:
    with pytest.raises(Graph2ImageError, match=message) as caught:
        read(tmp_path, *rows)
    assert hint in str(caught.value.hint)


def test_a_review_among_books_is_none(tmp_path: Path) -> None:
    review = {"user_id": "u", "book_id": "1", "review_id": "r", "review_text": "Good."}
    batches = read(tmp_path, BOOK, BOOK | {"book_id": "5"}, review)
    assert set(items(batches)) == {"goodreads:27036533", "goodreads:5"}
    assert [(reject.row, reject.reason) for reject in rejects(batches)] == [(3, RejectReason.WRONG_KIND)]


def test_many_bad_rows_do_not_hide_what_a_file_is(tmp_path: Path) -> None:
    assert list(items(read(tmp_path, *["bad"] * 50, BOOK))) == ["goodreads:27036533"]


def test_titles_are_what_a_browser_shows(tmp_path: Path) -> None:
    book = BOOK | {"title": "Ducks &amp; <i>Geese</i> (Birds, #1)", "title_without_series": "Ducks<br/>&amp; Geese"}
    (item,) = items(read(tmp_path, book)).values()
    assert (item["title"], item["text"]) == ("Ducks & Geese (Birds, #1)", "Ducks & Geese")


def test_what_a_file_is_shows_in_any_of_its_first_rows(tmp_path: Path) -> None:
    assert list(items(read(tmp_path, "{", "[1]", {"x": 1}, BOOK)))[-1] == "goodreads:27036533"


def test_the_sample_data_reads_completely_with_any_number_of_workers(tmp_path: Path) -> None:
    report = paint_goodreads(tmp_path, items=300, seed=1, images=False)
    assert report.images == 0
    main = tmp_path / "goodreads_books.json.gz"
    books = items(read_goodreads(main))
    assert len(books) == report.items
    assert sum(not book["image_refs"] for book in books.values()) == report.defects["no_cover"]
    assert items(read_goodreads(main, 2)) == books
    links = {link for book in books.values() for link in book["edges"].get(("SIMILAR_TO", None), [])}
    assert 0 < len(links - books.keys()) <= report.defects["dangling_link"]
    keys = {
        (label, target[0] if isinstance(target, tuple) else target)
        for book in books.values()
        for (_, label), targets in book["edges"].items()
        for target in targets
    }
    for name, label in (("authors", "Author"), ("works", "Work"), ("series", "Series")):
        names = entity_names(read_goodreads(tmp_path / f"goodreads_book_{name}.json.gz"))
        used = {key for key in keys if key[0] == label}
        assert used - names.keys() <= {("Author", "99999999")}
    genres = read_goodreads(tmp_path / "goodreads_book_genres_initial.json.gz")
    assert {row["item_id"] for batch in genres for row in batch.item_edges.to_pylist()} == books.keys()


@pytest.mark.skipif("GRAPH2IMAGE_SHARED" not in os.environ, reason="needs real rows")
def test_real_rows() -> None:
    samples = Path(os.environ["GRAPH2IMAGE_SHARED"]) / "samples"
    (item,) = items(read_goodreads(samples / "goodreads_books.jsonl", min_shelf_count=2)).values()
    assert item["text"] == "Jump, Little Wood Ducks"
    assert item["edges"]["ON_SHELF", "Shelf"] == [("picture-books", 2.0), ("ducks", 2.0)]
    assert entity_names(read_goodreads(samples / "goodreads_authors.jsonl")) == {("Author", "2943855"): "Kat Menschik"}
