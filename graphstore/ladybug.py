"""The embedded store: a Ladybug database in one file, nothing to start.

What is notable about Ladybug, and handled here:

- One process may write, others may read beside it. Within one process all stores on a path share a single `Database`:
  a second one would not notice the first's writes, and closing it would drop the first's file lock.
- `COPY` is by far the fastest way in, but not logged: when a process is killed amid the checkpoint that follows, the
  copied rows of a transaction are lost and its other writes are kept. So only `bulk_load` copies. It takes columns by
  position and must not meet a key that exists, so upserts split the rows by what the store has.
- A log that ends in an unfinished write is refused; then the store is opened again without that write.
- Read-only, it still reads and writes files, loads extensions and changes settings, and none of that can be switched
  off. So what a user asks is written anew from what `cypher.grammar` covers, in a read-only transaction, and the
  database's own plan of it is checked before it runs.
- A failed statement rolls the whole transaction back.
- Closing checkpoints, which changes the file whether or not anything was written: `_write_out` does it instead.
- While a writer checkpoints, or after it was killed doing so, readers are refused: `_open_for_reading`.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ladybug
import pyarrow as pa
import pyarrow.compute as pc

from graphstore import file_digest
from graphstore.cypher.grammar import Dialect, read_query
from graphstore.file_digest import FileDigest
from graphstore.schema import (
    ARROW_TYPES,
    SYSTEM_LABELS,
    SYSTEM_RELATIONS,
    TYPE_NAMES,
    conform,
    new_properties,
)
from graphstore.store import GraphStore, NoGraphError, check_columns, mark_truncated
from ingest.datasets.names import LOADED_SOURCE, check_identifier
from ingest.errors import Graph2ImageError, TransientError, first_line

log = logging.getLogger(__name__)

_CHECKPOINT_WAIT_S = 10.0
#: So says Ladybug of a file to whose log another process is just writing.
_CHECKPOINTING = "checkpoint recovery is pending"

#: Procedures that only look at the database; others read files, or change settings that all connections share.
_PROCEDURES = frozenset(
    {
        *("show_tables", "show_connection", "show_functions", "show_indexes", "table_info", "stats_info"),
        *("storage_info", "db_version", "current_setting"),
    }
)
#: Functions that change something; or, of the last, whose call the database's driver replaces by text.
_NO_FUNCTIONS = frozenset({"nextval", "currval", "to_json"})
_DIALECT = Dialect(
    may_call=lambda name: name.lower() in _PROCEDURES,
    may_apply=lambda name: "." not in name and name.lower() not in _NO_FUNCTIONS,
)
#: What the database's own plan of a reading query may consist of.
_READING_OPERATORS = frozenset(
    {
        *("ACCUMULATE", "AGGREGATE", "COUNT_REL_TABLE", "CROSS_PRODUCT", "DISTINCT", "DUMMY_SCAN", "EMPTY_RESULT"),
        *("EXPRESSIONS_SCAN", "EXTEND", "FILTER", "FLATTEN", "HASH_JOIN", "INDEX_LOOK_UP", "INTERSECT", "LIMIT"),
        *("MULTIPLICITY_REDUCER", "NODE_LABEL_FILTER", "ORDER_BY", "PATH_PROPERTY_PROBE", "PROJECTION"),
        *("QUERY_PRIMARY_KEY_LOOKUP", "UNWIND_DEDUP"),
        *("RECURSIVE_EXTEND", "SCAN_NODE_TABLE", "SEMI_MASKER", "UNION_ALL", "UNWIND"),
        *(procedure.upper() for procedure in _PROCEDURES),
    }
)
_ENDS = ["from_id", "to_id"]


@dataclass
class _OpenDatabase:
    database: ladybug.Database
    read_only: bool
    #: What the file's digest was, if it is open for writing.
    digest: FileDigest | None
    users: int = 0
    writing: bool = False


_open: dict[str, _OpenDatabase] = {}
_open_lock = threading.Lock()


def _acquire(path: str, read_only: bool) -> ladybug.Database:
    with _open_lock:
        shared = _open.get(path)
        if shared is not None and not read_only and (shared.writing or shared.read_only):
            raise TransientError(
                f"{path} is already open in this process for {'writing' if shared.writing else 'reading'}",
                "Close that store first, or pass it on.",
            )
        if shared is None:
            if Path(path).exists():
                file_digest.check(path)
            database = _open_database(path, read_only)
            shared = _OpenDatabase(database, read_only, None if read_only else file_digest.take(path))
            _open[path] = shared
        shared.users += 1
        shared.writing |= not read_only
        return shared.database


def _release(path: str, read_only: bool) -> None:
    with _open_lock:
        shared = _open[path]
        shared.users -= 1
        if not read_only:
            shared.writing = False
        if shared.users == 0:
            del _open[path]
            if not shared.read_only:
                _write_out(path, shared)
            shared.database.close()


def _write_out(path: str, shared: _OpenDatabase) -> None:
    """Bring what was written from the log into the file, and keep the file's digest, before the lock is given up."""
    connection = ladybug.Connection(shared.database)
    try:
        if Path(f"{path}.wal").exists():
            connection.execute("CHECKPOINT")
        # Closing would checkpoint once more, which changes the file, even if nothing was written.
        connection.execute("CALL force_checkpoint_on_close=false")
        file_digest.put(path, shared.digest)
    except (RuntimeError, OSError) as error:  # no space, for instance: what is committed is in the log
        log.warning("%s has no digest now: %s", path, first_line(str(error)))
    finally:
        connection.close()


