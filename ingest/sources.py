"""One function per source: its files, its reader and its pictures, to `ingest.pipeline`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from ingest.batches import Batch, from_records
from ingest.datasets import DataRoot
from ingest.images import open_image_source
from ingest.pipeline import IngestReport, InputFile, ingest
from ingest.readers.table import column_schema, read_table
from ingest.splits import SplitFractions
from ingest.tablespec import TableSpec, load_spec

#: Rows of a table per batch.
TABLE_BATCH_ROWS = 1 << 12


def ingest_table(
    data: DataRoot, spec_path: str | Path, root: str | Path, *, strict: bool = False, prune: bool = False
) -> IngestReport:
    """Ingest the table that the spec file describes (`ingest.tablespec`); its paths are relative to `root`.

    Raises
    ------
    Graph2ImageError
        If the spec is wrong or does not fit the table, a file cannot be read, the disk is full, or with `strict` at the
        first reject.
    """
    spec = load_spec(Path(spec_path))
    root = Path(root)
    # Known by its source: the next export may have another name and still be the same table.
    table = InputFile(
        spec.source, [root / spec.table.file], partial(_table_batches, spec, root), spec.model_dump(mode="json")
    )
    with ExitStack() as stack:
        images = None
        if spec.image is not None:
            place = spec.image.folder or spec.image.archive
            assert place is not None
            images = stack.enter_context(closing(open_image_source(root / place)))
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


_ = Sequence
