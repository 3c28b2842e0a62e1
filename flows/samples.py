"""What a model is told and shown of an item: text and neighbors, from Parquet or sampled from the live store."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.settings import Settings
from flows.stages import withdrawn_items
from ingest.datasets.items import item_texts, read_items, read_items_by_id
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import NEIGHBOR_SCHEMA, SPLITS
from ingest.errors import Graph2ImageError, explain_validation
from model.generation.requests import Sample
from model.neighbors import Neighbor, first_relations, neighbor_features
from model.record import ModelRecord, read_model_record

if TYPE_CHECKING:
    from graphstore.sampling.settings import SamplerSettings

#: Instead of the name of a neighbors dataset: sample from the graph store.
LIVE = "live"
#: Up to so many items are sampled one by one, each with what it needs; more, with all vectors in memory.
_FEW = 16


def split_samples(
    settings: Settings,
    model_id: str,
    split: str,
    limit: int,
    neighbors: str | None = None,
    *,
    with_image: bool = False,
) -> list[Sample]:
    """Samples of `limit` items of a split, picked by a hash of their ids: always the same ones, in no order of the
    source. Withdrawn items are left out, as items and as neighbors.

    Parameters
    ----------
    neighbors
        Name of a neighbors dataset, by default the one that the model was trained with; or `LIVE`.
    with_image
        Only items that have an image.

    Raises
    ------
    Graph2ImageError
        If there is no such split, model or dataset; or, of the live store, as `graphstore.sampling`.
    """
    if split not in SPLITS:
        raise Graph2ImageError(f"there is no split {split!r}", f"Splits are: {', '.join(SPLITS)}.")
    data = DataRoot(settings.data)
    record = read_model_record(data, model_id)
    dataset = _dataset_name(data, record, neighbors)
    withdrawn = withdrawn_items(settings)
    of_split = pc.field("split") == split
    if dataset is None:
        ids = read_items(data, ["item_id"], where=of_split)["item_id"].to_pylist()
    else:
        ids = data.dataset(dataset).to_table(["item_id"], filter=of_split)["item_id"].to_pylist()
    if with_image:
        pictured = read_items(data, ["item_id"], where=of_split & pc.field("image_hash").is_valid())
        ids = set(ids) & set(pictured["item_id"].to_pylist())
    ids = _shuffled(set(ids) - withdrawn)
    found: list[Sample] = []
    while ids and len(found) < limit:  # a sampled item may be gone from the items by now
        chosen, ids = ids[: limit - len(found)], ids[limit - len(found) :]
        found += _samples(settings, data, record, dataset, chosen, withdrawn)
    return found


def picked_items(settings: Settings, split: str, limit: int) -> list[str]:
    """Ids of `limit` items of a split that have an image, in the order of `split_samples`; none is withdrawn."""
    where = (pc.field("split") == split) & pc.field("image_hash").is_valid()
    ids = read_items(DataRoot(settings.data), ["item_id"], where=where)["item_id"].to_pylist()
    return _shuffled(set(ids) - withdrawn_items(settings))[:limit]


def item_samples(
    settings: Settings, model_id: str, item_ids: Sequence[str], neighbors: str | None = None
) -> list[Sample]:
    """Samples of the named items. One without a row in the neighbors dataset is sampled from the live store.

    Raises
    ------
    Graph2ImageError
        If an item is unknown or withdrawn; and as `split_samples`.
    """
    data = DataRoot(settings.data)
    record = read_model_record(data, model_id)
    dataset = _dataset_name(data, record, neighbors)
    withdrawn = withdrawn_items(settings)
    if lost := [item_id for item_id in item_ids if item_id in withdrawn]:
        raise Graph2ImageError(f"{lost[0]!r} was withdrawn: no image of it is made any more")
    found = {
        sample.item_id: sample
        for sample in _samples(settings, data, record, dataset, list(dict.fromkeys(item_ids)), withdrawn)
    }
    if unknown := [item_id for item_id in item_ids if item_id not in found]:
        raise _unknown(unknown[0])
    return [found[item_id] for item_id in item_ids]


def with_neighbors(settings: Settings, model_id: str, sample: Sample, item_ids: Sequence[str]) -> Sample:
    """The sample with these items as its neighbors, in their order; those that it has keep their weights.

    Raises
    ------
    Graph2ImageError
        If an item is unknown, withdrawn, named twice or the sample's own; or has no image, at which the model looks.
    """
    use = read_model_record(DataRoot(settings.data), model_id).neighbor_use
    if len(set(item_ids)) < len(item_ids) or sample.item_id in item_ids:
        raise Graph2ImageError("a neighbor is named twice, or is the item itself")
    withdrawn = withdrawn_items(settings)
    known = {neighbor.item_id: neighbor for neighbor in sample.neighbors}
    others = [item_id for item_id in item_ids if item_id not in known]
    rows = read_items_by_id(DataRoot(settings.data), others, ["text", "image_hash"])
    for item_id in others:
        if item_id in withdrawn or item_id not in rows:
            raise _unknown(item_id)
        if rows[item_id]["image_hash"] is None and use.images:
            raise Graph2ImageError(f"{item_id!r} has no image, and the model {model_id} looks at images")
        row: dict[str, Any] = rows[item_id]
        known[item_id] = Neighbor(item_id, row["image_hash"], text=row["text"] or "")
    return replace(sample, neighbors=tuple(known[item_id] for item_id in item_ids))


def _shuffled(item_ids: Collection[str]) -> list[str]:
    """Always in the same order, which is none of the source."""
    return sorted(item_ids, key=lambda item_id: (zlib.crc32(item_id.encode()), item_id))


def _dataset_name(data: DataRoot, record: ModelRecord, neighbors: str | None) -> str | None:
    """The neighbors dataset to read; None for the live store."""
    if neighbors == LIVE:
        return None
    name = f"neighbors/{neighbors or record.neighbors}"
    if data.snapshot(name) is None:
        raise Graph2ImageError(
            f"there is no dataset {name!r} under {data.url}",
            f"Run `graph2image neighbors --all`, or use `--neighbors {LIVE}`.",
        )
    return name


def _samples(
    settings: Settings,
    data: DataRoot,
    record: ModelRecord,
    dataset: str | None,
    item_ids: Sequence[str],
    withdrawn: Collection[str],
) -> list[Sample]:
    """Samples of those of the items that are known, in their order."""
    rows: dict[str, dict[str, Any]] = {}
    if dataset is not None:
        wanted = pc.field("item_id").isin(pa.array(item_ids, pa.string()))
        table = data.dataset(dataset, NEIGHBOR_SCHEMA).to_table(filter=wanted)
        rows = {row["item_id"]: row for row in table.to_pylist()}
    texts = item_texts(data, item_ids)
    missing = [item_id for item_id in item_ids if item_id not in rows and item_id in texts]
    if missing:
        rows |= _sample_live(settings, data, record, missing)
    use = record.neighbor_use

    def is_shown(neighbor: dict[str, Any]) -> bool:
        return neighbor["item_id"] not in withdrawn and (neighbor["image_hash"] is not None or not use.images)

    shown = {row["item_id"]: list(filter(is_shown, row["neighbors"]))[: use.max_neighbors] for row in rows.values()}
    neighbor_texts = item_texts(data, {n["item_id"] for neighbors in shown.values() for n in neighbors})
    return [
        Sample(item_id, texts[item_id], rows[item_id]["split"], _neighbors(shown[item_id], neighbor_texts))
        for item_id in item_ids
        if item_id in rows and item_id in texts
    ]


def _neighbors(rows: Sequence[dict[str, Any]], texts: dict[str, str]) -> tuple[Neighbor, ...]:
    """Neighbors of one item, from rows of a neighbors dataset."""
    weights, _ = neighbor_features(rows, ())
    relations = first_relations(pa.array([row["via"] for row in rows], pa.string())).to_pylist()
    return tuple(
        Neighbor(row["item_id"], row["image_hash"], weight, relation or "", texts.get(row["item_id"], ""))
        for row, weight, relation in zip(rows, weights, relations, strict=True)
    )


# -- the live store --------------------------------------------------------------------------------------------------


def _sample_live(
    settings: Settings, data: DataRoot, record: ModelRecord, item_ids: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Rows as of a neighbors dataset, by item id, sampled as the model's own neighbors were."""
    from graphstore.sampling.explanation import explain_neighbors
    from graphstore.sampling.sampler import prepare_sampler, sample_rows

    sampler = _sampler_settings(record)
    with settings.open_graph(read_only=True) as store:
        if len(item_ids) <= _FEW:
            explained = [explain_neighbors(store, data, item_id, sampler) for item_id in item_ids]
            return {one.item_id: {"split": one.split, **_row(one.item_id, one.neighbors)} for one in explained}
        ready = prepare_sampler(store, data, sampler)
    nodes = np.array([ready.projection.node(item_id) for item_id in item_ids], dtype=np.int32)
    for item_id, node in zip(item_ids, nodes.tolist(), strict=True):
        if not 0 <= node < ready.projection.items.num_rows:
            raise _unknown(item_id)
    return {row["item_id"]: row for row in sample_rows(ready, nodes).to_pylist()}


def _row(item_id: str, neighbors: Iterable[Any]) -> dict[str, Any]:
    keys = ("item_id", "image_hash", "ppr", "similarity", "via")
    return {"item_id": item_id, "neighbors": [{key: getattr(neighbor, key) for key in keys} for neighbor in neighbors]}


def _sampler_settings(record: ModelRecord) -> SamplerSettings:
    """How the model's own neighbors were sampled; the defaults, if that is not recorded."""
    from graphstore.sampling.settings import SamplerSettings

    recorded = record.neighbors_metadata.settings or {"encoder": record.encoder}
    with explain_validation(
        f"this version cannot sample as the neighbors of {record.model_id} were",
        "Name a neighbors dataset with --neighbors.",
    ):
        return SamplerSettings.model_validate(recorded)


def _unknown(item_id: str) -> Graph2ImageError:
    return Graph2ImageError(
        f"there is no item {item_id!r}, or it was withdrawn",
        'Find ids with `graph2image query "MATCH (n:LABEL) RETURN n.id, n.title LIMIT 10"`.',
    )
