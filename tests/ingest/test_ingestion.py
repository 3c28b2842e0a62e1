"""One class per source: what it checks, that it travels as JSON, and that each is read from its painted files."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from flows.settings import Settings
from flows.stages import ingest
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from ingest.ingestion import INGESTIONS, Amazon, AnyIngestion, Art500k, Goodreads, Ingestion, InstructG2I, Table
from ingest.sampledata import paint_amazon, paint_art500k, paint_goodreads
from ingest.sources import ingest_source, open_source

any_ingestion: TypeAdapter[Ingestion] = TypeAdapter(AnyIngestion)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["art500k", "amazon", "goodreads"])
def test_every_source_from_its_painted_files(source: str, tmp_path: Path) -> None:
    paint = {"art500k": paint_art500k, "amazon": paint_amazon, "goodreads": paint_goodreads}[source]
    painted = paint(tmp_path / "files", items=120, workers=1)
    files, images = {
        "art500k": ("label_list.csv", "files"),
        "amazon": ("meta_*.json.gz", "files/images"),
        "goodreads": ("goodreads_*.json.gz", "files/images"),
    }[source]
    settings = Settings(data=str(tmp_path / "data"))
    ingestion = any_ingestion.validate_python(
        {"source": source, "files": [f"{tmp_path}/files/{files}"], "images": str(tmp_path / images)}
    )
    first = ingest(settings, ingestion)
    report, rejected = first.ingest, sum(first.ingest.rejected.values())
    assert report.rows_read - report.auxiliary_rows == painted.rows
    assert painted.rows == report.items + report.duplicates + rejected
    # Every image that is missing or broken, and nothing else, is missing; no row is rejected for it.
    assert sum(report.missing_images.values()) == painted.defects["missing_file"] + painted.defects["broken_image"]
    assert rejected == 0
    assert first.load.items == report.items
    # The names that were checked before are those that came.
    names, root = open_source(ingestion).names, DataRoot(settings.data)
    assert set(root.read(f"items/{source}")["label"].to_pylist()) == names.items
    assert set(root.read(f"entities/{source}")["label"].to_pylist()) <= names.entities
    assert set(root.read(f"relations/{source}")["type"].to_pylist()) <= names.relation_types
    assert not ingest(settings, ingestion).changed


ONE_OF_EACH = [
    Art500k(files=("a.csv",), painters=("b.csv", "c.csv"), workers=2),
    Amazon(files=("meta_*.json.gz",), refresh=True, prune=True),
    Goodreads(files=("g.json.gz",), images=Path("covers.zip"), min_shelf_count=1, strict=True),
    InstructG2I(folder=Path("set"), center_key="center"),
    Table(spec=Path("spec.toml"), root=Path("root")),
]


def test_an_ingestion_travels_as_json() -> None:
    assert [type(ingestion) for ingestion in ONE_OF_EACH] == list(INGESTIONS.values())
    for ingestion in ONE_OF_EACH:
        told = any_ingestion.dump_json(ingestion)
        assert any_ingestion.validate_json(told) == ingestion
        assert type(any_ingestion.validate_json(told)) is type(ingestion)


@pytest.mark.parametrize("ingestion", ONE_OF_EACH)
def test_every_source_is_dispatched(ingestion: Ingestion, tmp_path: Path) -> None:
    """None of the files exists, and each reader says so."""
    with pytest.raises(Graph2ImageError, match=r"there is no file|cannot read|is not in InstructG2I's layout"):
        ingest_source(DataRoot(str(tmp_path)), ingestion)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"source": "etsy", "files": ["a"]}, "source"),
        ({"source": "amazon", "files": []}, "files"),
        ({"source": "amazon", "files": [""]}, "files"),
        ({"source": "amazon", "files": ["a"], "place": "b"}, "place"),
        ({"source": "amazon", "files": ["a"], "images": "b", "fetch": True}, "images are either taken from"),
        ({"source": "amazon", "files": ["a"], "workers": 0}, "workers"),
        ({"source": "art500k", "files": ["a"], "fetch": True}, "fetch"),
        ({"source": "goodreads", "files": ["a"], "min_shelf_count": 0}, "min_shelf_count"),
        ({"source": "instructg2i", "folder": "a", "text_key": ""}, "text_key"),
        ({"source": "table"}, "spec"),
    ],
)
def test_what_is_no_ingestion(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        any_ingestion.validate_python(values)


@pytest.mark.parametrize("pattern", ["nothing*.gz", "nothing.gz", "a**b", "[", ""])
def test_a_pattern_without_a_file(pattern: str, tmp_path: Path) -> None:
    files = tmp_path / "none" / pattern if pattern else Path("/")
    with pytest.raises(Graph2ImageError, match=r"no file|is a folder"):
        ingest_source(DataRoot(str(tmp_path / "data")), Amazon(files=(str(files),)))
