"""Retraining: when it is due, what the gate lets through, and what is kept of the decision."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from flows.gate import Difference, GateSettings, decide
from flows.retrain import Retraining, RetrainReport
from flows.retrain import retrain as retrain_stage
from flows.settings import Settings
from flows.snapshots import changes
from graphstore.registry import history, registered_models

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from published import MODEL
from tiny_data import TinyData

Command = Callable[..., Result]


def measured(mean: float, low: float | None = None, high: float | None = None) -> Difference:
    return Difference(0.5 + mean, 0.5, mean, low, high)


@pytest.mark.parametrize(
    ("measures", "stale", "promoted", "said"),
    [
        ({"both": measured(0.1, 0.02, 0.2)}, False, True, "better: both +0.100 (+0.020 to +0.200)"),
        ({"both": measured(0.1, -0.02, 0.2)}, False, False, "not clearly better"),
        ({"both": measured(0.1)}, False, False, "not clearly better: both +0.100"),  # of one cluster: no test
        ({"both": measured(0.1, 0.02, 0.2), "copy": measured(0.03)}, False, False, "worse in copy: +0.030"),
        ({"both": measured(0.1, 0.02, 0.2), "copy": measured(-0.5)}, False, True, "better"),
        ({"both": measured(0.1, 0.02, 0.2), "subject": measured(-0.06)}, False, False, "worse in subject: -0.060"),
        ({"both": measured(0.1, 0.02, 0.2), "subject": measured(-0.05)}, False, True, "better"),
        ({"image": measured(0.01, 0.001, 0.02)}, False, True, "better: image"),
        ({"both": measured(-0.04, -0.1, 0.02)}, True, True, "not much worse"),
        ({"both": measured(-0.06, -0.1, -0.02)}, True, False, "too much worse"),
        ({"both": measured(0.0, 0.0, 0.0), "copy": measured(0.5)}, True, False, "worse in copy"),
        ({}, False, False, "nothing to tell by"),
    ],
)
def test_the_gate(measures: dict[Any, Difference], stale: bool, promoted: bool, said: str) -> None:
    headline = next((name for name in ("both", "image") if name in measures), None)
    ok, reasons = decide(headline, measures, GateSettings(), stale=stale)  # type: ignore[arg-type]
    assert ok == promoted
    assert any(said in reason for reason in reasons), reasons


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--guard", "beauty=0.1"), "beauty"),
        (("--guard", "copy=2"), "from 0 to 1"),
        (("--item-share", "7"), "--item-share"),
        (("--seed", "1", "--seed", "1"), "given twice"),
    ],
)
def test_mistakes_are_told_before_any_work(
    shared_tiny: TinyData, graph2image: Command, options: tuple[str, ...], said: str
) -> None:
    result = graph2image("retrain", "mini", *options, data=shared_tiny.root.url)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


@pytest.mark.slow
def test_from_the_first_model_to_one_without_a_withdrawn_work(
    tiny: TinyData, graph2image: Command, tmp_path: Path
) -> None:
    settings = Settings(data=tiny.root.url)
    shutil.rmtree(tiny.root.path("models", MODEL))
    gate = GateSettings(items=4, split="test", steps=1, stale_loss=1.0, guards={"copy": 1.0})

    def retrain(**changed: Any) -> RetrainReport:
        wanted = Retraining(config=str(tiny.config_path), gate=gate)
        return retrain_stage(settings, wanted.model_copy(update=changed))

    first = retrain()
    assert (first.decision, first.trigger, first.current) == ("promoted", ("there is no model yet",), None)
    assert first.verdict is not None
    assert first.verdict.items == 4
    assert first.verdict.measures["image"].candidate is not None
    again = retrain()
    assert (again.decision, again.changed) == ("not due", False)
    assert "0.0% of the training items are new (0), changed (0) or gone (0): fewer than 5.0%" in again.trigger[0]

    assert graph2image("optout", "toy:05", data=tiny.root.url).exit_code == 0
    second = retrain()
    assert second.decision == "promoted"
    assert any("is stale" in reason for reason in second.trigger)
    moved = changes(tiny.root, first.snapshot.neighbors, second.snapshot.neighbors)
    assert moved is not None
    assert (moved.new, moved.changed, moved.gone, moved.items) == (0, 0, 1, moved.common + 1)
    assert second.verdict is not None
    assert second.verdict.measures["image"].mean is not None
    assert "the current model is stale" in second.markdown
    assert f"## Promoted {second.candidate}" in second.markdown

    # Another configuration: the gate decides by the figures, and the registry follows.
    config = tmp_path / "other.toml"
    config.write_text(f"seed = 5\n{tiny.config_path.read_text()}")
    third = retrain(config=str(config), gate=gate.model_copy(update={"guards": {"image": 0.0, "copy": 1.0}}))
    assert third.trigger == (f"{second.candidate} was trained by another configuration",)
    assert third.verdict is not None
    assert (third.decision == "promoted") == third.verdict.promote
    with settings.open_store(read_only=True) as store:
        status = {model.model_id: model.status for model in registered_models(store)}
        reasons = [row["reason"] for row in history(store)]
        metrics = {model.model_id: model.metrics for model in registered_models(store)}
    assert status[str(third.candidate)] == ("promoted" if third.verdict.promote else "rejected")
    assert status[str(first.candidate)] == "replaced"
    assert reasons[0] == "there is no model yet that it would replace"
    assert metrics[str(third.candidate)]["image"]["mean"] == third.verdict.measures["image"].mean
    kept = [json.loads(file.read_bytes()) for file in (Path(tiny.root.path("retrainings"))).glob("*.json")]
    assert {row["candidate"] for row in kept} == {first.candidate, second.candidate, third.candidate}
