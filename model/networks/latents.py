"""Between images and the latents that the diffusion model sees: the autoencoder's pass, and the latents' scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

#: What is encoded at a time: at most so many images, and so many pixels.
_BATCH_SIZE, _BATCH_PIXELS = 64, 16 * 256**2


def to_pixels(squares: npt.NDArray[np.uint8]) -> Tensor:
    """`(images, height, width, 3)` uint8 to `(images, 3, height, width)` float32 in [-1, 1]."""
    return torch.from_numpy(squares).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def spatial_factor(vae: ModelMixin) -> int:
    """Image pixels per latent pixel, along one side."""
    factor: int = getattr(vae.config, "spatial_factor", None) or 2 ** (len(vae.config.block_out_channels) - 1)
    return factor


def normalize_latents(vae: ModelMixin, latents: Tensor) -> Tensor:
    """Latents as the diffusion model sees them, about zero mean and unit variance.

    By the per-channel `latents_mean` and `latents_std` of the autoencoder's configuration where it has them, else by
    its `shift_factor` and `scaling_factor`.
    """
    shift, scale = _shift_and_scale(vae, latents)
    return (latents - shift) / scale


def denormalize_latents(vae: ModelMixin, latents: Tensor) -> Tensor:
    """Inverse of `normalize_latents`: latents as the decoder takes them."""
    shift, scale = _shift_and_scale(vae, latents)
    return latents * scale + shift


def _shift_and_scale(vae: ModelMixin, like: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if mean is None or std is None:
        mean = [getattr(vae.config, "shift_factor", None) or 0.0]
        std = [1.0 / getattr(vae.config, "scaling_factor", 1.0)]
    shift, scale = (torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None] for values in (mean, std))
    return shift, scale


@torch.no_grad()
def encode_images(vae: ModelMixin, squares: npt.NDArray[np.uint8]) -> Tensor:
    """Latents, not normalized, of `(images, size, size, 3)` uint8 images.

    They are `(images, channels, h, w)` float32, on the CPU. An autoencoder that gives a distribution gives its mode.
    """
    latents = []
    count = max(1, min(_BATCH_SIZE, _BATCH_PIXELS // squares[0, ..., 0].size))
    for start in range(0, len(squares), count):
        encoded = vae.encode(to_pixels(squares[start : start + count]).to(vae.device, vae.dtype))
        latents.append(encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode())
    return torch.cat(latents).float().cpu()
