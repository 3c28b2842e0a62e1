"""Base graphs as files, so that a graph that has not changed is read from its store once.

`projections/<version>-<settings>/` under a local data root has one file per array: `.npy`, never pickled, and Arrow IPC
for the tables. They are written to a folder beside it, which is renamed; those of other versions are removed then. The
files are checked against their digests and then mapped into memory, whose pages all processes share. A folder in which
a file is missing or has changed is made again. Without a data root, or with a remote one, the graph is read from its
store every time.
"""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from graphstore.projection.base_graph import BaseGraph, build_base_graph
from graphstore.projection.tables import GraphTables
from ingest.datasets.integrity import FOLDER_LIST, DamagedError, file_sha256
from ingest.datasets.root import SWEEP_AGE, DataRoot, digest
from ingest.errors import Graph2ImageError, first_line

log = logging.getLogger(__name__)

#: Counts up when the files or their meaning change.
FORMAT_VERSION = 2

_TABLES = ("items", "ids")
_NAMES = ("type_names", "known_types")
_ARRAYS = tuple(field.name for field in fields(BaseGraph) if field.name not in (*_TABLES, *_NAMES))


def base_graph(tables: GraphTables, neighbor_splits: Collection[str], cache: DataRoot | None) -> BaseGraph:
    """The base graph of `tables`, from `cache` if it is there; else it is built, and kept there."""
    version = tables.version()
    if cache is None or not isinstance(cache.fs, LocalFileSystem):
        return build_base_graph(tables, neighbor_splits)
    name = f"projections/{version}-{digest(FORMAT_VERSION, sorted(neighbor_splits))}"
    if (graph := _load(cache, name)) is not None:
        return graph
    graph = build_base_graph(tables, neighbor_splits)
    log.info("read the graph: %d nodes, %d edges", len(graph.ids), len(graph.targets))
    if tables.version() != version:  # another process has written to the store meanwhile
        return graph
    try:
        _save(graph, cache, name)
        _sweep(Path(cache.path("projections")), version)
    except (OSError, Graph2ImageError) as error:
        log.warning("the projection cannot be kept in %s: %s", cache.path(name), first_line(error))
        return graph
    return _load(cache, name) or graph


def _sweep(parent: Path, version: str) -> None:
    """Remove the graphs of other versions, and what killed runs left."""
    oldest = time.time() - SWEEP_AGE.total_seconds()
    for other in parent.iterdir():
        if other.stat().st_mtime < oldest if other.suffix == ".tmp" else not other.name.startswith(version):
            shutil.rmtree(other, ignore_errors=True)


def _save(graph: BaseGraph, cache: DataRoot, name: str) -> None:
    folder = Path(cache.path(name))
    temporary = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.mkdir(parents=True)
        for array in _ARRAYS:
            np.save(temporary / f"{array}.npy", getattr(graph, array), allow_pickle=False)
        for file, table in (("items", graph.items), ("ids", pa.table({"id": graph.ids}))):
            with pa.OSFile(str(temporary / f"{file}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
                out.write_table(table)
        (temporary / "names.json").write_bytes(orjson.dumps({names: getattr(graph, names) for names in _NAMES}))
        digests = {file.name: _digest(file) for file in temporary.iterdir()}
        cache.write_folder_list(f"projections/{temporary.name}", digests)
        if folder.exists():  # damaged
            shutil.rmtree(folder)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(cache: DataRoot, name: str) -> BaseGraph | None:
    """What `_save` wrote, mapped into memory; None if there is none, or it is damaged."""
    folder = Path(cache.path(name))
    if not folder.exists():
        return None
    try:
        if not (folder / FOLDER_LIST).exists():
            raise DamagedError(str(folder / FOLDER_LIST), "is missing")
        cache.check_folder(name)
        parts: dict[str, Any] = {array: _map_array(folder / f"{array}.npy") for array in _ARRAYS}
        for table in _TABLES:
            with pa.memory_map(str(folder / f"{table}.arrow")) as source:
                parts[table] = pa.ipc.open_file(source).read_all()
        parts["ids"] = pa.concat_arrays(parts["ids"]["id"].chunks)
        names = orjson.loads((folder / "names.json").read_bytes())
        return BaseGraph(**parts | {key: tuple(names[key]) for key in _NAMES})
    except DamagedError as error:
        log.warning("%s; the projection is made again", error.message)
    except OSError as error:
        log.warning("%s cannot be read, and is made again: %s", folder, first_line(error))
    return None


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return file_sha256(stream)


def _map_array(path: Path) -> npt.NDArray[Any]:
    # Copy-on-write rather than read-only: the compiled functions then take the array as one that is in memory.
    mapped: npt.NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return np.asarray(mapped)
