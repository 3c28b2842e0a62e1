"""A data root of painted works that can be judged by hand: the artist is a color, the genre is a shape."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw
from records import model_record, write_autoencoder, write_record

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import (
    ENTITY_SCHEMA,
    GENERATED_SCHEMA,
    IMAGE_SCHEMA,
    ITEM_SCHEMA,
    NEIGHBOR_SCHEMA,
    RELATION_SCHEMA,
)
from model.evaluation.record import EvaluationRecord, RequestedImage
from model.generation.variants import TEXT, Variant

MODEL, NEIGHBORS = "painter", "sampled"
ARTISTS = {"Rosso": (200, 60, 50), "Verde": (60, 160, 70), "Azzurro": (50, 80, 200)}
GENRES = ("portrait", "landscape")
TRAIN, TEST = 120, 12
GRAPH_1, GRAPH_2, SHUFFLED = Variant("graph", 1.0), Variant("graph", 2.0), Variant("shuffled", 1.5)


@dataclass(frozen=True)
class Work:
    item_id: str
    artist: str
    genre: str
    split: str
    content: bytes
    image_hash: str


def paint(artist: str, genre: str, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (64, 64), (235, 230, 220))
    fill = tuple(int(c + rng.integers(-20, 21)) for c in ARTISTS[artist])
    a, b = (int(v) for v in rng.integers(8, 24, 2))
    if genre == "portrait":
        ImageDraw.Draw(image).ellipse((a, b, a + 28, b + 34), fill)
    else:
        ImageDraw.Draw(image).rectangle((0, 20 + a, 64, 64), fill)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def works() -> list[Work]:
    found = []
    for seed in range(TRAIN + TEST):
        artist, genre = list(ARTISTS)[seed % 3], GENRES[seed // 3 % 2]
        content = paint(artist, genre, seed)
        split = "train" if seed < TRAIN else "test"
        found.append(Work(f"art:{seed}", artist, genre, split, content, hashlib.sha256(content).hexdigest()))
    return found


WORKS = works()
TESTED = [work for work in WORKS if work.split == "test"]


def other(work: Work) -> Work:
    """A training work of the same genre by the next artist."""
    artists = list(ARTISTS)
    artist = artists[(artists.index(work.artist) + 1) % 3]
    return next(w for w in WORKS if w.split == "train" and (w.artist, w.genre) == (artist, work.genre))


def neighbors_of(work: Work) -> list[Work]:
    return [w for w in WORKS if w.split == "train" and (w.artist, w.genre) == (work.artist, work.genre)][:2]


def write_data(data: DataRoot, *, entities: bool = True) -> None:
    items, images, relations = [], [], []
    for work in WORKS:
        path = f"images/files/{work.image_hash[:2]}/{work.image_hash}.png"
        data.write_bytes(path, work.content)
        images.append(
            {
                "image_hash": work.image_hash,
                "path": path,
                "width": 64,
                "height": 64,
                "format": "PNG",
                "perceptual_hash": "",
            }
        )
        items.append(
            {
                "item_id": work.item_id,
                "label": "Artwork",
                "image_hash": work.image_hash,
                "text": f"A {work.genre} in oil",
                "split": work.split,
                "group_id": work.item_id,
                "opted_out": False,
            }
        )
        for kind, name in (("Artist", work.artist), ("Genre", work.genre)):
            relations.append({"type": "HAS", "from_id": work.item_id, "to_id": f"art/{kind}/{name}", "weight": 1.0})
    named = [("Artist", name) for name in ARTISTS] + [("Genre", name) for name in GENRES]
    rows = [{"entity_id": f"art/{kind}/{name}", "label": kind, "name": name} for kind, name in named]
    data.append("images", pa.Table.from_pylist(images, IMAGE_SCHEMA), IMAGE_SCHEMA)
    data.publish("items/art", [pa.Table.from_pylist(items, ITEM_SCHEMA)], ITEM_SCHEMA)
    if entities:
        data.publish("entities/art", [pa.Table.from_pylist(rows, ENTITY_SCHEMA)], ENTITY_SCHEMA)
        data.publish("relations/art", [pa.Table.from_pylist(relations, RELATION_SCHEMA)], RELATION_SCHEMA)
    sampled = [
        {
            "item_id": work.item_id,
            "split": work.split,
            "neighbors": [{"item_id": n.item_id, "image_hash": n.image_hash} for n in neighbors_of(work)],
        }
        for work in WORKS
    ]
    data.publish(f"neighbors/{NEIGHBORS}", [pa.Table.from_pylist(sampled, NEIGHBOR_SCHEMA)], NEIGHBOR_SCHEMA)
    write_record(data, model_record(MODEL, neighbors=NEIGHBORS))
    write_autoencoder(data, MODEL)


def add_generated(
    data: DataRoot, work: Work, variant: Variant, content: bytes, sources: list[Work], made_by: str = "{}"
) -> RequestedImage:
    generated_id = hashlib.sha256(f"{work.item_id}{variant.label}{made_by}".encode()).hexdigest()[:16]
    path = f"generated/{MODEL}/{generated_id}.png"
    data.write_bytes(path, content)
    row = {
        "generated_id": generated_id,
        "item_id": work.item_id,
        "model_id": MODEL,
        **variant.columns(),
        "seed": 0,
        "settings": made_by,
        "neighbors": [{"item_id": s.item_id, "weight": 1.0, "rank": rank} for rank, s in enumerate(sources, 1)],
        "image_path": path,
    }
    data.append("generated", pa.Table.from_pylist([row], GENERATED_SCHEMA), GENERATED_SCHEMA)
    return RequestedImage(generated_id=generated_id, item_id=work.item_id, variant=variant)


def add_variants(data: DataRoot, work: Work, seed: int, made_by: str = "{}") -> list[RequestedImage]:
    """Text: right genre, wrong artist. Graph at 1: new work of the right artist; at 2: a copy of a neighbor."""
    near, far = neighbors_of(work), other(work)
    made: list[tuple[Variant, bytes, list[Work]]] = [
        (TEXT, paint(far.artist, work.genre, seed), []),
        (GRAPH_1, paint(work.artist, work.genre, seed), near),
        (GRAPH_2, near[1].content, near),
        (SHUFFLED, paint(far.artist, work.genre, seed + 500), [far]),
    ]
    return [add_generated(data, work, variant, content, sources, made_by) for variant, content, sources in made]


def request(images: list[RequestedImage], **changes: Any) -> EvaluationRecord:
    values = {"model_id": MODEL, "split": "test", "neighbors": NEIGHBORS, "settings": {}, "images": tuple(images)}
    return EvaluationRecord.model_validate(values | changes)
