"""`evaluate` judges exactly the images that it asked for, in the settings that are usual for the model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import Result

from flows import stages
from flows.settings import Settings
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import NEIGHBOR_SCHEMA
from model.evaluation.metrics import metrics_file
from model.evaluation.record import read_evaluation

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from published import MODEL
from records import model_record, write_record
from tiny_data import ENCODER, NEIGHBORS, TinyData

Command = Callable[..., Result]


@pytest.fixture
def evaluate(tiny: TinyData, graph2image: Command, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Call `evaluate` on the tiny model; returns its answer. The report is `report.html` in the test's folder."""

    def call(*arguments: str) -> dict[str, Any]:
        report = str(tmp_path / "report.html")
        result = graph2image("evaluate", "--steps", "1", "--report", report, "--json", *arguments, data=tiny.root.url)
        assert result.exit_code == 0, result.output
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    return call


@pytest.fixture
def other(tiny: TinyData) -> str:
    """Other samples of the same items: their neighbors in reverse."""
    rows = tiny.root.read(f"neighbors/{NEIGHBORS}").to_pylist()
    rows = [row | {"neighbors": row["neighbors"][::-1]} for row in rows]
    tiny.root.publish(
        "neighbors/other", [pa.Table.from_pylist(rows, NEIGHBOR_SCHEMA)], NEIGHBOR_SCHEMA, {"encoder": ENCODER}
    )
    return "other"


def test_what_is_generated_elsewhere_is_not_judged(
    tiny: TinyData, evaluate: Callable[..., dict[str, Any]], graph2image: Command, other: str, tmp_path: Path
) -> None:
    first = evaluate("--items", "4")
    figures = tiny.root.read_bytes(metrics_file(MODEL, first["evaluation_id"]))
    page = (tmp_path / "report.html").read_text()
    for call in (
        ("--split", "test", "--neighbors", other),
        ("toy:03", "--graph-scale", "3"),
        ("toy:02", "--seed", "5"),
    ):
        assert graph2image("generate", *call, "--steps", "1", data=tiny.root.url).exit_code == 0
    again = evaluate("--items", "4")
    assert (again["evaluation_id"], again["items"], again["images_new"]) == (first["evaluation_id"], 4, 0)
    assert tiny.root.read_bytes(metrics_file(MODEL, first["evaluation_id"])) == figures
    shown = [part.partition('"')[0] for part in page.split('src="')[1:]]
    assert shown
    after = (tmp_path / "report.html").read_text()
    assert [part.partition('"')[0] for part in after.split('src="')[1:]] == shown


def test_evaluations_of_a_model_live_side_by_side(
    tiny: TinyData, evaluate: Callable[..., dict[str, Any]], other: str, tmp_path: Path
) -> None:
    whole, fewer, elsewhere = evaluate("--items", "4"), evaluate("--items", "2"), evaluate("--neighbors", other)
    live = evaluate("--neighbors", "live")
    assert [one["items"] for one in (whole, fewer, elsewhere, live)] == [4, 2, 4, 4]
    assert len({one["evaluation_id"] for one in (whole, fewer, elsewhere, live)}) == 4
    records = [read_evaluation(tiny.root, MODEL, one["evaluation_id"]) for one in (whole, elsewhere, live)]
    assert [record.neighbors for record in records] == [NEIGHBORS, other, None]
    for one in (whole, fewer, elsewhere, live):
        assert tiny.root.exists(metrics_file(MODEL, one["evaluation_id"]))
    evaluate("--items", "2")
    page = (tmp_path / "report.html").read_text()
    judged = {image.item_id for image in read_evaluation(tiny.root, MODEL, fewer["evaluation_id"]).images}
    assert {item for item in tiny.item_ids[:4] if f"<code>{item}</code>" in page} == judged


def test_a_split_without_items(tiny: TinyData, graph2image: Command) -> None:
    result = graph2image("evaluate", "--split", "val", data=tiny.root.url)
    assert result.exit_code == 1
    assert "0 items of the val split have an image" in result.stderr


@pytest.mark.parametrize(
    ("preset", "usual"), [("mini", (2.0, 20, "fp32")), ("sd15", (7.5, 100, "auto")), ("sdxl", (5.0, 50, "auto"))]
)
def test_settings_are_those_that_are_usual_for_the_model(
    tmp_path: Path, preset: str, usual: tuple[float, int, str]
) -> None:
    settings = Settings(data=str(tmp_path))
    record = model_record("m")
    write_record(
        DataRoot(str(tmp_path)),
        record.model_copy(update={"config": record.config.model_copy(update={"preset": preset})}),
    )
    chosen = stages.generation_settings(settings, "m")
    assert (chosen.guidance_scale, chosen.num_inference_steps, chosen.precision) == usual
    asked = stages.generation_settings(settings, "m", guidance_scale=3.0, precision="bf16")
    assert (asked.guidance_scale, asked.num_inference_steps, asked.precision) == (3.0, usual[1], "bf16")
