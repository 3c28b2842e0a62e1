"""Folders of a data root, as the local folders that `save_pretrained` writes and `from_pretrained` reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from diffusers.utils import logging as diffusers_logging
from filelock import FileLock
from fsspec.implementations.local import LocalFileSystem
from transformers.utils import logging as transformers_logging

from ingest.datasets.integrity import file_sha256
from ingest.datasets.local_files import publish_file, temporary_folder
from ingest.datasets.root import DataRoot, digest, explain_os_errors


def publish_folder(data: DataRoot, name: str, write: Callable[[Path], object], marker: str) -> None:
    """Let `write` fill a temporary folder, then copy its files to `name`, the file `marker` last.

    Readers take the folder for complete when `marker` exists, so a killed run leaves nothing half-read.
    """
    with temporary_folder(data, name) as folder:
        write(folder)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        digests = {file: local_sha256(folder / file) for file in files}
        for file in files:
            if file != marker:
                publish_file(data, f"{name}/{file}", folder / file)
        data.write_folder_list(name, digests)
        publish_file(data, f"{name}/{marker}", folder / marker)


def local_sha256(path: Path) -> str:
    """SHA-256 of a local file, in hex."""
    with path.open("rb") as stream:
        return file_sha256(stream)


def work_folder(data: DataRoot, name: str) -> Path:
    """Local folder for files that are mapped or written to all the time; it may not exist yet.

    It is `name` under a local data root. For a remote one it is in the user's cache, and lost without harm.
    """
    if isinstance(data.fs, LocalFileSystem):
        return Path(data.path(name))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "graph2image" / digest(data.url) / name


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine out of the same context; a killed one lets go of it."""
    with explain_os_errors(str(folder)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def local_folder(data: DataRoot, name: str) -> Iterator[Path]:
    """The folder `name` of the data root as a local path; a remote one is fetched for the time of the context.

    Raises
    ------
    DamagedError
        If a file in it is missing or has changed since it was published.
    """
    data.check_folder(name)
    if isinstance(data.fs, LocalFileSystem):
        yield Path(data.path(name))
        return
    with TemporaryDirectory() as temporary:
        data.fs.get(f"{data.path(name)}/", temporary, recursive=True)  # with the slash: what is in it
        yield Path(temporary)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without the progress bars of diffusers and transformers, which a folder of small models does not need."""
    libraries = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()
