"""The Amazon reader: three releases in two notations, the oddities of each, and rows that nobody foresaw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from flat import entity_names, entity_relations, items, rejects
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batches import Batch
from ingest.errors import Graph2ImageError
from ingest.readers.amazon import MAX_CATEGORY_DEPTH, read_amazon
from ingest.readers.literals import MAX_LITERAL_BYTES
from ingest.records import RejectReason
from ingest.sampledata import paint_amazon
from ingest.sampledata.amazon import MAIN_FILES
from ingest.sampledata.products import BRANDS

WEB = "https://m.example/images/I/"
BRAND, CATEGORY = ("BY_BRAND", "Brand"), ("IN_CATEGORY", "Category")

ROW_2014 = {
    "asin": "0007000013",
    "categories": [["Books"]],
    "description": "A hymnal that 'everyone' knows.",
    "title": "The Hymnal: Pew Edition",
    "price": 13.5,
    "salesRank": {"Books": 2875},
    "imUrl": "http://ecx.example/images/I/31AAA.jpg",
    "related": {"also_viewed": ["0814600001"], "buy_after_viewing": ["0809100002", "0809100003"]},
}
ROW_2018 = {
    "category": ["Pet Supplies", "Dogs"],
    "tech1": "",
    "description": ["Recipes for dogs.", "", ""],
    "fit": "",
    "title": "Dog Biscuit Cookbook",
    "also_buy": [],
    "image": [f"{WEB}41aaa._SS40_.jpg", f"{WEB}41bbb._SS40_.jpg"],
    "tech2": "",
    "brand": "Good Boy",
    "feature": ["Recipe book", "Indoor/outdoor use"],
    "rank": "190,234 in Pet Supplies (",
    "also_view": ["B075000001", "1604000002"],
    "main_cat": "Pet Supplies",
    "similar_item": "",
    "date": "",
    "price": "$7.86",
    "asin": "0615000005",
}
ROW_2023 = {
    "main_category": "AMAZON FASHION",
    "title": "Zip Coverup",
    "average_rating": 4.2,
    "rating_number": 422,
    "features": [],
    "description": [],
    "price": 31.99,
    "images": [
        {"thumb": f"{WEB}31s._SR38_.jpg", "large": f"{WEB}31s.jpg", "variant": "PT01", "hi_res": None},
        {"thumb": f"{WEB}31+m._SR38_.jpg", "large": f"{WEB}31+m.jpg", "variant": "MAIN", "hi_res": f"{WEB}61m.jpg"},
    ],
    "videos": [],
    "store": "WAVELEAF",
    "categories": [],
    "details": {},
    "parent_asin": "B09X000001",
    "bought_together": None,
}


def read(folder: Path, *lines: bytes | dict[str, Any]) -> list[Batch]:
    path = folder / "meta.jsonl"
    path.write_bytes(b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines))
    return list(read_amazon(path))


def read_one(folder: Path, row: bytes | dict[str, Any]) -> dict[str, Any]:
    batches = read(folder, row)
    assert not rejects(batches)
    (item,) = items(batches).values()
    return item


def literal(row: dict[str, Any]) -> bytes:
    return repr(row).encode()


# -- The three releases ------------------------------------------------------------------------------------------------


def test_a_row_of_2014(tmp_path: Path) -> None:
    item = read_one(tmp_path, literal(ROW_2014))
    assert item["item_id"] == "amazon:0007000013"
    assert item["label"] == "Product"
    assert item["title"] == item["text"] == "The Hymnal: Pew Edition"
    assert (item["release"], item["price"], item["main_category"]) == (2014, 13.5, None)
    assert item["image_refs"] == ["http://ecx.example/images/I/31AAA.jpg"]
    assert item["edges"] == {
        CATEGORY: ["Books"],
        ("CO_VIEWED", None): ["amazon:0814600001"],
        ("BOUGHT_AFTER_VIEWING", None): ["amazon:0809100002", "amazon:0809100003"],
    }


def test_a_row_of_2018(tmp_path: Path) -> None:
    item = read_one(tmp_path, ROW_2018)
    assert item["item_id"] == "amazon:0615000005"
    assert (item["release"], item["price"], item["main_category"]) == (2018, 7.86, "Pet Supplies")
    assert (item["rating"], item["rating_count"]) == (None, None)
    assert item["image_refs"] == [f"{WEB}41aaa.jpg", f"{WEB}41aaa._SS40_.jpg"]
    assert item["edges"] == {
        BRAND: ["Good Boy"],
        CATEGORY: ["Pet Supplies > Dogs"],
        ("CO_VIEWED", None): ["amazon:B075000001", "amazon:1604000002"],
    }


def test_a_row_of_2023(tmp_path: Path) -> None:
    item = read_one(tmp_path, ROW_2023)
    assert item["item_id"] == "amazon:B09X000001"
    assert (item["release"], item["price"], item["main_category"]) == (2023, 31.99, "AMAZON FASHION")
    assert (item["rating"], item["rating_count"]) == (4.2, 422)
    assert item["image_refs"] == [f"{WEB}61m.jpg", f"{WEB}31+m.jpg", f"{WEB}31+m._SR38_.jpg"]
    assert item["edges"] == {BRAND: ["WAVELEAF"], CATEGORY: ["AMAZON FASHION"]}


def test_the_release_shows_in_the_rows_whatever_the_file_is_called(tmp_path: Path) -> None:
    for row, release in ((literal(ROW_2014), 2014), (ROW_2014, 2014), (ROW_2018, 2018), (ROW_2023, 2023)):
        assert read_one(tmp_path, row)["release"] == release


def test_a_row_may_have_keys_of_another_release(tmp_path: Path) -> None:
    odd = {key: value for key, value in ROW_2023.items() if key != "parent_asin"} | {"asin": "B0ODD00001"}
    others = [ROW_2023 | {"parent_asin": f"B0OTHER00{i}"} for i in range(3)]
    found = items(read(tmp_path, odd, ROW_2023, ROW_2018, ROW_2014, *others))
    assert [item["release"] for item in found.values()] == [2023] * 7
    assert found["amazon:B0ODD00001"]["image_refs"] == found["amazon:B09X000001"]["image_refs"]
    assert found["amazon:0615000005"]["edges"]["CO_VIEWED", None] == ["amazon:B075000001", "amazon:1604000002"]
    assert found["amazon:0007000013"]["edges"]["CO_VIEWED", None] == ["amazon:0814600001"]


@pytest.mark.parametrize("content", [b'{"book_id": "1"}\n{"book_id": "2"}\n', b"asin,title\n0001,Mug\n", b"[1, 2]\n"])
def test_a_file_of_no_release_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "meta.json"
    path.write_bytes(content)
    with pytest.raises(
        Graph2ImageError, match=r"meta\.json does not hold Amazon product metadata: it starts"
    ) as caught:
        list(read_amazon(path))
    assert content.splitlines()[0].decode() in caught.value.message
    path.write_bytes(b"\n \r\n")
    with pytest.raises(Graph2ImageError, match="no row that can be read"):
        list(read_amazon(path))


# -- Rows that are no items --------------------------------------------------------------------------------------------


def test_bad_rows_are_rejects_and_the_rest_is_read(tmp_path: Path) -> None:
    batches = read(
        tmp_path,
        b"\xef\xbb\xbf" + orjson.dumps(ROW_2018) + b"\r",
        b"",
        b'{"asin": "B01", ',
        b'{"asin": "B02", "title": "caf\xe9"}',
        b'["B03"]',
        {"title": "no id"},
        {"asin": "  ", "parent_asin": ""},
        {"asin": 615000005},
        {"asin": " B0AAAAAAAA "},
    )
    assert {key: item["row"] for key, item in items(batches).items()} == {
        "amazon:0615000005": 1,
        "amazon:615000005": 8,
        "amazon:B0AAAAAAAA": 9,
    }
    assert [(reject.row, reject.reason) for reject in rejects(batches)] == [
        (3, RejectReason.MALFORMED_ROW),
        (4, RejectReason.BAD_ENCODING),
        (5, RejectReason.MALFORMED_ROW),
        (6, RejectReason.MISSING_ID),
        (7, RejectReason.MISSING_ID),
    ]
    assert rejects(batches)[0].raw == b'{"asin": "B01", '


HOSTILE = {
    "brackets": b"[" * 100_000,
    "balanced brackets": b"[" * 5_000 + b"]" * 5_000,
    "parentheses": b"(" * 150 + b"1" + b")" * 150,
    "signs": b"-" * 100_000 + b"1",
    "sums": b"1+" * 100_000 + b"1",
    "inversions": b"not " * 100_000 + b"1",
    "attributes": b"a" + b".b" * 200_000,
    "calls": b"f" + b"()" * 200_000,
    "lambdas": b"lambda:" * 100_000 + b"1",
    "choices": b"1 if 1 else " * 50_000 + b"1",
    "powers": b"9**9**9**9",
    "digits": b"9" * 500_000,
    "a string without end": b"[]" * 100 + b"'" + b"\\'" * 400_000,
    "a long line": b"'" + b"a" * MAX_LITERAL_BYTES + b"'",
    "a call": b"__import__('os').getcwd()",
    "a set": b"{'asin': {'B0'}}",
    "bytes": b"{'asin': b'B0'}",
    "a number as key": b"{1: 'B0'}",
    "a list as key": b"{[]: 'B0'}",
    "a NUL": b"{'asin': 'B0\x00'}",
    "a cut": literal(ROW_2014)[:-30],
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_literals_are_malformed_rows(tmp_path: Path, line: bytes) -> None:
    batches = read(tmp_path, literal(ROW_2014), line, literal(ROW_2014 | {"asin": "B0AFTER001"}))
    assert set(items(batches)) == {"amazon:0007000013", "amazon:B0AFTER001"}
    assert [(reject.row, reject.reason) for reject in rejects(batches)] == [(2, RejectReason.MALFORMED_ROW)]


def test_literals_are_quoted_as_they_please(tmp_path: Path) -> None:
    description = "[" * 500 + "(:-" * 200 + ' It\'s "quoted" -- \\ and True, None; null'
    row = ROW_2014 | {"title": """Bob's "best" mug""", "description": description}
    assert read_one(tmp_path, literal(row))["title"] == """Bob's "best" mug"""
    assert read_one(tmp_path, b"{'asin': u'0001', 'title': 'Caf\\xe9 \\u2014 cup', }")["title"] == "Café — cup"
    assert rejects(read(tmp_path, literal(ROW_2014), b"{'asin': '\xff'}"))[0].reason == RejectReason.BAD_ENCODING


