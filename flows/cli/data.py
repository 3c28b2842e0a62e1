"""The commands that bring data in, and out to other tools; see `flows.cli.app`."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from flows.cli.console import Call, command
from flows.cli.ingestions import ingestion_commands
from ingest.ingestion import Ingestion

ingest_app = typer.Typer(help="Source files to Parquet, images and the graph store.", no_args_is_help=True)
sample_data_app = typer.Typer(help="Painted sample data in an upstream's own file format.", no_args_is_help=True)
export_app = typer.Typer(help="Samples in the layouts of other tools.", no_args_is_help=True)

ImagesFlag = Annotated[bool, typer.Option("--images/--no-images", help="Without, the metadata alone, at any size.")]
ItemsOption = Annotated[int, typer.Option("--items", min=1, help="How many items to paint.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Equal seeds paint equal data.")]


@command(sample_data_app, "art500k")
def sample_art500k(
    call: Call, folder: Path, items: ItemsOption = 1200, seed: SeedOption = 0, images: ImagesFlag = True
) -> None:
    """Artworks by invented artists, in ART500K's format."""
    from flows.cli import messages as words
    from ingest.sampledata import paint_art500k

    call.show(report := paint_art500k(folder, items=items, seed=seed, images=images), words.painted(report))


@command(sample_data_app, "amazon")
def sample_amazon(
    call: Call,
    folder: Path,
    items: ItemsOption = 1200,
    seed: SeedOption = 0,
    release: Annotated[int, typer.Option(help="2014, 2018 or 2023.")] = 2018,
    images: ImagesFlag = True,
) -> None:
    """Product photos of invented brands, in the format of one of Amazon's releases."""
    from flows.cli import messages as words
    from ingest.sampledata import paint_amazon

    report = paint_amazon(
        folder, items=items, seed=seed, release=cast(Literal[2014, 2018, 2023], release), images=images
    )
    call.show(report, words.painted(report))


@command(sample_data_app, "goodreads")
def sample_goodreads(
    call: Call, folder: Path, items: ItemsOption = 1200, seed: SeedOption = 0, images: ImagesFlag = True
) -> None:
    """Book covers by series and author, in Goodreads' format."""
    from flows.cli import messages as words
    from ingest.sampledata import paint_goodreads

    call.show(report := paint_goodreads(folder, items=items, seed=seed, images=images), words.painted(report))


def _ingest(call: Call, ingestion: Ingestion) -> None:
    from flows import stages
    from flows.cli import messages as words

    outcome = stages.ingest(call.settings, ingestion)
    call.show(outcome, words.ingested(outcome))


ingestion_commands(ingest_app, _ingest)


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
