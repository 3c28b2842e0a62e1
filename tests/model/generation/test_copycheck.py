"""The copy check against a data root with real images, their hashes and an encoder."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from tiny_data import DIM, ENCODER, tiny_clip

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import IMAGE_SCHEMA, ITEM_SCHEMA, embedding_schema
from ingest.encoders.checkpoint import load_encoder, publish_encoder
from ingest.errors import Graph2ImageError
from ingest.images.store import inspect_image, perceptual_hash
from model.generation import copycheck
from model.generation.copycheck import CopyCheck
from model.generation.requests import CopyThresholds

TRAINING, HELD_OUT = 30, 5
#: The random encoder finds all images alike, so the hashes decide.
THRESHOLDS = CopyThresholds(similarity=1.1, bits=40)


def paint(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = np.zeros((48, 48, 3))
    for detail in (6, 24):
        coarse = Image.fromarray(rng.integers(0, 256, (detail, detail, 3), np.uint8))
        pixels += np.asarray(coarse.resize((48, 48), Image.Resampling.BICUBIC)) / 2
    return Image.fromarray(pixels.astype(np.uint8))


class Gallery:
    """Training images 0 to 29, held-out ones 30 to 34, each with a vector and a hash."""

    def __init__(self, folder: Path) -> None:
        self.data = DataRoot(str(folder))
        publish_encoder(self.data, ENCODER, *tiny_clip(), {})
        encoder = load_encoder(self.data, ENCODER)
        self.images = [paint(seed) for seed in range(TRAINING + HELD_OUT)]
        self.hashes, rows, items = [], [], []
        for number, image in enumerate(self.images):
            content = io.BytesIO()
            image.save(content, "png")
            self.hashes.append(hashlib.sha256(content.getvalue()).hexdigest())
            info = inspect_image(content.getvalue())
            assert info.perceptual_hash == perceptual_hash(image)
            row = {"image_hash": self.hashes[-1], "path": "", "width": 48, "height": 48, "format": "PNG"}
            rows.append(row | {"perceptual_hash": info.perceptual_hash})
            split = "train" if number < TRAINING else "test"
            item = {"item_id": f"g:{number}", "label": "Work", "split": split, "group_id": "", "opted_out": False}
            items.append(item | {"image_hash": self.hashes[-1]})
        self.data.append("images", pa.Table.from_pylist(rows, IMAGE_SCHEMA), IMAGE_SCHEMA)
        self.data.publish("items/g", [pa.Table.from_pylist(items, ITEM_SCHEMA)], ITEM_SCHEMA)
        self.vectors = encoder.encode_images([encoder.prepare(image) for image in self.images]).numpy()
        schema = embedding_schema("image_hash", DIM)
        for part in (slice(0, 11), slice(11, None)):
            table = pa.table([self.hashes[part], list(self.vectors[part])], schema=schema)
            self.data.append(f"embeddings/{ENCODER}", table, schema)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return Gallery(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copycheck, "_BLOCK", 7)


@pytest.mark.slow
def test_copies_are_found_and_others_are_not(gallery: Gallery) -> None:
    neighbors = [gallery.hashes[4], gallery.hashes[9]]
    check = CopyCheck(gallery.data, ENCODER, neighbors, THRESHOLDS, "cpu")
    jpeg = io.BytesIO()
    gallery.images[23].save(jpeg, "jpeg", quality=80)
    made = [gallery.images[9], Image.open(jpeg), paint(1000)]
    of_neighbor, of_training, own = check.score(made, [neighbors, neighbors, neighbors])
    assert of_neighbor.flagged
    assert of_neighbor.neighbor_similarity == pytest.approx(1, abs=1e-5)
    assert (of_neighbor.neighbor_bits, of_neighbor.training_bits) == (0, 0)
    assert of_training.flagged
    assert of_training.training_bits is not None
    assert of_training.training_bits <= 40 < (of_training.neighbor_bits or 0)
    assert not own.flagged


def test_a_held_out_image_counts_as_a_neighbor_only(gallery: Gallery) -> None:
    target, text_only = CopyCheck(gallery.data, ENCODER, gallery.hashes[-1:], THRESHOLDS, "cpu").score(
        [gallery.images[-1]] * 2, [gallery.hashes[-1:], []]
    )
    assert (target.neighbor_bits, target.flagged) == (0, True)
    assert (text_only.neighbor_bits, text_only.neighbor_similarity, text_only.flagged) == (None, None, False)
    assert text_only.training_bits == target.training_bits
    assert (text_only.training_bits or 0) > 40


@pytest.mark.slow
@given(seed=st.integers(1000, 10_000), block=st.integers(1, 40))
@hypothesis_settings(max_examples=8)
def test_the_search_is_exact(gallery: Gallery, seed: int, block: int) -> None:
    image = paint(seed)
    check = CopyCheck(gallery.data, ENCODER, [], THRESHOLDS, "cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copycheck, "_BLOCK", block)
        (scores,) = check.score([image], [[]])
    encoder = load_encoder(gallery.data, ENCODER)
    own = encoder.encode_images([encoder.prepare(image)]).numpy()[0]
    cosines = gallery.vectors[:TRAINING] @ own
    bits = [
        (int(perceptual_hash(other), 16) ^ int(perceptual_hash(image), 16)).bit_count()
        for other in gallery.images[:TRAINING]
    ]
    assert scores.training_similarity == pytest.approx(cosines.max(), abs=1e-6)
    nearest = gallery.hashes.index(scores.nearest_image or "")
    assert cosines[nearest] == pytest.approx(cosines.max(), abs=1e-6)
    assert scores.training_bits == min(bits)


def test_thresholds_decide(gallery: Gallery) -> None:
    def flagged(thresholds: CopyThresholds) -> bool:
        (scores,) = CopyCheck(gallery.data, ENCODER, [], thresholds, "cpu").score([paint(77)], [[]])
        return scores.flagged

    assert not flagged(CopyThresholds(1.1, -1))
    assert flagged(CopyThresholds(-1.0, -1))
    assert flagged(CopyThresholds(1.1, 256))


def test_images_without_vector_or_hash_are_passed_over(gallery: Gallery, tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path))
    publish_encoder(data, ENCODER, *tiny_clip(), {})
    schema = embedding_schema("image_hash", DIM)
    table = pa.table([gallery.hashes[:1], list(gallery.vectors[:1])], schema=schema)
    data.append(f"embeddings/{ENCODER}", table, schema)
    item = {"label": "Work", "split": "train", "group_id": "", "opted_out": False}
    items = [item | {"item_id": f"g:{n}", "image_hash": name} for n, name in enumerate(gallery.hashes[:3])]
    data.publish("items/g", [pa.Table.from_pylist(items, ITEM_SCHEMA)], ITEM_SCHEMA)
    row = {"image_hash": gallery.hashes[2], "path": "", "width": 1, "height": 1, "format": "PNG"}
    rows = [row | {"perceptual_hash": "0"}]  # of an earlier version
    data.append("images", pa.Table.from_pylist(rows, IMAGE_SCHEMA), IMAGE_SCHEMA)
    (scores,) = CopyCheck(data, ENCODER, gallery.hashes[2:3], THRESHOLDS, "cpu").score(
        [gallery.images[0]], [gallery.hashes[2:3]]
    )
    assert (scores.training_bits, scores.neighbor_bits, scores.neighbor_similarity) == (None, None, None)
    assert scores.nearest_image == gallery.hashes[0]


def test_nothing_to_compare_with(gallery: Gallery, tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path))
    with pytest.raises(Graph2ImageError, match="no encoder 'tiny'"):
        CopyCheck(data, ENCODER, [], THRESHOLDS, "cpu")
    publish_encoder(data, ENCODER, *tiny_clip(), {})
    schema = embedding_schema("image_hash", DIM)
    data.append(f"embeddings/{ENCODER}", schema.empty_table(), schema)
    (scores,) = CopyCheck(data, ENCODER, [], THRESHOLDS, "cpu").score([gallery.images[0]], [[]])
    assert replace(scores, flagged=True) != scores
    assert (scores.training_similarity, scores.nearest_image, scores.training_bits) == (None, None, None)