@pytest.mark.parametrize(
    ("escapes", "title"),
    [
        (r"Mug \ud83d\ude00!", "Mug \U0001f600!"),
        (r"Mug \ud83d", "Mug \ufffd"),
        (r"\ude00\ud83d mug", "\ufffd\ufffd mug"),
        (r"\U0001f600 \x41\N{BULLET}\101 \ud83d\ude00", "\U0001f600 A\u2022A \U0001f600"),
        (r"\N{NO SUCH NAME} \U00110000 mug", "\ufffd \ufffd mug"),
        (r"\xg0 \u12 \U0001f60 \N mug", r"\xg0 \u12 \U0001f60 \N mug"),
        (r"a backslash: \\ud83d", r"a backslash: \ud83d"),
    ],
)
def test_no_escape_costs_a_row_of_2014(tmp_path: Path, escapes: str, title: str) -> None:
    line = f"{{'asin': 'B01', 'title': '{escapes}', 'imUrl': ''}}".encode()
    assert read_one(tmp_path, line)["title"] == title


@pytest.mark.parametrize(
    ("escapes", "title"),
    [
        (r"Mug \ud83d\ude00!", "Mug \U0001f600!"),
        (r"Mug \ud83d", "Mug \ufffd"),
        (r"\x41 \'mug\' \d \u12", r"A 'mug' \d \u12"),
        ("a\ttab", "a tab"),
    ],
)
def test_no_escape_costs_a_row_of_json(tmp_path: Path, escapes: str, title: str) -> None:
    line = f'{{"asin": "B01", "title": "{escapes}", "price": NaN}}'.encode()
    item = read_one(tmp_path, line)
    assert (item["title"], item["price"]) == (title, None)


