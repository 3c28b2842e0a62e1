"""A study from the command line, on a tiny data root: made, found made, and with a variant that fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_data import CONFIG, TinyData
from typer.testing import Result

STUDY = """
base = "tiny.toml"
title = "Tiny <things>"
items = 3
metrics = ["image", "neighbors"]
[training.optimization]
steps = 1
[sampling]
mode = "ppr"
k = 2
pool = 2
[generation]
num_inference_steps = 1
[[variant]]
name = "graph"
[[variant]]
name = "broken"
training.base_model = "nowhere"
[[variant]]
name = "text only"
training.graph_encoder.max_neighbors = 0
generation.neighbors = "none"
[[sweep]]
name = "scale"
key = "generation.graph_guidance_scale"
values = [0, 1]
metric = "image"
[[comparison]]
variant = "text only"
baseline = "graph"
"""


@pytest.mark.slow
def test_a_study(graph2image: Callable[..., Result], tiny: TinyData, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(CONFIG)
    path, page = tmp_path / "study.toml", tmp_path / "page.html"
    path.write_text(STUDY)
    data = tiny.root.path()

    def study(*options: str) -> tuple[Result, dict[str, object]]:
        result = graph2image("study", str(path), "--report", str(page), "--json", *options, data=data)
        return result, json.loads(result.stdout)

    unknown = graph2image("study", str(path), "--only", "other", data=data)
    assert unknown.exit_code == 1
    assert "there is no variant 'other'" in unknown.stderr
    _, plan = study("--plan")
    assert [step["finished"] for step in plan["steps"]] == [False] * 9  # type: ignore[attr-defined]
    assert plan["seconds_left"] is None

    # The last variant first, and the others later: a study that was stopped in between.
    result, part = study("--only", "text only")
    assert (result.exit_code, part["made"], part["report"]) == (0, 3, None)
    assert part["missing"] == ["graph", "broken", "scale 0", "scale 1"]

    result, report = study()
    assert result.exit_code == 1
    assert (report["made"], report["existing"], report["variants"]) == (4, 3, 4)
    assert list(report["failed"]) == ["broken"]  # type: ignore[call-overload]
    assert "nowhere" in report["failed"]["broken"]  # type: ignore[index]
    written = page.read_text()
    assert "1 of 5 variants failed" in written
    assert "text only less graph" in written
    assert "Tiny &lt;things&gt;" in written
    assert "trend" in written

    again, same = study()
    assert (again.exit_code, same["made"], same["changed"]) == (1, 0, False)
    assert (same["comparison_id"], same["headline"]) == (report["comparison_id"], report["headline"])
    _, plan = study("--plan", "--only", "graph", "--only", "text only")
    assert plan["seconds_left"] == 0
