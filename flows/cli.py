"""The command line. Each command parses, calls one stage and prints; heavy libraries are imported by the stage."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import Call, command

app = typer.Typer(
    name="graph2image",
    help="Images for the nodes of multimodal attributed graphs, from their text and their neighbors.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ingest_app = typer.Typer(help="Source files to Parquet, pictures and the graph store.", no_args_is_help=True)
sample_data_app = typer.Typer(help="Painted sample data in an upstream's own file format.", no_args_is_help=True)
app.add_typer(ingest_app, name="ingest")
app.add_typer(sample_data_app, name="sample-data")

StrictOption = Annotated[bool, typer.Option("--strict", help="Fail at the first rejected row.")]
ItemsOption = Annotated[int, typer.Option("--items", min=1, help="How many items to paint.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Equal seeds paint equal data.")]
ModelOption = Annotated[str | None, typer.Option("--model", metavar="ID", help="Model, by default the newest.")]


def main() -> None:
    """Entry point of the `graph2image` command."""
    app()


@command(app, "demo")
def demo(
    call: Call,
    out: Annotated[Path, typer.Option(help="Folder for the gallery, the data and report.html.")] = Path("demo"),
) -> None:
    """The main job end to end on a painted gallery: ingest, embed, sample, train, generate, report."""
    from flows.demo import run_demo

    result = run_demo(out)
    call.show(result, f"\n{result.headline}\n\nReport: {result.report}\n{result.query_hint}")


# -- ingestion ---------------------------------------------------------------------------------------------------------


@command(sample_data_app, "art500k")
def sample_art500k(call: Call, folder: Path, items: ItemsOption = 1200, seed: SeedOption = 0) -> None:
    """Paint artworks by invented artists, in ART500K's format."""
    from ingest.sampledata import paint_art500k

    call.show(report := paint_art500k(folder, items=items, seed=seed), f"{report}")


@command(sample_data_app, "amazon")
def sample_amazon(call: Call, folder: Path, items: ItemsOption = 1200, seed: SeedOption = 0) -> None:
    """Paint product photos of invented brands, in Amazon's format."""
    from ingest.sampledata import paint_amazon

    call.show(report := paint_amazon(folder, items=items, seed=seed), f"{report}")


@command(sample_data_app, "goodreads")
def sample_goodreads(call: Call, folder: Path, items: ItemsOption = 1200, seed: SeedOption = 0) -> None:
    """Paint book covers by series and author, in Goodreads' format."""
    from ingest.sampledata import paint_goodreads

    call.show(report := paint_goodreads(folder, items=items, seed=seed), f"{report}")


@command(ingest_app, "art500k")
def ingest_art500k(
    call: Call,
    label_file: Annotated[Path, typer.Argument(help="label_list.csv")],
    images: Annotated[Path, typer.Option(help="Folder that holds Artists1, Artists2, Art Movement and Medium.")],
    strict: StrictOption = False,
) -> None:
    """Ingest ART500K's label file and pictures."""
    from flows import stages

    call.show(outcome := stages.ingest_art500k(call.settings, label_file, images, strict=strict), str(outcome))


@command(ingest_app, "table")
def ingest_table(
    call: Call,
    spec: Annotated[Path, typer.Argument(help="Spec file, see docs/table-spec.md.")],
    root: Annotated[Path, typer.Option(help="Folder that the paths in SPEC are relative to.")] = Path(),
    strict: StrictOption = False,
) -> None:
    """Ingest anybody's table with pictures, described by a spec file."""
    from flows import stages

    call.show(outcome := stages.ingest_table(call.settings, spec, root, strict=strict), str(outcome))


@command(app, "embed")
def embed(
    call: Call,
    encoder: Annotated[
        str, typer.Option(help="mini, an open_clip name such as ViT-B-32/laion2b_s34b_b79k, or a checkpoint folder.")
    ] = "mini",
) -> None:
    """Embed the pictures and texts that have no vector yet."""
    from flows import stages

    call.show(report := stages.embed(call.settings, encoder), str(report))


# -- graph -------------------------------------------------------------------------------------------------------------


@command(app, "query")
def query(
    call: Call,
    cypher: Annotated[str, typer.Argument(metavar="CYPHER")],
    output: Annotated[
        str, typer.Option("--format", help="table, json, csv or parquet (to standard output).")
    ] = "table",
    limit: Annotated[int, typer.Option(min=1, help="Most rows to return.")] = 1000,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds before the query is stopped.")] = 30.0,
) -> None:
    """Ask the graph; read-only."""
    from flows.tables import write_table
    from graphstore.store import open_store

    with open_store(call.settings.store_url, read_only=True) as store:
        result = store.query(cypher, row_limit=limit, timeout_s=timeout)
    write_table(result, "json" if call.as_json else output)
