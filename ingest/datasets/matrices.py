"""Matrices that may be larger than the memory: then they are in a file without a name that is mapped into it."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import numpy.typing as npt
from fsspec.implementations.local import LocalFileSystem

from ingest.datasets.root import DataRoot, explain_os_errors

#: A larger matrix, in bytes, is kept in a file.
IN_MEMORY = 1 << 28


def zero_matrix(data: DataRoot, rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Zeros `(rows, columns)` float32; a large one in a file beside the datasets that is gone with the matrix.

    The system keeps in memory what of the file fits there.

    Raises
    ------
    Graph2ImageError
        If the disk is full.
    """
    size = 4 * rows * columns
    if size <= IN_MEMORY:
        return np.zeros((rows, columns), dtype=np.float32)
    folder = data.path("") if isinstance(data.fs, LocalFileSystem) else tempfile.gettempdir()
    with explain_os_errors(folder), tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)  # else a full disk would end the process
        mapped: npt.NDArray[np.float32] = np.memmap(file, np.float32, "r+", shape=(rows, columns))
        return np.asarray(mapped)
