from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import TinyData

import model.training.latents
from ingest.errors import Graph2ImageError
from ingest.images.loading import load_squares, square
from model.networks.autoencoder import MiniAutoencoder
from model.networks.latents import encode_images, normalize_latents
from model.training.latents import compute_latents


@pytest.fixture
def vae() -> MiniAutoencoder:
    torch.manual_seed(0)
    model = MiniAutoencoder(channels=16, latent_channels=4, blocks=1, patch_size=4, spatial_factor=8)
    model.register_to_config(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 0.5, 1.0])
    return model.eval()


def test_only_new_images_are_encoded(tiny: TinyData, vae: MiniAutoencoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.training.latents, "SHARD_SIZE", 3)
    some, all_of_them = tiny.image_hashes[:7], tiny.image_hashes
    first = compute_latents(tiny.root, vae, "v", some, 32)
    assert (first.new, first.existing, first.changed) == (7, 0, True)
    second = compute_latents(tiny.root, vae, "v", all_of_them, 32)
    assert (second.new, second.existing) == (len(all_of_them) - 7, 7)
    third = compute_latents(tiny.root, vae, "v", all_of_them, 32)
    assert (third.new, third.changed) == (0, False)
    assert first.dataset == "latents/v-32"

    table = tiny.root.read(third.dataset)
    latents = torch.from_numpy(np.array(table["latent"].to_pylist(), np.float16)).reshape(-1, 4, 4, 4)
    order = table["image_hash"].to_pylist()
    assert sorted(order) == sorted(all_of_them)
    expected = normalize_latents(vae, encode_images(vae, load_squares(tiny.root, order, 32)))
    torch.testing.assert_close(latents.float(), expected, atol=2e-3, rtol=2e-3)


def test_unknown_and_damaged_images(tiny: TinyData, vae: MiniAutoencoder) -> None:
    with pytest.raises(Graph2ImageError, match="no image f00"):
        load_squares(tiny.root, ["f00"], 32)
    image_hash = tiny.image_hashes[0]
    Path(tiny.root.path(f"images/files/{image_hash[:2]}/{image_hash}.png")).write_bytes(b"gone")
    with pytest.raises(Graph2ImageError, match="cannot read the image"):
        compute_latents(tiny.root, vae, "v", [image_hash], 32)


def test_padded_images_have_latents_of_their_own(tiny: TinyData, vae: MiniAutoencoder) -> None:
    cropped = compute_latents(tiny.root, vae, "vae", tiny.image_hashes[:2], 32)
    padded = compute_latents(tiny.root, vae, "vae", tiny.image_hashes[:2], 32, "pad")
    assert (cropped.new, padded.new) == (2, 2)
    assert cropped.dataset != padded.dataset


def test_square() -> None:
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste("blue", (0, 0, 5, 20))
    cropped, padded = (np.asarray(square(wide, 30, fit)) for fit in ("crop", "pad"))
    assert cropped.shape == padded.shape == (30, 30, 3)
    assert (cropped == (255, 0, 0)).all()
    assert (padded[[0, -1]] == 255).all()
    assert padded[15, 0, 2] > 200 > padded[15, 0, 0]
