"""Sampled neighbors in InstructG2I's released layout, so that its reference implementation trains on our data.

`train/`, `val/` and `test/` each hold `metadata.jsonl`, one row `{"center": …, "text": …, "neighbors": [best, …]}` per
item, and every image that a row of theirs names. The images are hard links to those of the data root where the file
system can do that, so they take no space; they are not to be edited in place.
"""

from __future__ import annotations

import filecmp
import hashlib
import logging
import os
import posixpath
import re
import uuid
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.implementations.local import LocalFileSystem

from ingest.datasets.items import read_items
from ingest.datasets.root import DataRoot, explain_os_errors
from ingest.datasets.schemas import IMAGE_SCHEMA, SPLITS
from ingest.errors import Graph2ImageError
from ingest.ids import IdIndex
from ingest.images.decoding import FORMATS

log = logging.getLogger(__name__)

METADATA = "metadata.jsonl"

#: Says that a folder is an export, and of what; written first.
MARKER = "graph2image.json"

#: A longer file name is cut, and ends in a hash of the item's id.
_STEM_LENGTH = 200

_ESCAPED = re.compile(r"[^A-Za-z0-9.:-]")


@dataclass(frozen=True)
class ExportReport:
    """What is in the folder.

    Attributes
    ----------
    neighbors
        The dataset that was exported.
    rows
        Rows by split.
    images
        Image files in all splits; one that two splits refer to is there twice.
    skipped
        Items of the dataset that have no row, by reason: `unknown` (not among the items any more), `opted_out`,
        `no_image`, `no_text`.
    neighbors_skipped
        Neighbors left out of the rows, for the same reasons except the last.
    changed
        False when the folder held exactly this already.
    """

    folder: Path
    neighbors: str
    rows: dict[str, int]
    images: int
    skipped: dict[str, int]
    neighbors_skipped: int
    changed: bool


def export_instructg2i(
    data: DataRoot, folder: Path, neighbors: str, *, withdrawn: Collection[str] = ()
) -> ExportReport:
    """Write `neighbors` into `folder`, or bring an earlier export of it there up to date.

    Images come first and each `metadata.jsonl` is renamed into place after them, so a row never names an image that
    is not there. Images of an earlier export that no row names any more are removed.

    Parameters
    ----------
    neighbors
        Name of the dataset, `neighbors/<digest>`.
    withdrawn
        Ids of items that were opted out since they were ingested; like those marked `opted_out`, they are left out.

    Raises
    ------
    Graph2ImageError
        If there is no such dataset, none of its items has image and text, `folder` has other data in it, or the disk
        is full.
    """
    folder = Path(folder)
    samples = data.dataset(neighbors)
    items = _Items(data, withdrawn)
    with explain_os_errors(str(folder)), ExitStack() as stack:
        _claim(folder, neighbors)
        splits = {split: stack.enter_context(_SplitFolder(data, folder / split)) for split in SPLITS}
        skipped: Counter[str] = Counter()
        neighbors_skipped = 0
        for batch in samples.to_batches(columns=["item_id", "split", "neighbors"]):
            offsets = batch["neighbors"].offsets.to_pylist()
            near = items.images(pc.struct_field(batch["neighbors"].values, "item_id"))
            centers = items.images(batch["item_id"])
            rows = zip(batch["split"].to_pylist(), centers, items.texts(batch["item_id"]), strict=True)
            for number, (split, center, text) in enumerate(rows):
                if isinstance(center, str) or not text or not text.strip():
                    skipped[center if isinstance(center, str) else "no_text"] += 1
                    continue
                around = near[offsets[number] : offsets[number + 1]]
                named = [image for image in around if not isinstance(image, str)]
                neighbors_skipped += len(around) - len(named)
                splits[split].add(center, text, named)
        if not any(split.rows for split in splits.values()):
            raise Graph2ImageError(f"no item of {neighbors!r} has both an image and a text: nothing to export")
        changed = [split.finish() for split in splits.values()]
    report = ExportReport(
        folder=folder,
        neighbors=neighbors,
        rows={name: split.rows for name, split in splits.items()},
        images=sum(len(split.images) for split in splits.values()),
        skipped=dict(sorted(skipped.items())),
        neighbors_skipped=neighbors_skipped,
        changed=any(changed),
    )
    log.info("%s: %d rows, %s", folder, sum(report.rows.values()), "written" if report.changed else "unchanged")
    return report


def file_stem(item_id: str) -> str:
    """Name of an item's image without the suffix; different ids have different ones.

    A colon becomes `_`; letters, digits, `.` and `-` stay; any other byte (of UTF-8) becomes `~` and two hex digits, so
    the id can be inferred from the name unless it is a very long one.

    >>> file_stem("art500k:Bc_9")
    'art500k_Bc~5f9'
    """
    stem = _ESCAPED.sub(lambda found: "".join(f"~{byte:02x}" for byte in found[0].encode()), item_id)
    stem = stem.replace(":", "_")
    if len(stem) > _STEM_LENGTH:
        return f"{stem[: _STEM_LENGTH // 2]}~~{hashlib.sha256(item_id.encode()).hexdigest()}"
    return stem


def _claim(folder: Path, neighbors: str) -> None:
    """Mark a new or empty folder as an export of `neighbors`; one that has other data is an error."""
    marker = folder / MARKER
    if not marker.exists():
        if folder.exists() and (not folder.is_dir() or any(path.suffix != ".tmp" for path in folder.iterdir())):
            raise Graph2ImageError(f"{folder} has other data in it", "Choose an empty folder to export to.")
        folder.mkdir(parents=True, exist_ok=True)
        _replace(marker, orjson.dumps({"exported": neighbors}))
    elif (exported := _exported(marker)) != neighbors:
        raise Graph2ImageError(
            f"{folder} holds an export of {exported or 'something else'}, not of {neighbors}",
            "Choose an empty folder to export to, or remove that one first.",
        )