def _open_database(path: str, read_only: bool) -> ladybug.Database:
    if read_only and not Path(path).exists():
        raise NoGraphError(path)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return _open_for_reading(path) if read_only else _open_after_kill(path)
    except (RuntimeError, OSError) as error:
        message = str(error)
        if "Could not set lock" in message:
            holder = re.search(r"PID (\d+)", message)
            raise TransientError(
                f"{path} is open for writing in another process" + (f" (PID {holder[1]})" if holder else ""),
                "One process may write at a time: wait until it has ended, then run the same command again.",
            ) from error
        if _CHECKPOINTING in message:
            raise TransientError(
                f"{path} is being written by another process, which has not ended in {_CHECKPOINT_WAIT_S:.0f} s",
                "Run the same command again.",
            ) from error
        raise Graph2ImageError(f"cannot open the graph store {path}: {first_line(message)}") from error


def _open_after_kill(path: str, *, read_only: bool = False) -> ladybug.Database:
    """Open; if the log ends in a write that was cut off, or that another process is just making, without that write."""
    try:
        return ladybug.Database(path, read_only=read_only)
    except RuntimeError as error:
        if "WAL file is corrupted" not in str(error):
            raise
    log.info("%s ends in an unfinished write, which does not count", path)
    return ladybug.Database(path, read_only=read_only, throw_on_wal_replay_failure=False)


def _open_for_reading(path: str) -> ladybug.Database:
    """Open read-only. That cannot be done amid a checkpoint: wait for it, or complete one whose writer was killed."""
    deadline = time.monotonic() + _CHECKPOINT_WAIT_S
    while True:
        try:
            return _open_after_kill(path, read_only=True)
        except RuntimeError as error:
            if _CHECKPOINTING not in str(error) or time.monotonic() > deadline:
                raise
        try:
            _open_after_kill(path).close()
            log.warning("completed a checkpoint of %s that was cut off", path)
        except RuntimeError:  # the process that is checkpointing holds the lock
            time.sleep(0.1)


@contextmanager
def _explain_errors() -> Iterator[None]:
    """Turn Ladybug's errors into ours. It raises nothing but `RuntimeError`."""
    try:
        yield
    except RuntimeError as error:
        message = str(error)
        if message.startswith("Interrupted"):
            raise Graph2ImageError(
                "the query was stopped at its time limit", "Narrow it, or raise the limit."
            ) from error
        if re.search("read-only (transaction|mode|database)", message, re.IGNORECASE):
            raise Graph2ImageError("the query tried to write: queries only read the graph") from error
        if "No space left" in message:
            raise Graph2ImageError(
                "no space left for the graph store", "What was loaded before is intact: free some space and run again."
            ) from error
        raise Graph2ImageError(f"the graph store says: {first_line(message)}") from error


def _to_arrow(result: Any) -> pa.Table:
    if not result.get_column_names():  # a statement without a result, for which Ladybug divides by zero
        return pa.table({})
    return result.get_as_arrow()


def _check_plan(explained: Any) -> None:
    """Raise unless the database's own plan of a query consists of what reads the graph.

    Nothing else in the database keeps a reading query from files: its read-only mode guards the graph alone.
    """
    lines = explained.get_as_arrow()[0][0].as_py().splitlines()
    for number, line in enumerate(lines[6:], 6):  # below the title
        if "┌" not in lines[number - 1]:
            continue
        # The first line of boxes, one or several side by side, that name an operator each.
        for box in re.finditer("│([^│]+)│", line):
            name = box[1].strip().partition("[")[0]
            if name == "TABLE_FUNCTION_CALL":  # what is called stands below a dashed line
                name = lines[number + 2][slice(*box.span(1))].strip()
            if name and name not in _READING_OPERATORS:
                raise Graph2ImageError(f"the query would have the database do {name}: queries only read the graph")


