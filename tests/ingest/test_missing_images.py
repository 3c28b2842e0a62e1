"""An item whose image cannot be had is kept, recorded with the reason, and gets its image when it comes."""

from __future__ import annotations

import dataclasses
import socket
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webserver import Reply, serve

from ingest.datasets.root import DataRoot
from ingest.images import fetch
from ingest.images.fetch import FetchSettings
from ingest.ingestion import Amazon, Table
from ingest.parts import PART_SCHEMAS
from ingest.pipeline import IngestReport, MostImagesMissing
from ingest.sources import ingest_source


def _images(data: DataRoot, source: str = "shop") -> dict[str, str | None]:
    """Image hash by item id."""
    rows = data.read(f"items/{source}", ["item_id", "image_hash"]).to_pylist()
    return {row["item_id"].removeprefix(f"{source}:"): row["image_hash"] for row in rows}


def _missing(data: DataRoot, source: str = "shop") -> dict[str, str]:
    """Reason by item id."""
    rows = data.read(f"missing-images/{source}").to_pylist()
    return {row["item_id"].removeprefix(f"{source}:"): row["reason"] for row in rows}


def _state(data: DataRoot, source: str = "shop") -> dict[str, object]:
    return {name: data.snapshot(f"{name}/{source}") for name in (*PART_SCHEMAS, "entities")}


def _table(shop: Any, data: DataRoot, **options: Any) -> IngestReport:
    return ingest_source(data, Table(spec=shop.spec, root=shop.root, **options))


# -- kept, and recorded ------------------------------------------------------------------------------------------------


def test_an_item_without_its_image_keeps_all_else(shop, data, picture) -> None:
    shop.fill(9)
    shop.add("a,Cut,red,1,2000,round,t0;t1", picture(50)[:-100])
    shop.add("b,Absent,red,1,2000,round,a")
    shop.add("../c,Outside,red,1,2000,round,b")
    report = _table(shop, data)
    assert (report.items, report.rejected, report.images_new) == (12, {}, 9)
    assert report.missing_images == {"image_missing": 1, "image_truncated": 1, "image_unsafe_path": 1}
    assert report.most_images_missing is None
    assert [dict(row, detail=None) for row in data.read("missing-images/shop").to_pylist()] == [
        {
            "item_id": f"shop:{item}",
            "file": "things.csv",
            "row": row,
            "image_ref": f"{item}.jpg",
            "reason": reason,
            "detail": None,
        }
        for item, row, reason in (
            ("a", 11, "image_truncated"),
            ("b", 12, "image_missing"),
            ("../c", 13, "image_unsafe_path"),
        )
    ]
    items = {row["item_id"]: row for row in data.read("items/shop").to_pylist()}
    for item in ("shop:a", "shop:b", "shop:../c"):
        assert items[item]["image_hash"] is None
        assert (items[item]["group_id"], items[item]["split"] in ("train", "val", "test")) == (item, True)
    ends = {(row["from_id"], row["to_id"]) for row in data.read("relations/shop").to_pylist()}
    assert {("shop:a", "shop:t0"), ("shop:b", "shop:a"), ("shop:../c", "shop:b"), ("shop:b", "shop/Tag/round")} <= ends
    assert _table(shop, data) == dataclasses.replace(report, images_new=0, changed=False)


def test_required_images_make_rejects(shop, data, picture) -> None:
    shop.fill(5)
    shop.add("a,Cut,red,1,2000,,", picture(50)[:-100])
    shop.add("b,Absent,red,1,2000,,")
    report = _table(shop, data, require_images=True)
    assert (report.items, report.missing_images) == (5, {})
    assert report.rejected == {"image_missing": 1, "image_truncated": 1}
    kept = _table(shop, data)
    assert (kept.items, kept.rejected, set(_missing(data))) == (7, {}, {"a", "b"})
    again = _table(shop, data, require_images=True, prune=True)
    assert (again.items_total, again.gone, _missing(data)) == (5, 2, {})


