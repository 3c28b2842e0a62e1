"""Rows on their way to a dataset, kept in a temporary file instead of in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pyarrow as pa

from ingest.datasets import explain_os_errors

#: Rows per batch that is written; rows and bytes from which a table that is read back is full.
BATCH_ROWS = 1 << 12
TABLE_ROWS = 1 << 17
TABLE_BYTES = 1 << 26


class Spool:
    """A queue of rows: first all are added, then all are read, in order.

    The file has no name, so that even a killed process leaves nothing behind.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._columns: list[list[object]] = [[] for _ in schema]
        with explain_os_errors(tempfile.gettempdir()):
            self._file = tempfile.TemporaryFile(prefix="graph2image-")  # noqa: SIM115 (closed with the spool)
            self._writer = pa.ipc.new_stream(self._file, schema)

    def close(self) -> None:
        """Give up the rows."""
        self._file.close()

    def add(self, *values: object) -> None:
        """Add a row; one value per field of the schema."""
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        if len(self._columns[0]) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        arrays = [pa.array(column, field.type) for column, field in zip(self._columns, self.schema, strict=True)]
        for column in self._columns:
            column.clear()
        with explain_os_errors(tempfile.gettempdir()):
            self._writer.write_batch(pa.record_batch(arrays, schema=self.schema))

    def finish(self) -> None:
        """End the writing; `tables` reads from then on."""
        self._flush()
        with explain_os_errors(tempfile.gettempdir()):
            self._writer.close()
            self._file.flush()

    def tables(self) -> Iterator[pa.Table]:
        """The rows as tables of a bounded size, cut in the same places for the same rows."""
        self._file.seek(0)
        batches: list[pa.RecordBatch] = []
        for batch in pa.ipc.open_stream(self._file):
            batches.append(batch)
            rows, size = (sum(getattr(b, name) for b in batches) for name in ("num_rows", "nbytes"))
            if rows >= TABLE_ROWS or size >= TABLE_BYTES:
                yield pa.Table.from_batches(batches)
                batches.clear()
        if any(batch.num_rows for batch in batches):
            yield pa.Table.from_batches(batches)
