"""Rows of a source file, parsed and in columns: what a reader hands to the pipeline, some thousand rows at a time.

A reader parses and nothing else. Whether an id was seen before, whether the image is one, which entities are the same
and which split an item belongs to is decided once for all sources, in `ingest.pipeline`.

A reader that goes row by row at its ease makes `ItemRecord`s (`from_records`); one that has millions of rows to get
through fills a `BatchBuilder`, whose plain lists cost an `append` per value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingest.records import ColumnValue, Raw, Record, RejectReason, RejectRecord

#: Columns of `Batch.items`; a reader's own follow them.
BATCH_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
        pa.field("image_refs", pa.list_(pa.string())),
        pa.field("source_group", pa.string()),
        pa.field("source_split", pa.string()),
    ]
)

#: Entities that a file describes, whether or not an item refers to them: what they are called.
DECLARED_NAME_SCHEMA = pa.schema([("label", pa.string()), ("key", pa.string()), ("name", pa.string())])

#: Relations between entities, each end by label and key.
ENTITY_RELATION_SCHEMA = pa.schema(
    [
        ("type", pa.string()),
        ("from_label", pa.string()),
        ("from_key", pa.string()),
        ("to_label", pa.string()),
        ("to_key", pa.string()),
    ]
)

#: Relations to entities from items that are in another file, by item id.
ITEM_EDGE_SCHEMA = pa.schema(
    [
        ("type", pa.string()),
        ("item_id", pa.string()),
        ("label", pa.string()),
        ("key", pa.string()),
        ("weight", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Edges:
    """Relations of one type from the items of a batch, as parallel arrays.

    Attributes
    ----------
    label
        Label of the entities that `targets` names by key; None if `targets` are the ids of items.
    items
        Positions in the batch, int32.
    targets
        Strings, as a dictionary.
    weights, roles
        None: all weights are 1, no roles. A role says how the end takes part, such as `after` of an attribution.
    """

    type: str
    label: str | None
    items: pa.Int32Array
    targets: pa.DictionaryArray
    weights: pa.DoubleArray | None = None
    roles: pa.StringArray | None = None


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of one file: the items among them, and the rejects.

    Attributes
    ----------
    items
        `BATCH_SCHEMA` and the reader's own columns, one row per item.
    raw_rows
        The rows of the items as read, for those that will be rejected after all.
    edges
        Relations from the items to entities and to other items.
    entities
        `DECLARED_NAME_SCHEMA`: names of entities whose key is not their name.
    entity_relations
        `ENTITY_RELATION_SCHEMA`.
    item_edges
        `ITEM_EDGE_SCHEMA`: what this file says of items that are in another one.
    auxiliary_rows
        Rows that are no items and mean to be none: what they describe is in `entities` and `item_edges`.
    header_lines
        Lines that name the columns and are no rows.
    """

    file: str
    items: pa.Table
    raw_rows: Sequence[Raw]
    edges: Sequence[Edges] = ()
    entities: pa.Table = field(default_factory=DECLARED_NAME_SCHEMA.empty_table)
    entity_relations: pa.Table = field(default_factory=ENTITY_RELATION_SCHEMA.empty_table)
    item_edges: pa.Table = field(default_factory=ITEM_EDGE_SCHEMA.empty_table)
    rejects: Sequence[RejectRecord] = ()
    auxiliary_rows: int = 0
    header_lines: int = 0


class EdgeLists:
    """The edges of one type while a batch is built.

    For one that has weights or roles, append to those lists as well, once per target.
    """

    __slots__ = ("items", "roles", "targets", "weights")

    def __init__(self) -> None:
        self.items: list[int] = []
        self.targets: list[str] = []
        self.weights: list[float] = []
        self.roles: list[str | None] = []

    def extend(self, item: int, targets: Sequence[str]) -> None:
        """Item number `item` of the batch leads to each of `targets`."""
        self.items += [item] * len(targets)
        self.targets += targets


