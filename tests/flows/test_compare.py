"""`compare` puts models beside each other on the same items and seeds, and refuses what does not pair."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from flows.model_comparison import Contender
from flows.repair import repair, to_cases
from flows.settings import Settings
from ingest.datasets.verify import find_damage
from ingest.errors import Graph2ImageError
from model.evaluation.comparison import read_comparison

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from published import MODEL
from tiny_data import ENCODER, TinyData

Command = Callable[..., Result]


@pytest.fixture
def compare(tiny: TinyData, graph2image: Command, tmp_path: Path) -> Callable[..., Result]:
    """Call `compare` on the tiny data; the page is `compare.html` in the test's folder."""

    def call(*arguments: str) -> Result:
        page = str(tmp_path / "compare.html")
        return graph2image("compare", *arguments, "--report", page, data=tiny.root.url)

    return call


def answer(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.slow
def test_a_model_and_one_of_its_evaluations(tiny: TinyData, compare: Callable[..., Result], tmp_path: Path) -> None:
    """Both ways to name one; the second call makes no image, and the page needs nothing but itself."""
    named = f"new={MODEL}"
    first = answer(compare(named, "--items", "4", "--steps", "1", "--seed", "0", "--seed", "1", "--json"))
    assert (first["changed"], first["items"], first["seeds"]) == (True, 4, [0, 1])
    [(source, rows)] = first["figures"].items()
    assert source == f"graph2image's encoder ({ENCODER})"
    assert [row["images"] for row in rows] == [
        "new, text + graph × 1.5", "new, text only", "new, shuffled neighbors", "true image",
    ]  # fmt: skip
    page = (tmp_path / "compare.html").read_text()
    assert set(re.findall(r'(?:src|href)="([^"]{1,5})', page)) <= {"data:", "#figu", "#diff", "#grou", "#shee"}
    assert page.count("<article") == 4
    assert "default-src 'none'" in page
    comparison = read_comparison(tiny.root, first["comparison_id"])
    zero, one = comparison.entries[0].evaluation_ids
    evaluations = [f"old={MODEL}/{evaluation}" for evaluation in (zero, one)]
    again = answer(compare(named, *evaluations, "--items", "4", "--steps", "1", "--seed", "0", "--seed", "1", "--json"))
    assert (again["items"], again["comparison_id"] != first["comparison_id"]) == (4, True)
    both = read_comparison(tiny.root, again["comparison_id"])
    equal = next(one for one in both.differences if one.baseline == "old, text + graph × 1.5")
    assert all(interval.mean == 0 for interval in equal.figures.values())  # the same images
    assert answer(compare(named, "--items", "4", "--steps", "1", "--seed", "0", "--seed", "1", "--json")) == {
        **first, "changed": False,
    }  # fmt: skip

    kept = f"features/{comparison.metrics[0].extractor_id}/images"
    damaged = [*tiny.root.fs.glob(tiny.root.path(kept, "*.parquet")), tiny.root.path(both.folder, "scores.parquet")]
    for path in damaged:
        tiny.root.fs.pipe_file(path, tiny.root.fs.cat_file(path)[:-1])
    inspection = find_damage(tiny.root)
    cases = [
        case
        for case in to_cases(Settings(data=tiny.root.url), tiny.root, inspection.damage, retrain=False)
        if case.kind in ("features", "comparisons")
    ]
    assert [case.remedy() for case in cases] == [
        "the next `graph2image compare`", "the same `graph2image compare` again",
    ]  # fmt: skip
    assert repair(cases) == ["removed", "removed"]

    mixed = compare(f"a={MODEL}/{zero}", f"b={MODEL}/{one}")
    assert mixed.exit_code == 1
    assert "their seeds are 0 and 1" in mixed.stderr
    printed = compare(f"a={MODEL}/{zero}")
    assert printed.exit_code == 0, printed.output
    assert f"By graph2image's encoder ({ENCODER}):" in printed.stdout
    assert "Unchanged" not in printed.stdout  # one seed of the two is another comparison


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "nothing"),
        ((f"{MODEL}/nothing",), "has no evaluation 'nothing'"),
        ((f"{MODEL}/../x",), "names no model to compare"),
        (("=x",), "names no model to compare"),
        ((MODEL, "--seed", "3", "--seed", "3"), "a seed is given twice: 3, 3"),
        ((MODEL, "--extractor", "no such thing"), "there is no extractor 'no such thing'"),
        ((MODEL, "--cluster", "Brand", "--items", "2", "--steps", "1"), "no entities with the label 'Brand'"),
        ((MODEL, "--split", "val"), "0 items of the val split"),
        ((MODEL, "--steps", "0"), "number of inference steps is 0"),
    ],
)
def test_what_cannot_be_compared(compare: Callable[..., Result], arguments: tuple[str, ...], message: str) -> None:
    result = compare(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_how_a_model_is_named() -> None:
    assert Contender.parse("m-1") == Contender("m-1", "m-1")
    assert Contender.parse("ours = best=m-1/e2") == Contender("ours = best", "m-1", "e2")
    for text in ("", "a=", "=m", "m/", "m/e/f"):
        with pytest.raises(Graph2ImageError, match="names no model to compare"):
            Contender.parse(text)
