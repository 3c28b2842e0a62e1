"""Amazon sample data: each release in its own dialect, links, junk, and photos found by their address."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ingest.errors import Graph2ImageError
from ingest.sampledata import SampleReport, paint_amazon
from ingest.sampledata.amazon import MAIN_FILES
from ingest.sampledata.palettes import srgb_to_oklab
from ingest.sampledata.products import BRANDS, PRODUCTS, photograph

ITEMS = 60


@pytest.fixture(scope="module", params=[2014, 2018, 2023])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, SampleReport]:
    release = request.param
    return release, paint_amazon(tmp_path_factory.mktemp("shop"), items=ITEMS, seed=1, release=release, workers=1)


def rows_of(release: int, report: SampleReport) -> list[dict[str, Any]]:
    with gzip.open(report.folder / MAIN_FILES[release], "rt", encoding="utf-8") as lines:
        return [ast.literal_eval(line) if release == 2014 else json.loads(line) for line in lines]


def photo_url(release: int, row: dict[str, Any]) -> str | None:
    if release == 2014:
        return None if "no-img" in row["imUrl"] else row["imUrl"]
    if release == 2018:
        return next(iter(row["imageURLHighRes"]), None)
    main = [image for image in row["images"] if image["variant"] == "MAIN"]
    return (main[0]["hi_res"] or main[0]["large"]) if main else None


def asin(release: int, row: dict[str, Any]) -> str:
    return row["parent_asin" if release == 2023 else "asin"]


def test_lines_are_in_the_dialect_of_the_release(shop: tuple[int, SampleReport]) -> None:
    release, report = shop
    rows = rows_of(release, report)
    assert len(rows) == report.rows
    assert len({asin(release, row) for row in rows}) == report.items == ITEMS
    assert all(isinstance(asin(release, row), str) and len(asin(release, row)) == 10 for row in rows)
    if release == 2014:
        with gzip.open(report.folder / MAIN_FILES[release], "rt") as lines, pytest.raises(json.JSONDecodeError):
            json.loads(lines.readline())


def test_photos_are_found_by_the_file_name_of_their_address(shop: tuple[int, SampleReport]) -> None:
    release, report = shop
    urls = {asin(release, row): photo_url(release, row) for row in rows_of(release, report)}
    assert sum(url is None for url in urls.values()) == report.defects["no_image"]
    files = {path.name for path in (report.folder / "images").iterdir()}
    wanted = {url.rsplit("/", 1)[1] for url in urls.values() if url}
    assert files < wanted
    assert len(wanted - files) == report.defects["missing_file"]
    assert len(files) == report.images
    broken = 0
    for file in files:
        try:
            with Image.open(report.folder / "images" / file) as image:
                image.load()
                assert image.size == (128, 128)
        except OSError:
            broken += 1
    assert broken == report.defects["broken_image"]


def test_links_dangle_as_often_as_reported(shop: tuple[int, SampleReport]) -> None:
    release, report = shop
    if release == 2023:  # bought_together is nearly always null
        return
    rows = {asin(release, row): row for row in rows_of(release, report)}
    links = {key: row["related"]["also_viewed"] if release == 2014 else row["also_view"] for key, row in rows.items()}
    dangling = sum(target not in rows for targets in links.values() for target in targets)
    assert dangling == report.defects["dangling_link"] > 0
    assert all(key not in targets for key, targets in links.items())
    brands = {key: row.get("brand") for key, row in rows.items()}
    kept = [(a, b) for a, targets in links.items() for b in targets if b in rows and brands[a] and brands[b]]
    same = sum(brands[a] == brands[b] for a, b in kept) / len(kept)
    assert same > 0.4  # chance is one in twelve


def test_2018_is_untidy(tmp_path: Path) -> None:
    report = paint_amazon(tmp_path, items=ITEMS, seed=1, release=2018, workers=1)
    rows = rows_of(2018, report)
    assert report.rows - report.items == report.defects["repeated_asin"] > 0
    distinct = {row["asin"]: row for row in rows}.values()
    assert sum("aPageStart" in row["title"] for row in distinct) == report.defects["junk_title"] > 0
    assert sum(row["main_cat"].startswith("<img") for row in distinct) == report.defects["main_category_is_markup"] > 0
    assert sum(row.get("brand", "").startswith("by\n") for row in distinct) == report.defects["brand_is_byline"] > 0
    assert sum(len(row["category"]) > 3 for row in distinct) == report.defects["feature_in_category"] > 0
    assert all("&amp;" in row["category"][0] for row in rows)
    assert all(isinstance(row.get("price", ""), str) for row in rows)


def test_titles_name_no_brand(shop: tuple[int, SampleReport]) -> None:
    release, report = shop
    for row in rows_of(release, report):
        assert not any(brand.name.lower() in row["title"].lower() for brand in BRANDS)


@pytest.mark.slow
def test_same_request_same_bytes_and_a_second_run_is_unchanged(tmp_path: Path) -> None:
    one, two = (paint_amazon(tmp_path / name, items=60, workers=workers) for name, workers in (("a", 1), ("b", 2)))
    files = sorted(path.relative_to(one.folder) for path in one.folder.rglob("*") if path.is_file())
    assert all((one.folder / file).read_bytes() == (two.folder / file).read_bytes() for file in files)
    assert len(files) == sum(path.is_file() for path in two.folder.rglob("*"))
    assert one.changed
    assert not paint_amazon(tmp_path / "a", items=60).changed
    with pytest.raises(Graph2ImageError, match="is not this sample data"):
        paint_amazon(tmp_path / "a", items=61)


def test_metadata_alone_is_the_metadata_with_photos(tmp_path: Path, shop: tuple[int, SampleReport]) -> None:
    release, photographed = shop
    report = paint_amazon(tmp_path, items=ITEMS, seed=1, release=release, images=False)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == [MAIN_FILES[release]]
    content = (tmp_path / MAIN_FILES[release]).read_bytes()
    assert content == (photographed.folder / MAIN_FILES[release]).read_bytes()
    assert (report.rows, report.images) == (photographed.rows, 0)
    gone = {"missing_file", "broken_image"}
    assert report.defects == {name: count for name, count in photographed.defects.items() if name not in gone}
    assert not paint_amazon(tmp_path, items=ITEMS, seed=1, release=release, images=False).changed  # type: ignore[arg-type]


def test_rows_are_as_long_as_real_ones(shop: tuple[int, SampleReport]) -> None:
    release, report = shop
    with gzip.open(report.folder / MAIN_FILES[release]) as lines:
        lengths = [len(line) for line in lines]
    assert 900 < sum(lengths) / len(lengths) < 2000
    assert len(set(lengths)) > ITEMS // 2


def test_an_unknown_release_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match="no Amazon release 2016"):
        paint_amazon(tmp_path, release=2016)  # type: ignore[arg-type]


def test_photos_stand_on_white_in_the_colors_of_the_brand() -> None:
    means = np.zeros((len(BRANDS), len(PRODUCTS), 3))
    for b, brand in enumerate(BRANDS):
        for p, product in enumerate(PRODUCTS):
            photo = photograph(product, brand, np.random.default_rng((b, p)))
            corners = photo[[0, 0], [0, -1]]
            assert corners.min() > 0.95
            lab = srgb_to_oklab(photo).reshape(-1, 3)
            means[b, p] = lab[lab[:, 0] < 0.95].mean(0)
    centers = means[:, ::2].mean(1)
    guesses = ((means[:, 1::2, None] - centers) ** 2).sum(-1).argmin(-1)
    assert (guesses == np.arange(len(BRANDS))[:, None]).mean() > 0.6  # chance is one in twelve
