"""From bytes to pixels: an image is judged by its pixels, not by what else its file holds.

Pillow refuses a file for what it carries beside them (a PNG with a megabyte of text, a damaged checksum of a comment).
Such a file is read again without its metadata, but for what says how the pixels are meant.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from PIL import Image

#: Only these decoders are tried (others start programs, or fetch), with the suffix that their files are stored under.
FORMATS = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "AVIF": "avif",
}

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Beside the critical chunks: transparency, and the orientation.
_PNG_KEPT = {b"tRNS", b"eXIf"}
#: Chunks of WebP that are not pixels.
_WEBP_DROPPED = {b"EXIF", b"XMP ", b"ICCP"}
#: JPEG: application segments and comments, but for Adobe's, which tells the color transform.
_JPEG_DROPPED = {*range(0xE0, 0xF0), 0xFE} - {0xEE}
_START_OF_SCAN = 0xDA

Result = TypeVar("Result")

# Pillow warns of oddities (broken EXIF data, large images); what matters of them is checked.
warnings.filterwarnings("ignore", module=r"PIL\.")


def with_pixels(content: bytes, use: Callable[[Image.Image], Result]) -> Result:
    """`use(image)` of the opened image; if that fails, of the image without its metadata.

    Raises
    ------
    Exception
        What Pillow raises: anything on hostile bytes.
    """
    try:
        return _used(content, use)
    except Image.DecompressionBombError:
        raise
    except Exception:
        bare = without_metadata(content)
        if bare is None:
            raise
        return _used(bare, use)


def _used(content: bytes, use: Callable[[Image.Image], Result]) -> Result:
    with Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as image:
        return use(image)


def without_metadata(content: bytes) -> bytes | None:
    """The file without what is not needed for its pixels; None if there is nothing to leave out."""
    try:
        if content.startswith(_PNG_SIGNATURE):
            bare = _PNG_SIGNATURE + b"".join(_png_chunks(content))
        elif content.startswith(b"\xff\xd8"):
            bare = b"\xff\xd8" + b"".join(_jpeg_segments(content))
        elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            chunks = b"".join(_webp_chunks(content))
            bare = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
        else:
            return None
    except struct.error:  # cut short
        return None
    return bare if len(bare) < len(content) else None


def _png_chunks(content: bytes) -> Iterator[bytes]:
    at = len(_PNG_SIGNATURE)
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        chunk = content[at : at + 12 + length]
        is_critical = not kind[0] & 0x20
        if is_critical or (kind in _PNG_KEPT and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])):
            yield chunk
        at += 12 + length
        if kind == b"IEND":
            return


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    at = 2
    while at < len(content):
        marker, length = struct.unpack_from(">xBH", content, at)
        if content[at] != 0xFF or marker == _START_OF_SCAN:
            yield content[at:]
            return
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        is_exif = marker == 0xE1 and content[at + 4 : at + 10] == b"Exif\0\0"
        if marker not in _JPEG_DROPPED or is_exif:
            yield content[at : at + 2 + length]
        at += 2 + length


def _webp_chunks(content: bytes) -> Iterator[bytes]:
    at = 12
    while at < len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        chunk = content[at : at + 8 + length + length % 2]
        if kind == b"VP8X" and length:  # its flags must not announce what is left out
            chunk = chunk[:8] + bytes([chunk[8] & ~0b0010_1100]) + chunk[9:]
        if kind not in _WEBP_DROPPED:
            yield chunk
        at += len(chunk)
