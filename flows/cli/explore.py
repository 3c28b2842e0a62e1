"""The command that serves the explorer; see `flows.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import Call, command

explore_app = typer.Typer()


@command(explore_app, "explore")
def explore(
    call: Call,
    host: Annotated[str, typer.Option(help="Address to listen on; another than this machine's own needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = 8765,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="GRAPH2IMAGE_EXPLORER_TOKEN_FILE",
            show_envvar=False,
            help="File with a token, which every request must bring then.",
        ),
    ] = None,
    allow_optout: Annotated[
        bool, typer.Option("--allow-optout", help="Let works be withdrawn from the page, after a confirmation.")
    ] = False,
) -> None:
    """Look at the graph in a browser, and make images there.

    Serves pages and an HTTP API until it is interrupted.
    """
    from flows.explorer.serve import serve

    serve(
        call.settings,
        host=host,
        port=port,
        token_file=token_file,
        allows_optout=allow_optout,
        started=lambda url: call.show({"url": url}, f"The explorer is at {url} (Ctrl+C ends it)."),
    )
