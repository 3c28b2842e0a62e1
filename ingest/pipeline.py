"""From records to published datasets: what every source has in common.

Rows stream: they are checked in the order of the file while a few rows ahead have their pictures read, hashed and
decoded by a pool of threads, and what is accepted goes to a spool on disk. Only ids, hashes and entity names stay in
memory. When all rows are known, near-duplicates are joined to groups, each group gets its split, and the datasets are
published.

Pictures are known by their content: one that is stored already is read and hashed again, but neither decoded nor
written, so a second run takes seconds and cannot be fooled by a changed file. A killed run has published
nothing but pictures; the next one ends where an undisturbed one would have.
"""

from __future__ import annotations

import logging
import os
from array import array
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import orjson
import pyarrow as pa
from tqdm.auto import tqdm

from ingest.datasets import ENTITY_SCHEMA, ITEM_SCHEMA, REJECT_SCHEMA, RELATION_SCHEMA, DataRoot
from ingest.errors import Graph2ImageError
from ingest.images import (
    PERCEPTUAL_HASH_BYTES,
    ImageProblemError,
    ImageSource,
    ImageStore,
    StoredImage,
    open_image_source,
)
from ingest.readers.art500k import ITEM_COLUMN_SCHEMA, read_art500k
from ingest.readers.table import column_schema, read_table
from ingest.records import ItemRecord, Record, RejectReason, RejectRecord, entity_id
from ingest.splits import SplitFractions, group_ids, most_held_out, split_of
from ingest.spool import TABLE_ROWS, Spool
from ingest.tablespec import load_spec

logger = logging.getLogger(__name__)

#: Bytes of a row that are kept in the rejects.
RAW_BYTES = 4096

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class IngestReport:
    """Counts of one ingest: `rows_read == items + duplicates + sum(rejected.values())`.

    Parameters
    ----------
    duplicates
        Rows whose id an earlier row has; they are listed with the rejects, but not counted in `rejected`.
    rejected
        Other rows that are no items, by reason code.
    relations
        All relations published, with `pending_links` among them: links to items that the source does not have.
    images_new
        Pictures that were not stored before.
    changed
        False when everything was there already.
    """

    source: str
    rows_read: int
    items: int
    duplicates: int
    rejected: dict[str, int]
    entities: int
    relations: int
    pending_links: int
    images_new: int
    changed: bool


def ingest_art500k(
    data: DataRoot, label_file: str | Path, images_dir: str | Path, *, strict: bool = False
) -> IngestReport:
    """Ingest ART500K's full label file with its pictures (a folder, or a tar or zip archive of it).

    Raises
    ------
    Graph2ImageError
        If a file cannot be read, the disk is full, or with `strict` at the first reject.
    """
    with closing(open_image_source(Path(images_dir))) as images:
        return ingest(data, "art500k", read_art500k(Path(label_file)), ITEM_COLUMN_SCHEMA, images=images, strict=strict)


def ingest_table(data: DataRoot, spec_path: str | Path, root: str | Path, *, strict: bool = False) -> IngestReport:
    """Ingest the table that the spec file describes (`ingest.tablespec`); its paths are relative to `root`.

    Raises
    ------
    Graph2ImageError
        If the spec is wrong or does not fit the table, a file cannot be read, the disk is full, or with `strict` at the
        first reject.
    """
    spec = load_spec(Path(spec_path))
    root = Path(root)
    with ExitStack() as stack:
        images = None
        if spec.image is not None:
            place = spec.image.folder or spec.image.archive
            assert place is not None
            images = stack.enter_context(closing(open_image_source(root / place)))
        return ingest(
            data,
            spec.source,
            read_table(spec, root),
            column_schema(spec),
            images=images,
            fractions=SplitFractions(spec.split.val, spec.split.test),
            strict=strict,
        )


