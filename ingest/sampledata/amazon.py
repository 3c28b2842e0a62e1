"""Products in the formats of the Amazon review data's 2014, 2018 and 2023 releases: metadata, photos, and defects.

A title says what a product is; brand and category, and so the co-view links between products, decide how it looks.
Rows are as long and as untidy as the real ones, so that the metadata alone serves to measure a reader.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import orjson

from ingest.errors import Graph2ImageError
from ingest.sampledata.blurbs import blurbs
from ingest.sampledata.captions import product_with_style
from ingest.sampledata.defects import assign_defects, broken
from ingest.sampledata.products import BRANDS, PRODUCTS, Brand, Product, photograph
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

Release = Literal[2014, 2018, 2023]
MAIN_FILES = {
    2014: "meta_Home_and_Kitchen.json.gz",
    2018: "meta_Home_and_Kitchen.json.gz",
    2023: "meta_Home_and_Kitchen.jsonl.gz",
}
IMAGES = "images"
#: URLs of the real shape on a host that cannot exist.
IMAGE_URL = "https://images.example/images/I/"
NO_IMAGE_2014 = "https://images.example/images/G/01/x-site/icons/no-img-sm._CB192198896_.gif"
JUNK_TITLE = 'var aPageStart = (new Date()).getTime(); var ue_t0=ue_t0||+new Date(); <span id="title">'
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: Listed products and those that only links name are numbered below this.
MAX_NUMBER = len(DIGITS) ** 5

#: Share of the products that carries each defect of the real files.
DEFECTS = {"no_image": 0.015, "missing_file": 0.010, "broken_image": 0.005, "absent_keys": 0.030}
DEFECTS_2018 = {
    "junk_title": 0.015,
    "main_category_is_markup": 0.030,
    "junk_price": 0.030,
    "brand_is_byline": 0.010,
    "feature_in_category": 0.020,
}
#: Those of the photos, not of the rows.
PHOTO_DEFECTS = ("missing_file", "broken_image")
#: Share of the rows of 2018 that come twice.
REPEATED = 0.01

#: Keys that real rows may lack.
OPTIONAL = {
    "description",
    "price",
    "salesRank",
    "brand",
    "tech1",
    "fit",
    "rank",
    "date",
    "feature",
    "features",
    "details",
}


@dataclass(frozen=True, slots=True)
class _Item:
    """One product for sale."""

    number: int
    asin: str
    product: Product
    brand: Brand
    title: str
    price: float
    photo: str
    defect: str | None


@dataclass(frozen=True, slots=True)
class _Links:
    """ASINs seen and bought beside a product."""

    viewed: list[str]
    bought: list[str]


def paint_amazon(
    folder: Path,
    *,
    items: int = 600,
    seed: int = 0,
    release: Release = 2018,
    workers: int | None = None,
    images: bool = True,
    brands: Sequence[Brand] = BRANDS,
    words_of_style: float = 0.0,
) -> SampleReport:
    """Photograph products of invented brands, in the format of one release of the Amazon metadata.

    The files depend on `items`, `seed`, `release`, `brands` and `words_of_style` only. A folder that holds them already
    is left as it is.

    Parameters
    ----------
    folder
        Gets `meta_Home_and_Kitchen.json.gz` (2023: `.jsonl.gz`) and `images/`, where each photo has the file name of
        its URL in the metadata: `hi_res` or else `large` in 2023, `imageURLHighRes` in 2018, `imUrl` in 2014.
    items
        Products; a few have no photo, or a broken one: see `SampleReport.defects`.
    release
        2014: Python literals. 2018: JSON, with junk titles, HTML entities, repeated ASINs. 2023: JSON, no co-views.
    workers
        Processes that paint; None for one per core.
    images
        False for the metadata alone, the same as with photos: some 10,000 rows a second.
    brands
        Who makes the products (`casts.invent_brands` makes others than the usual twelve).
    words_of_style
        Share of the titles that also say how the product looks, and some of these by whom it is.

    Raises
    ------
    Graph2ImageError
        If `items` or `seed` is too small, there is no such release or no brand, `words_of_style` is no share, `folder`
        holds other metadata or cannot be written, or the disk is full.
    """
    if release not in MAIN_FILES:
        raise Graph2ImageError(
            f"there is no Amazon release {release}", f"Choose one of {', '.join(map(str, MAIN_FILES))}."
        )
    check_request(items, seed, brands, words_of_style)
    seed = seed_of_cast(seed, brands, BRANDS)
    folder = Path(folder)
    rng = Random(seed)
    shop = _stock(rng, items, seed, release, brands, words_of_style)
    defects = Counter(item.defect for item in shop if item.defect)
    lines = _lines(rng, shop, release, defects)
    photos = [item for item in shop if images and item.defect not in ("no_image", "missing_file")]
    with explain_write_errors(folder), drafted(folder / MAIN_FILES[release], lines, what="listing") as draft:
        rows = items + defects["repeated_asin"]
        occurring = {name: count for name, count in sorted(defects.items()) if images or name not in PHOTO_DEFECTS}
        report = SampleReport(folder, items, rows, len(photos), occurring, True)
        if already_there(folder, MAIN_FILES[release], draft, [f"{IMAGES}/{item.photo}" for item in photos]):
            log.info("the products in %s exist already", folder)
            return replace(report, changed=False)
        log.info("generating %d images of products in %s", len(photos), folder)
        paint_all(partial(_save_photo, folder / IMAGES, seed), photos, workers=workers, what="photographing")
        draft.replace(folder / MAIN_FILES[release])
    return report


def _save_photo(folder: Path, seed: int, item: _Item) -> None:
    content = jpeg(photograph(item.product, item.brand, np.random.default_rng((seed, item.number))))
    write_whole(folder / item.photo, broken(content) if item.defect == "broken_image" else content)


def _stock(
    rng: Random, items: int, seed: int, release: int, brands: Sequence[Brand], words_of_style: float
) -> list[_Item]:
    shares = DEFECTS | (DEFECTS_2018 if release == 2018 else {})
    flawed = assign_defects(np.random.default_rng((seed, 0xA3A204)), items, shares)
    suffix = "L._AC_UL1500_.jpg" if release == 2023 else "L.jpg"
    shop = []
    for number in range(items):
        product, code = rng.choice(PRODUCTS), _code(rng, number)
        # Some are of the older kind that is an ISBN with leading zeros.
        asin = f"{number:010d}" if rng.random() < 0.05 else f"B0{code}"
        brand, title = rng.choice(brands), rng.choice(product.titles)
        words = Random(f"amazon {seed} {number}")
        if words.random() < words_of_style:
            title = product_with_style(words, title, brand)
        shop.append(
            _Item(
                number,
                asin,
                product,
                brand,
                title,
                round(rng.uniform(6, 120), 2),
                f"71{code}{suffix}",
                flawed.get(number),
            )
        )
    return shop


def _code(rng: Random, number: int) -> str:
    """Eight letters and digits of which the last five are the number."""
    digits = rng.choices(DIGITS, k=3)
    for _ in range(5):
        number, digit = divmod(number, len(DIGITS))
        digits.append(DIGITS[digit])
    return "".join(digits)


def _lines(rng: Random, shop: list[_Item], release: int, defects: Counter[str]) -> Iterator[bytes]:
    """The rows as written; counts the defects that only show in them."""
    write_row = {2014: _row_2014, 2018: _row_2018, 2023: _row_2023}[release]
    comes_twice = set(rng.sample(range(len(shop)), max(1, round(REPEATED * len(shop))))) if release == 2018 else ()
    by_brand, by_product = defaultdict(list), defaultdict(list)
    for item in shop:
        by_brand[item.brand.name].append(item.asin)
        by_product[item.product.category].append(item.asin)
    repeats = []
    for item in shop:
        gone = [f"B0{_code(rng, rng.randrange(len(shop), MAX_NUMBER))}" for _ in range(rng.randrange(6))]
        defects["dangling_link"] += len(gone)
        same_brand, same_kind = by_brand[item.brand.name], by_product[item.product.category]
        row = write_row(rng, item, _links(rng, item, same_brand, same_kind, gone))
        if item.defect == "absent_keys":
            for key in rng.sample([key for key in row if key in OPTIONAL], 2):
                del row[key]
        line = (repr(row).encode() if release == 2014 else orjson.dumps(row)) + b"\n"
        yield line
        if item.number in comes_twice:
            repeats.append(line)
    if repeats:
        defects["repeated_asin"] = len(repeats)
    yield from repeats


def _links(rng: Random, item: _Item, same_brand: list[str], same_kind: list[str], gone: list[str]) -> _Links:
    """Of the same brand, of the same kind, and some that are not listed."""
    viewed = dict.fromkeys(rng.choices(same_brand, k=rng.randint(2, 9)) + rng.choices(same_kind, k=rng.randint(1, 4)))
    bought = dict.fromkeys(rng.choices(same_brand, k=rng.randint(0, 10)))
    viewed.pop(item.asin, None)
    bought.pop(item.asin, None)
    return _Links([*viewed, *gone], list(bought))


def _sentences(rng: Random, fewest: int, most: int) -> list[str]:
    return rng.choices(blurbs(), k=rng.randint(fewest, most))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;") if "&" in text else text


def _row_2014(rng: Random, item: _Item, links: _Links) -> dict[str, Any]:
    return {
        "asin": item.asin,
        "categories": [["Home & Kitchen", "Kitchen & Home Décor", item.product.category]],
        "description": f"{item.title}. It's made to be used every day. {' '.join(_sentences(rng, 3, 9))}",
        "title": item.title,
        "price": item.price,
        "salesRank": {"Home & Kitchen": rng.randrange(1, 900_000)},
        "imUrl": NO_IMAGE_2014 if item.defect == "no_image" else IMAGE_URL + item.photo,
        "brand": item.brand.name,
        "related": {
            "also_viewed": links.viewed,
            "also_bought": links.bought,
            "buy_after_viewing": links.viewed[:2],
        },
    }


def _row_2018(rng: Random, item: _Item, links: _Links) -> dict[str, Any]:
    defect = item.defect
    price = f"${item.price:.2f}"
    if defect == "junk_price":
        price = rng.choice(("", f"{price} - ${item.price * 2:.2f}", ".a-box-inner{background-color:#fff}"))
    photos = [] if defect == "no_image" else [IMAGE_URL + item.photo]
    if photos:  # and other views of it
        photos += [f"{IMAGE_URL}{view}{item.photo}" for view in range(1, rng.randint(2, 4))]
    main_category = "Amazon Home"
    if defect == "main_category_is_markup":
        main_category = (
            '<img src="https://images.example/images/G/01/nav2/home.png" class="nav-categ-image" alt="Home"/>'
        )
    features = [_escaped(sentence) for sentence in _sentences(rng, 3, 5)]
    brand = _escaped(item.brand.name)
    return {
        "category": [
            "Home &amp; Kitchen",
            "Kitchen &amp; D&eacute;cor",
            item.product.category,
            *(features[:2] if defect == "feature_in_category" else ()),
        ],
        "tech1": "",
        "description": [f"{item.title}. Made to be used every day.", " ".join(_sentences(rng, 1, 5)), ""],
        "fit": "",
        "title": JUNK_TITLE if defect == "junk_title" else _escaped(item.title),
        "also_buy": links.bought,
        "tech2": "",
        "brand": f"by\n    \n    {brand}" if defect == "brand_is_byline" else brand,
        "feature": features,
        "rank": f"{rng.randrange(1, 900_000):,} in Home &amp; Kitchen (",
        "also_view": links.viewed,
        "main_cat": main_category,
        "similar_item": "",
        "date": "",
        "price": price,
        "asin": item.asin,
        "imageURL": [url.replace(".jpg", "._SS40_.jpg") for url in photos],
        "imageURLHighRes": photos,
    }


def _row_2023(rng: Random, item: _Item, links: _Links) -> dict[str, Any]:
    url = IMAGE_URL + item.photo
    main: dict[str, str | None] = {
        "thumb": url.replace("._AC_UL1500_.", "._AC_SR38,50_."),
        "large": f"{IMAGE_URL}31{item.photo[2:]}".replace("._AC_UL1500_.", "._AC_."),
        "variant": "MAIN",
        "hi_res": url,
    }
    if rng.random() < 0.1:  # then the large one is all there is
        main |= {"hi_res": None, "large": url}
    side = {key: value.replace("images/I/", "images/I/S") if value else None for key, value in main.items()}
    return {
        "main_category": "Amazon Home",
        "title": item.title,
        "average_rating": round(rng.uniform(3, 5), 1),
        "rating_number": rng.randrange(1, 4000),
        "features": _sentences(rng, 2, 5),
        "description": _sentences(rng, 0, 3),
        "price": item.price if rng.random() < 0.7 else None,
        "images": [] if item.defect == "no_image" else [side | {"variant": "PT01"}, main],
        "videos": [],
        "store": item.brand.name,
        "categories": ["Home & Kitchen", "Kitchen & Home Décor", item.product.category],
        "details": {
            "Brand": item.brand.name,
            "Product Dimensions": f'{rng.randint(2, 40)}"D x {rng.randint(2, 40)}"W x {rng.randint(2, 40)}"H',
            "Item Weight": f"{rng.randint(2, 90) / 10} pounds",
            "Item model number": f"{item.asin[-5:]}-{rng.randrange(1000)}",
            "Best Sellers Rank": {"Home & Kitchen": rng.randrange(1, 900_000)},
            "Is Discontinued By Manufacturer": "No",
            "Date First Available": f"March {rng.randint(1, 31)}, 20{rng.randint(10, 23)}",
        },
        "parent_asin": item.asin,
        "bought_together": links.bought if rng.random() < 0.01 else None,
    }
