"""Reader of InstructG2I's released layout: `train/` and `test/`, each with `metadata.jsonl` beside the images.

A row is `{"center": "1934325.jpg", "text": "…", "neighbors": ["26226.jpg", …]}` with the neighbors best first. There is
no graph behind it: neighbors become relations whose weight is 1/rank, which keeps their order. The keys differ between
its configurations, so they are inferred from the rows or given.

The id of an item is the name of its image without the suffix. An image that is nobody's center is an item too, of
the training split and without a text, if it is there: else the relations to it would be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from ingest.batches import Batch, BatchBuilder
from ingest.datasets.names import GraphNames
from ingest.errors import Graph2ImageError
from ingest.readers.files import printable
from ingest.readers.jsonrows import decode_json, json_rows
from ingest.readers.lines import Block, read_batches
from ingest.readers.markup import visible_text
from ingest.readers.recognize import first_recognized
from ingest.readers.values import json_text
from ingest.records import RejectReason

#: The layout has no columns beside the common ones.
ITEM_COLUMNS = pa.schema([])

#: What the source brings to the graph.
NAMES = GraphNames(
    items=frozenset(["Item"]),
    entities=frozenset(),
    relation_types=frozenset(["NEIGHBOR"]),
)

#: Folders with the split that each is.
_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}

_CENTER_KEYS = ("center", "center_image")
_NEIGHBOR_KEYS = ("neighbors", "neighbor_image", "neighbor_images", "neighbor")

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")

_BATCH_ROWS = 20_000


@dataclass(frozen=True)
class _Keys:
    center: str
    neighbors: str
    text: str


@dataclass
class _Layout:
    """What is known of the whole data set while its rows are read.

    Attributes
    ----------
    centers
        Ids of the items that have a row.
    mentioned
        File, row and image of the first row that names an item as neighbor, by its id.
    """

    root: Path
    folders: list[str]
    centers: set[str] = field(default_factory=set)
    mentioned: dict[str, tuple[str, int, str]] = field(default_factory=dict)

    def places(self, name: str, first: str) -> list[str]:
        """Where an image may be; each folder has what its own rows refer to, so `first` comes first."""
        return [f"{folder}/{name}" for folder in sorted(self.folders, key=lambda folder: folder != first)]


def read_instructg2i(
    folder: Path, *, center_key: str | None = None, neighbors_key: str | None = None, text_key: str = "text"
) -> Iterator[Batch]:
    """Read a folder that has one or more of `train/`, `val/` (or `validation/`) and `test/`.

    A row that names an image outside of the folder is rejected as a whole.

    Parameters
    ----------
    center_key, neighbors_key, text_key
        Keys of the rows; the first two are inferred from the rows of each file by default.

    Raises
    ------
    Graph2ImageError
        If there is no `metadata.jsonl` with rows, it cannot be read, or its keys are not known.
    """
    folders = [name for name in _SPLITS if _has_rows(folder / name / "metadata.jsonl")]
    if not folders:
        raise Graph2ImageError(
            f"{folder} is not in InstructG2I's layout: there is no train/metadata.jsonl or test/metadata.jsonl",
            "Give the folder of one data set, the one that train/ and test/ are in.",
        )
    layout = _Layout(folder, folders)
    for name in folders:
        path = folder / name / "metadata.jsonl"
        keys = _keys(path, center_key, neighbors_key, text_key)
        for batch in read_batches(path, partial(_parse, layout=layout, folder=name, keys=keys)):
            yield replace(batch, rejects=[replace(reject, file=f"{name}/{path.name}") for reject in batch.rejects])
    yield from _neighbors_only(layout)


def _has_rows(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _keys(path: Path, center_key: str | None, neighbors_key: str | None, text_key: str) -> _Keys:
    """The keys of the first row that has them."""
    centers = (center_key,) if center_key is not None else _CENTER_KEYS
    neighbors = (neighbors_key,) if neighbors_key is not None else _NEIGHBOR_KEYS

    def recognize(line: bytes) -> _Keys | None:
        row = _object(line)
        center, neighbor = (next((key for key in usual if key in row), None) for usual in (centers, neighbors))
        return None if center is None or neighbor is None else _Keys(center, neighbor, text_key)

    if found := first_recognized(path, recognize, 1):
        return found[0]
    (row,) = first_recognized(path, lambda line: _object(line) or None, 1) or [{}]
    missing = " or ".join(centers if not row.keys() & set(centers) else neighbors)
    shown = printable(", ".join(row), 200)
    raise Graph2ImageError(
        f"{path}: no row has the key {missing}",
        f"Keys of the first row are {shown}: say which of them names the image, and which the neighbors."
        if row
        else None,
    )


def _object(line: bytes) -> dict[str, Any]:
    """The object that a line holds, or none."""
    try:
        row = decode_json(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _parse(block: Block, layout: _Layout, folder: str, keys: _Keys) -> Batch:
    file = f"{folder}/{block.file}"
    batch = BatchBuilder("instructg2i", file, "Item", ITEM_COLUMNS)
    edges = batch.edges("NEIGHBOR")
    for number, line, row in json_rows(block, batch.rejects, decode_json):
        center = json_text(row.get(keys.center))
        if center is None:
            batch.reject(number, RejectReason.MISSING_ID, f"the row has no {keys.center}", line)
            continue
        names = _names(row.get(keys.neighbors))
        unsafe = next((name for name in (center, *names) if not _is_safe(name)), None)
        if unsafe is not None:
            detail = f"{unsafe!r} leads out of the folder of the images"
            batch.reject(number, RejectReason.IMAGE_UNSAFE_PATH, detail, line)
            continue
        identifier = _identifier(center)
        text = visible_text(json_text(row.get(keys.text)) or "")
        position = len(batch.ids)
        batch.rows.append(number)
        batch.ids.append(identifier)
        batch.raw_rows.append(line)
        batch.titles.append(text)
        batch.texts.append(text)
        batch.image_refs.append(layout.places(center, folder))
        batch.splits.append(_SPLITS[folder])
        layout.centers.add(identifier)
        neighbors: dict[str, str] = {}
        for name in names:
            neighbors.setdefault(_identifier(name), name)
        for rank, (neighbor, name) in enumerate(neighbors.items(), 1):
            edges.items.append(position)
            edges.targets.append(neighbor)
            edges.weights.append(1 / rank)
            layout.mentioned.setdefault(neighbor, (file, number, name))
    return batch.finish()


def _neighbors_only(layout: _Layout) -> Iterator[Batch]:
    """Images that are there but nobody's center, at the first row that names each."""
    rest = (
        (file, row, neighbor, name, places)
        for neighbor, (file, row, name) in layout.mentioned.items()
        if neighbor not in layout.centers
        and (places := [place for place in layout.places(name, "train") if (layout.root / place).is_file()])
    )
    for file, found in groupby(rest, key=lambda mention: mention[0]):
        while part := list(islice(found, _BATCH_ROWS)):
            batch = BatchBuilder("instructg2i", file, "Item", ITEM_COLUMNS)
            for _, row, neighbor, name, places in part:
                batch.rows.append(row)
                batch.ids.append(neighbor)
                batch.raw_rows.append(name)
                batch.image_refs.append(places)
                batch.splits.append("train")
            yield batch.finish()


def _names(value: Any) -> list[str]:
    """Names of images; whatever else is in the list, or instead of it, is none."""
    return [name for each in (value if isinstance(value, list) else [value]) if (name := json_text(each)) is not None]


def _is_safe(name: str) -> bool:
    return not (name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"))


def _identifier(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("") if path.suffix.lower() in _SUFFIXES else path)
