"""Reaching a Neo4j server: URL, password, one driver per process, and its errors in words that say what to do."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import (
    AuthError,
    ConfigurationError,
    DriverError,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
)

from graphstore.store import Access
from ingest.errors import Graph2ImageError, TransientError, first_line

log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
# They would log the text of users' queries, and every lost connection; what is to be known of that is raised.
for _name in ("neo4j.notifications", "neo4j.io", "neo4j.pool"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

#: The oldest server that has all the Cypher used here; `CALL (x) { … }` came last.
OLDEST_VERSION = (5, 26)
#: How long a transaction is tried again after a lost connection or a deadlock.
RETRY_S = 60.0

_PASSWORD_VARIABLE = "GRAPH2IMAGE_NEO4J_PASSWORD"  # noqa: S105
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class ServerUnreachableError(TransientError):
    """Nothing answers at the URL, or the connection was lost."""


class SignInError(Graph2ImageError):
    """No password was found, or the server does not take it."""


class WrongDatabaseError(Graph2ImageError):
    """The server has no such database."""


class ServerVersionError(Graph2ImageError):
    """The server is too old."""


class GdsMissingError(Graph2ImageError):
    """The server has no Graph Data Science library, or not the procedure asked for."""


class ReadOnlyError(Graph2ImageError):
    """A write to a database, or by a query, that may only be read."""


class MemoryLimitError(Graph2ImageError):
    """A transaction needs more memory than the server gives it."""


class TimeLimitError(Graph2ImageError):
    """A query, or waiting for a lock, took longer than it may."""


@dataclass(frozen=True)
class Address:
    """What a store's URL says.

    Attributes
    ----------
    uri
        For the driver: scheme, host and port.
    host, port
        The two of `uri`.
    database
        None for the user's home database.
    """

    uri: str
    host: str
    port: int
    database: str | None


def parse_url(url: str) -> Address:
    """Take apart `neo4j://host:7687/database`; `bolt` and the suffixes `+s` and `+ssc` are the driver's.

    Raises
    ------
    Graph2ImageError
        If there is no host, or a user, a password, a query or more than a database name: a URL is shown and logged.
    """
    # No error quotes the URL, or has a cause that does: whatever is in it may be a part of a password.
    if "@" in url:
        raise Graph2ImageError(
            "the URL of the graph store holds a user or a password",
            f"Set GRAPH2IMAGE_NEO4J_USER, and {_PASSWORD_VARIABLE}_FILE or {_PASSWORD_VARIABLE}.",
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 7687
    except ValueError:
        host = None
    if not host:
        raise Graph2ImageError(
            "the URL of the graph store has no valid host and port", "Give a URL such as neo4j://host:7687."
        ) from None
    database = parts.path.strip("/")
    if parts.query or parts.fragment or "/" in database:
        raise Graph2ImageError(
            f"the URL of the graph store at {host} has more than a database name after the host",
            "Give a URL such as neo4j://host:7687/database.",
        )
    bracketed = f"[{host}]" if ":" in host else host
    return Address(f"{parts.scheme}://{bracketed}:{port}", host, port, database or None)


def find_password(address: Address, access: Access) -> str:
    """The password: from `access.password_file`; from the file that `GRAPH2IMAGE_NEO4J_PASSWORD_FILE` names; from
    `GRAPH2IMAGE_NEO4J_PASSWORD`; from the local server that `graph2image neo4j start` runs at this address.

    Raises
    ------
    SignInError
        If there is none, or the file cannot be read.
    """
    file = access.password_file or os.environ.get(f"{_PASSWORD_VARIABLE}_FILE")
    if file is None and address.host in _LOOPBACK and _PASSWORD_VARIABLE not in os.environ:
        from graphstore.neo4j.server.server import default_home, status

        server = status(default_home())
        if server is not None and server.url.endswith(f":{address.port}"):
            file = server.password_file
    if file is not None:
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SignInError(f"cannot read the password file {file}: {error.strerror}") from error
    if password := os.environ.get(_PASSWORD_VARIABLE):
        return password
    raise SignInError(
        f"there is no password for {address.uri}",
        f"Name a file that holds it with {_PASSWORD_VARIABLE}_FILE, or set {_PASSWORD_VARIABLE}.",
    )


_drivers: dict[tuple[str, str, bytes, int], neo4j.Driver] = {}
_drivers_lock = threading.Lock()


def connect(url: str, access: Access) -> tuple[neo4j.Driver, Address]:
    """The process's driver for this server and user, connected; it is closed when the process ends.

    A server that does not answer is waited for, `access.wait_s` seconds at most.

    Raises
    ------
    ServerUnreachableError, SignInError, WrongDatabaseError, ServerVersionError
        Each with what to do.
    """
    address = parse_url(url)
    password = find_password(address, access)
    _check_host(address)
    # A child process must not share its parent's connections.
    key = (address.uri, access.user, hashlib.sha256(password.encode()).digest(), os.getpid())
    with _drivers_lock:
        driver = _drivers.get(key)
        if driver is None:
            try:
                driver = neo4j.GraphDatabase.driver(
                    address.uri,
                    auth=(access.user, password),
                    user_agent="graph2image",
                    connection_timeout=10.0,
                    connection_acquisition_timeout=60.0,
                    # The server may have been restarted since a connection was used last.
                    liveness_check_timeout=1.0,
                    max_transaction_retry_time=RETRY_S,
                    notifications_min_severity=neo4j.NotificationMinimumSeverity.OFF,
                )
            except (ConfigurationError, ValueError) as error:
                raise Graph2ImageError(f"{url!r} is no graph store: {error}") from error
            _drivers[key] = driver
    # Not before it answers: what was wrong may have been put right by the next try.
    try:
        _wait_for(driver, address, access.wait_s)
    except BaseException:
        with _drivers_lock:
            if _drivers.get(key) is driver:
                del _drivers[key]
        driver.close()
        raise
    return driver, address


def _check_host(address: Address) -> None:
    """Raise if there is no such host, which waiting does not change."""
    try:
        socket.getaddrinfo(address.host, address.port)
    except (socket.gaierror, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            return  # the name service does not answer at present
        raise ServerUnreachableError(
            f"there is no host named {address.host!r}", "Check the URL of the graph store."
        ) from error


@atexit.register
def _close_drivers() -> None:
    for (*_, pid), driver in _drivers.items():
        if pid == os.getpid():
            driver.close()


def _wait_for(driver: neo4j.Driver, address: Address, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    told = False
    while True:
        try:
            with explain_errors(address), driver.session(database=address.database) as session:
                versions = session.run(
                    "CALL dbms.components() YIELD name, versions WHERE name = 'Neo4j Kernel' RETURN versions"
                ).single(strict=True)[0]
            break
        except ServerUnreachableError:
            if time.monotonic() >= deadline:
                raise
        if not told:
            log.warning("waiting for %s, which does not answer yet", address.uri)
            told = True
        time.sleep(min(0.5, wait_s))
    if tuple(map(int, versions[0].split(".")[:2])) < OLDEST_VERSION:
        raise ServerVersionError(
            f"{address.uri} is Neo4j {versions[0]}", f"Use {'.'.join(map(str, OLDEST_VERSION))} or later."
        )


@contextmanager
def explain_errors(address: Address) -> Iterator[None]:
    """Turn the driver's errors into ours; none of them quotes a password or a parameter."""
    try:
        yield
    except AuthError as error:
        if error.code == "Neo.ClientError.Security.Forbidden":
            raise ReadOnlyError(f"the user of {address.uri} may not do that: {_said(error)}") from error
        raise SignInError(
            f"{address.uri} does not take this user and password",
            f"Check GRAPH2IMAGE_NEO4J_USER, {_PASSWORD_VARIABLE}_FILE and {_PASSWORD_VARIABLE}.",
        ) from error
    except (ServiceUnavailable, SessionExpired) as error:
        raise ServerUnreachableError(
            f"{address.uri} cannot be reached, or the connection was lost",
            "Check that it runs (`graph2image neo4j status` for the local one), then run the same command again.",
        ) from error
    except Neo4jError as error:
        raise _explained(error, address) from error
    except DriverError as error:
        raise Graph2ImageError(f"the driver of {address.uri} says: {_said(error)}") from error


