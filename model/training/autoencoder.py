"""The autoencoder of a training: a ready one from a folder, or a `MiniAutoencoder` made from its images."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial
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
from ingest.encoders.resuming import Checkpoints, State, load_optimized, optimized_state
from ingest.encoders.workers import Workers
from ingest.errors import Graph2ImageError
from ingest.images.loading import Fit, load_squares
from model.networks import taef2
from model.networks.autoencoder import AUTOENCODERS, MiniAutoencoder
from model.networks.latents import encode_images, to_pixels
from model.storage import local_folder, local_sha256, publish_folder
from model.training.config import AutoencoderConfig
from model.training.optimization import learning_rate_factor
from model.training.texture import texture_distance

logger = logging.getLogger(__name__)

#: Images that the latents' statistics are computed from.
_STATISTICS_IMAGES = 1024
#: Steps in which the learning rate rises.
_WARMUP_STEPS = 20


def train_autoencoder(
    squares: npt.NDArray[np.uint8], config: AutoencoderConfig, seed: int, checkpoints: Checkpoints | None = None
) -> MiniAutoencoder:
    """Train from scratch on `(images, size, size, 3)` uint8 images: random mirroring, cosine decay.

    The loss is the mean absolute error and `texture_weight` times the textures' distance (see `training.texture`). The
    result depends only on the other arguments than `checkpoints`, from the newest of which it goes on. It carries the
    latents' statistics and is in evaluation mode.
    """
    torch.manual_seed(seed)
    model: MiniAutoencoder = MiniAutoencoder(
        config.channels,
        config.latent_channels,
        config.blocks,
        config.patch_size,
        spatial_factor=2 * config.patch_size,
    )
    model.to(memory_format=torch.channels_last).train()
    optimized = dict(model.named_parameters())
    weights = list(optimized.values())
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)
    first_step = 0
    if checkpoints is not None and (state := checkpoints.load_newest()) is not None:
        load_optimized(state, optimized, optimizer)
        first_step = int(state.numbers["step"])
        logger.info("The training of the autoencoder continues at step %d of %d", first_step, config.steps)

    def share(pixels: Tensor) -> Tensor:
        """The micro-batch's share of the loss of a step."""
        with bf16_autocast():
            decoded: Tensor = model.decoder(model.encoder(pixels))
        decoded = decoded.float()
        errors = (decoded - pixels).abs().mean(dim=(1, 2, 3))
        if config.texture_weight:
            errors = errors + config.texture_weight * texture_distance(decoded, pixels)
        return errors.sum() / config.batch_size

    def state_after(step: int) -> State:
        kept = optimized_state(optimized, optimizer)
        return State(kept.tensors, {**kept.numbers, "step": step})

    progress = tqdm(
        range(first_step, config.steps),
        desc="autoencoder",
        initial=first_step,
        total=config.steps,
        unit="step",
        disable=None,
    )
    loss = torch.tensor(math.nan)
    with Workers() as workers:
        for step in progress:
            draw = np.random.default_rng((seed, step))
            batch = squares[draw.integers(len(squares), size=config.batch_size)]
            mirrored = draw.random(config.batch_size) < 0.5
            batch[mirrored] = batch[mirrored, :, ::-1]
            pixels = to_pixels(batch).contiguous(memory_format=torch.channels_last)
            loss = workers.backward(share, pixels.chunk(workers.parts), weights)
            nn.utils.clip_grad_norm_(weights, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * learning_rate_factor(step, _WARMUP_STEPS, config.steps)
            optimizer.step()
            progress.set_postfix(loss=f"{loss.item():.4f}")
            if checkpoints is not None:
                checkpoints.save_if_due(step + 1, partial(state_after, step + 1))
    logger.info("Trained the autoencoder: loss %.4f on the last batch", loss.item())
    model.requires_grad_(False).eval()
    _set_statistics(model, squares)
    return model


def _set_statistics(model: MiniAutoencoder | taef2.TAEF2, squares: npt.NDArray[np.uint8]) -> None:
    latents = encode_images(model, squares[:_STATISTICS_IMAGES])
    model.register_to_config(
        latents_mean=latents.mean(dim=(0, 2, 3)).tolist(),
        latents_std=latents.std(dim=(0, 2, 3)).clamp(min=1e-6).tolist(),
    )


def autoencoder_id(
    config: AutoencoderConfig, image_hashes: Sequence[str], image_size: int, seed: int, fit: Fit = "crop"
) -> str:
    """Id of the autoencoder that `prepare_autoencoder` gives for these arguments, without making it.

    Derived from what determines its weights: the local weight files, or the recipe and the images.

    Raises
    ------
    Graph2ImageError
        If `config.path` has no weight files.
    """
    if config.path is None:
        recipe = config.model_dump(exclude={"path"})
        return f"mini-ae-{digest(recipe, sorted(image_hashes), image_size, seed, *_not_cropped(fit))}"
    folder = Path(config.path)
    if _is_taef2(folder):
        weights = [local_sha256(folder / file) for file in (taef2.ENCODER_FILE, taef2.DECODER_FILE)]
        statistics = sorted(image_hashes)[:_STATISTICS_IMAGES]
        return f"taef2-{digest(weights, statistics, image_size, *_not_cropped(fit))}"
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    if len(files) < 2 or not files[0].is_file():
        raise Graph2ImageError(
            f"there is no autoencoder in {folder}",
            f"autoencoder.path names a folder with config.json and safetensors weights, or with {taef2.ENCODER_FILE} "
            f"and {taef2.DECODER_FILE}.",
        )
    return f"{_class_name(folder)}-{digest([local_sha256(file) for file in files])}"


def _not_cropped(fit: Fit) -> list[str]:
    """What a digest has of the way that images are made square: nothing for the usual one."""
    return [] if fit == "crop" else [fit]


def prepare_autoencoder(
    data: DataRoot,
    config: AutoencoderConfig,
    image_hashes: Sequence[str],
    image_size: int,
    seed: int,
    fit: Fit = "crop",
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
    vae_id = autoencoder_id(config, image_hashes, image_size, seed, fit)
    name = f"autoencoders/{vae_id}"
    if not data.exists(f"{name}/config.json"):
        checkpoints = Checkpoints(data, f"training/{name}", kept=1)
        vae = _make_autoencoder(data, config, sorted(image_hashes), image_size, seed, fit, checkpoints)
        publish_folder(data, name, vae.save_pretrained, marker="config.json")
        checkpoints.remove()
    with local_folder(data, name) as folder:
        return load_autoencoder(folder), vae_id


def _make_autoencoder(
    data: DataRoot,
    config: AutoencoderConfig,
    image_hashes: Sequence[str],
    image_size: int,
    seed: int,
    fit: Fit,
    checkpoints: Checkpoints,
) -> ModelMixin:
    if config.path is None:
        logger.info("Training an autoencoder on %d images, %d steps", len(image_hashes), config.steps)
        return train_autoencoder(load_squares(data, image_hashes, image_size, fit), config, seed, checkpoints)
    vae = load_autoencoder(Path(config.path))
    if isinstance(vae, taef2.TAEF2):
        _set_statistics(vae, load_squares(data, image_hashes[:_STATISTICS_IMAGES], image_size, fit))
    return vae


def _is_taef2(folder: Path) -> bool:
    return (folder / taef2.ENCODER_FILE).is_file() and (folder / taef2.DECODER_FILE).is_file()


def _class_name(folder: Path) -> str:
    try:
        return str(orjson.loads((folder / "config.json").read_bytes())["_class_name"])
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise Graph2ImageError(f"{folder / 'config.json'} is not the configuration of a diffusers model") from error


def load_autoencoder(folder: Path) -> ModelMixin:
    """The autoencoder in a folder, as `AutoencoderConfig.path` names one, frozen and in evaluation mode.

    Raises
    ------
    Graph2ImageError
        If there is none, or it cannot be used.
    """
    if _is_taef2(folder):
        return taef2.TAEF2.from_weight_files(folder)
    name = _class_name(folder)
    if name not in AUTOENCODERS:
        raise Graph2ImageError(f"cannot use the autoencoder in {folder}: {name} is none of {', '.join(AUTOENCODERS)}")
    try:
        vae = AUTOENCODERS[name].from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise Graph2ImageError(f"cannot load the autoencoder in {folder}: {error}") from error
    return vae.requires_grad_(False).eval()
