from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_data import CONFIG, ENCODER, ITEMS, NEIGHBORS, TEST_ITEMS, TinyData, make_data

from ingest.datasets import NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError
from model.config import TrainConfig, load_train_config
from model.dataset import TrainingArrays, read_training_items
from model.pipeline import Graph2ImagePipeline
from model.train import TrainReport, build_scheduler, train
from model.trainer import learning_rate_factor, loss_weights


def weights(data: TinyData, report: TrainReport) -> dict[str, torch.Tensor]:
    folder = Path(data.root.path("models", report.model_id))
    return {
        f"{part}.{name}": value
        for part in ("unet", "graph_encoder")
        for name, value in load_file(folder / part / "diffusion_pytorch_model.safetensors").items()
    }


def longer(data: TinyData, steps: int) -> TrainConfig:
    data.config_path.write_text(CONFIG.replace("steps = 6", f"steps = {steps}").replace("_every = 2", "_every = 1"))
    return data.config


def test_trains_once(tiny: TinyData) -> None:
    report = train(tiny.root, tiny.config, NEIGHBORS)
    assert report.changed
    assert (report.steps, report.items) == (6, ITEMS - TEST_ITEMS)
    assert report.model_id.startswith("mini-")
    record = tiny.root.read_json(f"models/{report.model_id}/model.json")
    assert (record["neighbors"], record["encoder"], record["items"]) == (NEIGHBORS, ENCODER, ITEMS - TEST_ITEMS)
    assert record["loss_curve"][-1][0] == 6
    assert not tiny.root.exists(f"training/{report.model_id}/checkpoint.safetensors")
    Graph2ImagePipeline.from_pretrained(tiny.root.path("models", report.model_id))

    again = train(tiny.root, tiny.config, NEIGHBORS)
    assert (again.model_id, again.changed, again.steps) == (report.model_id, False, 0)
    rarer = tiny.config.model_copy(
        update={"optimization": tiny.config.optimization.model_copy(update={"checkpoint_every": 5})}
    )
    assert not train(tiny.root, rarer, NEIGHBORS).changed
    other = train(tiny.root, tiny.config.model_copy(update={"seed": 1}), NEIGHBORS)
    assert other.changed
    assert other.model_id != report.model_id


def test_killed_and_resumed_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, killed = make_data(tmp_path / "whole"), make_data(tmp_path / "killed")
    expected = train(whole.root, longer(whole, 30), NEIGHBORS)

    longer(killed, 30)
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from ingest.datasets import DataRoot\n"
        "from model.config import load_train_config\n"
        "from model.train import train\n"
        "train(DataRoot(sys.argv[1]), load_train_config(sys.argv[2]), sys.argv[3])"
    )
    arguments = [killed.root.url, str(killed.config_path), NEIGHBORS]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=Path(__file__).parents[2])
    checkpoint = Path(killed.root.path("training", expected.model_id, "checkpoint.safetensors"))
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"

    resumed = train(killed.root, killed.config, NEIGHBORS)
    assert resumed.model_id == expected.model_id
    assert 0 < resumed.steps < 30
    ours, theirs = weights(killed, resumed), weights(whole, expected)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_damaged_checkpoint(tiny: TinyData) -> None:
    report = train(tiny.root, tiny.config, NEIGHBORS)
    Path(tiny.root.path("models", report.model_id, "model.json")).unlink()
    tiny.root.write_bytes(f"training/{report.model_id}/checkpoint.safetensors", b"damaged")
    with pytest.raises(Graph2ImageError, match=r"cannot resume from .*checkpoint") as error:
        train(tiny.root, tiny.config, NEIGHBORS)
    assert "Delete the file" in str(error.value.hint)


def test_a_loss_that_is_not_finite_names_step_and_items(tiny: TinyData, monkeypatch: pytest.MonkeyPatch) -> None:
    read = TrainingArrays.batch

    def poisoned(self: TrainingArrays, *arguments: torch.Tensor) -> object:
        batch = read(self, *arguments)
        batch.latents.fill_(math.nan)
        return batch

    monkeypatch.setattr(TrainingArrays, "batch", poisoned)
    with pytest.raises(Graph2ImageError, match=r"loss is nan at step 0.*toy:"):
        train(tiny.root, tiny.config, NEIGHBORS)


