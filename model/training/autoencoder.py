"""The autoencoder of a training: a ready one from a folder, or a `MiniAutoencoder` made from its images."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from tqdm.auto import tqdm

from ingest.datasets.root import DataRoot, digest
from ingest.encoders.precision import bf16_autocast
from ingest.encoders.workers import Workers
from ingest.errors import Graph2ImageError
from ingest.images.loading import load_squares
from model.networks import taef2
from model.networks.autoencoder import AUTOENCODERS, MiniAutoencoder
from model.networks.latents import encode_images, to_pixels
from model.storage import local_folder, local_sha256, publish_folder
from model.training.config import AutoencoderConfig

logger = logging.getLogger(__name__)

#: Images that the latents' statistics are computed from.
_STATISTICS_IMAGES = 1024


def train_autoencoder(squares: npt.NDArray[np.uint8], config: AutoencoderConfig, seed: int) -> MiniAutoencoder:
    """Train from scratch on `(images, size, size, 3)` uint8 images: squared error, random mirroring, cosine decay.

    The result depends only on the arguments. It carries the latents' statistics and is in evaluation mode.
    """
    torch.manual_seed(seed)
    model: MiniAutoencoder = MiniAutoencoder(config.channels, config.latent_channels, config.blocks)
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 20, 0.5 * (1 + math.cos(math.pi * step / config.steps)))
    )
    draw = np.random.default_rng(seed)
    weights = list(model.parameters())

    def share(pixels: Tensor) -> Tensor:
        """The micro-batch's share of the mean squared error of a step."""
        with bf16_autocast():
            decoded: Tensor = model.decoder(model.encoder(pixels))
        errors = (decoded.float() - pixels).square().mean(dim=(1, 2, 3))
        return errors.sum() / config.batch_size

    progress = tqdm(range(config.steps), desc="autoencoder", unit="step", disable=None)
    with Workers() as workers:
        for _ in progress:
            batch = squares[draw.integers(len(squares), size=config.batch_size)]
            mirrored = draw.random(config.batch_size) < 0.5
            batch[mirrored] = batch[mirrored, :, ::-1]
            pixels = to_pixels(batch).contiguous(memory_format=torch.channels_last)
            loss = workers.backward(share, pixels.chunk(workers.parts), weights)
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            progress.set_postfix(psnr=f"{_psnr(loss):.1f} dB")
    logger.info("Trained the autoencoder: %.1f dB on the last batch", _psnr(loss))
    model.requires_grad_(False).eval()
    _set_statistics(model, squares)
    return model


def _psnr(loss: Tensor) -> float:
    """Peak signal-to-noise ratio, in dB, of a squared error on pixels in [-1, 1]."""
    return 10 * math.log10(4 / max(loss.item(), 1e-12))


def _set_statistics(model: MiniAutoencoder | taef2.TAEF2, squares: npt.NDArray[np.uint8]) -> None:
    latents = encode_images(model, squares[:_STATISTICS_IMAGES])
    model.register_to_config(
        latents_mean=latents.mean(dim=(0, 2, 3)).tolist(),
        latents_std=latents.std(dim=(0, 2, 3)).clamp(min=1e-6).tolist(),
    )


def autoencoder_id(config: AutoencoderConfig, image_hashes: Sequence[str], image_size: int, seed: int) -> str:
    """Id of the autoencoder that `prepare_autoencoder` gives for these arguments, without making it.

    Derived from what determines its weights: the local weight files, or the recipe and the images.

    Raises
    ------
    Graph2ImageError
        If `config.path` has no weight files.
    """
    if config.path is None:
        return f"mini-ae-{digest(config.model_dump(exclude={'path'}), sorted(image_hashes), image_size, seed)}"
    folder = Path(config.path)
    if _is_taef2(folder):
        weights = [local_sha256(folder / file) for file in (taef2.ENCODER_FILE, taef2.DECODER_FILE)]
        return f"taef2-{digest(weights, sorted(image_hashes)[:_STATISTICS_IMAGES], image_size)}"
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    if len(files) < 2 or not files[0].is_file():
        raise Graph2ImageError(
            f"there is no autoencoder in {folder}",
            f"autoencoder.path names a folder with config.json and safetensors weights, or with {taef2.ENCODER_FILE} "
            f"and {taef2.DECODER_FILE}.",
        )
    return f"{_class_name(folder)}-{digest([local_sha256(file) for file in files])}"


def prepare_autoencoder(
    data: DataRoot, config: AutoencoderConfig, image_hashes: Sequence[str], image_size: int, seed: int
) -> tuple[ModelMixin, str]:
    """Load the autoencoder from `autoencoders/<vae_id>`; make it first if it is not there.

    Parameters
    ----------
    image_hashes
        Training images: what a `MiniAutoencoder` learns from, and the latents' statistics are computed from.

    Returns
    -------
    vae, vae_id
        The model, frozen and in evaluation mode, and its id.
    """
    vae_id = autoencoder_id(config, image_hashes, image_size, seed)
    name = f"autoencoders/{vae_id}"
    if not data.exists(f"{name}/config.json"):
        vae = _make_autoencoder(data, config, sorted(image_hashes), image_size, seed)
        publish_folder(data, name, vae.save_pretrained, marker="config.json")
    with local_folder(data, name) as folder:
        return _load_autoencoder(folder), vae_id


def _make_autoencoder(
    data: DataRoot, config: AutoencoderConfig, image_hashes: Sequence[str], image_size: int, seed: int
) -> ModelMixin:
    if config.path is None:
        logger.info("Training an autoencoder on %d images, %d steps", len(image_hashes), config.steps)
        return train_autoencoder(load_squares(data, image_hashes, image_size), config, seed)
    folder = Path(config.path)
    if _is_taef2(folder):
        vae = taef2.TAEF2.from_weight_files(folder)
        _set_statistics(vae, load_squares(data, image_hashes[:_STATISTICS_IMAGES], image_size))
        return vae
    return _load_autoencoder(folder)


def _is_taef2(folder: Path) -> bool:
    return (folder / taef2.ENCODER_FILE).is_file() and (folder / taef2.DECODER_FILE).is_file()


def _class_name(folder: Path) -> str:
    try:
        return str(orjson.loads((folder / "config.json").read_bytes())["_class_name"])
    except (KeyError, TypeError, ValueError) as error:
        raise Graph2ImageError(f"{folder / 'config.json'} is not the configuration of a diffusers model") from error


def _load_autoencoder(folder: Path) -> ModelMixin:
    name = _class_name(folder)
    if name not in AUTOENCODERS:
        raise Graph2ImageError(f"cannot use the autoencoder in {folder}: {name} is none of {', '.join(AUTOENCODERS)}")
    try:
        vae = AUTOENCODERS[name].from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise Graph2ImageError(f"cannot load the autoencoder in {folder}: {error}") from error
    return vae.requires_grad_(False).eval()
