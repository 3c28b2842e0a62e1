"""The parts of a model before its training: from a base model, or new ones of the configured sizes."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import orjson
import torch
from diffusers import DDIMScheduler, PixArtTransformer2DModel, UNet2DConditionModel
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.networks.backbones import Backbone, latent_multiple
from model.networks.graph_qformer import GraphQFormer
from model.networks.latents import spatial_factor
from model.networks.neighbor_tokens import GraphEncoder, NeighborTokens
from model.networks.text_encoders import TextEncoders
from model.pretrained.base_models import base_model_id, load_base_model
from model.pretrained.parts import ModelParts
from model.training.autoencoder import autoencoder_id, prepare_autoencoder
from model.training.config import (
    DiffusionConfig,
    TrainConfig,
    TransformerConfig,
    UNetConfig,
)
from model.training.encoders import load_text_encoder
from model.training.items import TrainingItems

logger = logging.getLogger(__name__)

#: Embeddings that the neighbors' mean and standard deviation are computed from.
_STATISTICS_EMBEDDINGS = 65_536


def parts_ids(config: TrainConfig, items: TrainingItems, encoder: str) -> tuple[str, str]:
    """Ids of the autoencoder and of the text encoders that `load_parts` gives, without loading them."""
    if config.base_model is not None:
        identity = base_model_id(config.base_model)
        return identity, identity
    if config.autoencoder is None:
        raise ValueError("a configuration without a base model has an autoencoder")
    hashes = items.image_hashes
    return autoencoder_id(config.autoencoder, hashes, config.image_size, config.seed, config.image_fit), encoder


def load_parts(data: DataRoot, config: TrainConfig, items: TrainingItems, encoder: str) -> ModelParts:
    """Autoencoder, text encoders, network and noise schedule that the training starts from.

    Without a base model the text encoder is that of the checkpoint `encoders/<encoder>`, the autoencoder is made first
    if it is not there yet, and the network is new. Seeds torch's generator, from which new weights are drawn.

    Raises
    ------
    Graph2ImageError
        If a part is missing, or the configured sizes make no network.
    """
    if config.base_model is not None:
        base_model = load_base_model(config.base_model)
        scheduler = (
            build_scheduler(config.diffusion)
            if config.diffusion is not None
            # The same noise, whatever sampler the base model comes with.
            else DDIMScheduler.from_config(base_model.scheduler.config, clip_sample=False)
        )
        factor = spatial_factor(base_model.vae)
        if config.image_size % factor:
            raise Graph2ImageError(f"image_size is {config.image_size}, not a multiple of the base model's {factor}")
        base_model.unet.register_to_config(sample_size=config.image_size // factor)
        torch.manual_seed(config.seed)
        return replace(base_model, scheduler=scheduler)
    if config.autoencoder is None or config.diffusion is None:
        raise ValueError("a configuration without a base model has an autoencoder and a noise schedule")
    vae, _ = prepare_autoencoder(
        data, config.autoencoder, items.image_hashes, config.image_size, config.seed, config.image_fit
    )
    texts = TextEncoders(*load_text_encoder(data, encoder))
    torch.manual_seed(config.seed)
    return ModelParts(vae, texts, build_network(config, vae, texts.hidden_size), build_scheduler(config.diffusion))


def check_coarse_size(config: TrainConfig, parts: ModelParts) -> None:
    """Refuse steps on images at half the side, if that side does not fit the autoencoder and the network.

    Raises
    ------
    Graph2ImageError
        If so.
    """
    multiple = spatial_factor(parts.vae) * latent_multiple(parts.unet)
    if config.optimization.coarse_steps and (config.image_size // 2) % multiple:
        raise Graph2ImageError(
            f"optimization.coarse_steps: images of {config.image_size // 2} pixels, half of image_size, do not fit",
            f"The model takes multiples of {multiple} pixels. Set coarse_steps = 0, or another image_size.",
        )


def build_graph_encoder(
    config: TrainConfig,
    parts: ModelParts,
    embeddings: Tensor | None,
    relation_types: tuple[str, ...],
    encoder_id: str,
    detail: Tensor | None = None,
) -> GraphEncoder:
    """The base model's Graph-QFormer if it fits, else one that starts as the text encoder.

    It fits if it has the configured sizes and has learned to read embeddings of the same encoder. Another kind of graph
    encoder is new. New weights are drawn from torch's generator.

    Parameters
    ----------
    embeddings
        `(n, neighbor_dim)`, of the neighbors' images; None if the model does not look at them.
    encoder_id
        The encoder that they are of.
    detail
        `(n, tokens, numbers)`, of the neighbors' images; None if the model looks at no detail.
    """
    settings, text_config = config.graph_encoder, parts.texts.encoder.config
    neighbor_dim = None if embeddings is None else embeddings.shape[1]
    encoder: GraphEncoder
    if settings.kind == "projection" or settings.max_neighbors == 0:
        encoder = NeighborTokens(
            settings.max_neighbors,
            neighbor_dim,
            text_config.hidden_size if settings.texts else None,
            settings.tokens_per_neighbor,
            parts.texts.hidden_size,
            settings.standardize,
        )
        _standardize(encoder, embeddings, config)
        return encoder
    encoder = parts.make_graph_encoder(
        neighbor_dim,
        num_hidden_layers=min(settings.num_hidden_layers, text_config.num_hidden_layers),
        tokens_per_neighbor=settings.tokens_per_neighbor,
        cross_attention_freq=settings.cross_attention_freq,
        neighbor_text_dim=text_config.hidden_size if settings.texts else None,
        relation_types=relation_types,
        standardize_neighbors=settings.standardize,
        neighbor_detail=None if settings.neighbor_detail == "none" else settings.neighbor_detail,
        latent_channels=parts.vae.config.latent_channels if settings.neighbor_detail != "none" else 4,
    )
    if parts.graph_encoder is not None:
        fits = _sizes(parts.graph_encoder) == _sizes(encoder)
        if fits and (embeddings is None or parts.neighbor_encoder == encoder_id):
            return parts.graph_encoder
        logger.info(
            "The base model's Graph-QFormer has %s: starting with a new one",
            "read embeddings of another encoder" if fits else "other sizes than the configured ones",
        )
    _standardize(encoder, embeddings, config)
    if detail is not None and encoder.detail_projection is not None and settings.standardize:
        encoder.detail_projection.set_statistics(detail[:_STATISTICS_EMBEDDINGS].flatten(0, 1))
    return encoder


def _standardize(encoder: GraphEncoder, embeddings: Tensor | None, config: TrainConfig) -> None:
    if embeddings is not None and encoder.neighbor_projection is not None and config.graph_encoder.standardize:
        encoder.neighbor_projection.set_statistics(embeddings[:_STATISTICS_EMBEDDINGS])


def _sizes(encoder: GraphQFormer) -> dict[str, Any]:
    """A Graph-QFormer's configuration as it is saved, without what diffusers adds to it."""
    config: dict[str, Any] = orjson.loads(encoder.to_json_string())
    return {name: value for name, value in config.items() if not name.startswith("_")}