def test_missing_inputs(tiny: TinyData) -> None:
    with pytest.raises(Graph2ImageError, match="no neighbors dataset 'nope'"):
        train(tiny.root, tiny.config, "nope")
    with pytest.raises(Graph2ImageError, match="no encoder 'nope'"):
        train(tiny.root, tiny.config, NEIGHBORS, encoder="nope")
    rows = [
        {"item_id": tiny.item_ids[5], "split": "train", "neighbors": [{"item_id": "toy:x", "image_hash": "f00"}]},
    ]
    table = pa.Table.from_pylist(rows, NEIGHBOR_SCHEMA)
    tiny.root.publish("neighbors/lost", [table], NEIGHBOR_SCHEMA, {"encoder": ENCODER})
    with pytest.raises(Graph2ImageError, match="no embedding of tiny, the first is f00"):
        train(tiny.root, tiny.config, "lost")
    tiny.root.publish("neighbors/empty", [], NEIGHBOR_SCHEMA, {"encoder": ENCODER})
    with pytest.raises(Graph2ImageError, match="no training items"):
        train(tiny.root, tiny.config, "empty")


def test_only_training_items_are_read(shared_tiny: TinyData) -> None:
    items = read_training_items(shared_tiny.root, NEIGHBORS, max_neighbors=3)
    assert items.item_ids == shared_tiny.item_ids[TEST_ITEMS:]
    assert items.image_hashes == shared_tiny.image_hashes[TEST_ITEMS:]
    assert [len(hashes) for hashes in items.neighbor_hashes] == [
        min(index % 5, 3) for index in range(TEST_ITEMS, ITEMS)
    ]


def test_withdrawn_items_are_neither_trained_on_nor_neighbors(shared_tiny: TinyData) -> None:
    everything = read_training_items(shared_tiny.root, NEIGHBORS, max_neighbors=3)
    gone = everything.item_ids[0]
    gone_hash = everything.image_hashes[0]
    assert any(gone_hash in hashes for hashes in everything.neighbor_hashes)
    kept = read_training_items(shared_tiny.root, NEIGHBORS, max_neighbors=3, withdrawn={gone})
    assert kept.item_ids == everything.item_ids[1:]
    assert not any(gone_hash in hashes for hashes in kept.neighbor_hashes)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3))
def test_each_epoch_sees_every_item_once(length: int, batch_size: int, seed: int) -> None:
    arrays = TrainingArrays(torch.zeros(length, 1, 1, 1), *[torch.zeros(0)] * 5)
    steps = math.ceil(3 * length / batch_size)
    order = torch.cat([arrays.indices(seed, step, batch_size) for step in range(steps)]).tolist()
    for epoch in range(3):
        assert sorted(order[epoch * length : (epoch + 1) * length]) == list(range(length))


def test_dropout_reaches_every_branch(tiny: TinyData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []
    read = TrainingArrays.batch

    def watched(self: TrainingArrays, indices: torch.Tensor, text: torch.Tensor, graph: torch.Tensor) -> object:
        seen.extend(zip(text.tolist(), graph.tolist(), strict=True))
        batch = read(self, indices, text, graph)
        assert not batch.neighbor_mask[graph].any()
        assert not batch.neighbor_embeds[~batch.neighbor_mask].any()
        assert (batch.input_ids[text] == self.input_ids[0]).all()
        return batch

    monkeypatch.setattr(TrainingArrays, "batch", watched)
    tiny.config_path.write_text(CONFIG.replace("steps = 6", "steps = 30\ntext_dropout = 0.2\ngraph_dropout = 0.2"))
    train(tiny.root, tiny.config, NEIGHBORS)
    assert set(seen) == {(False, False), (True, False), (False, True), (True, True)}


def test_loss_weights() -> None:
    scheduler = build_scheduler(load_train_config("mini").diffusion)
    v_weights = loss_weights(scheduler.alphas_cumprod, "v_prediction", 5.0)
    assert scheduler.alphas_cumprod[-1] < 1e-6  # zero terminal SNR
    assert v_weights[-1] == pytest.approx(1.0, abs=1e-5)
    assert v_weights.isfinite().all()
    assert (v_weights.diff() >= 0).all()
    assert loss_weights(torch.tensor([0.5]), "epsilon", 5.0) == pytest.approx(1.0)
    assert loss_weights(torch.tensor([10 / 11]), "epsilon", 5.0) == pytest.approx(0.5)


def test_learning_rate() -> None:
    factors = [learning_rate_factor(step, 10, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == 1.0
    assert factors[-1] < 0.001
    assert learning_rate_factor(0, 0, 1) == 1.0


def test_the_token_table_stays_the_text_encoders(tiny: TinyData) -> None:
    report = train(tiny.root, tiny.config, NEIGHBORS)
    pipeline = Graph2ImagePipeline.from_pretrained(tiny.root.path("models", report.model_id))
    table = pipeline.text_encoder.embeddings.token_embedding.weight
    assert torch.equal(pipeline.graph_encoder.token_embedding.weight, table)
