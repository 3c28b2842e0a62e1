"""Arrays as `.npy` files that are written from start to end, for arrays that are larger than memory."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor


class ArrayWriter:
    """Writes a `.npy` file from start to end, without knowing its length before.

    Parameters
    ----------
    shape
        Of one row.
    """

    def __init__(self, path: Path, shape: Any, dtype: npt.DTypeLike) -> None:
        self.shape, self.dtype, self.rows = tuple(shape), np.dtype(dtype), 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Write rows, converted to the file's type."""
        self._file.write(np.ascontiguousarray(rows, self.dtype).data)
        self.rows += len(rows)

    def _write_header(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, header)  # numpy leaves it room for a longer length

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._write_header()
                self._file.flush()
                os.fsync(self._file.fileno())


class ArrayWriters:
    """`ArrayWriter`s of a folder, opened by their first rows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, ArrayWriter] = {}

    def append(self, name: str, rows: Tensor, dtype: npt.DTypeLike) -> None:
        """Write rows to `<name>.npy`."""
        values = rows.float().cpu().numpy() if rows.is_floating_point() else rows.cpu().numpy()
        if name not in self._writers:
            self._writers[name] = ArrayWriter(self._folder / f"{name}.npy", values.shape[1:], dtype)
        self._writers[name].append(values)

    def __enter__(self) -> ArrayWriters:
        return self

    def __exit__(self, *exception: Any) -> None:
        for writer in self._writers.values():
            writer.__exit__(*exception)
