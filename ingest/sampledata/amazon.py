"""Products in the formats of the Amazon review data's 2014, 2018 and 2023 releases: metadata, photos, and defects.

A title says what a product is; brand and category, and so the co-view links between products, decide how it looks.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from ingest.errors import Graph2ImageError
from ingest.sampledata.defects import assign_defects, broken
from ingest.sampledata.products import BRANDS, PRODUCTS, Brand, Product, photograph
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

Release = Literal[2014, 2018, 2023]
MAIN_FILES = {
    2014: "meta_Home_and_Kitchen.json.gz",
    2018: "meta_Home_and_Kitchen.json.gz",
    2023: "meta_Home_and_Kitchen.jsonl.gz",
}
IMAGES = "images"
#: Addresses of the real shape on a host that cannot exist.
IMAGE_URL = "https://images.example/images/I/"
NO_IMAGE_2014 = "https://images.example/images/G/01/x-site/icons/no-img-sm._CB192198896_.gif"
JUNK_TITLE = 'var aPageStart = (new Date()).getTime(); var ue_t0=ue_t0||+new Date(); <span id="title">'
LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")

#: Share of the products that carries each defect of the real files.
DEFECTS = {"no_image": 0.015, "missing_file": 0.010, "broken_image": 0.005, "absent_keys": 0.030}
DEFECTS_2018 = {"junk_title": 0.015, "main_category_is_markup": 0.030, "junk_price": 0.030}


@dataclass(frozen=True)
class _Item:
    """One product for sale."""

    asin: str
    product: Product
    brand: Brand
    title: str
    price: float
    photo: str
    seed: tuple[int, int]
    defect: str | None


def paint_amazon(
    folder: Path, *, items: int = 600, seed: int = 0, release: Release = 2018, workers: int | None = None
) -> SampleReport:
    """Photograph products of twelve invented brands, in the format of one release of the Amazon metadata.

    The files depend on `items`, `seed` and `release` only. A folder that holds them already is left as it is.

    Parameters
    ----------
    folder
        Gets `meta_Home_and_Kitchen.json.gz` (2023: `.jsonl.gz`) and `images/`, where each photo has the file name of
        its address in the metadata: `hi_res` or else `large` in 2023, `imageURLHighRes` in 2018, `imUrl` in 2014.
    items
        Products; a few have no photo, or a broken one: see `SampleReport.defects`.
    release
        2014: Python literals. 2018: JSON, with junk titles, HTML entities, repeated ASINs. 2023: JSON, no co-views.
    workers
        Processes that paint; None for one per core.

    Raises
    ------
    Graph2ImageError
        If `items` or `seed` is too small, there is no such release, `folder` holds other metadata or cannot be
        written, or the disk is full.
    """
    if release not in MAIN_FILES:
        raise Graph2ImageError(
            f"there is no Amazon release {release}", f"Choose one of {', '.join(map(str, MAIN_FILES))}."
        )
    check_request(items, seed)
    folder = Path(folder)
    rng = np.random.default_rng((seed, 0xA3A204))
    shop = _stock(rng, items, seed, release)
    defects = Counter(item.defect for item in shop if item.defect)
    write_row = {2014: _row_2014, 2018: _row_2018, 2023: _row_2023}[release]
    lines = []
    for item in shop:
        row = write_row(item, _links(rng, shop, item, defects), rng)
        if item.defect == "absent_keys":
            for key in rng.choice([k for k in row if k in OPTIONAL], 2, replace=False).tolist():
                del row[key]
        lines.append(repr(row).encode() if release == 2014 else orjson.dumps(row))
    if release == 2018:
        for i in rng.choice(len(lines), max(1, items // 100), replace=False).tolist():
            lines.append(lines[i])
            defects["repeated_asin"] += 1
    content = gzipped(b"".join(line + b"\n" for line in lines))
    photos = [item for item in shop if item.defect not in ("no_image", "missing_file")]
    report = SampleReport(folder, items, len(lines), len(photos), dict(sorted(defects.items())), True)
    with explain_write_errors(folder):
        if already_there(folder, MAIN_FILES[release], content, [f"{IMAGES}/{item.photo}" for item in photos]):
            log.info("the products in %s are there already", folder)
            return replace(report, changed=False)
        log.info("photographing %d products into %s", len(photos), folder)
        paint_all(partial(_save_photo, folder / IMAGES), photos, workers=workers, what="photographing")
        write_whole(folder / MAIN_FILES[release], content)
    return report


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


def _save_photo(folder: Path, item: _Item) -> None:
    content = jpeg(photograph(item.product, item.brand, np.random.default_rng(item.seed)))
    write_whole(folder / item.photo, broken(content) if item.defect == "broken_image" else content)


def _stock(rng: np.random.Generator, items: int, seed: int, release: int) -> list[_Item]:
    flawed = assign_defects(rng, items, DEFECTS | (DEFECTS_2018 if release == 2018 else {}))
    suffix = {2014: ".jpg", 2018: ".jpg", 2023: "._AC_UL1500_.jpg"}[release]
    shop = []
    for i in range(items):
        product, brand = PRODUCTS[int(rng.integers(len(PRODUCTS)))], BRANDS[int(rng.integers(len(BRANDS)))]
        # Mostly B0…, some of the older kind that is an ISBN with leading zeros; the number keeps them apart.
        code = "".join(rng.choice(LETTERS, 4).tolist())
        asin = f"{i:010d}" if rng.random() < 0.05 else f"B0{code}{i:04d}"
        shop.append(
            _Item(
                asin,
                product,
                brand,
                product.titles[int(rng.integers(len(product.titles)))],
                round(float(rng.uniform(6, 120)), 2),
                f"71{''.join(rng.choice(LETTERS, 4).tolist())}{i:04d}L{suffix}",
                (seed, i),
                flawed.get(i),
            )
        )
    return shop


def _links(rng: np.random.Generator, shop: list[_Item], item: _Item, defects: Counter[str]) -> dict[str, list[str]]:
    """ASINs viewed and bought beside `item`: of the same brand, of the same kind, and some that are not listed."""
    same_brand = [other.asin for other in shop if other.brand is item.brand and other is not item]
    same_kind = [other.asin for other in shop if other.product is item.product and other is not item]

    def pick(asins: list[str], count: int) -> list[str]:
        return rng.choice(asins, min(count, len(asins)), replace=False).tolist() if asins else []

    viewed = pick(same_brand, int(rng.integers(2, 7))) + pick(same_kind, int(rng.integers(1, 4)))
    gone = ["B0" + "".join(rng.choice(LETTERS, 8).tolist()) for _ in range(int(rng.integers(0, 4)))]
    defects["dangling_link"] += len(gone)
    viewed = list(dict.fromkeys([*viewed, *gone]))
    return {"viewed": [viewed[i] for i in rng.permutation(len(viewed))], "bought": pick(same_brand, 2)}


def _row_2014(item: _Item, links: dict[str, list[str]], rng: np.random.Generator) -> dict[str, Any]:
    return {
        "asin": item.asin,
        "categories": [["Home & Kitchen", "Kitchen & Home Décor", item.product.category]],
        "description": f"{item.title}. It's made to be used every day.",
        "title": item.title,
        "price": item.price,
        "salesRank": {"Home & Kitchen": int(rng.integers(1, 900_000))},
        "imUrl": NO_IMAGE_2014 if item.defect == "no_image" else IMAGE_URL + item.photo,
        "brand": item.brand.name,
        "related": {
            "also_viewed": links["viewed"],
            "also_bought": links["bought"],
            "buy_after_viewing": links["viewed"][:2],
        },
    }


def _row_2018(item: _Item, links: dict[str, list[str]], rng: np.random.Generator) -> dict[str, Any]:
    price = f"${item.price:.2f}"
    if item.defect == "junk_price":
        price = ("", f"{price} - ${item.price * 2:.2f}", ".a-box-inner{background-color:#fff}")[int(rng.integers(3))]
    photo = [] if item.defect == "no_image" else [IMAGE_URL + item.photo]
    main_category = "Amazon Home"
    if item.defect == "main_category_is_markup":
        main_category = (
            '<img src="https://images.example/images/G/01/nav2/home.png" class="nav-categ-image" alt="Home"/>'
        )
    return {
        "category": ["Home &amp; Kitchen", "Kitchen &amp; D&eacute;cor", item.product.category],
        "tech1": "",
        "description": [f"{item.title}. Made to be used every day.", ""],
        "fit": "",
        "title": JUNK_TITLE if item.defect == "junk_title" else item.title.replace("&", "&amp;"),
        "also_buy": links["bought"],
        "tech2": "",
        "brand": item.brand.name.replace("&", "&amp;"),
        "feature": ["Dishwasher safe", "Gift-ready box"],
        "rank": f"{int(rng.integers(1, 900_000)):,} in Home &amp; Kitchen (",
        "also_view": links["viewed"],
        "main_cat": main_category,
        "similar_item": "",
        "date": "",
        "price": price,
        "asin": item.asin,
        "imageURL": [url.replace(".jpg", "._SS40_.jpg") for url in photo],
        "imageURLHighRes": photo,
    }


def _row_2023(item: _Item, links: dict[str, list[str]], rng: np.random.Generator) -> dict[str, Any]:
    hi_res: str | None = IMAGE_URL + item.photo
    large = f"{IMAGE_URL}31{item.photo[2:]}".replace("._AC_UL1500_.", "._AC_.")
    if rng.random() < 0.1:  # then the large one is all there is
        hi_res, large = None, IMAGE_URL + item.photo
    thumb = (IMAGE_URL + item.photo).replace("._AC_UL1500_.", "._AC_SR38,50_.")
    main = {"thumb": thumb, "large": large, "variant": "MAIN", "hi_res": hi_res}
    side = {key: value.replace("images/I/", "images/I/S") if value else None for key, value in main.items()}
    return {
        "main_category": "Amazon Home",
        "title": item.title,
        "average_rating": round(float(rng.uniform(3, 5)), 1),
        "rating_number": int(rng.integers(1, 4000)),
        "features": ["Dishwasher safe"],
        "description": [],
        "price": item.price if rng.random() < 0.7 else None,
        "images": [] if item.defect == "no_image" else [side | {"variant": "PT01"}, main],
        "videos": [],
        "store": item.brand.name,
        "categories": ["Home & Kitchen", "Kitchen & Home Décor", item.product.category],
        "details": {"Brand": item.brand.name},
        "parent_asin": item.asin,
        "bought_together": links["bought"] if rng.random() < 0.01 else None,
    }
