"""Random models of Stable Diffusion 1.5's, Stable Diffusion XL's and PixArt's structure, tiny, for 32-pixel images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import orjson
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from open_clip.tokenizer import bytes_to_unicode
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from model.networks.graph_qformer import GraphQFormer
from model.pipeline import Graph2ImagePipeline

Structure = Literal["sd15", "sdxl", "pixart"]
STRUCTURES: tuple[Structure, ...] = ("sd15", "sdxl", "pixart")

HIDDEN, HIDDEN_2, POOLED = 32, 24, 20
LENGTH = 12
NEIGHBOR_DIM = 10


def tokenizer(length: int = LENGTH) -> CLIPTokenizer:
    """CLIP's tokenizer without merges: 514 tokens."""
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=length)


def text_config(hidden_size: int = HIDDEN, **settings: Any) -> CLIPTextConfig:
    defaults = {
        "vocab_size": 514,
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
        "projection_dim": POOLED,
        "bos_token_id": 512,
        "eos_token_id": 513,
        "pad_token_id": 513,
    }
    return CLIPTextConfig(**(defaults | settings))


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    ).eval()


def unet(cross_attention_dim: int = HIDDEN, **settings: Any) -> UNet2DConditionModel:
    defaults = {
        "sample_size": 4,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": 4,
        "cross_attention_dim": cross_attention_dim,
    }
    return UNet2DConditionModel(**(defaults | settings)).eval()


def parts(structure: Structure) -> dict[str, Any]:
    """The parts of a text-to-image model, by diffusers' names; PixArt's network is called `unet` too."""
    torch.manual_seed(0)
    found: dict[str, Any] = {
        "vae": autoencoder(),
        "text_encoder": CLIPTextModel(text_config()).eval(),
        "tokenizer": tokenizer(),
        "scheduler": DDIMScheduler(clip_sample=False, steps_offset=1, beta_schedule="scaled_linear"),
    }
    if structure == "sd15":
        return found | {"unet": unet()}
    if structure == "sdxl":
        return found | {
            "text_encoder_2": CLIPTextModelWithProjection(text_config(HIDDEN_2, hidden_act="gelu")).eval(),
            "tokenizer_2": tokenizer(),
            "scheduler": EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1),
            "unet": unet(
                HIDDEN + HIDDEN_2,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=POOLED + 6 * 8,
                use_linear_projection=True,
            ),
        }
    network = PixArtTransformer2DModel(
        sample_size=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=HIDDEN,
        use_additional_conditions=False,
    )
    return found | {"unet": network.eval()}


def pipeline(structure: Structure, **more: Any) -> Graph2ImagePipeline:
    """A pipeline with a Graph-QFormer; `more` replaces or adds parts."""
    found = parts(structure)
    hidden = HIDDEN + HIDDEN_2 if structure == "sdxl" else HIDDEN
    if "graph_encoder" not in more:
        more["graph_encoder"] = graph_encoder(found["text_encoder"], output_dim=hidden)
    if structure == "sdxl":
        more.setdefault("force_zeros_for_empty_prompt", True)
    pipe = Graph2ImagePipeline(**(found | more))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def graph_encoder(text_encoder: CLIPTextModel, neighbor_dim: int | None = NEIGHBOR_DIM, **options: Any) -> GraphQFormer:
    torch.manual_seed(1)
    return GraphQFormer.from_text_encoder(text_encoder, neighbor_dim, tokens_per_neighbor=2, **options).eval()


def image_encoder(dim: int = NEIGHBOR_DIM) -> tuple[CLIPVisionModelWithProjection, CLIPImageProcessor]:
    torch.manual_seed(2)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=dim,
    )
    size = {"height": 16, "width": 16}
    return CLIPVisionModelWithProjection(config).eval(), CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size)


def save_base_model(structure: Structure, folder: Path) -> Path:
    """Save a text-to-image model as diffusers does, without a Graph-QFormer."""
    found = parts(structure)
    if structure == "sd15":
        StableDiffusionPipeline(
            **found, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        ).save_pretrained(folder)
    elif structure == "sdxl":
        StableDiffusionXLPipeline(**found, add_watermarker=False).save_pretrained(folder)
    else:
        found["transformer"] = found.pop("unet")
        for name, part in found.items():
            part.save_pretrained(folder / name)
        index = {name: [type(part).__module__.split(".")[0], type(part).__name__] for name, part in found.items()}
        (folder / "model_index.json").write_bytes(orjson.dumps({"_class_name": "PixArtAlphaPipeline", **index}))
    return folder