class BatchBuilder:
    """A batch while it is built, as lists to append to.

    `rows`, `ids` and `raw_rows` get one value per item, and so does every other list that is used at all; one that is
    left empty is a column of nulls.

    Parameters
    ----------
    source
        Goes before every item id: `ids` and the targets of links are the source's own ids.
    label
        Label of the items.
    columns
        Arrow schema of the reader's own columns.
    """

    def __init__(self, source: str, file: str, label: str, columns: pa.Schema) -> None:
        self.file = file
        self.rows: list[int] = []
        self.ids: list[str] = []
        self.raw_rows: list[Raw] = []
        #: Only where the items of a file differ in their label.
        self.labels: list[str] = []
        self.titles: list[str | None] = []
        self.texts: list[str | None] = []
        #: Where the image may be, most likely place first.
        self.image_refs: list[Sequence[str]] = []
        #: Name of a group that must stay in one split, such as the work that a book is an edition of.
        self.groups: list[str | None] = []
        #: One of `ingest.datasets.schemas.SPLITS`, where the source says so.
        self.splits: list[str | None] = []
        self.columns: dict[str, list[ColumnValue]] = {name: [] for name in columns.names}
        #: (label, key) to name, and (type, from label, from key, to label, to key); each once.
        self.entity_names: dict[tuple[str, str], str] = {}
        self.entity_relations: dict[tuple[str, str, str, str, str], None] = {}
        #: (type, item id, label, key, weight).
        self.item_edges: list[tuple[str, str, str, str, float]] = []
        self.rejects: list[RejectRecord] = []
        #: Rows that are no items and mean to be none.
        self.auxiliary_rows = 0
        #: Lines that name the columns.
        self.header_lines = 0
        self._source = source
        self._label = label
        self._schema = columns
        self._edges: dict[tuple[str, str | None], EdgeLists] = {}

    def edges(self, type: str, label: str | None = None) -> EdgeLists:  # noqa: A002 (the field's word)
        """The edges of a type to the entities with `label`, or to other items; made by the first call."""
        return self._edges.setdefault((type, label), EdgeLists())

    def reject(self, row: int | None, reason: RejectReason, detail: str, raw: Raw) -> None:
        """Row number `row` is no item."""
        self.rejects.append(RejectRecord(self.file, row, reason, detail, raw))

    def finish(self) -> Batch:
        """The batch; the builder is not used afterwards."""
        prefix = f"{self._source}:"
        count = len(self.ids)
        columns: list[pa.Array] = [
            pa.array(self.rows, pa.int64()),
            _prefixed(prefix, pa.array(self.ids, pa.string())),
            pa.array(self.labels, pa.string()) if self.labels else pa.repeat(pa.scalar(self._label), count),
            _column(self.titles, count, pa.string()),
            _column(self.texts, count, pa.string()),
            _column(self.image_refs, count, pa.list_(pa.string())),
            _column(self.groups, count, pa.string()),
            _column(self.splits, count, pa.string()),
            *(_column(self.columns[own.name], count, own.type) for own in self._schema),
        ]
        edges = [
            _link_edges(type_, lists, prefix, columns[1]) if label is None else _edges(type_, label, lists)
            for (type_, label), lists in self._edges.items()
        ]
        return Batch(
            file=self.file,
            items=pa.table(columns, schema=pa.schema([*BATCH_SCHEMA, *self._schema])),
            raw_rows=self.raw_rows,
            edges=edges,
            entities=_rows_table([(*key, name) for key, name in self.entity_names.items()], DECLARED_NAME_SCHEMA),
            entity_relations=_rows_table(list(self.entity_relations), ENTITY_RELATION_SCHEMA),
            item_edges=_rows_table([(t, prefix + i, *rest) for t, i, *rest in self.item_edges], ITEM_EDGE_SCHEMA),
            rejects=self.rejects,
            auxiliary_rows=self.auxiliary_rows,
            header_lines=self.header_lines,
        )


def from_records(records: Iterable[Record], source: str, file: str, columns: pa.Schema) -> Batch:
    """The batch of rows that are records already."""
    batch = BatchBuilder(source, file, "", columns)
    prefix = f"{source}:"
    for record in records:
        if isinstance(record, RejectRecord):
            batch.rejects.append(record)
            continue
        position = len(batch.ids)
        batch.rows.append(record.row)
        batch.ids.append(record.item_id.removeprefix(prefix))
        batch.raw_rows.append(record.raw)
        batch.labels.append(record.label)
        batch.titles.append(record.title)
        batch.texts.append(record.text)
        batch.image_refs.append(record.image_refs)
        batch.groups.append(record.group)
        batch.splits.append(record.split)
        for name, values in batch.columns.items():
            values.append(record.columns.get(name))
        for entity in record.entities:
            edges = batch.edges(entity.relation, entity.label)
            edges.extend(position, (entity.name,))
            edges.roles.append(entity.role)
        for link in record.links:
            edges = batch.edges(link.relation)
            edges.extend(position, (link.target_item_id.removeprefix(prefix),))
            edges.weights.append(link.weight)
        for r in record.entity_relations:
            batch.entity_relations[r.relation, r.from_label, r.from_name, r.to_label, r.to_name] = None
    return batch.finish()


def _edges(type_: str, label: str | None, lists: EdgeLists) -> Edges:
    return Edges(
        type_,
        label,
        pa.array(lists.items, pa.int32()),
        pa.array(lists.targets, pa.string()).dictionary_encode(),
        pa.array(lists.weights, pa.float64()) if lists.weights else None,
        pa.array(lists.roles, pa.string()) if lists.roles else None,
    )


def _link_edges(type_: str, lists: EdgeLists, prefix: str, ids: pa.StringArray) -> Edges:
    """The links to other items, without those to the item itself and without repeats."""
    edges = _edges(type_, None, lists)
    targets = _prefixed(prefix, edges.targets.dictionary)
    items, codes = edges.items.to_numpy(), edges.targets.indices.to_numpy()
    own_code = pc.fill_null(pc.index_in(ids, value_set=targets), -1).to_numpy()
    kept = (own_code[items] != codes) & first_distinct(items, codes)
    return edges_where(replace(edges, targets=pa.DictionaryArray.from_arrays(edges.targets.indices, targets)), kept)


def first_distinct(items: npt.NDArray[np.int32], codes: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which pairs of numbers occur for the first time."""
    _, first = np.unique(items.astype(np.int64) << 32 | codes, return_index=True)
    mask = np.zeros(len(items), np.bool_)
    mask[first] = True
    return mask


def edges_where(edges: Edges, kept: npt.NDArray[np.bool_]) -> Edges:
    """Only those edges for which `kept` is true."""
    if kept.all():
        return edges
    mask = pa.array(kept)
    return replace(
        edges,
        items=edges.items.filter(mask),
        targets=edges.targets.filter(mask),
        weights=edges.weights and edges.weights.filter(mask),
        roles=edges.roles and edges.roles.filter(mask),
    )


def _prefixed(prefix: str, ids: pa.StringArray) -> pa.StringArray:
    return pc.binary_join_element_wise(prefix, ids, "")


def _column(values: Sequence[object], count: int, type_: pa.DataType) -> pa.Array:
    return pa.array(values, type_) if values else pa.nulls(count, type_)


def _rows_table(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
