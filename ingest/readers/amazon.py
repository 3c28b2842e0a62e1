"""Reader of Amazon product metadata, in the three releases that the review data came in: 2014, 2018 and 2023.

The 2014 files hold one Python dict literal per line, the later ones JSON. Which release a file is from shows in its
rows; a row that has keys of another release is read all the same, since no two releases use one key for two things.

What becomes of the oddities of the real files:

- A title that is page source (it starts with `<` or contains `aPageStart`) is null, and so is a blank one. The item
  is kept, and its text is the first feature or description that reads as text, or else its brand and category.
- `price` is a number where it is one price: "$1,299.00" is 1299.0. A range ("$5.00 - $9.99") and scraped style sheets
  are null.
- HTML entities in titles, brands and categories are resolved; a main category given as an `<img>` tag is its alt text.
- The 2014 placeholder picture is no picture. The thumbnails of 2018 (`41abc._SS40_.jpg`) lead to the large picture of
  the same name without that part.
- A category is known by its path, "Home & Kitchen > Bedding > Sheets": "Sheets" may occur in several places. A path
  ends before a part that is too long to be a name, which is where feature sentences have slipped in.
"""

from __future__ import annotations

import ast
import html
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from math import inf
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ingest.batches import Batch, BatchBuilder, EdgeLists
from ingest.errors import Graph2ImageError
from ingest.readers.jsonrows import json_rows
from ingest.readers.lines import Block, first_lines, read_batches
from ingest.records import RejectReason

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

#: A longer line is no product of 2014, and more than this many brackets in each other, or signs, are no literal of it.
MAX_LITERAL_BYTES = 1 << 20
MAX_NESTING = 64

MAX_CATEGORY_DEPTH = 8
MAX_CATEGORY_NAME = 60

#: Of the text of an item that has no title, in characters.
MAX_FALLBACK_TEXT = 300

#: Rows that show which release a file is from.
_ROWS_LOOKED_AT = 100

#: Types of the links by key; those of 2014 are in a dict of their own, those of the later releases in the row.
_LINKS_2014 = {
    "also_viewed": "CO_VIEWED",
    "also_bought": "ALSO_BOUGHT",
    "bought_together": "BOUGHT_TOGETHER",
    "buy_after_viewing": "BOUGHT_AFTER_VIEWING",
}
_LINKS = {"also_view": "CO_VIEWED", "also_buy": "ALSO_BOUGHT", "bought_together": "BOUGHT_TOGETHER"}

_WEB = ("http://", "https://")
#: Of a picture of 2023, the largest first.
_SIZES = ("hi_res", "large", "thumb")
_NO_PICTURE = "/x-site/icons/no-img"

_PRICE = re.compile(r"\$?\s*(\d{1,3}(?:,\d{3}){1,3}(?:\.\d+)?|\d{1,12}(?:\.\d+)?)", re.ASCII)
_ALT_TEXT = re.compile(r"""\balt\s*=\s*(?:"([^"]*)"|'([^']*)')""")
#: A string, which may lack its end (else a search for it would begin at each quote), a bracket or a sign.
_LITERAL_TOKEN = re.compile(rb"""'[^'\\]*(?:\\.[^'\\]*)*'?|"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\](){}]|[-+~]""", re.DOTALL)

