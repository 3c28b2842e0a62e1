"""Resuming a training: checkpoints, one safetensors file each, of which the newest few are kept; and what is in them.

A training takes up its state where it begins, and offers it after each step:

    optimized = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if (state := checkpoints.load_newest()) is not None:
        load_optimized(state, optimized, optimizer)
        first = int(state.numbers["step"])
    for step in range(first, steps):
        ...
        checkpoints.save_if_due(step + 1, lambda: optimized_state(optimized, optimizer))

What else the next step depends on (buffers, random generators) is added to `State.tensors`.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import torch
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ingest.datasets.local_files import publish_file, temporary_folder
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

logger = logging.getLogger(__name__)

#: Seconds of a training that a kill costs at most, where it is not its steps that are counted.
SECONDS = 30.0


@dataclass(frozen=True)
class State:
    """A training's state: tensors and numbers by name."""

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float]


def optimized_state(parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> State:
    """Parameters by name, and what their optimizer keeps of each."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for name, parameter in parameters.items():
        tensors[f"weight.{name}"] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{key}.{name}"] = value
            else:
                numbers[f"optimizer.{key}.{name}"] = value
    return State(tensors, numbers)


def load_optimized(state: State, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Take up what `optimized_state` gave.

    Raises
    ------
    KeyError, RuntimeError
        If it is of other parameters.
    """
    for name, parameter in parameters.items():
        with torch.no_grad():
            parameter.copy_(state.tensors[f"weight.{name}"])
        optimizer.state[parameter].clear()
    entries: dict[str, Tensor | float] = {**state.tensors, **state.numbers}
    for name, value in entries.items():
        part, _, rest = name.partition(".")
        if part == "optimizer":
            key, _, owner = rest.partition(".")
            parameter = parameters[owner]
            optimizer.state[parameter][key] = _like(value, parameter)


def _like(value: Tensor | float, parameter: Tensor) -> Tensor | float:
    """A number or tensor of the optimizer's on the parameter's device."""
    if not isinstance(value, Tensor):
        return value
    if value.shape == parameter.shape:
        # In the parameter's memory format: the fused kernel walks both in memory order.
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return value.to(parameter.device, copy=True)


@dataclass
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
    _saved_at: float = field(default_factory=time.monotonic, init=False)

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

    def save_if_due(self, step: int, state: Callable[[], State]) -> None:
        """Save the state after `step` steps, if the last one was saved (or the training begun) `SECONDS` ago."""
        if time.monotonic() - self._saved_at >= SECONDS:
            self.save(step, state())
            self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Remove the folder: the training is done."""
        with suppress(FileNotFoundError):
            self.data.fs.rm(self.data.path(self.folder), recursive=True)

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
        with suppress(FileNotFoundError):
            names = [path.rpartition("/")[2] for path in self.data.fs.ls(self.data.path(self.folder), detail=False)]
            return sorted(f"{self.folder}/{name}" for name in names if fnmatch(name, "checkpoint-*.safetensors"))
        return []

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
