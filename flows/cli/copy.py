"""The command that copies a graph between stores; see `flows.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import Call, command

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
    """Copy a whole graph from one store to another.

    Continues a copy that was cut off.
    """
    from flows import upkeep

    if home is not None and not offline:
        raise typer.BadParameter("--home goes with --offline")
    report = upkeep.copy(call.settings, from_url, to_url, offline=offline, home=home)
    call.show(report, _described(report, to_url))


def _described(report: CopyReport, url: str) -> str:
    there = f" ({report.parts_there} of {report.parts} parts were there already)" if report.parts_there else ""
    return (
        f"{url} has {report.nodes:,} nodes and {report.relations:,} relations{there}\n"
        f"graph version {report.version}, content digest {report.digest}"
    )
