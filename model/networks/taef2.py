"""TAEF2, a tiny autoencoder for FLUX.2's latents (TAESD family): 32 channels, 8 pixels to one.

It is loaded from its two published weight files; the architecture is plain residual blocks of 64 channels, where the
blocks at the lowest resolution also see a normalized 1x1 mixture of their input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from ingest.errors import Graph2ImageError

WIDTH = 64
LATENT_CHANNELS = 32
ENCODER_FILE, DECODER_FILE = "taef2_encoder.pth", "taef2_decoder.pth"


def _conv(in_channels: int, out_channels: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, stride=stride, bias=bias)


class Block(nn.Module):
    def __init__(self, *, pooled: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(WIDTH, WIDTH), nn.ReLU(), _conv(WIDTH, WIDTH), nn.ReLU(), _conv(WIDTH, WIDTH))
        self.pool = None
        if pooled:
            self.pool = nn.Sequential(
                nn.Conv2d(WIDTH, 4 * WIDTH, 1, bias=False),
                nn.GroupNorm(4, 4 * WIDTH),
                nn.ReLU(),
                nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class SoftClamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


def _encoder() -> nn.Sequential:
    layers: list[nn.Module] = [_conv(3, WIDTH), Block()]
    for level in range(3):
        layers += [_conv(WIDTH, WIDTH, stride=2, bias=False), *(Block(pooled=level == 2) for _ in range(3))]
    return nn.Sequential(*layers, _conv(WIDTH, LATENT_CHANNELS))


def _decoder() -> nn.Sequential:
    layers: list[nn.Module] = [SoftClamp(), _conv(LATENT_CHANNELS, WIDTH), nn.ReLU()]
    for level in range(3):
        layers += [
            *(Block(pooled=level == 0) for _ in range(3)),
            nn.Upsample(scale_factor=2),
            _conv(WIDTH, WIDTH, bias=False),
        ]
    return nn.Sequential(*layers, Block(), _conv(WIDTH, 3))


class TAEF2(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The autoencoder, with diffusers' interface.

    Parameters
    ----------
    latents_mean, latents_std
        Per-channel statistics of the latents, of the images that a diffusion model is trained on.
    spatial_factor
        Image pixels per latent pixel, along one side; a fact about the architecture.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latents_mean: Sequence[float] | None = None,
        latents_std: Sequence[float] | None = None,
        latent_channels: int = LATENT_CHANNELS,
        spatial_factor: int = 8,
    ) -> None:
        super().__init__()
        self.encoder = _encoder()
        self.decoder = _decoder()

    @classmethod
    def from_weight_files(cls, folder: Path) -> TAEF2:
        """Load `taef2_encoder.pth` and `taef2_decoder.pth`, without unpickling anything but tensors.

        Raises
        ------
        Graph2ImageError
            If a file is not such a state dict.
        """
        model: TAEF2 = cls()
        for part, file in ((model.encoder, ENCODER_FILE), (model.decoder, DECODER_FILE)):
            try:
                part.load_state_dict(torch.load(folder / file, map_location="cpu", weights_only=True))
            except Exception as error:  # torch.load raises many kinds for a file that is no state dict
                raise Graph2ImageError(f"cannot load {folder / file}: {error}") from error
        model.requires_grad_(False).eval()
        return model

    @apply_forward_hook  # type: ignore[untyped-decorator]
    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderTinyOutput | tuple[Tensor]:
        """Encode images `(batch, 3, height, width)` in [-1, 1] to latents `(batch, 32, height / 8, width / 8)`."""
        latents = self.encoder(x * 0.5 + 0.5)
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    @apply_forward_hook  # type: ignore[untyped-decorator]
    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Decode latents to images in [-1, 1]."""
        sample = self.decoder(z) * 2 - 1
        return DecoderOutput(sample=sample) if return_dict else (sample,)
