"""The items of a training run and their neighbors, as the Parquet datasets have them.

Items and neighbors are held in Arrow columns, one to three kilobytes for an item, so that millions of them fit into
memory; everything larger (hidden states, latents, embeddings) is left to `model.training.arrays`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ingest.datasets.items import read_items, require_items
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import NEIGHBOR_SCHEMA
from ingest.encoders.embed import unreadable_images
from ingest.errors import Graph2ImageError
from model.neighbors import first_relations
from model.training.config import GraphEncoderConfig

logger = logging.getLogger(__name__)

_HASHED_ROWS = 65_536


@dataclass(frozen=True)
class TrainingItems:
    """The items of the training split, in the order of their ids, and their neighbors, best first.

    Parameters
    ----------
    table
        A row per item: `item_id`, `source`, `text`, `image_hash`.
    neighbor_counts
        `(items,)` neighbors of each item.
    neighbors
        A row per neighbor, item by item, with those of the columns `image_hash`, `text`, `ppr` and `relation` that the
        model looks at; all but `ppr` are dictionaries.
    left_out
        Sampled items that take no part, as they have no image, an unreadable one, or were withdrawn.
    withdrawn
        Ids of the items that the samples have, as items or as neighbors, and that take no part as they were withdrawn.
    """

    table: pa.Table
    neighbor_counts: npt.NDArray[np.int64]
    neighbors: pa.Table
    left_out: int
    withdrawn: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def image_hashes(self) -> list[str]:
        """The items' images, with repetitions."""
        hashes: list[str] = self.table["image_hash"].to_pylist()
        return hashes

    @property
    def relation_types(self) -> tuple[str, ...]:
        """Relation types by which neighbors are reached, sorted; empty if the model does not look at them."""
        if "relation" not in self.neighbors.column_names:
            return ()
        return tuple(sorted(self.neighbors["relation"].unique().drop_null().to_pylist()))

    @property
    def sources(self) -> dict[str, int]:
        """Items of each source."""
        counts = pc.value_counts(self.table["source"])
        return {count["values"]: count["counts"] for count in counts.to_pylist()}

    def neighbor_places(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Item and rank, counted from 0, of each row of `neighbors`."""
        items = np.repeat(np.arange(len(self)), self.neighbor_counts)
        starts = np.cumsum(self.neighbor_counts) - self.neighbor_counts
        return items, np.arange(len(items)) - starts[items]

    def digest(self) -> str:
        """Identifies all that training sees of the items."""
        state = hashlib.sha256(np.ascontiguousarray(self.neighbor_counts).tobytes())
        for table in (self.table.drop_columns("source"), self.neighbors):
            for name, column in zip(table.column_names, table.columns, strict=True):
                state.update(name.encode())
                for part in _content(column):
                    state.update(part)
        return state.hexdigest()[:16]


def _content(column: pa.ChunkedArray) -> Iterator[bytes]:
    """Bytes that are equal for equal columns, whatever their chunks and dictionaries."""
    if pa.types.is_floating(column.type):
        yield column.to_numpy().tobytes()
        return
    if pa.types.is_dictionary(column.type):
        array = column.combine_chunks()
        codes, first, places = np.unique(
            pc.fill_null(array.indices, -1).to_numpy(), return_index=True, return_inverse=True
        )
        order = np.argsort(first)  # of the values as they come
        yield np.argsort(order)[places].astype(np.int32).tobytes()
        codes = codes[order]
        column = pa.chunked_array([array.dictionary.take(pa.array(codes, mask=codes < 0))])
    for start in range(0, len(column), _HASHED_ROWS):
        yield orjson.dumps(column.slice(start, _HASHED_ROWS).to_pylist())


def read_training_items(
    data: DataRoot,
    neighbors: str,
    config: GraphEncoderConfig,
    *,
    encoder: str | None = None,
    withdrawn: Collection[str] = (),
) -> TrainingItems:
    """Items of the training split that have a readable image and a row in `neighbors/<neighbors>`.

    Items whose ids are in `withdrawn` are neither among them nor among their neighbors. `encoder` is whose
    `unreadable/<encoder>` says which images cannot be read.

    Raises
    ------
    Graph2ImageError
        If there is no such neighbors dataset, or no such item.
    """
    name = f"neighbors/{neighbors}"
    if data.snapshot(name) is None:
        raise Graph2ImageError(
            f"there is no neighbors dataset {neighbors!r}", "Run `graph2image neighbors --all` first."
        )
    gone = pa.array(sorted(withdrawn), pa.string())
    require_items(data)
    all_items = read_items(data, ["item_id", "text", "image_hash", "opted_out", "source"])
    all_items = all_items.set_column(1, "text", pc.fill_null(all_items["text"], ""))
    usable = pc.and_(pc.is_valid(all_items["image_hash"]), pc.invert(all_items["opted_out"]))
    usable = pc.and_(usable, pc.invert(pc.is_in(all_items["item_id"], value_set=gone)))
    if encoder is not None and (unreadable := unreadable_images(data, encoder)):
        broken = pa.array(unreadable.keys(), pa.string())
        usable = pc.and_(usable, pc.invert(pc.is_in(all_items["image_hash"], value_set=broken)))
    items = all_items.filter(usable).drop_columns("opted_out")
    ids = StringIndex(items["item_id"])

    places, counts, parts, sampled = [], [], [], 0
    missed: set[str] = set()
    for file in data.dataset(name, NEIGHBOR_SCHEMA).by_file():
        rows = file.to_table(filter=pc.field("split") == "train")
        sampled += rows.num_rows
        for named in (rows["item_id"], pc.struct_field(pc.list_flatten(rows["neighbors"]), "item_id")):
            missed.update(named.filter(pc.is_in(named, value_set=gone)).to_pylist())
        found = ids.find(rows["item_id"])
        rows, found = rows.filter(pa.array(found >= 0)), found[found >= 0]
        part_counts, part = _cut(rows["neighbors"].combine_chunks(), gone, config)
        places.append(found)
        counts.append(part_counts)
        parts.append(part)
    place = np.concatenate(places) if places else np.empty(0, np.int64)
    if len(place) == 0:
        raise Graph2ImageError(f"{name} has no training items with images", "Ingest some, then sample neighbors again.")
    # In the order of their ids, which is the order of `ids.values`.
    order = np.argsort(place, kind="stable")
    count = np.concatenate(counts)
    flat = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    ends = np.cumsum(count)
    within = np.arange(count.sum()) - np.repeat((np.cumsum(count[order]) - count[order]), count[order])
    table = items.take(ids.rows[place[order]])
    taken = flat.take(np.repeat((ends - count)[order], count[order]) + within)
    if config.texts:
        taken = _with_texts(taken, all_items)
    left_out = sampled - len(place)
    if left_out:
        logger.info("Left out %d of %d training items: withdrawn, or without a readable image", left_out, sampled)
    return TrainingItems(table.combine_chunks(), count[order], taken.combine_chunks(), left_out, tuple(sorted(missed)))


def _cut(lists: pa.ListArray, gone: pa.Array, config: GraphEncoderConfig) -> tuple[npt.NDArray[np.int64], pa.Table]:
    """The first neighbors of each list that are not `gone` and have what is looked at: their counts, and columns."""
    flat = lists.flatten()
    parents = pc.list_parent_indices(lists).to_numpy()
    kept = ~pc.is_in(flat.field("item_id"), value_set=gone).to_numpy(zero_copy_only=False)
    if config.images:
        kept &= pc.is_valid(flat.field("image_hash")).to_numpy(zero_copy_only=False)
    before = np.cumsum(kept) - kept
    first = np.searchsorted(parents, parents)
    rank = before - before[first] if len(before) else before
    kept &= rank < config.max_neighbors
    flat = flat.filter(pa.array(kept))
    columns = {}
    if config.images:
        columns["image_hash"] = flat.field("image_hash").dictionary_encode()
    if config.texts:
        columns["item_id"] = flat.field("item_id").dictionary_encode()
    if config.neighbor_weights:
        columns["ppr"] = flat.field("ppr")
    if config.relation_types:
        columns["relation"] = first_relations(flat.field("via")).dictionary_encode()
    return np.bincount(parents[kept], minlength=len(lists)), pa.table(columns)


def _with_texts(neighbors: pa.Table, items: pa.Table) -> pa.Table:
    """Put the neighbors' texts in place of their item ids; one that is no item any more has the empty text."""
    column = neighbors["item_id"].combine_chunks()
    index = StringIndex(items["item_id"])
    place = index.find(column.dictionary)
    rows = pa.array(index.rows[np.maximum(place, 0)], mask=place < 0)
    texts = pc.fill_null(items["text"].combine_chunks().take(rows), "")
    at = neighbors.column_names.index("item_id")
    return neighbors.set_column(at, "text", pa.DictionaryArray.from_arrays(column.indices, texts))


class StringIndex:
    """Where strings are in a column: `find` gives places in the sorted `values`, and `rows` the column's rows."""

    def __init__(self, column: pa.Array | pa.ChunkedArray) -> None:
        self.values, self.rows = np.unique(_as_bytes(column), return_index=True)

    def find(self, column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """Place of each string in `values`, -1 if it is none of them."""
        wanted = _as_bytes(column)
        if len(self.values) == 0:
            return np.full(len(wanted), -1)
        place = np.searchsorted(self.values, wanted).clip(max=len(self.values) - 1)
        return np.where(self.values[place] == wanted, place, -1)


def _as_bytes(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    """UTF-8, which sorts as the strings do."""
    values = column.cast(pa.binary()).to_numpy(zero_copy_only=False) if len(column) else []
    return np.asarray(values, dtype=np.bytes_)