@pytest.mark.parametrize("value", [101, 101.0, "101"])
def test_an_id_may_be_a_number(tmp_path: Path, value: object) -> None:
    batches = read(tmp_path, ROW_2018 | {"asin": value, "also_view": [value, 102.0, 103]})
    assert items(batches)["amazon:101"]["edges"]["CO_VIEWED", None] == ["amazon:102", "amazon:103"]


# -- other files of the data set ---------------------------------------------------------------------------------------

REVIEW_2014 = {"reviewerID": "A1", "asin": "B01", "helpful": [0, 0], "reviewText": "Good.", "overall": 5.0}
REVIEW_2018 = {"overall": 5.0, "verified": True, "reviewerID": "A1", "asin": "B01", "style": {"Color:": "Red"}}
REVIEW_2023 = {"rating": 5.0, "title": "Good", "images": [], "asin": "B01", "parent_asin": "B01", "user_id": "A"}
QUESTION = {"questionType": "yes/no", "asin": "B01", "question": "Is it?", "answer": "Yes"}


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([REVIEW_2014] * 3, "Amazon reviews"),
        ([REVIEW_2018] * 3, "Amazon reviews"),
        ([REVIEW_2023] * 3, "Amazon reviews"),
        ([literal(QUESTION)] * 3, "Amazon questions"),
        ([literal({"asin": "B01", "questions": []})] * 3, "Amazon questions"),
        ([b"A2SUAM1J3GNN3B,0000013714,5.0,1400457600"], "Amazon ratings"),
        ([b"user_id,parent_asin,rating,timestamp", b"AE,B01,5.0,1400457600000"], "Amazon ratings"),
        ([{"book_id": "1", "title": "A book", "asin": "", "authors": []}], "Goodreads books"),
        ([{"user_id": "u", "book_id": "1", "review_id": "r", "review_text": ""}], "Goodreads reviews"),
        ([b"a|b|Artists1/a.jpg"], "ART500K's label list"),
        ([REVIEW_2018] * 3 + [ROW_2018], "Amazon reviews"),
    ],
)
def test_a_sibling_file_is_refused_by_its_name(tmp_path: Path, rows: list[Any], kind: str) -> None:
    with pytest.raises(Graph2ImageError, match=f"holds {kind}.*, not Amazon product metadata") as caught:
        read(tmp_path, *rows)
    assert ("meta_<Category>" in str(caught.value.hint)) == kind.startswith("Amazon") or "Goodreads rev" in kind


