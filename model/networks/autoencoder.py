"""A small convolutional autoencoder, and the ones that a model can have.

It makes 64-pixel images into 8x8 latents of 16 channels: pixel-unshuffle by 4, residual blocks, one strided step. The
channels' mean and standard deviation over the training images are part of its configuration.
"""

from __future__ import annotations

from collections.abc import Sequence

import diffusers
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from model.networks.taef2 import TAEF2


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class MiniAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Deterministic convolutional autoencoder with diffusers' interface.

    Parameters
    ----------
    channels
        Width at a quarter of the image's size; the lower resolution has one and a half times as many.
    latent_channels
        Channels of the latents.
    blocks
        Residual blocks per resolution, in the encoder and in the decoder.
    patch_size
        Pixels that are folded into channels first.
    latents_mean, latents_std
        Per-channel statistics of the latents over the training images.
    spatial_factor
        Image pixels per latent pixel, along one side: twice `patch_size`.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        channels: int = 96,
        latent_channels: int = 16,
        blocks: int = 2,
        patch_size: int = 4,
        latents_mean: Sequence[float] | None = None,
        latents_std: Sequence[float] | None = None,
        spatial_factor: int = 8,
    ) -> None:
        super().__init__()
        folded, deep = 3 * patch_size**2, channels * 3 // 2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(patch_size),
            nn.Conv2d(folded, channels, 3, padding=1),
            *(ResidualBlock(channels) for _ in range(blocks)),
            nn.Conv2d(channels, deep, 4, stride=2, padding=1),
            *(ResidualBlock(deep) for _ in range(blocks)),
            nn.Conv2d(deep, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, deep, 3, padding=1),
            *(ResidualBlock(deep) for _ in range(blocks)),
            nn.Conv2d(deep, 4 * channels, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(channels) for _ in range(blocks)),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, folded, 3, padding=1),
            nn.PixelShuffle(patch_size),
        )

    @apply_forward_hook  # type: ignore[untyped-decorator]
    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderTinyOutput | tuple[Tensor]:
        """Encode images `(batch, 3, h, w)` in [-1, 1] to latents `(batch, latent_channels, h / 8, w / 8)`."""
        latents = self.encoder(x)
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    @apply_forward_hook  # type: ignore[untyped-decorator]
    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Decode latents to images, about [-1, 1]."""
        sample = self.decoder(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)


#: The autoencoders that a model can have, by class name.
AUTOENCODERS = {
    cls.__name__: cls for cls in (MiniAutoencoder, TAEF2, diffusers.AutoencoderKL, diffusers.AutoencoderTiny)
}