def _explained(error: Neo4jError, address: Address) -> Graph2ImageError:
    code = error.code or ""
    message = _said(error)
    if code.endswith("Security.AuthenticationRateLimit"):
        return SignInError(
            f"{address.uri} does not let user and password be tried again yet, after several wrong ones",
            "Wait some seconds; then run again with the right ones.",
        )
    if code.endswith("Database.DatabaseUnavailable"):
        return ServerUnreachableError(
            f"a database of {address.uri} does not answer: {message}",
            "It starts, or has been stopped: `SHOW DATABASES` tells.",
        )
    if code.endswith("Database.DatabaseNotFound"):
        return WrongDatabaseError(
            f"{address.uri} has no database {address.database or 'of this user'!r} to use: {message}",
            "Name one at the end of the URL, such as neo4j://host:7687/neo4j; `SHOW DATABASES` lists them.",
        )
    if (code.endswith("Procedure.ProcedureNotFound") or "Unknown function" in message) and "gds." in message:
        return GdsMissingError(
            f"{address.uri} has no Graph Data Science library, or an old one: {message}",
            "Install it into the server's plugins folder, or use the server of `graph2image neo4j start`.",
        )
    if code.endswith("Statement.AccessMode"):
        return ReadOnlyError("the query tried to write: queries only read the graph")
    if code.endswith(("OnReadOnlyAccessDatabase", "OnReadOnlyDatabase")):
        return ReadOnlyError(
            f"the database at {address.uri} is read-only: {message}", "Name another one, or make it writable."
        )
    if _lacks_memory(error):
        return MemoryLimitError(
            f"the server gives a transaction too little memory: {message}",
            "Ask for less at a time, or raise db.memory.transaction.max and dbms.memory.transaction.total.max.",
        )
    if "TransactionTimedOut" in code or code.endswith("LockClientStopped"):
        return TimeLimitError("the query was stopped at its time limit", "Narrow it, or raise the limit.")
    if code.startswith("Neo.DatabaseError."):
        return Graph2ImageError(
            f"{address.uri} failed: {message}",
            "Its logs say why: a full disk, for one. It may have to be started again.",
        )
    if error.is_retryable():
        return TransientError(f"{address.uri} cannot do that now: {message}", "Run the same command again.")
    return Graph2ImageError(f"the graph store says: {message}")


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, Neo4jError) and "OutOfMemory" in (error.code or "")


def run_again(session: neo4j.Session, address: Address, work: Callable[[neo4j.Transaction], _Result]) -> _Result:
    """Run `work` in a transaction and commit it: again for up to `RETRY_S` after what may pass, as a lost connection.

    The driver's managed transactions would also try again, in vain, what the server has too little memory for; and not
    what was perhaps committed before the connection was lost. `work` is to have the same effect twice as once.
    """
    deadline = None
    pause_s = 0.5
    while True:
        try:
            with session.begin_transaction() as transaction:
                answer = work(transaction)
                transaction.commit()
                return answer
        except (DriverError, Neo4jError) as error:
            passes = error.is_retryable() or isinstance(error, ServiceUnavailable)
            deadline = deadline or time.monotonic() + RETRY_S
            if not passes or _lacks_memory(error) or time.monotonic() > deadline:
                raise
            log.warning("%s: %s; trying again", address.uri, _said(error))
        # Not at the same moment as another that failed for the same reason.
        time.sleep(pause_s * random.uniform(0.5, 1))
        pause_s = min(2 * pause_s, 4)


def _said(error: Exception) -> str:
    """What the server says, without the codes around it that `str` adds."""
    return first_line(error.message or error) if isinstance(error, Neo4jError) else first_line(error)