@pytest.mark.parametrize("review", [REVIEW_2014, REVIEW_2018, REVIEW_2023, QUESTION, REVIEW_2018 | {"reviewerID": 7}])
def test_a_review_among_products_is_none(tmp_path: Path, review: dict[str, object]) -> None:
    batches = read(tmp_path, ROW_2018, review, ROW_2018 | {"asin": "B03"})
    assert set(items(batches)) == {"amazon:0615000005", "amazon:B03"}
    assert [(reject.row, reject.reason) for reject in rejects(batches)] == [(2, RejectReason.WRONG_KIND)]


def test_the_release_shows_wherever_the_first_products_stand(tmp_path: Path) -> None:
    batches = read(tmp_path, *[b"bad"] * 150, ROW_2023)
    assert [item["release"] for item in items(batches).values()] == [2023]
    assert [reject.row for reject in rejects(batches)] == list(range(1, 151))


# -- Titles, prices, brands --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Salt &amp; Pepper \n  Mill&#39;s", "Salt & Pepper Mill's"),
        ("&lt;3 Mug", "<3 Mug"),
        (' <span id="productTitle">', None),
        ("var aPageStart = (new Date()).getTime();", None),
        (" \t", None),
        (None, None),
        (["Mug"], None),
    ],
)
def test_titles(tmp_path: Path, title: object, expected: str | None) -> None:
    item = read_one(tmp_path, ROW_2018 | {"title": title})
    assert item["title"] == expected
    assert item["text"] == (expected or "Recipe book")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"feature": ["<b>", " ", "Hand made &amp; glazed"]}, "Hand made & glazed"),
        ({"feature": [], "description": ["", "For\n tea."]}, "For tea."),
        ({"description": "One text. " * 100}, ("One text. " * 30).strip()),
        ({"brand": "Kiln", "category": ["Home", "Mugs"]}, "Kiln Mugs"),
        ({"store": "Kiln"}, "Kiln"),
        ({"categories": [["Home", "Mugs"], ["Gifts"]]}, "Mugs"),
        ({"feature": {"a": 1}, "description": [None, 1]}, None),
    ],
)
def test_an_item_without_title_says_what_else_it_has(tmp_path: Path, row: dict[str, Any], text: str | None) -> None:
    item = read_one(tmp_path, {"asin": "B0"} | row)
    assert (item["title"], item["text"]) == (None, text)


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("$7.86", 7.86),
        ("$1,299.00", 1299.0),
        (" $ 12 ", 12.0),
        ("31.99", 31.99),
        (5, 5.0),
        (0, 0.0),
        ("$5.00 - $9.99", None),
        (".a-box-inner{background-color:#fff}", None),
        ("from 14.99", None),
        ("$1,29.00", None),
        ("£7.86", None),
        ("None", None),
        ("", None),
        ("nan", None),
        ("9" * 400, None),
        (-1, None),
        (True, None),
        (None, None),
        (["$1"], None),
    ],
)
def test_prices(tmp_path: Path, price: object, expected: float | None) -> None:
    assert read_one(tmp_path, ROW_2018 | {"price": price})["price"] == expected