def test_a_duplicate_is_not_missing_twice(shop, data) -> None:
    shop.fill(3)
    shop.add("b,Absent,red,1,2000,,")
    shop.add("b,Again,red,1,2000,,")
    report = _table(shop, data)
    assert (report.duplicates, report.missing_images) == (1, {"image_missing": 1})


# -- it comes, or goes -------------------------------------------------------------------------------------------------


def test_an_image_that_comes_is_filled_in(shop, data, picture, tmp_path) -> None:
    shop.fill(8)
    shop.add("a,Cut,red,1,2000,,", picture(50)[:-100])
    shop.add("b,Absent,red,1,2000,,")
    _table(shop, data)
    (shop.images / "a.jpg").write_bytes(picture(50))
    (shop.images / "b.jpg").write_bytes(picture(51))
    report = _table(shop, data)
    assert (report.missing_images, report.images_new, report.changed) == ({}, 2, True)
    assert None not in _images(data).values()
    other = DataRoot(str(tmp_path / "undisturbed"))
    _table(shop, other)
    assert _state(data) == _state(other)


def test_an_image_that_goes_is_kept(shop, data, picture) -> None:
    shop.fill(10)
    shop.add("b,Absent,red,1,2000,,")
    before = _table(shop, data)
    images = _images(data)
    shop.images.rename(shop.root / "elsewhere")
    shop.images.mkdir()
    report = _table(shop, data)
    assert _images(data) == images
    assert (report.missing_images, report.images_kept, report.items_total) == ({"image_missing": 1}, 10, 11)
    assert report.most_images_missing is not None
    # But not one that the row no longer names, nor one that is no longer stored.
    shop.spec.write_text(shop.spec.read_text().replace("{id}.jpg", "{title}.jpg"))
    assert _table(shop, data).missing_images == {"image_missing": 11}
    assert set(_images(data).values()) == {None}
    shop.spec.write_text(shop.spec.read_text().replace("{title}.jpg", "{id}.jpg"))
    shop.images.rmdir()
    (shop.root / "elsewhere").rename(shop.images)
    assert _table(shop, data).missing_images == before.missing_images
    [row] = [row for row in data.read("images").to_pylist() if row["image_hash"] == images["t3"]]
    Path(data.path(row["path"])).unlink()
    (shop.images / "t3.jpg").unlink()
    assert _table(shop, data).missing_images == {"image_missing": 2}
    assert [item for item, image in _images(data).items() if image is None] == ["t3", "b"]


