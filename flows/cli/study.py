"""The command that runs a study; see `flows.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import Call, command

study_app = typer.Typer()


@command(study_app, "study")
def study(
    call: Call,
    file: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="Study file; docs/studies.md tells its keys.")],
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Make only this variant; give it for each, in the order to make them."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what is left to make, and make nothing.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=4_096, help="How many images are made at a time.")] = 32,
    device: Annotated[
        str | None, typer.Option(help="Torch device that images are made on, by default a GPU if there is one.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="File that the page is written to, by default the study's name with .html.")
    ] = None,
) -> None:
    """Train, generate and compare the variants of a study.

    Continues a study that was stopped; a second call finds all finished. Writes one page.
    """
    from flows.cli import messages as words
    from flows.study.run import plan_study, run_study

    if plan:
        left = plan_study(call.settings, file, only or ())
        call.show(left, words.study_planned(left))
        return
    page = report or Path(f"{file.stem}.html")
    out = run_study(call.settings, file, page, only or (), batch_size=batch_size, device=device)
    call.show(out, words.studied(out))
    if out.failed:
        raise typer.Exit(1)
