from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import ENCODER, ITEMS, NEIGHBORS, TEST_ITEMS, TinyData, make_data

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import NEIGHBOR_SCHEMA
from ingest.datasets.vectors import image_vectors
from ingest.encoders.embed import UNREADABLE_SCHEMA
from ingest.errors import Graph2ImageError
from model.networks.autoencoder import MiniAutoencoder
from model.networks.text_encoders import TextEncoders
from model.training.array_files import ArrayWriter
from model.training.arrays import TrainingArrays, build_arrays, open_arrays
from model.training.config import GraphEncoderConfig
from model.training.encoders import load_text_encoder
from model.training.items import (
    StringIndex,
    TrainingItems,
    read_training_items,
)
from model.training.latents import compute_latents

IMAGES = GraphEncoderConfig(max_neighbors=3, tokens_per_neighbor=2, cross_attention_freq=1, num_hidden_layers=1)
EVERYTHING = IMAGES.model_copy(update={"neighbor_content": "both", "neighbor_weights": True, "relation_types": True})


def arrays_of(data: TinyData, folder: Path, config: GraphEncoderConfig) -> tuple[TrainingItems, TrainingArrays]:
    items = read_training_items(data.root, NEIGHBORS, config, encoder=ENCODER)
    torch.manual_seed(0)
    vae = MiniAutoencoder(channels=16, latent_channels=4, blocks=1, patch_size=4, spatial_factor=8).eval()
    latents = compute_latents(data.root, vae, "v", items.image_hashes, 32).dataset
    texts = TextEncoders(*load_text_encoder(data.root, ENCODER))
    return items, build_arrays(
        folder, folder.with_name("texts"), data.root, items, config, texts, encoder=ENCODER, latents=latents
    )


def neighbors_of(items: TrainingItems) -> list[list[str]]:
    hashes = iter(items.neighbors["image_hash"].to_pylist())
    return [[next(hashes) for _ in range(count)] for count in items.neighbor_counts]


def publish_neighbors(data: DataRoot, name: str, rows: list[dict[str, object]]) -> None:
    data.publish(
        f"neighbors/{name}", [pa.Table.from_pylist(rows, NEIGHBOR_SCHEMA)], NEIGHBOR_SCHEMA, {"encoder": ENCODER}
    )


# -- items -------------------------------------------------------------------------------------------------------------


def test_only_training_items_are_read(shared_tiny: TinyData) -> None:
    items = read_training_items(shared_tiny.root, NEIGHBORS, IMAGES)
    assert items.table["item_id"].to_pylist() == shared_tiny.item_ids[TEST_ITEMS:]
    assert items.image_hashes == shared_tiny.image_hashes[TEST_ITEMS:]
    assert items.neighbor_counts.tolist() == [min(index % 5, 3) for index in range(TEST_ITEMS, ITEMS)]
    assert (items.left_out, items.sources) == (0, {"toy": ITEMS - TEST_ITEMS})


def test_neighbors_are_the_best_in_their_order(shared_tiny: TinyData) -> None:
    items = read_training_items(shared_tiny.root, NEIGHBORS, EVERYTHING)
    rows = shared_tiny.root.read(f"neighbors/{NEIGHBORS}").to_pylist()
    expected = {row["item_id"]: [n["image_hash"] for n in row["neighbors"][:3]] for row in rows}
    assert neighbors_of(items) == [expected[item_id] for item_id in items.table["item_id"].to_pylist()]
    text_of = dict(zip(shared_tiny.image_hashes, shared_tiny.texts, strict=True))
    assert items.neighbors["text"].to_pylist() == [
        text_of[image_hash] for image_hash in items.neighbors["image_hash"].to_pylist()
    ]


def test_withdrawn_items_are_neither_trained_on_nor_neighbors(shared_tiny: TinyData) -> None:
    everything = read_training_items(shared_tiny.root, NEIGHBORS, IMAGES)
    gone, gone_hash = everything.table["item_id"][0].as_py(), everything.image_hashes[0]
    before = [hashes for hashes in neighbors_of(everything)[1:] if gone_hash in hashes]
    assert before
    kept = read_training_items(shared_tiny.root, NEIGHBORS, IMAGES, withdrawn={gone})
    assert kept.image_hashes == everything.image_hashes[1:]
    assert kept.left_out == 1
    assert not any(gone_hash in hashes for hashes in neighbors_of(kept))
    # The next best takes the place of one that is gone.
    assert sum(map(len, neighbors_of(kept))) >= sum(map(len, neighbors_of(everything)[1:])) - len(before)