def ingest(
    data: DataRoot,
    source: str,
    records: Iterable[Record],
    item_columns: pa.Schema,
    *,
    images: ImageSource | None = None,
    fractions: SplitFractions = SplitFractions(),  # noqa: B008 (frozen)
    strict: bool = False,
) -> IngestReport:
    """Check the records of one source, store their pictures, and publish items, entities, relations and rejects.

    Parameters
    ----------
    records
        What a reader yields, one per row of the source.
    item_columns
        Arrow schema of the records' own `columns`.
    images
        Where pictures are; None for a source without.
    fractions
        Shares of the held-out splits, for records that do not name theirs.
    strict
        Fail at the first reject or duplicate instead of recording it.

    Raises
    ------
    Graph2ImageError
        If the disk is full, or with `strict` at the first reject. What was published before is then untouched.
    """
    logger.info("%s: reading rows", source)
    with ExitStack() as stack:
        collected = stack.enter_context(closing(_Collected(source, item_columns, strict)))
        pictures = ImageStore(data, images)
        pairs = stack.enter_context(closing(map_ordered(pictures.acquire, records)))
        for record, picture in tqdm(pairs, desc=source, unit=" rows", disable=None):
            if isinstance(record, RejectRecord):
                collected.reject(record)
            elif isinstance(picture, ImageProblemError):
                collected.reject(RejectRecord(record.file, record.row, picture.reason, picture.detail, record.raw))
            elif collected.add(record, picture) and picture is not None:
                pictures.record(picture)
        pictures.flush()
        logger.info("%s: %d of %d rows are items; publishing", source, len(collected.items), collected.rows_read)
        report = collected.publish(data, fractions, pictures.new)
    logger.info("%s: %s", source, "published" if report.changed else "unchanged")
    return report


