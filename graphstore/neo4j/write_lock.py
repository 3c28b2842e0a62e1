"""The lock by which writers to a Neo4j database exclude each other.

It is the server's own lock of the one `WriteLock` node, held by a transaction that stays open: the server lets it go
when the writer dies. It also lets it go when it is restarted itself, or when somebody ends that transaction, while the
writer lives on. So each writer leaves its name in the node when it takes the lock. One that has lost the lock takes it
again if its name is still there, and stops if somebody else has had the lock since.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from contextlib import suppress

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from graphstore.neo4j.driver import Address, TimeLimitError, explain_errors
from ingest.datasets.names import WRITE_LOCK
from ingest.errors import TransientError

log = logging.getLogger(__name__)

#: How long another writer is waited for.
LOCK_WAIT_S = 10.0

_TAKE = f"MATCH (l:{WRITE_LOCK} {{id: 'lock'}}) SET l.taken = true "


class WriteLockError(TransientError):
    """Another process is writing, or has written since the lock was lost."""


class WriteLock:
    """The lock of a database; not for several threads at once.

    Raises
    ------
    WriteLockError
        By the constructor, which takes it: if another writer has it and keeps it for `LOCK_WAIT_S`.
    """

    def __init__(self, driver: neo4j.Driver, address: Address) -> None:
        self._address = address
        self._name = f"process {os.getpid()} on {socket.gethostname()}"
        # The same process may have several stores, and get the same number again another day.
        self._token = f"{self._name} {uuid.uuid4().hex}"
        self._session = driver.session(database=address.database)
        try:
            with explain_errors(address):
                self._announce()
                self._transaction = self._take()
        except BaseException:
            self._session.close()
            raise

    def _announce(self) -> None:
        # In a transaction of its own, since a time limit counts for a whole transaction.
        try:
            with explain_errors(self._address), self._session.begin_transaction(timeout=LOCK_WAIT_S) as transaction:
                transaction.run(_TAKE + "SET l.holder = $token", token=self._token).consume()
                transaction.commit()
        except TimeLimitError as error:
            raise self._taken_by(self._holder()) from error

    def _take(self) -> neo4j.Transaction:
        transaction = self._session.begin_transaction(metadata={"graph2image": f"write lock of {self._name}"})
        try:
            record = transaction.run(_TAKE + "RETURN l.holder AS holder").single(strict=True)
            if record["holder"] != self._token:
                raise self._taken_by(record["holder"])
        except BaseException:
            transaction.close()
            raise
        return transaction

    def _holder(self) -> str:
        record = self._session.run(f"MATCH (l:{WRITE_LOCK} {{id: 'lock'}}) RETURN l.holder AS holder").single()
        return (record and record["holder"]) or ""

    def _taken_by(self, holder: str) -> WriteLockError:
        return WriteLockError(
            f"{holder.rpartition(' ')[0] or 'another process'} is writing to {self._address.uri}",
            "Wait until it has ended, then run again. If its machine is gone, `SHOW TRANSACTIONS YIELD transactionId, "
            "metaData` tells which transaction is to be ended with `TERMINATE TRANSACTION`.",
        )

    def check(self) -> None:
        """Make sure that the lock is held now, if need be by taking it again.

        To be called inside a transaction that writes, and again when that is repeated: what it commits was written
        under the lock, as a restart of the server would have ended both.

        Raises
        ------
        WriteLockError
            If another writer has had the lock since.
        DriverError, Neo4jError
            If the server cannot be reached.
        """
        try:
            self._transaction.run("RETURN 1").consume()
        except (DriverError, Neo4jError):
            log.warning("the write lock of %s was lost; taking it again", self._address.uri)
        else:
            return
        with suppress(DriverError, Neo4jError):
            self._transaction.close()
        # Looked at before the lock is asked for, which could take as long as another's load.
        if self._holder() != self._token:
            raise WriteLockError(
                f"the connection to {self._address.uri} was lost, and another process has written to it since",
                "Run the same command again.",
            )
        self._transaction = self._take()

    def release(self) -> None:
        """Let go of the lock, if it is still held."""
        with suppress(DriverError, Neo4jError):
            self._transaction.rollback()
        self._session.close()
