"""The parts of a pretrained text-to-image model that a training starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from model.networks.backbones import Backbone
from model.networks.graph_qformer import GraphQFormer
from model.networks.text_encoders import TextEncoders


@dataclass(frozen=True)
class ModelParts:
    """The parts of a pretrained text-to-image model, in evaluation mode; only the network takes gradients.

    Parameters
    ----------
    vae
        Autoencoder.
    texts
        Text encoder and tokenizer; two pairs in Stable Diffusion XL's structure.
    unet
        The denoising network.
    scheduler
        The scheduler that the model samples with; its configuration has the noise schedule and the prediction type.
    graph_encoder
        Graph-QFormer, of a model that has been trained with neighbors already.
    neighbor_encoder
        Id of the encoder whose embeddings it reads; None if that is not known.
    """

    vae: ModelMixin
    texts: TextEncoders
    unet: Backbone
    scheduler: SchedulerMixin
    graph_encoder: GraphQFormer | None = None
    neighbor_encoder: str | None = None

    def make_graph_encoder(self, neighbor_dim: int | None, **options: Any) -> GraphQFormer:
        """A Graph-QFormer that starts as the (first) text encoder and makes tokens of the size the network reads.

        The arguments are those of `GraphQFormer.from_text_encoder`.
        """
        encoder: GraphQFormer = GraphQFormer.from_text_encoder(
            self.texts.encoder, neighbor_dim, output_dim=self.texts.hidden_size, **options
        )
        return encoder
