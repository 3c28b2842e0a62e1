"""The registry of models, in the graph: which one is promoted, what it replaced, and which are stale.

    (:Promotion {number, action, reason, created_at})-[:PROMOTED]->(:Model {status, metrics, stale})
    (:Model)-[:REPLACED_BY]->(:Model)

Every change of the promoted model is a `Promotion`, and the numbered promotions are the record: a `promote` puts a
model above those promoted before, a `rollback` takes the uppermost one away. What is uppermost is promoted. The models'
status and `REPLACED_BY`, which leads from each model of that pile to the one above it, follow from them, and are
written in the same transaction. A stale model was trained on items that have been withdrawn since.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from graphstore.bookkeeping import now, upsert_record
from graphstore.store import GraphStore
from ingest.datasets.names import (
    CONDITIONED_ON,
    GENERATED_FOR,
    GENERATED_IMAGE,
    MODEL,
    PROMOTED,
    PROMOTION,
    REPLACED_BY,
    SNAPSHOT,
    TRAINED_ON,
)
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)

#: `candidate`: never promoted; `rejected`: by a retraining's gate; `replaced`: by the promotion of another one;
#: `rolled-back`: taken back by a rollback; `pruned`: its weights were removed.
Status = Literal["candidate", "promoted", "rejected", "replaced", "rolled-back", "pruned"]
Action = Literal["promote", "rollback"]


@dataclass(frozen=True)
class TrainedModel:
    """What the graph is told of a published model.

    Parameters
    ----------
    preset, created_at
        Its training preset, and when it was published (UTC, without a zone).
    graph_version
        Version of the graph whose neighbor samples it was trained with; None if that is not recorded.
    neighbors
        Name of the neighbors dataset that it was trained with; None if that is not known.
    withdrawn
        Items of that dataset that were withdrawn before, so that it has not seen them.
    """

    model_id: str
    preset: str
    created_at: datetime
    graph_version: str | None
    neighbors: str | None
    withdrawn: tuple[str, ...] = ()


@dataclass(frozen=True)
class RegisteredModel:
    """A model as the registry has it.

    Attributes
    ----------
    metrics
        What the last gate measured of it; empty if it passed none.
    stale
        Whether it was trained on items that have been withdrawn since.
    replaced_by
        The model that was promoted in its place.
    images
        Generated images that lead to it.
    """

    model_id: str
    preset: str | None
    created_at: datetime | None
    status: Status
    stale: bool = False
    metrics: Mapping[str, Any] = field(default_factory=dict)
    replaced_by: str | None = None
    images: int = 0


@dataclass(frozen=True)
class PromotionReport:
    """Which model is promoted now, and which one was before; `changed` is False if it was promoted already."""

    model_id: str
    replaced: str | None
    reason: str | None
    changed: bool


# -- reading -----------------------------------------------------------------------------------------------------------


def promoted_models(store: GraphStore) -> list[str]:
    """The promoted model last, before it those that a rollback would come to, one after the other."""
    if PROMOTION not in store.labels():  # a store that an earlier version has written last
        return []
    rows = store.read(
        f"MATCH (p:{PROMOTION})-[:{PROMOTED}]->(m:{MODEL}) "
        "RETURN p.number AS number, p.action AS action, m.id AS model_id ORDER BY number"
    )
    pile: list[str] = []
    for row in rows.to_pylist():
        if row["action"] == "rollback":
            pile.pop()
        else:
            pile.append(row["model_id"])
    return pile


def registered_models(store: GraphStore) -> list[RegisteredModel]:
    """All models that the graph knows, the oldest first."""
    known = [name for name in ("preset", "created_at", "status", "metrics", "stale") if _has(store, MODEL, name)]
    models = store.nodes(MODEL, ["id", *known]).to_pylist()
    images = store.read(
        f"MATCH (g:{GENERATED_IMAGE})-[:GENERATED_BY]->(m:{MODEL}) RETURN m.id AS id, count(*) AS images"
    ).to_pylist()
    images_of = {row["id"]: row["images"] for row in images}
    replaced = dict(pairwise(promoted_models(store)))
    found = [
        RegisteredModel(
            row["id"],
            row.get("preset"),
            row.get("created_at"),
            row.get("status") or "candidate",
            bool(row.get("stale")),
            orjson.loads(row.get("metrics") or "{}"),
            replaced.get(row["id"]),
            images_of.get(row["id"], 0),
        )
        for row in models
    ]
    return sorted(found, key=lambda model: (model.created_at or datetime.min, model.model_id))


def history(store: GraphStore) -> list[dict[str, Any]]:
    """Every promotion and rollback, the oldest first: `number`, `action`, `model_id`, `reason`, `created_at`."""
    if PROMOTION not in store.labels():
        return []
    rows: list[dict[str, Any]] = store.read(
        f"MATCH (p:{PROMOTION})-[:{PROMOTED}]->(m:{MODEL}) RETURN p.number AS number, p.action AS action, "
        "m.id AS model_id, p.reason AS reason, p.created_at AS created_at ORDER BY number"
    ).to_pylist()
    return rows


def touched_models(data: DataRoot, models: Sequence[TrainedModel], items: pa.Array) -> list[str]:
    """Models that were trained on any of `items`, or on an item that has one of them as a neighbor.

    One whose neighbors dataset is no longer there is among them: it may have been.
    """
    touched: list[str] = []
    if not len(items):
        return touched
    for model in models:
        dataset = f"neighbors/{model.neighbors}"
        seen = items.filter(pc.invert(pc.is_in(items, value_set=pa.array(model.withdrawn, pa.string()))))
        if not len(seen):
            continue
        if model.neighbors is not None and data.snapshot(dataset) is not None:
            rows = data.dataset(dataset, NEIGHBOR_SCHEMA).to_table(filter=pc.field("split") == "train")
            used = pc.struct_field(pc.list_flatten(rows["neighbors"]), "item_id")
            if not any(pc.any(pc.is_in(ids, value_set=seen)).as_py() for ids in (rows["item_id"], used)):
                continue
        touched.append(model.model_id)
    return touched


def is_stale(store: GraphStore, model_id: str) -> bool:
    """Whether a model was trained on items that have been withdrawn since."""
    rows = store.read(f"MATCH (m:{MODEL} {{id: $id}}) WHERE m.stale = true RETURN m.id AS id", {"id": model_id})
    return bool(rows.num_rows)


def opted_out_items(store: GraphStore) -> list[str]:
    """Ids of the items that are opted out in this store."""
    found: list[str] = []
    for label in store.labels_of_kind("item"):
        rows = store.read(f"MATCH (n:`{label}`) WHERE n.opted_out = true RETURN n.id AS id")
        found += rows["id"].to_pylist()
    return found


# -- writing -----------------------------------------------------------------------------------------------------------


def register_models(store: GraphStore, data: DataRoot, models: Sequence[TrainedModel]) -> list[str]:
    """Bring published models to the graph that it does not have yet, as candidates; returns their ids.

    One that was pruned, and has been trained again, is a candidate again.
    """
    known = {model.model_id: model for model in registered_models(store)}
    new = [model for model in models if model.model_id not in known or known[model.model_id].status == "pruned"]
    if not new:
        return []
    stale = set(touched_models(data, new, pa.array(opted_out_items(store), pa.string())))
    with store.transaction():
        for model in new:
            _record_model(store, model, stale=model.model_id in stale)
    return [model.model_id for model in new if model.model_id not in known]


def promote(
    store: GraphStore,
    model_id: str,
    reason: str | None = None,
    *,
    metrics: Mapping[str, Any] | None = None,
    allow_stale: bool = False,
) -> PromotionReport:
    """Make a registered model the one that images are generated by.

    Parameters
    ----------
    metrics
        What was measured of it, to be kept with it.
    allow_stale
        Also a model that was trained on items which have been withdrawn since.

    Raises
    ------
    Graph2ImageError
        If the registry does not know the model, its weights were pruned, or it is stale.
    """
    with store.exclusive():
        _check(store, model_id, allow_stale=allow_stale)
        before = promoted_models(store)
        if before and before[-1] == model_id:
            return PromotionReport(model_id, None, reason, changed=False)
        with store.transaction():
            _write(store, "promote", model_id, reason, before, [*before, model_id])
            if metrics is not None:
                _set_metrics(store, model_id, metrics)
    log.info("promoted %s", model_id)
    return PromotionReport(model_id, before[-1] if before else None, reason, changed=True)


def roll_back(store: GraphStore, reason: str | None = None, *, allow_stale: bool = False) -> PromotionReport:
    """Promote the model again that was promoted before the present one, which a retraining never promotes again.

    Raises
    ------
    Graph2ImageError
        If there is none, or it cannot be promoted; see `promote`.
    """
    with store.exclusive():
        before = promoted_models(store)
        if len(before) < 2:
            raise Graph2ImageError(
                f"there is no model to go back to: {before[0]} is the first that was promoted"
                if before
                else "there is no model to go back to: none was ever promoted",
                "`graph2image models` lists them; `graph2image promote MODEL` promotes another one.",
            )
        _check(store, before[-2], allow_stale=allow_stale)
        with store.transaction():
            _write(store, "rollback", before[-2], reason, before, before[:-1])
    log.info("rolled back from %s to %s", before[-1], before[-2])
    return PromotionReport(before[-2], before[-1], reason, changed=True)


def reject(store: GraphStore, model_id: str, metrics: Mapping[str, Any]) -> None:
    """Keep what was measured of a candidate; one that was never promoted counts as rejected.

    Raises
    ------
    Graph2ImageError
        If the registry does not know the model.
    """
    model = _registered(store, model_id)
    with store.transaction():
        _set_metrics(store, model_id, metrics)
        if model.status in ("candidate", "rejected"):
            upsert_record(store, MODEL, id=model_id, status="rejected")


def mark_pruned(store: GraphStore, model_ids: Collection[str]) -> None:
    """Keep in mind that the weights of these models were removed."""
    with store.transaction():
        for model_id in model_ids:
            upsert_record(store, MODEL, id=model_id, status="pruned")


def mark_stale(store: GraphStore, data: DataRoot, models: Sequence[TrainedModel]) -> None:
    """Mark what was made from items that are opted out now: models, and images made from or for them.

    Parameters
    ----------
    models
        All published models.
    """
    register_models(store, data, models)
    touched = touched_models(data, models, pa.array(opted_out_items(store), pa.string()))
    with store.transaction():
        mark_stale_images(store)
        for model_id in touched:
            upsert_record(store, MODEL, id=model_id, stale=True)


def mark_stale_images(store: GraphStore) -> None:
    """Mark the images that were made from or for items that are opted out now; inside a transaction."""
    known = set(store.relation_types())
    for label in store.labels_of_kind("item"):
        for type_ in (CONDITIONED_ON, GENERATED_FOR):
            if (type_, GENERATED_IMAGE, label) in known:
                store.write(
                    f"MATCH (g:{GENERATED_IMAGE})-[:{type_}]->(n:`{label}`) WHERE n.opted_out = true SET g.stale = true"
                )


def _record_model(store: GraphStore, model: TrainedModel, *, stale: bool) -> None:
    upsert_record(
        store,
        MODEL,
        id=model.model_id,
        preset=model.preset,
        created_at=model.created_at,
        status="candidate",
        stale=stale,
    )
    version = model.graph_version
    if version is None:
        return
    if store.read(f"MATCH (s:{SNAPSHOT} {{id: $id}}) RETURN s.id AS id", {"id": version}).num_rows == 0:
        # A model that was trained on another store's graph.
        upsert_record(store, SNAPSHOT, id=version)
    store.upsert_relations(TRAINED_ON, MODEL, SNAPSHOT, pa.table({"from_id": [model.model_id], "to_id": [version]}))


def _registered(store: GraphStore, model_id: str) -> RegisteredModel:
    for model in registered_models(store):
        if model.model_id == model_id:
            return model
    raise Graph2ImageError(f"the registry has no model {model_id!r}", "`graph2image models` lists them.")


def _check(store: GraphStore, model_id: str, *, allow_stale: bool) -> None:
    model = _registered(store, model_id)
    if model.status == "pruned":
        raise Graph2ImageError(f"the weights of {model_id} were pruned", "Train it again, or promote another model.")
    if model.stale and not allow_stale:
        raise Graph2ImageError(
            f"{model_id} is stale: it was trained on items that have been withdrawn since",
            "Train again, which leaves them out; --allow-stale promotes it nevertheless.",
        )


def _write(
    store: GraphStore,
    action: Action,
    model_id: str,
    reason: str | None,
    before: Sequence[str],
    after: Sequence[str],
) -> None:
    """Write a promotion, and what follows from it."""
    number = store.nodes(PROMOTION, ["id"]).num_rows + 1
    id_ = f"promotion-{number:06}"
    upsert_record(store, PROMOTION, id=id_, number=number, action=action, reason=reason, created_at=now())
    store.upsert_relations(PROMOTED, PROMOTION, MODEL, _links([(id_, model_id)]))
    status: Status = "rolled-back" if action == "rollback" else "replaced"
    if before:
        upsert_record(store, MODEL, id=before[-1], status=status)
    upsert_record(store, MODEL, id=model_id, status="promoted")
    was, is_ = set(pairwise(before)), set(pairwise(after))
    if was - is_:
        store.remove_relations(REPLACED_BY, MODEL, MODEL, _links(sorted(was - is_)))
    if is_ - was:
        store.upsert_relations(REPLACED_BY, MODEL, MODEL, _links(sorted(is_ - was)))


def _links(pairs: Sequence[tuple[str, str]]) -> pa.Table:
    return pa.table({"from_id": [first for first, _ in pairs], "to_id": [second for _, second in pairs]})


def _set_metrics(store: GraphStore, model_id: str, metrics: Mapping[str, Any]) -> None:
    upsert_record(store, MODEL, id=model_id, metrics=orjson.dumps(metrics, option=orjson.OPT_SORT_KEYS).decode())


def _has(store: GraphStore, label: str, name: str) -> bool:
    """Whether a store, perhaps of an earlier version, has a property."""
    return name in store.node_labels()[label].names
