"""Reader of Amazon product metadata, in the three releases that the review data came in: 2014, 2018 and 2023.

The 2014 files hold one Python dict literal per line, the later ones JSON. Which release a file is from shows in its
rows; a row that has keys of another release is read all the same, since no two releases use one key for two things.

What becomes of the oddities of the real files:

- Titles, brands and categories are what a browser would show of them (`ingest.readers.markup`). A title of which
  nothing is left, such as one that is page source, is null. The item is kept, and its text is the first feature or
  description that reads as text, or else its brand and category.
- `price` is a number where it is one price: "$1,299.00" is 1299.0. A range ("$5.00 - $9.99") and scraped style sheets
  are null.
- A main category given as an `<img>` tag is its alt text.
- An id that is a number is the text of that number.
- Rows of the data set's other files (reviews, questions) are rejects; a file of them is refused.
- The 2014 placeholder image is no image. The thumbnails of 2018 (`41abc._SS40_.jpg`) lead to the large image of
  the same name without that part.
- A category is known by its path, "Home & Kitchen > Bedding > Sheets": "Sheets" may occur in several places. A path
  ends before a part that is too long to be a name, which is where feature sentences have slipped in.

Whichever way a block of rows is parsed, it becomes the same columns (`ingest.readers.amazonrows`). These are handled in
Arrow, and in Python only once for each distinct value, or for the few rows that need it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ingest.batches import BATCH_SCHEMA, DECLARED_NAME_SCHEMA, ENTITY_RELATION_SCHEMA, Batch
from ingest.datasets.names import GraphNames
from ingest.readers.amazonrows import (
    BLURBS,
    FOREIGN_KEYS,
    LINKS,
    MAX_COUNT,
    SIZES,
    Row,
    as_upstream,
    row_columns,
    upstream_columns,
)
from ingest.readers.columns import edges, flat, has_any, links, mapped, prefixed, squeezed, stripped, where
from ingest.readers.jsonrows import decode_json, json_rows
from ingest.readers.lines import Block, read_batches
from ingest.readers.literals import parse_literal
from ingest.readers.markup import visible_text, visible_texts
from ingest.readers.recognize import Kind, first_recognized, kind_of_line, kind_of_row, refusal
from ingest.records import RejectReason, RejectRecord

#: `price` is in US dollars, as listed when the release was collected; ratings are of 2023 only.
ITEM_COLUMNS = pa.schema(
    [
        pa.field("release", pa.int64()),
        pa.field("main_category", pa.string()),
        pa.field("price", pa.float64()),
        pa.field("rating", pa.float64()),
        pa.field("rating_count", pa.int64()),
    ]
)

#: What the source brings to the graph.
NAMES = GraphNames(
    items=frozenset(["Product"]),
    entities=frozenset(["Brand", "Category"]),
    relation_types=frozenset(["BY_BRAND", "IN_CATEGORY", "SUBCATEGORY_OF", *(type_ for type_, *_ in LINKS)]),
)

MAX_CATEGORY_DEPTH = 8
MAX_CATEGORY_NAME = 60

#: Of the text of an item that has no title, in characters.
MAX_FALLBACK_TEXT = 300

#: Rows that show which release a file is from.
_ROWS_LOOKED_AT = 100

_NO_IMAGE = "/x-site/icons/no-img"

#: Between the parts of a category path, for as long as it takes to find the distinct ones.
_PART_END = "\x1f"

_ALT_TEXT = re.compile(r"""\balt\s*=\s*(?:"([^"]*)"|'([^']*)')""")

Decode = Callable[[bytes], Any]


def read_amazon(path: Path, workers: int = 1) -> Iterator[Batch]:
    """Read the products of one metadata file.

    Items are `Product`s with ids `amazon:<asin>`, by `parent_asin` where there is no `asin`. They lead to other items
    (`CO_VIEWED`, `ALSO_BOUGHT`, `BOUGHT_TOGETHER`, `BOUGHT_AFTER_VIEWING`), to a `Brand` (`BY_BRAND`) and to the last
    `Category` of each of their category paths (`IN_CATEGORY`), which is a `SUBCATEGORY_OF` the one before.

    Parameters
    ----------
    path
        `meta_<Category>.json.gz` (2014, 2018) or `.jsonl.gz` (2023); or plain, or `.zst`.
    workers
        How many blocks are parsed at once: in threads, or in processes if the rows are Python literals.

    Raises
    ------
    Graph2ImageError
        If the file cannot be read, or is of no release.
    """
    release, decode = _detect(path)
    parse = partial(_parse, release=release, decode=decode)
    yield from read_batches(path, parse, workers, in_threads=decode is decode_json)


