"""Small sources, published as ingestion publishes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ingest.datasets.root import DataRoot, text_hash
from ingest.datasets.schemas import ENTITY_SCHEMA, ITEM_SCHEMA, RELATION_SCHEMA, embedding_schema

Row = dict[str, Any]


def item(item_id: str, label: str = "Artwork", **columns: Any) -> Row:
    name = item_id.partition(":")[2]
    return {
        "item_id": item_id,
        "label": label,
        "title": name,
        "text": f"text of {name}",
        "image_hash": f"hash of {name}",
        "image_ref": None,
        "split": "train",
        "group_id": item_id,
        "opted_out": False,
    } | columns


def entity(entity_id: str, **columns: Any) -> Row:
    _, label, name = entity_id.split("/")
    return {"entity_id": entity_id, "label": label, "name": name} | columns


def relation(type_: str, from_id: str, to_id: str, weight: float = 1.0) -> Row:
    return {"type": type_, "from_id": from_id, "to_id": to_id, "weight": weight}


def publish(
    data: DataRoot,
    source: str,
    items: Sequence[Row],
    entities: Sequence[Row] = (),
    relations: Sequence[Row] = (),
    *,
    extra: Sequence[pa.Field] = (),
) -> None:
    """Publish the three datasets of a source; `extra` are the source's own item columns."""
    item_schema = pa.schema([*ITEM_SCHEMA, *extra])
    data.publish(f"items/{source}", [pa.Table.from_pylist(list(items), item_schema)], item_schema)
    data.publish(f"entities/{source}", [pa.Table.from_pylist(list(entities), ENTITY_SCHEMA)], ENTITY_SCHEMA)
    data.publish(f"relations/{source}", [pa.Table.from_pylist(list(relations), RELATION_SCHEMA)], RELATION_SCHEMA)


MONET, HOKUSAI = "art/Artist/Monet", "art/Artist/Hokusai"
LANDSCAPE = "art/Genre/landscape"


def publish_art(data: DataRoot) -> None:
    """Five artworks, two artists, one genre; `art:5` is without relations."""
    publish(
        data,
        "art",
        [item(f"art:{n}") for n in range(1, 6)],
        [entity(MONET), entity(HOKUSAI), entity(LANDSCAPE)],
        [
            relation("CREATED_BY", "art:1", MONET),
            relation("CREATED_BY", "art:2", MONET),
            relation("CREATED_BY", "art:3", HOKUSAI),
            relation("CREATED_BY", "art:4", HOKUSAI),
            relation("IN_GENRE", "art:1", LANDSCAPE),
            relation("IN_GENRE", "art:3", LANDSCAPE),
            relation("INFLUENCED_BY", MONET, HOKUSAI),
        ],
    )


def vector(name: str, dim: int = 8) -> list[float]:
    """A unit vector that depends on `name` only."""
    values = np.random.default_rng(list(name.encode())).normal(size=dim)
    return (values / np.linalg.norm(values)).astype(np.float32).tolist()


def publish_embeddings(
    data: DataRoot, items: Sequence[Row], images: dict[str, list[float]] | None = None, encoder: str = "test"
) -> None:
    """Embeddings of the items' images and texts: those of `images` by image hash, others made from their names."""
    hashes = sorted({row["image_hash"] for row in items if row["image_hash"]})
    vectors = [(images or {}).get(name) or vector(name) for name in hashes]
    _append(data, f"embeddings/{encoder}", "image_hash", hashes, vectors)
    texts = sorted({row["text"] or "" for row in items})
    keys, vectors = [text_hash(text) for text in texts], [vector(text) for text in texts]
    _append(data, f"text-embeddings/{encoder}", "text_hash", keys, vectors)


def _append(data: DataRoot, name: str, key: str, keys: list[str], vectors: list[list[float]]) -> None:
    schema = embedding_schema(key, len(vectors[0]) if vectors else 8)
    data.append(
        name, pa.table([pa.array(keys), pa.array(vectors, schema.field("embedding").type)], schema=schema), schema
    )
