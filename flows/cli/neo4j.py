"""The commands of the local Neo4j server; see `flows.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import Call, command
from ingest.errors import Graph2ImageError

if TYPE_CHECKING:
    from graphstore.neo4j.server.server import ServerInfo

neo4j_app = typer.Typer(
    help="A local Neo4j with Graph Data Science: on this machine only, for you alone. Its Bolt port serves any client; "
    "Neo4j Browser is not part of it.",
    no_args_is_help=True,
)

HomeOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Data, logs and password; by default ~/.local/share/graph2image/neo4j."),
]


@command(neo4j_app, "start")
def start_server(
    call: Call,
    home: HomeOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of Bolt, on 127.0.0.1.")] = 7687,
    heap: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Java heap, by default a quarter of the memory, 1g to 8g.")
    ] = None,
    page_cache: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Cache of the data, by default an eighth of the memory.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of neo4j.conf; repeat it.")
    ] = None,
    wait: Annotated[float, typer.Option(min=1, help="Seconds that it may take.")] = 180.0,
) -> None:
    """Start the server, made at the first call, and wait until it answers."""
    from graphstore.neo4j.server.server import default_home, start, status

    pairs = [pair.partition("=") for pair in settings or []]
    if wrong := [key for key, separator, _ in pairs if not separator]:
        raise Graph2ImageError(f"{wrong[0]!r} is not of the form KEY=VALUE")
    home = home or default_home()
    ran_before = status(home) is not None
    server = start(
        home,
        port=port,
        heap=heap,
        page_cache=page_cache,
        settings={key: value for key, _, value in pairs},
        wait_s=wait,
    )
    call.show(server, _described(server, "ran already" if ran_before else "started"))


@command(neo4j_app, "stop")
def stop_server(
    call: Call,
    home: HomeOption = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds until it is killed.")] = 60.0,
) -> None:
    """Stop the server; its data stays."""
    from graphstore.neo4j.server.server import default_home, stop

    home = home or default_home()
    stopped = stop(home, wait_s=wait)
    call.show({"stopped": stopped, "home": home}, f"{'stopped' if stopped else 'no server ran'}; data: {home}")


@command(neo4j_app, "status")
def server_status(call: Call, home: HomeOption = None) -> None:
    """Whether the server runs, where, and how much data it has."""
    from graphstore.neo4j.server.jars import GDS_VERSION, NEO4J_VERSION
    from graphstore.neo4j.server.server import default_home, password_file, status

    home = home or default_home()
    server = status(home)
    size = sum(path.stat().st_size for path in (home / "data").rglob("*") if path.is_file())
    call.show_tree(
        {
            "running": server is not None,
            "url": server and server.url,
            "process": server and str(server.pid),
            "version": NEO4J_VERSION,
            "gds_version": GDS_VERSION,
            "home": home,
            "data_bytes": size,
            "password_file": password_file(home) if password_file(home).exists() else None,
        }
    )


def _described(server: ServerInfo, what: str) -> str:
    return (
        f"Neo4j {server.version} with GDS {server.gds_version} {what}: --store {server.url}\n"
        f"user neo4j, password in {server.password_file}"
    )