def _exported(marker: Path) -> str | None:
    try:
        content = orjson.loads(marker.read_bytes())
    except orjson.JSONDecodeError:
        return None
    return content.get("exported") if isinstance(content, dict) else None


def _temporary(path: Path) -> Path:
    return path.with_name(f".{uuid.uuid4().hex}.tmp")


def _replace(path: Path, content: bytes) -> None:
    temporary = _temporary(path)
    temporary.write_bytes(content)
    temporary.replace(path)


@dataclass(frozen=True, slots=True)
class _Image:
    """Of an item: its file name in an export, where it is under the data root, and its hash."""

    name: str
    path: str
    image_hash: str


class _Items:
    """Images and texts of all items, by id."""

    def __init__(self, data: DataRoot, withdrawn: Collection[str]) -> None:
        columns = ["item_id", "text", "image_hash", "opted_out"]
        items = read_items(data, columns)
        images = data.read("images", ["image_hash", "path"], IMAGE_SCHEMA)
        found = pc.index_in(items["image_hash"], images["image_hash"], skip_nulls=True)
        gone = pc.is_in(items["item_id"], pa.array(list(withdrawn), pa.string()))
        self._texts = items["text"]
        self._hashes = items["image_hash"]
        self._paths = images["path"].take(found)
        self._opted_out = pc.or_(items["opted_out"], gone)
        self._index = IdIndex()
        start = 0
        for ids in items["item_id"].chunks:
            self._index.add(ids, np.arange(start, start + len(ids)))
            start += len(ids)

    def images(self, ids: pa.StringArray) -> list[_Image | str]:
        """The image of each item, or why it is not to be shown: `unknown`, `opted_out` or `no_image`."""
        places = self._places(ids)
        columns = (column.take(places).to_pylist() for column in (self._paths, self._hashes, self._opted_out))
        return [
            "unknown"
            if opted_out is None
            else "opted_out"
            if opted_out
            else "no_image"
            if path is None
            else _Image(f"{file_stem(item_id)}{posixpath.splitext(path)[1]}", path, image_hash)
            for item_id, path, image_hash, opted_out in zip(ids.to_pylist(), *columns, strict=True)
        ]

    def texts(self, ids: pa.StringArray) -> list[str | None]:
        texts: list[str | None] = self._texts.take(self._places(ids)).to_pylist()
        return texts

    def _places(self, ids: pa.StringArray) -> pa.Int64Array:
        places = self._index.find(ids)
        return pa.array(places, mask=places < 0)


class _SplitFolder:
    """One of the folders while it is written."""

    def __init__(self, data: DataRoot, folder: Path) -> None:
        self.rows = 0
        self.images: set[str] = set()
        self._data = data
        self._is_local = isinstance(data.fs, LocalFileSystem)
        self._folder = folder
        self._changed = False
        self._draft = _temporary(folder / METADATA)
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> _SplitFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
        self._draft.unlink(missing_ok=True)

    def add(self, center: _Image, text: str, neighbors: list[_Image]) -> None:
        """One row, and the images it names."""
        if self._stream is None:
            self._folder.mkdir(exist_ok=True)
            self._stream = self._draft.open("wb")
        for image in (center, *neighbors):
            if image.name not in self.images:
                self.images.add(image.name)
                self._place(image)
        row = {"center": center.name, "text": text, "neighbors": [image.name for image in neighbors]}
        self._stream.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        self.rows += 1

    def finish(self) -> bool:
        """Publish the rows, remove what is no longer named; returns whether anything was changed."""
        metadata = self._folder / METADATA
        if self._stream is None:
            self._changed |= metadata.exists()
            metadata.unlink(missing_ok=True)
        else:
            self._stream.close()
            if metadata.exists() and filecmp.cmp(metadata, self._draft, shallow=False):
                self._draft.unlink()
            else:
                self._draft.replace(metadata)
                self._changed = True
        for path in list(self._leftovers()):
            path.unlink()
            self._changed = True
        return self._changed

    def _leftovers(self) -> Iterator[Path]:
        """Images of earlier exports, and what a killed one left."""
        ours = (*FORMATS.values(), "tmp")
        for path in self._folder.iterdir() if self._folder.exists() else ():
            if path.suffix[1:] in ours and path.name not in self.images:
                yield path

    def _place(self, image: _Image) -> None:
        target = self._folder / image.name
        try:
            if target.exists() and self._is_same(target, image):
                return
            temporary = _temporary(target)
            self._copy(image, temporary)
            temporary.replace(target)
        except FileNotFoundError as error:
            raise Graph2ImageError(
                f"the image {image.path} is not under {self._data.url} any more", "Ingest its source again."
            ) from error
        self._changed = True

    def _is_same(self, target: Path, image: _Image) -> bool:
        if self._is_local and target.samefile(self._data.path(image.path)):
            return True
        return hashlib.sha256(target.read_bytes()).hexdigest() == image.image_hash

    def _copy(self, image: _Image, target: Path) -> None:
        if self._is_local:
            try:
                os.link(self._data.path(image.path), target)
                return
            except FileNotFoundError:
                raise
            except OSError:
                pass  # another device, or a file system without links
        target.write_bytes(self._data.read_bytes(image.path))