def _detect(path: Path) -> tuple[int, Decode]:
    """The release a file is from, by most of its first products, and how its lines are to be decoded."""
    found = Counter(first_recognized(path, _recognized, _ROWS_LOOKED_AT))
    kinds = Counter[Kind]()
    for (kind, _, _), rows in found.items():
        kinds[kind] += rows
    most = kinds.most_common(1)[0][0] if kinds else None
    if most != Kind.AMAZON_PRODUCTS:
        raise refusal(
            path,
            most,
            Kind.AMAZON_PRODUCTS,
            "Give meta_<Category>.json.gz (2014, 2018) or .jsonl.gz (2023): each line is an object with an asin or a "
            "parent_asin.",
        )
    products = (
        (release, decode, rows) for (kind, release, decode), rows in found.items() if kind == Kind.AMAZON_PRODUCTS
    )
    release, decode, _ = max(products, key=lambda product: product[-1])
    return release, decode


def _recognized(line: bytes) -> tuple[Kind, int, Decode] | None:
    """What a line is, with the release if it is a product, and how it was decoded."""
    for decode in (decode_json, parse_literal):
        try:
            row = decode(line)
        except ValueError:
            continue
        if not isinstance(row, dict):
            break
        # The 2014 release is also passed around as JSON.
        old = decode is parse_literal or "related" in row or "imUrl" in row
        kind = kind_of_row(row)
        return None if kind is None else (kind, 2014 if old else 2023 if "parent_asin" in row else 2018, decode)
    kind = kind_of_line(line)
    return None if kind is None else (kind, 0, decode_json)


def _parse(block: Block, release: int, decode: Decode) -> Batch:
    """The products of a block."""
    rejects: list[RejectRecord] = []
    numbers = np.arange(block.first_row, block.first_row + len(block.lines))
    raw_rows: Sequence[bytes] = block.lines
    rows = raw_rows
    columns = upstream_columns(block.lines, release) if decode is decode_json else None
    if columns is None:
        found = [(number, line, as_upstream(row)) for number, line, row in json_rows(block, rejects, decode)]
        numbers = np.array([number for number, _, _ in found], np.int64)
        raw_rows, rows = [line for _, line, _ in found], [row for _, _, row in found]
        columns = row_columns(rows)
    ids = pc.coalesce(stripped(columns["asin"]), stripped(columns["parent_asin"]))
    is_foreign = pc.coalesce(*(columns[key] for key in FOREIGN_KEYS)).is_valid()
    if ids.null_count or is_foreign.true_count:
        for at in pc.indices_nonzero(pc.or_(ids.is_null(), is_foreign)).to_pylist():
            reason, detail = RejectReason.MISSING_ID, "there is neither an asin nor a parent_asin"
            if is_foreign[at].as_py():
                key = next(key for key in FOREIGN_KEYS if columns[key][at].is_valid)
                reason, detail = RejectReason.WRONG_KIND, f"the row is none of a product: it has a {key}"
            rejects.append(RejectRecord(block.file, int(numbers[at]), reason, detail, raw_rows[at]))
        kept = pc.indices_nonzero(pc.and_(ids.is_valid(), pc.invert(is_foreign)))
        numbers = numbers[kept.to_numpy()]
        raw_rows, rows = ([values[at] for at in kept.to_pylist()] for values in (raw_rows, rows))
        columns, ids = {name: column.take(kept) for name, column in columns.items()}, ids.take(kept)
    count = len(ids)
    main_categories = pc.coalesce(*(mapped(_category_name, columns[key]) for key in ("main_category", "main_cat")))
    brands = pc.coalesce(*(mapped(_brand_name, columns[key]) for key in ("brand", "store")))
    tree = _CategoryTree()
    placed, leaves = _leaves(tree, columns["paths"], main_categories)
    titles = visible_texts(squeezed(columns["title"]))
    first_leaves = leaves.take(_first_of_each(placed.to_numpy(), np.arange(len(placed)), count))
    price, rating, rating_count = (columns[key] for key in ("price", "average_rating", "rating_number"))
    items = [
        pa.array(numbers),
        prefixed("amazon:", ids),
        pa.repeat(pa.scalar("Product"), count),
        titles,
        _texts(titles, rows, brands, first_leaves),
        _image_refs(columns),
        pa.nulls(count, pa.string()),
        pa.nulls(count, pa.string()),
        pa.repeat(pa.scalar(release, pa.int64()), count),
        main_categories,
        where(pc.and_(pc.greater_equal(price, 0), pc.is_finite(price)), price),
        where(pc.and_(release == 2023, pc.is_finite(rating)), rating),
        where(
            pc.and_(release == 2023, pc.and_(pc.greater_equal(rating_count, 0), pc.less(rating_count, MAX_COUNT))),
            rating_count,
        ),
    ]
    return Batch(
        file=block.file,
        items=pa.table(items, schema=pa.schema([*BATCH_SCHEMA, *ITEM_COLUMNS])),
        raw_rows=raw_rows,
        edges=[
            edges("BY_BRAND", "Brand", pa.array(np.arange(count, dtype=np.int32)), brands),
            edges("IN_CATEGORY", "Category", placed, leaves),
            *(links("amazon", type_, *flat(_targets(columns, *keys)), ids) for type_, *keys in LINKS),
        ],
        entities=tree.names(),
        entity_relations=tree.relations(),
        rejects=rejects,
    )


