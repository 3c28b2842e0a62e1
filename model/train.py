"""The training stage: from Parquet datasets to a pipeline in `models/<model_id>`.

Everything frozen is computed before the loop (`model.trainer`) starts: autoencoder, latents, the texts' hidden states.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.modeling_utils import ModelMixin

from ingest.datasets import DataRoot, digest
from ingest.errors import Graph2ImageError
from model.autoencoder import autoencoder_id, prepare_autoencoder
from model.config import DiffusionConfig, TrainConfig
from model.dataset import build_arrays, read_training_items
from model.graph_qformer import GraphQFormer
from model.latents import compute_latents, spatial_factor
from model.pipeline import Graph2ImagePipeline
from model.storage import publish_folder, quiet_libraries
from model.text import load_text_encoder
from model.trainer import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainReport:
    """What a training run made. `seconds` and `steps` count this call only; they are 0 when nothing was to do."""

    model_id: str
    items: int
    steps: int
    seconds: float
    loss: float
    changed: bool


def train(
    data: DataRoot,
    config: TrainConfig,
    neighbors: str,
    encoder: str | None = None,
    withdrawn: Collection[str] = (),
) -> TrainReport:
    """Train the model that `config` describes, or find it trained already.

    Reads items, images, embeddings and `neighbors/<neighbors>`; writes the autoencoder and the latents if they are new,
    and `models/<model_id>/`: a `Graph2ImagePipeline` with EMA weights, and `model.json`, the record of what went in.

    Parameters
    ----------
    neighbors
        Name of the neighbors dataset.
    encoder
        Encoder of the neighbor embeddings and the texts; by default the one that the neighbors were ranked with.
    withdrawn
        Ids of items that take no part, whatever the samples say.

    Raises
    ------
    Graph2ImageError
        If an input is missing, or the loss is not finite any more.
    """
    snapshot = data.snapshot(f"neighbors/{neighbors}")
    items = read_training_items(data, neighbors, config.graph_encoder.max_neighbors, withdrawn)
    metadata = snapshot.metadata if snapshot else {}
    encoder = encoder or metadata.get("encoder")
    if not encoder:
        raise Graph2ImageError(f"neighbors/{neighbors} does not say which encoder it was ranked with: name one")
    vae_id = autoencoder_id(config.autoencoder, items.image_hashes, config.image_size, config.seed)
    recipe = config.model_dump(mode="json", exclude={"autoencoder": True, "optimization": {"checkpoint_every"}})
    model_id = f"{config.preset}-{digest(recipe, items.digest(), encoder, vae_id)}"
    if data.exists(f"models/{model_id}/model.json"):
        record = data.read_json(f"models/{model_id}/model.json")
        return TrainReport(model_id, len(items), 0, 0.0, record["loss"], changed=False)

    started = time.monotonic()
    vae, _ = prepare_autoencoder(data, config.autoencoder, items.image_hashes, config.image_size, config.seed)
    text_encoder, tokenizer = load_text_encoder(data, encoder)
    latents = compute_latents(data, vae, vae_id, items.image_hashes, config.image_size).dataset
    arrays = build_arrays(data, items, latents, encoder, config.graph_encoder.max_neighbors, text_encoder, tokenizer)
    torch.manual_seed(config.seed)
    graph_encoder = GraphQFormer.from_text_encoder(
        text_encoder,
        arrays.embeddings.shape[1],
        num_hidden_layers=min(config.graph_encoder.num_hidden_layers, text_encoder.config.num_hidden_layers),
        tokens_per_neighbor=config.graph_encoder.tokens_per_neighbor,
        cross_attention_freq=config.graph_encoder.cross_attention_freq,
    )
    unet = build_unet(config, vae, text_encoder.config.hidden_size)
    scheduler = build_scheduler(config.diffusion)
    trainer = Trainer(unet, graph_encoder, scheduler, config.optimization, config.diffusion.snr_gamma, config.seed)
    logger.info("Training %s on %d items, %.1f M parameters", model_id, len(items), trainer.parameter_count / 1e6)
    steps = trainer.run(data, f"training/{model_id}/checkpoint.safetensors", arrays, items)
    trainer.ema.copy_to(trainer.parameters)

    pipeline = Graph2ImagePipeline(vae, text_encoder, tokenizer, unet, scheduler, graph_encoder)
    record = {
        "model_id": model_id,
        "config": config.model_dump(mode="json"),
        "encoder": encoder,
        "vae_id": vae_id,
        "neighbors": neighbors,
        "neighbors_metadata": metadata,
        "items": len(items),
        "items_digest": items.digest(),
        "loss": trainer.recent_loss(),
        "loss_curve": trainer.loss_curve(),
        "seconds": round(time.monotonic() - started, 1),
    }

    def write(folder: Path) -> None:
        with quiet_libraries():
            pipeline.save_pretrained(folder)
        DataRoot(str(folder)).write_json("model.json", record)

    publish_folder(data, f"models/{model_id}", write, marker="model.json")
    data.fs.rm(data.path(f"training/{model_id}"), recursive=True)
    return TrainReport(model_id, len(items), steps, time.monotonic() - started, trainer.recent_loss(), changed=True)


def build_unet(config: TrainConfig, vae: ModelMixin, hidden_size: int) -> UNet2DConditionModel:
    """A new UNet for the latents of `vae` that attends to tokens of `hidden_size`."""
    sizes = config.unet
    try:
        return UNet2DConditionModel(
            sample_size=config.image_size // spatial_factor(vae),
            in_channels=vae.config.latent_channels,
            out_channels=vae.config.latent_channels,
            block_out_channels=sizes.block_out_channels,
            down_block_types=sizes.down_block_types,
            up_block_types=sizes.up_block_types,
            layers_per_block=sizes.layers_per_block,
            attention_head_dim=sizes.attention_heads,
            cross_attention_dim=hidden_size,
        )
    except ValueError as error:
        raise Graph2ImageError(f"the configuration's [unet] makes no UNet: {error}") from error


def build_scheduler(config: DiffusionConfig) -> DDIMScheduler:
    """The noise schedule that training and, by default, sampling use."""
    return DDIMScheduler(
        prediction_type=config.prediction_type,
        beta_schedule=config.beta_schedule,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        rescale_betas_zero_snr=config.rescale_betas_zero_snr,
        timestep_spacing=config.timestep_spacing,
        clip_sample=False,
        set_alpha_to_one=True,
    )