@pytest.mark.parametrize(
    ("brand", "expected"),
    [
        ("Rosa &amp; Pine", ["Rosa & Pine"]),
        ("by\n    \n    Kiln Street", ["Kiln Street"]),
        ("By Kiln", ["By Kiln"]),
        ("  ", None),
        ("<a href='#'>", None),
        (12, ["12"]),
    ],
)
def test_brands(tmp_path: Path, brand: object, expected: list[str] | None) -> None:
    assert read_one(tmp_path, ROW_2018 | {"brand": brand})["edges"].get(BRAND) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('<img src="https://x.example/a.png" class="nav" alt="Toys &amp; Games"/>', "Toys & Games"),
        ("<img src='a.png' alt='Home'>", "Home"),
        ('<img src="a.png"/>', None),
        ("Sports &amp; Outdoors", "Sports & Outdoors"),
        (7, "7"),
    ],
)
def test_a_main_category_may_be_a_picture(tmp_path: Path, value: object, expected: str | None) -> None:
    item = read_one(tmp_path, ROW_2018 | {"main_cat": value, "category": []})
    assert item["main_category"] == expected
    assert item["edges"].get(CATEGORY) == ([expected] if expected else None)


# -- Categories, links, images ---------------------------------------------------------------------------------------


def test_categories_are_a_hierarchy(tmp_path: Path) -> None:
    batches = read(
        tmp_path,
        ROW_2018 | {"category": ["Home &amp; Kitchen", "Bedding", "</span></span>", "Sheets", "x" * 61, "Queen"]},
        ROW_2018 | {"asin": "B02", "category": ["Baby", "Bedding", "Sheets"]},
        ROW_2014 | {"asin": "B03", "categories": [["Home & Kitchen", "Bedding"], ["Gifts"], [], "odd", [1]]},
        ROW_2018 | {"asin": "B04", "category": [str(depth) for depth in range(20)]},
    )
    found = items(batches)
    assert found["amazon:0615000005"]["edges"][CATEGORY] == ["Home & Kitchen > Bedding > Sheets"]
    assert found["amazon:B02"]["edges"][CATEGORY] == ["Baby > Bedding > Sheets"]
    assert found["amazon:B03"]["edges"][CATEGORY] == ["Home & Kitchen > Bedding", "Gifts", "1"]
    assert found["amazon:B04"]["edges"][CATEGORY] == [" > ".join(map(str, range(MAX_CATEGORY_DEPTH)))]
    names = entity_names(batches)
    assert names["Category", "Home & Kitchen > Bedding > Sheets"] == names["Category", "Baby > Bedding > Sheets"]
    assert names["Category", "Home & Kitchen"] == "Home & Kitchen"
    parents = {(child, parent) for type_, _, child, _, parent in entity_relations(batches) if type_ == "SUBCATEGORY_OF"}
    assert ("Home & Kitchen > Bedding > Sheets", "Home & Kitchen > Bedding") in parents
    assert ("Home & Kitchen > Bedding", "Home & Kitchen") in parents
    # Every category but the five at the top has one parent.
    assert len(parents) == len({child for child, _ in parents}) == len(names) - 5


