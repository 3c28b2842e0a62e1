"""The part of the store on a Neo4j server that runs Cypher: transactions, the writers' lock, batches of rows.

- One transaction of millions of rows would need all the server's memory. So `bulk_load` commits batch by batch, each
  tried again after a lost connection, and in halves when the server has too little memory for it. What is loaded twice
  by that ends up once: statements that may be repeated merge.
- Writers exclude each other by a lock that is checked in every transaction that writes; see `neo4j.write_lock`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import neo4j
import pyarrow as pa

from graphstore.neo4j.driver import MemoryLimitError, connect, explain_errors, run_again
from graphstore.neo4j.values import batches, read_table
from graphstore.neo4j.write_lock import WriteLock
from graphstore.store import Access, GraphStore

log = logging.getLogger(__name__)


class ServerStore(GraphStore):
    """A `GraphStore` on a server as far as it runs Cypher; see the module's notes."""

    bulk_load_rolls_back = False
    runs_gds = True

    def __init__(self, url: str, access: Access, *, read_only: bool) -> None:
        self.url = url
        self._driver, self._address = connect(url, access)
        self._session = self._driver.session(
            database=self._address.database,
            default_access_mode=neo4j.READ_ACCESS if read_only else neo4j.WRITE_ACCESS,
        )
        self._transaction: neo4j.Transaction | None = None
        self._lock: WriteLock | None = None
        self._bulk = False
        #: `id` and internal id of the nodes by label, which hold as long as nobody else writes.
        self._internal_ids: dict[str, tuple[pa.Array, pa.Array]] = {}

    def close(self) -> None:
        self._session.close()

    def read(self, cypher: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        return self._execute(read_table, cypher, dict(parameters or {}))

    def write(self, cypher: str, parameters: Mapping[str, Any] | None = None) -> None:
        self._execute(_run, cypher, dict(parameters or {}))

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
            self._internal_ids.clear()
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

    def write_rows(self, cypher: str, rows: pa.Table, *, again: str | None = None, by_column: bool = False) -> None:
        """Run a statement on `$rows`, batch by batch; `again` is what runs instead when one may be there already.

        With `by_column` the statement has a list per column instead: `$c0`, `$c1`, …; that costs less than maps.
        """
        for batch in batches(rows):
            self._write_batch(cypher, again or cypher, batch, by_column=by_column)

    def _write_batch(self, cypher: str, again: str, batch: pa.Table, *, by_column: bool) -> None:
        if by_column:
            parameters = {f"c{index}": column.to_pylist() for index, column in enumerate(batch.columns)}
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


def _run(transaction: neo4j.Transaction, cypher: str, parameters: dict[str, Any]) -> None:
    transaction.run(cypher, parameters).consume()