Row = dict[str, Any]
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
        Processes that parse; 1 for this one.

    Raises
    ------
    Graph2ImageError
        If the file cannot be read, or is of no release.
    """
    release, decode = _detect(path)
    yield from read_batches(path, partial(_parse, release=release, decode=decode), workers)


def _detect(path: Path) -> tuple[int, Decode]:
    """The release a file is from, by most of its first rows, and how its lines are to be decoded."""
    lines = first_lines(path, _ROWS_LOOKED_AT)
    if not lines:
        raise Graph2ImageError(f"{path} has no row that can be read", "It is blank, or cut off at its start.")
    found: Counter[tuple[int, Decode]] = Counter()
    for line in lines:
        for decode in (orjson.loads, _literal):
            try:
                row = decode(line)
            except ValueError:
                continue
            if isinstance(row, dict) and ("asin" in row or "parent_asin" in row):
                # The 2014 release is also passed around as JSON.
                old = decode is _literal or "related" in row or "imUrl" in row
                found[2014 if old else 2023 if "parent_asin" in row else 2018, decode] += 1
            break
    if not found:
        start = lines[0][:60].decode("utf-8", "backslashreplace")
        raise Graph2ImageError(
            f"{path} is no Amazon product metadata: it starts with {start!r}",
            "Each line has to be a JSON object (2018, 2023) or a Python dict (2014) with an asin or parent_asin.",
        )
    return found.most_common(1)[0][0]


def _literal(line: bytes) -> Any:
    """The value of a Python literal that JSON can express too; ValueError if it is none, or is not safe to parse."""
    if len(line) > MAX_LITERAL_BYTES:
        raise ValueError(f"the literal is over {MAX_LITERAL_BYTES} bytes")
    if not _is_shallow(line):
        raise ValueError("the literal is nested too deeply")
    text = line.decode()
    try:
        value = ast.literal_eval(text)
        # Refuses what no file may contain: sets, bytes, complex numbers, lone surrogates, keys that are not text.
        orjson.dumps(value)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a Python literal: {error}") from error
    return value


def _is_shallow(line: bytes) -> bool:
    """Whether a literal can be parsed without fear for the stack."""
    # Few brackets and signs altogether: in nearly all rows, even with those in the texts.
    if len(line) - len(line.translate(None, b"[{(-+~")) <= MAX_NESTING:
        return True
    depth = signs = 0
    for match in _LITERAL_TOKEN.finditer(line):
        token = match[0]
        if token in b"[{(":
            depth += 1
        elif token in b"]})":
            depth -= 1
        elif token in b"-+~":
            signs += 1
        if depth > MAX_NESTING or signs > MAX_NESTING:
            return False
    return True


def _parse(block: Block, release: int, decode: Decode) -> Batch:
    """The products of a block; every value is looked at, as any key may be absent or of another type."""
    batch = BatchBuilder("amazon", block.file, "Product", ITEM_COLUMNS)
    add_row, add_id, add_raw = batch.rows.append, batch.ids.append, batch.raws.append
    add_title, add_text, add_refs = batch.titles.append, batch.texts.append, batch.image_refs.append
    add_main_category, add_price, add_rating, add_rating_count = (
        batch.columns[name].append for name in ("main_category", "price", "rating", "rating_count")
    )
    brands = batch.edges("BY_BRAND", "Brand")
    categories = batch.edges("IN_CATEGORY", "Category")
    links = {type_: _JoinedLinks() for type_ in _LINKS_2014.values()}
    tree = _CategoryTree(batch)
    position = 0
    for number, line, row in json_rows(block, batch.rejects, decode):
        asin = row.get("asin") or row.get("parent_asin")
        if type(asin) is not str or not (asin := asin.strip()):
            batch.reject(number, RejectReason.MISSING_ID, "there is neither an asin nor a parent_asin", line)
            continue
        add_row(number)
        add_id(asin)
        add_raw(line)
        add_refs(_image_refs(row))
        add_price(_price(row.get("price")))
        main_category = row.get("main_category") or row.get("main_cat")
        main_category = _category_name(main_category) if type(main_category) is str else None
        add_main_category(main_category)
        if release == 2023:
            rating, rating_count = row.get("average_rating"), row.get("rating_number")
            add_rating(float(rating) if type(rating) is float or type(rating) is int else None)
            add_rating_count(rating_count if type(rating_count) is int and 0 <= rating_count < 1 << 53 else None)

        brand = row.get("brand") or row.get("store")
        brand = _brand_name(brand) if type(brand) is str else None
        if brand:
            brands.items.append(position)
            brands.targets.append(brand)
        leaves = tree.leaves(row.get("category") or row.get("categories")) or tree.leaves([main_category])
        for leaf in leaves:
            categories.items.append(position)
            categories.targets.append(leaf)
        related = row.get("related")
        related, types = (related, _LINKS_2014) if type(related) is dict else (row, _LINKS)
        for key, type_ in types.items():
            targets = related.get(key)
            if targets and type(targets) is list:
                links[type_].add(position, targets)

        title = row.get("title")
        title = _clean(title) if type(title) is str else None
        add_title(title)
        add_text(title or _fallback_text(row, brand, leaves))
        position += 1
    batch.columns["release"] += [release] * position
    for type_, joined in links.items():
        joined.split_into(batch.edges(type_))
    return batch.finish()


def _clean(text: str) -> str | None:
    """`text` as people read it; None if it is blank, or page source."""
    # Page source is as it was; a "<" that is escaped belongs to the text ("<3").
    if text.lstrip()[:1] == "<" or "aPageStart" in text:
        return None
    if "&" in text:
        text = html.unescape(text)
    return " ".join(text.split()) or None  # `squeeze`, without the call


def _fallback_text(row: Row, brand: str | None, leaves: Sequence[str]) -> str | None:
    """What else an item without a title says of itself."""
    for key in ("feature", "features", "description"):
        value = row.get(key)
        for sentence in value if isinstance(value, list) else [value]:
            if isinstance(sentence, str) and (text := _clean(sentence)):
                return text[:MAX_FALLBACK_TEXT].rstrip()
    return " ".join([*([brand] if brand else []), *(leaf.rsplit(" > ", 1)[-1] for leaf in leaves[:1])]) or None


def _price(value: object) -> float | None:
    """A price in dollars; None if it is none, or a range."""
    if type(value) is str:
        return _price_of_text(value) if value else None
    if type(value) is float or type(value) is int:
        return float(value) if 0 <= value < inf else None
    return None


@lru_cache(1 << 14)
def _price_of_text(text: str) -> float | None:
    found = _PRICE.fullmatch(text.strip())
    return float(found[1].replace(",", "")) if found else None


@lru_cache(1 << 16)
def _brand_name(text: str) -> str | None:
    """2018 has the byline of the page in some rows: "by", many blanks, the brand."""
    name = _clean(text)
    return name.removeprefix("by ") if name else None


@lru_cache(1 << 14)
def _category_name(text: str) -> str | None:
    """The name of a main category, which may be the alt text of its picture."""
    if text.startswith("<img"):
        alt = _ALT_TEXT.search(text)
        text = (alt[1] or alt[2] or "") if alt else ""
    return _clean(text)


class _CategoryTree:
    """The categories of a batch: each is declared with its name and its parent when a path first leads to it."""

    def __init__(self, batch: BatchBuilder) -> None:
        self._names = batch.entity_names
        self._relations = batch.entity_relations
        self._leaves: dict[tuple[object, ...], Sequence[str]] = {}

    def leaves(self, paths: object) -> Sequence[str]:
        """Keys of the categories that one path (2018, 2023) or a list of paths (2014) lead to."""
        if type(paths) is not list:
            return ()
        try:
            return self._leaves[tuple(paths)]
        except KeyError:
            leaf = self._declare(paths)
            leaves = self._leaves[tuple(paths)] = (leaf,) if leaf else ()
            return leaves
        except TypeError:  # lists cannot be looked up
            return [leaf for path in paths if type(path) is list and (leaf := self._declare(path))]

    def _declare(self, path: list[object]) -> str | None:
        key = None
        depth = 0
        for part in path:
            name = _clean(part) if isinstance(part, str) else None
            if name is None:
                continue
            if len(name) > MAX_CATEGORY_NAME or depth == MAX_CATEGORY_DEPTH:
                break
            parent, key = key, name if key is None else f"{key} > {name}"
            self._names["Category", key] = name
            if parent is not None:
                self._relations["SUBCATEGORY_OF", "Category", key, "Category", parent] = None
            depth += 1
        return key


def _image_refs(row: Row) -> list[str]:
    """Addresses of the main picture of a product, the largest first."""
    images = row.get("images")
    if images:
        return _refs_2023(images)
    large = _first_address(row.get("imageURLHighRes"))
    thumbnail = _first_address(row.get("imageURL") or row.get("image"))
    if thumbnail is None:
        only = large or _first_address(row.get("imUrl"))
        return [only] if only is not None and _NO_PICTURE not in only else []
    enlarged = _enlarged(thumbnail)
    return [enlarged, thumbnail] if large is None or large == enlarged else [large, enlarged, thumbnail]


def _first_address(addresses: object) -> str | None:
    if not addresses:
        return None
    for address in addresses if type(addresses) is list else (addresses,):
        if type(address) is str and address.startswith(_WEB):
            return address
    return None


def _enlarged(thumbnail: str) -> str:
    """The address without the part of the file name that asks for a size: `41abc._SS40_.jpg` is `41abc.jpg`."""
    name, _, rest = thumbnail.rpartition("._")
    end = rest.find("_.")
    return name + rest[end + 1 :] if name and end >= 0 and "/" not in rest else thumbnail


def _refs_2023(images: object) -> list[str]:
    """Of the picture marked as the main one, or else of the first that has an address at all."""
    if isinstance(images, dict):  # parallel lists, as in the Parquet view of the data
        columns = {key: values for key, values in images.items() if isinstance(values, list)}
        count = max(map(len, columns.values()), default=0)
        images = [{key: values[i] for key, values in columns.items() if i < len(values)} for i in range(count)]
    other: list[str] = []
    for image in images if type(images) is list else ():
        if type(image) is dict:
            is_main = image.get("variant") == "MAIN"
            if is_main or not other:
                refs = [size for key in _SIZES if type(size := image.get(key)) is str and size.startswith(_WEB)]
                if is_main and refs:
                    return refs
                other = other or refs
    return other


class _JoinedLinks:
    """Links of one type while a batch is parsed: the targets of an item as one string, which Arrow splits at the end.

    There are a dozen and more per item: kept as Python strings they would take more time than all the rest.
    """

    def __init__(self) -> None:
        self._items: list[int] = []
        self._targets: list[str] = []

    def add(self, item: int, targets: list[str]) -> None:
        """Item number `item` of the batch leads to those of `targets` that are text."""
        try:
            joined = "\n".join(targets)
        except TypeError:
            joined = "\n".join(target for target in targets if isinstance(target, str))
        self._items.append(item)
        self._targets.append(joined)

    def split_into(self, edges: EdgeLists) -> None:
        """Fill `edges`, without the targets that are blank."""
        lists = pc.split_pattern(pa.array(self._targets, pa.string()), "\n")
        items = pa.array(self._items, pa.int32()).take(pc.list_parent_indices(lists))
        targets = lists.flatten()
        named = pc.not_equal(targets, "")
        if not pc.all(named).as_py():
            items, targets = items.filter(named), targets.filter(named)
        edges.items, edges.targets = items, targets
