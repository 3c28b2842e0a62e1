"""Lineage: what every generated image was made from, as graph; and withdrawing works, with all that they touched.

    (:GeneratedImage)-[:CONDITIONED_ON {weight, rank}]->(item)      the neighbors it was made from
    (:GeneratedImage)-[:GENERATED_FOR]->(item)                      the item that was to be pictured
    (:GeneratedImage)-[:GENERATED_BY]->(:Model)-[:TRAINED_ON]->(:Snapshot)

A `Snapshot`'s id is the graph version whose neighbor samples the model was trained with.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from graphstore.bookkeeping import apply_opt_outs, now, record_snapshot, upsert_record
from graphstore.loading.relations import labels_of
from graphstore.optouts import publish_opt_outs
from graphstore.registry import TrainedModel, mark_stale, mark_stale_images, register_models, touched_models
from graphstore.store import GraphStore
from ingest.datasets.names import (
    CONDITIONED_ON,
    GENERATED_BY,
    GENERATED_FOR,
    GENERATED_IMAGE,
    MODEL,
    OPT_OUT,
    SNAPSHOT,
    TRAINED_ON,
)
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import GENERATED_SCHEMA
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LineageReport:
    """What `record_lineage` did; `links_missing` counts uses of items that the store does not have."""

    images_new: int
    images_existing: int
    models_new: int
    links_missing: int
    changed: bool


@dataclass(frozen=True)
class OptOutReport:
    """What a withdrawal touched.

    Attributes
    ----------
    items
        Items that are opted out by it: the item itself, or all items related to the entity.
    generated
        Generated images that were made from these items, or for them.
    models
        Models with one of these items among their training items or those items' neighbors. A model whose neighbors
        dataset is no longer there is listed too.
    changed
        False if it had been withdrawn before.
    """

    id: str
    items: tuple[str, ...]
    generated: tuple[str, ...]
    models: tuple[str, ...]
    version: str
    changed: bool


def record_lineage(store: GraphStore, data: DataRoot, models: Sequence[TrainedModel]) -> LineageReport:
    """Bring what the `generated` dataset says of the images of `models` into the graph.

    An image that is in the graph already is left as it is.
    """
    described = {model.model_id: model for model in models}
    rows = data.dataset("generated", GENERATED_SCHEMA).to_table(
        filter=pc.field("model_id").isin(pa.array(described, pa.string()))
    )
    # An image that two runs have made is there twice, in equal rows.
    _, first = np.unique(rows["generated_id"].to_numpy(zero_copy_only=False).astype(str), return_index=True)
    rows = rows.take(first)
    known = store.nodes(GENERATED_IMAGE, ["id"])["id"]
    new = rows.filter(pc.invert(pc.is_in(rows["generated_id"], value_set=known)))
    new_models = register_models(store, data, models)
    if new.num_rows == 0:
        return LineageReport(0, rows.num_rows, len(new_models), 0, changed=bool(new_models))

    with store.transaction():
        images = new.select(["generated_id", "variant", "seed", "settings", "image_path"])
        images = images.rename_columns(["id", *images.column_names[1:]])
        store.upsert_nodes(GENERATED_IMAGE, images.append_column("stale", pa.array([False] * images.num_rows)))
        store.upsert_relations(GENERATED_BY, GENERATED_IMAGE, MODEL, _links(new["generated_id"], new["model_id"]))
        missing = _link_items(store, GENERATED_FOR, _links(new["generated_id"], new["item_id"]))
        missing += _link_items(store, CONDITIONED_ON, _conditions(new))
        mark_stale_images(store)
    if missing:
        log.warning("%d links of generated images lead to items that the graph store does not have", missing)
    log.info("recorded the lineage of %d generated images", new.num_rows)
    return LineageReport(new.num_rows, rows.num_rows - new.num_rows, len(new_models), missing, changed=True)


def lineage(store: GraphStore, generated_id: str) -> dict[str, Any]:
    """What the image `generated_id` was made from.

    Returns
    -------
    dict
        generated_id, image_path, variant, seed, settings; the `item` it was made for; the `model`, and the `snapshot`
        of the graph that it was trained on; `conditioned_on`: the neighbors in the order of their ranks, each with its
        weight and with the entities that it is related to, as `"TYPE id"`.

    Raises
    ------
    Graph2ImageError
        If no such image is recorded.
    """
    image = _one(
        store,
        f"MATCH (g:{GENERATED_IMAGE} {{id: $id}}) RETURN g.id AS generated_id, g.image_path AS image_path, "
        "g.variant AS variant, g.seed AS seed, g.settings AS settings",
        generated_id,
    )
    if image is None:
        raise Graph2ImageError(
            f"there is no generated image {generated_id!r} in the graph store",
            f'List them with `graph2image query "MATCH (g:{GENERATED_IMAGE}) RETURN g.id LIMIT 10"`.',
        )
    image["settings"] = orjson.loads(image["settings"])
    start = f"MATCH (g:{GENERATED_IMAGE} {{id: $id}})"
    image["model"] = _one(
        store,
        f"{start}-[:{GENERATED_BY}]->(m:{MODEL}) RETURN m.id AS id, m.preset AS preset, m.created_at AS created_at",
        generated_id,
    )
    image["snapshot"] = _one(
        store,
        f"{start}-[:{GENERATED_BY}]->(:{MODEL})-[:{TRAINED_ON}]->(s:{SNAPSHOT}) RETURN s.id AS id, "
        "s.created_at AS created_at, s.items AS items, s.entities AS entities, s.relations AS relations",
        generated_id,
    )
    items: list[dict[str, Any]] = []
    sources: list[dict[str, Any]] = []
    for label in store.labels_of_kind("item"):
        columns = f"n.id AS id, '{label}' AS label, n.title AS title, n.opted_out AS opted_out"
        parameters = {"id": generated_id}
        items += store.read(f"{start}-[:{GENERATED_FOR}]->(n:`{label}`) RETURN {columns}", parameters).to_pylist()
        sources += store.read(
            f"{start}-[c:{CONDITIONED_ON}]->(n:`{label}`) RETURN c.rank AS rank, c.weight AS weight, {columns}",
            parameters,
        ).to_pylist()
    for source in sources:
        source["entities"] = _entities_of(store, source["label"], source["id"])
    image["item"] = items[0] if items else None
    image["conditioned_on"] = sorted(sources, key=lambda source: (source["rank"], source["id"]))
    return image


def opt_out(
    store: GraphStore, data: DataRoot, id_: str, models: Sequence[TrainedModel] = (), reason: str | None = None
) -> OptOutReport:
    """Withdraw an item, or an entity with all items related to it, and report what they touched.

    Withdrawn items stay in the store, marked `opted_out`, and take part in nothing any more. A later ingest, also into
    another store, does not undo it, and items that come to a withdrawn entity are withdrawn too. What was generated
    from them, and models that were trained on them, are listed and marked as `stale`, not deleted.

    Parameters
    ----------
    models
        All models there are.
    reason
        Why, for the record.

    Raises
    ------
    Graph2ImageError
        If the store has no item or entity `id_`.
    """
    record_lineage(store, data, models)
    label, is_item = _withdrawable(store, id_)
    changed = not _is_opted_out(store, id_)
    with store.transaction():
        if changed:
            upsert_record(store, OPT_OUT, id=id_, created_at=now(), reason=reason)
        apply_opt_outs(store)
        version = record_snapshot(store)
    publish_opt_outs(store, data)
    mark_stale(store, data, models)
    report = _touched(store, data, id_, label, models, is_item=is_item, version=version, changed=changed)
    log.info("opted out %s: %d items", id_, len(report.items))
    return report


def touched_by_opt_out(
    store: GraphStore, data: DataRoot, id_: str, models: Sequence[TrainedModel] = ()
) -> OptOutReport:
    """What withdrawing an item or entity would touch; nothing is written.

    `version` is that of the graph as it is, and `changed` is whether it is not withdrawn yet. Images whose lineage is
    not in the store yet are not known here.

    Raises
    ------
    Graph2ImageError
        If the store has no item or entity `id_`.
    """
    label, is_item = _withdrawable(store, id_)
    changed = not _is_opted_out(store, id_)
    return _touched(store, data, id_, label, models, is_item=is_item, version=store.version(), changed=changed)


def _withdrawable(store: GraphStore, id_: str) -> tuple[str, bool]:
    """The label of an item or entity, and whether it is an item."""
    kinds = {label: kind for kind in ("item", "entity") for label in store.labels_of_kind(kind)}
    label = labels_of(store, pa.chunked_array([[id_]]), kinds)[0].as_py()
    if label is None:
        raise Graph2ImageError(
            f"there is no item or entity {id_!r} in the graph store",
            'Find ids with `graph2image query "MATCH (n:LABEL) RETURN n.id LIMIT 10"`.',
        )
    return label, kinds[label] == "item"


def _is_opted_out(store: GraphStore, id_: str) -> bool:
    return bool(store.read(f"MATCH (o:{OPT_OUT} {{id: $id}}) RETURN o.id AS id", {"id": id_}).num_rows)


def _touched(
    store: GraphStore,
    data: DataRoot,
    id_: str,
    label: str,
    models: Sequence[TrainedModel],
    *,
    is_item: bool,
    version: str,
    changed: bool,
) -> OptOutReport:
    items = [id_] if is_item else _items_of(store, label, id_)
    return OptOutReport(
        id_,
        tuple(items),
        tuple(_images_of(store, pa.array(items, pa.string()))),
        tuple(touched_models(data, models, pa.array(items, pa.string()))),
        version,
        changed,
    )


# -- recording -------------------------------------------------------------------------------------------------------


def _links(from_ids: pa.ChunkedArray, to_ids: pa.ChunkedArray) -> pa.Table:
    return pa.table({"from_id": from_ids, "to_id": to_ids})


def _conditions(rows: pa.Table) -> pa.Table:
    """The neighbors that each image was made from; one that is in several sets has the sum of its weights."""
    neighbors = rows["neighbors"].combine_chunks()
    flat = neighbors.flatten()
    table = pa.table(
        {
            "from_id": rows["generated_id"].combine_chunks().take(pc.list_parent_indices(neighbors)),
            "to_id": flat.field("item_id"),
            "weight": flat.field("weight").cast(pa.float64()),
            "rank": flat.field("rank").cast(pa.int64()),
        }
    )
    table = table.group_by(["from_id", "to_id"]).aggregate([("weight", "sum"), ("rank", "min")])
    return table.rename_columns({"weight_sum": "weight", "rank_min": "rank"})


def _link_items(store: GraphStore, type_: str, links: pa.Table) -> int:
    """Upsert relations from generated images to items of any label; returns how many lead to no item."""
    labels = labels_of(store, links["to_id"], store.labels_of_kind("item"))
    for label in labels.unique().drop_null().to_pylist():
        store.upsert_relations(type_, GENERATED_IMAGE, label, links.filter(pc.equal(labels, label)))
    return int(labels.null_count)


# -- reading ---------------------------------------------------------------------------------------------------------


def _one(store: GraphStore, cypher: str, id_: str) -> dict[str, Any] | None:
    rows: list[dict[str, Any]] = store.read(cypher, {"id": id_}).to_pylist()
    return rows[0] if rows else None


def _entities_of(store: GraphStore, label: str, item_id: str) -> list[str]:
    entities = set(store.labels_of_kind("entity"))
    return sorted(
        f"{type_} {entity}"
        for type_, start, end in store.relation_types()
        if start == label and end in entities
        for entity in store.read(
            f"MATCH (n:`{label}` {{id: $id}})-[:`{type_}`]->(e:`{end}`) RETURN e.id AS id", {"id": item_id}
        )["id"].to_pylist()
    )


def _items_of(store: GraphStore, label: str, entity_id: str) -> list[str]:
    items = set(store.labels_of_kind("item"))
    found: set[str] = set()
    for type_, start, end in store.relation_types():
        if start in items and end == label:
            cypher = f"MATCH (n:`{start}`)-[:`{type_}`]->(e:`{label}` {{id: $id}}) RETURN n.id AS id"
            found.update(store.read(cypher, {"id": entity_id})["id"].to_pylist())
    return sorted(found)


def _images_of(store: GraphStore, items: pa.Array) -> list[str]:
    """Generated images that were conditioned on any of `items`, or made for it."""
    found: set[str] = set()
    for label in store.labels_of_kind("item"):
        for type_ in (CONDITIONED_ON, GENERATED_FOR):
            pairs = store.relations(type_, GENERATED_IMAGE, label)
            found.update(pairs["from_id"].filter(pc.is_in(pairs["to_id"], value_set=items)).to_pylist())
    return sorted(found)
