"""The sample data of all three sources, ingested: what an analyst's graph looks like, small."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from graphstore.loading.load import load_source
from graphstore.registry import TrainedModel
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import GENERATED_SCHEMA, NEIGHBOR_SCHEMA
from ingest.ingestion import Amazon, Art500k, Goodreads
from ingest.sampledata import paint_amazon, paint_art500k, paint_goodreads
from ingest.sampledata.artists import ARTISTS
from ingest.sources import ingest_source

SOURCES = ("amazon", "art500k", "goodreads")
MODELS = ("mini-1", "mini-2")
#: Images of each source that are not there, so that their rows are rejected.
MISSING = 2

_PAINTER_COLUMNS = (
    "artist",
    "Nationality",
    "movement",
    "PaintingSchool",
    "Influencedby",
    "Influencedon",
    "Pupils",
    "Teachers",
    "FriendsandCoworkers",
)


def ingest_samples(data: DataRoot, folder: Path, items: int = 150) -> None:
    """Ingest `items` rows of each source, with random blobs for images, and what is known of the artists."""
    paint_art500k(folder / "art500k", items=items, images=False)
    paint_amazon(folder / "amazon", items=items, images=False)
    paint_goodreads(folder / "goodreads", items=items, images=False)
    painters = folder / "PainterPalette.csv"
    _write_painters(painters)
    # Once without images, to learn where the rows say that they are.
    _ingest(DataRoot(str(folder / "unpictured")), folder, painters, pictures=False)
    for source in SOURCES:
        _write_pictures(DataRoot(str(folder / "unpictured")), source, folder / source)
    _ingest(data, folder, painters, pictures=True)


def _ingest(data: DataRoot, folder: Path, painters: Path, *, pictures: bool) -> None:
    places = [folder / "art500k", folder / "amazon/images", folder / "goodreads/images"] if pictures else [None] * 3
    ingest_source(
        data, Art500k(files=(f"{folder}/art500k/label_list.csv",), images=places[0], painters=(str(painters),))
    )
    ingest_source(data, Amazon(files=(f"{folder}/amazon/meta_*.json.gz",), images=places[1]))
    ingest_source(data, Goodreads(files=(f"{folder}/goodreads/*.json.gz",), images=places[2]))


def _write_pictures(data: DataRoot, source: str, folder: Path) -> None:
    rng = np.random.default_rng(0)
    refs = [ref for ref in data.read(f"items/{source}")["image_ref"].to_pylist() if ref]
    for ref in refs[MISSING:]:
        path = folder / "images" / ref.rpartition("/")[2] if "://" in ref else folder / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (17, 17, 3), np.uint8)).resize((80, 80)).save(stream, "JPEG")
        path.write_bytes(stream.getvalue())


def _write_painters(path: Path) -> None:
    """Each artist was taught by the one before and influenced the next two; every other one has two nationalities."""
    names = [artist.name for artist in ARTISTS]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _PAINTER_COLUMNS)
        writer.writeheader()
        for number, artist in enumerate(ARTISTS):
            writer.writerow(
                {
                    "artist": artist.name,
                    "Nationality": ",".join(("Dutch", "French", "Japanese")[number % 3 : number % 3 + 1 + number % 2]),
                    "movement": artist.movement.name,
                    "Influencedon": ",".join(names[number + 1 : number + 3]),
                    "Teachers": ",".join(names[max(0, number - 1) : number]),
                    "FriendsandCoworkers": names[(number * 7 + 3) % len(names)],
                }
            )


def publish_images_made(data: DataRoot, version: str) -> list[TrainedModel]:
    """Two models, and an image that each made for a test item of each source from three neighbors in training."""
    models = [TrainedModel(name, "mini", datetime(2026, 5, 4), version, f"for-{name}") for name in MODELS]
    for model in models:
        data.publish(f"neighbors/{model.neighbors}", [NEIGHBOR_SCHEMA.empty_table()], NEIGHBOR_SCHEMA)
    rows = []
    for source in SOURCES:
        items = data.read(f"items/{source}").to_pylist()
        train, test = ([row["item_id"] for row in items if row["split"] == split] for split in ("train", "test"))
        for number, model_id in enumerate(MODELS):
            neighbors = [{"item_id": train[number + rank], "weight": 1.0 / rank, "rank": rank} for rank in (1, 2, 3)]
            rows.append(
                {
                    "generated_id": f"{source}-{number}",
                    "item_id": test[number],
                    "model_id": model_id,
                    "variant": "graph-1.5",
                    "seed": number,
                    "settings": "{}",
                    "neighbors": neighbors,
                    "image_path": f"generated/{model_id}/{source}-{number}.png",
                }
            )
    data.append("generated", pa.Table.from_pylist(rows, GENERATED_SCHEMA), GENERATED_SCHEMA)
    return models


def load_samples(store: GraphStore, data: DataRoot) -> str:
    """Load all sources; returns the graph version."""
    for source in SOURCES:
        version = load_source(store, data, source).version
    return version
