"""The commands that bring data in, and out to other tools; see `flows.cli.app`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from flows.cli.console import Call, command

ingest_app = typer.Typer(help="Source files to Parquet, images and the graph store.", no_args_is_help=True)
sample_data_app = typer.Typer(help="Painted sample data in an upstream's own file format.", no_args_is_help=True)
export_app = typer.Typer(help="Samples in the layouts of other tools.", no_args_is_help=True)

StrictOption = Annotated[bool, typer.Option("--strict", help="Fail at the first rejected row.")]
PruneOption = Annotated[bool, typer.Option("--prune", help="Remove the items that the files no longer have.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Processes that parse; by default one per core for a large file.")
]
ImagesOption = Annotated[
    Path | None, typer.Option(help="Folder, tar or zip with the images; items are kept without any if not given.")
]
FetchOption = Annotated[bool, typer.Option("--fetch", help="Fetch the images from their addresses.")]
RefreshOption = Annotated[bool, typer.Option("--refresh", help="Also ask whether those fetched before have changed.")]
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


@command(ingest_app, "art500k")
def ingest_art500k(
    call: Call,
    files: Annotated[
        list[str], typer.Argument(help="label_list.csv (head_info.csv beside it names the columns) or the toy set's.")
    ],
    images: ImagesOption = None,
    painters: Annotated[
        list[str] | None,
        typer.Option(help="PainterPalette.csv: what is known of the artists, and who influenced whom."),
    ] = None,
    workers: WorkersOption = None,
    strict: StrictOption = False,
    prune: PruneOption = False,
) -> None:
    """ART500K's label files and images."""
    _ingest(
        call,
        source="art500k",
        files=files,
        place=images,
        painters=painters or (),
        workers=workers,
        strict=strict,
        prune=prune,
    )


@command(ingest_app, "amazon")
def ingest_amazon(
    call: Call,
    files: Annotated[list[str], typer.Argument(help="meta_*.json.gz or .jsonl.gz, of the 2014, 2018 or 2023 release.")],
    images: ImagesOption = None,
    fetch: FetchOption = False,
    refresh: RefreshOption = False,
    workers: WorkersOption = None,
    strict: StrictOption = False,
    prune: PruneOption = False,
) -> None:
    """Amazon product metadata, with images from a folder or from their addresses."""
    _ingest(
        call,
        source="amazon",
        files=files,
        place=images,
        fetch=fetch,
        refresh=refresh,
        workers=workers,
        strict=strict,
        prune=prune,
    )


@command(ingest_app, "goodreads")
def ingest_goodreads(
    call: Call,
    files: Annotated[
        list[str], typer.Argument(help="goodreads_books*.json.gz, and the files of authors, works, series, genres.")
    ],
    images: ImagesOption = None,
    fetch: FetchOption = False,
    refresh: RefreshOption = False,
    min_shelf_count: Annotated[int, typer.Option(min=1, help="Readers that a shelf of a book must have.")] = 5,
    workers: WorkersOption = None,
    strict: StrictOption = False,
    prune: PruneOption = False,
) -> None:
    """The Goodreads book graph, with covers from a folder or from their addresses."""
    _ingest(
        call,
        source="goodreads",
        files=files,
        place=images,
        fetch=fetch,
        refresh=refresh,
        min_shelf_count=min_shelf_count,
        workers=workers,
        strict=strict,
        prune=prune,
    )


@command(ingest_app, "instructg2i")
def ingest_instructg2i(
    call: Call,
    folder: Annotated[Path, typer.Argument(help="Folder with train/metadata.jsonl, test/metadata.jsonl, images.")],
    center_key: Annotated[str | None, typer.Option(help="Key of the image, by default told from the rows.")] = None,
    neighbors_key: Annotated[str | None, typer.Option(help="Key of its neighbors, likewise.")] = None,
    text_key: Annotated[str, typer.Option(help="Key of the text.")] = "text",
    strict: StrictOption = False,
    prune: PruneOption = False,
) -> None:
    """A data set in InstructG2I's released layout."""
    _ingest(
        call,
        source="instructg2i",
        files=[folder],
        center_key=center_key,
        neighbors_key=neighbors_key,
        text_key=text_key,
        strict=strict,
        prune=prune,
    )


@command(ingest_app, "table")
def ingest_table(
    call: Call,
    spec: Annotated[Path, typer.Argument(help="Spec file, as docs/table-spec.md explains.")],
    root: Annotated[Path, typer.Option(help="Folder that the paths in SPEC are relative to.")] = Path(),
    strict: StrictOption = False,
    prune: PruneOption = False,
) -> None:
    """Anybody's table with images, described by a spec file."""
    _ingest(call, source="table", files=[spec], place=root, strict=strict, prune=prune)


def _ingest(call: Call, files: Sequence[str | Path], **options: Any) -> None:
    from flows import stages
    from flows.cli import messages as words
    from ingest.ingestion import Ingestion

    outcome = stages.ingest(call.settings, Ingestion(files=tuple(map(str, files)), **options))
    call.show(outcome, words.ingested(outcome))


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
