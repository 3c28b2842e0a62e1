"""The example specs on the data they were written for, where that is at hand."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path

import pytest

from ingest.datasets.root import DataRoot
from ingest.ingestion import Table
from ingest.readers.tablespec import load_spec
from ingest.sources import ingest_source

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def shared() -> Path:
    folder = os.environ.get("GRAPH2IMAGE_SHARED")
    if not folder:
        pytest.skip("GRAPH2IMAGE_SHARED does not name the folder of the data")
    return Path(folder) / "data"


@pytest.mark.parametrize("name", ["art", "fashion"])
def test_example_specs_are_valid(name: str) -> None:
    load_spec(EXAMPLES / f"{name}.toml")


@pytest.mark.slow
def test_fashion(shared: Path, data: DataRoot) -> None:
    report = ingest_source(data, Table(spec=EXAMPLES / "fashion.toml", root=shared / "fashion", strict=True))
    assert (report.rows_read, report.items, report.images_new) == (9583, 9583, 9461)
    items = data.read("items/fashion").to_pylist()
    assert Counter(row["color"] for row in items)["NA"] == 3
    # A color of two words, or one that occurs twice in the title, is gone all the same.
    assert not [row for row in items if row["color"].lower() in row["text"].lower().split()]
    splits = Counter(row["split"] for row in items)
    assert 850 < splits["test"] < 1050
    again = ingest_source(data, Table(spec=EXAMPLES / "fashion.toml", root=shared / "fashion"))
    assert again == dataclasses.replace(report, images_new=0, changed=False)


def test_art(shared: Path, data: DataRoot) -> None:
    report = ingest_source(data, Table(spec=EXAMPLES / "art.toml", root=shared / "art", strict=True))
    assert (report.rows_read, report.items, report.images_new) == (10361, 10361, 0)
    relations = data.read("relations/painters").to_pylist()
    influences = {(row["from_id"], row["to_id"]) for row in relations if row["type"] == "INFLUENCED_BY"}
    assert ("painters:Egon Schiele", "painters:Gustav Klimt") in influences
