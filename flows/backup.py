"""Back up a data root and its graph together, and restore both: what is copied is compared with digests both ways.

A backup is a folder: `data/` with the files of the data root, `graph.lbug`, the whole graph as an embedded store,
whichever kind it was in, and last `backup.json` with the SHA-256 of every file and the content digest of the graph. A
folder without that file is no backup: it was cut off.
"""

from __future__ import annotations

import hashlib
import logging
import posixpath
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from graphstore.bookkeeping import copy_mark, loaded_sources
from graphstore.connect import embedded_file
from graphstore.loading.copying import content_digest, copy_graph
from graphstore.store import NoGraphError
from ingest.datasets.lock import writer_lock
from ingest.datasets.root import DataRoot, digest, explain_os_errors
from ingest.errors import Graph2ImageError

if TYPE_CHECKING:
    from flows.settings import Settings

log = logging.getLogger(__name__)

RECORD = "backup.json"
_GRAPH, _DATA = "graph.lbug", "data"
#: In a data root: a restore into it is not finished.
_RESTORING = ".restoring"
_CHUNK = 2**22
#: What writes a data root, whose locks are held meanwhile.
_WORK = ("flow", "ingest", "embed")


@dataclass(frozen=True)
class BackupReport:
    """What was copied.

    Attributes
    ----------
    digest
        Of all files and of the graph: equal for a backup, and for what was restored from it.
    """

    folder: str
    files: int
    bytes: int
    graph_version: str | None
    digest: str
    created_at: str
    changed: bool


def backup(settings: Settings, folder: Path) -> BackupReport:
    """Copy the data root and the graph into a folder, while nothing else may write.

    Raises
    ------
    Graph2ImageError
        If the folder has something in it that is not a backup that was cut off, or a file cannot be read or written.
    TransientError
        If another process is writing, and does not end.
    """
    data = settings.data_root
    if (folder / RECORD).exists():
        raise Graph2ImageError(f"{folder} holds a backup already", "Name another folder, or remove it.")
    if folder.exists() and {path.name.split(".")[0] for path in folder.iterdir()} - {"data", "graph", ""}:
        raise Graph2ImageError(f"{folder} has other files in it", "Name an empty folder, or one that is not there.")
    with explain_os_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{_GRAPH}*"):  # of a backup that was cut off
            path.unlink()
    with ExitStack() as stack:
        for work in _WORK:
            stack.enter_context(writer_lock(data, work))
        # Open for writing, which keeps other writers away.
        inside = settings.model_copy(update={"store": f"ladybug://{folder.resolve() / _GRAPH}"})
        graph = _copy_graph(settings, inside, read_only=False)
        digests, size = {}, 0
        for name in tqdm(list(_names(settings, data)), "Back up", unit="file", disable=None):
            with explain_os_errors(str(folder / _DATA / name)):
                (folder / _DATA / name).parent.mkdir(parents=True, exist_ok=True)
                with data.fs.open(data.path(name), "rb") as source, (folder / _DATA / name).open("wb") as target:
                    digests[name], copied = _copy(source, target)
            size += copied
    record = {
        "files": digests,
        "bytes": size,
        "graph": graph,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "program": version("graph2image"),
    }
    DataRoot(str(folder)).write_json(RECORD, record)
    return _report(folder, record, changed=True)


def restore(settings: Settings, folder: Path) -> BackupReport:
    """Bring a backup into an empty data root and an empty graph store, and compare both with the backup's digests.

    A restore that was cut off is continued by the same call.

    Raises
    ------
    Graph2ImageError
        If the folder holds no whole backup, a file of it is damaged, or there is something in the data root or the
        store; what is there is left as it is.
    """
    data = settings.data_root
    record = _read_record(folder)
    mark = digest(record["files"], record["graph"])
    if not _is_empty(data, mark):
        raise Graph2ImageError(f"{data.url} is not empty", "Restore into a new data root: name it with --data.")
    if record["graph"] is not None:
        _check_store(settings, record["graph"])
    for name, expected in tqdm(record["files"].items(), "Check the backup", unit="file", disable=None):
        _check_file(folder / _DATA / name, expected)
    with ExitStack() as stack:
        for work in _WORK:
            stack.enter_context(writer_lock(data, work))
        data.write_bytes(_RESTORING, mark.encode())
        for name, expected in tqdm(record["files"].items(), "Restore", unit="file", disable=None):
            path = data.path(name)
            with explain_os_errors(path):
                data.fs.makedirs(posixpath.dirname(path), exist_ok=True)
                with (folder / _DATA / name).open("rb") as source, data.fs.open(path, "wb") as target:
                    written, _ = _copy(source, target)
            if written != expected:
                raise Graph2ImageError(f"{folder / _DATA / name} has changed while it was restored", "Run it again.")
        if record["graph"] is not None:
            source_url = f"ladybug://{(folder / _GRAPH).resolve()}"
            inside = settings.model_copy(update={"store": source_url})
            restored = _copy_graph(inside, settings, read_only=True)
            if restored != record["graph"]:
                raise Graph2ImageError(
                    f"the graph of {folder} is not the one that was backed up", "Restore another backup."
                )
        data.fs.rm(data.path(_RESTORING))
    return _report(folder, record, changed=True)


