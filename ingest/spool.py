"""Rows on their way to a dataset, kept in a temporary file instead of in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ingest.datasets import explain_os_errors

#: Rows per batch that is written, and per table that is read back.
BATCH_ROWS = 1 << 14
TABLE_ROWS = 1 << 17


class Spool:
    """A queue of rows: first all are added, then all are read, in order.

    Parameters
    ----------
    path
        A file to create; the caller removes it.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema = schema
        self._path = path
        self._columns: list[list[object]] = [[] for _ in schema]
        with explain_os_errors(str(path)):
            self._file = pa.OSFile(str(path), "wb")
            self._writer = pa.ipc.new_stream(self._file, schema)

    def add(self, *values: object) -> None:
        """Add a row; one value per field of the schema."""
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        if len(self._columns[0]) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        arrays = [pa.array(c, f.type) for c, f in zip(self._columns, self.schema, strict=True)]
        for column in self._columns:
            column.clear()
        with explain_os_errors(str(self._path)):
            self._writer.write_batch(pa.record_batch(arrays, schema=self.schema))

    def finish(self) -> None:
        """End writing."""
        self._flush()
        with explain_os_errors(str(self._path)):
            self._writer.close()
            self._file.close()

    def tables(self) -> Iterator[pa.Table]:
        """The rows as tables of at most `TABLE_ROWS` rows, the same cut for the same rows."""
        waiting: list[pa.RecordBatch] = []
        with pa.OSFile(str(self._path), "rb") as file:
            for batch in pa.ipc.open_stream(file):
                waiting.append(batch)
                if len(waiting) * BATCH_ROWS >= TABLE_ROWS:
                    yield pa.Table.from_batches(waiting, self.schema).combine_chunks()
                    waiting.clear()
        if sum(batch.num_rows for batch in waiting):
            yield pa.Table.from_batches(waiting, self.schema).combine_chunks()
