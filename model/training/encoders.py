"""The encoder of the embeddings as parts of a pipeline: its text tower, and its image tower."""

from __future__ import annotations

from typing import Any

from safetensors.torch import load as load_safetensors
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.networks.image_encoder import OpenClipImageEncoder
from model.networks.text_encoders import build_tokenizer, convert_text_tower


def load_text_encoder(data: DataRoot, encoder: str) -> tuple[CLIPTextModel, CLIPTokenizer]:
    """Text model and tokenizer of the checkpoint `encoders/<encoder>`, frozen and in evaluation mode.

    Raises
    ------
    Graph2ImageError
        If there is no such checkpoint, or its text tower is of another architecture than CLIP's.
    """
    config, weights = read_encoder(data, encoder)
    text_encoder = convert_text_tower(config["model_cfg"], weights)
    return text_encoder, build_tokenizer(text_encoder.config.max_position_embeddings)


def load_image_encoder(data: DataRoot, encoder: str) -> OpenClipImageEncoder:
    """Image tower of the checkpoint `encoders/<encoder>`.

    Raises
    ------
    Graph2ImageError
        If there is no such checkpoint.
    """
    encoder_model: OpenClipImageEncoder = OpenClipImageEncoder.from_open_clip(*read_encoder(data, encoder))
    return encoder_model


def read_encoder(data: DataRoot, encoder: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The checkpoint `encoders/<encoder>`: its `open_clip_config.json` and its state dict.

    Raises
    ------
    Graph2ImageError
        If there is no such checkpoint, or it is damaged.
    """
    folder = f"encoders/{encoder}"
    if not data.exists(f"{folder}/model.safetensors"):
        raise Graph2ImageError(f"there is no encoder {encoder!r} under {data.url}", "Run `graph2image embed` first.")
    data.check_folder(folder)
    weights = load_safetensors(data.read_bytes(f"{folder}/model.safetensors"))
    return data.read_json(f"{folder}/open_clip_config.json"), weights
