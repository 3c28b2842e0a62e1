"""Images: whether the bytes are one, and how they are stored.

An image is hashed, decoded once to check it, and stored as received under its content hash. What counts of one that
moves or has pages is the first frame; size and perceptual hash are those of the upright image, as people see it.

Two images are near-duplicates when their 256-bit perceptual hashes (pHash: the low frequencies of a DCT of the gray
image, each against their median) differ in few bits; see `ingest.splits`.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from PIL import ExifTags, Image, UnidentifiedImageError

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import IMAGE_SCHEMA
from ingest.images.decoding import FORMATS, with_pixels
from ingest.images.sources import ImageProblemError, ImageSource
from ingest.records import RejectReason

#: Larger images are refused: a few KB can expand to gigabytes.
MAX_IMAGE_PIXELS = 100_000_000

#: Of images with more pixels than this, no more are decoded at a time than there are cores: it bounds the memory.
LARGE_PIXELS = 1 << 20
_LARGE = threading.Semaphore(os.cpu_count() or 1)

#: Images with a shorter side stand for no image (a host's 1 x 1 GIF): no encoder could see anything in them.
MIN_IMAGE_SIDE = 8

#: What files of these formats start with.
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")

#: There is nothing, or what stands for no image.
NO_IMAGE = (RejectReason.IMAGE_MISSING, RejectReason.IMAGE_TOO_SMALL)

#: New images per file of the `images` dataset: what a killed run has to decode again at most.
IMAGE_BATCH = 2048

#: Frequencies per side that the perceptual hash keeps, one bit each, of an image of so many pixels per side.
PERCEPTUAL_HASH_SIZE = 16
PERCEPTUAL_HASH_BYTES = PERCEPTUAL_HASH_SIZE**2 // 8
_HASHED_SIZE = 4 * PERCEPTUAL_HASH_SIZE

#: DCT-II, the low frequencies only.
_DCT = np.cos(np.pi / _HASHED_SIZE * np.outer(np.arange(PERCEPTUAL_HASH_SIZE), np.arange(_HASHED_SIZE) + 0.5))

#: How an image is turned upright, by the value of EXIF's orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_TURNS[value] for value in (5, 6, 7, 8)}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What decoding found: size in pixels when upright, format as PIL names it, perceptual hash as 64 hex digits."""

    width: int
    height: int
    format: str
    perceptual_hash: str


def content_hash(content: bytes) -> str:
    """The name of an image everywhere: SHA-256 of its bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def inspect_image(content: bytes) -> ImageInfo:
    """Decode an image once, to the end.

    Raises
    ------
    ImageProblemError
        If it is empty, no image of a known format, too large, too small, cut short, or cannot be decoded.
    """
    if not content:
        raise ImageProblemError(RejectReason.IMAGE_EMPTY, "the file has no bytes")
    try:
        return with_pixels(content, _inspected)
    except ImageProblemError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageProblemError(RejectReason.IMAGE_TOO_LARGE, str(error)) from error
    except UnidentifiedImageError as error:
        if content.startswith(MAGIC):
            raise ImageProblemError(RejectReason.IMAGE_CORRUPT, "the header is damaged or cut short") from error
        raise ImageProblemError(
            RejectReason.IMAGE_NOT_AN_IMAGE, f"not an image: it starts with {content[:16]!r}"
        ) from error
    except Exception as error:  # decoders raise anything on hostile bytes
        cut = isinstance(error, EOFError | struct.error) or "truncated" in str(error)
        reason = RejectReason.IMAGE_TRUNCATED if cut else RejectReason.IMAGE_CORRUPT
        raise ImageProblemError(reason, f"it cannot be decoded: {error}") from error


def _inspected(image: Image.Image) -> ImageInfo:
    width, height = image.size
    if width * height > MAX_IMAGE_PIXELS:
        raise ImageProblemError(RejectReason.IMAGE_TOO_LARGE, f"{width} x {height} pixels")
    if min(width, height) < MIN_IMAGE_SIDE:
        raise ImageProblemError(RejectReason.IMAGE_TOO_SMALL, f"{width} x {height} pixels stand for no image")
    # MPO: a JPEG with more images behind the first.
    name = "JPEG" if image.format == "MPO" else str(image.format)
    with _LARGE if width * height > LARGE_PIXELS else nullcontext():
        # JPEG decodes to gray and at a smaller scale (still reading every byte), which is enough for the hash.
        image.draft("L", (2 * _HASHED_SIZE, 2 * _HASHED_SIZE))
        image.load()
        gray = _small(image)
    turn = _turn(image)
    if turn is not None:
        gray = gray.transpose(turn)
        if turn in _SIDEWAYS:
            width, height = height, width
    return ImageInfo(width, height, name, _perceptual_hash(gray))


def perceptual_hash(image: Image.Image) -> str:
    """The perceptual hash of an upright image, 64 hex digits as in `ImageInfo`."""
    return _perceptual_hash(_small(image))


def to_eight_bits(image: Image.Image) -> Image.Image:
    """An image of one channel of 16 or 32 bits as 8-bit gray; any other one as it is.

    Integers are taken for 16 bits wide, which they are in PNG and most TIFF; wider ones and floats have no agreed white
    and are stretched to their own range. (Pillow's own conversion cuts at 255, which leaves little but white.)
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]  # one channel: two numbers
    if image.mode != "F" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    scale = 255 / (high - low) if high > low else 0.0
    offset = -low * scale
    image = image.point(lambda value: value * scale + offset).convert("L")
    image.info.pop("transparency", None)  # a value of the old scale
    return image


