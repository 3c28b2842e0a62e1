"""The training of a foundation: on casts that no demo shows, continued by the same call, and a place to start from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.foundation import ENCODER, casts, train_foundation
from ingest.datasets.root import DataRoot
from ingest.sampledata.artists import ARTISTS
from ingest.sampledata.goodreads import AUTHORS
from ingest.sampledata.products import BRANDS
from model.pretrained.base_models import load_base_model
from model.record import read_model_record

TINY = """
preset = "foundation"
[autoencoder]
channels = 16
blocks = 1
steps = 4
batch_size = 4
[transformer]
num_layers = 1
num_attention_heads = 2
attention_head_dim = 16
[optimization]
steps = 4
coarse_steps = 2
batch_size = 4
warmup_steps = 1
checkpoint_every = 2
sample_every = 0
trackers = []
"""


def test_no_demo_shows_whom_it_has_seen() -> None:
    for cast, usual in zip(casts(), (ARTISTS, BRANDS, AUTHORS), strict=True):
        assert not {member.name for member in cast} & {member.name for member in usual}


@pytest.mark.slow
def test_a_small_one(tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(TINY)
    encoder = ENCODER.model_copy(update={"image_size": 32, "base_steps": 4, "max_steps": 4, "batch_size": 16})
    out = tmp_path / "foundation"

    def train() -> str:
        return train_foundation(out, works=40, products=16, books=16, encoder=encoder, config=config)

    model_id = train()
    data = DataRoot(str(out / "data"))
    record = read_model_record(data, model_id)
    assert record.sources.keys() == {"art500k", "amazon", "goodreads"}
    base_model = load_base_model(data.path("models", model_id))
    assert base_model.graph_encoder is not None
    assert base_model.graph_encoder.config.standardize_neighbors
    projection = base_model.graph_encoder.neighbor_projection
    assert projection is not None
    assert float(projection.std.max()) < 0.5  # of unit vectors: it was measured
    assert train() == model_id


def test_a_command_without_a_folder_says_what_it_wants() -> None:
    done = subprocess.run([sys.executable, "-m", "flows.foundation"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the following arguments are required: out" in done.stderr
    assert "Traceback" not in done.stderr
