"""The data root, and the only code that publishes or lists the files of its Parquet datasets.

A dataset is a folder of Parquet files under a data root (any `fsspec` URL). Two ways to write one:

- `publish` replaces the whole dataset: its files get content-derived names, then `_snapshot.json`, which lists them,
  is renamed into place. Readers see the old rows or the new rows, never a mixture; equal content has
  an equal digest.
- `append` adds one file with a content-derived name. Rows are computed from immutable inputs and keyed by content
  (an image hash, a generated id), so a file that exists twice under a re-run is the same file. Each is listed by an
  empty file in `_appended/`, so that one that is deleted is missed: an append costs the same however many there are,
  and writers need not wait for each other.

A file is written under a temporary name and renamed, so a killed run leaves nothing half-read. What is read is checked
(`integrity`): damage is an error that names the file, never other rows.
"""

from __future__ import annotations

import errno
import hashlib
import io
import posixpath
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import fsspec
import orjson
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from ingest.datasets.integrity import FOLDER_LIST, NAME_DIGITS, DamagedError, file_sha256, sealed, sha256, unsealed
from ingest.datasets.rows import Rows, read_file
from ingest.errors import Graph2ImageError, caused_error, first_line

#: Lists the files of a dataset that is replaced as a whole.
_SNAPSHOT = "_snapshot.json"

#: Says that there is such a list: without it, files of several generations would be read as one.
_PUBLISHED = "_published"

#: Lists the files of a dataset that is only appended to: a folder of empty files, each called as a file without suffix.
_APPENDED = "_appended"

#: Age from which a file that no snapshot lists is taken for a leftover.
SWEEP_AGE = timedelta(days=1)


