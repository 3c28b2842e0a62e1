"""The commands that bring data in, and out to other tools; see `flows.cli.app`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer.core import TyperGroup

from flows.cli.console import Call, command

if TYPE_CHECKING:
    from ingest.ingestion import Ingestion


class _SourceCommands(TyperGroup):
    """The commands of the sources, made when they are asked for: their classes take a while to import."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(self._commands)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        return self._commands.get(cmd_name)

    @cached_property
    def _commands(self) -> dict[str, Any]:
        from flows.cli.ingestions import ingestion_commands

        sources = typer.Typer(rich_markup_mode=None)
        ingestion_commands(sources, _ingest)
        group: Any = typer.main.get_command(sources)
        return dict(group.commands)


def _ingest(call: Call, ingestion: Ingestion) -> None:
    from flows import stages
    from flows.cli import messages as words

    outcome = stages.ingest(call.settings, ingestion)
    call.show(outcome, words.ingested(outcome))


ingest_app = typer.Typer(cls=_SourceCommands, help="Bring source files into the graph.", no_args_is_help=True)
sample_data_app = typer.Typer(help="Make synthetic data in a source's format.", no_args_is_help=True)
export_app = typer.Typer(help="Write samples in another tool's layout.", no_args_is_help=True)

ImagesFlag = Annotated[bool, typer.Option("--images/--no-images", help="Without, metadata alone, at any size.")]
ItemsOption = Annotated[int, typer.Option("--items", min=1, max=1_000_000_000, help="Number of items.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Equal seeds make equal data.")]


@command(sample_data_app, "art500k")
def sample_art500k(
    call: Call, folder: Path, items: ItemsOption = 1200, seed: SeedOption = 0, images: ImagesFlag = True
) -> None:
    """Artworks by invented artists, in ART500K's format."""
    from flows.cli import messages as words
    from ingest.sampledata import paint_art500k

    call.show(report := paint_art500k(folder, items=items, seed=seed, images=images), words.sample_data_made(report))


@command(sample_data_app, "amazon")
def sample_amazon(
    call: Call,
    folder: Path,
    items: ItemsOption = 1200,
    seed: SeedOption = 0,
    release: Annotated[Literal["2014", "2018", "2023"], typer.Option(help="Release whose format it has.")] = "2018",
    images: ImagesFlag = True,
) -> None:
    """Product photos of invented brands, in the format of one of Amazon's releases."""
    from flows.cli import messages as words
    from ingest.sampledata import paint_amazon

    report = paint_amazon(
        folder, items=items, seed=seed, release=cast(Literal[2014, 2018, 2023], int(release)), images=images
    )
    call.show(report, words.sample_data_made(report))


@command(sample_data_app, "goodreads")
def sample_goodreads(
    call: Call, folder: Path, items: ItemsOption = 1200, seed: SeedOption = 0, images: ImagesFlag = True
) -> None:
    """Book covers by series and author, in Goodreads' format."""
    from flows.cli import messages as words
    from ingest.sampledata import paint_goodreads

    call.show(report := paint_goodreads(folder, items=items, seed=seed, images=images), words.sample_data_made(report))


@command(export_app, "instructg2i")
def export_instructg2i(
    call: Call,
    folder: Path,
    samples: Annotated[
        str | None, typer.Option("--neighbors", metavar="DIGEST", help="Neighbor samples, by default the newest.")
    ] = None,
) -> None:
    """Neighbor samples with texts and images, as InstructG2I's own code reads them."""
    from flows import stages
    from flows.cli import messages as words

    report = stages.export_instructg2i(call.settings, folder, samples)
    call.show(report, words.exported(report))
