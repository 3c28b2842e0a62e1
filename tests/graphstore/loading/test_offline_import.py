"""A copy by Neo4j's own importer, into a server of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
from quick_java import QUICK_JAVA
from test_copy import fill

from graphstore.bookkeeping import check_complete
from graphstore.connect import open_store
from graphstore.loading.copying import content_digest
from graphstore.loading.load import load_source
from graphstore.loading.offline_import import copy_offline
from graphstore.neo4j.server.server import ServerInfo, start, stop
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError


@pytest.fixture(scope="module")
def home_server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[ServerInfo]:
    """A server of this module's own, empty; its path holds what would trouble an importer."""
    home = tmp_path_factory.mktemp("home, of ours")
    try:
        server = start(home, port=free_port(), heap="512m", page_cache="64m", java_flags=QUICK_JAVA)
    except Graph2ImageError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Neo4j: {error}")
    yield server
    stop(home)


def test_an_offline_copy_is_the_same_graph_and_nothing_is_ever_replaced(
    home_server: ServerInfo, data: DataRoot, ladybug_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = home_server.home
    monkeypatch.setenv("GRAPH2IMAGE_NEO4J_PASSWORD_FILE", str(home_server.password_file))
    files = sorted(path.name for path in home.iterdir())
    with open_store(ladybug_url) as source:
        fill(source, data)
        digest = content_digest(source)

        # An import that fails leaves the database empty and the server running.
        nodes = source.nodes
        source.nodes = lambda label, names: _with_lists(nodes(label, names))  # type: ignore[method-assign]
        with pytest.raises(Graph2ImageError, match="neo4j-admin database import full failed"):
            copy_offline(source, home)
        del source.nodes
        with open_store(home_server.url) as target:
            assert all(label.count == 0 for label in target.schema().labels)

        report = copy_offline(source, home)
        assert report.digest == content_digest(source) == digest
        assert report.parts_there == report.parts
        assert sorted(path.name for path in home.iterdir()) == files
        with open_store(home_server.url) as target:
            assert content_digest(target) == report.digest
            check_complete(target)
            assert not load_source(target, data, "rich").changed
        with pytest.raises(Graph2ImageError, match=r"has \d+ nodes: an import would replace it"):
            copy_offline(source, home)
        with open_store(home_server.url, read_only=True) as target:
            assert content_digest(target) == report.digest


def _with_lists(table: pa.Table) -> pa.Table:
    """With a column that the importer cannot read."""
    return table.append_column("lists", pa.array([[1, None, 2]] * table.num_rows))
