"""The command that copies a graph between stores; see `flows.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import Call, command
from ingest.errors import Graph2ImageError

if TYPE_CHECKING:
    from graphstore.loading.copying import CopyReport


copy_app = typer.Typer()


@command(copy_app, "copy")
def copy(
    call: Call,
    from_url: Annotated[str, typer.Argument(metavar="FROM_URL", help="A store, such as ladybug:///path.")],
    to_url: Annotated[str, typer.Argument(metavar="TO_URL", help="An empty store, such as neo4j://host:7687.")],
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="Into the empty database of the server of `graph2image neo4j start`: stop it, import, start it again.",
        ),
    ] = False,
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --offline: home of that server, if not the default one.")
    ] = None,
) -> None:
    """Copy a whole graph from one store into another; goes on where a copy was cut off."""
    if home is not None and not offline:
        raise typer.BadParameter("--home goes with --offline")
    with call.settings.model_copy(update={"store": from_url}).open_store(read_only=True) as source:
        if offline:
            from graphstore.loading.offline_import import copy_offline
            from graphstore.neo4j.server.server import default_home

            report = copy_offline(source, _home_of(to_url, home or default_home()))
        else:
            from graphstore.loading.copying import copy_graph

            with call.settings.model_copy(update={"store": to_url}).open_store() as target:
                report = copy_graph(source, target)
    with call.settings.model_copy(update={"store": to_url}).open_store() as target:
        if target.indexes is not None:
            target.indexes.update_titles()
    call.show(report, _described(report, to_url))


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


def _described(report: CopyReport, url: str) -> str:
    there = f" ({report.parts_there} of {report.parts} parts were there already)" if report.parts_there else ""
    return (
        f"{url} has {report.nodes:,} nodes and {report.relations:,} relations{there}\n"
        f"graph version {report.version}, content digest {report.digest}"
    )