def _copy_graph(source: Settings, target: Settings, *, read_only: bool) -> dict[str, str] | None:
    """Copy a graph; its version and content digest, or None if there is none."""
    try:
        source.open_store(read_only=True).close()
    except NoGraphError:
        return None
    with source.open_store(read_only=read_only) as store, target.open_store() as other:
        with nullcontext() if read_only else store.exclusive():
            report = copy_graph(store, other)
        if other.indexes is not None:
            other.indexes.update_titles()
    return {"version": report.version, "digest": report.digest}


def _check_store(settings: Settings, graph: dict[str, str]) -> None:
    """Raise unless the store is empty, or has a whole or unfinished copy of this graph."""
    try:
        with settings.open_store(read_only=True) as store:
            there = sum(label.count for label in store.schema().labels)
            unfinished = copy_mark(graph["version"]) in loaded_sources(store)
            if there and not unfinished and content_digest(store) != graph["digest"]:
                raise Graph2ImageError(
                    f"{settings.store_url} is not empty", "Restore into a new store: name it with --store."
                )
    except NoGraphError:
        return


def _names(settings: Settings, data: DataRoot) -> Iterator[str]:
    """The files of a data root, without locks, unfinished files and the embedded graph."""
    root = data.path()
    if not data.fs.exists(root):
        raise Graph2ImageError(f"there is no data root {data.url}", "Name one with --data.")
    file = embedded_file(settings.store_url)
    graph = None if file is None else str(Path(file).resolve())
    for path in sorted(data.fs.find(root)):
        name = path[len(root) :].lstrip("/")
        unfinished = name.endswith((".tmp", ".lock")) or name == _RESTORING
        if not unfinished and not (graph is not None and str(Path(path).resolve()).startswith(graph)):
            yield name


def _is_empty(data: DataRoot, mark: str) -> bool:
    """Whether there is nothing under a data root, or a part of the same backup."""
    root = data.path()
    if not data.fs.exists(root):
        return True
    if data.exists(_RESTORING):
        return data.read_bytes(_RESTORING) == mark.encode()
    names = (posixpath.basename(path) for path in data.fs.find(root))
    return all(name.endswith(".lock") for name in names)


def _read_record(folder: Path) -> dict[str, Any]:
    if not (folder / RECORD).exists():
        raise Graph2ImageError(
            f"{folder} holds no whole backup: it has no {RECORD}",
            "`graph2image backup` writes that file last; the backup was cut off, or this is another folder.",
        )
    record: dict[str, Any] = DataRoot(str(folder)).read_json(RECORD)
    for name in record["files"]:
        if posixpath.isabs(name) or ".." in name.split("/"):
            raise Graph2ImageError(f"{folder / RECORD} names a file outside of the data root: {name}")
    return record


def _check_file(path: Path, expected: str) -> None:
    if not path.exists():
        raise Graph2ImageError(f"{path} is missing", "Restore another backup.")
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
            raise Graph2ImageError(f"{path} has changed since it was backed up", "Restore another backup.")


def _copy(source: Any, target: Any) -> tuple[str, int]:
    """Copy a stream; its SHA-256 and size."""
    state, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        state.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return state.hexdigest(), size


def _report(folder: Path, record: dict[str, Any], *, changed: bool) -> BackupReport:
    graph = record["graph"]
    return BackupReport(
        str(folder),
        len(record["files"]),
        record["bytes"],
        graph and graph["version"],
        digest(record["files"], graph),
        record["created_at"],
        changed,
    )
