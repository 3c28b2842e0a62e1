"""Small shops to ingest: a table, images of random blobs (no two alike), and a spec."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.datasets.root import DataRoot

SPEC = """
source = "shop"

[table]
file = "things.csv"

[image]
folder = "images"
path = "{id}.jpg"

[item]
label = "Thing"
id = "{id}"
title = "{title}"
remove_from_text = ["color"]

[item.columns]
color = "string"
price = "float"
year = "int"

[[entity]]
label = "Color"
relation = "HAS_COLOR"
value = "{color}"

[[entity]]
label = "Tag"
relation = "HAS_TAG"
value = "{tags}"
separator = ";"

[[link]]
relation = "SIMILAR_TO"
target = "{similar}"
separator = ";"
"""

HEADER = "id,title,color,price,year,tags,similar\n"


def picture_bytes(seed: int, size: int = 96, quality: int = 90) -> bytes:
    """A JPEG of smooth random colors; the same seed at another size or quality is a near-duplicate."""
    noise = np.random.default_rng(seed).integers(0, 256, (17, 17, 3), np.uint8)
    image = Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    return picture_bytes


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    return DataRoot(str(tmp_path / "data"))


class Shop:
    """A folder with a table, images and a spec, written row by row."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spec = root / "shop.toml"
        self.table = root / "things.csv"
        self.images = root / "images"
        self.images.mkdir(parents=True)
        self.spec.write_text(SPEC)
        self.table.write_text(HEADER)

    def add(self, row: str, content: bytes | None = None) -> None:
        """Add a row of the table, with the image of its id."""
        with self.table.open("a", newline="") as stream:
            stream.write(row + "\n")
        if content is not None:
            (self.images / f"{row.split(',', maxsplit=1)[0]}.jpg").write_bytes(content)

    def fill(self, count: int) -> Shop:
        """Add `count` good rows with ids t0, t1, …"""
        for number in range(count):
            color = ("red", "green", "NA")[number % 3]
            row = f"t{number},Thing {number} {color},{color},{number}.5,{1990 + number},round;soft,t{number + 1}"
            self.add(row, picture_bytes(number))
        return self


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop")
