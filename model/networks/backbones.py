"""The denoising networks a pipeline and a trainer can use, behind one call.

`UNet2DConditionModel` (Stable Diffusion 1.5 and XL, and the small ones of the presets) and `PixArtTransformer2DModel`,
a transformer over patches of the latents. Both read `[text tokens ; graph tokens]` through their cross-attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from torch import Tensor

Backbone: TypeAlias = UNet2DConditionModel | PixArtTransformer2DModel


@dataclass(frozen=True)
class Condition:
    """What a prediction is conditioned on.

    Parameters
    ----------
    tokens
        `(batch, length, hidden_size)`: text tokens, then graph tokens.
    pooled
        `(batch, pooled_size)` text embedding that Stable Diffusion XL adds to its time embedding; None for the others.
    """

    tokens: Tensor
    pooled: Tensor | None = None


def predict(backbone: Backbone, latents: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
    """The network's prediction for noisy `latents` `(batch, channels, h, w)`, in the same shape.

    `timesteps` is `(batch,)` or a scalar. A predicted variance, which some checkpoints add, is dropped.
    """
    prediction: Tensor
    if isinstance(backbone, PixArtTransformer2DModel):
        sizes = _pixel_size(latents).expand(latents.shape[0], -1) if backbone.use_additional_conditions else None
        prediction = backbone(
            latents,
            encoder_hidden_states=condition.tokens,
            timestep=timesteps.expand(latents.shape[0]),
            added_cond_kwargs={
                "resolution": sizes,
                "aspect_ratio": None if sizes is None else sizes[:, :1] / sizes[:, 1:],
            },
        ).sample
        return prediction[:, : latents.shape[1]]
    added = None
    if condition.pooled is not None:
        size = _pixel_size(latents)  # original size, crop (none), target size
        time_ids = torch.cat([size, torch.zeros_like(size), size]).expand(latents.shape[0], -1)
        added = {"text_embeds": condition.pooled, "time_ids": time_ids}
    prediction = backbone(latents, timesteps, encoder_hidden_states=condition.tokens, added_cond_kwargs=added).sample
    return prediction


def _pixel_size(latents: Tensor) -> Tensor:
    """Height and width of the images, `(2,)`; the networks that are conditioned on it have 8 pixels to a latent's."""
    return torch.tensor([8 * side for side in latents.shape[-2:]], dtype=latents.dtype, device=latents.device)


def latent_multiple(backbone: Backbone) -> int:
    """What the sides of the latents must be multiples of, for the network to take them whole."""
    if isinstance(backbone, PixArtTransformer2DModel):
        return int(backbone.config.patch_size)
    return int(2 ** (len(backbone.config.block_out_channels) - 1))


def cross_attention_dim(backbone: Backbone) -> int:
    """Size of the tokens that the network's cross-attention reads."""
    if isinstance(backbone, PixArtTransformer2DModel):
        dim = backbone.config.caption_channels or backbone.config.cross_attention_dim
    else:
        dim = backbone.config.cross_attention_dim
    return int(dim[0] if isinstance(dim, (list, tuple)) else dim)
