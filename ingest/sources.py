"""From an ingestion to what the pipeline takes: its reader, its files, its images. The only dispatch by source."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from ingest.batches import Batch, from_records
from ingest.datasets.names import GraphNames
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from ingest.images.fetch import FetchSettings, HttpImages
from ingest.images.sources import ImageSource, open_image_source
from ingest.ingestion import Amazon, Art500k, Goodreads, Ingestion, InstructG2I, Table, WithUrls
from ingest.pipeline import IngestReport, InputFile, ingest
from ingest.readers import amazon, art500k, goodreads, instructg2i
from ingest.readers.painterpalette import read_painterpalette
from ingest.readers.table import column_schema, read_table
from ingest.readers.tablespec import TableSpec, load_spec
from ingest.splits import SplitFractions

#: Rows of a table per batch.
TABLE_BATCH_ROWS = 1 << 12

#: Size in bytes from which a file is parsed by several processes: they take a second to start.
PARALLEL_BYTES = 32 << 20


@dataclass(frozen=True)
class Opened:
    """An ingestion whose files were found, and its spec read.

    Attributes
    ----------
    source
        What the datasets are called.
    names
        What the source brings to the graph.
    images
        Folder, tar or zip; None for none, or to fetch them.
    """

    source: str
    files: Sequence[InputFile]
    item_columns: pa.Schema
    names: GraphNames
    images: Path | None
    fractions: SplitFractions = field(default_factory=SplitFractions)


def ingest_source(
    data: DataRoot,
    ingestion: Ingestion,
    fetch: FetchSettings = FetchSettings(),  # noqa: B008 (frozen)
) -> IngestReport:
    """Ingest what `ingestion` names.

    Parameters
    ----------
    fetch
        How images are fetched, if the ingestion asks for that.

    Raises
    ------
    Graph2ImageError
        As `ingest.pipeline.ingest`; also if no file fits a pattern, one is a folder, or a spec is wrong or does not fit
        its table.
    """
    opened = open_source(ingestion)
    with _image_source(data, ingestion, opened.images, fetch) as images:
        return ingest(
            data,
            opened.source,
            opened.files,
            opened.item_columns,
            images=images,
            fractions=opened.fractions,
            strict=ingestion.strict,
            prune=ingestion.prune,
            require_images=ingestion.require_images,
        )


def open_source(ingestion: Ingestion) -> Opened:
    """Find the files of an ingestion, and read its spec; errors as in `ingest_source`."""
    return _OPENERS[type(ingestion)](ingestion)


def _open_art500k(ingestion: Art500k) -> Opened:
    files = []
    for path in find_files(ingestion.files):
        head_info = path.with_name("head_info.csv")
        paths = [path, head_info] if head_info.exists() else [path]
        read = partial(art500k.read_art500k, path, _workers(path, ingestion.workers))
        files.append(InputFile(path.name, paths, read))
    files += [
        InputFile(path.name, [path], partial(read_painterpalette, path)) for path in find_files(ingestion.painters)
    ]
    return Opened("art500k", files, art500k.ITEM_COLUMNS, art500k.NAMES, ingestion.images)


def _open_amazon(ingestion: Amazon) -> Opened:
    files = [
        InputFile(path.name, [path], partial(amazon.read_amazon, path, _workers(path, ingestion.workers)))
        for path in find_files(ingestion.files)
    ]
    return Opened("amazon", files, amazon.ITEM_COLUMNS, amazon.NAMES, ingestion.images)


def _open_goodreads(ingestion: Goodreads) -> Opened:
    count = ingestion.min_shelf_count
    files = [
        InputFile(
            path.name,
            [path],
            partial(goodreads.read_goodreads, path, _workers(path, ingestion.workers), min_shelf_count=count),
            {"min_shelf_count": count},
        )
        for path in find_files(ingestion.files)
    ]
    return Opened("goodreads", files, goodreads.ITEM_COLUMNS, goodreads.NAMES, ingestion.images)


def _open_instructg2i(ingestion: InstructG2I) -> Opened:
    folder = ingestion.folder
    center, neighbors, text = ingestion.center_key, ingestion.neighbors_key, ingestion.text_key
    read = partial(instructg2i.read_instructg2i, folder, center_key=center, neighbors_key=neighbors, text_key=text)
    file = InputFile(folder.resolve().name, sorted(folder.glob("*/metadata.jsonl")), read, [center, neighbors, text])
    return Opened("instructg2i", [file], instructg2i.ITEM_COLUMNS, instructg2i.NAMES, folder)


def _open_table(ingestion: Table) -> Opened:
    spec, root = load_spec(ingestion.spec), ingestion.root
    columns = column_schema(spec)
    # Known by its source: the next export may have another name and still be the same table.
    table = InputFile(
        spec.source, [root / spec.table.file], partial(_table_batches, spec, root), spec.model_dump(mode="json")
    )
    place = spec.image and (spec.image.folder or spec.image.archive)
    fractions = SplitFractions(spec.split.val, spec.split.test)
    return Opened(spec.source, [table], columns, spec.names(), root / place if place else None, fractions)


_OPENERS: dict[type[Ingestion], Callable[[Any], Opened]] = {
    Art500k: _open_art500k,
    Amazon: _open_amazon,
    Goodreads: _open_goodreads,
    InstructG2I: _open_instructg2i,
    Table: _open_table,
}


def _table_batches(spec: TableSpec, root: Path) -> Iterator[Batch]:
    records = read_table(spec, root)
    while rows := list(itertools.islice(records, TABLE_BATCH_ROWS)):
        yield from_records(rows, spec.source, spec.table.file, column_schema(spec))


def find_files(patterns: Sequence[str | Path]) -> list[Path]:
    """The files that paths and glob patterns name, in their order, each once.

    Raises
    ------
    Graph2ImageError
        If no file fits a pattern, or a path is a folder.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        try:
            paths = [path] if path.exists() else sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        except ValueError as error:
            raise Graph2ImageError(f"{str(pattern)!r} is no file and no pattern: {error}") from error
        if not paths:
            raise Graph2ImageError(f"there is no file {pattern}")
        for path in paths:
            if path.is_dir():
                raise Graph2ImageError(f"{path} is a folder", f"Name the files in it, such as '{path}/*.json.gz'.")
            found[path] = None
    return list(found)


def _workers(path: Path, workers: int | None) -> int:
    if workers is not None:
        return workers
    return os.cpu_count() or 1 if path.stat().st_size >= PARALLEL_BYTES else 1


def _image_source(
    data: DataRoot, ingestion: Ingestion, images: Path | None, fetch: FetchSettings
) -> AbstractContextManager[ImageSource | None]:
    if isinstance(ingestion, WithUrls) and (ingestion.fetch or ingestion.refresh):
        return closing(HttpImages(data, fetch.model_copy(update={"refresh": ingestion.refresh})))
    return nullcontext() if images is None else closing(open_image_source(images))