def test_items_whose_image_cannot_be_read_are_left_out_and_counted(tiny: TinyData) -> None:
    lost = tiny.image_hashes[TEST_ITEMS]
    table = pa.table([[lost], ["cannot read it"]], schema=UNREADABLE_SCHEMA)
    tiny.root.publish(f"unreadable/{ENCODER}", [table], UNREADABLE_SCHEMA)
    items = read_training_items(tiny.root, NEIGHBORS, IMAGES, encoder=ENCODER)
    assert items.left_out == 1
    assert lost not in items.image_hashes


def test_the_digest_is_of_what_the_model_sees(shared_tiny: TinyData) -> None:
    def digest(config: GraphEncoderConfig) -> str:
        return read_training_items(shared_tiny.root, NEIGHBORS, config).digest()

    assert digest(IMAGES) == digest(IMAGES)
    fewer = IMAGES.model_copy(update={"max_neighbors": 1})
    assert len({digest(IMAGES), digest(fewer), digest(EVERYTHING)}) == 3


def test_the_digest_is_the_same_however_the_rows_are_stored(tiny: TinyData) -> None:
    rows = tiny.root.read(f"neighbors/{NEIGHBORS}")
    parts = [rows.slice(start, 3) for start in reversed(range(0, len(rows), 3))]
    tiny.root.publish("neighbors/parts", parts, NEIGHBOR_SCHEMA, {"encoder": ENCODER})
    assert len(tiny.root.snapshot("neighbors/parts").files) > 3  # type: ignore[union-attr]
    for config in (IMAGES, EVERYTHING):
        whole, parted = (read_training_items(tiny.root, name, config) for name in (NEIGHBORS, "parts"))
        assert whole.digest() == parted.digest()
        assert neighbors_of(whole) == neighbors_of(parted)


@given(st.lists(st.text(max_size=5)), st.lists(st.text(max_size=5)))
def test_strings_are_found_where_they_are(column: list[str], wanted: list[str]) -> None:
    clean = [text.replace("\0", "") for text in column]
    looked_for = [text.replace("\0", "") for text in wanted]
    index = StringIndex(pa.array(clean, pa.string()))
    places = index.find(pa.array(looked_for, pa.string()))
    assert [None if place < 0 else clean[index.rows[place]] for place in places] == [
        text if text in clean else None for text in looked_for
    ]


# -- arrays ------------------------------------------------------------------------------------------------------------


def test_batches_have_what_the_datasets_have(tiny: TinyData, tmp_path: Path) -> None:
    items, arrays = arrays_of(tiny, tmp_path / "arrays", EVERYTHING)
    texts = TextEncoders(*load_text_encoder(tiny.root, ENCODER))
    vectors = image_vectors(tiny.root, ENCODER, pa.array(tiny.image_hashes))
    rows = {image_hash: row for row, image_hash in enumerate(tiny.image_hashes)}
    embeddings = torch.from_numpy(vectors.matrix)
    nothing = torch.zeros(len(items), dtype=torch.bool)
    batch = arrays.batch(torch.arange(len(items)), nothing, nothing)
    encoded = texts.encode(items.table["text"].to_pylist())
    torch.testing.assert_close(batch.text_hidden, encoded.hidden.half())
    assert torch.equal(batch.input_ids, encoded.input_ids)
    assert arrays.names(torch.tensor([2])) == [items.table["item_id"][2].as_py()]
    sampled = {row["item_id"]: row["neighbors"] for row in tiny.root.read(f"neighbors/{NEIGHBORS}").to_pylist()}
    neighbors = batch.neighbors
    assert neighbors.neighbor_embeds is not None
    assert neighbors.neighbor_text_embeds is not None
    text_of = dict(zip(tiny.image_hashes, tiny.texts, strict=True))
    for index, item_id in enumerate(items.table["item_id"].to_pylist()):
        expected = sampled[item_id][:3]
        count = len(expected)
        assert neighbors.neighbor_mask[index].tolist() == [place < count for place in range(3)]
        assert not neighbors.neighbor_embeds[index, count:].any()
        assert not neighbors.neighbor_text_embeds[index, count:].any()
        for place, neighbor in enumerate(expected):
            assert torch.equal(neighbors.neighbor_embeds[index, place], embeddings[rows[neighbor["image_hash"]]])
            summary = texts.encode([text_of[neighbor["image_hash"]]]).summary[0]
            torch.testing.assert_close(neighbors.neighbor_text_embeds[index, place], summary)
    assert neighbors.neighbor_weights.sum() == neighbors.neighbor_mask.sum()
    assert torch.equal(neighbors.neighbor_types, neighbors.neighbor_mask.long())
    assert items.relation_types == ("x",)


