"""Images to latents, once per image: square crops, the autoencoder's pass, the `latents/<vae_id>-<size>` datasets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import torch
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from ingest.datasets.root import DataRoot
from ingest.images.loading import image_paths, load_pictures

logger = logging.getLogger(__name__)

#: Images per file of a latents dataset: what a killed run computes again at most.
SHARD_SIZE = 512
#: What is encoded at a time: at most so many images, and so many pixels.
_BATCH_SIZE, _BATCH_PIXELS = 64, 16 * 256**2


@dataclass(frozen=True)
class LatentReport:
    """Counts of `compute_latents`: the dataset, and how many images were new to it."""

    dataset: str
    new: int
    existing: int
    changed: bool


def square(picture: Image.Image, size: int) -> Image.Image:
    """The image at `size` x `size` pixels, cropped about its center."""
    return ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)


def load_squares(data: DataRoot, image_hashes: Sequence[str], size: int) -> npt.NDArray[np.uint8]:
    """Images by hash, as `(images, size, size, 3)` uint8.

    Raises
    ------
    Graph2ImageError
        If the `images` dataset has no such image, or its file cannot be read.
    """
    pictures = load_pictures(data, image_paths(data), image_hashes, lambda picture: np.asarray(square(picture, size)))
    return np.stack(list(pictures))


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


def latents_dataset(vae_id: str, image_size: int) -> str:
    """Name of the dataset that holds the latents of one autoencoder at one image size."""
    return f"latents/{vae_id}-{image_size}"


def compute_latents(
    data: DataRoot, vae: ModelMixin, vae_id: str, image_hashes: Sequence[str], image_size: int
) -> LatentReport:
    """Encode the images that have no latents yet, shard by shard.

    Writes `latents/<vae_id>-<size>`: `image_hash`, and the normalized latent flattened to float16; its shape is in the
    schema's metadata under `shape`.
    """
    name = latents_dataset(vae_id, image_size)
    done = set(data.read(name, ["image_hash"], pa.schema([("image_hash", pa.string())]))["image_hash"].to_pylist())
    wanted = sorted(set(image_hashes))
    missing = [image_hash for image_hash in wanted if image_hash not in done]
    for start in tqdm(range(0, len(missing), SHARD_SIZE), desc="latents", unit="shard", disable=None):
        shard = missing[start : start + SHARD_SIZE]
        latents = normalize_latents(vae, encode_images(vae, load_squares(data, shard, image_size))).half().numpy()
        shape = latents.shape[1:]
        schema = pa.schema(
            [("image_hash", pa.string()), ("latent", pa.list_(pa.float16(), int(np.prod(shape))))],
            metadata={"shape": orjson.dumps(shape)},
        )
        flat = pa.FixedSizeListArray.from_arrays(pa.array(latents.ravel()), int(np.prod(shape)))
        data.append(name, pa.table({"image_hash": shard, "latent": flat}, schema=schema), schema)
    if missing:
        logger.info("Encoded %d images to %s", len(missing), name)
    return LatentReport(name, len(missing), len(wanted) - len(missing), bool(missing))
