"""The commands of the local Neo4j server; see `flows.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import Call, command
from flows.cli.options import pair

if TYPE_CHECKING:
    from graphstore.neo4j.server.server import ServerInfo

neo4j_app = typer.Typer(
    help="Run a local Neo4j with its graph library. On this machine only, for you alone. Its Bolt port serves any "
    "client; Neo4j Browser is not part of it.",
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
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of Bolt, on 127.0.0.1.")] = 7687,
    heap: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Java heap, by default a quarter of the memory, 1g to 8g.")
    ] = None,
    page_cache: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Cache of the data, by default an eighth of the memory.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of neo4j.conf; repeat it.")
    ] = None,
    wait: Annotated[float, typer.Option(min=1, max=86_400, help="Seconds that the start may take.")] = 180.0,
) -> None:
    """Start the server, made at the first call, and wait until it answers."""
    from flows import upkeep

    server, ran_before = upkeep.start_server(
        home,
        port=port,
        heap=heap,
        page_cache=page_cache,
        settings=[pair(text, "KEY=VALUE", last=False) for text in settings or []],
        wait_s=wait,
    )
    call.show(server, _described(server, "ran already" if ran_before else "started"))


@command(neo4j_app, "stop")
def stop_server(
    call: Call,
    home: HomeOption = None,
    wait: Annotated[float, typer.Option(min=0, max=86_400, help="Seconds until the server is killed.")] = 60.0,
) -> None:
    """Stop the server; its data stays."""
    from flows import upkeep

    home, stopped = upkeep.stop_server(home, wait_s=wait)
    call.show({"stopped": stopped, "home": home}, f"{'stopped' if stopped else 'no server ran'}; data: {home}")


@command(neo4j_app, "status")
def server_status(call: Call, home: HomeOption = None) -> None:
    """Whether the server runs, where, and how much data it has."""
    from flows import upkeep

    call.show_tree(upkeep.server_state(home))


def _described(server: ServerInfo, what: str) -> str:
    return (
        f"Neo4j {server.version} with GDS {server.gds_version} {what}: --store {server.url}\n"
        f"user neo4j, password in {server.password_file}"
    )
