from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from PIL import Image, ImageDraw
from tiny_data import TinyData

from ingest.errors import Graph2ImageError
from model.networks.autoencoder import MiniAutoencoder
from model.networks.latents import (
    denormalize_latents,
    encode_images,
    normalize_latents,
    spatial_factor,
    to_pixels,
)
from model.networks.taef2 import DECODER_FILE, ENCODER_FILE, TAEF2
from model.training.autoencoder import autoencoder_id, prepare_autoencoder, train_autoencoder
from model.training.config import AutoencoderConfig

CONFIG = AutoencoderConfig(channels=16, latent_channels=8, blocks=1, steps=100, batch_size=8, learning_rate=3e-3)


def squares(count: int = 12, size: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(count):
        image = Image.new("RGB", (size, size), tuple(rng.integers(256, size=3).tolist()))
        box = np.sort(rng.integers(size, size=(2, 2)), axis=0).T
        ImageDraw.Draw(image).ellipse([*box[:, 0], *box[:, 1]], fill=tuple(rng.integers(256, size=3).tolist()))
        images.append(np.asarray(image))
    return np.stack(images)


def error(vae: MiniAutoencoder, images: np.ndarray) -> float:
    pixels = to_pixels(images)
    return float((vae.decode(vae.encode(pixels).latents).sample - pixels).square().mean())


def test_training_learns_and_repeats() -> None:
    images = squares()
    before = images.copy()
    vae = train_autoencoder(images, CONFIG, seed=3)
    assert np.array_equal(images, before)
    constant = float((to_pixels(images) - to_pixels(images).mean()).square().mean())
    assert error(vae, images) < 0.5 * constant
    again = train_autoencoder(images, CONFIG, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(vae.parameters(), again.parameters(), strict=True))
    normalized = normalize_latents(vae, encode_images(vae, images))
    assert normalized.shape == (12, 8, 8, 8)
    torch.testing.assert_close(normalized.mean(dim=(0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalized.std(dim=(0, 2, 3)), torch.ones(8), atol=1e-3, rtol=0)


def test_prepared_once_and_loaded_after(tiny: TinyData) -> None:
    config = CONFIG.model_copy(update={"steps": 2})
    vae, vae_id = prepare_autoencoder(tiny.root, config, tiny.image_hashes, 32, seed=0)
    marker = Path(tiny.root.path("autoencoders", vae_id, "config.json"))
    written = marker.stat().st_mtime_ns
    again, again_id = prepare_autoencoder(tiny.root, config, tiny.image_hashes[::-1], 32, seed=0)
    assert again_id == vae_id == autoencoder_id(config, tiny.image_hashes, 32, seed=0)
    assert marker.stat().st_mtime_ns == written
    assert all(torch.equal(a, b) for a, b in zip(vae.parameters(), again.parameters(), strict=True))
    assert vae.config.latents_mean == again.config.latents_mean
    assert autoencoder_id(config, tiny.image_hashes[1:], 32, seed=0) != vae_id


@pytest.mark.parametrize("kind", [AutoencoderTiny, AutoencoderKL])
def test_a_diffusers_autoencoder(tiny: TinyData, tmp_path: Path, kind: type) -> None:
    if kind is AutoencoderTiny:
        sizes = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
        vae = AutoencoderTiny(
            encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), scaling_factor=0.5, **sizes
        )
    else:
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
        vae = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, scaling_factor=0.5, **blocks)
    folder = tmp_path / "vae"
    vae.save_pretrained(folder)
    config = CONFIG.model_copy(update={"path": str(folder)})
    loaded, vae_id = prepare_autoencoder(tiny.root, config, tiny.image_hashes, 32, seed=0)
    assert vae_id.startswith(kind.__name__)
    assert spatial_factor(loaded) == 2
    latents = encode_images(loaded, squares(2))
    assert latents.shape == (2, 4, 16, 16)
    torch.testing.assert_close(normalize_latents(loaded, latents), latents * 0.5)
    torch.testing.assert_close(denormalize_latents(loaded, normalize_latents(loaded, latents)), latents)


def test_folders_without_an_autoencoder(tiny: TinyData, tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        config = CONFIG.model_copy(update={"path": str(folder)})
        prepare_autoencoder(tiny.root, config, tiny.image_hashes, 32, seed=0)

    with pytest.raises(Graph2ImageError, match="no autoencoder in"):
        prepare(tmp_path / "nowhere")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    (foreign / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(Graph2ImageError, match="UNet2DModel is none of"):
        prepare(foreign)
    (foreign / "config.json").write_text('{"_class_name": "AutoencoderTiny"}')
    with pytest.raises(Graph2ImageError, match="cannot load"):
        prepare(foreign)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (ENCODER_FILE, DECODER_FILE):
        (broken / file).write_bytes(b"no tensors")
    with pytest.raises(Graph2ImageError, match=f"cannot load .*{ENCODER_FILE}"):
        prepare(broken)


def test_pickled_code_in_weight_files_is_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    for file in (ENCODER_FILE, DECODER_FILE):
        torch.save({"0.weight": Payload()}, tmp_path / file)
    with pytest.raises(Graph2ImageError, match="cannot load"):
        TAEF2.from_weight_files(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.skipif("GRAPH2IMAGE_SHARED" not in os.environ, reason="needs TAEF2's weights")
def test_taef2_reconstructs(tiny: TinyData) -> None:
    folder = Path(os.environ["GRAPH2IMAGE_SHARED"]) / "weights/taef2"
    config = CONFIG.model_copy(update={"path": str(folder)})
    vae, vae_id = prepare_autoencoder(tiny.root, config, tiny.image_hashes, 32, seed=0)
    assert vae_id.startswith("taef2-")
    assert len(vae.config.latents_mean) == 32
    assert error(vae, squares(size=64)) < 4 * 10**-2.8  # 28 dB
