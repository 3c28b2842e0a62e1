"""Small versions of images, made when they are asked for and kept in memory; nothing is written."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

import numpy as np
import numpy.typing as npt
from PIL import Image

from flows.explorer.catalog import NotFoundError
from ingest.datasets.root import DataRoot
from ingest.encoders.checkpoint import load_encoder
from ingest.encoders.vectors import choose_device
from ingest.errors import Graph2ImageError
from ingest.images.decoding import FORMATS
from ingest.images.loading import decode_image, open_image
from ingest.images.sources import ImageProblemError
from ingest.images.store import image_path, inspect_image

#: Longer sides in pixels that images are sent with.
SIZES = (96, 192, 384, 768)
#: Bytes of small images that are kept.
_KEPT = 96 * 1024 * 1024


class Thumbnails:
    """Images of items in a few sizes."""

    def __init__(self, data: DataRoot) -> None:
        self._data = data
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._size = 0

    def of(self, image_hash: str, size: int) -> bytes:
        """An image as WebP, no side longer than `size`.

        Raises
        ------
        NotFoundError
            If no file has this hash.
        Graph2ImageError
            If the file cannot be read.
        """
        key = image_hash, size
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        content = small(open_image(self._data, self._path(image_hash), smallest_size=(size, size)), size)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = content
                self._size += len(content)
            while self._size > _KEPT:
                self._size -= len(self._kept.popitem(last=False)[1])
        return content

    def _path(self, image_hash: str) -> str:
        for suffix in FORMATS.values():
            path = image_path(image_hash, suffix)
            if self._data.exists(path):
                return path
        raise NotFoundError(f"the file of image {image_hash} is missing", "Ingest its source again.")


def small(image: Image.Image, size: int) -> bytes:
    """An image as WebP, no side longer than `size`; it is never enlarged."""
    image.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=85, method=2)
    return buffer.getvalue()


class ImageQueries:
    """Vectors of images that were uploaded; the encoder is loaded with the first."""

    def __init__(self, data: DataRoot) -> None:
        self._data = data
        self._lock = threading.Lock()
        self._encoder: tuple[str, object] | None = None

    def vector(self, content: bytes, encoder: str) -> npt.NDArray[np.float32]:
        """The vector of an uploaded image, which is judged and decoded as one that is ingested.

        Raises
        ------
        Graph2ImageError
            If it is no image, or there is no such encoder.
        """
        try:
            inspect_image(content)
        except ImageProblemError as problem:
            raise Graph2ImageError(f"the image cannot be used: {problem}", "Take a JPEG, PNG or WebP.") from problem
        try:
            image = decode_image(content)
        except Exception as error:  # decoders raise anything on hostile bytes
            raise Graph2ImageError("the image cannot be decoded", "Take a JPEG, PNG or WebP.") from error
        with self._lock:
            if self._encoder is None or self._encoder[0] != encoder:
                self._encoder = encoder, load_encoder(self._data, encoder, choose_device(None))
            loaded = self._encoder[1]
            vectors = loaded.encode_images([loaded.prepare(image)])  # type: ignore[attr-defined]
        vector: npt.NDArray[np.float32] = vectors[0].float().cpu().numpy()
        return vector
