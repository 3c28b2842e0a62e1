"""Pretrained models to start from: Stable Diffusion 1.5, Stable Diffusion XL, and others of their structure.

A base model is a folder as diffusers saves a pipeline, or the name of one on the hub. It gives everything but the
Graph-QFormer, which starts from the text encoder; a folder of our own, of a model that was trained before, gives that
too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from huggingface_hub import hf_hub_download
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ingest.datasets.root import digest
from ingest.errors import Graph2ImageError, caused_error, first_line
from model.networks.autoencoder import AUTOENCODERS
from model.networks.backbones import cross_attention_dim
from model.networks.graph_qformer import GraphQFormer
from model.networks.text_encoders import TextEncoders
from model.pretrained.parts import ModelParts
from model.pretrained.weights import Checkpoint
from model.record import RECORD_FILE
from model.storage import local_sha256

_INDEX = "model_index.json"
_PARTS = (
    "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "unet", "transformer", "scheduler",
    "graph_encoder",
)  # fmt: skip
_BACKBONES = {cls.__name__: cls for cls in (UNet2DConditionModel, PixArtTransformer2DModel)}

#: `owner/name` or `name`, and a revision after `@`.
_HUB_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?:@([\w./-]+))?$")


def load_base_model(source: str, *, torch_dtype: torch.dtype = torch.float32) -> ModelParts:
    """Load a pretrained model.

    Parameters
    ----------
    source
        A folder with a `model_index.json`, or a model's name on the hub, as `owner/name` or `owner/name@revision`. It
        has CLIP text encoders, and as its network a `UNet2DConditionModel` (of Stable Diffusion 1 or 2, or XL) or a
        `PixArtTransformer2DModel`.
    torch_dtype
        Of the weights.

    Raises
    ------
    Graph2ImageError
        If there is no such model, a part is missing, of another kind, pickled, or does not fit the others.
    """
    checkpoint = _find(source)
    index = checkpoint.read_json(_INDEX)
    backbone = "transformer" if _class_name(index, "transformer") else "unet"
    unet_class = _choose(checkpoint, index, backbone, _BACKBONES)
    vae_class = _choose(checkpoint, index, "vae", AUTOENCODERS)
    texts = _load_texts(checkpoint, index, torch_dtype)
    base_model = ModelParts(
        vae=checkpoint.network(vae_class, "vae", torch_dtype).requires_grad_(False),
        texts=texts,
        unet=checkpoint.network(unet_class, backbone, torch_dtype),
        scheduler=checkpoint.scheduler(),
        graph_encoder=checkpoint.network(GraphQFormer, "graph_encoder", torch_dtype)
        if _class_name(index, "graph_encoder") == GraphQFormer.__name__
        else None,
        neighbor_encoder=_neighbor_encoder(checkpoint),
    )
    _check_fit(f"{checkpoint.name}/{backbone}", base_model)
    return base_model


def _neighbor_encoder(checkpoint: Checkpoint) -> str | None:
    """The encoder that a published model's record names."""
    folder = Path(checkpoint.name)
    if checkpoint.revision is not None or not (folder / RECORD_FILE).is_file():
        return None
    encoder = checkpoint.read_json(RECORD_FILE).get("encoder")
    return encoder if isinstance(encoder, str) else None


def base_model_id(source: str) -> str:
    """Id of a pretrained model: from its files' contents, or its name on the hub and the revision.

    Raises
    ------
    Graph2ImageError
        If there is no such model.
    """
    checkpoint = _find(source)
    if checkpoint.revision is not None:
        return f"{checkpoint.name.replace('/', '--')}-{checkpoint.revision[:12]}"
    folder = Path(checkpoint.name)
    suffixes = (".json", ".txt", ".safetensors")
    files = [file for part in _PARTS for file in sorted((folder / part).glob("*")) if file.suffix in suffixes]
    contents = {file.relative_to(folder).as_posix(): local_sha256(file) for file in (folder / _INDEX, *files)}
    kind = re.sub(r"\W", "", str(checkpoint.read_json(_INDEX).get("_class_name")))
    return f"{kind}-{digest(contents)}"


