"""Every test that takes `store` or `store_url` runs on both stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from neo4j import GraphDatabase

from graphstore.connect import open_store
from graphstore.neo4j.server.server import USER, ServerInfo
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    return DataRoot(str(tmp_path / "data"))


@pytest.fixture
def ladybug_url(tmp_path: Path) -> str:
    return f"ladybug://{tmp_path}/graph.lbug"


@pytest.fixture
def neo4j_url(neo4j_server: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> str:
    """A server whose database is empty."""
    return _emptied(neo4j_server, monkeypatch)


@pytest.fixture(scope="module")
def both_urls(neo4j_server: ServerInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """An embedded store and a Neo4j one, both empty at first, for a module none of whose tests takes `store`."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield f"ladybug://{tmp_path_factory.mktemp('both')}/graph.lbug", _emptied(neo4j_server, monkeypatch)


def _emptied(server: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GRAPH2IMAGE_NEO4J_PASSWORD_FILE", str(server.password_file))
    with GraphDatabase.driver(server.url, auth=(USER, server.password_file.read_text().strip())) as driver:
        driver.execute_query("MATCH (n) DETACH DELETE n")
        # Constraints stay: they take long to make, and say nothing about a graph.
        shown = driver.execute_query("SHOW INDEXES YIELD name, type WHERE type IN ['FULLTEXT', 'VECTOR'] RETURN name")
        for (name,) in shown.records:
            driver.execute_query(f"DROP INDEX `{name}`")
    return server.url


@pytest.fixture(params=["ladybug", "neo4j"])
def store_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[GraphStore]:
    with open_store(store_url) as store:
        yield store
