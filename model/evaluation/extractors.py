"""The extractors of features: CLIP and DINOv2 by folder or by name on the hub, and the encoder of a data root.

Of a model's files only JSON, text and safetensors are fetched and read: no pickle, and no code of the model's own. A
published CLIP or DINOv2 is known by its configuration, whatever it is called; anything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from huggingface_hub import snapshot_download
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, CLIPModel, Dinov2Model

from ingest.datasets.integrity import FOLDER_LIST
from ingest.datasets.root import DataRoot, digest
from ingest.encoders.checkpoint import Encoder, load_encoder
from ingest.encoders.identity import is_published
from ingest.encoders.vectors import choose_device
from ingest.errors import Graph2ImageError, caused_error, first_line
from model.evaluation.features import Family, FeatureExtractor, Matrix
from model.pretrained.weights import Checkpoint
from model.storage import local_sha256

#: Another version of what is done with the files is another extractor.
_VERSION = 1
#: The files of a model that are fetched and read.
_FILES = ("*.json", "*.txt", "*.safetensors")
_HUB_NAME = re.compile(r"^([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?$")
_PROCESSOR = "preprocessor_config.json"


class PretrainedExtractor(FeatureExtractor):
    """A CLIP or a DINOv2 in the layout of transformers.

    Parameters
    ----------
    folder
        With `config.json`, `preprocessor_config.json` and weights in safetensors; of a CLIP, its tokenizer too.
    name
        What it is called in reports.

    Raises
    ------
    Graph2ImageError
        If it is no such folder.
    """

    _MODELS: ClassVar[dict[str, tuple[Family, type[Any]]]] = {
        "clip": ("clip", CLIPModel),
        "dinov2": ("dinov2", Dinov2Model),
    }

    def __init__(self, folder: Path, name: str, device: torch.device) -> None:
        self._checkpoint = Checkpoint(str(folder.parent))
        self._part, self._device, self.name = folder.name, device, name
        kind = self._checkpoint.read_json(f"{self._part}/config.json").get("model_type")
        if kind not in self._MODELS:
            raise Graph2ImageError(
                f"{name} is a model of type {kind!r}, and images are compared by a CLIP or a DINOv2",
                "Give one such as openai/clip-vit-large-patch14 or facebook/dinov2-large, by name or as a folder.",
            )
        self._checkpoint.read_json(f"{self._part}/{_PROCESSOR}")  # without it, images would be prepared otherwise
        self.family, self._class = self._MODELS[kind]
        self.has_texts = self.family == "clip"
        files = sorted(path for pattern in _FILES for path in folder.glob(pattern))
        if not any(path.suffix == ".safetensors" for path in files):
            pickles = sorted(path.name for suffix in ("bin", "pt", "pth", "h5") for path in folder.glob(f"*.{suffix}"))
            raise Graph2ImageError(
                f"{name} has no weights in safetensors"
                + (f": {pickles[0]} is refused, since loading it could run a program" if pickles else ""),
                "`save_pretrained` of transformers writes them.",
            )
        contents = {path.name: local_sha256(path) for path in files}
        self.extractor_id = f"{self.family}-{digest(_VERSION, contents)}"

    @cached_property
    def _model(self) -> Any:
        return self._checkpoint.network(self._class, self._part, torch.float32).to(self._device)

    @cached_property
    def _processor(self) -> Any:
        return self._checkpoint.load(AutoImageProcessor, self._part, trust_remote_code=False)

    @cached_property
    def _tokenizer(self) -> Any:
        return self._checkpoint.tokenizer(self._part, self._model.config.text_config.vocab_size)

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image]) -> Matrix:
        try:
            pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"].to(self._device)
            if self.family == "clip":
                found = self._model.get_image_features(pixel_values=pixels).pooler_output
            else:
                found = self._model(pixel_values=pixels).pooler_output
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise self._no_fit("images", error) from error
        return _numbers(found)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Matrix:
        length = self._model.config.text_config.max_position_embeddings
        try:
            tokens = self._tokenizer(
                list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
            ).to(self._device)
            found = self._model.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            ).pooler_output
        except (RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
            raise self._no_fit("texts", error) from error
        return _numbers(found)

    def _no_fit(self, what: str, error: Exception) -> Graph2ImageError:
        return Graph2ImageError(
            f"{self.name} cannot take {what} as its own files prepare them: {first_line(error)}",
            "Its configuration, its preprocessor and its weights have to be those of one model.",
        )


class EncoderExtractor(FeatureExtractor):
    """An encoder of the data root: the one that a model's neighbors are embedded with, so it is less independent.

    Raises
    ------
    Graph2ImageError
        If there is no such encoder.
    """

    family = "encoder"
    has_texts = True

    def __init__(self, data: DataRoot, encoder: str, device: torch.device) -> None:
        self._data, self._encoder_id, self._device, self.name = data, encoder, device, encoder
        if not is_published(data, encoder):
            raise Graph2ImageError(
                f"there is no encoder {encoder!r} under {data.url}", "Run `graph2image embed` first, or name another."
            )
        listed = f"encoders/{encoder}/{FOLDER_LIST}"
        contents = data.read_json(listed)["files"] if data.exists(listed) else {}
        self.extractor_id = f"encoder-{encoder}-{digest(_VERSION, contents)}"

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(self._data, self._encoder_id, self._device)

    def images(self, images: Sequence[Image.Image]) -> Matrix:
        return _numbers(self._encoder.encode_images([self._encoder.prepare(image) for image in images]))

    def texts(self, texts: Sequence[str]) -> Matrix:
        return _numbers(self._encoder.encode_texts(texts))


def find_extractor(data: DataRoot, name: str, device: str | None = None) -> FeatureExtractor:
    """The extractor that a user calls `name`; nothing of it is loaded yet.

    Parameters
    ----------
    name
        A folder, the id of an encoder of the data root, or a model's name on the hub, as `owner/name` or
        `owner/name@revision`.

    Raises
    ------
    Graph2ImageError
        If there is none, it cannot be fetched, or it is neither a CLIP nor a DINOv2 with weights in safetensors.
    """
    where = choose_device(device)
    folder = Path(name)
    if name and folder.is_dir():
        return PretrainedExtractor(folder.resolve(), folder.resolve().name, where)
    if is_published(data, name):
        return EncoderExtractor(data, name, where)
    hint = (
        "Give a folder with a CLIP or a DINOv2, or a model's name on the hub and a network to fetch it by; without "
        "any, the data root's own encoder and the judge give the figures."
    )
    found = _HUB_NAME.match(name)
    if found is None:
        raise Graph2ImageError(f"there is no extractor {name!r}: no such folder, and no such encoder", hint)
    try:
        fetched = snapshot_download(found[1], revision=found[2], allow_patterns=list(_FILES))
    except Exception as error:  # whatever a hub client raises without a network
        raise caused_error(
            f"there is no folder {name}, and no such model comes from the hub: {first_line(error)}", error, hint
        ) from error
    return PretrainedExtractor(Path(fetched), name, where)


def _numbers(features: Tensor) -> Matrix:
    matrix: Matrix = features.float().cpu().numpy().astype(np.float32)
    return matrix
