"""Vectors for what has none: whole, once, whatever comes between."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image
from shapes import UNTRAINED, ShapeItem, shape_items, write_items

from ingest.datasets.root import DataRoot, text_hash
from ingest.datasets.schemas import ITEM_SCHEMA, embedding_schema
from ingest.encoders import vectors as vectors_module
from ingest.encoders.checkpoint import load_encoder, publish_encoder
from ingest.encoders.embed import EmbedReport, embed, unreadable_images
from ingest.encoders.identity import Precision, encoder_id
from ingest.errors import Graph2ImageError
from ingest.images.loading import image_paths, open_image

ITEMS = shape_items(24, test=6)


def embed_tiny(data: DataRoot) -> EmbedReport:
    return embed(data, encoder=UNTRAINED, device="cpu", batch_size=4)


def vectors(data: DataRoot, name: str, key: str) -> dict[str, np.ndarray]:
    table = data.read(name)
    return dict(zip(table[key].to_pylist(), np.array(table["embedding"].to_pylist(), np.float32), strict=True))


def files(data: DataRoot, encoder: str) -> list[str]:
    return sorted(f.split("/")[-1] for f in data.fs.glob(data.path("embeddings", encoder, "*.parquet")))


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
    after = embed(data, encoder=UNTRAINED, device="cpu", batch_size=4, withdrawn={gone["item_id"]})
    assert (after.trained, after.encoder != before.encoder) == (True, True)
    assert gone["image_hash"] not in vectors(data, f"embeddings/{after.encoder}", "image_hash")


def test_vectors_are_the_published_checkpoints(data: DataRoot) -> None:
    write_items(data, ITEMS)
    report = embed_tiny(data)
    encoder = load_encoder(data, report.encoder)
    item = ITEMS[-1]
    picture = open_image(data, image_paths(data)[item.image_hash])
    image = encoder.encode_images([encoder.prepare(picture)])[0]
    text = encoder.encode_texts([f"one {item.shape}"])[0]
    stored = vectors(data, f"embeddings/{report.encoder}", "image_hash")[item.image_hash]
    np.testing.assert_allclose(stored, image, atol=1e-5)
    stored = vectors(data, f"text-embeddings/{report.encoder}", "text_hash")[text_hash(f"one {item.shape}")]
    np.testing.assert_allclose(stored, text, atol=1e-5)


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
    assert embed(data, sources=["shapes"], encoder=UNTRAINED).changed is False


def test_opted_out_items_are_not_embedded(data: DataRoot) -> None:
    write_items(data, ITEMS)
    rows = data.read("items/shapes").to_pylist()
    rows[3]["opted_out"] = True
    data.publish("items/shapes", [pa.Table.from_pylist(rows, ITEM_SCHEMA)], ITEM_SCHEMA)
    report = embed_tiny(data)
    assert ITEMS[3].image_hash not in vectors(data, f"embeddings/{report.encoder}", "image_hash")


KILLED = """
import os, signal, sys
sys.path.append("encoders")
from ingest.datasets.root import DataRoot
from ingest.encoders import vectors
from test_embed import embed_tiny

class Mortal(DataRoot):
    def append(self, name, table, schema):
        if name.startswith("embeddings") and len(self.fs.glob(self.path("embeddings", "*", "*.parquet"))) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().append(name, table, schema)

