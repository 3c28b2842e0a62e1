"""The store on a Neo4j server, for teams and for scale.

What is notable about Neo4j, and handled here:

- It has no declared properties and no cheap list of what leads where. Both are kept in `GraphSchema` nodes, one per
  label and per (relation type, from label, to label), so that columns have types and an empty label is known.
- One transaction of millions of rows would need all the server's memory. So `bulk_load` commits batch by batch, each
  tried again after a lost connection, and in halves when the server has too little memory for it. What is loaded twice
  by that ends up once: statements that may be repeated merge.
- Whole labels and relation types are read as a few lists of thousands of values, not as millions of records, which
  would cost many times more.
- New relations are created from their ends' internal numbers, sorted by them: no index lookups, few locks at a time.
  Rows go as one list per column.
- Writers exclude each other by a lock that is checked in every transaction that writes; see `neo4j.write_lock`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import neo4j
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graphstore.neo4j.driver import (
    MemoryLimitError,
    ReadOnlyError,
    connect,
    explain_errors,
    run_again,
)
from graphstore.neo4j.values import (
    batches,
    check_storable,
    read_chunks,
    read_table,
    to_table,
)
from graphstore.neo4j.write_lock import WriteLock
from graphstore.readonly import (
    check_calls_on_neo4j,
    check_parameters,
    check_reads_only,
    with_row_limit,
)
from graphstore.schema import (
    ARROW_TYPES,
    GRAPH_SCHEMA,
    RELATION_PROPERTY_TYPES,
    SYSTEM_LABELS,
    SYSTEM_RELATIONS,
    TYPE_NAMES,
    WRITE_LOCK,
    check_identifier,
    conform,
    new_properties,
)
from graphstore.store import Access, GraphStore, NoGraphError, mark_truncated
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)

_ENDS = ["from_id", "to_id"]
#: Row by row through the columns that a statement is given as lists.
_EACH = "UNWIND range(0, size($c0) - 1) AS i"
#: Nodes whose properties, or relations, come in one record.
_CHUNK_NODES = 5_000
_UNKNOWN_NAMES = {"01N50": "label", "01N51": "relation type", "01N52": "property"}


class Neo4jStore(GraphStore):
    """A `GraphStore` on a server; see the module's notes."""

    bulk_load_rolls_back = False

    def __init__(self, url: str, access: Access, *, read_only: bool) -> None:
        self.url = url
        self._read_only = read_only
        self._driver, self._address = connect(url, access)
        self._session = self._driver.session(
            database=self._address.database,
            default_access_mode=neo4j.READ_ACCESS if read_only else neo4j.WRITE_ACCESS,
        )
        self._transaction: neo4j.Transaction | None = None
        self._lock: WriteLock | None = None
        self._bulk = False
        # Internal numbers of the nodes by label, while nobody else writes.
        self._numbers: dict[str, tuple[pa.Array, pa.Array]] = {}
        if not read_only:
            self._define_system()
        elif not self._is_there():
            raise NoGraphError(url)

    def close(self) -> None:
        self._session.close()

    # -- reading -----------------------------------------------------------------------------------------------------

    def query(
        self,
        cypher: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        row_limit: int = 10_000,
        timeout_s: float = 30.0,
    ) -> pa.Table:
        values = dict(parameters or {})
        check_reads_only(cypher)
        check_calls_on_neo4j(cypher)
        check_parameters(cypher, values)
        # A session of its own, which the server does not let write.
        session = self._driver.session(
            database=self._address.database,
            default_access_mode=neo4j.READ_ACCESS,
            notifications_min_severity=neo4j.NotificationMinimumSeverity.WARNING,
        )
        with explain_errors(self._address), session, session.begin_transaction(timeout=timeout_s) as transaction:
            result = transaction.run(with_row_limit(cypher, row_limit + 1), values)
            table = to_table(result.keys(), (record.values() for record in result.fetch(row_limit + 1)))
            summary = result.consume()
        if summary.query_type != "r":  # of EXPLAIN, which the server does not run
            raise ReadOnlyError("the query tried to write: queries only read the graph")
        self._check_names(summary.gql_status_objects)
        return table if table.num_rows <= row_limit else mark_truncated(table.slice(0, row_limit))

    def _check_names(self, statuses: Sequence[neo4j.GqlStatusObject]) -> None:
        """Raise for a label, relation type or property that the graph does not have: to Neo4j it is an empty one."""
        if not any(status.gql_status in _UNKNOWN_NAMES for status in statuses):
            return
        labels = self.node_labels()
        known = {*labels, *(name for schema in labels.values() for name in schema.names), *RELATION_PROPERTY_TYPES}
        known.update(type_ for type_, _, _ in self.relation_types())
        for status in statuses:
            what = _UNKNOWN_NAMES.get(status.gql_status)
            name = status.status_description.split("`")[1] if what else ""
            if what and name not in known:
                raise Graph2ImageError(
                    f"{what} {name} does not exist in the graph", "`graph2image status` lists what there is."
                )

    def read(self, cypher: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        return self._execute(read_table, cypher, dict(parameters or {}))

    def nodes(self, label: str, properties: Sequence[str]) -> pa.Table:
        schema = self.node_labels().get(check_identifier(label, "label"))
        if schema is None:
            raise Graph2ImageError(f"label {label} does not exist in the graph")
        columns = ", ".join(f"[n IN part | n.`{check_identifier(name, 'property')}`]" for name in properties)
        cypher = (
            f"MATCH (n:`{label}`) WITH collect(n) AS nodes "
            "UNWIND range(0, size(nodes) - 1, $chunk) AS start WITH nodes[start..start + $chunk] AS part "
            f"RETURN {columns}"
        )
        wanted = pa.schema([schema.field(name) for name in properties])
        return self._execute(read_chunks, cypher, {"chunk": _CHUNK_NODES}, wanted)

    def relations(self, type_: str, from_label: str, to_label: str, properties: Sequence[str] = ()) -> pa.Table:
        for name in (type_, from_label, to_label, *properties):
            check_identifier(name, "name")
        columns = "".join(f", [r IN rs | r.`{name}`] AS `{name}`" for name in properties)
        cypher = (
            f"MATCH (n:`{from_label}`) WITH collect(n) AS nodes "
            "UNWIND range(0, size(nodes) - 1, $chunk) AS start CALL (nodes, start) { "
            f"UNWIND nodes[start..start + $chunk] AS a MATCH (a)-[r:`{type_}`]->(b:`{to_label}`) "
            "RETURN collect(id(a)) AS from_, collect(id(b)) AS to_, collect(r) AS rs } "
            f"RETURN from_, to_{columns}"
        )
        wanted = pa.schema(
            [
                ("from_", pa.int64()),
                ("to_", pa.int64()),
                *((name, RELATION_PROPERTY_TYPES[name]) for name in properties),
            ]
        )
        table = self._execute(read_chunks, cypher, {"chunk": _CHUNK_NODES}, wanted)
        ends = []
        for column, label in (("from_", from_label), ("to_", to_label)):
            ids, numbers = self._numbered(label)
            ends.append(ids.take(pc.index_in(table[column], value_set=numbers)))
        return pa.table([*ends, *table.columns[2:]], names=[*_ENDS, *properties])

    def _numbered(self, label: str) -> tuple[pa.Array, pa.Array]:
        """Ids of the nodes of a label, and their internal numbers, which hold as long as nobody else writes."""
        if label not in self._numbers:
            cypher = (
                f"MATCH (n:`{label}`) WITH collect(n) AS nodes "
                "UNWIND range(0, size(nodes) - 1, $chunk) AS start WITH nodes[start..start + $chunk] AS part "
                "RETURN [n IN part | n.id] AS ids, [n IN part | id(n)] AS numbers"
            )
            wanted = pa.schema([("ids", pa.string()), ("numbers", pa.int64())])
            table = self._execute(read_chunks, cypher, {"chunk": _CHUNK_NODES}, wanted).combine_chunks()
            numbered = table["ids"].combine_chunks(), table["numbers"].combine_chunks()
            if self._lock is None:
                return numbered
            self._numbers[label] = numbered
        return self._numbers[label]

    def node_labels(self) -> dict[str, pa.Schema]:
        rows = self.read(
            f"MATCH (s:{GRAPH_SCHEMA} {{kind: 'label'}}) RETURN s.name AS name, s.properties AS properties, "
            "s.types AS types ORDER BY name"
        ).to_pylist()
        return {
            row["name"]: pa.schema(
                [(name, ARROW_TYPES[type_]) for name, type_ in zip(row["properties"], row["types"], strict=True)]
            )
            for row in rows
        }

    def relation_types(self) -> list[tuple[str, str, str]]:
        rows = self.read(
            f"MATCH (s:{GRAPH_SCHEMA} {{kind: 'relation'}}) RETURN s.name AS name, s.from_label AS start, "
            "s.to_label AS end"
        ).to_pylist()
        return sorted((row["name"], row["start"], row["end"]) for row in rows)

    def relation_properties(self, type_: str) -> pa.Schema:
        rows = self.read(
            f"MATCH (s:{GRAPH_SCHEMA} {{kind: 'relation', name: $name}}) RETURN s.properties AS properties",
            {"name": type_},
        )
        names = dict.fromkeys(name for properties in rows["properties"].to_pylist() for name in properties)
        return pa.schema([(name, RELATION_PROPERTY_TYPES[name]) for name in names])

    def _is_there(self) -> bool:
        return bool(self.read(f"MATCH (s:{GRAPH_SCHEMA}) RETURN s.id AS id LIMIT 1").num_rows)

    # -- transactions ------------------------------------------------------------------------------------------------

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        if self._lock is not None:  # held already, by a context around this one
            yield
            return
        self._lock = WriteLock(self._driver, self._address)
        try:
            yield
        finally:
            lock, self._lock = self._lock, None
            self._numbers.clear()
            lock.release()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.exclusive():
            with explain_errors(self._address):
                self._transaction = self._session.begin_transaction()
            try:
                yield
                with explain_errors(self._address):
                    self._check_lock()
                    self._transaction.commit()
            finally:
                transaction, self._transaction = self._transaction, None
                transaction.close()  # which rolls back what was not committed

    @contextmanager
    def bulk_load(self) -> Iterator[None]:
        with self.exclusive():
            self._bulk = True
            try:
                yield
            finally:
                self._bulk = False

    def _check_lock(self) -> None:
        if self._lock is not None:
            self._lock.check()

    @contextmanager
    def session(self) -> Iterator[neo4j.Session]:
        """A session of the driver, for what no managed transaction can do, such as making indexes."""
        with explain_errors(self._address), self._driver.session(database=self._address.database) as session:
            yield session

    def _execute(self, work: Any, *arguments: Any) -> Any:
        """Run `work(transaction, …)` in the transaction that is open, or in one of its own that is tried again."""

        def attempt(transaction: neo4j.Transaction) -> Any:
            self._check_lock()
            return work(transaction, *arguments)

        with explain_errors(self._address):
            if self._transaction is not None:
                return attempt(self._transaction)
            return run_again(self._session, self._address, attempt)

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, cypher: str, parameters: Mapping[str, Any] | None = None) -> None:
        self._execute(_run, cypher, dict(parameters or {}))

    def define_label(self, label: str, properties: pa.Schema) -> None:
        check_identifier(label, "label")
        known = self.node_labels()
        have = known.get(label, pa.schema([]))
        new = new_properties(label, have, properties)
        if label in known and not new:
            return
        self._make_unique(label)
        schema = pa.schema([*have, *new])
        self.write(
            f"MERGE (s:{GRAPH_SCHEMA} {{id: $id}}) SET s.kind = 'label', s.name = $name, s.properties = $properties, "
            "s.types = $types",
            {
                "id": label,
                "name": label,
                "properties": schema.names,
                "types": [TYPE_NAMES[field.type] for field in schema],
            },
        )

    def _make_unique(self, label: str) -> None:
        self.write(f"CREATE CONSTRAINT `{label}_id` IF NOT EXISTS FOR (n:`{label}`) REQUIRE n.id IS UNIQUE")

    def define_relation(self, type_: str, from_label: str, to_label: str, properties: pa.Schema) -> None:
        check_identifier(type_, "relation type")
        if (type_, from_label, to_label) in self.relation_types():
            return
        self.write(
            f"MERGE (s:{GRAPH_SCHEMA} {{id: $id}}) SET s.kind = 'relation', s.name = $name, s.from_label = $start, "
            "s.to_label = $end, s.properties = $properties",
            {
                "id": f"{from_label} {type_} {to_label}",
                "name": type_,
                "start": from_label,
                "end": to_label,
                "properties": properties.names,
            },
        )

    def check_nodes(self, label: str, nodes: pa.Table) -> None:
        check_storable(nodes, label)

    def upsert_nodes(self, label: str, nodes: pa.Table) -> None:
        nodes = conform(nodes, self.node_labels()[label], label)
        self.check_nodes(label, nodes)
        if not nodes.num_rows:
            return
        self._numbers.pop(label, None)
        if not self._bulk or self._count(f"MATCH (n:`{label}`) RETURN count(n) AS count"):
            self.write_rows(f"UNWIND $rows AS row MERGE (n:`{label}` {{id: row.id}}) SET n += row", nodes)
            return
        nodes = _with_values(nodes)
        values = _values(nodes.column_names)
        key = f"{{id: $c{nodes.column_names.index('id')}[i]}}"
        self.write_rows(
            f"{_EACH} CREATE (:`{label}` {{{values}}})",
            nodes,
            again=f"{_EACH} MERGE (n:`{label}` {key}) SET n += {{{values}}}",
            by_column=True,
        )

    def upsert_relations(self, type_: str, from_label: str, to_label: str, relations: pa.Table) -> None:
        relations = relations.select([*_ENDS, *(name for name in relations.column_names if name not in _ENDS)])
        own = relations.column_names[2:]
        if not self._bulk:
            properties = f" SET {', '.join(f'r.`{name}` = row.`{name}`' for name in own)}" if own else ""
            self.write_rows(
                f"UNWIND $rows AS row MATCH (a:`{from_label}` {{id: row.from_id}}) "
                f"MATCH (b:`{to_label}` {{id: row.to_id}}) MERGE (a)-[r:`{type_}`]->(b){properties}",
                relations,
            )
            return
        # By internal numbers, in their order.
        ends = [
            _number(relations["from_id"], *self._numbered(from_label)),
            _number(relations["to_id"], *self._numbered(to_label)),
        ]
        order = pa.array(np.lexsort((ends[1], ends[0])))
        rows = pa.table([*map(pa.array, ends), *relations.columns[2:]], names=relations.column_names).take(order)
        matches = f"{_EACH} MATCH (a) WHERE id(a) = $c0[i] MATCH (b) WHERE id(b) = $c1[i] "
        if self._count(f"MATCH (:`{from_label}`)-[r:`{type_}`]->(:`{to_label}`) RETURN count(r) AS count"):
            merge = f"{matches} MERGE (a)-[r:`{type_}`]->(b) SET r += {{{_values(own, first=2)}}}"
            self.write_rows(merge, rows, by_column=True)
            return
        rows = _with_values(rows)
        values = _values(rows.column_names[2:], first=2)
        self.write_rows(
            f"{matches} CREATE (a)-[:`{type_}` {{{values}}}]->(b)",
            rows,
            again=f"{matches} MERGE (a)-[r:`{type_}`]->(b) SET r += {{{values}}}",
            by_column=True,
        )

    def remove_relations(self, type_: str, from_label: str, to_label: str, relations: pa.Table) -> None:
        self.write_rows(
            f"UNWIND $rows AS row MATCH (:`{from_label}` {{id: row.from_id}})-[r:`{type_}`]->"
            f"(:`{to_label}` {{id: row.to_id}}) DELETE r",
            relations.select(_ENDS),
        )

    def write_rows(self, cypher: str, rows: pa.Table, *, again: str | None = None, by_column: bool = False) -> None:
        """Run a statement on `$rows`, batch by batch; `again` is what runs instead when one may be there already.

        With `by_column` the statement has a list per column instead: `$c0`, `$c1`, …; that costs less than maps.
        """
        for batch in batches(rows):
            self._write_batch(cypher, again or cypher, batch, by_column=by_column)

    def _write_batch(self, cypher: str, again: str, batch: pa.Table, *, by_column: bool) -> None:
        if by_column:
            parameters = {f"c{place}": column.to_pylist() for place, column in enumerate(batch.columns)}
        else:
            parameters = {"rows": batch.to_pylist()}
        attempts = iter((cypher,))

        def work(transaction: neo4j.Transaction) -> None:
            _run(transaction, next(attempts, again), parameters)

        try:
            self._execute(work)
        except MemoryLimitError:
            # Inside a transaction all batches share one limit.
            if batch.num_rows == 1 or self._transaction is not None:
                raise
            log.info("the server has too little memory for a batch of %d rows: taking half", batch.num_rows)
            half = batch.num_rows // 2
            for part in (batch.slice(0, half), batch.slice(half)):
                self._write_batch(again, again, part, by_column=by_column)

    def _define_system(self) -> None:
        known = {label: set(properties.names) for label, properties in self.node_labels().items()}
        if all(known.get(label, set()).issuperset(properties.names) for label, properties in SYSTEM_LABELS.items()):
            return
        for label in (GRAPH_SCHEMA, WRITE_LOCK):
            self._make_unique(label)
        self.write(f"MERGE (:{WRITE_LOCK} {{id: 'lock'}})")
        for label, properties in SYSTEM_LABELS.items():
            self.define_label(label, properties)
        for type_, (from_label, to_label) in SYSTEM_RELATIONS.items():
            self.define_relation(type_, from_label, to_label, pa.schema([]))


def _run(transaction: neo4j.Transaction, cypher: str, parameters: dict[str, Any]) -> None:
    transaction.run(cypher, parameters).consume()


def _values(names: Sequence[str], first: int = 0) -> str:
    """Entries of a map that takes properties from the columns from `first` on."""
    return ", ".join(f"`{name}`: $c{place}[i]" for place, name in enumerate(names, first))


def _with_values(rows: pa.Table) -> pa.Table:
    """The columns that are not null throughout."""
    return rows.select([name for name in rows.column_names if rows[name].null_count < rows.num_rows])


def _number(ids: pa.ChunkedArray, known: pa.Array, numbers: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    found: np.ndarray[Any, np.dtype[np.int64]] = numbers.take(pc.index_in(ids, value_set=known)).to_numpy()
    return found