@pytest.mark.parametrize(
    ("row", "edges"),
    [
        (
            ROW_2014
            | {
                "related": {
                    "also_viewed": ["A"],
                    "also_bought": ["B"],
                    "bought_together": ["C"],
                    "buy_after_viewing": "D",
                }
            },
            {"CO_VIEWED": ["A"], "ALSO_BOUGHT": ["B"], "BOUGHT_TOGETHER": ["C"]},
        ),
        (ROW_2018 | {"also_view": ["A"], "also_buy": ["B", "C"]}, {"CO_VIEWED": ["A"], "ALSO_BOUGHT": ["B", "C"]}),
        (ROW_2023 | {"bought_together": ["A"]}, {"BOUGHT_TOGETHER": ["A"]}),
        (ROW_2018 | {"also_view": ["", "A", None, 3, ["B"], "C"], "also_buy": [None]}, {"CO_VIEWED": ["A", "3", "C"]}),
        (ROW_2018 | {"also_view": {"A": 1}, "also_buy": "B"}, {}),
    ],
)
def test_links(tmp_path: Path, row: dict[str, Any], edges: dict[str, list[str]]) -> None:
    found = read_one(tmp_path, row)["edges"]
    links = {type_: targets for (type_, label), targets in found.items() if label is None}
    assert links == {type_: [f"amazon:{target}" for target in targets] for type_, targets in edges.items()}


NO_PICTURE = "http://g-ecx.example/images/G/01/x-site/icons/no-img-sm._CB192198896_.gif"


@pytest.mark.parametrize(
    ("row", "refs"),
    [
        ({"imUrl": NO_PICTURE}, []),
        ({"imUrl": f"{WEB}a.jpg"}, [f"{WEB}a.jpg"]),
        ({"imUrl": "ftp://a.example/a.jpg"}, []),
        ({"imUrl": None}, []),
        ({}, []),
        ({"imageURL": [], "imageURLHighRes": []}, []),
        (
            {"imageURL": [f"{WEB}a._SX38_SY50_CR,0,0,38,50_.jpg"], "imageURLHighRes": ["", f"{WEB}big.jpg"]},
            [f"{WEB}big.jpg", f"{WEB}a.jpg", f"{WEB}a._SX38_SY50_CR,0,0,38,50_.jpg"],
        ),
        (
            {"imageURL": [f"{WEB}a._SS40_.jpg"], "imageURLHighRes": [f"{WEB}a.jpg"]},
            [f"{WEB}a.jpg", f"{WEB}a._SS40_.jpg"],
        ),
        ({"image": f"{WEB}a._b_/c.jpg"}, [f"{WEB}a._b_/c.jpg"] * 2),
        ({"image": [None, 1, "/local.jpg"]}, []),
        ({"images": [{"variant": "MAIN", "hi_res": None, "large": None, "thumb": "t"}]}, []),
        (
            {"images": [{"variant": "MAIN", "hi_res": None}, {"large": f"{WEB}l.jpg"}, {"large": f"{WEB}m.jpg"}]},
            [f"{WEB}l.jpg"],
        ),
        (
            {
                "images": {
                    "hi_res": [None, f"{WEB}h.jpg"],
                    "large": [f"{WEB}s.jpg"],
                    "variant": ["PT01", "MAIN"],
                    "n": 1,
                }
            },
            [f"{WEB}h.jpg"],
        ),
        ({"images": "none"}, []),
        ({"images": [1, None, []]}, []),
    ],
)
def test_pictures_are_listed_largest_first(tmp_path: Path, row: dict[str, Any], refs: list[str]) -> None:
    assert read_one(tmp_path, {"asin": "B0"} | row)["image_refs"] == refs


