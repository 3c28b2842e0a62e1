"""Images for an encoder: read, decoded and prepared by a few threads, in order, a bounded number ahead."""

from __future__ import annotations

import os
import posixpath
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ingest.datasets.integrity import DamagedError
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import IMAGE_SCHEMA
from ingest.errors import Graph2ImageError
from ingest.images.decoding import with_pixels

Prepared = TypeVar("Prepared")
#: How an image that is not square becomes so: cropped about its center, or padded with white.
Fit = Literal["crop", "pad"]

#: Reading waits for the disk or the network, and decoding and resizing release the interpreter's lock.
LOADER_THREADS = min(16, max(4, os.cpu_count() or 1))
#: What the threads may hold ahead of their reader, which bounds the memory.
IMAGES_AHEAD = 64


def image_paths(data: DataRoot) -> dict[str, str]:
    """Path under the data root of every stored image, by image hash."""
    table = data.read("images", ["image_hash", "path"], IMAGE_SCHEMA)
    return dict(zip(table["image_hash"].to_pylist(), table["path"].to_pylist(), strict=True))


def open_image(data: DataRoot, path: str, *, smallest_size: tuple[int, int] | None = None) -> Image.Image:
    """Decode a stored image; see `decode_image`.

    Raises
    ------
    Graph2ImageError
        If the file is gone, has changed since it was stored, or can no longer be decoded; it could be then.
    """
    image_hash = posixpath.basename(path).partition(".")[0]
    try:
        return decode_image(data.read_bytes(path, image_hash), smallest_size=smallest_size)
    except DamagedError as error:
        raise Graph2ImageError(f"cannot read the image {error.message}", error.hint) from error
    except Exception as error:  # decoders raise anything on damaged bytes
        raise Graph2ImageError(
            f"cannot read the image {data.path(path)}: {error}",
            "It was whole when it was ingested: restore the file, or delete it and ingest its source again.",
        ) from error


def decode_image(content: bytes, *, smallest_size: tuple[int, int] | None = None) -> Image.Image:
    """Decode an image to upright RGB, 8 bits a channel, transparency over white; of an animation, the start.

    Parameters
    ----------
    smallest_size
        (width, height) in pixels that are enough: a JPEG that is at least twice as large is decoded at 1/2, 1/4 or 1/8
        of its size, which is as good as averaging its pixels and several times faster.

    Raises
    ------
    Exception
        What Pillow raises: anything on hostile bytes.
    """

    def upright(image: Image.Image) -> Image.Image:
        if smallest_size:
            image.draft(None, smallest_size)
        image.load()
        with suppress(Exception):  # broken EXIF data say nothing of the orientation, and raise anything
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith(("I", "F")):
            return _from_deep_gray(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")

    return with_pixels(content, upright)


def _from_deep_gray(image: Image.Image) -> Image.Image:
    """More than 8 bits to 8. Pillow's own conversion would cut every level above 255.

    Integers are taken for 16 bits, which they are in PNG, PGM and most TIFF; what exceeds them, and floats, have no
    agreed white and are scaled to their own range.
    """
    levels = np.asarray(image).astype(np.float64)
    low, high = levels.min(), levels.max()
    if image.mode == "F" or low < 0 or high > 65535:
        levels = (levels - low) / max(high - low, np.finfo(np.float64).tiny) * 65535
    return Image.fromarray((levels / 257).round().astype(np.uint8)).convert("RGB")


def try_images(
    data: DataRoot,
    paths: Mapping[str, str],
    image_hashes: Iterable[str],
    prepare: Callable[[Image.Image], Prepared],
    *,
    ahead: int = IMAGES_AHEAD,
    smallest_size: tuple[int, int] | None = None,
) -> Iterator[Prepared | Graph2ImageError]:
    """`prepare(image)` for each of `image_hashes`, in their order; the error in place of one that cannot be read.

    Parameters
    ----------
    paths
        From `image_paths`.
    ahead
        How many images may wait, prepared, for the reader of this iterator.
    smallest_size
        See `open_image`.
    """

    def load(image_hash: str) -> Prepared | Graph2ImageError:
        if image_hash not in paths:
            return Graph2ImageError(f"there is no image {image_hash} under {data.url}", "Ingest its source again.")
        try:
            image = open_image(data, paths[image_hash], smallest_size=smallest_size)
        except Graph2ImageError as error:
            return error
        return prepare(image)

    waiting: deque[Future[Prepared | Graph2ImageError]] = deque()
    pool = ThreadPoolExecutor(LOADER_THREADS, thread_name_prefix="images")
    try:
        for image_hash in image_hashes:
            waiting.append(pool.submit(load, image_hash))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def load_images(
    data: DataRoot, paths: Mapping[str, str], image_hashes: Iterable[str], prepare: Callable[[Image.Image], Prepared]
) -> Iterator[Prepared]:
    """`prepare(image)` for each of `image_hashes`, in their order; `paths` is from `image_paths`.

    Raises
    ------
    Graph2ImageError
        If an image is not in `paths`, or cannot be read.
    """
    for prepared in try_images(data, paths, image_hashes, prepare):
        if isinstance(prepared, Graph2ImageError):
            raise prepared
        yield prepared


def square(image: Image.Image, size: int, fit: Fit = "crop") -> Image.Image:
    """The RGB image at `size` x `size` pixels: its middle, or all of it on white."""
    if fit == "pad":
        return ImageOps.pad(image, (size, size), Image.Resampling.LANCZOS, color="white")
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def load_squares(data: DataRoot, image_hashes: Sequence[str], size: int, fit: Fit = "crop") -> npt.NDArray[np.uint8]:
    """Images by hash, as `(n, size, size, 3)` uint8; see `square`.

    Raises
    ------
    Graph2ImageError
        If the `images` dataset has no such image, or its file cannot be read.
    """
    images = load_images(data, image_paths(data), image_hashes, lambda image: np.asarray(square(image, size, fit)))
    return np.stack(list(images))