def text_hash(text: str) -> str:
    """Key of a text in `text-embeddings/<encoder>`: SHA-256 of its UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def digest(*parts: object) -> str:
    """Sixteen hex digits that identify JSON-serializable `parts`; equal parts give equal digests, on any machine."""
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()[:16]


@dataclass(frozen=True)
class Snapshot:
    """What a published dataset consists of."""

    files: tuple[str, ...]
    rows: int
    digest: str
    metadata: dict[str, Any]


@contextmanager
def explain_os_errors(path: str) -> Iterator[None]:
    """Turn what the operating system objects to while `path` is written into a `Graph2ImageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Graph2ImageError(
                f"no space left while writing {path}",
                "What was published before is intact: free some space and run the same command again.",
            ) from error
        raise caused_error(f"cannot write {path}: {error.strerror or error}", error) from error


class DataRoot:
    """The folder (or bucket) that holds the datasets, the image files and the models.

    Parameters
    ----------
    url
        A local path or any `fsspec` URL. It is created by the first write.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self.fs, self._path = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:  # no such kind of storage; its package is not installed
            raise Graph2ImageError(
                f"cannot use the data root {url!r}: {first_line(error)}",
                "Give a folder, or a URL of a storage that `fsspec` and the installed packages know.",
            ) from error
        # Arrow reads in threads of its own, faster through its own filesystem; and one that still had a Python file in
        # its hands when the interpreter ends would abort the process.
        self._arrow_fs = pafs.LocalFileSystem() if isinstance(self.fs, LocalFileSystem) else self.fs
        #: Datasets of which this object has listed what an earlier run did not.
        self._listed: set[str] = set()

    def path(self, *parts: str) -> str:
        """Path of something under the root, as the root's filesystem names it."""
        return posixpath.join(self._path, *parts)

    # -- files -------------------------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        return bool(self.fs.exists(self.path(name)))

    def read_bytes(self, name: str, digest_then: str | None = None) -> bytes:
        """A whole file.

        Parameters
        ----------
        digest_then
            SHA-256 that it had when it was published, if that is known.

        Raises
        ------
        DamagedError
            If it has another one now, or is missing.
        FileNotFoundError
            If it is missing, and `digest_then` is not given.
        """
        try:
            content = bytes(self.fs.cat_file(self.path(name)))
        except FileNotFoundError as error:
            if digest_then is None:
                raise
            raise DamagedError(self.path(name), "is missing") from error
        if digest_then is not None and sha256(content) != digest_then:
            raise DamagedError(self.path(name), "has changed since it was written")
        return content

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file under a temporary name, then rename it: it is there whole, or not at all."""
        target = self.path(name)
        parent = posixpath.dirname(target)
        temporary = posixpath.join(parent, f".{uuid.uuid4().hex}.tmp")
        with explain_os_errors(target):
            self.fs.makedirs(parent, exist_ok=True)
            try:
                with self.fs.open(temporary, "wb") as stream:
                    stream.write(content)
                self.fs.mv(temporary, target)
            except BaseException:
                if self.fs.exists(temporary):
                    self.fs.rm(temporary)
                raise

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file of ours; it holds its own digest."""
        self.write_bytes(name, sealed(value))

    def read_json(self, name: str) -> Any:
        """The value of a JSON file, ours or another's.

        Raises
        ------
        DamagedError
            If it is no JSON, or one of ours that has changed.
        """
        return unsealed(self.path(name), self.read_bytes(name))

    def write_folder_list(self, name: str, digests: Mapping[str, str]) -> None:
        """List the files of a folder with their SHA-256, for `check_folder`.

        Of the folder, only the file that says that it is complete is written after the list.
        """
        self.write_json(f"{name}/{FOLDER_LIST}", {"files": dict(digests)})

    def write_folder(self, name: str, files: Mapping[str, bytes], marker: str) -> None:
        """Write the files of a folder and their list; of them `marker`, by which it is complete, comes last."""
        for file, content in files.items():
            if file != marker:
                self.write_bytes(f"{name}/{file}", content)
        self.write_folder_list(name, {file: sha256(content) for file, content in files.items()})
        self.write_bytes(f"{name}/{marker}", files[marker])

    def check_folder(self, name: str) -> None:
        """Check every file of a folder against its list; a folder without one is as it is.

        Raises
        ------
        DamagedError
            If a file is missing or has changed.
        """
        if not self.exists(f"{name}/{FOLDER_LIST}"):
            return
        for file, digest_then in self.read_json(f"{name}/{FOLDER_LIST}")["files"].items():
            path = self.path(name, file)
            if not self.fs.exists(path):
                raise DamagedError(path, "is missing")
            with self.fs.open(path, "rb") as stream:
                if file_sha256(stream) != digest_then:
                    raise DamagedError(path, "has changed since it was written")

    def complete_folders(self, kind: str, marker: str) -> list[str]:
        """Names of the folders in folder `kind` that have the file `marker`, sorted.

        No glob: the path of the root may have brackets in it.
        """
        with suppress(FileNotFoundError):
            names = sorted(posixpath.basename(path) for path in self.fs.ls(self.path(kind), detail=False))
            return [name for name in names if self.exists(f"{kind}/{name}/{marker}")]
        return []

    # -- datasets ----------------------------------------------------------------------------------------------------

    def names(self, prefix: str = "") -> list[str]:
        """Names of the datasets under `prefix` that have at least one published file, sorted."""
        found = set()
        root = self.path(prefix) if prefix else self._path
        if not self.fs.exists(root):
            return []
        for folder, subfolders, files in self.fs.walk(root):
            name = folder[len(self._path) :].strip("/")
            if any(file in (_SNAPSHOT, _PUBLISHED) or file.endswith(".parquet") for file in files):
                found.add(name)
            elif posixpath.basename(name) == _APPENDED and files:  # also if none of what it lists is left
                found.add(posixpath.dirname(name))
            if name == "images" and "files" in subfolders:
                subfolders.remove("files")  # of which there may be millions
        return sorted(found)

    def is_published(self, name: str) -> bool:
        """Whether a dataset was ever written by `publish`."""
        return self.exists(f"{name}/{_PUBLISHED}")

    def snapshot(self, name: str) -> Snapshot | None:
        """The published state of a dataset written by `publish`; None if there is none."""
        pointer = f"{name}/{_SNAPSHOT}"
        if not self.exists(pointer):
            if self.is_published(name):
                raise DamagedError(self.path(pointer), "is missing")
            return None
        value = self.read_json(pointer)
        try:
            return Snapshot(tuple(value["files"]), value["rows"], value["digest"], value["metadata"])
        except (KeyError, TypeError) as error:
            raise DamagedError(self.path(pointer), f"is no list of files: {error!r}") from error

    def publish(
        self, name: str, tables: Iterable[pa.Table], schema: pa.Schema, metadata: dict[str, Any] | None = None
    ) -> tuple[Snapshot, bool]:
        """Replace dataset `name` by `tables`, one file each.

        Returns
        -------
        snapshot, changed
            `changed` is False when the content equals what was published already; nothing is written then.
        """
        files: list[str] = []
        rows = 0
        for table in tables:
            files.append(self.write_table(name, table, schema))
            rows += table.num_rows
        return self.publish_files(name, files or [self.write_table(name, schema.empty_table(), schema)], rows, metadata)

    def publish_files(
        self, name: str, files: Sequence[str], rows: int, metadata: dict[str, Any] | None = None
    ) -> tuple[Snapshot, bool]:
        """Replace dataset `name` by files that `write_table` has written, `rows` rows in all; as `publish`."""
        before = self.snapshot(name)
        snapshot = Snapshot(tuple(files), rows, digest(list(files), metadata or {}), metadata or {})
        if before == snapshot:
            return snapshot, False
        if not self.is_published(name):
            self.write_bytes(f"{name}/{_PUBLISHED}", b"")
        self.write_json(
            f"{name}/{_SNAPSHOT}",
            {"files": list(files), "rows": rows, "digest": snapshot.digest, "metadata": snapshot.metadata},
        )
        self._sweep(name, {*files, *(before.files if before else ())})
        return snapshot, True

    def _sweep(self, name: str, keep: set[str]) -> None:
        """Remove what older generations and killed runs left in the folder of a dataset.

        One older generation is in `keep`, for readers that opened it before the rename. Young files stay too: another
        run may be about to publish them.
        """
        oldest = datetime.now(UTC) - SWEEP_AGE
        for file in self.fs.ls(self.path(name), detail=False):
            leftover = file.endswith((".parquet", ".tmp")) and posixpath.basename(file) not in keep
            with suppress(FileNotFoundError):  # another run has just renamed or removed it
                if leftover and self.fs.modified(file) < oldest:
                    self.fs.rm(file)

    def write_table(self, name: str, table: pa.Table, schema: pa.Schema) -> str:
        """Write a file for `publish_files` into the folder of dataset `name`; returns its content-derived name."""
        buffer = io.BytesIO()
        pq.write_table(table.cast(schema), buffer, compression="zstd", write_page_checksum=True)
        content = buffer.getvalue()
        file = f"{sha256(content)[:NAME_DIGITS]}.parquet"
        if not self.exists(f"{name}/{file}"):
            self.write_bytes(f"{name}/{file}", content)
        return file

    def append(self, name: str, table: pa.Table, schema: pa.Schema) -> str:
        """Add one file to dataset `name`, which `publish` never wrote; returns its content-derived name."""
        file = self.write_table(name, table, schema)
        if name not in self._listed:
            self.list_appended(name)
            self._listed.add(name)
        else:
            self._list(name, file)
        return file

    def list_appended(self, name: str) -> None:
        """List the files of an appended dataset that are not: of an earlier version, or of a run killed in between."""
        listed = self._appended(name)
        for path in self._files(name):
            if (file := posixpath.basename(path)) not in listed:
                self._list(name, file)

    def lost_files(self, name: str) -> list[str]:
        """Files of an appended dataset that are listed, and not there."""
        listed = self._appended(name)  # before the files: a run that appends now writes a file first
        lost = listed.difference(map(posixpath.basename, self._files(name)))
        if lost:
            self.fs.invalidate_cache(self.path(name))  # some filesystems remember what they have listed
        return sorted(file for file in lost if not self.exists(f"{name}/{file}"))

    def check_files(self, name: str) -> None:
        """Compare every file of dataset `name`, whole, with the digest that names it: of one that must be right.

        Pages have checksums, which reading compares; what describes the pages has none.

        Raises
        ------
        DamagedError
            If a file is another one than its name says.
        """
        for path in self._files(name):
            with self.fs.open(path, "rb") as stream:
                if file_sha256(stream)[:NAME_DIGITS] != _stem(posixpath.basename(path)):
                    raise DamagedError(path, "has changed since it was written")

    def drop_file(self, name: str, file: str) -> None:
        """Remove what there is of a file of an appended dataset, so that it is not missed."""
        for path in (self.path(name, file), self.path(name, _APPENDED, _stem(file))):
            with suppress(FileNotFoundError):
                self.fs.rm(path)

    def _appended(self, name: str) -> set[str]:
        try:
            listed = self.fs.ls(self.path(name, _APPENDED), detail=False)
        except FileNotFoundError:
            return set()
        return {f"{posixpath.basename(path)}.parquet" for path in listed}

    def _list(self, name: str, file: str) -> None:
        path = self.path(name, _APPENDED, _stem(file))
        with explain_os_errors(path):
            self.fs.makedirs(posixpath.dirname(path), exist_ok=True)
            self.fs.pipe_file(path, b"")

    def dataset(self, name: str, schema: pa.Schema | None = None) -> Rows:
        """The rows of `name`, to scan with column selection and filters.

        Raises
        ------
        Graph2ImageError
            If there is no such dataset and no `schema` is given; with a `schema` an absent dataset is an empty one.
        DamagedError
            If a file of it is missing, or a list of files is damaged.
        """
        snapshot = self.snapshot(name)
        if snapshot is None and (lost := self.lost_files(name)):
            raise DamagedError(self.path(name, lost[0]), "is missing")
        files = [self.path(name, file) for file in snapshot.files] if snapshot else self._files(name)
        if not files and schema is None:
            raise Graph2ImageError(f"there is no dataset {name!r} under {self.url}")
        return Rows(self.fs, self._arrow_fs, files, schema)

    def read(self, name: str, columns: Sequence[str] | None = None, schema: pa.Schema | None = None) -> pa.Table:
        """All rows of `name` as one table; see `dataset` for an absent one."""
        return self.dataset(name, schema).to_table(columns)

    def read_file(self, name: str, file: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One file of dataset `name`, as `append` named it."""
        return read_file(self.fs, self._arrow_fs, self.path(name, file), columns)

    def _files(self, name: str) -> list[str]:
        folder = self.path(name)
        if not self.fs.exists(folder):
            return []
        return sorted(f for f in self.fs.ls(folder, detail=False) if f.endswith(".parquet"))


def _stem(file: str) -> str:
    return file.removesuffix(".parquet")