def test_what_is_dropped_is_the_empty_text_and_no_neighbors(tiny: TinyData, tmp_path: Path) -> None:
    items, arrays = arrays_of(tiny, tmp_path / "arrays", EVERYTHING)
    index = int(items.neighbor_counts.argmax())
    batch = arrays.batch(torch.full((3,), index), torch.tensor([False, True, True]), torch.tensor([True, False, True]))
    empty = TextEncoders(*load_text_encoder(tiny.root, ENCODER)).encode([""])
    assert torch.equal(batch.input_ids[1], empty.input_ids[0])
    assert torch.equal(batch.text_hidden[1:], empty.hidden.half().expand(2, -1, -1))
    assert batch.neighbors.neighbor_mask.any(dim=1).tolist() == [False, True, False]
    for value in batch.neighbors.tensors().values():
        assert not value[[0, 2]].any()


def test_latents_of_both_sizes_are_of_the_same_images(tiny: TinyData, tmp_path: Path) -> None:
    items = read_training_items(tiny.root, NEIGHBORS, IMAGES, encoder=ENCODER)
    vae = MiniAutoencoder(channels=16, latent_channels=4, blocks=1, patch_size=4, spatial_factor=8).eval()
    whole = compute_latents(tiny.root, vae, "v", items.image_hashes, 32).dataset
    # In another order, since each half is computed on its own.
    for half in (items.image_hashes[3:], items.image_hashes[:3]):
        coarse = compute_latents(tiny.root, vae, "v", half, 16).dataset
    texts = TextEncoders(*load_text_encoder(tiny.root, ENCODER))
    arrays = build_arrays(
        tmp_path / "arrays",
        tmp_path / "texts",
        tiny.root,
        items,
        IMAGES,
        texts,
        encoder=ENCODER,
        latents=whole,
        coarse_latents=coarse,
    )
    nothing = torch.zeros(len(items), dtype=torch.bool)
    seen = arrays.batch(torch.arange(len(items)), nothing, nothing, coarse=True).latents
    assert seen.shape == (len(items), 4, 2, 2)
    of_image = {row["image_hash"]: row["latent"] for row in tiny.root.read(coarse).to_pylist()}
    for latent, image_hash in zip(seen, items.image_hashes, strict=True):
        assert latent.flatten().tolist() == of_image[image_hash]
    assert sorted(path.name for path in (tmp_path / "arrays").glob("coarse*")) == ["coarse_latents.npy"]


def test_images_alone_need_no_other_array(tiny: TinyData, tmp_path: Path) -> None:
    _, arrays = arrays_of(tiny, tmp_path / "arrays", IMAGES)
    assert arrays.text_summary is None
    assert set(arrays.batch(torch.tensor([0]), torch.tensor([False]), torch.tensor([False])).neighbors.tensors()) == {
        "neighbor_embeds",
        "neighbor_mask",
    }


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3))
def test_each_epoch_sees_every_item_once(length: int, batch_size: int, seed: int) -> None:
    arrays = TrainingArrays(np.zeros(length, "S1"), *[torch.zeros(0)] * 14)
    steps = math.ceil(3 * length / batch_size)
    order = torch.cat([arrays.indices(seed, step * batch_size, batch_size) for step in range(steps)]).tolist()
    for epoch in range(3):
        assert sorted(order[epoch * length : (epoch + 1) * length]) == list(range(length))


