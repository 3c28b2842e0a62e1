"""Items without an image: sampled by their text, neighbors where that is asked for, and a graph that has no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sources import Row, entity, item, publish, publish_embeddings, relation

from graphstore.loading.load import load_source
from graphstore.sampling.dataset import sample_all
from graphstore.sampling.explanation import explain_neighbors
from graphstore.sampling.settings import SamplerSettings
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

ARTIST = "art/Artist/a"


def load_art(store: GraphStore, data: DataRoot, without: set[int], n: int = 6) -> list[Row]:
    """`n` works of one artist, the last a test item; those of `without` have no image."""
    items = [
        item(f"art:{i}", split="test" if i == n - 1 else "train", image_hash=None if i in without else f"hash of {i}")
        for i in range(n)
    ]
    publish(data, "art", items, [entity(ARTIST)], [relation("CREATED_BY", row["item_id"], ARTIST) for row in items])
    load_source(store, data, "art")
    return items


def sampled(store: GraphStore, data: DataRoot, **settings: Any) -> dict[str, list[Row]]:
    report = sample_all(store, data, SamplerSettings(**settings))
    table = data.read(f"neighbors/{report.digest}")
    return dict(zip(table["item_id"].to_pylist(), table["neighbors"].to_pylist(), strict=True))


def ids_of(neighbors: Any) -> list[str]:
    return sorted(neighbor["item_id"] if isinstance(neighbor, dict) else neighbor.item_id for neighbor in neighbors)


@pytest.mark.parametrize("mode", ["ppr", "random"])
def test_a_graph_without_any_image_and_without_embeddings(store: GraphStore, data: DataRoot, mode: Any) -> None:
    items = load_art(store, data, without=set(range(6)))
    settings = SamplerSettings(mode=mode, k=10, pool=10)
    report = sample_all(store, data, settings)
    assert (report.items, report.without_image) == (6, 6)
    rows = sampled(store, data, mode=mode, k=10, pool=10)
    assert set(rows) == {row["item_id"] for row in items}
    for item_id, neighbors in rows.items():
        assert ids_of(neighbors) == sorted({f"art:{i}" for i in range(5)} - {item_id})
        assert {(n["image_hash"], n["similarity"]) for n in neighbors} == {(None, None)}
    explained = explain_neighbors(store, data, "art:0", settings)
    assert ids_of(explained.neighbors) == ["art:1", "art:2", "art:3", "art:4"]
    assert explained.notes == ("no item in the graph has an image, so neighbors without one are taken",)


def test_neighbors_have_an_image_unless_any_will_do(store: GraphStore, data: DataRoot) -> None:
    load_art(store, data, without={1, 2, 5})
    assert ids_of(sampled(store, data, mode="ppr")["art:0"]) == ["art:3", "art:4"]
    everyone = sampled(store, data, mode="ppr", image_required=False)
    assert ids_of(everyone["art:0"]) == ["art:1", "art:2", "art:3", "art:4"]
    assert {n["item_id"]: n["image_hash"] for n in everyone["art:5"]} == {
        **{f"art:{i}": f"hash of {i}" for i in (0, 3, 4)},
        "art:1": None,
        "art:2": None,
    }
    any_item = SamplerSettings(mode="ppr", image_required=False)
    explained = explain_neighbors(store, data, "art:0", any_item)
    assert ids_of(explained.neighbors) == ["art:1", "art:2", "art:3", "art:4"]
    assert explained.notes == ()


def test_an_item_without_an_image_is_sampled_by_its_text(store: GraphStore, data: DataRoot) -> None:
    items = load_art(store, data, without={1, 5})
    publish_embeddings(data, items)
    for mode in ("semantic-ppr", "semantic"):
        rows = sampled(store, data, encoder="test", mode=mode)
        for item_id in ("art:1", "art:5"):
            settings = SamplerSettings(encoder="test", mode=mode)
            explained = explain_neighbors(store, data, item_id, settings)
            assert ids_of(explained.neighbors) == ids_of(rows[item_id]) == ["art:0", "art:2", "art:3", "art:4"]
            similarities = [n["similarity"] for n in rows[item_id]]
            assert similarities == sorted(similarities, reverse=True)
    by_image = SamplerSettings(encoder="test", query="image")
    assert explain_neighbors(store, data, "art:1", by_image).notes == ("art:1 has no image: the query is its text",)


def test_a_neighbor_without_an_image_has_no_similarity(store: GraphStore, data: DataRoot) -> None:
    items = load_art(store, data, without={1})
    publish_embeddings(data, items)
    rows = sampled(store, data, encoder="test", mode="ppr", image_required=False)
    assert {n["item_id"] for n in rows["art:0"] if n["similarity"] is None} == {"art:1"}
    publish(data, "alone", [item("alone:1")])
    load_source(store, data, "alone")
    publish_embeddings(data, [item("alone:1")])
    # No walk leads from it: the most similar images instead, never an item without one.
    alone = sampled(store, data, encoder="test", mode="ppr", image_required=False, k=10)["alone:1"]
    assert ids_of(alone) == ["art:0", "art:2", "art:3", "art:4"]
    assert not np.isnan([n["similarity"] for n in alone]).any()


def test_comparing_images_needs_images(store: GraphStore, data: DataRoot) -> None:
    items = load_art(store, data, without=set(range(6)))
    publish_embeddings(data, [*items, item("art:9")])
    for mode in ("semantic", "semantic-ppr"):
        settings = SamplerSettings(encoder="test", mode=mode)
        for sample in (
            lambda settings=settings: sample_all(store, data, settings),
            lambda settings=settings: explain_neighbors(store, data, "art:0", settings),
        ):
            with pytest.raises(Graph2ImageError, match=r"no item in the graph has an image(.|\n)*--mode ppr"):
                sample()
        with pytest.raises(ValidationError, match="compares images"):
            SamplerSettings(encoder="test", mode=mode, image_required=False)
