"""Ingestions as one value, from each source: what a scheduled flow runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.settings import Settings
from flows.stages import ingest
from ingest.errors import Graph2ImageError
from ingest.ingestion import Ingestion
from ingest.sampledata import paint_amazon, paint_art500k, paint_goodreads


@pytest.mark.parametrize("source", ["art500k", "amazon", "goodreads"])
def test_every_source_from_its_painted_files(source: str, tmp_path: Path) -> None:
    paint = {"art500k": paint_art500k, "amazon": paint_amazon, "goodreads": paint_goodreads}[source]
    painted = paint(tmp_path / "files", items=120, workers=1)
    files, place = {
        "art500k": ("label_list.csv", "files"),
        "amazon": ("meta_*.json.gz", "files/images"),
        "goodreads": ("goodreads_*.json.gz", "files/images"),
    }[source]
    settings = Settings(data=str(tmp_path / "data"))
    ingestion = Ingestion(source=source, files=(f"{tmp_path}/files/{files}",), place=tmp_path / place)
    first = ingest(settings, ingestion)
    report, rejected = first.ingest, sum(first.ingest.rejected.values())
    assert report.rows_read - report.auxiliary_rows == painted.rows
    assert painted.rows == report.items + report.duplicates + rejected
    # Every image that is missing or broken, and nothing else, is a reject.
    assert rejected == painted.defects["missing_file"] + painted.defects["broken_image"]
    assert first.load.items == report.items
    assert not ingest(settings, ingestion).changed
    assert Ingestion.model_validate(ingestion.model_dump(mode="json")) == ingestion


def test_what_is_no_ingestion() -> None:
    with pytest.raises(ValidationError, match="source"):
        Ingestion.model_validate({"source": "etsy", "files": []})
    with pytest.raises(Graph2ImageError, match="table takes one path, not 2"):
        ingest(Settings(), Ingestion(source="table", files=("a.toml", "b.toml")))
