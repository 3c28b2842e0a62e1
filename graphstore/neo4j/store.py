"""The store on a Neo4j server, for teams and for scale; `neo4j.transactions` runs its Cypher.

What is notable about Neo4j, and handled here:

- It has no declared properties and no cheap list of what leads where. Both are kept in `GraphSchema` nodes, one per
  label and per (relation type, from label, to label), so that columns have types and an empty label is known.
- Whole labels and relation types are read as a few lists of thousands of values, not as millions of records, which
  would cost many times more.
- New relations are created from their ends' internal ids, sorted by them: no index lookups, few locks at a time.
  Rows go as one list per column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import neo4j
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graphstore.cypher.grammar import Dialect, read_query
from graphstore.neo4j.driver import ReadOnlyError, explain_errors
from graphstore.neo4j.indexes import Neo4jIndexes
from graphstore.neo4j.transactions import ServerStore
from graphstore.neo4j.values import check_storable, read_chunks, to_table
from graphstore.schema import (
    ARROW_TYPES,
    RELATION_PROPERTY_TYPES,
    SYSTEM_LABELS,
    SYSTEM_RELATIONS,
    TYPE_NAMES,
    conform,
    new_properties,
)
from graphstore.store import Access, NoGraphError, mark_truncated
from ingest.datasets.names import GRAPH_SCHEMA, WRITE_LOCK, check_identifier
from ingest.errors import Graph2ImageError

_ENDS = ["from_id", "to_id"]
#: Row by row through the columns that a statement is given as lists.
_EACH = "UNWIND range(0, size($c0) - 1) AS i"
#: Nodes whose properties, or relations, come in one record.
_CHUNK_NODES = 5_000
#: Procedures and functions that only look at this graph; a read-only transaction stops none from changing what is not
#: the graph, such as projections, files and other queries.
_PROCEDURES = re.compile(
    r"db\.(labels|relationshipTypes|propertyKeys|schema\.\w+|index\.(fulltext|vector)\.query\w+)"
    r"|gds\.([\w.]+\.)?(stream|stats|estimate|list|listProgress|version|debug\.sysInfo)",
    re.IGNORECASE,
)
_FUNCTIONS = re.compile(
    r"\w+|(point|date|datetime|localdatetime|localtime|time|duration|vector)(\.\w+)+"
    r"|gds\.(version|isLicensed|graph\.exists|(linkprediction|similarity|util)\.\w+)",
    re.IGNORECASE,
)
_DIALECT = Dialect(
    may_call=lambda name: _PROCEDURES.fullmatch(name) is not None,
    may_apply=lambda name: _FUNCTIONS.fullmatch(name) is not None,
)
_UNKNOWN_NAMES = {"01N50": "label", "01N51": "relation type", "01N52": "property"}


class Neo4jStore(ServerStore):
    """A `GraphStore` on a server; see the module's notes."""

    def __init__(self, url: str, access: Access, *, read_only: bool) -> None:
        super().__init__(url, access, read_only=read_only)
        if not read_only:
            self._define_system()
        elif not self._is_there():
            raise NoGraphError(url)

    @property
    def indexes(self) -> Neo4jIndexes:
        return Neo4jIndexes(self)

    # -- reading -----------------------------------------------------------------------------------------------------

    def query(
        self,
        cypher: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        row_limit: int = 10_000,
        timeout_s: float = 30.0,
    ) -> pa.Table:
        query = read_query(cypher, parameters or {}, _DIALECT)
        # A session of its own, which the server does not let write.
        session = self._driver.session(
            database=self._address.database,
            default_access_mode=neo4j.READ_ACCESS,
            notifications_min_severity=neo4j.NotificationMinimumSeverity.WARNING,
        )
        with explain_errors(self._address), session, session.begin_transaction(timeout=timeout_s) as transaction:
            result = transaction.run(query.limited(row_limit + 1), query.parameters)
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
            ids, internal_ids = self._ids_of(label)
            ends.append(ids.take(pc.index_in(table[column], value_set=internal_ids)))
        return pa.table([*ends, *table.columns[2:]], names=[*_ENDS, *properties])

    def _ids_of(self, label: str) -> tuple[pa.Array, pa.Array]:
        """`id` of the nodes of a label, and their internal ids, which hold as long as nobody else writes."""
        if label not in self._internal_ids:
            cypher = (
                f"MATCH (n:`{label}`) WITH collect(n) AS nodes "
                "UNWIND range(0, size(nodes) - 1, $chunk) AS start WITH nodes[start..start + $chunk] AS part "
                "RETURN [n IN part | n.id] AS ids, [n IN part | id(n)] AS internal_ids"
            )
            wanted = pa.schema([("ids", pa.string()), ("internal_ids", pa.int64())])
            table = self._execute(read_chunks, cypher, {"chunk": _CHUNK_NODES}, wanted).combine_chunks()
            both = table["ids"].combine_chunks(), table["internal_ids"].combine_chunks()
            if self._lock is None:
                return both
            self._internal_ids[label] = both
        return self._internal_ids[label]

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

    # -- writing -----------------------------------------------------------------------------------------------------

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
        self._internal_ids.pop(label, None)
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
        # By internal ids, in their order.
        ends = [
            _to_internal(relations["from_id"], *self._ids_of(from_label)),
            _to_internal(relations["to_id"], *self._ids_of(to_label)),
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


def _values(names: Sequence[str], first: int = 0) -> str:
    """Entries of a map that takes properties from the columns from `first` on."""
    return ", ".join(f"`{name}`: $c{index}[i]" for index, name in enumerate(names, first))


def _with_values(rows: pa.Table) -> pa.Table:
    """The columns that are not null throughout."""
    return rows.select([name for name in rows.column_names if rows[name].null_count < rows.num_rows])


def _to_internal(ids: pa.ChunkedArray, known: pa.Array, internal_ids: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    found: np.ndarray[Any, np.dtype[np.int64]] = internal_ids.take(pc.index_in(ids, value_set=known)).to_numpy()
    return found