# -- columns ---------------------------------------------------------------------------------------------------------


def _first_of_each(items: npt.NDArray[np.int32], places: npt.NDArray[np.int64], count: int) -> pa.Int64Array:
    """For each of `count` items the first of its `places`, or null if it has none; `items` are in order."""
    first = np.flatnonzero(np.diff(items, prepend=-1))
    found = np.full(count, -1)
    found[items[first]] = places[first]
    return pa.array(found, mask=found < 0)


def _texts(
    titles: pa.StringArray, rows: Sequence[bytes], brands: pa.StringArray, leaves: pa.StringArray
) -> pa.StringArray:
    """The titles, and for an item without one what else its row, in JSON, says of it."""
    untitled = pc.indices_nonzero(titles.is_null())
    found = (orjson.loads(rows[at]) for at in untitled.to_pylist())
    instead = map(_fallback_text, found, brands.take(untitled).to_pylist(), leaves.take(untitled).to_pylist())
    return pc.replace_with_mask(titles, titles.is_null(), pa.array(instead, pa.string()))


def _leaves(
    tree: _CategoryTree, paths: pa.ListArray, main_categories: pa.StringArray
) -> tuple[pa.Int32Array, pa.StringArray]:
    """Items in order and the categories that their paths lead to, or else their main category."""
    items, paths = flat(paths)
    # A path is joined to be one value; it would be null if a part were.
    parts = pa.ListArray.from_arrays(paths.offsets, paths.values.fill_null(""))
    leaves = mapped(tree.leaf, pc.binary_join(parts, _PART_END))
    items, leaves = items.filter(leaves.is_valid()), leaves.drop_null()
    has_none = np.full(len(main_categories), True)
    has_none[items.to_numpy()] = False
    others = pc.indices_nonzero(pc.and_(pa.array(has_none), main_categories.is_valid())).cast(pa.int32())
    if not len(others):
        return items, leaves
    mains = mapped(tree.leaf, main_categories.take(others))
    items = pa.concat_arrays([items, others.filter(mains.is_valid())])
    order = np.argsort(items.to_numpy(), kind="stable")
    return items.take(order), pa.concat_arrays([leaves, mains.drop_null()]).take(order)


def _targets(columns: dict[str, pa.Array], key_2014: str, key: str | None) -> pa.ListArray:
    """The ids that rows have under the first key in their `related`, or under the second key if they have none."""
    related = columns["related"]
    lists = pc.struct_field(related, key_2014)
    return lists if key is None else pc.if_else(related.is_valid(), lists, columns[key])


def _image_refs(columns: dict[str, pa.Array]) -> pa.ListArray:
    """URLs of the main image of each product, the largest first."""
    large = _first_url(columns["imageURLHighRes"])
    thumbnails = pc.coalesce(_first_url(columns["imageURL"]), _first_url(columns["image"]))
    enlarged = _enlarged(thumbnails)
    only = pc.coalesce(large, where(_is_url(columns["imUrl"]), columns["imUrl"]))
    only = where(thumbnails.is_null(), only)
    first = pc.coalesce(
        where(pc.not_equal(large, enlarged), large), where(pc.invert(pc.match_substring(only, _NO_IMAGE)), only)
    )
    has_images = has_any(columns["images"])
    return _rows_of(
        [
            pc.if_else(has_images, size, url)
            for size, url in zip(_sizes(columns["images"]), (first, enlarged, thumbnails), strict=True)
        ]
    )


def _sizes(images: pa.ListArray) -> list[pa.StringArray]:
    """Of the image marked as the main one, or else of the first that has a URL at all, those of each size."""
    items, images_of_all = flat(images)
    sizes = [where(_is_url(size), size) for size in (pc.struct_field(images_of_all, key) for key in SIZES)]
    is_there = pc.coalesce(*sizes).is_valid()
    is_main = pc.and_(is_there, pc.equal(pc.struct_field(images_of_all, "variant"), "MAIN"))
    main, first = (_first_where(mask, items, len(images)) for mask in (is_main, is_there))
    return [size.take(pc.coalesce(main, first)) for size in sizes]


