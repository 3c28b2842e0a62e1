"""Folders of a data root, as the local folders that `save_pretrained` writes and `from_pretrained` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from diffusers.utils import logging as diffusers_logging
from fsspec.implementations.local import LocalFileSystem
from transformers.utils import logging as transformers_logging

from ingest.datasets import DataRoot


def publish_folder(data: DataRoot, name: str, write: Callable[[Path], object], marker: str) -> None:
    """Let `write` fill a temporary folder, then copy its files to `name`, the file `marker` last.

    Readers take the folder for complete when `marker` exists, so a killed run leaves nothing half-read.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        for file in sorted(files, key=lambda file: file == marker):
            data.write_bytes(f"{name}/{file}", (folder / file).read_bytes())


@contextmanager
def local_folder(data: DataRoot, name: str) -> Iterator[Path]:
    """The folder `name` of the data root as a local path; a remote one is fetched for the time of the context."""
    if isinstance(data.fs, LocalFileSystem):
        yield Path(data.path(name))
        return
    with TemporaryDirectory() as temporary:
        data.fs.get(data.path(name), temporary, recursive=True)
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
