"""An invisible watermark: a short text in the pixels, which is still there when a file's PNG text is dropped.

The method is that of the invisible-watermark package (DWT-DCT-SVD), which diffusers has for Stable Diffusion XL: each
bit is in the color of many blocks of 8 x 8 pixels. It is no defense against someone who wants to remove it, and scaling
or cropping loses it. The text has a checksum, so what is read is right or nothing.

Two things make the package's bits readable on white backgrounds. Colors are drawn in by `_HEADROOM` levels first, since
a block that is quite white (or black) cannot be changed both ways. And the number of bits is a prime, so that no bit
falls into the same column of blocks in all rows.
"""

from __future__ import annotations

import zlib
from types import ModuleType

import numpy as np
import numpy.typing as npt
from PIL import Image

from ingest.errors import Graph2ImageError

#: Bytes of UTF-8 that the text may have, and of the checksum behind it.
MAX_TEXT, _CHECKSUM = 12, 4
#: Pixels that an image must have at least, by the package's own rule.
MIN_PIXELS = 256 * 256
_METHOD = "dwtDctSvd"
_BITS = 131
#: Of 255 levels, so many stay free at either end.
_HEADROOM = 4

_Pixels = npt.NDArray[np.uint8]


def check_watermark(text: str) -> None:
    """Raise a `Graph2ImageError` if `text` cannot be a watermark, or the package is not installed."""
    _package()
    size = len(text.encode())
    if not 1 <= size <= MAX_TEXT or "\0" in text:
        raise Graph2ImageError(f"the watermark must have 1 to {MAX_TEXT} bytes of UTF-8, {text!r} has {size}")


def add_watermark(image: Image.Image, text: str) -> tuple[Image.Image, bool]:
    """The image with `text` in its pixels, and whether it can be read back from them.

    Raises
    ------
    Graph2ImageError
        If the image is too small; or as `check_watermark`.
    """
    check_watermark(text)
    if image.width * image.height < MIN_PIXELS:
        raise Graph2ImageError(
            f"an image of {image.width} x {image.height} pixels is too small for a watermark",
            f"It needs {MIN_PIXELS:,} pixels (256 x 256): leave --watermark out, or make larger images.",
        )
    content = text.encode().ljust(MAX_TEXT, b"\0")
    payload = content + zlib.crc32(content).to_bytes(_CHECKSUM, "big")
    bits = np.zeros(_BITS, np.uint8)
    bits[: 8 * len(payload)] = np.unpackbits(np.frombuffer(payload, np.uint8))
    encoder = _package().WatermarkEncoder()
    encoder.set_watermark("bits", bits.tolist())
    drawn_in = _HEADROOM + _bgr(image) * (1 - 2 * _HEADROOM / 255)
    pixels: _Pixels = encoder.encode(drawn_in.round().astype(np.uint8), _METHOD)
    marked = Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1]))
    return marked, read_watermark(marked) == text


def read_watermark(image: Image.Image) -> str | None:
    """The text in an image's pixels; None if there is none, or it cannot be read any more.

    Raises
    ------
    Graph2ImageError
        If the package is not installed.
    """
    package = _package()
    if image.width * image.height < MIN_PIXELS:
        return None
    bits = package.WatermarkDecoder("bits", _BITS).decode(_bgr(image), _METHOD)
    payload = np.packbits(bits[: 8 * (MAX_TEXT + _CHECKSUM)]).tobytes()
    content, checksum = payload[:MAX_TEXT], payload[MAX_TEXT:]
    if zlib.crc32(content).to_bytes(_CHECKSUM, "big") != checksum:
        return None
    try:
        return content.rstrip(b"\0").decode() or None
    except UnicodeDecodeError:
        return None


def _bgr(image: Image.Image) -> _Pixels:
    """`(height, width, 3)`, as OpenCV orders the colors."""
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])


def _package() -> ModuleType:
    try:
        import imwatermark
    except ImportError as error:
        raise Graph2ImageError(
            f"watermarks need the package invisible-watermark: {error}",
            "Install it with `pip install 'graph2image[watermark]'`.",
        ) from error
    package: ModuleType = imwatermark
    return package
