"""What there is (`status`), and what is wrong with this installation (`doctor`)."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from flows.environment import FOLDERS, folder_of, is_writable
from flows.settings import Settings
from graphstore.store import NoGraphError
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import MISSING_IMAGE_SCHEMA
from ingest.errors import Graph2ImageError
from model.record import model_ids

#: Less free space than this is worth a word: a model and the images of a small run need about as much.
LOW_SPACE_GIB = 2.0


def read_state(settings: Settings) -> dict[str, Any]:
    """Counts of everything under the data root and in the graph store."""
    data = DataRoot(settings.data)
    state: dict[str, Any] = {"data": settings.data, "store": settings.store_url}
    state["sources"] = [
        {
            "source": name.split("/")[1],
            "items": _rows(data, name),
            "rejects": _rows(data, name.replace("items", "rejects", 1)),
            "missing_images": _reasons(data, name.replace("items", "missing-images", 1)),
        }
        for name in data.names("items")
    ]
    state["images"] = _rows(data, "images")
    for kind in ("embeddings", "text-embeddings", "neighbors", "latents"):
        state[kind] = {name.split("/", 1)[1]: _rows(data, name) for name in data.names(kind)}
    state["models"] = model_ids(data)
    state["generated"] = _rows(data, "generated")
    try:
        with settings.open_store(read_only=True) as store:
            schema = store.schema()
            state["graph_version"] = store.version()
    except Graph2ImageError as error:
        state["graph"] = error.message
        return state
    state["labels"] = {label.name: label.count for label in schema.labels}
    state["relations"] = [{k: v for k, v in asdict(r).items() if k != "properties"} for r in schema.relations]
    return state


def _rows(data: DataRoot, name: str) -> int:
    snapshot = data.snapshot(name)
    if snapshot is not None:
        return snapshot.rows
    return int(data.dataset(name).count_rows()) if data.names(name) else 0


def _reasons(data: DataRoot, name: str) -> dict[str, int]:
    """Rows of a dataset by their reason."""
    reasons = data.read(name, ["reason"], MISSING_IMAGE_SCHEMA)["reason"].to_pylist()
    return dict(sorted(Counter(reasons).items()))


def examine(settings: Settings) -> list[dict[str, Any]]:
    """Checks of the installation and the places; each says what it found, and whether that is fine."""
    findings = []
    for check in (_python, _packages, _device, _caches, _data_root, _space, _store, _prefect):
        try:
            findings += [{"ok": True, "what": what} for what in check(settings)]
        except Graph2ImageError as error:
            findings.append({"ok": False, "what": str(error)})
    return findings


def _python(_: Settings) -> Iterator[str]:
    yield f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def _packages(_: Settings) -> Iterator[str]:
    wanted = ("torch", "diffusers", "transformers", "open-clip-torch", "ladybug", "pyarrow", "numba", "prefect")
    missing = []
    found = []
    for name in wanted:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise Graph2ImageError(f"not installed: {', '.join(missing)}", f"Run `make setup` with {sys.executable}.")
    yield ", ".join(found)


def _device(_: Settings) -> Iterator[str]:
    import torch

    if torch.cuda.is_available():
        yield f"GPU: {torch.cuda.get_device_name()}"
    else:
        yield f"no GPU: the CPU is used, with {torch.get_num_threads()} threads"


def _caches(_: Settings) -> Iterator[str]:
    for variable in FOLDERS:
        folder = folder_of(variable)
        if not is_writable(folder):
            raise Graph2ImageError(
                f"{folder} cannot be written, and libraries need it", f"Let {variable} name a folder that can be."
            )
    temporary = [variable for variable in FOLDERS if str(folder_of(variable)).startswith(tempfile.gettempdir())]
    if temporary:
        yield (
            f"the home cannot be written: what libraries keep is in {folder_of(temporary[0])} and the like, "
            f"and made again when it is gone ({', '.join(temporary)} can name other folders)"
        )
    else:
        yield f"caches can be written: {', '.join(str(folder_of(variable)) for variable in FOLDERS)}"


def _data_root(settings: Settings) -> Iterator[str]:
    data = DataRoot(settings.data)
    probe = f".doctor-{uuid.uuid4().hex}"
    data.write_bytes(probe, b"")
    data.fs.rm(data.path(probe))
    yield f"data root {settings.data} can be written"


def _space(settings: Settings) -> Iterator[str]:
    data = DataRoot(settings.data)
    if not isinstance(data.fs, LocalFileSystem):
        return
    free = shutil.disk_usage(data.path("")).free / 2**30
    if free < LOW_SPACE_GIB:
        raise Graph2ImageError(f"only {free:.1f} GiB free under {settings.data}", "Free some space.")
    yield f"{free:.0f} GiB free under {settings.data}"


def _store(settings: Settings) -> Iterator[str]:
    url = settings.store_url
    try:
        with settings.open_store(read_only=True) as store:
            schema = store.schema()
    except NoGraphError:
        yield f"graph store {url}: not there yet; the first ingest makes it"
        return
    yield f"graph store {url}: {len(schema.labels)} labels, {len(schema.relations)} relation types"


def _prefect(_: Settings) -> Iterator[str]:
    api = os.environ.get("PREFECT_API_URL")
    yield (
        f"Prefect server: {api}" if api else "Prefect: no server named (PREFECT_API_URL); flows start one of their own"
    )
