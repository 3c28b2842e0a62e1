"""The registry of models in the graph: promotions, the way back, and what withdrawn works make stale."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from sources import MONET, entity, item, publish, publish_art, relation

from flows.settings import Settings
from flows.stages import load
from graphstore.connect import open_store
from graphstore.lineage import opt_out, record_lineage
from graphstore.loading.copying import copy_graph
from graphstore.loading.load import load_source
from graphstore.registry import (
    TrainedModel,
    history,
    mark_pruned,
    promote,
    promoted_models,
    register_models,
    registered_models,
    reject,
    roll_back,
)
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import GENERATED_SCHEMA, NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError


def trained(name: str, withdrawn: tuple[str, ...] = ()) -> TrainedModel:
    return TrainedModel(name, "mini", datetime(2026, 5, 4, 3, 2, int(name[-1])), "v", f"for-{name}", withdrawn)


def publish_samples(data: DataRoot, name: str, neighbors: dict[str, list[str]]) -> None:
    rows = [
        {
            "item_id": item_id,
            "split": "train",
            "neighbors": [{"item_id": n, "image_hash": "h", "ppr": 0.1, "similarity": 0.5, "via": "x"} for n in ids],
        }
        for item_id, ids in neighbors.items()
    ]
    data.publish(f"neighbors/for-{name}", [pa.Table.from_pylist(rows, NEIGHBOR_SCHEMA)], NEIGHBOR_SCHEMA)


@pytest.fixture
def models(store: GraphStore, data: DataRoot) -> list[TrainedModel]:
    """Three candidates in a graph of five works."""
    publish_art(data)
    load_source(store, data, "art")
    found = [trained(f"m{number}") for number in (1, 2, 3)]
    for model, neighbors in zip(found, ({"art:1": ["art:2"]}, {"art:3": ["art:4"]}, {"art:5": []}), strict=True):
        publish_samples(data, model.model_id, neighbors)
    assert register_models(store, data, found) == ["m1", "m2", "m3"]
    return found


def statuses(store: GraphStore) -> dict[str, str]:
    return {model.model_id: model.status for model in registered_models(store)}


def replaced(store: GraphStore) -> list[tuple[str, str]]:
    rows = store.query("MATCH (a:Model)-[:REPLACED_BY]->(b:Model) RETURN a.id AS old, b.id AS new ORDER BY old, new")
    return [(row["old"], row["new"]) for row in rows.to_pylist()]


def test_the_last_promoted_model_is_in_use_and_a_rollback_takes_it_back(
    store: GraphStore, models: Sequence[TrainedModel]
) -> None:
    assert promoted_models(store) == []
    first = promote(store, "m1", "the first")
    assert (first.replaced, first.changed) == (None, True)
    second = promote(store, "m2", metrics={"p": 0.01})
    assert (second.replaced, promoted_models(store)) == ("m1", ["m1", "m2"])
    assert not promote(store, "m2").changed
    assert statuses(store) == {"m1": "replaced", "m2": "promoted", "m3": "candidate"}
    assert replaced(store) == [("m1", "m2")]
    back = roll_back(store, "its images are gray")
    assert (back.model_id, back.replaced, promoted_models(store)) == ("m1", "m2", ["m1"])
    assert statuses(store) == {"m1": "promoted", "m2": "rolled-back", "m3": "candidate"}
    assert replaced(store) == []
    assert [(row["action"], row["model_id"], row["reason"]) for row in history(store)] == [
        ("promote", "m1", "the first"),
        ("promote", "m2", None),
        ("rollback", "m1", "its images are gray"),
    ]
    assert {m.model_id: dict(m.metrics) for m in registered_models(store)}["m2"] == {"p": 0.01}


def test_rollbacks_go_back_one_after_the_other(store: GraphStore, models: Sequence[TrainedModel]) -> None:
    for model_id in ("m1", "m2", "m1", "m3"):
        promote(store, model_id)
    assert replaced(store) == [("m1", "m2"), ("m1", "m3"), ("m2", "m1")]
    assert [roll_back(store).model_id for _ in range(3)] == ["m1", "m2", "m1"]
    with pytest.raises(Graph2ImageError, match="m1 is the first that was promoted"):
        roll_back(store)
    assert promoted_models(store) == ["m1"]


def test_what_cannot_be_promoted_changes_nothing(
    store: GraphStore, data: DataRoot, models: Sequence[TrainedModel]
) -> None:
    with pytest.raises(Graph2ImageError, match="none was ever promoted"):
        roll_back(store)
    with pytest.raises(Graph2ImageError, match="no model 'm9'"):
        promote(store, "m9")
    mark_pruned(store, ["m3"])
    with pytest.raises(Graph2ImageError, match="weights of m3 were pruned"):
        promote(store, "m3")
    assert (promoted_models(store), history(store)) == ([], [])
    assert register_models(store, data, models) == []  # trained again, it is a candidate again
    assert statuses(store)["m3"] == "candidate"


def test_a_rejected_candidate_keeps_what_was_measured(store: GraphStore, models: Sequence[TrainedModel]) -> None:
    promote(store, "m1")
    for model_id in ("m1", "m2"):
        reject(store, model_id, {"both": -0.1})
    assert statuses(store) == {"m1": "promoted", "m2": "rejected", "m3": "candidate"}
    assert promote(store, "m2").changed  # by hand, whatever a gate said


def test_withdrawn_works_make_stale_what_has_seen_them(
    store: GraphStore, data: DataRoot, models: Sequence[TrainedModel]
) -> None:
    made: dict[str, Any] = {"model_id": "m3", "variant": "graph-1.5", "seed": 3, "settings": "{}"}
    used = [{"item_id": "art:2", "weight": 1.0, "rank": 1}]
    rows = [
        made | {"generated_id": "with", "item_id": "art:5", "neighbors": used, "image_path": "a"},
        made | {"generated_id": "of", "item_id": "art:2", "neighbors": [], "image_path": "b"},
        made | {"generated_id": "without", "item_id": "art:5", "neighbors": [], "image_path": "c"},
    ]
    data.append("generated", pa.Table.from_pylist(rows[:2], GENERATED_SCHEMA), GENERATED_SCHEMA)
    promote(store, "m1")
    promote(store, "m2")
    opt_out(store, data, "art:2", models)
    data.append("generated", pa.Table.from_pylist(rows, GENERATED_SCHEMA), GENERATED_SCHEMA)
    record_lineage(store, data, models)
    assert [m.model_id for m in registered_models(store) if m.stale] == ["m1"]
    images = store.query("MATCH (g:GeneratedImage) WHERE g.stale = true RETURN g.id AS id ORDER BY id")
    assert images["id"].to_pylist() == ["of", "with"]
    with pytest.raises(Graph2ImageError, match="m1 is stale"):
        roll_back(store)
    assert roll_back(store, allow_stale=True).model_id == "m1"
    # Trained afterwards: without the work, whatever the samples say; and with it, by a run that began before.
    for name, withdrawn in (("m4", ("art:2",)), ("m5", ())):
        publish_samples(data, name, {"art:1": ["art:2"]})
        register_models(store, data, [trained(name, withdrawn)])
    assert [m.model_id for m in registered_models(store) if m.stale] == ["m1", "m5"]


def test_works_that_come_to_a_withdrawn_artist_make_stale_too(data: DataRoot, store_url: str) -> None:
    settings = Settings(data=data.url, store=store_url)
    publish(data, "art", [item("art:1"), item("art:2")], [entity(MONET)], [])
    load(settings, "art")
    publish_samples(data, "m1", {"art:1": []})
    data.write_json("models/m1/model.json", {})  # a record that cannot be read: what it was trained on is not known
    with open_store(store_url) as store:
        register_models(store, data, [trained("m1")])
        opt_out(store, data, MONET, [trained("m1")])
        assert not any(model.stale for model in registered_models(store))
    publish(data, "art", [item("art:1"), item("art:2")], [entity(MONET)], [relation("CREATED_BY", "art:1", MONET)])
    load(settings, "art")
    with open_store(store_url, read_only=True) as store:
        assert [model.stale for model in registered_models(store)] == [True]


def test_a_copy_has_the_registry(
    store: GraphStore, models: Sequence[TrainedModel], tmp_path_factory: pytest.TempPathFactory
) -> None:
    for model_id in ("m1", "m2"):
        promote(store, model_id)
    with open_store(f"ladybug://{tmp_path_factory.mktemp('copy')}/graph.lbug") as other:
        copy_graph(store, other)
        assert (promoted_models(other), history(other)) == (["m1", "m2"], history(store))
        assert roll_back(other).model_id == "m1"
