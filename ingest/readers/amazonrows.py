"""Rows of Amazon product metadata as columns, the same for every release.

Lines of JSON that are as upstream writes them are parsed by Arrow. Any other row is parsed by Python and written again,
as upstream would have written it. What the values mean is not looked at here, but for the prices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ingest.readers.columns import columns_of, has_any, json_table, mapped, parsed_rows, where
from ingest.readers.lines import Lines
from ingest.readers.values import json_text

#: Types of the links, with their keys in the `related` of 2014 and in the rows of the later releases.
LINKS = (
    ("CO_VIEWED", "also_viewed", "also_view"),
    ("ALSO_BOUGHT", "also_bought", "also_buy"),
    ("BOUGHT_TOGETHER", "bought_together", "bought_together"),
    ("BOUGHT_AFTER_VIEWING", "buy_after_viewing", None),
)

#: No product has as many ratings.
MAX_COUNT = 1 << 53

#: Of an image of 2023, the largest first.
SIZES = ("hi_res", "large", "thumb")

_PRICE = re.compile(r"\$?\s*(\d{1,3}(?:,\d{3}){1,3}(?:\.\d+)?|\d{1,12}(?:\.\d+)?)", re.ASCII)
#: A price of 2023 that is a number.
_BARE_PRICE = re.compile(rb'("price": ?)((?:0|[1-9]\d{0,11})(?:\.\d+)?)(?=[,}])')

_STRINGS = ("asin", "parent_asin", "title", "brand", "store", "main_category", "main_cat", "imUrl")
#: What only rows of other files have: reviews, questions, and the books of Goodreads, which may have an asin, too.
FOREIGN_KEYS = ("reviewerID", "user_id", "question", "book_id")
_URL_KEYS = ("image", "imageURL", "imageURLHighRes")
_LINK_KEYS = tuple(key for _, _, key in LINKS if key)
_LINK_KEYS_2014 = tuple(key for _, key, _ in LINKS)
_IMAGE_KEYS = ("variant", *SIZES)
#: What an item without a title may say of itself.
BLURBS = ("feature", "features", "description")


def _schema(price: pa.DataType, path: pa.DataType) -> pa.Schema:
    texts = pa.list_(pa.string())
    return pa.schema(
        [
            *((key, pa.string()) for key in (*_STRINGS, *FOREIGN_KEYS)),
            ("price", price),
            ("average_rating", pa.float64()),
            ("rating_number", pa.int64()),
            ("category", path),
            ("categories", path),
            *((key, texts) for key in (*_URL_KEYS, *_LINK_KEYS)),
            ("images", pa.list_(pa.struct([(key, pa.string()) for key in _IMAGE_KEYS]))),
            ("related", pa.struct([(key, texts) for key in _LINK_KEYS_2014])),
        ]
    )


_PATH = pa.list_(pa.string())
#: Rows of each release as upstream writes them, but for some of the prices of 2023.
_SCHEMAS = {
    2014: _schema(pa.float64(), pa.list_(_PATH)),
    2018: _schema(pa.string(), _PATH),
    2023: _schema(pa.float64(), _PATH),
}

Row = dict[str, Any]


def upstream_columns(lines: Lines, release: int) -> dict[str, pa.Array] | None:
    """The columns of lines of JSON, or None if one is not as upstream writes them in that release."""
    table = parsed_rows(lines, _SCHEMAS[release])
    if table is None and release == 2023:
        # Where some of the prices are text ("from 5.99"), all can be.
        table = parsed_rows(lines, _SCHEMAS[2018], _with_quoted_prices)
    return None if table is None else _columns(table)


def _with_quoted_prices(content: bytes) -> bytes:
    return _BARE_PRICE.sub(rb'\1"\2"', content)


def row_columns(rows: Sequence[bytes]) -> dict[str, pa.Array]:
    """The columns of rows that are written by `as_upstream`."""
    return _columns(json_table(b"\n".join(rows), _SCHEMAS[2014]) if rows else _SCHEMAS[2014].empty_table())


def _columns(table: pa.Table) -> dict[str, pa.Array]:
    """The columns by key, with numbers for prices, and all category paths as `paths`."""
    columns = columns_of(table)
    if pa.types.is_string(columns["price"].type):
        columns["price"] = _prices(columns["price"])
    category, categories = columns.pop("category"), columns.pop("categories")
    paths = pc.if_else(has_any(category), category, categories)
    if pa.types.is_string(paths.type.value_type):
        paths = pa.ListArray.from_arrays(pa.array(np.arange(len(paths) + 1, dtype=np.int32)), paths)
    return columns | {"paths": paths}


def _prices(texts: pa.StringArray) -> pa.DoubleArray:
    """`_price_of_text` of each; nearly all are numbers after a dollar sign."""
    is_plain = pc.match_substring_regex(texts, r"^\$?\d{1,12}(\.\d+)?$")
    numbers = where(is_plain, pc.utf8_ltrim(texts, "$")).cast(pa.float64())
    return pc.coalesce(numbers, mapped(_price_of_text, where(pc.invert(is_plain), texts), pa.float64()))


def as_upstream(row: Row) -> bytes:
    """A row of any values under any keys as JSON that `row_columns` takes."""
    return orjson.dumps({key: _COERCED[key](value) for key, value in row.items() if key in _COERCED})


def _string(value: object) -> str | None:
    return value if type(value) is str else None


def _strings(values: object) -> list[str] | None:
    if type(values) is not list:
        return None
    return [text for value in values if (text := value if type(value) is str else json_text(value)) is not None]


def _one_or_more(value: object) -> list[str] | None:
    return [value] if type(value) is str else _strings(value)


def _price(value: object) -> float | None:
    return _price_of_text(value) if type(value) is str else _rating(value)


def _rating(value: object) -> float | None:
    return float(value) if type(value) is float or type(value) is int else None


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < MAX_COUNT else None


def _paths(value: object) -> list[list[str]] | None:
    """Category paths, from one (2018, 2023) or from a list of them (2014)."""
    if type(value) is not list:
        return None
    is_one = not any(type(part) is list or type(part) is dict for part in value)
    return [path for part in ([value] if is_one else value) if (path := _strings(part))]


def _related(value: object) -> dict[str, list[str] | None] | None:
    return {key: _strings(value.get(key)) for key in _LINK_KEYS_2014} if type(value) is dict else None


def _images(images: object) -> list[dict[str, str | None]]:
    if type(images) is dict:  # parallel lists, as in the Parquet view of the data
        lists = {key: values for key, values in images.items() if type(values) is list}
        count = max(map(len, lists.values()), default=0)
        images = [{key: values[i] for key, values in lists.items() if i < len(values)} for i in range(count)]
    return [
        {key: _string(image.get(key)) for key in _IMAGE_KEYS}
        for image in (images if type(images) is list else ())
        if type(image) is dict
    ]


@lru_cache(1 << 14)
def _price_of_text(text: str) -> float | None:
    found = _PRICE.fullmatch(text.strip())
    return float(found[1].replace(",", "")) if found else None


_COERCED: dict[str, Callable[[object], object]] = {
    **dict.fromkeys((*_STRINGS, *FOREIGN_KEYS), json_text),
    **dict.fromkeys((*_URL_KEYS, *BLURBS), _one_or_more),
    **dict.fromkeys(_LINK_KEYS, _strings),
    "price": _price,
    "average_rating": _rating,
    "rating_number": _count,
    "category": _paths,
    "categories": _paths,
    "images": _images,
    "related": _related,
}