def _first_url(lists: pa.ListArray) -> pa.StringArray:
    items, urls = flat(lists)
    return urls.take(_first_where(_is_url(urls), items, len(lists)))


def _first_where(mask: pa.BooleanArray, items: pa.Int32Array, count: int) -> pa.Int64Array:
    """For each of `count` items the first place where `mask` is true, or null if there is none."""
    places = np.flatnonzero(mask.fill_null(False).to_numpy(zero_copy_only=False))
    return _first_of_each(items.to_numpy()[places], places, count)


def _is_url(texts: pa.StringArray) -> pa.BooleanArray:
    return pc.or_(pc.starts_with(texts, "http://"), pc.starts_with(texts, "https://"))


def _enlarged(thumbnails: pa.StringArray) -> pa.StringArray:
    """The URLs without the part of the file name that asks for a size: `41abc._SS40_.jpg` is `41abc.jpg`."""
    names, rests = _halves(thumbnails, "._", from_end=True)
    _, ends = _halves(rests, "_.")
    has_size = pc.and_(pc.not_equal(names, ""), pc.invert(pc.match_substring(rests, "/")))
    return pc.coalesce(where(has_size, pc.binary_join_element_wise(names, ends, ".")), thumbnails)


def _halves(texts: pa.StringArray, mark: str, *, from_end: bool = False) -> tuple[pa.StringArray, pa.StringArray]:
    """What is before and after a mark; null where there is none."""
    parts = pc.split_pattern(texts, mark, max_splits=1, reverse=from_end)
    parts = where(pc.equal(pc.list_value_length(parts), 2), parts)
    return pc.list_element(parts, 0), pc.list_element(parts, 1)


def _rows_of(columns: list[pa.StringArray]) -> pa.ListArray:
    """For each row its values in `columns` that are not null."""
    valid = np.column_stack([column.is_valid().to_numpy(zero_copy_only=False) for column in columns])
    places = np.arange(valid.size).reshape(valid.shape[::-1]).T[valid]
    ends = np.cumsum(valid.sum(axis=1))
    return pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], ends]), pa.int32()), pa.concat_arrays(columns).take(pa.array(places))
    )


# -- values ----------------------------------------------------------------------------------------------------------


def _fallback_text(row: Row, brand: str | None, leaf: str | None) -> str | None:
    """What else an item without a title says of itself."""
    for key in BLURBS:
        value = row.get(key)
        for sentence in value if isinstance(value, list) else [value]:
            if isinstance(sentence, str) and (text := visible_text(sentence)):
                return text[:MAX_FALLBACK_TEXT].rstrip()
    return " ".join([*([brand] if brand else []), *([leaf.rsplit(" > ", 1)[-1]] if leaf else [])]) or None


@lru_cache(1 << 16)
def _brand_name(text: str) -> str | None:
    """2018 has the byline of the page in some rows: "by", many blanks, the brand."""
    name = visible_text(text)
    return name.removeprefix("by ") if name else None


@lru_cache(1 << 14)
def _category_name(text: str) -> str | None:
    """The name of a main category, which may be the alt text of its image."""
    if text.startswith("<img"):
        alt = _ALT_TEXT.search(text)
        text = (alt[1] or alt[2] or "") if alt else ""
    return visible_text(text)


class _CategoryTree:
    """The categories of a batch: each is noted with its name and its parent when a path first leads to it."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._parents: dict[str, str] = {}

    def leaf(self, path: str) -> str | None:
        """Key of the category that a joined path leads to."""
        key = None
        depth = 0
        for part in path.split(_PART_END):
            name = visible_text(part)
            if name is None:
                continue
            if len(name) > MAX_CATEGORY_NAME or depth == MAX_CATEGORY_DEPTH:
                break
            parent, key = key, name if key is None else f"{key} > {name}"
            self._names[key] = name
            if parent is not None:
                self._parents[key] = parent
            depth += 1
        return key

    def names(self) -> pa.Table:
        columns = [["Category"] * len(self._names), list(self._names), list(self._names.values())]
        return pa.table(columns, schema=DECLARED_NAME_SCHEMA)

    def relations(self) -> pa.Table:
        label = ["Category"] * len(self._parents)
        columns = [["SUBCATEGORY_OF"] * len(label), label, list(self._parents), label, list(self._parents.values())]
        return pa.table(columns, schema=ENTITY_RELATION_SCHEMA)
