"""One function per source: its files and its reader, its images, and so to `ingest.pipeline`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from pathlib import Path

from ingest.batches import Batch, from_records
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from ingest.images.fetch import FetchSettings, HttpImages
from ingest.images.sources import ImageSource, open_image_source
from ingest.pipeline import IngestReport, InputFile, ingest
from ingest.readers import amazon, art500k, goodreads, instructg2i
from ingest.readers.painterpalette import read_painterpalette
from ingest.readers.table import column_schema, read_table
from ingest.readers.tablespec import TableSpec, load_spec
from ingest.splits import SplitFractions

#: Where images come from: a folder, a tar or a zip; over HTTP by the addresses in the rows; or nowhere.
Pictures = Path | FetchSettings | None

#: Rows of a table per batch.
TABLE_BATCH_ROWS = 1 << 12

#: Size in bytes from which a file is parsed by several processes: they take a second to start.
PARALLEL_BYTES = 32 << 20


def ingest_art500k(
    data: DataRoot,
    label_files: Sequence[str | Path],
    pictures: Pictures = None,
    *,
    painters: Sequence[str | Path] = (),
    workers: int | None = None,
    strict: bool = False,
    prune: bool = False,
) -> IngestReport:
    """Ingest ART500K: the full label file or the toy set's, and what PainterPalette's tables say of the artists.

    Parameters
    ----------
    label_files, painters
        Files, or glob patterns of files.
    images
        For the full set, where the folders `Artists1`, `Artists2`, `Art Movement` and `Medium` are.
    workers
        Processes that parse; by default one per core for a large file.

    Raises
    ------
    Graph2ImageError
        As `ingest.pipeline.ingest`; also if no file fits a pattern, or one is a folder.
    """
    files = []
    for path in find_files(label_files):
        head_info = path.with_name("head_info.csv")
        paths = [path, head_info] if head_info.exists() else [path]
        read = partial(art500k.read_art500k, path, _workers(path, workers))
        files.append(InputFile(path.name, paths, read))
    files += [InputFile(path.name, [path], partial(read_painterpalette, path)) for path in find_files(painters)]
    with _opened(data, pictures) as images:
        return ingest(data, "art500k", files, art500k.ITEM_COLUMNS, images=images, strict=strict, prune=prune)


def ingest_amazon(
    data: DataRoot,
    metadata_files: Sequence[str | Path],
    pictures: Pictures = None,
    *,
    workers: int | None = None,
    strict: bool = False,
    prune: bool = False,
) -> IngestReport:
    """Ingest Amazon product metadata of the 2014, 2018 and 2023 releases; for the parameters see `ingest_art500k`."""
    files = [
        InputFile(path.name, [path], partial(amazon.read_amazon, path, _workers(path, workers)))
        for path in find_files(metadata_files)
    ]
    with _opened(data, pictures) as images:
        return ingest(data, "amazon", files, amazon.ITEM_COLUMNS, images=images, strict=strict, prune=prune)


def ingest_goodreads(
    data: DataRoot,
    files: Sequence[str | Path],
    pictures: Pictures = None,
    *,
    min_shelf_count: int = 5,
    workers: int | None = None,
    strict: bool = False,
    prune: bool = False,
) -> IngestReport:
    """Ingest files of the Goodreads book graph: books, authors, works, series and genres, each told by its rows.

    Parameters
    ----------
    min_shelf_count
        How many readers must have put a book on a shelf for it to be one of the book's.

    For the others and the errors see `ingest_art500k`.
    """
    inputs = [
        InputFile(
            path.name,
            [path],
            partial(goodreads.read_goodreads, path, _workers(path, workers), min_shelf_count=min_shelf_count),
            {"min_shelf_count": min_shelf_count},
        )
        for path in find_files(files)
    ]
    with _opened(data, pictures) as images:
        return ingest(data, "goodreads", inputs, goodreads.ITEM_COLUMNS, images=images, strict=strict, prune=prune)


def ingest_instructg2i(
    data: DataRoot,
    folder: str | Path,
    *,
    center_key: str | None = None,
    neighbors_key: str | None = None,
    text_key: str = "text",
    strict: bool = False,
    prune: bool = False,
) -> IngestReport:
    """Ingest a data set in InstructG2I's released layout, with its images.

    Parameters
    ----------
    center_key, neighbors_key, text_key
        Keys of the rows; the first two are told from the first row by default.
    """
    folder = Path(folder)
    read = partial(
        instructg2i.read_instructg2i, folder, center_key=center_key, neighbors_key=neighbors_key, text_key=text_key
    )
    keys = [center_key, neighbors_key, text_key]
    file = InputFile(folder.resolve().name, sorted(folder.glob("*/metadata.jsonl")), read, keys)
    with closing(open_image_source(folder)) as images:
        return ingest(data, "instructg2i", [file], instructg2i.ITEM_COLUMNS, images=images, strict=strict, prune=prune)


def ingest_table(
    data: DataRoot, spec_path: str | Path, root: str | Path, *, strict: bool = False, prune: bool = False
) -> IngestReport:
    """Ingest the table that the spec file describes (`ingest.readers.tablespec`); its paths are relative to `root`.

    Raises
    ------
    Graph2ImageError
        As `ingest.pipeline.ingest`; also if the spec is wrong or does not fit the table.
    """
    spec = load_spec(Path(spec_path))
    root = Path(root)
    # Known by its source: the next export may have another name and still be the same table.
    table = InputFile(
        spec.source, [root / spec.table.file], partial(_table_batches, spec, root), spec.model_dump(mode="json")
    )
    place = spec.image and (spec.image.folder or spec.image.archive)
    with _opened(data, root / place if place else None) as images:
        return ingest(
            data,
            spec.source,
            [table],
            column_schema(spec),
            images=images,
            fractions=SplitFractions(spec.split.val, spec.split.test),
            strict=strict,
            prune=prune,
        )


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
        paths = [path] if path.exists() else sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
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


def _opened(data: DataRoot, pictures: Pictures) -> AbstractContextManager[ImageSource | None]:
    if pictures is None:
        return nullcontext()
    if isinstance(pictures, FetchSettings):
        return closing(HttpImages(data, pictures))
    return closing(open_image_source(pictures))
