"""The images that are judged: rows and files of generated ones, and the stored ones as squares."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from ingest.datasets.items import among
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import GENERATED_SCHEMA
from ingest.errors import Graph2ImageError
from ingest.images.loading import Fit, image_paths, square, try_images
from model.evaluation.palette import Pixels

log = logging.getLogger(__name__)

Row = Mapping[str, Any]


def generated_rows(data: DataRoot, generated_ids: Iterable[str]) -> dict[str, Row]:
    """Rows of those of the generated images that there are, by id."""
    table = data.dataset("generated", GENERATED_SCHEMA).to_table(filter=among("generated_id", generated_ids))
    return {row["generated_id"]: row for row in table.to_pylist()}


def source_ids(row: Row) -> list[str]:
    """Ids of the items that a generated image was made from, best first."""
    return [neighbor["item_id"] for neighbor in sorted(row["neighbors"], key=lambda neighbor: neighbor["rank"])]


def read_generated(data: DataRoot, row: Row) -> Image.Image | None:
    """The RGB image of a row; None, and a warning, if its file is missing or damaged."""
    try:
        with Image.open(io.BytesIO(data.read_bytes(row["image_path"], row["image_sha256"]))) as image:
            return image.convert("RGB")
    except Exception as error:  # decoders raise anything on damaged bytes
        log.warning("Left out: cannot read the generated image %s: %s", data.path(row["image_path"]), error)
        return None


def readable_squares(data: DataRoot, image_hashes: Iterable[str], size: int, fit: Fit) -> dict[str, Pixels]:
    """Stored images by hash, `(size, size, 3)` uint8; those that cannot be read are left out with a warning."""
    wanted = sorted(set(image_hashes))
    loaded = try_images(data, image_paths(data), wanted, lambda image: np.asarray(square(image, size, fit)))
    found = {}
    for image_hash, pixels in zip(wanted, loaded, strict=True):
        if isinstance(pixels, Graph2ImageError):
            log.warning("Left out: %s", pixels.message)
        else:
            found[image_hash] = pixels
    return found