class Products:
    """Files of product rows, and the folder of their images."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = root / "images"
        self.images.mkdir(parents=True)
        self.data = DataRoot(str(root / "data"))

    def write(self, name: str, *rows: str, place: str = "https://images.example") -> None:
        """Each row is `id:title`."""
        pairs = (row.split(":") for row in rows)
        lines = [orjson.dumps({"asin": i, "title": t, "imageURLHighRes": [f"{place}/{i}.jpg"]}) for i, t in pairs]
        (self.root / name).write_bytes(b"\n".join(lines) + b"\n")

    def ingest(self, *names: str, **options: Any) -> IngestReport:
        files = tuple(str(self.root / name) for name in names)
        allowed = FetchSettings(allowed_private_hosts=("127.0.0.1",), attempts=1)
        return ingest_source(self.data, Amazon(files=files, **options), allowed)


@pytest.fixture
def products(tmp_path: Path) -> Products:
    return Products(tmp_path / "products")


def test_without_images_given_items_keep_theirs(products: Products, picture) -> None:
    for item in "12":
        (products.images / f"{item}.jpg").write_bytes(picture(int(item)))
    products.write("a.json", "1:one", "2:two", "3:three")
    products.ingest("a.json", images=products.images)
    images = _images(products.data, "amazon")
    assert [item for item, image in images.items() if image is None] == ["3"]
    assert products.ingest("a.json").files_unchanged == 1
    products.write("a.json", "1:eins", "2:zwei", "3:drei")
    assert products.ingest("a.json").files_unchanged == 0
    assert _images(products.data, "amazon") == images


def test_without_images_given_it_stays_known_what_is_missing(products: Products, picture) -> None:
    (products.images / "1.jpg").write_bytes(picture(1))
    (products.images / "2.jpg").write_bytes(b"no image")
    products.write("a.json", "1:one", "2:two", "3:three", "4:four")
    assert products.ingest("a.json", images=products.images).missing_images == {
        "image_not_an_image": 1,
        "image_missing": 2,
    }
    before = products.data.read("missing-images/amazon").sort_by("item_id").to_pylist()
    products.write("a.json", "3:drei", "2:zwei", "1:eins")
    report = products.ingest("a.json")
    assert report.missing_images == {"image_not_an_image": 1, "image_missing": 1}
    after = {row["item_id"]: row for row in products.data.read("missing-images/amazon").to_pylist()}
    assert after.keys() == {"amazon:2", "amazon:3", "amazon:4"}  # 4 is gone from the file, and kept
    assert after["amazon:2"] == before[0]
    assert (after["amazon:3"]["row"], after["amazon:3"]["detail"]) == (1, before[1]["detail"])
    products.write("a.json", "3:drei", place="https://other.example")  # another image, of which nothing is known
    assert products.ingest("a.json").missing_images == {}


def test_files_that_take_items_over(products: Products, picture) -> None:
    for item in "13":
        (products.images / f"{item}.jpg").write_bytes(picture(int(item)))
    products.write("a.json", "1:one", "2:two")
    products.write("b.json", "3:three", "4:four")
    products.ingest("a.json", "b.json", images=products.images)
    assert _missing(products.data, "amazon") == {"2": "image_missing", "4": "image_missing"}
    (products.images / "1.jpg").unlink()
    products.write("b.json", "1:eins", "2:zwei", "3:drei")  # 4 is gone, 1 and 2 are taken over
    report = products.ingest("b.json", images=products.images)
    assert (report.gone, report.images_kept, report.missing_images) == (1, 1, {"image_missing": 1})
    images = _images(products.data, "amazon")
    assert [item for item, image in sorted(images.items()) if image is None] == ["2", "4"]
    rows = products.data.read("missing-images/amazon").to_pylist()
    assert {(row["item_id"], row["file"]) for row in rows} == {("amazon:2", "b.json"), ("amazon:4", "b.json")}
    assert products.ingest("b.json", images=products.images, prune=True).items_total == 3
    assert _missing(products.data, "amazon") == {"2": "image_missing"}


def test_fetched_images_are_tried_again_as_their_failure_allows(
    products: Products, picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "BACKOFF_SECONDS", 0.01)
    with serve() as web:
        web.replies = {"/1.jpg": Reply(picture(1)), "/2.jpg": Reply(status=503)}
        products.write("a.json", "1:one", "2:two", "3:three", place=web.url)
        report = products.ingest("a.json", fetch=True)
        assert (report.items, report.missing_images) == (3, {"image_missing": 1, "image_unreachable": 1})
        assert report.most_images_missing is not None
        assert report.most_images_missing.example == f"{web.url}/2.jpg"
        web.replies |= {"/2.jpg": Reply(picture(2)), "/3.jpg": Reply(picture(3))}
        report = products.ingest("a.json", fetch=True)
        assert (report.missing_images, web.requests["/3.jpg"]) == ({"image_missing": 1}, 1)
        assert products.ingest("a.json", refresh=True).missing_images == {}
        images = _images(products.data, "amazon")
        assert None not in images.values()
        # Gone from its host again, it stays; withdrawn from learning, it does not.
        web.replies |= {"/1.jpg": Reply(status=404), "/2.jpg": Reply(b"", headers=(("X-Robots-Tag", "noai"),))}
        report = products.ingest("a.json", refresh=True)
        assert (report.images_kept, report.missing_images) == (1, {"image_opted_out": 1})
        assert _images(products.data, "amazon") == {**images, "2": None}


def test_a_run_begins_with_what_was_never_asked_for(products: Products, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first images of the file use up the host's chances; those of the next run are others."""
    monkeypatch.setattr(fetch, "MAX_FAILED_CONNECTIONS", 3)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    products.write("a.json", *(f"{number}:title" for number in range(8)), place=url)
    ingestion = Amazon(files=(str(products.root / "a.json"),), fetch=True)
    once = FetchSettings(allowed_private_hosts=("127.0.0.1",), attempts=1, per_host=1)
    for asked in (3, 6, 8):
        assert ingest_source(products.data, ingestion, once).missing_images == {"image_unreachable": 8}
        urls = {row["url"] for row in products.data.read("fetches").to_pylist()}
        assert len(urls) == asked


