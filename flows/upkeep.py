"""What is done with a graph store beside the main job: ask it, withdraw works, copy it, run a local server.

Plain functions as those of `flows.stages`, for the command line; each imports what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest.errors import Graph2ImageError

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.settings import Settings
    from graphstore.lineage import OptOutReport
    from graphstore.loading.copying import CopyReport
    from graphstore.neo4j.server.server import ServerInfo


@dataclass(frozen=True)
class Answer:
    """The rows of a query, and whether there were more than asked for."""

    rows: pa.Table
    truncated: bool


def query(settings: Settings, cypher: str, *, row_limit: int, timeout_s: float) -> Answer:
    """Run a user's Cypher, read-only."""
    from graphstore.store import is_truncated

    with settings.open_store(read_only=True) as store:
        rows = store.query(cypher, row_limit=row_limit, timeout_s=timeout_s)
    return Answer(rows, is_truncated(rows))


def opt_out(settings: Settings, item_or_entity: str, reason: str | None = None) -> OptOutReport:
    """Withdraw an item, or all items of an entity, and tell what they touched.

    Raises
    ------
    Graph2ImageError
        If there is no graph, or no such item or entity in it.
    """
    from flows.trained import trained_models
    from graphstore.lineage import opt_out as withdraw

    settings.open_store(read_only=True).close()  # opened for writing, a store that is not there would be made
    data = settings.data_root
    with settings.open_graph() as store:
        return withdraw(store, data, item_or_entity, trained_models(data), reason)


def copy(settings: Settings, from_url: str, to_url: str, *, offline: bool, home: Path | None) -> CopyReport:
    """Copy a whole graph from one store into another.

    Parameters
    ----------
    offline
        By an import into the stopped local server whose home is `home`.
    """
    with settings.model_copy(update={"store": from_url}).open_store(read_only=True) as source:
        if offline:
            from graphstore.loading.offline_import import copy_offline
            from graphstore.neo4j.server.server import default_home

            report = copy_offline(source, _home_of(to_url, home or default_home()))
        else:
            from graphstore.loading.copying import copy_graph

            with settings.model_copy(update={"store": to_url}).open_store() as target:
                report = copy_graph(source, target)
    with settings.model_copy(update={"store": to_url}).open_store() as target:
        if target.indexes is not None:
            target.indexes.update_titles()
    return report


def _home_of(url: str, home: Path) -> Path:
    """`home`, if its server is the one at `url`, or does not run."""
    from graphstore.neo4j.driver import parse_url
    from graphstore.neo4j.server.server import status

    address, server = parse_url(url), status(home)
    if server is not None and (
        address.port != parse_url(server.url).port
        or address.host not in ("127.0.0.1", "localhost", "::1")
        or address.database not in (None, "neo4j")
    ):
        raise Graph2ImageError(
            f"{url} is not the server of {home}, which is {server.url}",
            "Give that URL, or its home with --home; copy into other servers without --offline.",
        )
    return home


# -- a local Neo4j -----------------------------------------------------------------------------------------------------


def start_server(
    home: Path | None,
    *,
    port: int,
    heap: str | None,
    page_cache: str | None,
    settings: Sequence[tuple[str, str]],
    wait_s: float,
) -> tuple[ServerInfo, bool]:
    """Start the local server; returns it, and whether it ran already."""
    from graphstore.neo4j.server.server import default_home, start, status

    home = home or default_home()
    ran_before = status(home) is not None
    server = start(home, port=port, heap=heap, page_cache=page_cache, settings=dict(settings), wait_s=wait_s)
    return server, ran_before


def stop_server(home: Path | None, *, wait_s: float) -> tuple[Path, bool]:
    """Stop the local server; returns its home, and whether it ran."""
    from graphstore.neo4j.server.server import default_home, stop

    home = home or default_home()
    return home, stop(home, wait_s=wait_s)


def server_state(home: Path | None) -> dict[str, Any]:
    """Whether the local server runs, where, and how much data it has."""
    from graphstore.neo4j.server.jars import GDS_VERSION, NEO4J_VERSION
    from graphstore.neo4j.server.server import default_home, password_file, status

    home = home or default_home()
    server = status(home)
    return {
        "running": server is not None,
        "url": server and server.url,
        "process": server and str(server.pid),
        "version": NEO4J_VERSION,
        "gds_version": GDS_VERSION,
        "home": home,
        "data_bytes": sum(path.stat().st_size for path in (home / "data").rglob("*") if path.is_file()),
        "password_file": password_file(home) if password_file(home).exists() else None,
    }
