"""Parts of a checkpoint in diffusers' layout, one folder each, loaded so that every weight comes from its files.

The libraries' own loading gives a network whose missing weights are random, or on no device, and says so in a warning
at most; here it is an error, as everything is that does not fit, and it names the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import orjson
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from huggingface_hub import hf_hub_download
from transformers import CLIPTokenizer

from ingest.errors import Graph2ImageError, caused_error, first_line
from model.storage import quiet_libraries


@dataclass(frozen=True)
class Checkpoint:
    """A local folder of parts, or a model of the hub at one revision.

    Parameters
    ----------
    name
        The folder's path, or the model's name on the hub.
    revision
        Commit of the hub's model; None for a folder.
    pickles
        Whether weights that are not in safetensors are read, with `weights_only`, or refused.
    """

    name: str
    revision: str | None = None
    pickles: bool = False

    def read_json(self, file: str) -> dict[str, Any]:
        """An object from a JSON file.

        Raises
        ------
        Graph2ImageError
            If there is no such file, or it holds something else.
        """
        try:
            path = hf_hub_download(self.name, file, revision=self.revision) if self.revision else self._path(file)
            content = orjson.loads(Path(path).read_bytes())
        except Exception as error:  # the hub's client raises many kinds
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else first_line(error)
            raise caused_error(f"cannot read {self._path(file)}: {reason}", error) from error
        if not isinstance(content, dict):
            raise Graph2ImageError(f"cannot read {self._path(file)}: it is no JSON object")
        return content

    def network(self, cls: type[Any], part: str, torch_dtype: torch.dtype) -> Any:
        """The network of class `cls` in the folder `part`, without dropout (in evaluation mode).

        Raises
        ------
        Graph2ImageError
            If its files are missing, are pickles where they are refused, or are not this network's.
        """
        config = self.read_json(f"{part}/config.json")
        if config.get("_class_name", cls.__name__) != cls.__name__:
            raise Graph2ImageError(f"{self._path(part)} holds a {config['_class_name']}, expected a {cls.__name__}")
        options: dict[str, Any] = {} if self.pickles else {"use_safetensors": True}
        if self.revision is None:
            options["variant"] = self._variant(part)
        # Two names of one option.
        options["torch_dtype" if issubclass(cls, ModelMixin) else "dtype"] = torch_dtype
        model, info = self.load(cls, part, output_loading_info=True, **options)
        if missing := sorted(info["missing_keys"]):
            raise Graph2ImageError(
                f"cannot load {self._path(part)}: these are not the weights of its {cls.__name__}, "
                f"{len(missing)} are missing, the first is {missing[0]}"
            )
        return model.eval()

    def tokenizer(self, part: str, vocab_size: int) -> CLIPTokenizer:
        """The tokenizer in the folder `part`, for a text encoder of `vocab_size` tokens.

        Raises
        ------
        Graph2ImageError
            If its files are missing or are not those of such a tokenizer.
        """
        tokenizer = self.load(CLIPTokenizer, part)
        if not 2 < len(tokenizer) <= vocab_size:  # files that are missing leave the special tokens, without an error
            raise Graph2ImageError(
                f"the tokenizer in {self._path(part)} has {len(tokenizer)} tokens, its text encoder {vocab_size}"
            )
        return tokenizer

    def scheduler(self) -> SchedulerMixin:
        """The scheduler in the folder `scheduler`, of the diffusers class that its configuration names.

        Raises
        ------
        Graph2ImageError
            If there is no such file or class.
        """
        file = "scheduler/scheduler_config.json"
        name = self.read_json(file).get("_class_name")
        cls = getattr(diffusers, str(name), None)
        if not (isinstance(cls, type) and issubclass(cls, SchedulerMixin)):
            raise Graph2ImageError(f"{self._path(file)} names {name!r}, which is no scheduler of diffusers")
        return self.load(cls, "scheduler")

    def load(self, cls: type[Any], part: str, **options: Any) -> Any:
        """What `cls.from_pretrained` makes of the folder `part`.

        Raises
        ------
        Graph2ImageError
            If it makes nothing of it.
        """
        if self.revision is None:
            where, options = str(Path(self.name) / part), {**options, "local_files_only": True}
        else:
            where, options = self.name, {**options, "subfolder": part, "revision": self.revision}
        try:
            with quiet_libraries():
                return cls.from_pretrained(where, **options)
        except Exception as error:  # missing files, wrong shapes, unsafe pickles, no network: one kind each
            raise caused_error(f"cannot load {self._path(part)}: {first_line(error)}", error) from error

    def _variant(self, part: str) -> str | None:
        """`"fp16"` where a folder's weights are there in that variant alone."""
        folder = Path(self.name) / part
        weights = {file.name for file in folder.glob("*.safetensors")}
        pickles = sorted(file.name for suffix in ("bin", "ckpt", "pt") for file in folder.glob(f"*.{suffix}"))
        if not weights and pickles and not self.pickles:
            raise Graph2ImageError(
                f"the weights in {folder} are refused: {pickles[0]} is a pickle, and loading it could run a program",
                "Give weights in safetensors; `save_pretrained` of diffusers and transformers writes them.",
            )
        return "fp16" if weights and all(".fp16." in name or ".fp16-" in name for name in weights) else None

    def _path(self, file: str) -> str:
        return f"{self.name}/{file}"
