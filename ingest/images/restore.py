"""Rows of the `images` dataset that are lost, from the stored files themselves."""

from __future__ import annotations

import posixpath

import pyarrow as pa
import pyarrow.compute as pc

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import FETCH_SCHEMA, IMAGE_SCHEMA
from ingest.images.sources import ImageProblemError
from ingest.images.store import IMAGE_BATCH, content_hash, inspect_image


def restore_rows(data: DataRoot) -> int:
    """Enter stored images that have no row in the `images` dataset; returns how many.

    The URL that an image came from is taken from the log of requests. A file that is no image, or another than its name
    says, is left alone.
    """
    known = set(data.read("images", ["image_hash"], IMAGE_SCHEMA)["image_hash"].to_pylist())
    fetched = data.dataset("fetches", FETCH_SCHEMA).to_table(
        ["url", "image_hash", "fetched_at"], filter=pc.field("image_hash").is_valid()
    )
    origin = {row["image_hash"]: row for row in fetched.to_pylist()}
    rows: list[dict[str, object]] = []
    restored = 0
    root = data.path()
    for path in sorted(data.fs.find(data.path("images", "files"))):
        image_hash = posixpath.basename(path).partition(".")[0]
        if image_hash in known:
            continue
        name = path[len(root) :].strip("/")
        content = data.read_bytes(name)
        if content_hash(content) != image_hash:
            continue
        try:
            info = inspect_image(content)
        except ImageProblemError:
            continue
        seen = origin.get(image_hash)
        rows.append(
            {
                "image_hash": image_hash,
                "path": name,
                "width": info.width,
                "height": info.height,
                "format": info.format,
                "perceptual_hash": info.perceptual_hash,
                "source_url": seen["url"] if seen else None,
                "fetched_at": seen["fetched_at"] if seen else None,
            }
        )
        restored += 1
        if len(rows) >= IMAGE_BATCH:
            data.append("images", pa.Table.from_pylist(rows, IMAGE_SCHEMA), IMAGE_SCHEMA)
            rows.clear()
    if rows:
        data.append("images", pa.Table.from_pylist(rows, IMAGE_SCHEMA), IMAGE_SCHEMA)
    return restored