# -- Whole files -------------------------------------------------------------------------------------------------------

KEYS = sorted({*ROW_2014, *ROW_2018, *ROW_2023})
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["", " ", "<img alt='x'>", "&amp;", "a\nb", "$3", "http://", f"{WEB}a._b_.jpg", "x" * 70]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["MAIN", "variant", "hi_res", "also_viewed", "bought_together"]), inner)
    ),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=100)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES) | VALUES, max_size=6),
    release=st.sampled_from([ROW_2018, ROW_2023]),
)
def test_whatever_the_rows_hold_each_is_an_item_or_a_reject(
    tmp_path: Path, rows: list[object], release: dict[str, Any]
) -> None:
    path = tmp_path / "meta.jsonl"
    for dump in (orjson.dumps, lambda row: repr(row).encode()):
        path.write_bytes(b"\n".join([dump(release), *map(dump, rows)]))
        batches = list(read_amazon(path))
        seen = [row for batch in batches for row in batch.items["row"].to_pylist()]
        seen += [reject.row for reject in rejects(batches)]
        assert sorted(seen) == list(range(1, len(rows) + 2))
        for batch in batches:
            batch.items.validate(full=True)
            assert len(batch.raw_rows) == len(batch.items)
            for edges in batch.edges:
                assert all(edges.targets.to_pylist())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["<b>", "&amp;", "by &lt;A", "var aPageStart", "A", "B", " A ", "\x1c", "\u3000", "x" * 70, "<img alt='x'>"]
)
ADDRESSES = (
    st.sampled_from([f"{WEB}a._SS40_.jpg", f"{WEB}a.jpg", f"{WEB}b._b_/c.jpg", "http://._._.", NO_PICTURE]) | TEXTS
)
PRICES = st.sampled_from(["$7.86", "$1,299.00", "5.99", "from 5.99", "—", "", "1e3", " $5"]) | TEXTS
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 10**15) | st.none()


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, max_size=3)


def upstream(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=values | {"title": TEXTS | st.none(), "description": some(TEXTS)})


UPSTREAM = {
    2014: upstream(
        asin=TEXTS,
        categories=some(some(TEXTS)),
        description=TEXTS,
        price=NUMBERS,
        imUrl=ADDRESSES,
        brand=TEXTS,
        related=st.fixed_dictionaries(
            {}, optional={"also_viewed": some(TEXTS), "also_bought": some(TEXTS), "buy_after_viewing": some(TEXTS)}
        ),
    ).map(lambda row: {"imUrl": None} | row),  # so that it is of 2014 as JSON too
    2018: upstream(
        asin=TEXTS,
        category=some(TEXTS),
        feature=some(TEXTS),
        price=PRICES,
        image=some(ADDRESSES),
        imageURL=some(ADDRESSES),
        imageURLHighRes=some(ADDRESSES),
        brand=TEXTS,
        main_cat=TEXTS,
        also_view=some(TEXTS),
        also_buy=some(TEXTS),
    ),
    2023: upstream(
        parent_asin=TEXTS,
        categories=some(TEXTS),
        features=some(TEXTS),
        price=NUMBERS | PRICES,
        images=some(
            st.fixed_dictionaries(
                {"variant": st.sampled_from(["MAIN", "PT01"])},
                optional=dict.fromkeys(("hi_res", "large", "thumb"), ADDRESSES | st.none()),
            )
        ),
        store=TEXTS | st.none(),
        main_category=TEXTS | st.none(),
        average_rating=NUMBERS,
        rating_number=st.integers(-9, 2**60),
        details=st.dictionaries(st.just("price"), NUMBERS | TEXTS),
        bought_together=some(TEXTS) | st.none(),
    ),
}
FIRST = {2014: ROW_2014, 2018: ROW_2018, 2023: ROW_2023}


