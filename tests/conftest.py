"""How the tests run: which of them share a worker and a server, in what order, and with which examples.

One Neo4j server serves all tests that want one: the first of them starts it, and it is stopped at the end. All of them
are in one group, and a group stays on one worker (`--dist loadgroup`), so that several workers need one server, too; so
are the tests that look at one demo, and otherwise those of a module.

Every process computes on one core: models of the tests' size gain nothing from a second, and processes that want all
cores at once slow each other down many times.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from neo4j import Driver, GraphDatabase
from neo4j.exceptions import DriverError, Neo4jError
from quick_java import QUICK_JAVA

from graphstore.neo4j.server.server import (
    USER,
    ServerInfo,
    start,
    stop,
)
from ingest.errors import Graph2ImageError

TEST_SIZES = {"heap": "1g", "page_cache": "256m"}
PASSWORD_FILE = "GRAPH2IMAGE_NEO4J_PASSWORD_FILE"
# Name of a constraint.
MARK = "graph2image_tests"

os.environ.setdefault("OMP_NUM_THREADS", "1")


# No verdict hangs on luck or on the clock: the same examples each time, however long they take; `make fuzz` looks for
# others. Fixtures of one test serve all of its examples, which each test that uses them knows.
settings.register_profile(
    "fixed",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("fuzz", settings.get_profile("fixed"), derandomize=False, max_examples=1000, print_blob=True)
settings.load_profile("fixed")

#: Fixtures that start a Neo4j server, or wait for the one of the session.
SERVERS = {"neo4j_server", "neo4j_url", "both_urls", "other_url", "home_server"}
#: Fixtures that take seconds: servers, the demo, a classifier that is trained.
SLOW = SERVERS | {"demo", "evaluated", "compared"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a server or the demo, and put all into groups; those that take long come first."""
    groups: dict[str, bool] = {}
    for item in items:
        fixtures: set[str] = set(getattr(item, "fixturenames", ()))
        group = item.path.stem.removeprefix("test_")
        if fixtures & SERVERS or "neo4j" in _parameters(item):
            item.add_marker("neo4j")
            group = group if "home_server" in fixtures else "neo4j"
        elif "demo" in fixtures:
            group = "demo"
        elif item.get_closest_marker("prefect"):
            group = "prefect"  # one Prefect server
        if fixtures & SLOW or item.get_closest_marker("neo4j"):
            item.add_marker("slow")
        item.add_marker(pytest.mark.xdist_group(group))
        groups[group] = groups.get(group, False) or item.get_closest_marker("slow") is not None
    first = ["neo4j", "demo", *(group for group, slow in groups.items() if slow), *groups]
    items.sort(key=lambda item: first.index(item.get_closest_marker("xdist_group").args[0]))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse workers that know no groups: each would start a server of its own, and make a demo."""
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("this pytest-xdist cannot group the tests of this pytest: install requirements/dev.txt")


def _parameters(item: pytest.Item) -> list[object]:
    return list(item.callspec.params.values()) if hasattr(item, "callspec") else []


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
    """Gives a port of the loopback interface that nothing uses.

    It is below those that a system gives to connections by itself, so nothing takes it by chance before it is used.
    Each process begins elsewhere.
    """
    ports = (20_000 + (os.getpid() * 97 + number) % 10_000 for number in range(10_000))

    def find() -> int:
        for port in ports:
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
        raise OSError("no port is free")

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
