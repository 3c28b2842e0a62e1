"""Generated images as PNG files that carry the record of what they were made from.

The record is JSON in a text chunk. Anybody can write such a chunk, so what is read from a file is only a claim: it is
parsed with limits and checked against a schema, and nothing in it is opened or followed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import orjson
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, Field

from ingest.errors import Graph2ImageError, explain_validation, first_line
from ingest.images.decoding import FORMATS
from ingest.images.store import MAGIC, MAX_IMAGE_PIXELS
from model.generation.variants import Kind

#: Name of the PNG text chunk that holds an image's record, as JSON.
PNG_KEY = "graph2image"
#: Longer records are refused, in characters.
MAX_RECORD = 1_000_000
#: Larger files are refused, in bytes.
MAX_FILE = 1 << 28

_Id = Annotated[str, Field(min_length=1, max_length=4096)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RecordedNeighbor(_Part):
    """A neighbor that an image was made from: its weight times the guidance scale of its set, and its place in it."""

    item_id: _Id
    weight: _Number
    rank: int = Field(ge=1)


class RecordedScores(_Part):
    """What the copy check found; see `model.generation.copycheck.CopyScores`."""

    neighbor_similarity: _Number | None
    neighbor_bits: int | None
    training_similarity: _Number | None
    training_bits: int | None
    nearest_image: str | None = Field(max_length=64)
    flagged: bool


class ImageRecord(_Part):
    """What an image's file says that it was made from; `settings` has the text, scales, steps and so on.

    `variant` is a label; `kind`, `graph_guidance_scale` and `shares` are the fields of
    `model.generation.variants.Variant` behind it, which files of earlier versions do not have.
    """

    generated_id: str = Field(pattern="^[0-9a-f]{16}$")
    item_id: _Id
    model_id: _Id
    variant: str = Field(max_length=4096)
    kind: Kind | None = None
    graph_guidance_scale: _Number | None = None
    shares: tuple[_Number, ...] | None = Field(default=None, max_length=1000)
    seed: int
    settings: dict[str, Any]
    neighbors: tuple[RecordedNeighbor, ...] = Field(max_length=100_000)
    scores: RecordedScores | None = None
    software: dict[str, str] = Field(default={}, max_length=32)


def software() -> dict[str, str]:
    """Versions of the packages that decide an image."""
    return {name: metadata.version(name) for name in ("graph2image", "torch", "diffusers")}


def encode_image(image: Image.Image, row: Mapping[str, Any]) -> bytes:
    """A PNG file with the image's row of the `generated` dataset, and the software's versions, in it."""
    info = PngInfo()
    info.add_itxt(PNG_KEY, orjson.dumps({**row, "software": software()}).decode())
    content = io.BytesIO()
    image.save(content, "png", pnginfo=info)
    return content.getvalue()


def open_generated(file: Path) -> tuple[Image.Image, str | None]:
    """An image's pixels, and the text that may be its record.

    Raises
    ------
    Graph2ImageError
        If there is no such file, or it is no image, damaged, or too large.
    """
    try:
        size = file.stat().st_size
        content = file.read_bytes() if size <= MAX_FILE else b""
    except OSError as error:
        raise Graph2ImageError(f"cannot read {file}: {error.strerror}") from error
    if size > MAX_FILE:
        raise Graph2ImageError(f"{file} has {size:,} bytes, which is more than any image of this program")
    return decode_generated(str(file), content)


def decode_generated(file: str, content: bytes) -> tuple[Image.Image, str | None]:
    """As `open_generated`, of the content of a file; `file` is what messages call it."""
    try:
        image = Image.open(io.BytesIO(content), formats=tuple(FORMATS))
        pixels = image.width * image.height
        if pixels <= MAX_IMAGE_PIXELS:
            image.load()  # which checks every chunk, and finds the text behind the pixels
    except Exception as error:  # decoders raise anything on damaged bytes
        if not content.startswith(MAGIC):
            raise Graph2ImageError(f"{file} is no image") from error
        raise Graph2ImageError(f"{file} is damaged: {first_line(error)}") from error
    if pixels > MAX_IMAGE_PIXELS:
        raise Graph2ImageError(f"{file} is too large: {image.width} x {image.height} pixels")
    text = image.info.get(PNG_KEY)
    return image, str(text) if isinstance(text, str) else None  # Pillow has a class of its own for it


def parse_record(file: Path | str, text: str) -> ImageRecord:
    """The record that `open_generated` has found in `file`.

    Raises
    ------
    Graph2ImageError
        If it is too long, no JSON, or not a record of this program.
    """
    if len(text) > MAX_RECORD:
        raise Graph2ImageError(f"{file}: its record is too long, {len(text):,} characters")
    try:
        value = orjson.loads(text)
        if isinstance(value, dict) and isinstance(value.get("settings"), str):
            value["settings"] = orjson.loads(value["settings"])
    except orjson.JSONDecodeError as error:
        raise Graph2ImageError(f"{file}: its record is damaged: {error}") from error
    with explain_validation(f"{file}: its record is not one of this program"):
        return ImageRecord.model_validate(value)


def no_record(file: Path) -> Graph2ImageError:
    """The error about an image without a record."""
    return Graph2ImageError(
        f"{file} has no record of graph2image in it",
        "It was made by another program, or one that drops PNG text has saved it again.",
    )