def map_ordered(function: Callable[[T], R], items: Iterable[T]) -> Generator[tuple[T, R]]:
    """Apply `function` in threads, a bounded number of items ahead; yields each item with its result, in order."""
    workers = min(16, os.cpu_count() or 1)
    pending: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ingest")
    try:
        for item in items:
            pending.append((item, pool.submit(function, item)))
            if len(pending) > 8 * workers:
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Collected:
    """What the rows of a source amount to: large parts spooled, and in memory what joins rows to each other."""

    def __init__(self, source: str, item_columns: pa.Schema, strict: bool) -> None:
        self.source = source
        self.strict = strict
        self.rows_read = 0
        self.duplicates = 0
        self.rejected: Counter[str] = Counter()
        #: Position of each item by id, in order.
        self.items: dict[str, int] = {}
        self._item_rows = array("q")
        self._pictured = array("q")
        self._perceptual_hashes = bytearray()
        self._group_names: dict[int, str] = {}
        self._splits: dict[int, str] = {}
        #: How often an entity is spelled how, by entity id.
        self._spellings: dict[str, Counter[str]] = {}
        self._entity_relations: dict[tuple[str, str, str], None] = {}
        self._columns = item_columns.names
        self._item_schema = pa.schema([*ITEM_SCHEMA, *item_columns])
        unfinished = [f for f in self._item_schema if f.name not in ("split", "group_id", "opted_out")]
        self._item_spool = Spool(pa.schema(unfinished))
        self._relation_spool = Spool(RELATION_SCHEMA)
        self._link_spool = Spool(RELATION_SCHEMA)
        self._reject_spool = Spool(REJECT_SCHEMA)
        self._spools = (self._item_spool, self._relation_spool, self._link_spool, self._reject_spool)

    def close(self) -> None:
        """Remove the temporary files."""
        for spool in self._spools:
            spool.close()

    def reject(self, reject: RejectRecord) -> None:
        """Count and keep a row that is no item."""
        self.rows_read += 1
        if self.strict:
            raise Graph2ImageError(
                f"{reject.file}, row {reject.row}: {reject.detail} ({reject.reason})",
                f"Without --strict such rows are listed in rejects/{self.source}, and the others are ingested.",
            )
        if reject.reason == RejectReason.DUPLICATE_ID:
            self.duplicates += 1
        else:
            self.rejected[reject.reason.value] += 1
        self._reject_spool.add(reject.file, reject.row, reject.reason.value, reject.detail, _raw_text(reject.raw))

    def add(self, record: ItemRecord, picture: StoredImage | None) -> bool:
        """Add an item; False if it is a duplicate."""
        if (earlier := self.items.get(record.item_id)) is not None:
            detail = f"the id {record.item_id} is that of row {self._item_rows[earlier]} already"
            self.reject(RejectRecord(record.file, record.row, RejectReason.DUPLICATE_ID, detail, record.raw))
            return False
        self.rows_read += 1
        position = self.items[record.item_id] = len(self.items)
        self._item_rows.append(record.row)
        if picture is not None:
            self._pictured.append(position)
            self._perceptual_hashes += picture.perceptual_hash
        if record.group is not None:
            self._group_names[position] = record.group
        if record.split is not None:
            self._splits[position] = record.split
        self._item_spool.add(
            record.item_id,
            record.label,
            record.title,
            record.text,
            picture.image_hash if picture else None,
            picture.ref if picture else next(iter(record.image_refs), None),
            *(record.columns.get(name) for name in self._columns),
        )
        self._add_relations(record)
        return True

    def _add_relations(self, record: ItemRecord) -> None:
        # A row may name an entity twice, in two spellings even: one relation.
        related = {(e.relation, self._entity(e.label, e.name)): None for e in record.entities}
        for relation, to_id in related:
            self._relation_spool.add(relation, record.item_id, to_id, 1.0)
        linked = {(k.relation, k.target_item_id): k.weight for k in record.links}
        for (relation, to_id), weight in linked.items():
            if to_id != record.item_id:
                self._link_spool.add(relation, record.item_id, to_id, weight)
        for r in record.entity_relations:
            from_id, to_id = self._entity(r.from_label, r.from_name), self._entity(r.to_label, r.to_name)
            if from_id != to_id:
                self._entity_relations[r.relation, from_id, to_id] = None

    def _entity(self, label: str, name: str) -> str:
        identifier = entity_id(self.source, label, name)
        self._spellings.setdefault(identifier, Counter())[name] += 1
        return identifier

    def publish(self, data: DataRoot, fractions: SplitFractions, images_new: int) -> IngestReport:
        """Publish the four datasets of the source; items come last, as what they refer to is there then."""
        for spool in self._spools:
            spool.finish()
        pending = sum(
            to_id not in self.items for table in self._link_spool.tables() for to_id in table["to_id"].to_pylist()
        )
        counts = {"rows_read": self.rows_read, "duplicates": self.duplicates, "rejected": dict(self.rejected)}
        _, rejects_changed = data.publish(f"rejects/{self.source}", self._reject_spool.tables(), REJECT_SCHEMA, counts)
        entities, entities_changed = data.publish(f"entities/{self.source}", self._entity_tables(), ENTITY_SCHEMA)
        relations, relations_changed = data.publish(
            f"relations/{self.source}", self._relation_tables(), RELATION_SCHEMA
        )
        items, items_changed = data.publish(f"items/{self.source}", self._item_tables(fractions), self._item_schema)
        return IngestReport(
            source=self.source,
            rows_read=self.rows_read,
            items=items.rows,
            duplicates=self.duplicates,
            rejected=dict(sorted(self.rejected.items())),
            entities=entities.rows,
            relations=relations.rows,
            pending_links=pending,
            images_new=images_new,
            changed=bool(images_new) or rejects_changed or entities_changed or relations_changed or items_changed,
        )

    def _item_tables(self, fractions: SplitFractions) -> Iterator[pa.Table]:
        ids = list(self.items)
        hashes = np.frombuffer(self._perceptual_hashes, np.uint8).reshape(-1, PERCEPTUAL_HASH_BYTES)
        groups = group_ids(self.source, ids, np.asarray(self._pictured, np.int64), hashes, self._group_names)
        given: dict[str, list[str]] = {}
        for position, split in self._splits.items():
            given.setdefault(groups.get(position, ids[position]), []).append(split)
        start = 0
        for table in self._item_spool.tables():
            group_column = [groups.get(position, ids[position]) for position in range(start, start + len(table))]
            split_column = [most_held_out(given[g]) if g in given else split_of(g, fractions) for g in group_column]
            finished = {
                "split": pa.array(split_column),
                "group_id": pa.array(group_column),
                "opted_out": pa.repeat(pa.scalar(False), len(table)),
            }
            start += len(table)
            columns = [finished[name] if name in finished else table[name] for name in self._item_schema.names]
            yield pa.table(columns, schema=self._item_schema)

    def _relation_tables(self) -> Iterator[pa.Table]:
        yield from self._relation_spool.tables()
        yield from self._link_spool.tables()
        rows = [
            {"type": relation, "from_id": from_id, "to_id": to_id, "weight": 1.0}
            for relation, from_id, to_id in self._entity_relations
        ]
        if rows:
            yield pa.Table.from_pylist(rows, RELATION_SCHEMA)

    def _entity_tables(self) -> Iterator[pa.Table]:
        ids = sorted(self._spellings)
        for start in range(0, len(ids), TABLE_ROWS):
            part = ids[start : start + TABLE_ROWS]
            labels = [identifier.split("/", 2)[1] for identifier in part]
            names = [_usual_spelling(self._spellings[identifier]) for identifier in part]
            yield pa.table([part, labels, names], schema=ENTITY_SCHEMA)


def _usual_spelling(spellings: Counter[str]) -> str:
    return min(spellings, key=lambda name: (-spellings[name], name))


def _raw_text(raw: object) -> str:
    """A row as text for the rejects, cut; bytes that were no text show as U+FFFD."""
    text = raw if isinstance(raw, str) else orjson.dumps(raw, default=str).decode()
    return text.encode("utf-8", "surrogateescape")[:RAW_BYTES].decode("utf-8", "replace")
