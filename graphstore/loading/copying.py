"""A whole graph from one store into another, of the same or of the other kind.

- Everything is copied: items, entities, lineage and bookkeeping, with all properties. What a store keeps to administer
  itself (`schema.GRAPH_SCHEMA`, `schema.WRITE_LOCK`) is not.
- The target must be empty, or have a copy of the same graph version, whole or cut off. From the first write on it has
  a `LoadedSource` node that says so, and sampling refuses it (`bookkeeping.check_complete`). The real `LoadedSource`
  nodes come last, in the transaction that takes that one away. A process that is killed right after it has made a
  whole copy, which the next run finds to be one.
- The copy is made part by part: a part is the nodes of a label, or the relations of a type between two labels. Each
  part is read again from the target and its digest compared. A part that is there already is left as it is, so a copy
  that was cut off continues where it was.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from graphstore.bookkeeping import (
    check_complete,
    copy_mark,
    loaded_sources,
    mark_as_copying,
)
from graphstore.schema import TYPE_NAMES
from graphstore.store import GraphStore
from ingest.datasets.names import GRAPH_SCHEMA, LOADED_SOURCE, WRITE_LOCK
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)

_ENDS = ["from_id", "to_id"]

#: (relation type, from label, to label)
RelationKey = tuple[str, str, str]


@dataclass(frozen=True)
class CopyReport:
    """What a copy did.

    Attributes
    ----------
    nodes, relations
        In the target now, as in the source.
    parts, parts_there
        Labels, and relation types between two labels, that have anything in them; how many of these were there already,
        brought by a copy that was cut off, or by the importer.
    version
        The graph version of both stores.
    digest
        The content digest of both stores, see `content_digest`.
    """

    nodes: int
    relations: int
    parts: int
    parts_there: int
    version: str
    digest: str


def copy_graph(source: GraphStore, target: GraphStore) -> CopyReport:
    """Copy all of `source` into `target`; what is in memory at a time is one label, or one relation type, and all ids.

    Parameters
    ----------
    target
        Empty, or with a copy of the same graph version, whole or cut off.

    Raises
    ------
    Graph2ImageError
        If the two are the same store, a load or copy into the source is not finished, the target has something else,
        the source is written to meanwhile, or a part differs after it was copied.
    """
    if source.url == target.url:
        raise Graph2ImageError(f"{source.url} cannot be copied into itself")
    check_complete(source)
    version = source.version()
    with target.exclusive():
        if target.version() == version and loaded_sources(source).keys() == loaded_sources(target).keys() != set():
            report = _compare_parts(source, target, version)
        else:
            _check_target(target, version)
            with target.transaction():
                mark_as_copying(target, version)
            report = _copy_parts(source, target, version)
    log.info("copied %d nodes and %d relations, graph version %s", report.nodes, report.relations, version)
    return report


def content_digest(store: GraphStore) -> str:
    """A digest of every node and relation with all properties, their names and types; the same on every kind of store.

    The order in which a store has nodes, relations and properties does not count, nor do relation types without
    relations. SHA-256, as hex.
    """
    return _whole(_part_digests(store))


def _part_digests(store: GraphStore) -> dict[str, str]:
    """The digest of each label, and of each relation type between two labels, that has anything in it."""
    parts = Parts(store)
    digests = {label: parts.nodes(label).digest for label in parts.labels}
    digests |= {" ".join(key): parts.relations(key).digest for key in store.relation_types()}
    return {name: digest for name, digest in digests.items() if digest}


def _check_target(target: GraphStore, version: str) -> None:
    """Raise unless `target` is empty or has a part of a copy of graph `version`."""
    rows = target.read("MATCH (n) RETURN labels(n) AS labels, count(n) AS count").to_pylist()
    counts: dict[str, int] = {}
    for row in rows:
        label = row["labels"] if isinstance(row["labels"], str) else ":".join(row["labels"])
        if label not in (GRAPH_SCHEMA, WRITE_LOCK):
            counts[label] = row["count"]
    if not counts:
        return
    loaded = loaded_sources(target).keys()
    if loaded == {copy_mark(version)}:
        return
    there = ", ".join(
        f"{count} {label}" for label, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
    )
    if any(copy_mark("") in name for name in loaded):
        raise Graph2ImageError(
            f"{target.url} has a part of a copy of another graph, or the source has changed since: {there}",
            "Empty it, or copy into another store.",
        )
    raise Graph2ImageError(
        f"{target.url} is not empty: {there}{' …' if len(counts) > 3 else ''}",
        "Copy into an empty store: another file, another server or database.",
    )


def _copy_parts(source: GraphStore, target: GraphStore, version: str) -> CopyReport:
    before = source.schema()
    theirs, ours = Parts(source), Parts(target)
    relations = {(info.type, info.from_label, info.to_label): info.count for info in before.relations}
    nodes = {info.name: info.count for info in before.labels}
    digests: dict[str, str] = {}
    there = 0
    total = sum(nodes.values()) + sum(relations.values())
    with tqdm(total=total, desc="copy", unit="row", disable=None) as bar:
        for label, schema in theirs.labels.items():
            if label == LOADED_SOURCE:
                continue
            with target.bulk_load():
                target.define_label(label, schema)
            part = theirs.nodes(label)
            digests[label] = part.digest
            if ours.nodes(label).digest == part.digest:
                there += bool(part.digest)
            else:
                log.debug("writing %s", label)
                with target.bulk_load():
                    target.upsert_nodes(label, part.table)
                _compare(label, part, ours.nodes(label))
            bar.update(part.table.num_rows)
        for key in relations:
            with target.bulk_load():
                target.define_relation(*key, source.relation_properties(key[0]))
            part = theirs.relations(key)
            name = " ".join(key)
            digests[name] = part.digest
            if ours.relations(key).digest == part.digest:
                there += bool(part.digest)
            else:
                # A store may take columns by position.
                log.debug("writing %s", name)
                columns = [*_ENDS, *target.relation_properties(key[0]).names]
                with target.bulk_load():
                    target.upsert_relations(*key, part.table.select(columns))
                _compare(name, part, ours.relations(key))
            bar.update(part.table.num_rows)
        parts = sum(map(bool, digests.values()))
        part = theirs.nodes(LOADED_SOURCE)
        digests[LOADED_SOURCE] = part.digest
        if source.version() != version or source.schema() != before:
            raise Graph2ImageError(
                f"{source.url} was written to while it was copied", "Run the same command again when nobody writes."
            )
        with target.transaction():
            target.write(f"MATCH (s:{LOADED_SOURCE} {{id: $id}}) DELETE s", {"id": copy_mark(version)})
            target.upsert_nodes(LOADED_SOURCE, part.table)
            _compare(LOADED_SOURCE, part, ours.nodes(LOADED_SOURCE))
            if (found := target.version()) != version:
                raise Graph2ImageError(f"the copy has graph version {found}, and not {version} as {source.url}")
        bar.update(part.table.num_rows)
    return CopyReport(sum(nodes.values()), sum(relations.values()), parts, there, version, _whole(digests))


def _compare_parts(source: GraphStore, target: GraphStore, version: str) -> CopyReport:
    """The report of a copy that is whole already."""
    theirs, ours = _part_digests(source), _part_digests(target)
    if theirs != ours:
        differing = min(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        raise Graph2ImageError(
            f"{target.url} is not empty: it has the same sources as {source.url}, but other content in {differing}",
            "Copy into an empty store: another file, another server or database.",
        )
    schema = source.schema()
    nodes, relations = (sum(info.count for info in part) for part in (schema.labels, schema.relations))
    parts = len(theirs.keys() - {LOADED_SOURCE})
    return CopyReport(nodes, relations, parts, parts, version, _whole(theirs))


def _compare(name: str, sent: Part, found: Part) -> None:
    if sent.table.num_rows != found.table.num_rows:
        what = f"{found.table.num_rows} instead of {sent.table.num_rows}"
    elif sent.digest != found.digest:
        what = "as many, but with other content"
    else:
        return
    raise Graph2ImageError(
        f"the copy of {name} is not what the source has: {what}", "Empty the target, and run the same command again."
    )


# -- digests -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """The nodes of a label, or the relations of a type between two labels, with all properties; in any order."""

    table: pa.Table
    digest: str


class Parts:
    """Reads the parts of a store; keeps the ids of the labels read, by which relations are identified.

    Attributes
    ----------
    labels
        Every label with its properties.
    """

    def __init__(self, store: GraphStore) -> None:
        self._store = store
        self.labels = store.node_labels()
        self._ids: dict[str, pa.Array] = {}

    def nodes(self, label: str) -> Part:
        """The nodes of a label; columns `id` and the other properties, as `upsert_nodes` takes them."""
        schema = self._schema(label)
        table = self._store.nodes(label, schema.names)
        order = pc.sort_indices(table["id"])
        self._ids[label] = _one_array(table["id"].take(order))
        return Part(table, _digest(table, schema, order))

    def relations(self, key: RelationKey) -> Part:
        """The relations of a type between two labels, whose nodes have been read; as `upsert_relations` takes them."""
        type_, *labels = key
        properties = self._store.relation_properties(type_)
        table = self._store.relations(*key, properties.names)
        # Their ends' indices among the sorted ids, which the digests of the nodes stand for.
        indices = [
            pc.fill_null(pc.index_in(table[end], value_set=self._ids[label]), -1).to_numpy().astype(np.int64)
            for end, label in zip(_ENDS, labels, strict=True)
        ]
        order = pa.array(np.lexsort((indices[1], indices[0])))
        indexed = pa.table([*map(pa.array, indices), *table.columns[2:]], names=[*_ENDS, *properties.names])
        ends = pa.schema([(end, pa.int64()) for end in _ENDS])
        return Part(table, _digest(indexed, pa.schema([*ends, *properties]), order))

    def _schema(self, label: str) -> pa.Schema:
        if label not in self.labels:
            self.labels = self._store.node_labels()
        return self.labels[label]


def _whole(digests: dict[str, str]) -> str:
    lines = (f"{name} {digest}\n" for name, digest in sorted(digests.items()) if digest)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest(table: pa.Table, schema: pa.Schema, order: pa.Array) -> str:
    """Of the rows in this order, column by column; empty for a table without rows."""
    if not table.num_rows:
        return ""
    total = hashlib.sha256(str(table.num_rows).encode())
    for field in sorted(schema, key=lambda field: field.name):
        column = table[field.name].cast(_large(field.type)).take(order)
        total.update(f"\n{field.name} {TYPE_NAMES[field.type]} ".encode())
        total.update(_column_digest(column))
    return total.hexdigest()


def _column_digest(column: pa.ChunkedArray) -> bytes:
    """The same however the column is cut into chunks, and whatever lies where a null is."""
    pieces = (hashlib.sha256(), hashlib.sha256())
    for chunk in column.chunks:
        _feed(chunk, *pieces)
    return b"".join(piece.digest() for piece in pieces)


def _feed(array: pa.Array, shape: Any, values: Any) -> None:
    """Feed what is null and how long texts and lists are to hash `shape`, the rest to hash `values`."""
    if pa.types.is_large_list(array.type):
        lengths = pc.fill_null(pc.list_value_length(array), -1)
        shape.update(_bytes(lengths))
        _feed(array.flatten(), shape, values)
    elif pa.types.is_large_string(array.type):
        shape.update(_bytes(pc.fill_null(pc.binary_length(array), -1)))
        present = array.drop_null()
        _, offsets, data = present.buffers()
        if data is not None:
            ends = np.frombuffer(offsets, np.int64)[present.offset : present.offset + len(present) + 1]
            values.update(memoryview(data)[ends[0] : ends[-1]])
    else:
        shape.update(_bytes(array.is_valid()))
        present = array.drop_null()
        if pa.types.is_temporal(array.type):
            present = present.view(pa.int32() if pa.types.is_date32(array.type) else pa.int64())
        values.update(_bytes(present))


def _bytes(array: pa.Array) -> bytes:
    return array.to_numpy(zero_copy_only=False).tobytes()  # type: ignore[no-any-return]  # pyarrow is untyped


def _large(type_: pa.DataType) -> pa.DataType:
    """With offsets that reach past 2 GB, which a sorted column of long texts may need."""
    if pa.types.is_list(type_):
        return pa.large_list(_large(type_.value_type))
    return pa.large_string() if pa.types.is_string(type_) else type_


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([pa.array([], column.type), *column.chunks])
