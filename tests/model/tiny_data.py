"""A data root with everything that training reads, tiny and random, and a configuration to match."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from open_clip.model import CLIP
from PIL import Image

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import IMAGE_SCHEMA, ITEM_SCHEMA, NEIGHBOR_SCHEMA, embedding_schema
from ingest.encoders.checkpoint import publish_encoder
from model.networks.autoencoder import MiniAutoencoder
from model.networks.graph_qformer import GraphQFormer
from model.networks.text_encoders import build_tokenizer, convert_text_tower
from model.pipeline import Graph2ImagePipeline
from model.training.config import TrainConfig, load_train_config

ENCODER, NEIGHBORS, DIM = "tiny", "abc123", 16
ITEMS, TEST_ITEMS = 20, 4
CONFIG = """
preset = "mini"
image_size = 32

[autoencoder]
channels = 16
blocks = 1
steps = 4
batch_size = 4

[unet]
block_out_channels = [32, 32]
attention_heads = 2

[graph_encoder]
max_neighbors = 3
tokens_per_neighbor = 2
num_hidden_layers = 1

[optimization]
steps = 6
batch_size = 4
warmup_steps = 2
checkpoint_every = 2
sample_every = 0
trackers = []
"""


def tiny_clip() -> tuple[CLIP, dict[str, Any]]:
    """A random open_clip model, and its configuration as a checkpoint folder holds it."""
    model_config = {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    torch.manual_seed(0)
    model = CLIP(**model_config)
    with torch.no_grad():  # biases start at zero, where a mistake about them would not show
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    preprocess = {"size": 32, "mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    return model.eval(), {"model_cfg": model_config, "preprocess_cfg": preprocess}


@dataclass(frozen=True)
class TinyData:
    """The data root, its items' ids, texts and image hashes, and the path of a training configuration."""

    root: DataRoot
    item_ids: list[str]
    texts: list[str]
    image_hashes: list[str]
    config_path: Path

    @property
    def config(self) -> TrainConfig:
        return load_train_config(self.config_path)


def make_data(folder: Path) -> TinyData:
    rng = np.random.default_rng(0)
    root = DataRoot(str(folder / "data"))
    ids = [f"toy:{index:02}" for index in range(ITEMS)]
    splits = ["test" if index < TEST_ITEMS else "train" for index in range(ITEMS)]
    texts = [f"a thing of kind {index % 5}" for index in range(ITEMS)]
    hashes = []
    images = []
    for _ in ids:
        pixels = np.full((40, 36, 3), rng.integers(256, size=3), np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "png")
        image_hash = hashlib.sha256(content.getvalue()).hexdigest()
        path = f"images/files/{image_hash[:2]}/{image_hash}.png"
        root.write_bytes(path, content.getvalue())
        hashes.append(image_hash)
        images.append({"image_hash": image_hash, "path": path, "width": 36, "height": 40, "format": "PNG"})
    for image in images:
        image["perceptual_hash"] = "0" * 16
    root.append("images", pa.Table.from_pylist(images, IMAGE_SCHEMA), IMAGE_SCHEMA)
    items = [
        {"item_id": i, "label": "Thing", "text": t, "image_hash": h, "split": s, "group_id": i, "opted_out": False}
        for i, t, h, s in zip(ids, texts, hashes, splits, strict=True)
    ]
    root.publish("items/toy", [pa.Table.from_pylist(items, ITEM_SCHEMA)], ITEM_SCHEMA)

    vectors = rng.normal(size=(ITEMS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    schema = embedding_schema("image_hash", DIM)
    root.append(f"embeddings/{ENCODER}", pa.table([hashes, list(vectors)], schema=schema), schema)
    train_rows = range(TEST_ITEMS, ITEMS)
    neighbors = [
        {
            "item_id": item_id,
            "split": split,
            "neighbors": [
                {"item_id": ids[at], "image_hash": hashes[at], "ppr": 0.1, "similarity": 0.2, "via": "x"}
                for at in rng.permutation([at for at in train_rows if ids[at] != item_id])[: index % 5]
            ],
        }
        for index, (item_id, split) in enumerate(zip(ids, splits, strict=True))
    ]
    table = pa.Table.from_pylist(neighbors, NEIGHBOR_SCHEMA)
    root.publish(f"neighbors/{NEIGHBORS}", [table], NEIGHBOR_SCHEMA, {"encoder": ENCODER})

    model, config = tiny_clip()
    publish_encoder(root, ENCODER, model, config, {})
    config_path = folder / "tiny.toml"
    config_path.write_text(CONFIG)
    return TinyData(root, ids, texts, hashes, config_path)


def tiny_pipeline(prediction_type: str = "v_prediction") -> Graph2ImagePipeline:
    """A random pipeline for 32-pixel images."""
    clip, config = tiny_clip()
    text_encoder = convert_text_tower(config["model_cfg"], clip.state_dict())
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=32,
    )
    zero_snr = prediction_type == "v_prediction"
    pipeline = Graph2ImagePipeline(
        vae=MiniAutoencoder(channels=16, latent_channels=4, blocks=1, patch_size=4, spatial_factor=8),
        text_encoder=text_encoder,
        tokenizer=build_tokenizer(12),
        unet=unet.eval(),
        scheduler=DDIMScheduler(
            prediction_type=prediction_type,
            rescale_betas_zero_snr=zero_snr,
            timestep_spacing="trailing",
            clip_sample=False,
        ),
        graph_encoder=GraphQFormer.from_text_encoder(text_encoder, DIM, tokens_per_neighbor=2).eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
