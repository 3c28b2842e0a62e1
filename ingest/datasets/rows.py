"""The rows of a dataset: a `pyarrow.dataset.Dataset` that names the file when one turns out to be damaged."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from ingest.datasets.integrity import NAME_DIGITS, DamagedError, file_sha256

# Each page has a checksum, and it is looked at.
_FORMAT = pads.ParquetFileFormat(
    default_fragment_scan_options=pads.ParquetFragmentScanOptions(page_checksum_verification=True)
)


class Rows:
    """The rows of some Parquet files, to scan with column selection and filters.

    Parameters
    ----------
    fs
        The `fsspec` filesystem that the files are on.
    arrow_fs
        The same, as Arrow reads it.
    files
        Paths of the files, as `DataRoot` publishes them.
    schema
        The columns; by default those of the first file.

    Raises
    ------
    DamagedError
        Here and by every method, if a file is missing, cut short or changed.
    """

    def __init__(self, fs: Any, arrow_fs: Any, files: Sequence[str], schema: pa.Schema | None = None) -> None:
        self._fs, self._arrow_fs, self._files = fs, arrow_fs, list(files)
        with self._damage_told():
            if not self._files:
                self._dataset = pads.dataset((schema or pa.schema([])).empty_table())
            else:
                self._dataset = pads.dataset(self._files, schema=schema, format=_FORMAT, filesystem=arrow_fs)

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files."""
        return tuple(self._files)

    @property
    def schema(self) -> pa.Schema:
        return self._dataset.schema

    def to_table(self, columns: Sequence[str] | None = None, filter: Any = None) -> pa.Table:  # noqa: A002
        """All rows, or those that `filter`, an expression of `pyarrow.compute`, is true of."""
        with self._damage_told():
            return self._dataset.to_table(columns=list(columns) if columns is not None else None, filter=filter)

    def to_batches(
        self,
        columns: Sequence[str] | None = None,
        filter: Any = None,  # noqa: A002
        **reading: int,
    ) -> Iterator[pa.RecordBatch]:
        """As `to_table`, batch by batch; `reading` is what `pyarrow.dataset.Scanner` takes, such as `batch_size`."""
        columns = list(columns) if columns is not None else None
        with self._damage_told():
            yield from self._dataset.to_batches(columns=columns, filter=filter, **reading)

    def head(self, rows: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The first `rows` rows."""
        with self._damage_told():
            return self._dataset.head(rows, columns=list(columns) if columns is not None else None)

    def count_rows(self, filter: Any = None) -> int:  # noqa: A002
        with self._damage_told():
            return int(self._dataset.count_rows(filter=filter))

    def by_file(self) -> Iterator[Rows]:
        """The rows of one file after another, in the files' order."""
        for file in self._files:
            yield Rows(self._fs, self._arrow_fs, [file], self.schema)

    @contextmanager
    def _damage_told(self) -> Iterator[None]:
        """Arrow says what is wrong, but not in which file: the digests in the names do."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            for file in self._files:
                if (problem := file_problem(self._fs, file)) is not None:
                    raise DamagedError(file, problem) from error
            raise


def read_file(
    fs: Any, arrow_fs: Any, path: str, columns: Sequence[str] | None = None, schema: pa.Schema | None = None
) -> pa.Table:
    """One Parquet file as `DataRoot` publishes them; raises as `Rows`."""
    try:
        columns = list(columns) if columns is not None else None
        return pq.read_table(
            path,
            columns=columns,
            schema=schema,
            filesystem=arrow_fs,
            partitioning=None,
            page_checksum_verification=True,
        )
    except (OSError, pa.ArrowException) as error:
        if (problem := file_problem(fs, path)) is not None:
            raise DamagedError(path, problem) from error
        raise


def file_problem(fs: Any, path: str) -> str | None:
    """What is wrong with a published Parquet file, by all of its bytes; None if nothing is."""
    if not fs.exists(path):
        return "is missing"
    with fs.open(path, "rb") as stream:
        found = file_sha256(stream)
    if found[:NAME_DIGITS] == posixpath.basename(path).removesuffix(".parquet"):
        return None
    return "has no bytes" if not fs.size(path) else "has changed since it was written"
