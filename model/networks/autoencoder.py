"""A small convolutional autoencoder, and the ones that a model can have.

It makes 64-pixel images into 16x16 latents: pixel-unshuffle by 2, residual blocks, one strided step. The latents are
bounded, and their channels' mean and standard deviation over the training images are part of its configuration.
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

from model.networks.taef2 import TAEF2, SoftClamp


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
        Width at half of the image's size (a `patch_size`-th); the lower resolution has twice as many.
    latent_channels
        Channels of the latents.
    blocks
        Residual blocks per resolution; the encoder has half as many at the higher one, where they cost most.
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
        channels: int = 64,
        latent_channels: int = 8,
        blocks: int = 2,
        patch_size: int = 2,
        latents_mean: Sequence[float] | None = None,
        latents_std: Sequence[float] | None = None,
        spatial_factor: int = 4,
    ) -> None:
        super().__init__()
        folded, deep = 3 * patch_size**2, 2 * channels
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(patch_size),
            nn.Conv2d(folded, channels, 3, padding=1),
            *(ResidualBlock(channels) for _ in range(max(1, blocks // 2))),
            nn.Conv2d(channels, deep, 4, stride=2, padding=1),
            *(ResidualBlock(deep) for _ in range(blocks)),
            nn.Conv2d(deep, latent_channels, 1),
            SoftClamp(),
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
        """Encode images `(n, 3, h, w)` in [-1, 1] to latents `(n, latent_channels, h / factor, w / factor)`."""
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
