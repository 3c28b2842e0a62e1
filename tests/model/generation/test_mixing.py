"""Mixing between entities, on products that are related to entities and to each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ingest.datasets.root import DataRoot, text_hash
from ingest.datasets.schemas import ENTITY_SCHEMA, ITEM_SCHEMA, RELATION_SCHEMA, embedding_schema
from ingest.errors import Graph2ImageError
from model.generation.mixing import WORKS, EntityWorks, mixed
from model.generation.requests import Sample
from model.generation.variants import Variant

ENCODER, DIM = "tiny", 4
#: Products of two brands, seven each, and of one with two; "shop:t" is the test item that is made.
BRANDS = {f"shop:{number}": "acme" if number < 7 else "bolt" if number < 14 else "tiny" for number in range(16)}
SAMPLE = Sample("shop:t", "a red lamp", "test", ())


def write(data: DataRoot, relations: list[tuple[str, str, str]]) -> None:
    items = [
        {"item_id": item, "label": "Product", "text": item, "image_hash": f"hash of {item}", "split": "train"}
        for item in BRANDS
    ]
    items += [{"item_id": "shop:t", "label": "Product", "text": SAMPLE.text, "image_hash": "t", "split": "test"}]
    items += [{"item_id": "shop:bare", "label": "Product", "text": "no image", "image_hash": None, "split": "train"}]
    rows = [{**item, "group_id": item["item_id"], "opted_out": False} for item in items]
    brands = [{"entity_id": f"shop/Brand/{name}", "label": "Brand", "name": name} for name in ("acme", "bolt", "tiny")]
    made = [{"type": type_, "from_id": from_id, "to_id": to_id, "weight": 1.0} for type_, from_id, to_id in relations]
    for name, table, schema in (
        ("items/shop", rows, ITEM_SCHEMA),
        ("entities/shop", brands, ENTITY_SCHEMA),
        ("relations/shop", made, RELATION_SCHEMA),
    ):
        data.publish(name, [pa.Table.from_pylist(table, schema)], schema)
    vectors = np.random.default_rng(0).normal(size=(len(BRANDS), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    schema = embedding_schema("image_hash", DIM)
    data.append(f"embeddings/{ENCODER}", pa.table([[f"hash of {i}" for i in BRANDS], list(vectors)], schema), schema)
    schema = embedding_schema("text_hash", DIM)
    data.append(f"text-embeddings/{ENCODER}", pa.table([[text_hash(SAMPLE.text)], [vectors[0]]], schema), schema)


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    """Each product is bought with the next ones: the ends of these relations are items, of any form of id."""
    data = DataRoot(str(tmp_path))
    items = list(BRANDS)
    bought = [("ALSO_BOUGHT", item, other) for item in items for other in (*items[:9], "shop:t") if other != item]
    write(data, [*(("BY_BRAND", item, f"shop/Brand/{brand}") for item, brand in BRANDS.items()), *bought])
    return data


def test_the_ends_of_relations_between_items_are_no_entities(data: DataRoot) -> None:
    works = EntityWorks(data, ENCODER)
    assert works.labels == ["Brand"]
    assert works.contrasting_label() == "Brand"
    mixture = works.contrasting(SAMPLE, "Brand")
    assert mixture is not None
    assert set(mixture.entities) == {"shop/Brand/acme", "shop/Brand/bolt"}
    for entity, neighbors in zip(mixture.entities, mixture.neighbor_sets, strict=True):
        assert len(neighbors) == WORKS
        assert {BRANDS[neighbor.item_id] for neighbor in neighbors} == {entity.rpartition("/")[2]}
    with pytest.raises(Graph2ImageError, match="there is no entity 'shop:1'"):
        works.best("shop:1", SAMPLE)


def test_relations_between_items_alone_are_nothing_to_mix(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path))
    write(data, [("CO_VIEWED", item, other) for item in BRANDS for other in BRANDS if other != item])
    works = EntityWorks(data, ENCODER)
    assert works.contrasting_label() is None
    assert works.contrasting(SAMPLE, "Brand") is None


def test_the_best_works_are_those_that_fit_the_text(data: DataRoot) -> None:
    works = EntityWorks(data, ENCODER)
    vectors = dict(zip(BRANDS, data.read(f"embeddings/{ENCODER}")["embedding"].to_pylist(), strict=True))
    text = np.array(vectors["shop:0"])
    expected = sorted((item for item in BRANDS if BRANDS[item] == "acme"), key=lambda i: -float(text @ vectors[i]))
    assert [n.item_id for n in works.best("shop/Brand/acme", SAMPLE)] == expected[:WORKS]
    own = Sample("shop:0", SAMPLE.text, "train", ())
    assert "shop:0" not in [n.item_id for n in works.best("shop/Brand/acme", own)]


def test_withdrawn_works_take_no_part(data: DataRoot) -> None:
    works = EntityWorks(data, ENCODER, withdrawn={"shop:1", "shop:14", "shop:15"})
    assert "shop:1" not in [n.item_id for n in works.best("shop/Brand/acme", SAMPLE)]
    with pytest.raises(Graph2ImageError, match="no training image belongs to 'shop/Brand/tiny'"):
        works.best("shop/Brand/tiny", SAMPLE)


def test_shares_split_the_scale(data: DataRoot) -> None:
    works = EntityWorks(data, ENCODER)
    (request,) = mixed(works, [SAMPLE], {"shop/Brand/acme": 7, "shop/Brand/bolt": 3}, 2.0)
    assert request.variant == Variant.mix(2.0, (0.7, 0.3))
    assert len(request.neighbor_sets) == 2
    mixture = works.mix(SAMPLE, "shop/Brand/acme", "shop/Brand/bolt")
    assert [r.variant.label for r in mixture.requests(1.5, (1.0, 0.7, 0.0))] == ["mix-100-0", "mix-70-30", "mix-0-100"]
    with pytest.raises(Graph2ImageError, match="shares must not be negative"):
        mixed(works, [SAMPLE], {"shop/Brand/acme": -1, "shop/Brand/bolt": 1}, 2.0)


def test_a_text_without_an_embedding(data: DataRoot) -> None:
    with pytest.raises(Graph2ImageError, match=r"the text of shop:x has no embedding of tiny"):
        EntityWorks(data, ENCODER).best("shop/Brand/acme", Sample("shop:x", "never embedded", "test", ()))
    with pytest.raises(Graph2ImageError, match=r"no image embeddings of encoder 'other'.*\n.*there are those of tiny"):
        EntityWorks(data, "other")