def _find(source: str) -> Checkpoint:
    folder = Path(source)
    if folder.is_dir():
        if not (folder / _INDEX).is_file():
            raise Graph2ImageError(
                f"{source} is no diffusers model: it has no {_INDEX}", "Give the folder that `save_pretrained` wrote."
            )
        return Checkpoint(source)
    if folder.is_file():
        raise Graph2ImageError(
            f"{source} is a file, and a model is a folder with {_INDEX}",
            "Convert a single-file checkpoint with diffusers: `from_single_file`, then `save_pretrained`.",
        )
    name = _HUB_NAME.match(source)
    hint = "Give a folder as diffusers saves a pipeline, or a model's name on the hub and a network to fetch it by."
    if name is None:
        raise Graph2ImageError(f"there is no folder {source}", hint)
    try:
        index = hf_hub_download(name[1], _INDEX, revision=name[2])
    except Exception as error:  # whatever a hub client raises without a network
        raise caused_error(
            f"there is no folder {source}, and no such model comes from the hub: {first_line(error)}", error, hint
        ) from error
    return Checkpoint(name[1], revision=Path(index).parent.name)  # the cache has a folder per commit


def _class_name(index: Mapping[str, Any], part: str) -> str | None:
    """Class of a part, as the index names it; None if the model has no such part."""
    entry = index.get(part)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def _choose(checkpoint: Checkpoint, index: Mapping[str, Any], part: str, known: Mapping[str, type[Any]]) -> type[Any]:
    name = _class_name(index, part)
    if name is None or name not in known:
        found = f"has no {part}" if name is None else f"has a {name} as its {part}"
        raise Graph2ImageError(
            f"cannot start from {checkpoint.name}: it {found}, expected {' or '.join(known)}",
            "Models of Stable Diffusion 1.5's and of Stable Diffusion XL's structure can be used.",
        )
    return known[name]


def _load_texts(checkpoint: Checkpoint, index: Mapping[str, Any], torch_dtype: torch.dtype) -> TextEncoders:
    def load_pair(suffix: str, cls: type[Any]) -> tuple[Any, CLIPTokenizer]:
        _choose(checkpoint, index, f"text_encoder{suffix}", {cls.__name__: cls})
        encoder = checkpoint.network(cls, f"text_encoder{suffix}", torch_dtype).requires_grad_(False)
        return encoder, checkpoint.tokenizer(f"tokenizer{suffix}", encoder.config.vocab_size)

    first = load_pair("", CLIPTextModel)
    if _class_name(index, "text_encoder_2") is None:
        return TextEncoders(*first, zero_empty=bool(index.get("force_zeros_for_empty_prompt", False)))
    second = load_pair("_2", CLIPTextModelWithProjection)
    return TextEncoders(*first, *second, zero_empty=bool(index.get("force_zeros_for_empty_prompt", True)))


def _check_fit(where: str, base_model: ModelParts) -> None:
    """Compare the sizes of the parts with what the network takes."""
    config, texts = base_model.unet.config, base_model.texts
    pooled = texts.encoder_2.config.projection_dim if texts.encoder_2 else 0
    added = getattr(config, "addition_embed_type", None)
    if added not in (None, "text_time"):
        raise Graph2ImageError(f"{where} is conditioned on {added!r}, expected 'text_time' or nothing")
    expected = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim if added else 0
    for what, made, taken in (
        ("text tokens of size", texts.hidden_size, cross_attention_dim(base_model.unet)),
        ("latents of channels", base_model.vae.config.latent_channels, config.in_channels),
        ("pooled text embeddings of size", pooled, expected),
    ):
        if made != taken:
            raise Graph2ImageError(f"{where} does not fit the model's other parts: it takes {what} {taken}, not {made}")
