"""The `neighbors` command: its table, what it says of itself, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from flows.demo import DemoReport
from ingest.datasets.root import DataRoot

Command = Callable[..., Result]


@pytest.fixture
def held_out(demo: DemoReport) -> str:
    """A test item of the gallery."""
    for row in DataRoot(demo.data).read("items/art500k").to_pylist():
        if row["split"] == "test":
            return str(row["item_id"])
    raise AssertionError("the gallery has no test item")


def _explained(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def test_the_table_has_scores_similarities_and_paths(demo: DemoReport, graph2image: Command, held_out: str) -> None:
    result = graph2image("neighbors", held_out, data=demo.data)
    assert result.exit_code == 0, result.output
    for word in ("item_id", "ppr", "similarity", "via", "5 rows"):
        assert word in result.stdout
    assert f"{held_out}: " in result.stdout
    assert "(test)" in result.stdout


def test_options_of_the_walk(demo: DemoReport, graph2image: Command, held_out: str) -> None:
    def asked(*options: str) -> dict[str, Any]:
        return _explained(graph2image("neighbors", held_out, "--json", *options, data=demo.data))

    by_artist = asked("--via", "CREATED_BY", "--mode", "ppr", "--k", "12", "--epsilon", "1e-7")
    assert len(by_artist["neighbors"]) <= 12
    assert all(neighbor["via"].startswith("CREATED_BY") for neighbor in by_artist["neighbors"])
    assert by_artist["neighbors"] == asked("--via", "CREATED_BY", "--mode", "ppr", "--k", "12", "--epsilon", "1e-7",
                                           "--weight", "IN_GENRE=7")["neighbors"]  # fmt: skip
    nowhere = asked("--via", "CREATED_BY", "--direction", "CREATED_BY=backward")
    assert {neighbor["via"] for neighbor in nowhere["neighbors"]} == {"semantic"}
    assert nowhere["notes"] == [
        f"no walk from {held_out} reaches a neighbor: these are the most similar images instead"
    ]
    assert asked()["notes"] == []


def test_a_held_out_item_is_compared_by_its_text(demo: DemoReport, graph2image: Command, held_out: str) -> None:
    result = graph2image("neighbors", held_out, "--query", "image", data=demo.data)
    assert f"Note: {held_out} is a test item: the query is its text" in result.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--via", "PAINTED"], "there is no relation type 'PAINTED'"),
        (["--weight", "PAINTED=2"], "Its types are CREATED_BY"),
        (["--encoder", "nothing"], "graph2image embed"),
    ],
)
def test_what_the_graph_does_not_have(
    demo: DemoReport, graph2image: Command, held_out: str, options: list[str], says: str
) -> None:
    result = graph2image("neighbors", held_out, *options, data=demo.data)
    assert result.exit_code == 1, result.output
    assert says in result.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--k", "0"], "--k must be greater than or equal to 1"),
        (["--k", "-3"], "--k must be greater than or equal to 1"),
        (["--k", "100000000"], "--k must be less than or equal to 1000"),
        (["--k", "100000000000000000000000"], "--k must be a number of 64 bits"),
        (["--k", "nan"], "valid integer"),
        (["--pool", "3"], "pool (3) must be at least k (5)"),
        (["--pool", "1000000000"], "--pool must be less than or equal to 2000"),
        (["--epsilon", "0"], "--epsilon must be greater than or equal to 0.000000000001"),
        (["--epsilon", "-1"], "--epsilon must be greater than or equal to 0.000000000001"),
        (["--epsilon", "nan"], "--epsilon must be a finite number"),
        (["--epsilon", "inf"], "--epsilon must be a finite number"),
        (["--epsilon", "1e300"], "--epsilon must be less than or equal to 1"),
        (["--weight", "CREATED_BY=nan"], "nan is no number"),
        (["--weight", "CREATED_BY=inf"], "inf is no number"),
        (
            ["--weight", "CREATED_BY=-1"],
            "--weight CREATED_BY must be 0, or a number from 0.000001 to 1,000,000, not -1",
        ),
        (["--weight", "CREATED_BY=1e30"], "to 1,000,000, not 1e+30"),
        (["--weight", "CREATED_BY"], "TYPE=W"),
        (["--direction", "CREATED_BY=sideways"], "--direction CREATED_BY must be 'both', 'forward' or 'backward'"),
        (["--direction", "CREATED_BY"], "TYPE=DIRECTION"),
        (["--query", "sound"], "image"),
        (["--mode", "best"], "semantic"),
        (["--any"], "mode semantic-ppr compares images, so neighbors need one: choose mode ppr or random"),
        (["--any", "--mode", "semantic"], "choose mode ppr or random"),
    ],
)
def test_options_are_checked_before_anything_is_looked_at(
    tmp_path: Path, graph2image: Command, options: list[str], says: str
) -> None:
    for what in ("art500k:1", "--all"):
        result = graph2image("neighbors", what, *options, data=tmp_path / "data")
        assert result.exit_code in (1, 2), result.output
        assert says in " ".join(result.output.replace("│", " ").split())
        assert not (tmp_path / "data").exists()


def test_an_unknown_item(demo: DemoReport, graph2image: Command) -> None:
    result = graph2image("neighbors", "art500k:nothing", data=demo.data)
    assert result.exit_code == 1
    assert "there is no item 'art500k:nothing'" in result.output


SPEC = """
source = "shop"
[table]
file = "shop.csv"
[image]
folder = "."
path = "{key}.png"
[item]
label = "Product"
id = "{key}"
title = "{name}"
[[entity]]
label = "Brand"
relation = "BY_BRAND"
value = "{brand}"
[split]
column = "split"
"""


def test_before_there_are_embeddings(tmp_path: Path, graph2image: Command) -> None:
    (tmp_path / "shop.toml").write_text(SPEC)
    (tmp_path / "shop.csv").write_text(
        "key,name,brand,split\n1,red shoe,a,train\n2,blue shoe,a,train\n3,green shoe,b,train\n"
    )
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    for key, pixels in enumerate(noise, 1):
        Image.fromarray(pixels).save(tmp_path / f"{key}.png")
    root = tmp_path / "data"
    ingested = graph2image("ingest", "table", str(tmp_path / "shop.toml"), "--root", str(tmp_path), data=root)
    assert ingested.exit_code == 0, ingested.output
    needs = graph2image("neighbors", "shop:1", data=root)
    assert needs.exit_code == 1
    assert "graph2image embed" in needs.output
    (near,) = _explained(graph2image("neighbors", "shop:1", "--mode", "ppr", "--json", data=root))["neighbors"]
    assert (near["item_id"], near["similarity"], near["via"]) == ("shop:2", None, "BY_BRAND shop/Brand/a")
    alone = _explained(graph2image("neighbors", "shop:3", "--mode", "ppr", "--json", data=root))
    assert (alone["neighbors"], alone["notes"]) == ([], ["no walk from shop:3 reaches a neighbor"])
    everything = graph2image("neighbors", "--all", "--mode", "random", data=root)
    assert "Sampled 6 neighbors for 3 items" in everything.stdout
