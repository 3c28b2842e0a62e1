"""The text side: an open_clip text tower as a `transformers` text model and tokenizer, and the texts' hidden states.

A diffusers pipeline keeps its text encoder as a `CLIPTextModel`. Encoders are trained and used for embeddings with
open_clip, whose checkpoints lay out the same numbers differently; the conversion here is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

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


@dataclass(frozen=True)
class EncodedTexts:
    """Texts as the network is conditioned on them.

    Parameters
    ----------
    input_ids
        `(texts, length)` int64, of the first tokenizer.
    hidden
        `(texts, length, hidden_size)` token states, in the model's dtype; of two encoders, theirs side by side.
    pooled
        `(texts, pooled_size)` projected embedding of the second encoder; None if there is one encoder.
    summary
        `(texts, first encoder's hidden_size)`: its state at the end token.
    """

    input_ids: Tensor
    hidden: Tensor
    pooled: Tensor | None
    summary: Tensor

    def __getitem__(self, rows: slice | Tensor) -> EncodedTexts:
        pooled = None if self.pooled is None else self.pooled[rows]
        return EncodedTexts(self.input_ids[rows], self.hidden[rows], pooled, self.summary[rows])


@dataclass(frozen=True)
class TextEncoders:
    """The text side of a model: a CLIP text model and its tokenizer, and a second pair for Stable Diffusion XL.

    With one encoder the network sees its last hidden states. With two it sees the second to last ones of both, before
    the final norm, and the second encoder's projected embedding, as Stable Diffusion XL was trained (Podell et al.
    2023). `zero_empty` makes all of an empty text zero, as that model expects it of an absent prompt.
    """

    encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    encoder_2: CLIPTextModelWithProjection | None = None
    tokenizer_2: CLIPTokenizer | None = None
    zero_empty: bool = False

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 256, device: torch.device | None = None) -> EncodedTexts:
        """Encode texts, at least one, each cut at the models' length.

        `device` is where the encoders run, if it is not where their weights lie between calls (offloading).
        """
        device = device or self.encoder.device
        parts = [self._encode(texts[start : start + batch_size], device) for start in range(0, len(texts), batch_size)]
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return EncodedTexts(
            torch.cat([part.input_ids for part in parts]),
            torch.cat([part.hidden for part in parts]),
            torch.cat(pooled) if pooled else None,
            torch.cat([part.summary for part in parts]),
        )

    def _encode(self, texts: Sequence[str], device: torch.device) -> EncodedTexts:
        input_ids = _tokenize(self.tokenizer, self.encoder, texts).to(device)
        first = self.encoder(input_ids, output_hidden_states=self.encoder_2 is not None)
        if self.encoder_2 is None or self.tokenizer_2 is None:
            hidden, pooled = first.last_hidden_state, None
        else:
            ids_2 = _tokenize(self.tokenizer_2, self.encoder_2, texts).to(device)
            second = self.encoder_2(ids_2, output_hidden_states=True)
            hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
            pooled = second.text_embeds
        if self.zero_empty:
            kept = torch.tensor([bool(text) for text in texts], device=hidden.device)
            hidden = hidden * kept[:, None, None]
            pooled = None if pooled is None else pooled * kept[:, None]
        return EncodedTexts(input_ids, hidden, pooled, first.pooler_output)

    @property
    def hidden_size(self) -> int:
        """Size of a text token as the network sees it."""
        return int(self.encoder.config.hidden_size + (self.encoder_2.config.hidden_size if self.encoder_2 else 0))


def _tokenize(tokenizer: CLIPTokenizer, encoder: CLIPTextModel, texts: Sequence[str]) -> Tensor:
    # A tokenizer that was saved without a length says 10**30.
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    ids: Tensor = tokenizer(
        list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    ).input_ids
    return ids