def _small(image: Image.Image) -> Image.Image:
    """What of an image the perceptual hash sees: gray, `_HASHED_SIZE` pixels per side."""
    return _gray(image).resize((_HASHED_SIZE, _HASHED_SIZE), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _gray(image: Image.Image) -> Image.Image:
    """The image in gray, on white where it is transparent."""
    image = to_eight_bits(image)
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, colors).convert("L")
    return image.convert("L")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What turns an image upright, if it must be turned; broken EXIF data does not count."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # as of decoders
        return None


def _perceptual_hash(gray: Image.Image) -> str:
    """pHash of a gray image of `_HASHED_SIZE` pixels per side, as the imagehash package computes it."""
    frequencies = _DCT @ np.asarray(gray, np.float64) @ _DCT.T
    # Rounded: what is zero in theory must not be one bit or the other by the last digit.
    frequencies = frequencies.round(6)
    return np.packbits(frequencies > np.median(frequencies)).tobytes().hex()


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The image of an item. `info` is None if the `images` dataset has it already."""

    image_hash: str
    ref: str
    perceptual_hash: bytes
    info: ImageInfo | None


class ImageStore:
    """Stores images under their content hash, and appends the new ones to the `images` dataset.

    Parameters
    ----------
    source
        Where images are read from; None when the items have none.
    """

    def __init__(self, data: DataRoot, source: ImageSource | None) -> None:
        self.new = 0
        self._data = data
        self._source = source
        self._rows: list[dict[str, object]] = []
        # 6 us per image on a local disk; elsewhere, a request.
        self._notice_deleted = isinstance(data.fs, LocalFileSystem)
        if source is not None:
            _ = self._known  # before threads ask for it

    @cached_property
    def _known(self) -> dict[str, tuple[bytes, str]]:
        """Perceptual hash and suffix of what the dataset has, by content hash."""
        known = {}
        columns = ["image_hash", "perceptual_hash", "format"]
        for batch in self._data.dataset("images", IMAGE_SCHEMA).to_batches(columns=columns):
            for image_hash, perceptual, name in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                known[image_hash] = (bytes.fromhex(perceptual), FORMATS[name])
        return known

    def acquire(self, refs: Sequence[str]) -> StoredImage | ImageProblemError | None:
        """The image of an item, stored. Runs in a thread.

        Parameters
        ----------
        refs
            Where it may be, most likely place first; the next one counts only when there is nothing at those before, or
            what stands for no image.

        Returns
        -------
        The image, or why it cannot be had; None if there are no places or there is no source.
        """
        if self._source is None:
            return None
        missing = None
        for ref in refs:
            try:
                return self._acquire(self._source, ref)
            except ImageProblemError as problem:
                if problem.reason not in NO_IMAGE:
                    return problem
                missing = missing or problem
        return missing

    def _acquire(self, source: ImageSource, ref: str) -> StoredImage:
        expected = source.known(ref)
        if expected is not None and self.is_stored(expected):
            return StoredImage(expected, ref, self._known[expected][0], None)
        content = source.read(ref)
        image_hash = content_hash(content)
        if self.is_stored(image_hash):
            source.learn(ref, image_hash)
            return StoredImage(image_hash, ref, self._known[image_hash][0], None)
        try:
            info = inspect_image(content)
        except ImageProblemError as problem:
            source.learn(ref, problem)
            raise
        path = image_path(image_hash, FORMATS[info.format])
        if not self._data.exists(path):
            self._data.write_bytes(path, content)
        source.learn(ref, image_hash)
        return StoredImage(image_hash, ref, bytes.fromhex(info.perceptual_hash), info)

    def is_stored(self, image_hash: str) -> bool:
        """Whether the dataset has an image, and the file is still there."""
        known = self._known.get(image_hash)
        return known is not None and (not self._notice_deleted or self._data.exists(image_path(image_hash, known[1])))

    def record(self, image: StoredImage) -> None:
        """Enter the image of an accepted item in the `images` dataset, if it is new."""
        if self._source is None or image.info is None or image.image_hash in self._known:
            return
        suffix = FORMATS[image.info.format]
        self._known[image.image_hash] = (image.perceptual_hash, suffix)
        self.new += 1
        self._rows.append(
            {
                "image_hash": image.image_hash,
                "path": image_path(image.image_hash, suffix),
                "width": image.info.width,
                "height": image.info.height,
                "format": image.info.format,
                "perceptual_hash": image.info.perceptual_hash,
                "source_url": self._source.url(image.ref),
                "fetched_at": self._source.fetched_at(image.ref),
            }
        )
        if len(self._rows) >= IMAGE_BATCH:
            self.flush()

    def flush(self) -> None:
        """Append what `record` has entered since the last flush."""
        if self._rows:
            self._data.append("images", pa.Table.from_pylist(self._rows, IMAGE_SCHEMA), IMAGE_SCHEMA)
            self._rows.clear()


def image_path(image_hash: str, suffix: str) -> str:
    """Where the bytes of an image are under the data root."""
    return f"images/files/{image_hash[:2]}/{image_hash}.{suffix}"