@given(st.lists(st.integers(0, 5), max_size=4), st.sampled_from(["float16", "int32", "float32"]))
def test_arrays_are_written_in_parts(lengths: list[int], dtype: str) -> None:
    parts = [np.arange(6 * length).reshape(length, 2, 3) for length in lengths]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npy"
        with ArrayWriter(path, (2, 3), dtype) as writer:
            for part in parts:
                writer.append(part)
        read = np.load(path)
    assert (read.dtype, read.shape) == (np.dtype(dtype), (sum(lengths), 2, 3))
    assert np.array_equal(read, np.concatenate([np.zeros((0, 2, 3)), *parts]))


@pytest.mark.slow
def test_a_killed_build_starts_again_cleanly(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    folder = tmp_path / "arrays"
    code = (
        "import sys, time; sys.path[:0] = [sys.argv[1], sys.argv[1] + '/..']\n"
        "from pathlib import Path\n"
        "import model.training.arrays\n"
        "from tiny_data import TinyData, DataRoot\n"
        "from test_training_data import EVERYTHING, arrays_of\n"
        "model.training.arrays._write_neighbor_texts = lambda *a: time.sleep(300)\n"  # killed in the middle
        "data = TinyData(DataRoot(sys.argv[2]), [], [], [], Path())\n"
        "arrays_of(data, Path(sys.argv[3]), EVERYTHING)"
    )
    here = Path(__file__).parent
    arguments = [str(here), data.root.url, str(folder)]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=here.parents[2])
    half = tmp_path / ".arrays.tmp" / "neighbor_index.npy"
    deadline = time.monotonic() + 300
    while not half.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert half.exists()
    assert open_arrays(folder, tmp_path / "texts") is None

    _, arrays = arrays_of(data, folder, EVERYTHING)
    assert len(arrays) == ITEMS - TEST_ITEMS
    assert not half.exists()


def test_damaged_arrays(tiny: TinyData, tmp_path: Path) -> None:
    folder = tmp_path / "arrays"
    arrays_of(tiny, folder, IMAGES)
    (folder / "latents.npy").write_bytes(b"damaged")
    with pytest.raises(Graph2ImageError, match=r"latents\.npy has changed") as error:
        open_arrays(folder, tmp_path / "texts")
    assert "Delete the folder" in str(error.value.hint)
    (folder / "latents.npy").unlink()
    with pytest.raises(Graph2ImageError, match=r"latents\.npy is missing"):
        open_arrays(folder, tmp_path / "texts")


def test_items_without_latents_or_embeddings_are_named(tiny: TinyData, tmp_path: Path) -> None:
    items = read_training_items(tiny.root, NEIGHBORS, IMAGES)
    vae = MiniAutoencoder(channels=16, latent_channels=4, blocks=1, patch_size=4, spatial_factor=8).eval()
    texts = TextEncoders(*load_text_encoder(tiny.root, ENCODER))
    latents = compute_latents(tiny.root, vae, "v", items.image_hashes[1:], 32).dataset
    with pytest.raises(Graph2ImageError, match=f"1 items have no latents in latents/v-32.*{tiny.item_ids[TEST_ITEMS]}"):
        build_arrays(
            tmp_path / "a", tmp_path / "texts", tiny.root, items, IMAGES, texts, encoder=ENCODER, latents=latents
        )
    assert not list(tmp_path.glob("*a/*.npy"))
    compute_latents(tiny.root, vae, "v", items.image_hashes, 32)
    publish_neighbors(
        tiny.root,
        "lost",
        [{"item_id": tiny.item_ids[5], "split": "train", "neighbors": [{"item_id": "toy:x", "image_hash": "f00"}]}],
    )
    items = read_training_items(tiny.root, "lost", IMAGES)
    with pytest.raises(Graph2ImageError, match="no embedding of tiny, the first is f00"):
        build_arrays(
            tmp_path / "a", tmp_path / "texts", tiny.root, items, IMAGES, texts, encoder=ENCODER, latents=latents
        )
