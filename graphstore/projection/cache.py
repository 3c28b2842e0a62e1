"""Base graphs as files, so that a graph that has not changed is read from its store once.

`projections/<version>-<settings>/` under a local data root has one file per array: `.npy`, never pickled, and Arrow IPC
for the tables. They are written to a folder beside it, which is renamed; those of other versions are removed then. The
files are mapped into memory, not read: what is not needed is not loaded, and all processes share the pages.
A folder that cannot be read, or in which an edge leads nowhere, is damaged, and made again. Without a data root,
or with a remote one, the graph is read from its store every time.
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
from numba import njit

from graphstore.projection.base_graph import BaseGraph, build_base_graph
from graphstore.projection.tables import GraphTables
from ingest.datasets.root import SWEEP_AGE, DataRoot, digest

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
    folder = Path(cache.path("projections", f"{version}-{digest(FORMAT_VERSION, sorted(neighbor_splits))}"))
    if (graph := _load(folder)) is not None:
        return graph
    graph = build_base_graph(tables, neighbor_splits)
    log.info("read the graph: %d nodes, %d edges", len(graph.ids), len(graph.targets))
    if tables.version() != version:  # somebody has written to the store meanwhile
        return graph
    try:
        _save(graph, folder)
        _sweep(folder.parent, version)
    except OSError as error:
        log.warning("the projection cannot be kept in %s: %s", folder, error.strerror or error)
        return graph
    return _load(folder) or graph


def _sweep(parent: Path, version: str) -> None:
    """Remove the graphs of other versions, and what killed runs left."""
    oldest = time.time() - SWEEP_AGE.total_seconds()
    for other in parent.iterdir():
        if other.stat().st_mtime < oldest if other.suffix == ".tmp" else not other.name.startswith(version):
            shutil.rmtree(other, ignore_errors=True)


def _save(graph: BaseGraph, folder: Path) -> None:
    temporary = folder.parent / f"{folder.name}.{uuid.uuid4().hex}.tmp"
    try:
        temporary.mkdir(parents=True)
        for name in _ARRAYS:
            np.save(temporary / f"{name}.npy", getattr(graph, name), allow_pickle=False)
        for name, table in (("items", graph.items), ("ids", pa.table({"id": graph.ids}))):
            with pa.OSFile(str(temporary / f"{name}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
                out.write_table(table)
        (temporary / "names.json").write_bytes(orjson.dumps({name: getattr(graph, name) for name in _NAMES}))
        if folder.exists():  # damaged
            shutil.rmtree(folder)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(folder: Path) -> BaseGraph | None:
    """What `_save` wrote, mapped into memory; None if it is not there, or damaged."""
    if not folder.exists():
        return None
    try:
        parts: dict[str, Any] = {name: _map_array(folder / f"{name}.npy") for name in _ARRAYS}
        for name in _TABLES:
            with pa.memory_map(str(folder / f"{name}.arrow")) as source:
                parts[name] = pa.ipc.open_file(source).read_all()
        parts["ids"] = pa.concat_arrays(parts["ids"]["id"].chunks)
        names = orjson.loads((folder / "names.json").read_bytes())
        graph = BaseGraph(**parts | {name: tuple(names[name]) for name in _NAMES})
        n_edges = len(graph.targets)
        fits = (
            len(graph.ids)
            == len(graph.offsets) - 1
            == len(graph.groups)
            == len(graph.is_reachable)
            == len(graph.id_hashes)
            and len(graph.types) == len(graph.backward) == len(graph.weights) == n_edges
            and _edges_lead_somewhere(graph.offsets, graph.targets, graph.types, len(graph.type_names))
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        log.warning("%s is damaged and will be made again: %s", folder, error)
        return None
    if not fits:
        log.warning("%s is damaged and will be made again", folder)
        return None
    return graph


def _map_array(path: Path) -> npt.NDArray[Any]:
    # Copy-on-write rather than read-only: the compiled functions then take the array as one that is in memory.
    mapped: npt.NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return np.asarray(mapped)


@njit(nogil=True, cache=True)
def _edges_lead_somewhere(offsets: Any, targets: Any, types: Any, n_types: int) -> bool:
    n_nodes = len(offsets) - 1
    if offsets[0] != 0 or offsets[n_nodes] != len(targets):
        return False
    for node in range(n_nodes):
        if offsets[node] > offsets[node + 1]:
            return False
    for edge in range(len(targets)):  # noqa: SIM110  # a loop that numba compiles
        if not (0 <= targets[edge] < n_nodes and 0 <= types[edge] < n_types):
            return False
    return True
