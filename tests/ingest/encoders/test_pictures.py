"""Pictures as an encoder gets them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from shapes import shape_items, write_items

from ingest.datasets import DataRoot
from ingest.encoders.pictures import image_paths, load_pictures, open_picture
from ingest.errors import Graph2ImageError


def save(data: DataRoot, image: Image.Image, name: str, **options: object) -> str:
    stream = io.BytesIO()
    image.save(stream, name.split(".")[1].upper().replace("JPG", "JPEG"), **options)
    data.write_bytes(name, stream.getvalue())
    return name


def test_pictures_come_in_the_order_asked_for(data: DataRoot) -> None:
    items = shape_items(100)
    write_items(data, items)
    hashes = [item.image_hash for item in items][::-1] * 2
    loaded = list(load_pictures(data, image_paths(data), hashes, np.asarray))
    expected = [np.asarray(Image.open(io.BytesIO(item.content))) for item in items][::-1] * 2
    assert all((got == want).all() for got, want in zip(loaded, expected, strict=True))


def test_unknown_picture(data: DataRoot) -> None:
    with pytest.raises(Graph2ImageError, match="there is no picture abc"):
        list(load_pictures(data, {}, ["abc"], np.asarray))


def test_transparency_is_white(data: DataRoot) -> None:
    picture = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert open_picture(data, save(data, picture, "clear.png")).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert open_picture(data, save(data, palette, "palette.png", transparency=1)).getpixel((0, 0)) == (255, 255, 255)


def test_gray_becomes_rgb_and_turned_photos_upright(data: DataRoot) -> None:
    assert open_picture(data, save(data, Image.new("L", (4, 4), 7), "gray.png")).getpixel((0, 0)) == (7, 7, 7)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    assert open_picture(data, save(data, Image.new("RGB", (8, 4)), "turned.jpg", exif=exif)).size == (4, 8)
