"""A training of an encoder that was killed goes on where it was."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from shapes import UNTRAINED, shape_items, write_items

from ingest.datasets.root import DataRoot
from ingest.encoders import resuming
from ingest.encoders.embed import embed
from ingest.encoders.resuming import Checkpoints, State

ITEMS = shape_items(40, test=8)
#: Ten steps, more than two times over the pairs: what is left of an order matters too.
STEPS = UNTRAINED.model_copy(update={"base_steps": 10, "max_steps": 10, "batch_size": 13, "warmup_steps": 4})

#: Saves after each step; dies when the checkpoint of the fourth is about to get its name.
KILLED = """
import os, signal, sys
from ingest.datasets.root import DataRoot
from ingest.encoders import resuming
from ingest.encoders.embed import embed
from ingest.encoders.mini_config import MiniClipConfig
resuming.SECONDS = 0.0
def hook(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("checkpoint-00000004.safetensors"):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
embed(DataRoot(sys.argv[1]), encoder=MiniClipConfig.model_validate_json(sys.argv[2]), device="cpu")
"""


def weights(data: DataRoot, encoder: str) -> object:
    return data.read_json(f"encoders/{encoder}/_files.json")["files"]["model.safetensors"]


def killed_embed(data: DataRoot) -> list[Path]:
    """The checkpoints that a killed `embed` has left."""
    write_items(data, ITEMS)
    process = subprocess.run(
        [sys.executable, "-c", KILLED, data.url, STEPS.model_dump_json()], cwd=Path(__file__).parents[3], check=False
    )
    assert process.returncode == -signal.SIGKILL
    assert not data.exists("encoders")
    return list(Path(data.path("training/encoders")).glob("*/checkpoint-*.safetensors"))


@pytest.mark.slow
def test_killed_and_run_again_ends_with_the_same_weights(
    data: DataRoot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = DataRoot(str(tmp_path / "undisturbed"))
    write_items(undisturbed, ITEMS)
    expected = embed(undisturbed, encoder=STEPS, device="cpu").encoder

    [left] = killed_embed(data)
    assert left.name == "checkpoint-00000003.safetensors"
    caplog.set_level(logging.INFO)
    assert embed(data, encoder=STEPS, device="cpu").encoder == expected
    assert "continues at step 3 of 10" in caplog.text
    assert weights(data, expected) == weights(undisturbed, expected)
    records = [root.read_json(f"encoders/{expected}/encoder.json") for root in (data, undisturbed)]
    assert records[0]["losses"] == records[1]["losses"]
    assert not data.exists("training/encoders")


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_time_only(data: DataRoot, caplog: pytest.LogCaptureFixture) -> None:
    [left] = killed_embed(data)
    left.write_bytes(left.read_bytes()[:-4])
    report = embed(data, encoder=STEPS, device="cpu")
    assert report.trained
    assert "begins anew" in caplog.text
    assert not data.exists("training/encoders")


@pytest.mark.slow
def test_other_pairs_are_another_training(data: DataRoot) -> None:
    [left] = killed_embed(data)
    write_items(data, shape_items(44, test=8))
    assert embed(data, encoder=STEPS, device="cpu").trained
    assert not left.exists()  # nobody will continue it


def test_a_checkpoint_is_due_after_a_while(data: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(data, "training/x", 1)
    monkeypatch.setattr(resuming, "SECONDS", 3600.0)
    checkpoints.save_if_due(1, lambda: State({"a": torch.zeros(0, dtype=torch.int64)}, {"step": 1}))
    assert checkpoints.load_newest() is None
    monkeypatch.setattr(resuming, "SECONDS", 0.0)
    checkpoints.save_if_due(2, lambda: State({"a": torch.zeros(0, dtype=torch.int64)}, {"step": 2}))
    state = checkpoints.load_newest()
    assert state is not None
    assert state.numbers["step"] == 2
    assert len(state.tensors["a"]) == 0
    checkpoints.remove()
    assert not data.exists("training/x")