def build_network(config: TrainConfig, vae: ModelMixin, hidden_size: int) -> Backbone:
    """A new network for the latents of `vae` that attends to tokens of `hidden_size`."""
    sample_size, channels = config.image_size // spatial_factor(vae), vae.config.latent_channels
    if config.transformer is not None:
        return _build_transformer(config.transformer, sample_size, channels, hidden_size)
    if config.unet is None:
        raise ValueError("a configuration without a base model has a network")
    return _build_unet(config.unet, sample_size, channels, hidden_size)


def _build_unet(sizes: UNetConfig, sample_size: int, channels: int, hidden_size: int) -> UNet2DConditionModel:
    try:
        return UNet2DConditionModel(
            sample_size=sample_size,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=sizes.block_out_channels,
            down_block_types=sizes.down_block_types,
            up_block_types=sizes.up_block_types,
            layers_per_block=sizes.layers_per_block,
            attention_head_dim=sizes.attention_heads,
            cross_attention_dim=hidden_size,
        )
    except ValueError as error:
        raise Graph2ImageError(f"the configuration's [unet] makes no UNet: {error}") from error


def _build_transformer(
    sizes: TransformerConfig, sample_size: int, channels: int, hidden_size: int
) -> PixArtTransformer2DModel:
    if sample_size % sizes.patch_size:
        raise Graph2ImageError(
            f"the configuration's [transformer] does not fit: latents of {sample_size} x {sample_size} cannot be cut "
            f"into patches of {sizes.patch_size}"
        )
    network = PixArtTransformer2DModel(
        sample_size=sample_size,
        in_channels=channels,
        out_channels=channels,
        patch_size=sizes.patch_size,
        num_layers=sizes.num_layers,
        num_attention_heads=sizes.num_attention_heads,
        attention_head_dim=sizes.attention_head_dim,
        cross_attention_dim=sizes.num_attention_heads * sizes.attention_head_dim,
        caption_channels=hidden_size,
        use_additional_conditions=False,
    )
    nn.init.zeros_(network.proj_out.weight)  # predicts zero at the start, as DiT does (Peebles and Xie 2023)
    return network


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


def choose_trainable(network: Backbone, graph_encoder: GraphEncoder, config: TrainConfig) -> None:
    """Say by `requires_grad` which weights are trained, and add those that are only there to be trained."""
    from model.networks.lora import add_lora  # peft is slow to import, and rarely needed

    settings = config.optimization
    network.requires_grad_(settings.trainable == "full")
    if settings.trainable == "lora":
        add_lora(network, settings.lora_rank, settings.lora_alpha)
    graph_encoder.requires_grad_(True)
    if isinstance(graph_encoder, GraphQFormer):
        # The token table is the text encoder's own; most of its rows would only decay.
        graph_encoder.token_embedding.requires_grad_(False)
    if settings.gradient_checkpointing:
        network.enable_gradient_checkpointing()
        if isinstance(graph_encoder, GraphQFormer):
            graph_encoder.enable_gradient_checkpointing()
