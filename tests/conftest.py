"""One Neo4j server for all tests that want one: started by the first of them, stopped at the end.

With several workers each has its own. Every process computes on one core then: models of the tests' size gain nothing
from a second, and processes that want all cores at once slow each other down many times.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from neo4j import Driver, GraphDatabase
from neo4j.exceptions import DriverError, Neo4jError
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from graphstore.neo4j.server.server import (
    USER,
    ServerInfo,
    start,
    stop,
)
from ingest.errors import Graph2ImageError

TEST_SIZES = {"heap": "1g", "page_cache": "256m"}
# Compiled once and simply: half the processor time until the server answers.
QUICK_JAVA = ("-XX:TieredStopAtLevel=1",)
PASSWORD_FILE = "GRAPH2IMAGE_NEO4J_PASSWORD_FILE"
# Name of a constraint.
MARK = "graph2image_tests"

os.environ.setdefault("OMP_NUM_THREADS", "1")


class _ByFile(LoadFileScheduling):  # type: ignore[misc]
    """All tests of a file on one worker, for their fixtures; and all that look at the demo, which takes minutes."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "demo" if Path(file).name in ("test_main_job.py", "test_neighbors.py", "test_query.py") else str(file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByFile:
    """Replaces the one of `--dist`."""
    return _ByFile(config, log)


@pytest.fixture(scope="session")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[ServerInfo]:
    """A server on a free port, with an empty home; or the user's own that `GRAPH2IMAGE_TEST_NEO4J` names.

    The password of the user's own comes from the file `GRAPH2IMAGE_NEO4J_PASSWORD_FILE` names; its `pid` is 0. Tests
    that stop or kill a server start one of their own.
    """
    if url := os.environ.get("GRAPH2IMAGE_TEST_NEO4J"):
        with users_server(url) as server:
            yield server
        return
    home = tmp_path_factory.mktemp("neo4j")
    try:
        server = start(home, port=free_port(), java_flags=QUICK_JAVA, end_with_parent=True, wait_s=300, **TEST_SIZES)
    except Graph2ImageError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Neo4j: {error}")
    try:
        yield server
    finally:
        stop(home)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a port of the loopback interface that nothing uses."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


# -- the user's own server ---------------------------------------------------------------------------------------------


def pytest_sessionstart() -> None:
    """Refuse a server that holds data which the tests did not make: they delete all there is."""
    url = os.environ.get("GRAPH2IMAGE_TEST_NEO4J")
    if url is None:
        return
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        raise pytest.UsageError("GRAPH2IMAGE_TEST_NEO4J is one database, which workers cannot share: call pytest -n 0")
    if PASSWORD_FILE not in os.environ:
        raise pytest.UsageError(f"GRAPH2IMAGE_TEST_NEO4J needs {PASSWORD_FILE}")
    try:
        with users_driver(url) as driver:
            [[marks]] = driver.execute_query(
                "SHOW CONSTRAINTS YIELD name WHERE name = $name RETURN count(*)", name=MARK
            ).records
            [[nodes]] = driver.execute_query("MATCH (n) RETURN count(n)").records
    except (OSError, DriverError, Neo4jError) as error:
        raise pytest.UsageError(f"GRAPH2IMAGE_TEST_NEO4J={url}: {error}") from error
    if nodes and not marks:
        raise pytest.UsageError(f"{url} is not empty, and the tests, which did not make its data, would delete it")


def users_driver(url: str) -> Driver:
    password = Path(os.environ[PASSWORD_FILE]).read_text().strip()
    return GraphDatabase.driver(url, auth=(USER, password), max_transaction_retry_time=0)


@contextmanager
def users_server(url: str) -> Iterator[ServerInfo]:
    """The server at `url`; emptied at the end. Until then a constraint says whose the data is, in case of a kill."""
    with users_driver(url) as driver:
        driver.execute_query(f"CREATE CONSTRAINT {MARK} IF NOT EXISTS FOR (n:Graph2ImageTests) REQUIRE n.id IS UNIQUE")
        [[version, gds]] = driver.execute_query(
            "CALL dbms.components() YIELD name, versions WHERE name = 'Neo4j Kernel' RETURN versions[0], gds.version()"
        ).records
        yield ServerInfo(url, Path(), 0, Path(os.environ[PASSWORD_FILE]), version, gds)
        driver.execute_query("MATCH (n) DETACH DELETE n")
        driver.execute_query(f"DROP CONSTRAINT {MARK}")