@settings(max_examples=100)
@given(st.data())
def test_a_block_is_read_the_same_whether_or_not_all_of_it_is_as_upstream_writes_it(
    tmp_path: Path, data: st.DataObject
) -> None:
    release = data.draw(st.sampled_from(sorted(FIRST)))
    rows = [FIRST[release], *data.draw(st.lists(UPSTREAM[release], max_size=5))]

    def content(*lines: bytes | dict[str, Any]) -> list[Any]:
        (batch,) = read(tmp_path, *lines)
        edges = [(e.type, e.label, e.items.to_pylist(), e.targets.to_pylist()) for e in batch.edges]
        entities = [batch.entities.to_pylist(), batch.entity_relations.to_pylist()]
        return [batch.items.to_pylist(), edges, entities, [r.row for r in batch.rejects if r.row != len(rows) + 1]]

    found = content(*rows)
    assert content(*rows, b"{") == found
    if release == 2014:
        assert content(*map(literal, rows)) == found


def test_prices_of_2023_may_be_numbers_and_text(tmp_path: Path) -> None:
    prices = {5.99: 5.99, "from 5.99": None, None: None, 7: 7.0, "7.50": 7.5, "—": None, 0.01: 0.01}
    for further in ({}, {1e15: 1e15, -1: None}):  # numbers that are no text of a price
        prices |= further
        rows = [ROW_2023 | {"parent_asin": f"B{i}", "price": price} for i, price in enumerate(prices)]
        assert [item["price"] for item in items(read(tmp_path, *rows)).values()] == list(prices.values())


@pytest.mark.parametrize("release", [2014, 2018, 2023])
def test_what_was_painted_comes_back(tmp_path: Path, release: Any) -> None:
    report = paint_amazon(tmp_path, items=400, seed=3, release=release, images=False)
    path = tmp_path / MAIN_FILES[release]
    batches = list(read_amazon(path))
    assert not rejects(batches)
    rows = [row for batch in batches for row in batch.items.to_pylist()]
    assert len(rows) == report.rows
    distinct = {row["item_id"]: row for row in rows}
    assert len(distinct) == report.items
    defects = report.defects
    assert len(rows) - len(distinct) == defects.get("repeated_asin", 0)
    assert sum(row["title"] is None for row in distinct.values()) == defects.get("junk_title", 0)
    assert all(row["text"] for row in rows)
    assert sum(not row["image_refs"] for row in distinct.values()) == defects["no_image"]
    assert {row["release"] for row in rows} == {release}
    by_brand = [edges.targets.to_pylist() for batch in batches for edges in batch.edges if edges.label == "Brand"]
    assert {brand for brands in by_brand for brand in brands} == {brand.name for brand in BRANDS}
    assert {key for _, key in entity_names(batches) if " > " not in key} <= {"Home & Kitchen", "Home", "Amazon Home"}
    assert not any("&amp;" in key or "<" in key for _, key in entity_names(batches))
    viewed = [
        target
        for batch in batches
        for edges in batch.edges
        if edges.type == "CO_VIEWED"
        for item, target in zip(edges.items.to_pylist(), edges.targets.to_pylist(), strict=True)
        if batch.items["row"][item].as_py() <= report.items  # repeated rows come after
    ]
    dangling = sum(target not in distinct for target in viewed)
    assert dangling == (defects["dangling_link"] if release != 2023 else 0)


@pytest.mark.slow
@pytest.mark.parametrize("release", [2014, 2018])  # in processes, in threads
def test_several_workers_read_the_same(tmp_path: Path, release: Any) -> None:
    report = paint_amazon(tmp_path, items=6000, seed=3, release=release, images=False)
    path = tmp_path / MAIN_FILES[release]
    alone, together = list(read_amazon(path)), list(read_amazon(path, workers=2))
    assert len(alone) == len(together) > 1
    assert sum(len(batch.items) for batch in alone) == report.rows
    for one, other in zip(alone, together, strict=True):
        assert one.items.equals(other.items)
        assert list(one.raw_rows) == list(other.raw_rows)
        assert [(e.type, e.label, e.items, e.targets) for e in one.edges] == [
            (e.type, e.label, e.items, e.targets) for e in other.edges
        ]
        assert one.entities.equals(other.entities)
        assert one.entity_relations.equals(other.entity_relations)
