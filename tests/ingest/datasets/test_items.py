"""Items of all sources as one table, and embeddings as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ingest.datasets.items import item_entities, item_texts, read_entities, read_items, require_items
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import ENTITY_SCHEMA, ITEM_SCHEMA, RELATION_SCHEMA, embedding_schema
from ingest.datasets.vectors import image_vectors, text_vectors
from ingest.errors import Graph2ImageError


def publish(data: DataRoot, name: str, rows: list[dict[str, object]], schema: pa.Schema) -> None:
    data.publish(name, [pa.Table.from_pylist(rows, schema)], schema)


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    data = DataRoot(str(tmp_path))
    for source in ("one", "two"):
        rows = [
            {"item_id": f"{source}:{n}", "label": "Thing", "text": None if n else f"text of {source}", "split": "train"}
            | {"image_hash": "h" if n else None, "group_id": f"{n}", "opted_out": False}
            for n in range(2)
        ]
        own = ITEM_SCHEMA.append(pa.field(f"color_{source}", pa.string()))  # a column of the source's own
        publish(data, f"items/{source}", rows, own)
        publish(data, f"entities/{source}", [{"entity_id": "shared", "label": "Color", "name": source}], ENTITY_SCHEMA)
        links = [("item", f"{source}:0", "one:1"), ("color", f"{source}:1", "shared"), ("far", "gone", "shared")]
        relations = [{"type": t, "from_id": a, "to_id": b, "weight": 1.0} for t, a, b in links]
        publish(data, f"relations/{source}", relations, RELATION_SCHEMA)
    return data


def test_rows_of_all_sources_are_one_table(data: DataRoot) -> None:
    table = read_items(data, ["source", "item_id", "text"])
    assert table.column_names == ["source", "item_id", "text"]
    assert table["item_id"].to_pylist() == ["one:0", "one:1", "two:0", "two:1"]
    assert table["source"].to_pylist() == ["one", "one", "two", "two"]
    assert table["text"].type == pa.large_string()
    some = read_items(data, ["item_id"], where=pc.field("image_hash").is_valid(), sources=["two"])
    assert some["item_id"].to_pylist() == ["two:1"]
    assert item_texts(data, ["two:0", "two:1", "nowhere"]) == {"two:0": "text of two", "two:1": ""}


def test_without_items(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path))
    assert read_items(data, ["item_id", "source"]).num_rows == 0
    assert read_entities(data).num_rows == 0
    with pytest.raises(Graph2ImageError, match="there are no items"):
        require_items(data)
    with pytest.raises(Graph2ImageError, match="no dataset 'items/nope'"):
        read_items(data, ["item_id"], sources=["nope"])


def test_relations_to_entities_are_told_from_those_between_items(data: DataRoot) -> None:
    items, entities = read_items(data, ["item_id"])["item_id"].combine_chunks(), read_entities(data)
    assert entities["entity_id"].to_pylist() == ["shared"]
    found = item_entities(data, items, entities["entity_id"].combine_chunks())
    assert items.take(found[0]).to_pylist() == ["one:1", "two:1"]
    assert found[1].to_pylist() == [0, 0]


@pytest.mark.parametrize("count", [3, 2000], ids=["looked up", "all read"])
def test_vectors_come_in_the_order_asked_for(tmp_path: Path, count: int) -> None:
    data, dim = DataRoot(str(tmp_path)), 4
    keys = [f"{number:05}" for number in range(2500)]
    values = np.random.default_rng(0).normal(size=(len(keys), dim)).astype(np.float32)
    schema = embedding_schema("image_hash", dim)
    for part in (slice(0, 1000), slice(1000, 2500)):
        data.append("embeddings/e", pa.table([keys[part], list(values[part])], schema), schema)
    wanted = [*np.random.default_rng(1).permutation(keys)[:count].tolist(), "nowhere"]
    vectors = image_vectors(data, "e", pa.array(wanted))
    np.testing.assert_array_equal(vectors.matrix[:-1], values[[int(key) for key in wanted[:-1]]])
    assert (vectors.missing(), vectors.matrix[-1].tolist()) == (["nowhere"], [0.0] * dim)
    rows = vectors.rows(pa.array([wanted[1], None, "other", wanted[1]]))
    assert rows.tolist() == [1, -1, -1, 1]


def test_there_are_no_such_embeddings(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path))
    with pytest.raises(Graph2ImageError, match="there are no text embeddings of encoder 'e'") as error:
        text_vectors(data, "e", pa.array(["a"]))
    assert error.value.hint == "Run `graph2image embed` first."
