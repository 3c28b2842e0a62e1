"""The flows that run unattended, in a real Prefect server: what they do, leave to look at, and do again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from typer.testing import Result

from flows import nightly as flows
from flows.gate import GateSettings
from flows.nightly import Batch, nightly
from flows.retrain import Retraining
from flows.settings import Settings
from graphstore.registry import promoted_models
from ingest.datasets.lock import writer_lock
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError, TransientError
from ingest.ingestion import Table

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

Command = Callable[..., Result]


def test_nights(
    shop: Path, tiny_config: Path, tmp_path: Path, graph2image: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(tmp_path / "data")
    source, broken = Table(spec=shop / "shop.toml", root=shop), Table(spec=tmp_path / "nothing.toml")
    retraining = Retraining(config=str(tiny_config), gate=GateSettings(items=4, split="test", steps=1))
    batch = Batch(limit=3)
    assert nightly([source], retraining=retraining, batch=batch, data=data) == "promoted"
    with Settings(data=data).open_store(read_only=True) as store:
        (model_id,) = promoted_models(store)
    made = DataRoot(data).read("generated").num_rows
    with get_client(sync_client=True) as client:
        keys = {artifact.key for artifact in client.read_artifacts()}
        names = {run.name for run in client.read_task_runs()}
        flow_names = {run.name for run in client.read_flow_runs()}
    assert {"ingest", "embed", "retrain", "retrain-decision", "generate", "sample-1", "sample-3"} <= keys
    assert {"ingest table", "embed with mini", "generate 3 of test"} <= names
    assert f"nightly: {tiny_config}" in flow_names

    # A source with a mistake: the others are ingested nevertheless, and the run fails with it.
    with pytest.raises(Graph2ImageError, match=r"nothing\.toml"):
        nightly([broken, source], retraining=retraining, batch=batch, data=data)
    assert DataRoot(data).read("generated").num_rows == made
    listed = json.loads(graph2image("runs", "--json", data=data).stdout)["runs"]
    assert [(run["stage"], run["outcome"]) for run in reversed(listed)] == [
        ("ingest", "changed"),
        ("embed", "changed"),
        ("retrain", "changed"),
        ("generate", "changed"),
        ("ingest", "failed"),
        ("ingest", "unchanged"),
        ("embed", "unchanged"),
        ("retrain", "unchanged"),
        ("generate", "unchanged"),
    ]
    assert "nothing.toml" in listed[4]["problem"]
    assert listed[-1]["counts"]["ingest.items"] == 40
    assert "retrain   unchanged" in graph2image("runs", "--last", "3", data=data).stdout

    # One flow at a time: another one waits, and then says for whom it waited.
    monkeypatch.setattr("flows.tasks.WAIT_S", 0.5)
    with writer_lock(DataRoot(data), "flow"), pytest.raises(TransientError, match="is being written by process"):
        flows.generate_batch(batch, data=data)
    assert flows.generate_batch(batch, data=data) == 0
    assert flows.refresh(data=data).startswith("mini-")
    assert model_id in graph2image("models", data=data).stdout
