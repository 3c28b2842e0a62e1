"""What a model is trained on, frozen: a row per sampled item, and how much another snapshot differs from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingest.datasets.items import item_texts, read_items_by_id
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import FROZEN_ITEM_SCHEMA, NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError


@dataclass(frozen=True)
class Frozen:
    """A snapshot.

    Attributes
    ----------
    neighbors
        Name of the neighbors dataset that it is of, and its own: `snapshots/<neighbors>`.
    graph_version
        Of the graph that the neighbors were sampled from.
    datasets
        Digests of the items of all sources as they were then.
    digest
        Of the rows.
    """

    neighbors: str
    graph_version: str | None
    datasets: dict[str, str]
    items: int
    digest: str
    changed: bool


@dataclass(frozen=True)
class Changes:
    """How the training items of a snapshot differ from those of an earlier one.

    Attributes
    ----------
    new, changed, gone
        Items that are new, that have another image or text, and that are no longer there.
    neighbors
        Items in both, with other neighbors.
    """

    items: int
    new: int
    changed: int
    gone: int
    common: int
    neighbors: int

    @property
    def item_share(self) -> float:
        """Share of items that are new, changed or gone."""
        return (self.new + self.changed + self.gone) / max(self.items, 1)

    @property
    def neighbor_share(self) -> float:
        """Share of the items in both that have other neighbors."""
        return self.neighbors / max(self.common, 1)


def freeze(data: DataRoot, neighbors: str) -> Frozen:
    """Keep what the items of `neighbors/<neighbors>` are now, as `snapshots/<neighbors>`; the first one stays.

    Raises
    ------
    Graph2ImageError
        If there is no such neighbors dataset.
    """
    name, dataset = f"snapshots/{neighbors}", f"neighbors/{neighbors}"
    found, changed = data.snapshot(name), False
    if found is None:
        sampled = data.snapshot(dataset)
        if sampled is None:
            raise Graph2ImageError(f"there is no dataset {dataset!r}", "Run `graph2image neighbors --all` first.")
        tables = [_frozen(data, rows.to_table()) for rows in data.dataset(dataset, NEIGHBOR_SCHEMA).by_file()]
        metadata = {"graph_version": sampled.metadata.get("graph_version"), "datasets": item_digests(data)}
        found, changed = data.publish(name, tables, FROZEN_ITEM_SCHEMA, metadata)
    version, sources = found.metadata["graph_version"], found.metadata["datasets"]
    return Frozen(neighbors, version, sources, found.rows, found.digest, changed)


def item_digests(data: DataRoot) -> dict[str, str]:
    """Digest of the items of each source."""
    return {name: snapshot.digest for name in data.names("items") if (snapshot := data.snapshot(name))}


def changes(data: DataRoot, before: str, after: str) -> Changes | None:
    """How the training items of two snapshots differ; None if there is no earlier one."""
    if data.snapshot(f"snapshots/{before}") is None:
        return None
    old, new = (
        data.dataset(f"snapshots/{name}", FROZEN_ITEM_SCHEMA).to_table(filter=pc.field("split") == "train")
        for name in (before, after)
    )
    place = pc.index_in(new["item_id"], value_set=old["item_id"].combine_chunks())
    common = pc.is_valid(place)
    ours, theirs = new.filter(common), old.take(place.drop_null())

    def differing(column: str) -> int:
        return int(pc.sum(pc.not_equal(ours[column], theirs[column]), min_count=0).as_py())

    both = ours.num_rows
    return Changes(
        max(old.num_rows, new.num_rows),
        new.num_rows - both,
        differing("content"),
        old.num_rows - both,
        both,
        differing("neighbors"),
    )


def training_items(data: DataRoot, neighbors: str) -> set[str]:
    """Items of the training split of a neighbors dataset; none if it is no longer there."""
    rows = data.dataset(f"neighbors/{neighbors}", NEIGHBOR_SCHEMA)
    return {*rows.to_table(["item_id"], filter=pc.field("split") == "train")["item_id"].to_pylist()}


def _frozen(data: DataRoot, rows: pa.Table) -> pa.Table:
    ids = rows["item_id"].to_pylist()
    texts, images = item_texts(data, ids), read_items_by_id(data, ids, ["image_hash"])
    found: list[dict[str, Any]] = [
        {
            "item_id": row["item_id"],
            "split": row["split"],
            "content": _digest(texts.get(row["item_id"]), images.get(row["item_id"], {}).get("image_hash")),
            "neighbors": _digest(*(neighbor["item_id"] for neighbor in row["neighbors"])),
        }
        for row in rows.to_pylist()
    ]
    return pa.Table.from_pylist(found, FROZEN_ITEM_SCHEMA)


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
