"""Opens graph stores: the only module that knows both kinds."""

from __future__ import annotations

from graphstore.store import Access, GraphStore
from ingest.errors import Graph2ImageError


def open_store(url: str, *, read_only: bool = False, access: Access | None = None) -> GraphStore:
    """Open the graph store at `url`: `ladybug:///data/graph.lbug` or `neo4j://host:7687/database`.

    An embedded store that is opened for writing is created. The embedded store does not look at `access`.

    Raises
    ------
    NoGraphError
        If there is nothing to read.
    Graph2ImageError
        If the URL names no kind of store; the file is no store, or another process, or another store object of this
        process, has it open for writing; the server cannot be reached or used.
    """
    if (file := embedded_file(url)) is not None:
        from graphstore.ladybug import LadybugStore

        return LadybugStore(url, file, read_only=read_only)
    scheme, separator, _ = url.partition("://")
    if separator and scheme.partition("+")[0] in ("neo4j", "bolt"):
        from graphstore.neo4j.store import Neo4jStore

        return Neo4jStore(url, access or Access(), read_only=read_only)
    raise Graph2ImageError(
        f"{url.rpartition('@')[2]!r} is no graph store",
        "Give a URL such as ladybug:///path/graph.lbug or neo4j://localhost:7687.",
    )


def embedded_file(url: str) -> str | None:
    """Path of the file of an embedded store; None if the URL is no such store's."""
    scheme, _, path = url.partition("://")
    return path if scheme == "ladybug" and path else None
