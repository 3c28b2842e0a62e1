"""Encoder checkpoints: folders `encoders/<id>` of the data root, in open_clip's own layout.

A folder holds `open_clip_config.json` and `model.safetensors`, as `open_clip.create_model("local-dir:…")` reads them,
and `encoder.json`, which says where the weights come from. It is written last: a folder that has it is complete.
Weights from elsewhere are copied here, so the encoder that made the vectors stays with them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from fsspec.implementations.local import LocalFileSystem
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from ingest.datasets import DataRoot, digest
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)

CONFIG_FILE, WEIGHTS_FILE, RECORD_FILE = "open_clip_config.json", "model.safetensors", "encoder.json"


@dataclass(frozen=True)
class Encoder:
    """A loaded encoder: an open_clip model's two towers, without gradients, and how their inputs are made.

    `encode_image` takes `(n, 3, size, size)` pixels as `preprocess` makes them, `encode_text` takes `(n, length)` token
    ids; both return `(n, dim)` vectors that are not normalized.
    """

    encode_image: Callable[[Tensor], Tensor]
    encode_text: Callable[[Tensor], Tensor]
    preprocess: Callable[[Image.Image], Tensor]
    tokenize: Callable[[list[str]], Tensor]


def publish_encoder(
    data: DataRoot, encoder: str, model: nn.Module, config: dict[str, Any], record: dict[str, Any]
) -> None:
    """Write `encoders/<encoder>`.

    Parameters
    ----------
    config
        `{"model_cfg": …, "preprocess_cfg": …}` as in open_clip's `open_clip_config.json`.
    record
        What `encoder.json` says about the weights' origin.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    data.write_json(f"encoders/{encoder}/{CONFIG_FILE}", config)
    data.write_bytes(f"encoders/{encoder}/{WEIGHTS_FILE}", save(weights))
    data.write_json(f"encoders/{encoder}/{RECORD_FILE}", {"encoder": encoder, **record})


def is_published(data: DataRoot, encoder: str) -> bool:
    return data.exists(f"encoders/{encoder}/{RECORD_FILE}")


def load_encoder(data: DataRoot, encoder: str, device: torch.device | str = "cpu") -> Encoder:
    """Load the published checkpoint `encoders/<encoder>`.

    Raises
    ------
    Graph2ImageError
        If there is none, or its files do not fit each other.
    """
    if not is_published(data, encoder):
        raise Graph2ImageError(f"there is no encoder {encoder!r} under {data.url}", "Run `graph2image embed` first.")
    folder = data.path("encoders", encoder)
    if isinstance(data.fs, LocalFileSystem):
        return _load_folder(Path(folder), device)
    with TemporaryDirectory() as temporary:
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            (Path(temporary) / file).write_bytes(data.read_bytes(f"encoders/{encoder}/{file}"))
        return _load_folder(Path(temporary), device)


def import_encoder(data: DataRoot, name: str) -> str:
    """Bring an open_clip checkpoint into the data root, unless it is there; returns its encoder id.

    Parameters
    ----------
    name
        A local folder with `open_clip_config.json` and weights, or `<model>/<pretrained tag>` as open_clip lists them
        (fetched from the hub, such as `ViT-B-32/laion2b_s34b_b79k`).

    Raises
    ------
    Graph2ImageError
        If it is neither, cannot be fetched or loaded, or its tokenizer is not CLIP's.
    """
    folder = Path(name)
    if (folder / CONFIG_FILE).is_file():
        encoder = f"{_slug(folder.resolve().name)}-{_folder_digest(folder)}"
        if not is_published(data, encoder):
            model, _ = _create_model(folder, "cpu")
            config = json.loads((folder / CONFIG_FILE).read_bytes())["model_cfg"]
            _publish_copy(data, encoder, model, config, str(folder.resolve()))
        return encoder
    model_name, _, tag = name.rpartition("/")
    if (model_name, tag) not in open_clip.list_pretrained():
        raise Graph2ImageError(
            f"unknown encoder {name!r}",
            f'Use "mini", MODEL/PRETRAINED as open_clip lists them, or a folder with {CONFIG_FILE} and weights.',
        )
    encoder = _slug(f"{model_name}-{tag}")
    if not is_published(data, encoder):
        log.info("Fetching %s", name)
        try:
            model = open_clip.create_model(model_name, pretrained=tag)
        except Exception as error:  # whatever a hub client raises without a network
            raise Graph2ImageError(
                f"cannot fetch the encoder {name}: {_first_line(error)}",
                "It comes from a model hub; without one, use the encoder `mini` or a local checkpoint folder.",
            ) from error
        _publish_copy(data, encoder, model, open_clip.get_model_config(model_name), name)
    return encoder


def _publish_copy(data: DataRoot, encoder: str, model: nn.Module, model_config: dict[str, Any], origin: str) -> None:
    if "hf_tokenizer_name" in model_config.get("text_cfg", {}):
        raise Graph2ImageError(
            f"{origin} has a tokenizer of its own, which a checkpoint folder does not hold",
            "Use a model with CLIP's tokenizer, such as ViT-B-32/laion2b_s34b_b79k.",
        )
    config = {"model_cfg": model_config, "preprocess_cfg": dict(open_clip.get_model_preprocess_cfg(model))}
    publish_encoder(data, encoder, model, config, {"origin": origin})


def _load_folder(folder: Path, device: torch.device | str) -> Encoder:
    model, preprocess = _create_model(folder, device)
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    return Encoder(model.encode_image, model.encode_text, preprocess, tokenize)


def _create_model(folder: Path, device: torch.device | str) -> tuple[Any, Callable[[Image.Image], Tensor]]:
    """An open_clip model in evaluation mode, and its preprocessing."""
    try:
        # Pickled weights, if a foreign folder has only those, are read with `weights_only`.
        model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}", device=device)
    except Exception as error:  # wrong JSON, wrong shapes, unsafe pickles: one exception type each
        raise Graph2ImageError(f"cannot load the encoder in {folder}: {_first_line(error)}") from error
    return model.eval().requires_grad_(False), preprocess


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _folder_digest(folder: Path) -> str:
    """Digest of the configuration and the weights, whatever the folder is called."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin", ".pt", ".pth"))
    hashes = []
    for path in files:
        with path.open("rb") as stream:
            hashes.append((path.name, hashlib.file_digest(stream, "sha256").hexdigest()))
    return digest(hashes)[:8]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "encoder"