_RUNS = st.lists(st.tuples(st.none() | st.sets(st.sampled_from("123")), st.booleans()), min_size=1, max_size=5)


@pytest.mark.slow
@settings(max_examples=30)
@given(_RUNS)
def test_any_history_of_images(tmp_path_factory, picture, runs) -> None:
    """Against a model: an item has the last image that was there, and is missing if a run has looked and found none."""
    products = Products(tmp_path_factory.mktemp("history") / "products")
    owned: set[str] = set()
    missing: set[str] = set()
    for number, (there, changed) in enumerate(runs):
        if changed or number == 0:
            products.write("a.json", *(f"{item}:title {number}" for item in "1234"))
        for item in "123":
            (products.images / f"{item}.jpg").unlink(missing_ok=True)
        for item in there or ():
            (products.images / f"{item}.jpg").write_bytes(picture(int(item)))
        report = products.ingest("a.json", images=None if there is None else products.images)
        owned |= there or set()
        if there is not None:
            missing = set("1234") - owned
        assert {item for item, image in _images(products.data, "amazon").items() if image} == owned
        assert set(_missing(products.data, "amazon")) == missing
        assert (report.items, sum(report.missing_images.values())) == (4, len(missing))


# -- most of them ------------------------------------------------------------------------------------------------------


def _products_with_images(products: Products, folder: Path, picture: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for item in "1234":
        (folder / f"{item}.jpg").write_bytes(picture(int(item)))
    products.write("a.json", *(f"{item}:title" for item in "12345"))


@pytest.mark.parametrize(("given_", "found"), [("", "images/L"), ("images", "images/L"), ("images/L/deep", "images/L")])
def test_a_folder_too_high_or_too_deep(products: Products, picture, given_: str, found: str) -> None:
    _products_with_images(products, products.images / "L", picture)
    (products.images / "L" / "deep").mkdir()
    report = products.ingest("a.json", images=products.root / given_)
    assert report.most_images_missing == MostImagesMissing(
        wanted=5,
        missing=5,
        example=str(products.root / given_ / "1.jpg"),
        problem="image_missing",
        found_in=str(products.root / found),
    )
    assert products.ingest("a.json", images=products.root / found).most_images_missing is None


def test_paths_with_folders_are_found_by_their_root(shop, data, picture) -> None:
    shop.spec.write_text(shop.spec.read_text().replace('"{id}.jpg"', '"big/{id}.jpg"'))
    shop.fill(3)
    shop.images.rename(shop.root / "big")
    (shop.root / "images" / "inner").mkdir(parents=True)
    (shop.root / "big").rename(shop.root / "images" / "inner" / "big")
    missing = _table(shop, data).most_images_missing
    assert missing is not None
    assert (missing.example, missing.found_in) == (f"{shop.images}/big/t0.jpg", f"{shop.images}/inner")


def test_an_archive_with_a_folder_in_it(products: Products, picture) -> None:
    _products_with_images(products, products.images, picture)
    archive = products.root / "images.zip"
    with zipfile.ZipFile(archive, "w") as pack:
        for path in products.images.iterdir():
            pack.write(path, f"photos/{path.name}")
    missing = products.ingest("a.json", images=archive).most_images_missing
    assert missing is not None
    assert (missing.example, missing.found_in) == (f"1.jpg in {archive}", f"{archive}, under photos/")


def test_nowhere(products: Products) -> None:
    products.write("a.json", "1:one", "2:two")
    missing = products.ingest("a.json", images=products.images).most_images_missing
    assert missing is not None
    assert missing.found_in is None
