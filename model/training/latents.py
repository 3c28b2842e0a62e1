"""The latents of the training images, computed once per image: the datasets `latents/<vae_id>-<size>`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
from diffusers.models.modeling_utils import ModelMixin
from tqdm.auto import tqdm

from ingest.datasets.root import DataRoot
from ingest.images.loading import Fit, load_squares
from model.networks.latents import encode_images, normalize_latents

logger = logging.getLogger(__name__)

#: Images per file of a latents dataset: what a killed run computes again at most.
SHARD_SIZE = 512


@dataclass(frozen=True)
class LatentReport:
    """Counts of `compute_latents`: the dataset, and how many images were new to it."""

    dataset: str
    new: int
    existing: int
    changed: bool


def latents_dataset(vae_id: str, image_size: int, fit: Fit) -> str:
    """Name of the dataset that holds the latents of one autoencoder, of images at one size and made square one way."""
    return f"latents/{vae_id}-{image_size}" + ("-padded" if fit == "pad" else "")


def compute_latents(
    data: DataRoot, vae: ModelMixin, vae_id: str, image_hashes: Sequence[str], image_size: int, fit: Fit = "crop"
) -> LatentReport:
    """Encode the images that have no latents yet, shard by shard.

    Writes `latents_dataset`: `image_hash`, and the normalized latent flattened to float16; its shape is in the
    schema's metadata under `shape`.
    """
    name = latents_dataset(vae_id, image_size, fit)
    done = set(data.read(name, ["image_hash"], pa.schema([("image_hash", pa.string())]))["image_hash"].to_pylist())
    wanted = sorted(set(image_hashes))
    missing = [image_hash for image_hash in wanted if image_hash not in done]
    for start in tqdm(range(0, len(missing), SHARD_SIZE), desc="latents", unit="shard", disable=None):
        shard = missing[start : start + SHARD_SIZE]
        pixels = load_squares(data, shard, image_size, fit)
        latents = normalize_latents(vae, encode_images(vae, pixels)).half().numpy()
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
