"""Local files that become files of a data root without being read into memory."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fsspec.implementations.local import LocalFileSystem

from ingest.datasets.root import DataRoot, explain_os_errors


def publish_file(data: DataRoot, name: str, path: Path) -> None:
    """Move a local file to `name`; it is there whole or not at all, and is never read into memory."""
    target = data.path(name)
    parent = target.rpartition("/")[0]
    with explain_os_errors(target):
        data.fs.makedirs(parent, exist_ok=True)
        temporary = f"{parent}/.{uuid.uuid4().hex}.tmp"
        try:
            if isinstance(data.fs, LocalFileSystem):
                shutil.move(path, temporary)
            else:
                data.fs.put_file(str(path), temporary)
            data.fs.mv(temporary, target)
        except BaseException:
            if data.fs.exists(temporary):
                data.fs.rm(temporary)
            raise


@contextmanager
def temporary_folder(data: DataRoot, name: str) -> Iterator[Path]:
    """A local folder for files that are published under `name` then; on the same disk, if that is local."""
    parent = None
    if isinstance(data.fs, LocalFileSystem):
        parent = Path(data.path(name)).parent
        with explain_os_errors(str(parent)):
            parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent, prefix=".", suffix=".tmp") as folder:
        yield Path(folder)
