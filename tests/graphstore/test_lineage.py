"""What generated images were made from, and withdrawing works."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from sources import HOKUSAI, LANDSCAPE, MONET, entity, item, publish, publish_art, relation

from graphstore.lineage import lineage, opt_out, record_lineage
from graphstore.loading.load import load_source
from graphstore.registry import TrainedModel
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import GENERATED_SCHEMA, NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError

TRAINED = "trained.json"
CREATED_AT = datetime(2026, 5, 4, 3, 2, 1)


def publish_model(data: DataRoot, model_id: str, version: str, neighbors: dict[str, list[str]]) -> None:
    """A model trained on the given neighbors of training items."""
    rows = [
        {
            "item_id": item_id,
            "split": "train",
            "neighbors": [{"item_id": n, "image_hash": "h", "ppr": 0.1, "similarity": 0.5, "via": "x"} for n in ids],
        }
        for item_id, ids in neighbors.items()
    ]
    dataset = f"for-{model_id}"
    data.publish(f"neighbors/{dataset}", [pa.Table.from_pylist(rows, NEIGHBOR_SCHEMA)], NEIGHBOR_SCHEMA)
    known = data.read_json(TRAINED) if data.exists(TRAINED) else {}
    data.write_json(TRAINED, known | {model_id: [version, dataset]})


def trained(data: DataRoot) -> list[TrainedModel]:
    """The models that `publish_model` has published."""
    known = data.read_json(TRAINED) if data.exists(TRAINED) else {}
    return [TrainedModel(name, "mini", CREATED_AT, version, dataset) for name, (version, dataset) in known.items()]


def generated(generated_id: str, item_id: str, neighbors: list[tuple[str, float]], model_id: str = "mini-1") -> Any:
    return {
        "generated_id": generated_id,
        "item_id": item_id,
        "model_id": model_id,
        "variant": "graph-1.5",
        "seed": 3,
        "settings": '{"guidance_scale": 2.0}',
        "neighbors": [{"item_id": n, "weight": w, "rank": rank} for rank, (n, w) in enumerate(neighbors, start=1)],
        "image_path": f"generated/{model_id}/{generated_id}.png",
    }


def append_generated(data: DataRoot, *rows: Any) -> None:
    data.append("generated", pa.Table.from_pylist(list(rows), GENERATED_SCHEMA), GENERATED_SCHEMA)


@pytest.fixture
def version(store: GraphStore, data: DataRoot) -> str:
    publish_art(data)
    version = load_source(store, data, "art").version
    publish_model(data, "mini-1", version, {"art:1": ["art:2"], "art:3": ["art:4"]})
    append_generated(
        data,
        generated("one", "art:5", [("art:2", 1.5), ("art:1", 0.5)]),
        generated("text", "art:5", []),
        generated("mix", "art:1", [("art:3", 0.25), ("art:4", 1.0), ("art:3", 0.5)]),
    )
    return version


def test_lineage_is_in_the_graph_once(store: GraphStore, data: DataRoot, version: str) -> None:
    report = record_lineage(store, data, trained(data))
    assert (report.images_new, report.images_existing, report.models_new, report.links_missing) == (3, 0, 1, 0)
    before = store.schema()
    again = record_lineage(store, data, trained(data))
    assert (again.images_new, again.images_existing, again.changed) == (0, 3, False)
    assert store.schema() == before
    append_generated(data, generated("two", "art:5", [("art:2", 1.0)]))
    append_generated(data, generated("two", "art:5", [("art:2", 1.0)]), generated("one", "art:5", []))
    third = record_lineage(store, data, trained(data))
    assert (third.images_new, third.images_existing, third.models_new) == (1, 3, 0)


def test_lineage_tells_what_a_picture_was_made_from(store: GraphStore, data: DataRoot, version: str) -> None:
    record_lineage(store, data, trained(data))
    told = lineage(store, "one")
    assert told["settings"] == {"guidance_scale": 2.0}
    assert (told["variant"], told["seed"], told["image_path"]) == ("graph-1.5", 3, "generated/mini-1/one.png")
    assert told["item"] == {"id": "art:5", "label": "Artwork", "title": "5", "opted_out": False}
    assert (told["model"]["id"], told["model"]["preset"]) == ("mini-1", "mini")
    assert told["snapshot"].items() >= {"id": version, "items": 5, "entities": 3, "relations": 7}.items()
    assert [(n["id"], n["rank"], n["weight"]) for n in told["conditioned_on"]] == [("art:2", 1, 1.5), ("art:1", 2, 0.5)]
    assert told["conditioned_on"][1]["entities"] == [f"CREATED_BY {MONET}", f"IN_GENRE {LANDSCAPE}"]
    assert lineage(store, "text")["conditioned_on"] == []
    mixed = lineage(store, "mix")["conditioned_on"]
    assert [(n["id"], n["rank"], n["weight"]) for n in mixed] == [("art:3", 1, 0.75), ("art:4", 2, 1.0)]
    with pytest.raises(Graph2ImageError, match="no generated image 'nothing'"):
        lineage(store, "nothing")


def test_which_pictures_came_from_an_artist_is_one_query(store: GraphStore, data: DataRoot, version: str) -> None:
    record_lineage(store, data, trained(data))
    table = store.query(
        "MATCH (g:GeneratedImage)-[:CONDITIONED_ON]->(:Artwork)-[:CREATED_BY]->(:Artist {name: $name}) "
        "RETURN DISTINCT g.id AS id ORDER BY id",
        {"name": "Hokusai"},
    )
    assert table["id"].to_pylist() == ["mix"]


def test_lineage_for_some_models_and_without_one(store: GraphStore, data: DataRoot, version: str) -> None:
    append_generated(data, generated("lost", "art:9", [("art:8", 1.0)]), generated("x", "art:1", [], "mini-2"))
    report = record_lineage(store, data, trained(data))
    assert (report.images_new, report.links_missing) == (4, 2)
    assert lineage(store, "lost")["item"] is None
    with pytest.raises(Graph2ImageError, match="no generated image 'x'"):  # its model is not told of
        lineage(store, "x")
    assert record_lineage(store, data, trained(data)).changed is False


def test_lineage_of_a_model_trained_on_another_graph(store: GraphStore, data: DataRoot, version: str) -> None:
    publish_model(data, "mini-2", "another version", {})
    append_generated(data, generated("x", "art:1", [("art:2", 1.0)], "mini-2"))
    record_lineage(store, data, trained(data))
    assert lineage(store, "x")["snapshot"]["id"] == "another version"


def test_nothing_generated_yet(store: GraphStore, data: DataRoot) -> None:
    publish_art(data)
    load_source(store, data, "art")
    assert record_lineage(store, data, trained(data)).changed is False


def test_opting_out_an_item_lists_what_it_touched(store: GraphStore, data: DataRoot, version: str) -> None:
    publish_model(data, "mini-2", version, {"art:1": ["art:5"]})
    report = opt_out(store, data, "art:2", trained(data))
    assert (report.items, report.generated, report.models, report.changed) == (("art:2",), ("one",), ("mini-1",), True)
    assert report.version == store.version() != version
    again = opt_out(store, data, "art:2", trained(data))
    assert not again.changed
    assert (again.generated, again.models, again.version) == (report.generated, report.models, report.version)
    # Made for it, or with a neighbors dataset that is no longer there.
    data.fs.rm(data.path("neighbors/for-mini-2"), recursive=True)
    report = opt_out(store, data, "art:1", trained(data))
    assert (report.generated, report.models) == (("mix", "one"), ("mini-1", "mini-2"))
    for unknown in ("art:9", "mini-1", "one"):
        with pytest.raises(Graph2ImageError, match="no item or entity"):
            opt_out(store, data, unknown, trained(data))


def _opted_out(store: GraphStore) -> set[str]:
    return set(store.read("MATCH (n:Artwork) WHERE n.opted_out = true RETURN n.id AS id")["id"].to_pylist())


def test_opting_out_an_entity_withdraws_what_comes_to_it_later(store: GraphStore, data: DataRoot, version: str) -> None:
    report = opt_out(store, data, HOKUSAI, trained(data))
    assert (report.items, report.generated, report.models) == (("art:3", "art:4"), ("mix",), ("mini-1",))
    assert _opted_out(store) == {"art:3", "art:4"}
    publish(
        data,
        "art",
        [item("art:3", title="again"), item("art:6"), item("art:7", opted_out=True)],
        [entity(HOKUSAI, name="Katsushika Hokusai")],
        [relation("CREATED_BY", "art:3", HOKUSAI), relation("CREATED_BY", "art:6", HOKUSAI)],
    )
    load_source(store, data, "art")
    assert _opted_out(store) == {"art:3", "art:4", "art:6", "art:7"}
    assert store.read("MATCH (n:Artwork {id: 'art:3'}) RETURN n.title AS title")["title"].to_pylist() == ["again"]
    artists = store.read("MATCH (n:Artist) WHERE n.opted_out = true RETURN n.name AS name")
    assert artists["name"].to_pylist() == ["Katsushika Hokusai"]


def test_opting_out_changes_the_version_like_loading(store: GraphStore, data: DataRoot, version: str) -> None:
    first = opt_out(store, data, "art:1", trained(data)).version
    second = opt_out(store, data, "art:2", trained(data)).version
    snapshots = store.read("MATCH (s:Snapshot) RETURN s.id AS id")["id"].to_pylist()
    assert sorted(snapshots) == sorted([version, first, second])


def test_prune_keeps_what_images_were_made_from(store: GraphStore, data: DataRoot, version: str) -> None:
    record_lineage(store, data, trained(data))
    publish(data, "art", [])
    report = load_source(store, data, "art", prune=True)
    assert (report.items_gone, report.nodes_pruned) == (5, 3)
    publish(data, "films", [item("films:1", "Film"), item("films:2", "Film")])
    load_source(store, data, "films")
    publish(data, "films", [item("films:2", "Film")])
    assert load_source(store, data, "films", prune=True).nodes_pruned == 1
    assert len(lineage(store, "one")["conditioned_on"]) == 2
