"""Vectors for what has none: whole, once, whatever comes between."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
import torch
from shapes import UNTRAINED, shape_items, write_items

from ingest.datasets import ITEM_SCHEMA, DataRoot, text_hash
from ingest.encoders import embed as embed_module
from ingest.encoders.checkpoint import load_encoder, publish_encoder
from ingest.encoders.embed import EmbedReport, embed
from ingest.encoders.pictures import image_paths, open_picture
from ingest.errors import Graph2ImageError

ITEMS = shape_items(24, test=6)


def embed_tiny(data: DataRoot) -> EmbedReport:
    return embed(data, mini=UNTRAINED, device="cpu", batch_size=4)


def vectors(data: DataRoot, name: str, key: str) -> dict[str, np.ndarray]:
    table = data.read(name)
    return dict(zip(table[key].to_pylist(), np.array(table["embedding"].to_pylist(), np.float32), strict=True))


def files(data: DataRoot, encoder: str) -> list[str]:
    return sorted(f.split("/")[-1] for f in data.fs.find(data.path("embeddings", encoder)))


def test_every_picture_and_text_gets_one_unit_vector(data: DataRoot) -> None:
    write_items(data, ITEMS)
    report = embed_tiny(data)
    assert (report.trained, report.images_new, report.texts_new, report.changed) == (True, 24, 4, True)
    pictures = vectors(data, f"embeddings/{report.encoder}", "image_hash")
    texts = vectors(data, f"text-embeddings/{report.encoder}", "text_hash")
    assert pictures.keys() == {item.image_hash for item in ITEMS}
    assert texts.keys() == {text_hash(f"one {item.shape}") for item in ITEMS}
    for vector in [*pictures.values(), *texts.values()]:
        assert vector.shape == (UNTRAINED.embedding_dim,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_withdrawn_items_are_neither_embedded_nor_trained_on(data: DataRoot) -> None:
    write_items(data, ITEMS)
    before = embed_tiny(data)
    gone = next(row for row in data.read(data.names("items")[0]).to_pylist() if row["split"] == "train")
    after = embed(data, mini=UNTRAINED, device="cpu", batch_size=4, withdrawn={gone["item_id"]})
    assert (after.trained, after.encoder != before.encoder) == (True, True)
    assert gone["image_hash"] not in vectors(data, f"embeddings/{after.encoder}", "image_hash")


def test_vectors_are_the_published_checkpoints(data: DataRoot) -> None:
    write_items(data, ITEMS)
    report = embed_tiny(data)
    encoder = load_encoder(data, report.encoder)
    item = ITEMS[-1]
    picture = open_picture(data, image_paths(data)[item.image_hash])
    with torch.inference_mode():
        image = encoder.encode_image(encoder.preprocess(picture)[None])[0]
        text = encoder.encode_text(encoder.tokenize([f"one {item.shape}"]))[0]
    stored = vectors(data, f"embeddings/{report.encoder}", "image_hash")[item.image_hash]
    np.testing.assert_allclose(stored, image / image.norm(), atol=1e-5)
    stored = vectors(data, f"text-embeddings/{report.encoder}", "text_hash")[text_hash(f"one {item.shape}")]
    np.testing.assert_allclose(stored, text / text.norm(), atol=1e-5)


def test_second_run_does_nothing(data: DataRoot) -> None:
    write_items(data, ITEMS)
    first = embed_tiny(data)
    before = files(data, first.encoder)
    second = embed_tiny(data)
    assert (second.trained, second.images_new, second.texts_new, second.changed) == (False, 0, 0, False)
    assert (second.images_existing, second.texts_existing) == (24, 4)
    assert files(data, first.encoder) == before


def test_new_held_out_items_need_no_new_encoder(data: DataRoot) -> None:
    write_items(data, ITEMS[:-3])
    first = embed_tiny(data)
    write_items(data, ITEMS)
    second = embed_tiny(data)
    assert (second.encoder, second.trained, second.images_new) == (first.encoder, False, 3)


def test_new_training_items_need_a_new_encoder(data: DataRoot) -> None:
    write_items(data, ITEMS[2:])
    first = embed_tiny(data)
    write_items(data, ITEMS)
    second = embed_tiny(data)
    assert second.encoder != first.encoder
    assert (second.trained, second.images_new) == (True, 24)


def test_items_without_picture_or_text(data: DataRoot) -> None:
    write_items(data, ITEMS)
    lone = {"item_id": "more:1", "label": "Shape", "split": "val", "group_id": "1", "opted_out": False}
    data.publish("items/more", [pa.Table.from_pylist([lone], ITEM_SCHEMA)], ITEM_SCHEMA)
    report = embed_tiny(data)
    assert (report.items_without_image, report.images_new, report.texts_new) == (1, 24, 5)
    assert text_hash("") in vectors(data, f"text-embeddings/{report.encoder}", "text_hash")
    assert embed(data, sources=["shapes"], mini=UNTRAINED).changed is False


def test_opted_out_items_are_not_embedded(data: DataRoot) -> None:
    write_items(data, ITEMS)
    rows = data.read("items/shapes").to_pylist()
    rows[3]["opted_out"] = True
    data.publish("items/shapes", [pa.Table.from_pylist(rows, ITEM_SCHEMA)], ITEM_SCHEMA)
    report = embed_tiny(data)
    assert ITEMS[3].image_hash not in vectors(data, f"embeddings/{report.encoder}", "image_hash")


KILLED = """
import os, signal, sys
from ingest.datasets import DataRoot
from ingest.encoders import embed
from test_embed import embed_tiny