vectors.SHARD_ROWS = 5
embed_tiny(Mortal(sys.argv[1]))
"""


@pytest.mark.slow
def test_killed_run_goes_on_where_it_was(data: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_module, "SHARD_ROWS", 5)
    write_items(data, ITEMS)
    undisturbed = embed_tiny(data)

    other = DataRoot(str(tmp_path / "other"))
    write_items(other, ITEMS)
    for file in data.fs.find(data.path("encoders")):  # the same encoder, so that only the embedding is killed
        other.write_bytes(file[len(data.path()) :], data.fs.cat_file(file))
    killed = subprocess.run([sys.executable, "-c", KILLED, other.url], cwd=Path(__file__).parents[1], check=False)
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


def test_what_a_killed_run_left_half_written_is_not_taken_for_vectors(data: DataRoot) -> None:
    write_items(data, ITEMS)
    encoder = embed_tiny(data).encoder
    for name in ("embeddings", "text-embeddings"):
        data.fs.rm(data.path(name), recursive=True)
        data.write_bytes(f"{name}/{encoder}/.0.tmp", b"PAR1")
    report = embed_tiny(data)
    assert (report.images_new, report.texts_new, report.precision) == (24, 4, "fp32")


def test_full_disk(data: DataRoot) -> None:
    write_items(data, ITEMS)
    encoder = embed_tiny(data).encoder
    data.fs.rm(data.path("embeddings"), recursive=True)

    class Full(DataRoot):
        def append(self, name: str, table: pa.Table, schema: pa.Schema) -> str:
            raise Graph2ImageError("no space left")

    with pytest.raises(Graph2ImageError, match="no space left"):
        embed(Full(data.url), encoder=encoder, device="cpu")
    assert embed_tiny(data).images_new == 24


def break_picture(data: DataRoot, item: ShapeItem, damage: str) -> None:
    path = image_paths(data)[item.image_hash]
    if damage == "gone":
        data.fs.rm(data.path(path))
    else:
        data.write_bytes(path, item.content[:80])


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_picture_that_can_no_longer_be_read_does_not_stop_the_others(data: DataRoot, damage: str) -> None:
    write_items(data, ITEMS)
    broken = [ITEMS[0], ITEMS[-1]]  # one to train on, one held out
    for item in broken:
        break_picture(data, item, damage)
    report = embed_tiny(data)
    assert (report.images_new, report.images_unreadable, report.texts_new) == (22, 2, 4)
    assert all(any(item.image_hash in line for line in report.unreadable) for item in broken)
    stored = vectors(data, f"embeddings/{report.encoder}", "image_hash")
    assert stored.keys() == {item.image_hash for item in ITEMS[1:-1]}
    assert unreadable_images(data, report.encoder).keys() == {item.image_hash for item in broken}
    assert data.read_json(f"encoders/{report.encoder}/encoder.json")["unreadable_pairs"] == 1

    again = embed_tiny(data)
    assert (again.changed, again.images_unreadable, again.images_existing) == (False, 2, 22)

    data.write_bytes(image_paths(data)[ITEMS[0].image_hash], ITEMS[0].content)
    restored = embed_tiny(data)
    assert (restored.encoder, restored.images_new, restored.images_unreadable) == (report.encoder, 1, 1)
    assert unreadable_images(data, report.encoder).keys() == {ITEMS[-1].image_hash}


def test_shard_of_which_nothing_can_be_read(data: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_module, "SHARD_ROWS", 5)
    write_items(data, ITEMS)
    encoder = embed_tiny(data).encoder
    data.fs.rm(data.path("embeddings"), recursive=True)
    for item in sorted(ITEMS, key=lambda item: item.image_hash)[5:10]:
        break_picture(data, item, "gone")
    report = embed_tiny(data)
    assert (report.images_new, report.images_unreadable) == (19, 5)
    assert len(files(data, encoder)) == 4


def test_pictures_of_other_sources_stay_listed_as_unreadable(data: DataRoot) -> None:
    write_items(data, ITEMS)
    encoder = embed_tiny(data).encoder
    more = shape_items(27)[24:]
    write_items(data, [*ITEMS, *more], "more")
    break_picture(data, more[0], "gone")
    assert embed(data, encoder=encoder, device="cpu").images_unreadable == 1
    assert embed(data, encoder=encoder, sources=["shapes"]).images_unreadable == 0
    assert unreadable_images(data, encoder).keys() == {more[0].image_hash}


def test_most_pictures_unreadable_is_an_error(data: DataRoot) -> None:
    write_items(data, ITEMS)
    encoder = embed_tiny(data).encoder
    data.fs.rm(data.path("embeddings"), recursive=True)
    data.fs.rm(data.path("images", "files"), recursive=True)
    for _ in range(2):
        with pytest.raises(Graph2ImageError, match="24 of 24 images cannot be read"):
            embed(data, encoder=encoder, device="cpu")


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


def test_padded_images(data: DataRoot, tmp_path: Path) -> None:
    """The same weights see another image where it is not square, and call the vectors otherwise."""
    write_items(data, ITEMS)
    cropping = embed_tiny(data).encoder
    folder = copy_of_checkpoint(data, cropping, tmp_path / "copy")
    padding = embed(data, encoder=str(folder), pad=True, device="cpu").encoder
    assert padding == f"{encoder_id(str(folder))}-padded"
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("blue", (0, 0, 20, 30))
    pixels = {name: load_encoder(data, name).prepare(wide) for name in (cropping, padding)}
    assert pixels[padding].shape == pixels[cropping].shape
    red, _, blue = pixels[cropping].astype(int)
    assert (red > blue).all()  # its middle
    assert (pixels[padding] == 255).all(axis=0).any()
    assert (pixels[padding][2] > pixels[padding][0].astype(int) + 100).any()  # its end
    assert embed(data, encoder=padding, device="cpu").changed is False
    trained = embed(data, encoder=UNTRAINED, pad=True, device="cpu")
    assert trained.trained
    assert trained.encoder != cropping


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


@pytest.mark.parametrize("tower", ["visual", "text"])
def test_encoder_that_gives_no_numbers(data: DataRoot, tower: str) -> None:
    write_items(data, ITEMS)
    encoder = embed_tiny(data).encoder
    config = orjson.loads(data.read_bytes(f"encoders/{encoder}/open_clip_config.json"))
    model = CLIP(**config["model_cfg"])
    weights = model.text_projection if tower == "text" else model.visual.attnpool.c_proj.weight
    torch.nn.init.constant_(weights, float("nan"))
    publish_encoder(data, encoder, model, config, {})
    for name in ("embeddings", "text-embeddings"):
        data.fs.rm(data.path(name), recursive=True)
    first = "'one circle'|'one square'|'one triangle'|'one cross'" if tower == "text" else min_hash(ITEMS)
    with pytest.raises(Graph2ImageError, match=f"no finite vector in fp32 for .*({first})"):
        embed_tiny(data)


def min_hash(items: list[ShapeItem]) -> str:
    return min(item.image_hash for item in items)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precision_agrees_and_is_never_mixed(data: DataRoot, precision: Precision) -> None:
    write_items(data, ITEMS[:20])
    exact = embed_tiny(data)
    assert exact.precision == "fp32"  # a small model
    names = {f"embeddings/{exact.encoder}": "image_hash", f"text-embeddings/{exact.encoder}": "text_hash"}
    expected = {name: vectors(data, name, key) for name, key in names.items()}
    with pytest.raises(Graph2ImageError, match=f"are in fp32, not in {precision}"):
        embed(data, encoder=UNTRAINED, device="cpu", precision=precision)

    for name in names:
        data.fs.rm(data.path(name), recursive=True)
    report = embed(data, encoder=exact.encoder, device="cpu", precision=precision)
    assert (report.precision, report.images_new) == (precision, 20)
    for name, key in names.items():
        for value, vector in vectors(data, name, key).items():
            assert vector @ expected[name][value] > 0.999
            assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)

    write_items(data, ITEMS)  # new ones follow what is there
    assert embed(data, encoder=exact.encoder, device="cpu").precision == precision
    schemas = {
        pq.read_schema(file).metadata[b"precision"]
        for name in names
        for file in data.fs.glob(data.path(name, "*.parquet"))
    }
    assert schemas == {precision.encode()}


def test_vectors_of_earlier_versions_count_as_fp32(data: DataRoot) -> None:
    write_items(data, ITEMS)
    encoder = embed_tiny(data).encoder
    for name, key in (("embeddings", "image_hash"), ("text-embeddings", "text_hash")):
        table = data.read(f"{name}/{encoder}").replace_schema_metadata(None)
        data.fs.rm(data.path(name), recursive=True)
        data.append(f"{name}/{encoder}", table, embedding_schema(key, UNTRAINED.embedding_dim))
    assert embed(data, encoder=encoder, precision="fp32").precision == "fp32"
    with pytest.raises(Graph2ImageError, match="are in fp32"):
        embed(data, encoder=encoder, precision="bf16")


def test_unknown_device(data: DataRoot) -> None:
    write_items(data, ITEMS)
    with pytest.raises(Graph2ImageError, match="cannot use the device 'gpu'"):
        embed(data, encoder=UNTRAINED, device="gpu")
    assert not data.exists("encoders")  # said before one is trained


NOTHING_TO_DO = """
import sys
from ingest.datasets.root import DataRoot
from ingest.encoders.embed import embed
from shapes import UNTRAINED

