"""Checkpoints to resume a training from: one safetensors file each, of which the newest few are kept."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import torch
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.storage import publish_file, temporary_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """A training's state: tensors and numbers by name."""

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in a folder of the data root.

    Parameters
    ----------
    folder
        Name of the folder.
    kept
        How many stay there; older ones are removed.
    """

    data: DataRoot
    folder: str
    kept: int

    def save(self, step: int, state: State) -> None:
        """Write the state after `step` steps, whole or not at all."""
        name = f"{self.folder}/checkpoint-{step:08}.safetensors"
        tensors = {key: value.detach().cpu().contiguous() for key, value in state.tensors.items()}
        metadata = {"numbers": orjson.dumps(dict(state.numbers)).decode(), "sha256": _digest(tensors)}
        with temporary_folder(self.data, name) as folder:
            path = folder / "checkpoint.safetensors"
            try:
                save_file(tensors, path, metadata)
            except (SafetensorError, OSError) as error:  # the first is how safetensors tells of a full disk
                raise Graph2ImageError(
                    f"cannot write {self.data.path(name)}: {error}",
                    "The checkpoints before it are intact: free some space and run the same command again.",
                ) from error
            publish_file(self.data, name, path)
        for old in self._names()[: -self.kept]:
            with suppress(FileNotFoundError):
                self.data.fs.rm(self.data.path(old))

    def load_newest(self) -> State | None:
        """The newest state that can be read; None if there is no checkpoint.

        Raises
        ------
        Graph2ImageError
            If there are checkpoints, and none can be read.
        """
        names = self._names()
        problem = None
        for name in reversed(names):
            try:
                return self._load(name)
            except (SafetensorError, KeyError, OSError, ValueError) as error:
                problem = problem or f"cannot resume from {self.data.path(name)}: {error}"
                logger.warning("Left out a damaged checkpoint, %s: %s", self.data.path(name), error)
        if problem is not None:
            raise Graph2ImageError(problem, f"Delete {self.data.path(self.folder)} to start this training again.")
        return None

    def _names(self) -> list[str]:
        found = self.data.fs.glob(self.data.path(self.folder, "checkpoint-*.safetensors"))
        return sorted(f"{self.folder}/{path.rpartition('/')[2]}" for path in found)

    def _load(self, name: str) -> State:
        if isinstance(self.data.fs, LocalFileSystem):
            return _read(Path(self.data.path(name)))
        with TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint.safetensors"
            self.data.fs.get_file(self.data.path(name), str(path))
            return _read(path)


def _read(path: Path) -> State:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("sha256") != _digest(tensors):
            raise ValueError("it has changed since it was written")
        return State(tensors, orjson.loads(metadata["numbers"]))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