class Mortal(DataRoot):
    def append(self, name, table, schema):
        if name.startswith("embeddings") and len(self.fs.find(self.path("embeddings"))) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().append(name, table, schema)

embed.SHARD_ROWS = 5
embed_tiny(Mortal(sys.argv[1]))
"""


def test_killed_run_goes_on_where_it_was(data: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_module, "SHARD_ROWS", 5)
    write_items(data, ITEMS)
    undisturbed = embed_tiny(data)

    other = DataRoot(str(tmp_path / "other"))
    write_items(other, ITEMS)
    for file in data.fs.find(data.path("encoders")):  # the same encoder, so that only the embedding is killed
        other.write_bytes(file[len(data.path()) :], data.fs.cat_file(file))
    killed = subprocess.run([sys.executable, "-c", KILLED, other.url], cwd=Path(__file__).parent, check=False)
    assert killed.returncode == -9
    assert len(files(other, undisturbed.encoder)) == 2
    resumed = embed_tiny(other)
    assert (resumed.encoder, resumed.trained) == (undisturbed.encoder, False)
    assert (resumed.images_new, resumed.images_existing) == (14, 10)
    # Two processes: equal up to the rounding of their thread counts and memory layouts.
    assert len(files(other, resumed.encoder)) == len(files(data, undisturbed.encoder))
    name = f"embeddings/{resumed.encoder}"
    ours, theirs = vectors(other, name, "image_hash"), vectors(data, name, "image_hash")
    assert ours.keys() == theirs.keys()
    for key, vector in ours.items():
        np.testing.assert_allclose(vector, theirs[key], atol=1e-5)


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_picture_that_can_no_longer_be_read(data: DataRoot, damage: str) -> None:
    write_items(data, ITEMS)
    path = image_paths(data)[ITEMS[-1].image_hash]
    if damage == "gone":
        data.fs.rm(data.path(path))
    else:
        data.write_bytes(path, ITEMS[-1].content[:80])
    with pytest.raises(Graph2ImageError, match=ITEMS[-1].image_hash):
        embed_tiny(data)


def test_no_items(data: DataRoot) -> None:
    with pytest.raises(Graph2ImageError, match="no items"):
        embed(data)


def test_too_little_to_train_on(data: DataRoot) -> None:
    write_items(data, [item for item in ITEMS if item.shape == "circle"])
    with pytest.raises(Graph2ImageError, match="at least two training items"):
        embed_tiny(data)


def copy_of_checkpoint(data: DataRoot, encoder: str, folder: Path) -> Path:
    folder.mkdir()
    for file in ("open_clip_config.json", "model.safetensors"):
        (folder / file).write_bytes(data.read_bytes(f"encoders/{encoder}/{file}"))
    return folder


def test_checkpoint_folder_from_elsewhere(data: DataRoot, tmp_path: Path) -> None:
    write_items(data, ITEMS)
    mini = embed_tiny(data)
    folder = copy_of_checkpoint(data, mini.encoder, tmp_path / "My encoder")
    report = embed(data, encoder=str(folder), device="cpu", batch_size=4)
    assert report.encoder.startswith("My-encoder-")
    ours = vectors(data, f"embeddings/{mini.encoder}", "image_hash")
    for image_hash, vector in vectors(data, f"embeddings/{report.encoder}", "image_hash").items():
        np.testing.assert_allclose(vector, ours[image_hash], atol=1e-6)
    assert embed(data, encoder=str(folder)).changed is False


def test_weights_that_would_run_code_are_refused(data: DataRoot, tmp_path: Path) -> None:
    write_items(data, ITEMS)
    folder = copy_of_checkpoint(data, embed_tiny(data).encoder, tmp_path / "hostile")
    (folder / "model.safetensors").unlink()
    torch.save({"logit_scale": Bomb(tmp_path / "ran")}, folder / "model.pth")
    with pytest.raises(Graph2ImageError, match="cannot load the encoder"):
        embed(data, encoder=str(folder))
    assert not (tmp_path / "ran").exists()


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_the_bomb_is_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_encoder_that_gives_no_numbers(data: DataRoot) -> None:
    write_items(data, ITEMS)
    encoder = embed_tiny(data).encoder
    config = orjson.loads(data.read_bytes(f"encoders/{encoder}/open_clip_config.json"))
    from open_clip.model import CLIP

    model = CLIP(**config["model_cfg"])
    torch.nn.init.constant_(model.text_projection, float("nan"))
    publish_encoder(data, encoder, model, config, {})
    data.fs.rm(data.path("text-embeddings"), recursive=True)
    with pytest.raises(Graph2ImageError, match="not finite"):
        embed_tiny(data)


def test_unknown_encoder(data: DataRoot) -> None:
    write_items(data, ITEMS)
    with pytest.raises(Graph2ImageError, match="unknown encoder 'vit'"):
        embed(data, encoder="vit")


def test_hub_out_of_reach(data: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    write_items(data, ITEMS)
    with pytest.raises(Graph2ImageError, match="cannot fetch the encoder ViT-B-32/laion2b_s34b_b79k"):
        embed(data, encoder="ViT-B-32/laion2b_s34b_b79k")
