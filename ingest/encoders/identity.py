"""Which encoder is meant: the id that names its checkpoint and its vectors. Found without loading a model."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

from ingest.datasets.root import DataRoot, digest

CONFIG_FILE, WEIGHTS_FILE, RECORD_FILE = "open_clip_config.json", "model.safetensors", "encoder.json"

#: What ids of encoders that see whole images end with.
_PADDED = "-padded"

#: Number type of an encoder's weights and activations.
Precision = Literal["fp32", "bf16", "fp16"]


def encoder_id(name: str, *, pad: bool = False) -> str:
    """Id of the encoder that a user calls `name`.

    Parameters
    ----------
    name
        A folder with `open_clip_config.json` and weights (its id has a digest of them, wherever the folder lies), an
        open_clip `MODEL/PRETRAINED`, or an id, which stays what it is.
    pad
        Whether it is to see whole images, padded, instead of their middle.
    """
    suffix = _PADDED if pad and not is_padded(name) else ""
    folder = Path(name)
    if (folder / CONFIG_FILE).is_file():
        return f"{_slug(folder.resolve().name)}-{_folder_digest(folder)}{suffix}"
    return f"{_slug(name)}{suffix}"


def is_padded(encoder: str) -> bool:
    """Whether the encoder of this id sees whole images, padded."""
    return encoder.endswith(_PADDED)


def is_published(data: DataRoot, encoder: str) -> bool:
    """Whether the checkpoint `encoders/<encoder>` is there, complete."""
    return data.exists(f"encoders/{encoder}/{RECORD_FILE}")


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
