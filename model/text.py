"""The text side: an open_clip text tower as a `transformers` text model and tokenizer, and the texts' hidden states.

A diffusers pipeline keeps its text encoder as a `CLIPTextModel`. Encoders are trained and used for embeddings with
open_clip, whose checkpoints lay out the same numbers differently; the conversion here is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load as load_safetensors
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ingest.datasets import DataRoot
from ingest.errors import Graph2ImageError

#: Settings of open_clip text towers that change the architecture to something `CLIPTextModel` is not.
_FOREIGN_SETTINGS = (
    "hf_model_name",
    "hf_tokenizer_name",
    "embed_cls",
    "no_causal_mask",
    "ls_init_value",
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
    "act_kwargs",
    "norm_kwargs",
)


def load_text_encoder(data: DataRoot, encoder: str) -> tuple[CLIPTextModel, CLIPTokenizer]:
    """Text model and tokenizer of the checkpoint `encoders/<encoder>`, frozen and in evaluation mode.

    Raises
    ------
    Graph2ImageError
        If there is no such checkpoint, or its text tower is of another architecture than CLIP's.
    """
    folder = f"encoders/{encoder}"
    if not data.exists(f"{folder}/model.safetensors"):
        raise Graph2ImageError(f"there is no encoder {encoder!r} under {data.url}", "Run `graph2image embed` first.")
    config = data.read_json(f"{folder}/open_clip_config.json")["model_cfg"]
    text_encoder = convert_text_tower(config, load_safetensors(data.read_bytes(f"{folder}/model.safetensors")))
    return text_encoder, build_tokenizer(text_encoder.config.max_position_embeddings)


def convert_text_tower(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> CLIPTextModel:
    """Convert an open_clip model's text tower; hidden states are equal to floating-point rounding.

    Parameters
    ----------
    config
        The model's open_clip configuration (`model_cfg`).
    state
        The model's state dict; the text tower's keys start with `text.` (custom text models) or with nothing.

    Raises
    ------
    Graph2ImageError
        If a setting or a missing key shows that the tower is not CLIP's.
    """
    text = config["text_cfg"]
    foreign = [name for name in _FOREIGN_SETTINGS if text.get(name)]
    if foreign:
        raise Graph2ImageError(f"cannot use this text encoder for training: it sets {', '.join(foreign)}")
    width, heads, layers = text.get("width", 512), text.get("heads", 8), text.get("layers", 12)
    vocab_size, length = text.get("vocab_size", 49408), text.get("context_length", 77)
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            intermediate_size=int(width * text.get("mlp_ratio", 4.0)),
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=length,
            hidden_act="quick_gelu" if config.get("quick_gelu") else "gelu",
            bos_token_id=vocab_size - 2,
            eos_token_id=vocab_size - 1,
            pad_token_id=vocab_size - 1,
            projection_dim=config["embed_dim"],
        )
    )
    prefix = "text." if "text.token_embedding.weight" in state else ""
    try:
        model.load_state_dict(_transformers_names(state, prefix, layers))
    except (KeyError, RuntimeError) as error:
        raise Graph2ImageError(f"cannot use this text encoder for training: {error}") from error
    return model.requires_grad_(False).eval()


def _transformers_names(state: Mapping[str, Tensor], prefix: str, layers: int) -> dict[str, Tensor]:
    named = {
        "embeddings.token_embedding.weight": state[f"{prefix}token_embedding.weight"],
        "embeddings.position_embedding.weight": state[f"{prefix}positional_embedding"],
        "final_layer_norm.weight": state[f"{prefix}ln_final.weight"],
        "final_layer_norm.bias": state[f"{prefix}ln_final.bias"],
    }
    parts = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    for index in range(layers):
        ours, theirs = f"encoder.layers.{index}", f"{prefix}transformer.resblocks.{index}"
        for kind in ("weight", "bias"):
            for to, source in parts.items():
                named[f"{ours}.{to}.{kind}"] = state[f"{theirs}.{source}.{kind}"]
            projections = state[f"{theirs}.attn.in_proj_{kind}"].chunk(3)
            for name, projection in zip(("q_proj", "k_proj", "v_proj"), projections, strict=True):
                named[f"{ours}.self_attn.{name}.{kind}"] = projection
    return named


def build_tokenizer(context_length: int) -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer, from the vocabulary that open_clip brings; padded with the end token."""
    bpe = SimpleTokenizer()
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {renamed.get(token, token): index for token, index in bpe.encoder.items()}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=list(bpe.bpe_ranks), model_max_length=context_length)
    if len(tokenizer) != len(vocab):  # arguments of another name or type are ignored without an error
        raise RuntimeError(f"the tokenizer has {len(tokenizer)} tokens instead of {len(vocab)}")
    return tokenizer


@torch.no_grad()
def encode_texts(
    text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: Sequence[str], batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """Token ids `(texts, length)` int64, and last hidden states `(texts, length, hidden_size)` in the model's dtype."""
    input_ids = tokenizer(
        list(texts), padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
    ).input_ids.to(text_encoder.device)
    hidden = [text_encoder(batch).last_hidden_state for batch in input_ids.split(batch_size)]
    return input_ids, torch.cat(hidden)
