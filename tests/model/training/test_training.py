"""The training stage, from a data root to a published model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from tiny_data import CONFIG, ENCODER, ITEMS, NEIGHBORS, TEST_ITEMS, TinyData, make_data
from tiny_models import STRUCTURES, Structure, save_base_model

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError
from model.pipeline import Graph2ImagePipeline
from model.record import read_model_record
from model.training.config import TrainConfig, load_train_config
from model.training.train import TrainReport, train

TRAIN = """
import sys, torch
torch.set_num_threads(1)
from ingest.datasets.root import DataRoot
from model.training.config import load_train_config
from model.training.train import train
train(DataRoot(sys.argv[1]), load_train_config(sys.argv[2]), sys.argv[3])
"""
#: Dies when a fifth checkpoint of the folder argv[4] is about to get its name.
KILLED_TRAIN = f"""
import os, signal, sys
renamed = 0
def hook(event, arguments):
    global renamed
    if event == "os.rename" and str(arguments[1]).startswith(sys.argv[4] + "/checkpoint-"):
        renamed += 1
        if renamed == 5:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
{TRAIN}
"""
FOUNDED = """
preset = "mini"
image_size = 32
base_model = "{base_model}"
[graph_encoder]
max_neighbors = 3
tokens_per_neighbor = 2
num_hidden_layers = 2
[optimization]
trainable = "{trainable}"
steps = 2
batch_size = 4
warmup_steps = 1
checkpoint_every = 1
sample_every = 0
trackers = []
lora_rank = 2
"""


def weights(data: TinyData, report: TrainReport) -> dict[str, torch.Tensor]:
    folder = Path(data.root.path("models", report.model_id))
    return {
        f"{part}.{name}": value
        for part in ("unet", "graph_encoder")
        for name, value in load_file(folder / part / "diffusion_pytorch_model.safetensors").items()
    }


def with_changes(data: TinyData, *changes: tuple[str, str]) -> TrainConfig:
    content = CONFIG
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    data.config_path.write_text(content)
    return data.config


def published(data: TinyData, report: TrainReport) -> Graph2ImagePipeline:
    pipeline = Graph2ImagePipeline.from_pretrained(data.root.path("models", report.model_id))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.slow
def test_trains_once(tiny: TinyData) -> None:
    report = train(tiny.root, tiny.config, NEIGHBORS)
    assert report.changed
    assert (report.steps, report.items, report.left_out) == (6, ITEMS - TEST_ITEMS, 0)
    assert report.model_id.startswith("mini-")
    record = tiny.root.read_json(f"models/{report.model_id}/model.json")
    assert (record["neighbors"], record["encoder"], record["items"]) == (NEIGHBORS, ENCODER, ITEMS - TEST_ITEMS)
    assert record["loss_curve"][-1][0] == 6
    assert not tiny.root.exists(f"training/{report.model_id}")

    again = train(tiny.root, tiny.config, NEIGHBORS)
    assert (again.model_id, again.changed, again.steps) == (report.model_id, False, 0)
    rarer = with_changes(tiny, ("checkpoint_every = 2", "checkpoint_every = 5\ngradient_checkpointing = true"))
    assert not train(tiny.root, rarer, NEIGHBORS).changed
    other = train(tiny.root, tiny.config.model_copy(update={"seed": 1}), NEIGHBORS)
    assert other.changed
    assert other.model_id != report.model_id


@pytest.mark.slow
def test_the_published_pipeline_makes_images_of_neighbors_images(tiny: TinyData) -> None:
    report = train(tiny.root, tiny.config, NEIGHBORS)
    pipeline = published(tiny, report)
    assert pipeline.config.max_neighbors == 3
    table = pipeline.text_encoder.embeddings.token_embedding.weight
    assert torch.equal(pipeline.graph_encoder.token_embedding.weight, table)
    neighbors = [Image.new("RGB", (40, 40), color) for color in ("red", "green", "blue", "white")]
    image = pipeline("a thing", neighbors, num_inference_steps=2).images[0]
    assert image.size == (32, 32)


@pytest.mark.slow
def test_frozen_parts_are_computed_once(tiny: TinyData) -> None:
    train(tiny.root, tiny.config, NEIGHBORS)
    folder = Path(tiny.root.path("training-arrays"))

    def made() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in sorted(folder.glob("*/*.npy"))}

    first = made()
    assert len(list(folder.glob("*/"))) == 2  # the texts, and the rest
    other = with_changes(tiny, ("steps = 6", "steps = 5"))
    assert train(tiny.root, other, NEIGHBORS).changed
    assert made() == first
    # What an ablation of the neighbors changes is not in the texts' arrays.
    encoded = {path: time for path, time in first.items() if "/texts-" in path}
    assert {Path(path).stem for path in encoded} == {"input_ids", "text_hidden", "text_summary"}
    fewer = with_changes(tiny, ("max_neighbors = 3", 'max_neighbors = 2\nneighbor_content = "both"'))
    assert train(tiny.root, fewer, NEIGHBORS).changed
    assert len(list(folder.glob("*/"))) == 3
    assert {path: time for path, time in made().items() if "/texts-" in path} == encoded


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        [("max_neighbors = 3", 'max_neighbors = 3\nneighbor_content = "texts"')],
        [
            (
                "max_neighbors = 3",
                'max_neighbors = 3\nneighbor_content = "both"\nneighbor_weights = true\nrelation_types = true',
            )
        ],
        [("batch_size = 4\nwarmup", "batch_size = 2\ngradient_accumulation = 2\nwarmup")],
        [("batch_size = 4\nwarmup", "batch_size = 4\ncoarse_steps = 3\nwarmup")],
        [("warmup_steps = 2", 'warmup_steps = 2\nschedule = "constant"\nema_decay = 0\nsnr_gamma = 0')],
        [
            (
                "[unet]\nblock_out_channels = [32, 32]\nattention_heads = 2\n",
                "[transformer]\npatch_size = 1\nnum_layers = 2\nnum_attention_heads = 2\nattention_head_dim = 8\n",
            )
        ],
        [("max_neighbors = 3", 'max_neighbors = 3\nkind = "projection"\nneighbor_content = "both"')],
    ],
    ids=["texts", "everything", "accumulation", "coarse", "plain", "transformer", "projection"],
)
def test_every_option_is_trained_and_published(tiny: TinyData, changes: list[tuple[str, str]]) -> None:
    report = train(tiny.root, with_changes(tiny, *changes), NEIGHBORS)
    assert report.steps == 6
    assert np.isfinite(report.loss)
    pipeline = published(tiny, report)
    config = pipeline.graph_encoder.config
    content = tiny.config.graph_encoder
    assert (config.neighbor_dim is None) == (not content.images)
    assert (config.neighbor_text_dim is None) == (not content.texts)
    assert config.relation_types == (["x"] if content.relation_types else [])
    assert (pipeline.image_encoder is None) == (not content.images)
    given: dict[str, Any] = {}
    if content.images:
        given["neighbor_embeds"] = torch.zeros(1, 2, config.neighbor_dim)
    if content.texts:
        given["neighbor_text_embeds"] = torch.zeros(1, 2, config.neighbor_text_dim)
    assert pipeline("a thing", **given, num_inference_steps=2).images[0].size == (32, 32)


@pytest.mark.slow
def test_a_text_only_model_has_no_graph_tokens(tiny: TinyData) -> None:
    report = train(tiny.root, with_changes(tiny, ("max_neighbors = 3", "max_neighbors = 0")), NEIGHBORS)
    record = read_model_record(tiny.root, report.model_id)
    assert (record.graph_parameters, record.neighbor_use.images) == (0, False)
    pipeline = published(tiny, report)
    assert pipeline.image_encoder is None
    tokens = pipeline.encode_graph(torch.zeros(2, 12, dtype=torch.long))
    assert tokens.shape == (2, 0, 32)
    assert pipeline("a thing", num_inference_steps=2).images[0].size == (32, 32)
    with pytest.raises(ValueError, match="takes no neighbor_embeds"):
        pipeline("a thing", neighbor_embeds=torch.zeros(1, 2, 16))


def test_a_base_model_is_published_as_it_is(tiny: TinyData, tmp_path: Path) -> None:
    base_model = save_base_model("sd15", tmp_path / "base_model")
    path = tmp_path / "untuned.toml"
    path.write_text(FOUNDED.format(base_model=base_model, trainable="full").replace("steps = 2\n", "steps = 0\n"))
    report = train(tiny.root, load_train_config(path), NEIGHBORS)
    assert (report.steps, report.loss, report.changed) == (0, None, True)
    assert read_model_record(tiny.root, report.model_id).loss_curve == ()
    assert not train(tiny.root, load_train_config(path), NEIGHBORS).changed
    untuned = StableDiffusionPipeline.from_pretrained(base_model, safety_checker=None).unet.state_dict()
    for name, value in published(tiny, report).unet.state_dict().items():
        assert torch.equal(value, untuned[name])


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_base_model_is_fine_tuned(structure: Structure, tiny: TinyData, tmp_path: Path) -> None:
    base_model = save_base_model(structure, tmp_path / "base_model")
    path = tmp_path / "founded.toml"
    path.write_text(FOUNDED.format(base_model=base_model, trainable="full"))
    report = train(tiny.root, load_train_config(path), NEIGHBORS)
    assert (report.steps, report.changed) == (2, True)
    record = tiny.root.read_json(f"models/{report.model_id}/model.json")
    assert record["prediction_type"] == "epsilon"
    pipeline = published(tiny, report)
    assert (pipeline.text_encoder_2 is not None) == (structure == "sdxl")
    assert pipeline("a thing", num_inference_steps=2).images[0].size == (32, 32)

    moved = base_model.rename(tmp_path / "moved")
    path.write_text(FOUNDED.format(base_model=moved, trainable="full"))
    assert not train(tiny.root, load_train_config(path), NEIGHBORS).changed


def test_low_rank_additions_are_merged_and_saved_beside(tiny: TinyData, tmp_path: Path) -> None:
    base_model = save_base_model("sd15", tmp_path / "base_model")
    path = tmp_path / "founded.toml"
    path.write_text(FOUNDED.format(base_model=base_model, trainable="lora") + "learning_rate = 0.1\nema_decay = 0\n")
    report = train(tiny.root, load_train_config(path), NEIGHBORS)
    folder = tiny.root.path("models", report.model_id)
    unet = published(tiny, report).unet
    before = StableDiffusionPipeline.from_pretrained(base_model)
    plain = before.unet.state_dict()
    assert unet.state_dict().keys() == plain.keys()
    changed = {name for name, value in unet.state_dict().items() if not torch.equal(value, plain[name])}
    assert changed
    assert all(".attn" in name and name.endswith(".weight") for name in changed)

    before.load_lora_weights(Path(folder) / "lora")
    before.fuse_lora()
    noisy, tokens = torch.randn(1, 4, 4, 4), torch.randn(1, 5, 32)
    with torch.no_grad():
        ours = unet(noisy, 10, encoder_hidden_states=tokens).sample
        theirs = before.unet(noisy, 10, encoder_hidden_states=tokens).sample
    torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
def test_a_frozen_network_stays_that_of_the_base_model(tiny: TinyData, tmp_path: Path) -> None:
    base_model = save_base_model("sd15", tmp_path / "base_model")
    path = tmp_path / "founded.toml"
    path.write_text(FOUNDED.format(base_model=base_model, trainable="graph"))
    report = train(tiny.root, load_train_config(path), NEIGHBORS)
    before = load_file(base_model / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(weights(tiny, report)[f"unet.{name}"], value) for name, value in before.items())


@pytest.mark.slow
def test_killed_and_resumed_ends_with_the_same_weights(tmp_path: Path) -> None:
    longer = (("steps = 6", "steps = 30"), ("_every = 2", "_every = 1"))
    whole, killed = make_data(tmp_path / "whole"), make_data(tmp_path / "killed")
    expected = train(whole.root, with_changes(whole, *longer), NEIGHBORS)

    with_changes(killed, *longer)
    training = Path(killed.root.path("training", expected.model_id))
    arguments = [killed.root.url, str(killed.config_path), NEIGHBORS, str(training)]
    process = subprocess.run([sys.executable, "-c", KILLED_TRAIN, *arguments], cwd=Path(__file__).parents[3])
    assert process.returncode == -signal.SIGKILL
    assert list(training.glob("*.safetensors"))

    resumed = train(killed.root, killed.config, NEIGHBORS)
    assert resumed.model_id == expected.model_id
    assert 0 < resumed.steps < 30
    ours, theirs = weights(killed, resumed), weights(whole, expected)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_several_processes_train_as_one(tmp_path: Path) -> None:
    alone, shared = make_data(tmp_path / "alone"), make_data(tmp_path / "shared")
    expected = train(alone.root, with_changes(alone, ("sample_every = 0", "sample_every = 2")), NEIGHBORS)
    with_changes(shared, ("sample_every = 0", "sample_every = 2"))
    script = tmp_path / "script.py"
    script.write_text(TRAIN)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    root = Path(__file__).parents[3]
    subprocess.run(
        [*launch, "--rdzv-endpoint=localhost:0", script, shared.root.url, shared.config_path, NEIGHBORS],
        check=True,
        env={**os.environ, "PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "true"},
        timeout=300,
    )
    ours, theirs = (
        data.root.read_json(f"models/{expected.model_id}/model.json")["loss_curve"] for data in (shared, alone)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    assert not shared.root.exists(f"training/{expected.model_id}")


@pytest.mark.slow
def test_a_data_root_that_is_no_local_folder(tiny: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remote = DataRoot(f"memory://{tmp_path.name}")
    for path in Path(tiny.root.path()).rglob("*"):
        if path.is_file():
            remote.write_bytes(path.relative_to(tiny.root.path()).as_posix(), path.read_bytes())
    report = train(remote, with_changes(tiny, ("sample_every = 0", "sample_every = 4")), NEIGHBORS)
    local = train(tiny.root, tiny.config, NEIGHBORS)
    assert (report.model_id, report.loss) == (local.model_id, local.loss)
    published_there = remote.fs.find(remote.path("models", report.model_id))
    assert len(published_there) == sum(
        path.is_file() for path in Path(tiny.root.path("models", local.model_id)).rglob("*")
    )
    assert not remote.exists(f"training/{report.model_id}")
    assert not list((tmp_path / "cache").rglob("logs"))


@pytest.mark.slow
def test_damaged_checkpoint(tiny: TinyData) -> None:
    report = train(tiny.root, tiny.config, NEIGHBORS)
    Path(tiny.root.path("models", report.model_id, "model.json")).unlink()
    tiny.root.write_bytes(f"training/{report.model_id}/checkpoint-00000002.safetensors", b"damaged")
    with pytest.raises(Graph2ImageError, match=r"cannot resume from .*checkpoint") as error:
        train(tiny.root, tiny.config, NEIGHBORS)
    assert "Delete" in str(error.value.hint)


@pytest.mark.slow
def test_images_logs_and_the_model_card(tiny: TinyData, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_changes(
        tiny, ("sample_every = 0", "sample_every = 2"), ("trackers = []", 'trackers = ["tensorboard"]')
    )
    written: list[str] = []
    write = DataRoot.write_bytes

    def watched(self: DataRoot, name: str, content: bytes) -> None:
        written.append(name)
        write(self, name, content)

    monkeypatch.setattr(DataRoot, "write_bytes", watched)
    report = train(tiny.root, config, NEIGHBORS)
    during = {name.rpartition("/")[2] for name in written if name.startswith(f"training/{report.model_id}")}
    assert during == {"curves.png", "samples-00000002.png", "samples-00000004.png"}
    folder = Path(tiny.root.path("models", report.model_id))
    samples, curves = Image.open(folder / "samples.png"), Image.open(folder / "curves.png")
    assert samples.width > samples.height / 2 > 200
    assert curves.width > curves.height
    assert list(folder.glob("logs/**/events.out.tfevents*"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"# {report.model_id}" in card
    for fact in (f"| items from `toy` | {ITEMS - TEST_ITEMS} |", f"`neighbors/{NEIGHBORS}`", f"`encoders/{ENCODER}`"):
        assert fact in card
    assert f"{report.loss:.4f}" in card
    assert "(curves.png)" in card
    assert "(samples.png)" in card


def test_missing_inputs(tiny: TinyData, tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match="no neighbors dataset 'nope'"):
        train(tiny.root, tiny.config, "nope")
    with pytest.raises(Graph2ImageError, match="no encoder 'nope'"):
        train(tiny.root, tiny.config, NEIGHBORS, encoder="nope")
    tiny.root.publish("neighbors/empty", [], NEIGHBOR_SCHEMA, {"encoder": ENCODER})
    with pytest.raises(Graph2ImageError, match="no training items"):
        train(tiny.root, tiny.config, "empty")
    rows = tiny.root.read(f"neighbors/{NEIGHBORS}")
    tiny.root.publish("neighbors/unranked", [rows], NEIGHBOR_SCHEMA, {})
    with pytest.raises(Graph2ImageError, match="does not say which encoder"):
        train(tiny.root, tiny.config, "unranked")
    path = tmp_path / "founded.toml"
    path.write_text(FOUNDED.format(base_model=tmp_path / "nope", trainable="full"))
    with pytest.raises(Graph2ImageError, match="nope"):
        train(tiny.root, load_train_config(path), NEIGHBORS)


def test_an_image_that_cannot_be_read_any_more(tiny: TinyData) -> None:
    image_hash = tiny.image_hashes[TEST_ITEMS]
    Path(tiny.root.path(f"images/files/{image_hash[:2]}/{image_hash}.png")).write_bytes(b"gone")
    with pytest.raises(Graph2ImageError, match=f"cannot read the image .*{image_hash}"):
        train(tiny.root, tiny.config, NEIGHBORS)


def test_sizes_that_make_no_network(tiny: TinyData) -> None:
    with pytest.raises(Graph2ImageError, match=r"\[unet\] makes no UNet"):
        train(tiny.root, with_changes(tiny, ("[32, 32]", "[32, 32, 32]")), NEIGHBORS)
    unet = "[unet]\nblock_out_channels = [32, 32]\nattention_heads = 2\n"
    sizes = "[transformer]\npatch_size = 3\nnum_layers = 1\nnum_attention_heads = 2\nattention_head_dim = 8\n"
    with pytest.raises(Graph2ImageError, match="cannot be cut into patches of 3"):
        train(tiny.root, with_changes(tiny, (unet, sizes)), NEIGHBORS)
    coarse = ("batch_size = 4\nwarmup", "batch_size = 4\ncoarse_steps = 1\nwarmup")
    with pytest.raises(Graph2ImageError, match="coarse_steps: images of 16 pixels, half of image_size, do not fit"):
        train(tiny.root, with_changes(tiny, (unet, sizes.replace("= 3", "= 4")), coarse), NEIGHBORS)


def test_goes_on_from_a_published_model(tiny: TinyData) -> None:
    """With its network and, where the sizes are the configured ones and the encoder is its own, its Graph-QFormer."""
    first = train(tiny.root, tiny.config, NEIGHBORS)
    before = weights(tiny, first)
    optimization = tiny.config.optimization.model_copy(update={"steps": 1, "learning_rate": 1e-12, "ema_decay": 0.0})
    own = {"autoencoder": None, "unet": None, "diffusion": None}
    folder = tiny.root.path("models", first.model_id)
    config = tiny.config.model_copy(update={**own, "base_model": folder, "optimization": optimization})
    after = weights(tiny, train(tiny.root, config, NEIGHBORS))
    assert before.keys() == after.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)
    graph = tiny.config.graph_encoder.model_copy(update={"tokens_per_neighbor": 1})
    other = weights(tiny, train(tiny.root, config.model_copy(update={"graph_encoder": graph}), NEIGHBORS))
    name = "graph_encoder.neighbor_projection.proj.weight"
    assert other[name].shape != before[name].shape
    record = Path(folder) / "model.json"
    record.write_text(record.read_text().replace(ENCODER, "another"))
    foreign = weights(tiny, train(tiny.root, config.model_copy(update={"seed": 1}), NEIGHBORS))
    assert not torch.equal(foreign[name], before[name])
    torch.testing.assert_close(foreign["unet.conv_in.weight"], before["unet.conv_in.weight"], atol=1e-6, rtol=0)
