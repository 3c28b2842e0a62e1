"""Images as an encoder gets them."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from shapes import shape_items, write_items

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from ingest.images.loading import (
    image_paths,
    load_images,
    open_image,
    square,
    try_images,
)
from ingest.images.store import content_hash, image_path


def save(data: DataRoot, image: Image.Image, name: str, **options: object) -> str:
    """Store an image in the format of `name`'s suffix, as an ingestion does; returns its path."""
    stream = io.BytesIO()
    suffix = name.split(".")[1]
    image.save(stream, suffix.upper().replace("JPG", "JPEG"), **options)
    path = image_path(content_hash(stream.getvalue()), suffix)
    data.write_bytes(path, stream.getvalue())
    return path


def test_pictures_come_in_the_order_asked_for(data: DataRoot) -> None:
    items = shape_items(100)
    write_items(data, items)
    hashes = [item.image_hash for item in items][::-1] * 2
    loaded = list(load_images(data, image_paths(data), hashes, np.asarray))
    expected = [np.asarray(Image.open(io.BytesIO(item.content))) for item in items][::-1] * 2
    assert all((got == want).all() for got, want in zip(loaded, expected, strict=True))


def test_unknown_picture(data: DataRoot) -> None:
    with pytest.raises(Graph2ImageError, match="there is no image abc"):
        list(load_images(data, {}, ["abc"], np.asarray))


def test_error_in_place_of_a_picture(data: DataRoot) -> None:
    items = shape_items(3)
    write_items(data, items)
    paths = image_paths(data)
    data.write_bytes(paths[items[1].image_hash], items[0].content)  # an image, but another one
    asked = [items[0].image_hash, items[1].image_hash, "unknown", items[2].image_hash]
    first, broken, unknown, last = try_images(data, paths, asked, lambda picture: picture.size, ahead=1)
    assert (first, last) == ((64, 64), (64, 64))
    assert isinstance(broken, Graph2ImageError)
    assert paths[items[1].image_hash] in broken.message
    assert isinstance(unknown, Graph2ImageError)


def test_no_more_pictures_are_read_ahead_than_asked(data: DataRoot) -> None:
    items = shape_items(40)
    write_items(data, items)
    asked = 0

    def hashes() -> Iterator[str]:
        nonlocal asked
        for item in items:
            asked += 1
            yield item.image_hash

    pictures = try_images(data, image_paths(data), hashes(), np.asarray, ahead=5)
    for read in range(1, 30):
        next(pictures)
        assert asked == read + 5
    pictures.close()
    assert asked == 34


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_white(data: DataRoot, mode: str) -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0)).convert(mode if mode != "PA" else "RGBA")
    clear.putpixel((1, 0), (90, 255) if mode == "LA" else (90, 90, 90, 255))
    picture = open_image(data, save(data, clear.convert(mode), "clear.tiff" if mode == "PA" else "clear.png"))
    assert picture.mode == "RGB"
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.getpixel((1, 0)) == (90, 90, 90)


def test_transparent_color_of_a_palette_is_white(data: DataRoot) -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 0), 0)
    for name in ("palette.png", "palette.gif"):
        picture = open_image(data, save(data, palette, name, transparency=1))
        assert (picture.getpixel((0, 0)), picture.getpixel((1, 0))) == ((255, 255, 255), (0, 0, 0))


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff"])
def test_16_bits_are_scaled_not_clipped(data: DataRoot, name: str) -> None:
    levels = np.array([[0, 257, 20_000, 65_535]], np.uint16)
    picture = open_image(data, save(data, Image.fromarray(levels), name))
    assert picture.mode == "RGB"
    assert [picture.getpixel((x, 0))[0] for x in range(4)] == [0, 1, 78, 255]


def test_float_pictures_are_scaled_to_their_range(data: DataRoot) -> None:
    levels = np.array([[-1.0, 0.0, 1.0]], np.float32)
    picture = open_image(data, save(data, Image.fromarray(levels), "float.tiff"))
    assert [picture.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]
    flat = Image.fromarray(np.full((2, 2), 0.5, np.float32))
    assert open_image(data, save(data, flat, "flat.tiff")).size == (2, 2)


def test_cmyk(data: DataRoot) -> None:
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for name in ("ink.jpg", "ink.tiff"):
        red, green, blue = open_image(data, save(data, ink, name)).getpixel((4, 4))
        assert red > 240
        assert max(green, blue) < 15


@pytest.mark.parametrize("name", ["moving.gif", "moving.png", "moving.webp"])
def test_first_frame_of_an_animation(data: DataRoot, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 250, 0))]
    picture = open_image(data, save(data, frames[0], name, save_all=True, append_images=frames[1:], duration=50))
    red, green, _ = picture.getpixel((4, 4))
    assert red > 240
    assert green < 15


def test_bilevel_and_gray_become_rgb(data: DataRoot) -> None:
    assert open_image(data, save(data, Image.new("L", (4, 4), 7), "gray.png")).getpixel((0, 0)) == (7, 7, 7)
    assert open_image(data, save(data, Image.new("1", (4, 4), 1), "bits.png")).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("smallest_size", [None, (8, 8)])
def test_turned_photos_are_upright(data: DataRoot, orientation: int, smallest_size: tuple[int, int] | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.new("RGB", (96, 48), "black")
    upright.paste("white", (0, 0, 48, 24))  # the top left quarter
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = save(data, upright.transpose(undo[orientation]), "turned.jpg", exif=exif)
    picture = open_image(data, stored, smallest_size=smallest_size)
    assert picture.size == ((96, 48) if smallest_size is None else (24, 12))
    width, height = picture.size
    assert picture.getpixel((width // 4, height // 4))[0] > 240
    assert picture.getpixel((width - width // 4, height // 4))[0] < 15
    assert picture.getpixel((width // 4, height - height // 4))[0] < 15


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_data_do_not_matter(data: DataRoot) -> None:
    for number, exif in enumerate((b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0")):
        name = save(data, Image.new("RGB", (8, 4), (9, 9, 9)), f"broken{number}.jpg", exif=exif)
        assert open_image(data, name).size == (8, 4)


def test_large_jpegs_are_decoded_smaller_and_small_ones_are_not(data: DataRoot) -> None:
    name = save(data, Image.new("RGB", (1600, 1200)), "large.jpg")
    assert open_image(data, name).size == (1600, 1200)
    assert open_image(data, name, smallest_size=(448, 448)).size == (800, 600)
    assert open_image(data, name, smallest_size=(601, 601)).size == (1600, 1200)
    assert open_image(data, save(data, Image.new("RGB", (1600, 1200)), "l.png"), smallest_size=(8, 8)).width == 1600


def test_squares_are_cropped_about_the_center() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    assert np.asarray(square(Image.fromarray(pixels), 10)).min() == 255