class LadybugStore(GraphStore):
    """A `GraphStore` in one file; see the module's notes."""

    bulk_load_rolls_back = True
    runs_gds = False
    indexes = None

    def __init__(self, url: str, path: str, *, read_only: bool) -> None:
        self.url = url
        self._path = str(Path(path).expanduser().resolve())
        self._read_only = read_only
        self._database = _acquire(self._path, read_only)
        self._closed = False
        self._bulk = False
        self._unlogged = False
        try:
            self._connection = ladybug.Connection(self._database)
            if not read_only:
                self._define_system_tables()
            elif LOADED_SOURCE not in self.labels():  # whoever made the file was killed right then
                raise NoGraphError(url)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if hasattr(self, "_connection"):
                self._connection.close()
            _release(self._path, self._read_only)

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
        # A connection of its own: the transaction and the time limit must not touch what the store is doing.
        connection = ladybug.Connection(self._database)
        try:
            with _explain_errors():
                connection.execute("BEGIN TRANSACTION READ ONLY")
                connection.set_query_timeout(max(1, round(timeout_s * 1000)))
                _check_plan(connection.execute(f"EXPLAIN LOGICAL {query.cypher}", query.parameters))
                table = _to_arrow(connection.execute(query.limited(row_limit + 1), query.parameters))
            check_columns(table.column_names)
        finally:
            connection.close()
        return table if table.num_rows <= row_limit else mark_truncated(table.slice(0, row_limit))

    def read(self, cypher: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        return _to_arrow(self._execute(cypher, parameters))

    def nodes(self, label: str, properties: Sequence[str]) -> pa.Table:
        columns = ", ".join(f"n.`{check_identifier(name, 'property')}` AS `{name}`" for name in properties)
        return self.read(f"MATCH (n:`{check_identifier(label, 'label')}`) RETURN {columns}")

    def relations(self, type_: str, from_label: str, to_label: str, properties: Sequence[str] = ()) -> pa.Table:
        for name in (from_label, to_label, type_, *properties):
            check_identifier(name, "name")
        columns = ["a.id AS from_id", "b.id AS to_id", *(f"r.`{name}` AS `{name}`" for name in properties)]
        return self.read(f"MATCH (a:`{from_label}`)-[r:`{type_}`]->(b:`{to_label}`) RETURN {', '.join(columns)}")

    def node_labels(self) -> dict[str, pa.Schema]:
        return {name: self._properties(name) for name in self.labels()}

    def labels(self) -> list[str]:
        return self._tables("NODE")

    def relation_types(self) -> list[tuple[str, str, str]]:
        return sorted(
            (name, row["source table name"], row["destination table name"])
            for name in self._tables("REL")
            for row in self.read(f"CALL show_connection('{name}') RETURN *").to_pylist()
        )

    def relation_properties(self, type_: str) -> pa.Schema:
        return self._properties(check_identifier(type_, "relation type"))

    def _tables(self, kind: str) -> list[str]:
        tables = self.read("CALL show_tables() RETURN name, type").to_pylist()
        return sorted(row["name"] for row in tables if row["type"] == kind)

    def _properties(self, table: str) -> pa.Schema:
        rows = self.read(f"CALL table_info('{table}') RETURN *").to_pylist()
        return pa.schema([(row["name"], ARROW_TYPES[row["type"]]) for row in rows])

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, cypher: str, parameters: Mapping[str, Any] | None = None) -> None:
        self._execute(cypher, parameters)

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()  # a database that is open for writing has one writer

    @contextmanager
    def bulk_load(self) -> Iterator[None]:
        # Nodes that were never checkpointed, deleted and copied again, corrupt the memory when that is rolled back.
        self._unlogged = True
        self._bulk = True
        try:
            with self.transaction():
                yield
        finally:
            self._bulk = False
        self._unlogged = True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self._unlogged:
            self._execute("CHECKPOINT")
            self._unlogged = False
        self._execute("BEGIN TRANSACTION")
        try:
            yield
        except BaseException:
            # A statement that failed has rolled back already; then there is nothing left to roll back.
            with suppress(RuntimeError):
                self._connection.execute("ROLLBACK")
            # A connection keeps the plans of its statements, and would go on using those for tables rolled back.
            self._connection.close()
            self._connection = ladybug.Connection(self._database)
            raise
        self._execute("COMMIT")

    def define_label(self, label: str, properties: pa.Schema) -> None:
        check_identifier(label, "label")
        if label not in self._tables("NODE"):
            columns = ", ".join(f"`{check_identifier(f.name, 'property')}` {TYPE_NAMES[f.type]}" for f in properties)
            self._execute(f"CREATE NODE TABLE `{label}`({columns}, PRIMARY KEY (id))")
            return
        for field in new_properties(label, self._properties(label), properties):
            self._execute(f"ALTER TABLE `{label}` ADD `{field.name}` {TYPE_NAMES[field.type]}")

    def define_relation(self, type_: str, from_label: str, to_label: str, properties: pa.Schema) -> None:
        check_identifier(type_, "relation type")
        if type_ not in self._tables("REL"):
            columns = "".join(f", `{check_identifier(f.name, 'property')}` {TYPE_NAMES[f.type]}" for f in properties)
            self._execute(f"CREATE REL TABLE `{type_}`(FROM `{from_label}` TO `{to_label}`{columns})")
        else:
            self._execute(f"ALTER TABLE `{type_}` ADD IF NOT EXISTS FROM `{from_label}` TO `{to_label}`")

    def check_nodes(self, label: str, nodes: pa.Table) -> None:
        """Its tables hold all values of their columns' types."""

    def upsert_nodes(self, label: str, nodes: pa.Table) -> None:
        nodes = conform(nodes, self._properties(label), label)
        if self._bulk:
            known = pc.is_in(nodes["id"], value_set=self.read(f"MATCH (n:`{label}`) RETURN n.id AS id")["id"])
            columns = ", ".join(f"`{name}`" for name in nodes.column_names)
            self._load(f"COPY `{label}`({columns}) FROM $rows", nodes.filter(pc.invert(known)))
            nodes = nodes.filter(known)
        self._load(f"LOAD FROM $rows MERGE (__n:`{label}` {{id: id}}){_set('__n', nodes)}", nodes)

    def upsert_relations(self, type_: str, from_label: str, to_label: str, relations: pa.Table) -> None:
        relations = relations.select(["from_id", "to_id", *(n for n in relations.column_names if n not in _ENDS)])
        if self._bulk:
            known = self.read(
                f"MATCH (a:`{from_label}`)-[:`{type_}`]->(b:`{to_label}`) RETURN a.id AS from_id, b.id AS to_id"
            )
            new = relations.join(known, _ENDS, join_type="left anti") if known.num_rows else relations
            self._load(f"COPY `{type_}` FROM $rows (from='{from_label}', to='{to_label}')", new)
            relations = relations.join(known, _ENDS, join_type="left semi") if known.num_rows else relations.slice(0, 0)
        self._load(
            f"LOAD FROM $rows MATCH (__a:`{from_label}` {{id: from_id}}) MATCH (__b:`{to_label}` {{id: to_id}}) "
            f"MERGE (__a)-[__r:`{type_}`]->(__b){_set('__r', relations)}",
            relations,
        )

    def remove_relations(self, type_: str, from_label: str, to_label: str, relations: pa.Table) -> None:
        self._load(
            f"LOAD FROM $rows MATCH (__a:`{from_label}` {{id: from_id}})-[__r:`{type_}`]->"
            f"(__b:`{to_label}` {{id: to_id}}) DELETE __r",
            relations.select(["from_id", "to_id"]),
        )

    def _load(self, statement: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._execute(statement, {"rows": rows})

    def _execute(self, cypher: str, parameters: Mapping[str, Any] | None = None) -> Any:
        with _explain_errors():
            return self._connection.execute(cypher, dict(parameters or {}))

    def _define_system_tables(self) -> None:
        with self.transaction():
            for label, properties in SYSTEM_LABELS.items():
                self.define_label(label, properties)
            for type_, (from_label, to_label) in SYSTEM_RELATIONS.items():
                self.define_relation(type_, from_label, to_label, pa.schema([]))


def _set(variable: str, rows: pa.Table) -> str:
    """The SET clause that gives a node or relation its row's properties.

    `variable` begins with an underscore, so it is not taken for a column: their names begin with a letter.
    """
    names = [name for name in rows.column_names if name not in ("id", *_ENDS)]
    return " SET " + ", ".join(f"{variable}.`{name}` = `{name}`" for name in names) if names else ""
