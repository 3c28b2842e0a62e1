"""The tables that a graph is projected from: those of a store, or the datasets that stores are loaded from.

Both give the same rows for the same data, in different orders.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from graphstore.bookkeeping import check_complete
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot, digest
from ingest.errors import Graph2ImageError

#: What is kept of every item.
ITEM_COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("item_id", "label", "split", "group_id", "image_hash")],
)
_RELATION_COLUMNS = ["type", "from_id", "to_id", "weight"]


class GraphTables(ABC):
    """A graph without what is opted out."""

    @abstractmethod
    def version(self) -> str:
        """Differs if anything else does.

        Raises
        ------
        Graph2ImageError
            If the graph is known to be incomplete.
        """

    @abstractmethod
    def items(self) -> pa.Table:
        """`ITEM_COLUMNS` of every item, in any order."""

    @abstractmethod
    def entity_ids(self) -> pa.ChunkedArray:
        """Id of every entity, in any order."""

    @abstractmethod
    def relations(self) -> Iterator[pa.Table]:
        """Tables of type, from_id, to_id (strings, or a dictionary of them) and weight (float64).

        The ends of some may not be in the graph. If a relation occurs several times, the last one counts.
        """


class StoreTables(GraphTables):
    """What a graph store holds. One type of relations between two labels is in memory at a time."""

    def __init__(self, store: GraphStore) -> None:
        self._store = store

    def version(self) -> str:
        check_complete(self._store)
        return self._store.version()

    def items(self) -> pa.Table:
        parts = [ITEM_COLUMNS.empty_table()]
        for label in self._store.labels_of_kind("item"):
            nodes = self._store.nodes(label, ["id", "split", "group_id", "image_hash", "opted_out"])
            nodes = _present(nodes).rename_columns({"id": "item_id"})
            parts.append(_with_constant(nodes, "label", label).select(ITEM_COLUMNS.names).cast(ITEM_COLUMNS))
        return pa.concat_tables(parts)

    def entity_ids(self) -> pa.ChunkedArray:
        labels = self._store.labels_of_kind("entity")
        found = [_present(self._store.nodes(label, ["id", "opted_out"]))["id"] for label in labels]
        return pa.chunked_array([chunk for ids in found for chunk in ids.chunks], pa.string())

    def relations(self) -> Iterator[pa.Table]:
        labels = {label for kind in ("item", "entity") for label in self._store.labels_of_kind(kind)}
        for type_, start, end in self._store.relation_types():
            if {start, end} <= labels:
                yield _with_constant(self._store.relations(type_, start, end, ["weight"]), "type", type_)


class DatasetTables(GraphTables):
    """The published items, entities and relations of sources, read in batches.

    It is what a store has after all of them were loaded and pruned, but for the opt-outs that only that store knows.

    Parameters
    ----------
    sources
        All that were ingested by default.
    opted_out
        Ids of items and entities that are not in the graph, beside the items that the datasets mark as opted out.
    """

    def __init__(self, data: DataRoot, sources: Collection[str] | None = None, opted_out: Collection[str] = ()) -> None:
        self._data = data
        self._sources = sorted(sources or (name.partition("/")[2] for name in data.names("items")))
        self._opted_out = pa.array(sorted(opted_out), pa.string())

    def version(self) -> str:
        names = [f"{kind}/{source}" for kind in ("items", "entities", "relations") for source in self._sources]
        snapshots = [(name, snapshot and snapshot.digest) for name in names for snapshot in [self._data.snapshot(name)]]
        for name, found in snapshots:
            if found is None and name.startswith("items/"):
                raise Graph2ImageError(f"there is no dataset {name!r} under {self._data.url}")
        return digest(snapshots, self._opted_out.to_pylist())

    def items(self) -> pa.Table:
        parts = [ITEM_COLUMNS.empty_table()]
        for source in self._sources:
            rows = self._data.read(f"items/{source}", [*ITEM_COLUMNS.names, "opted_out"])
            parts.append(self._remaining(_present(rows), "item_id").cast(ITEM_COLUMNS))
        return pa.concat_tables(parts)

    def entity_ids(self) -> pa.ChunkedArray:
        schema = pa.schema([("entity_id", pa.string())])
        found = [
            self._remaining(self._data.read(f"entities/{source}", schema.names, schema), "entity_id")["entity_id"]
            for source in self._sources
        ]
        return pa.chunked_array([chunk for ids in found for chunk in ids.chunks], pa.string())

    def relations(self) -> Iterator[pa.Table]:
        schema = pa.schema([*((name, pa.string()) for name in _RELATION_COLUMNS[:3]), ("weight", pa.float64())])
        for source in self._sources:
            # Little is read ahead: a batch of strings is several times as large as what becomes of it.
            batches = self._data.dataset(f"relations/{source}", schema).to_batches(
                columns=_RELATION_COLUMNS, batch_readahead=2, fragment_readahead=1
            )
            yield from (pa.Table.from_batches([batch]) for batch in batches)

    def _remaining(self, rows: pa.Table, key: str) -> pa.Table:
        if len(self._opted_out) == 0:
            return rows
        return rows.filter(pc.invert(pc.is_in(rows[key], value_set=self._opted_out)))


def _present(rows: pa.Table) -> pa.Table:
    """The rows that are not opted out."""
    return rows.filter(pc.invert(pc.fill_null(rows["opted_out"], False))).drop_columns(["opted_out"])


def _with_constant(rows: pa.Table, name: str, value: str) -> pa.Table:
    indices = pa.repeat(pa.scalar(0, pa.int8()), rows.num_rows)
    return rows.append_column(name, pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.string())))
