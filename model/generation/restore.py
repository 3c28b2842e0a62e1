"""Rows of the `generated` dataset that are lost, from the records in the images themselves."""

from __future__ import annotations

import logging
import posixpath
from typing import Any

import orjson
import pyarrow as pa

from ingest.datasets.integrity import sha256
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import GENERATED_SCHEMA
from ingest.errors import Graph2ImageError
from model.generation.png import decode_generated, parse_record

logger = logging.getLogger(__name__)

#: Rows of one file.
_BATCH = 1_000


def restore_rows(data: DataRoot) -> int:
    """Enter generated images that have no row in the `generated` dataset; returns how many.

    A file that is damaged, or whose record is not that of its place, is left alone and named.
    """
    known = set(data.read("generated", ["image_path"], GENERATED_SCHEMA)["image_path"].to_pylist())
    root = data.path()
    rows: list[dict[str, Any]] = []
    restored = 0
    for path in sorted(data.fs.find(data.path("generated"))):
        name = path[len(root) :].strip("/")
        if not name.endswith(".png") or name in known:
            continue
        try:
            rows.append(_row(data, name))
        except Graph2ImageError as error:
            logger.warning("Not entered again: %s", error.message)
            continue
        restored += 1
        if len(rows) >= _BATCH:
            data.append("generated", pa.Table.from_pylist(rows, GENERATED_SCHEMA), GENERATED_SCHEMA)
            rows.clear()
    if rows:
        data.append("generated", pa.Table.from_pylist(rows, GENERATED_SCHEMA), GENERATED_SCHEMA)
    return restored


def _row(data: DataRoot, name: str) -> dict[str, Any]:
    """The row of a stored image, as its own record has it."""
    content = data.read_bytes(name)
    _, text = decode_generated(data.path(name), content)
    if text is None:
        raise Graph2ImageError(f"{data.path(name)} has no record")
    record = parse_record(data.path(name), text)
    model_id, generated_id = posixpath.split(name.removeprefix("generated/"))
    if (record.model_id, record.generated_id) != (model_id, generated_id.removesuffix(".png")):
        raise Graph2ImageError(f"{data.path(name)} has the record of another image")
    values = orjson.loads(text)
    row = {field: values.get(field) for field in GENERATED_SCHEMA.names}
    return row | {"image_path": name, "image_sha256": sha256(content)}
