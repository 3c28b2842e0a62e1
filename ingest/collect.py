"""From the batches of one source file to a part of its source's datasets.

Rows stream through: ids are looked up, names of entities become entity ids, and what is accepted is written as Parquet
in tables of a bounded size. Only the hashes of ids and the names of entities stay in memory.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ingest.batches import Batch, Edges, edges_where, first_distinct
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import (
    ENTITY_NAME_SCHEMA,
    ITEM_SCHEMA,
    MISSING_IMAGE_SCHEMA,
    REJECT_SCHEMA,
    RELATION_SCHEMA,
)
from ingest.errors import Graph2ImageError
from ingest.ids import IdIndex
from ingest.images.sources import ImageProblemError
from ingest.images.store import StoredImage
from ingest.parts import ItemImages, Part, Shards
from ingest.records import Raw, RejectReason, RejectRecord, entity_id
from ingest.splits import SplitFractions, split_of

#: Rows and bytes from which a table is written.
TABLE_ROWS = 1 << 17
TABLE_BYTES = 1 << 26

#: Tables that wait to be written while rows are read on.
TABLES_WAITING = 2

#: Bytes of a row that are kept in the rejects.
RAW_BYTES = 4096

#: An id's place is the number of its file and its row in it.
ROW_BITS = 40

#: What acquiring the image of an item gave; None for one whose row names no image.
Acquired = StoredImage | ImageProblemError | None


class ShardWriter:
    """Writes the tables of one dataset, in a thread, cut in the same places for the same rows."""

    def __init__(self, data: DataRoot, name: str, schema: pa.Schema, pool: ThreadPoolExecutor) -> None:
        self._data = data
        self._name = name
        self._schema = schema
        self._pool = pool
        self._tables: list[pa.Table] = []
        self._rows = self._bytes = 0
        self._writing: deque[Future[tuple[str, int]]] = deque()
        self._shards: Shards = []

    def add(self, table: pa.Table) -> None:
        self._tables.append(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes
        if self._rows >= TABLE_ROWS or self._bytes >= TABLE_BYTES:
            self._flush()

    def _flush(self) -> None:
        while len(self._writing) >= TABLES_WAITING:
            self._shards.append(self._writing.popleft().result())
        self._writing.append(self._pool.submit(self._write, self._tables))
        self._tables, self._rows, self._bytes = [], 0, 0

    def _write(self, tables: list[pa.Table]) -> tuple[str, int]:
        table = pa.concat_tables(tables)
        return self._data.write_table(self._name, table, self._schema), table.num_rows

    def finish(self) -> Shards:
        """The files, all written."""
        if self._rows:
            self._flush()
        while self._writing:
            self._shards.append(self._writing.popleft().result())
        return self._shards


class _Entities:
    """Entities of one label in a file: how often each key is referred to, and declared with a name."""

    def __init__(self, source: str, label: str) -> None:
        self.declared: Counter[tuple[str, str]] = Counter()
        self._source = source
        self._label = label
        #: Id and number of references by key.
        self._known: dict[str, tuple[str, list[int]]] = {}

    def refer(self, keys: Iterable[str], counts: Iterable[int]) -> list[str]:
        """The ids of entities that are referred to so many times more; no id for one that is not."""
        known, ids = self._known, []
        for key, count in zip(keys, counts, strict=True):
            if count:
                entry = known.get(key)
                if entry is None:
                    entry = known[key] = (entity_id(self._source, self._label, key), [0])
                entry[1][0] += count
                ids.append(entry[0])
            else:
                ids.append("")
        return ids

    def names(self) -> pa.Table:
        """`ENTITY_NAME_SCHEMA`: a row per spelling that is referred to or declared, in order."""
        spelled = [(id_, key, references[0], 0) for key, (id_, references) in self._known.items()]
        declared = [
            (entity_id(self._source, self._label, key), name, 0, count) for (key, name), count in self.declared.items()
        ]
        rows = pl.DataFrame(
            spelled + declared,
            {"entity_id": pl.String, "name": pl.String, "references": pl.Int64, "declarations": pl.Int64},
            orient="row",
        )
        rows = rows.group_by("entity_id", "name").sum().sort("entity_id", "name")
        return (
            rows.with_columns(pl.lit(self._label).alias("label"))
            .select(ENTITY_NAME_SCHEMA.names)
            .to_arrow()
            .cast(ENTITY_NAME_SCHEMA)
        )


class Collector:
    """Collects the batches of one file.

    Parameters
    ----------
    seen
        Ids of the files that were collected before in this run; those of this file are added.
    files
        Names of those files; the last is this one's.
    taken
        Ids that belong to other files, if this one must not take them over.
    item_columns
        Arrow schema of the items' own columns.
    earlier_images
        What an item whose image cannot be had falls back on.
    strict
        Fail at the first reject or duplicate instead of recording it.
    require_images
        Reject the rows whose image cannot be had.
    """

    def __init__(
        self,
        data: DataRoot,
        source: str,
        files: Sequence[str],
        seen: IdIndex,
        taken: IdIndex | None,
        item_columns: pa.Schema,
        fractions: SplitFractions,
        earlier_images: ItemImages,
        *,
        strict: bool,
        require_images: bool,
    ) -> None:
        self.rows_read = self.items = self.duplicates = self.auxiliary_rows = self.images_kept = 0
        self.rejected: Counter[str] = Counter()
        self.missing_images: Counter[str] = Counter()
        self._source = source
        self._files = files
        self._seen = seen
        self._taken = taken
        self._fractions = fractions
        self._earlier_images = earlier_images
        self._strict = strict
        self._require_images = require_images
        self._entities: dict[str, _Entities] = {}
        self._entity_relations: dict[tuple[str, ...], None] = {}
        self._item_schema = pa.schema([*ITEM_SCHEMA, *item_columns])
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._item_writer = ShardWriter(data, f"items/{source}", self._item_schema, self._pool)
        self._relation_writer = ShardWriter(data, f"relations/{source}", RELATION_SCHEMA, self._pool)
        self._reject_writer = ShardWriter(data, f"rejects/{source}", REJECT_SCHEMA, self._pool)
        self._missing_image_writer = ShardWriter(data, f"missing-images/{source}", MISSING_IMAGE_SCHEMA, self._pool)
        self._name_writer = ShardWriter(data, f"entity-names/{source}", ENTITY_NAME_SCHEMA, self._pool)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, batch: Batch, acquired: Sequence[Acquired]) -> npt.NDArray[np.bool_]:
        """Add a batch.

        Parameters
        ----------
        acquired
            What acquiring the image of each item gave; empty if none was acquired.

        Returns
        -------
        accepted
            Which items of the batch are items of the source.
        """
        rejects = list(batch.rejects)
        accepted = np.ones(batch.items.num_rows, np.bool_)
        rows = batch.items["row"]
        for index, outcome in enumerate(acquired if self._require_images else ()):
            if isinstance(outcome, ImageProblemError):
                accepted[index] = False
                row = rows[index].as_py()
                rejects.append(RejectRecord(batch.file, row, outcome.reason, outcome.detail, batch.raw_rows[index]))
        rejects += self._duplicates(batch, accepted)
        self.rows_read += batch.items.num_rows + len(batch.rejects) + batch.auxiliary_rows
        self.auxiliary_rows += batch.auxiliary_rows
        self._reject(rejects)
        items, edges = batch.items, batch.edges
        if not accepted.all():
            positions = np.cumsum(accepted, dtype=np.int32) - 1
            edges = [edges_where(e, accepted[e.items.to_numpy()]) for e in edges]
            edges = [replace(e, items=pa.array(positions[e.items.to_numpy()])) for e in edges]
            items = items.filter(pa.array(accepted))
            acquired = list(itertools.compress(acquired, accepted))
        self.items += items.num_rows
        if items.num_rows:
            self._item_writer.add(self._finished(items, *self._images(batch.file, items, acquired)))
        ids = items["item_id"].combine_chunks()
        for e in edges:
            self._add_edges(e, ids)
        self._add_entities(batch)
        return accepted

    def _duplicates(self, batch: Batch, accepted: npt.NDArray[np.bool_]) -> list[RejectRecord]:
        """Clear `accepted` for the items whose id was seen before."""
        candidates = np.flatnonzero(accepted)
        ids = batch.items["item_id"].combine_chunks()
        rows = batch.items["row"].to_numpy()
        if len(candidates) < len(accepted):
            ids = ids.take(pa.array(candidates))
        places = rows[candidates] | len(self._files) - 1 << ROW_BITS
        found = np.full(len(ids), -1, np.int64) if self._taken is None else self._taken.find(ids)
        free = found < 0
        found[free] = self._seen.add(ids.filter(pa.array(free)), places[free])
        again = np.flatnonzero(found >= 0)
        rejects = []
        for position in again.tolist():
            accepted[candidates[position]] = False
            detail = f"the id {ids[position]} is that of {self._place(int(found[position]), batch.file)} already"
            row, raw = int(rows[candidates[position]]), batch.raw_rows[int(candidates[position])]
            rejects.append(RejectRecord(batch.file, row, RejectReason.DUPLICATE_ID, detail, raw))
        return rejects

    def _place(self, place: int, file: str) -> str:
        row, other = place & (1 << ROW_BITS) - 1, self._files[place >> ROW_BITS]
        of_file = "" if other == self._files[-1] else f" of {other}"
        return f"row {row}{of_file}" if row else f"an item{of_file}"

    def _reject(self, rejects: Sequence[RejectRecord]) -> None:
        rejects = sorted(rejects, key=lambda reject: reject.row or 0)
        if self._strict and rejects:
            first = rejects[0]
            raise Graph2ImageError(
                f"{first.file}, row {first.row}: {first.detail} ({first.reason})",
                f"Without --strict such rows are listed in rejects/{self._source}, and the others are ingested.",
            )
        for reject in rejects:
            if reject.reason == RejectReason.DUPLICATE_ID:
                self.duplicates += 1
            else:
                self.rejected[reject.reason.value] += 1
        if rejects:
            rows = [(r.file, r.row, r.reason.value, r.detail, raw_text(r.raw)) for r in rejects]
            columns = [
                pa.array(column, f.type) for column, f in zip(zip(*rows, strict=True), REJECT_SCHEMA, strict=True)
            ]
            self._reject_writer.add(pa.table(columns, schema=REJECT_SCHEMA))

    def _images(
        self, file: str, items: pa.Table, acquired: Sequence[Acquired]
    ) -> tuple[pa.StringArray, pa.StringArray]:
        """Hash of each item's image, null for one without, and where it is; images that are missing are recorded."""
        refs = items["image_refs"].combine_chunks()
        hashes: list[str | None] = [None] * items.num_rows
        places = [names[0] if names else None for names in refs.to_pylist()]
        outcomes: Sequence[Acquired] = acquired or [None] * items.num_rows
        lacking = []
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, StoredImage):
                hashes[index], places[index] = outcome.image_hash, outcome.ref
            elif places[index] is not None and not _is_opted_out(outcome):
                lacking.append(index)
        wanted = pa.array(lacking, pa.int32())
        ids = items["item_id"].combine_chunks()
        earlier = self._earlier_images.find(ids.take(wanted), refs.take(wanted))
        for index, image in zip(lacking, earlier, strict=True):
            if image is not None:
                hashes[index], places[index] = image
                self.images_kept += isinstance(outcomes[index], ImageProblemError)
        missing: list[tuple[int, str, str | None]] = []
        for index, (outcome, place) in enumerate(zip(outcomes, places, strict=True)):
            if hashes[index] is not None or place is None:
                continue
            if isinstance(outcome, ImageProblemError):
                missing.append((index, outcome.reason.value, outcome.detail))
            elif not acquired and (known := self._earlier_images.problem(ids[index].as_py(), place)) is not None:
                missing.append((index, *known))  # this run looks for no images
        if missing:
            self.missing_images.update(reason for _, reason, _ in missing)
            which = pa.array([index for index, *_ in missing], pa.int32())
            columns = [
                items["item_id"].take(which),
                pa.repeat(pa.scalar(file), len(missing)),
                items["row"].take(which),
                pa.array([places[index] for index, *_ in missing], pa.string()),
                pa.array([reason for _, reason, _ in missing], pa.string()),
                pa.array([detail for *_, detail in missing], pa.string()),
            ]
            self._missing_image_writer.add(pa.table(columns, schema=MISSING_IMAGE_SCHEMA))
        return pa.array(hashes, pa.string()), pa.array(places, pa.string())

    def _finished(self, items: pa.Table, hashes: pa.StringArray, refs: pa.StringArray) -> pa.Table:
        """The items with all columns; group and split as far as the row alone tells (`ingest.publish` settles them)."""
        ids, groups, splits = items["item_id"], items["source_group"], items["source_split"]
        named = pc.binary_join_element_wise(f"{self._source}/group/", groups, "")
        group_ids = pc.coalesce(named, ids)
        by_hash = pa.array([split_of(group, self._fractions) for group in group_ids.to_pylist()], pa.string())
        columns = {
            "image_hash": hashes,
            "image_ref": refs,
            "group_id": group_ids,
            "split": pc.coalesce(splits, by_hash),
            "opted_out": pa.repeat(pa.scalar(False), len(ids)),
        }
        names = self._item_schema.names
        return pa.table([columns[name] if name in columns else items[name] for name in names], schema=self._item_schema)

    def _add_edges(self, edges: Edges, ids: pa.StringArray) -> None:
        if edges.label is not None:
            edges = self._to_entities(edges, edges.label)
        count = len(edges.items)
        if count == 0:
            return
        self._relation_writer.add(
            pa.table(
                [
                    pa.repeat(pa.scalar(edges.type), count),
                    ids.take(edges.items),
                    edges.targets.dictionary.take(edges.targets.indices),
                    pa.repeat(pa.scalar(1.0), count) if edges.weights is None else edges.weights,
                    pa.nulls(count, pa.string()) if edges.roles is None else edges.roles,
                ],
                schema=RELATION_SCHEMA,
            )
        )

    def _to_entities(self, edges: Edges, label: str) -> Edges:
        """The edges with entity ids for keys, each entity once per item."""
        keys = edges.targets.dictionary.to_pylist()
        codes = edges.targets.indices.to_numpy()
        uses = np.bincount(codes, minlength=len(keys)).tolist()
        ids = self._entities_of(label).refer(keys, uses)
        entities = pa.array(ids, pa.string()).dictionary_encode()
        codes = entities.indices.to_numpy()[codes]
        kept = first_distinct(edges.items.to_numpy(), codes)
        targets = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), entities.dictionary)
        return edges_where(replace(edges, targets=targets), kept)

    def _entities_of(self, label: str) -> _Entities:
        if label not in self._entities:
            self._entities[label] = _Entities(self._source, label)
        return self._entities[label]

    def _add_entities(self, batch: Batch) -> None:
        """What the batch says of entities, and of items that are in other files."""
        for label, key, name in zip(*(column.to_pylist() for column in batch.entities.columns), strict=True):
            self._entities_of(label).declared[key, name] += 1
        for type_, from_label, from_key, to_label, to_key in zip(
            *(column.to_pylist() for column in batch.entity_relations.columns), strict=True
        ):
            from_id, to_id = entity_id(self._source, from_label, from_key), entity_id(self._source, to_label, to_key)
            if from_id != to_id and (type_, from_id, to_id) not in self._entity_relations:
                self._entity_relations[type_, from_id, to_id] = None
                self._entities_of(from_label).refer([from_key], [1])
                self._entities_of(to_label).refer([to_key], [1])
        if batch.item_edges.num_rows:
            edges = batch.item_edges.to_pydict()
            ends = zip(edges["label"], edges["key"], strict=True)
            targets = [self._entities_of(label).refer([key], [1])[0] for label, key in ends]
            self._write_relations(edges["type"], edges["item_id"], targets, edges["weight"])

    def _write_relations(
        self, types: Sequence[str], from_ids: Sequence[str], to_ids: Sequence[str], weights: Sequence[float]
    ) -> None:
        columns = [
            *(pa.array(column, pa.string()) for column in (types, from_ids, to_ids)),
            pa.array(weights, pa.float64()),
        ]
        self._relation_writer.add(pa.table([*columns, pa.nulls(len(types), pa.string())], schema=RELATION_SCHEMA))

    def finish(self, file: str, fingerprint: str) -> Part:
        """The part that the file amounts to, with all its Parquet files written, though not published."""
        relations = list(self._entity_relations)
        for start in range(0, len(relations), TABLE_ROWS):
            types, from_ids, to_ids = zip(*relations[start : start + TABLE_ROWS], strict=True)
            self._write_relations(types, from_ids, to_ids, [1.0] * len(types))
        for _, entities in sorted(self._entities.items()):
            self._name_writer.add(entities.names())
        return Part(
            file,
            fingerprint,
            self.rows_read,
            self.items,
            self.duplicates,
            self.auxiliary_rows,
            dict(sorted(self.rejected.items())),
            {
                "items": self._item_writer.finish(),
                "relations": self._relation_writer.finish(),
                "rejects": self._reject_writer.finish(),
                "missing-images": self._missing_image_writer.finish(),
                "entity-names": self._name_writer.finish(),
            },
            dict(sorted(self.missing_images.items())),
        )


def _is_opted_out(outcome: Acquired) -> bool:
    """Whether the host withdraws the image, which is then not kept either."""
    return isinstance(outcome, ImageProblemError) and outcome.reason == RejectReason.IMAGE_OPTED_OUT


def _as_json(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def raw_text(raw: Raw) -> str:
    """A row as text for the rejects, cut; bytes that were no text show as U+FFFD."""
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogateescape")
    content = raw if isinstance(raw, bytes) else orjson.dumps(raw, default=_as_json)
    return content[:RAW_BYTES].decode("utf-8", "replace")
