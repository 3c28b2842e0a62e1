"""Tiny random models that images are compared by, in folders as transformers saves them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
)

from model.networks.text_encoders import build_tokenizer

DIM = 8


def save_clip(folder: Path, seed: int = 0) -> Path:
    """A CLIP of 8 features, with its tokenizer and preprocessor."""
    torch.manual_seed(seed)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextConfig(
        vocab_size=49408,
        max_position_embeddings=12,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
        **small,
    )
    vision = CLIPVisionConfig(image_size=32, patch_size=16, **small)
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=DIM, initializer_factor=20.0
    )
    CLIPModel(config).save_pretrained(folder)
    build_tokenizer(12).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessor(**size).save_pretrained(folder)
    return folder


def save_dinov2(folder: Path) -> Path:
    """A DINOv2 of 16 features, with its preprocessor."""
    torch.manual_seed(0)
    config = Dinov2Config(
        image_size=28, patch_size=14, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, initializer_range=0.5
    )
    Dinov2Model(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}}
    BitImageProcessor(**size).save_pretrained(folder)
    return folder