for encoder in (UNTRAINED, *sys.argv[2:]):
    assert not embed(DataRoot(sys.argv[1]), encoder=encoder).changed
print(sorted({"torch", "torchvision", "open_clip"} & sys.modules.keys()))
"""


@pytest.mark.slow
def test_nothing_to_do_loads_no_model(data: DataRoot, tmp_path: Path) -> None:
    write_items(data, ITEMS)
    break_picture(data, ITEMS[-1], "gone")
    encoder = embed_tiny(data).encoder
    folder = copy_of_checkpoint(data, encoder, tmp_path / "mine")
    embed(data, encoder=str(folder), device="cpu")
    command = [sys.executable, "-c", NOTHING_TO_DO, data.url, encoder, str(folder)]
    result = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True)
    assert result.stdout == "[]\n"


def test_unknown_encoder(data: DataRoot) -> None:
    write_items(data, ITEMS)
    with pytest.raises(Graph2ImageError, match="unknown encoder 'vit'"):
        embed(data, encoder="vit")


def test_hub_out_of_reach(data: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    write_items(data, ITEMS)
    with pytest.raises(Graph2ImageError, match="cannot fetch the encoder ViT-B-32/laion2b_s34b_b79k"):
        embed(data, encoder="ViT-B-32/laion2b_s34b_b79k")
