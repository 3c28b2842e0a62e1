"""A tiny data root, loaded into an embedded graph, with a tiny random model."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from flows.settings import Settings
from graphstore.loading.load import load_source
from ingest.datasets.root import text_hash
from ingest.datasets.schemas import (
    ENTITY_NAME_SCHEMA,
    ENTITY_SCHEMA,
    ITEM_SCHEMA,
    NEIGHBOR_SCHEMA,
    RELATION_SCHEMA,
    embedding_schema,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from published import publish_model
from tiny_data import DIM, ENCODER, NEIGHBORS, TinyData, make_data


def load_tiny(folder: Path, titles: Mapping[str, str] | None = None) -> TinyData:
    """All items but two are related to one entity; `titles` are of items by their ids."""
    tiny = make_data(folder)
    data = tiny.root
    rows = [row | {"title": (titles or {}).get(row["item_id"])} for row in data.read("items/toy").to_pylist()]
    lonely = {"label": "Thing", "split": "test", "opted_out": False}
    alone, silent = "toy:alone", "toy:silent"
    rows += [{"item_id": alone, "text": "a thing apart", "group_id": alone} | lonely]
    rows += [{"item_id": silent, "text": None, "group_id": silent} | lonely]
    data.publish("items/toy", [pa.Table.from_pylist(rows, ITEM_SCHEMA)], ITEM_SCHEMA)
    maker = {"entity_id": "toy/Maker/one", "label": "Maker", "name": "one"}
    data.publish("entities/toy", [pa.Table.from_pylist([maker], ENTITY_SCHEMA)], ENTITY_SCHEMA)
    name = maker | {"references": len(tiny.item_ids), "declarations": 1}
    data.publish("entity-names/toy", [pa.Table.from_pylist([name], ENTITY_NAME_SCHEMA)], ENTITY_NAME_SCHEMA)
    made = [{"type": "MADE_BY", "from_id": i, "to_id": "toy/Maker/one", "weight": 1.0} for i in tiny.item_ids]
    data.publish("relations/toy", [pa.Table.from_pylist(made, RELATION_SCHEMA)], RELATION_SCHEMA)
    texts = sorted({row["text"] or "" for row in rows})
    vectors = np.random.default_rng(1).normal(size=(len(texts), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    schema = embedding_schema("text_hash", DIM)
    table = pa.table([[text_hash(text) for text in texts], list(vectors)], schema=schema)
    data.append(f"text-embeddings/{ENCODER}", table, schema)
    sampled = [row for row in data.read(f"neighbors/{NEIGHBORS}").to_pylist() if row["item_id"] != "toy:18"]
    table = pa.Table.from_pylist(sampled, NEIGHBOR_SCHEMA)
    data.publish(f"neighbors/{NEIGHBORS}", [table], NEIGHBOR_SCHEMA, {"encoder": ENCODER})
    with Settings(data=data.url).open_store() as store:
        load_source(store, data, "toy")
    publish_model(tiny, sampler={"encoder": ENCODER, "mode": "ppr", "k": 3, "pool": 3})
    return tiny
