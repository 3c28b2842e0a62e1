"""Arrays as `.npy` files that are written from start to end, for arrays that are larger than memory; and their folders.

A folder gets its name when it is complete, so a killed run leaves nothing half-read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ingest.datasets.integrity import DamagedError
from ingest.datasets.root import DataRoot, explain_os_errors
from ingest.errors import Graph2ImageError
from model.storage import local_sha256


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


def make_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a folder with `.npy` files, and give it its name and the list of their digests then.

    Raises
    ------
    Graph2ImageError
        If the disk is full; and whatever `write` raises. The folder is not there then.
    """
    with explain_os_errors(str(folder)):
        unfinished = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(unfinished, ignore_errors=True)  # what a killed run left
        unfinished.mkdir(parents=True)
        try:
            write(unfinished)
            digests = {path.name: local_sha256(path) for path in sorted(unfinished.glob("*.npy"))}
            DataRoot(str(unfinished.parent)).write_folder_list(unfinished.name, digests)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        unfinished.rename(folder)


def map_folder(folder: Path, needed: Iterable[str], optional: Iterable[str] = ()) -> Mapping[str, Any] | None:
    """Map the arrays of a folder into memory, by name; None for an `optional` one that is not there.

    Returns
    -------
    Mapping or None
        None if there is no such folder.

    Raises
    ------
    Graph2ImageError
        If a file is missing or damaged.
    """
    if not folder.is_dir():
        return None
    try:
        DataRoot(str(folder.parent)).check_folder(folder.name)
    except DamagedError as error:
        raise Graph2ImageError(
            error.message, f"Delete the folder {folder}: the next training makes it again."
        ) from error
    arrays: dict[str, Any] = dict.fromkeys(optional)
    for name in (*needed, *arrays):
        path = folder / f"{name}.npy"
        if not path.exists():
            if name not in arrays:
                raise Graph2ImageError(f"there is no {path.name} in {folder}", "Delete the folder.")
            continue
        try:
            arrays[name] = np.load(path, mmap_mode="c", allow_pickle=False)  # torch takes no read-only memory
        except (OSError, ValueError) as error:
            raise Graph2ImageError(f"cannot read {path}: {error}", f"Delete the folder {folder}.") from error
    return arrays
