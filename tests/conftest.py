"""One Neo4j server for all tests that want one: started by the first of them, stopped at the end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphstore.neo4j_server import ServerInfo, start, stop
from ingest.errors import Graph2ImageError

TEST_SIZES = {"heap": "1g", "page_cache": "256m"}
# Compiled once and simply: half the processor time until the server answers.
QUICK_JAVA = ("-XX:TieredStopAtLevel=1",)
MARK = "graph2image_tests"


@pytest.fixture(scope="session")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[ServerInfo]:
    """A server on a free port, with an empty home; or the user's own that `GRAPH2IMAGE_TEST_NEO4J` names.

    The password of the user's own comes from the file `GRAPH2IMAGE_NEO4J_PASSWORD_FILE` names; its `pid` is 0. Tests
    that stop or kill a server start one of their own.
    """
    if url := os.environ.get("GRAPH2IMAGE_TEST_NEO4J"):
        yield users_server(url)
        return
    home = tmp_path_factory.mktemp("neo4j")
    try:
        server = start(home, port=free_port(), java_flags=QUICK_JAVA, end_with_parent=True, **TEST_SIZES)
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


def users_server(url: str) -> ServerInfo:
    """The server at `url`, unless it holds data that no test made; a constraint marks a database as the tests'."""
    from neo4j import GraphDatabase

    file = Path(os.environ.get("GRAPH2IMAGE_NEO4J_PASSWORD_FILE", ""))
    if not file.is_file():
        pytest.exit("GRAPH2IMAGE_TEST_NEO4J needs GRAPH2IMAGE_NEO4J_PASSWORD_FILE", returncode=4)
    with GraphDatabase.driver(url, auth=("neo4j", file.read_text().strip())) as driver:
        marked = driver.execute_query("SHOW CONSTRAINTS YIELD name WHERE name = $name RETURN name", name=MARK).records
        if not marked and driver.execute_query("MATCH (n) RETURN n LIMIT 1").records:
            pytest.exit(f"{url} is not empty, and its data is not the tests': they would delete it", returncode=4)
        driver.execute_query(f"CREATE CONSTRAINT {MARK} IF NOT EXISTS FOR (n:Graph2ImageTests) REQUIRE n.id IS UNIQUE")
        (version,) = driver.execute_query(
            "CALL dbms.components() YIELD name, versions WHERE name = 'Neo4j Kernel' RETURN versions[0]"
        ).records[0]
        (gds,) = driver.execute_query("RETURN gds.version()").records[0]
    return ServerInfo(url, Path(), 0, file, version, gds)
