"""Pictures for an encoder: read, decoded and prepared by a few threads, in order, a bounded number ahead."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from PIL import Image, ImageOps

from ingest.datasets import IMAGE_SCHEMA, DataRoot
from ingest.errors import Graph2ImageError

Prepared = TypeVar("Prepared")

#: Reading waits for the disk or the network and decoding releases the interpreter's lock, so a few threads help even
#: beside a busy model; what they hold ahead of it bounds the memory.
LOADER_THREADS = 4
PICTURES_AHEAD = 64


def image_paths(data: DataRoot) -> dict[str, str]:
    """Path under the data root of every stored picture, by image hash."""
    table = data.read("images", ["image_hash", "path"], IMAGE_SCHEMA)
    return dict(zip(table["image_hash"].to_pylist(), table["path"].to_pylist(), strict=True))


def open_picture(data: DataRoot, path: str) -> Image.Image:
    """Decode a stored picture to upright RGB, transparency over white.

    Raises
    ------
    Graph2ImageError
        If the file is gone or can no longer be decoded; it could be when it was ingested.
    """
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data.read_bytes(path))))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except Exception as error:  # decoders raise anything on damaged bytes
        raise Graph2ImageError(
            f"cannot read the picture {data.path(path)}: {error}",
            "It was whole when it was ingested: restore the file, or delete it and ingest its source again.",
        ) from error


def load_pictures(
    data: DataRoot, paths: Mapping[str, str], image_hashes: Iterable[str], prepare: Callable[[Image.Image], Prepared]
) -> Iterator[Prepared]:
    """`prepare(picture)` for each of `image_hashes`, in their order; `paths` is from `image_paths`.

    Raises
    ------
    Graph2ImageError
        If a picture is not in `paths`, or cannot be read.
    """

    def load(image_hash: str) -> Prepared:
        if image_hash not in paths:
            raise Graph2ImageError(f"there is no picture {image_hash} under {data.url}", "Ingest its source again.")
        return prepare(open_picture(data, paths[image_hash]))

    waiting: deque[Future[Prepared]] = deque()
    pool = ThreadPoolExecutor(LOADER_THREADS, thread_name_prefix="pictures")
    try:
        for image_hash in image_hashes:
            waiting.append(pool.submit(load, image_hash))
            if len(waiting) > PICTURES_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
