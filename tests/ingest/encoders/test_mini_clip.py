"""What a mini CLIP learns: the words, and what the words leave out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from shapes import COLORS, SHAPES, TINY, UNTRAINED, ShapeItem, shape_items, write_items
from torch import Tensor

from ingest.datasets.root import DataRoot
from ingest.encoders.checkpoint import load_encoder
from ingest.encoders.embed import embed
from ingest.encoders.mini_clip import _contrast, _random_view, train_on_pixels
from ingest.encoders.mini_config import MEAN, STD, MiniClipConfig, mini_encoder_id

ITEMS = shape_items(400, test=96)


def nearest_centroid(vectors: Tensor, labels: np.ndarray, held_out: np.ndarray) -> float:
    """Share of the held-out vectors that are nearest to the mean of their own label's other vectors."""
    names = np.unique(labels)
    centers = torch.stack([vectors[(labels == name) & ~held_out].mean(0) for name in names])
    nearest = torch.cdist(vectors[held_out], centers).argmin(1).numpy()
    return float((names[nearest] == labels[held_out]).mean())


@pytest.mark.slow
def test_learns_the_words_and_keeps_the_color(data: DataRoot) -> None:
    write_items(data, ITEMS)
    report = embed(data, encoder=TINY, device="cpu")
    table = data.read(f"embeddings/{report.encoder}")
    stored = dict(zip(table["image_hash"].to_pylist(), table["embedding"].to_pylist(), strict=True))
    pictures = torch.tensor([stored[item.image_hash] for item in ITEMS])
    held_out = np.array([item.split == "test" for item in ITEMS])

    encoder = load_encoder(data, report.encoder)
    texts = encoder.encode_texts([f"one {shape}" for shape in SHAPES])
    told = (pictures[held_out] @ texts.T).argmax(1).numpy()
    right = np.array([SHAPES[index] for index in told]) == np.array([i.shape for i in ITEMS])[held_out]
    assert right.mean() > 0.7  # 0.25 by chance
    assert nearest_centroid(pictures, np.array([item.color for item in ITEMS]), held_out) > 0.8  # no text names it


def pixels_of(items: list[ShapeItem]) -> np.ndarray:
    rng = np.random.default_rng(0)
    colors = np.array([COLORS[item.color] for item in items], np.uint8)
    noise = rng.integers(0, 20, (len(items), 3, 32, 32), np.uint8)
    return np.minimum(colors[:, :, None, None], 235).astype(np.uint8) + noise


def test_same_seed_same_weights_and_no_trace_in_the_global_generator() -> None:
    config = UNTRAINED.model_copy(update={"base_steps": 3, "max_steps": 3})
    pixels, texts = pixels_of(ITEMS[:32]), [item.shape for item in ITEMS[:32]]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, losses = train_on_pixels(pixels, texts, config)
    assert torch.equal(torch.rand(3), expected)
    second, again = train_on_pixels(pixels, texts, config)
    assert losses == pytest.approx(again, abs=1e-3)
    torch.testing.assert_close(first.state_dict(), second.state_dict(), atol=1e-4, rtol=1e-3)
    other, _ = train_on_pixels(pixels, texts, config.model_copy(update={"seed": 1}))
    assert not torch.allclose(other.visual.conv1.weight, first.visual.conv1.weight)


def test_id_names_configuration_and_pairs() -> None:
    pairs = [("a", "one"), ("b", "two")]
    names = {
        mini_encoder_id(pairs, TINY),
        mini_encoder_id(pairs[:1], TINY),
        mini_encoder_id(pairs, TINY.model_copy(update={"seed": 1})),
    }
    assert len(names) == 3
    assert mini_encoder_id(list(pairs), TINY) in names


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_more_pairs_never_mean_fewer_steps(first: int, second: int) -> None:
    config = MiniClipConfig()
    fewer, more = sorted((first, second))
    assert config.base_steps <= config.steps(fewer) <= config.steps(more) <= config.max_steps


@given(st.integers(2, 12), st.integers(0, 1000))
def test_without_equal_texts_the_loss_is_clips(count: int, seed: int) -> None:
    logits = torch.randn(count, count, generator=torch.Generator().manual_seed(seed))
    each = torch.arange(count)
    clip = (F.cross_entropy(logits, each) + F.cross_entropy(logits.T, each)) / 2
    torch.testing.assert_close(_contrast(logits, torch.eye(count, dtype=torch.bool)), clip)


def test_equal_texts_are_not_told_apart() -> None:
    same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    best = torch.where(same, 30.0, 0.0)
    assert _contrast(best, same) == pytest.approx(2 / 3 * np.log(2), abs=1e-4)  # the least that two positives allow
    torn = best.clone()
    torn[0, 1] = torn[1, 0] = 0.0
    assert _contrast(torn, same) > _contrast(best, same) + 1


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.integers(0, 1000))
def test_views_keep_the_color(red: int, green: int, blue: int, seed: int) -> None:
    images = torch.tensor([red, green, blue], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 16, 16)
    views = _random_view(images, 0.5, torch.Generator().manual_seed(seed))
    seen = (views * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) * 255
    torch.testing.assert_close(seen, images.float(), atol=0.01, rtol=0)
