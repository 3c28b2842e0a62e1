"""The command line. Each command parses, calls one stage and prints; heavy libraries are imported by the stage."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.backup import backup_app
from flows.cli.console import Call, command
from flows.cli.copy import copy_app
from flows.cli.data import export_app, ingest_app, sample_data_app
from flows.cli.explore import explore_app
from flows.cli.generate import generate_app
from flows.cli.models import models_app, registry_app
from flows.cli.neighbors import neighbors_app
from flows.cli.neo4j import neo4j_app
from flows.cli.search import search_app
from flows.cli.study import study_app
from flows.cli.tables import TableFormat, write_table

app = typer.Typer(
    name="graph2image",
    help="Images for the nodes of multimodal attributed graphs, from their text and their neighbors.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its import takes as long as all else
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(ingest_app, name="ingest")
app.add_typer(sample_data_app, name="sample-data")
app.add_typer(export_app, name="export")
app.add_typer(neo4j_app, name="neo4j")
app.add_typer(models_app, name="models")
app.add_typer(registry_app)
app.add_typer(backup_app)
app.add_typer(neighbors_app)
app.add_typer(search_app)
app.add_typer(generate_app)
app.add_typer(explore_app)
app.add_typer(study_app)
app.add_typer(copy_app)


@command(app, "demo")
def demo(
    call: Call,
    out: Annotated[Path, typer.Option(help="Folder for all files and report.html.")] = Path("demo"),
) -> None:
    """Run the main job on a synthetic gallery.

    From the files of the gallery to report.html.
    """
    from flows.cli import messages as words
    from flows.demo import run_demo

    call.show(report := run_demo(out), words.demonstrated(report))


@command(app, "embed")
def embed(
    call: Call,
    encoder: Annotated[
        str,
        typer.Option(help="mini, an open_clip name such as ViT-B-32/laion2b_s34b_b79k, or a checkpoint folder."),
    ] = "mini",
    pad: Annotated[bool, typer.Option("--pad", help="Let it see whole images, padded, not their middle.")] = False,
    device: Annotated[str | None, typer.Option(help="A torch device, by default a GPU if there is one.")] = None,
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], typer.Option(help="Of the computation.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, max=65_536, help="Images or texts at a time.")] = 256,
) -> None:
    """Embed the images and texts that have no vector yet."""
    from flows import stages
    from flows.cli import messages as words

    report = stages.embed(call.settings, encoder, pad=pad, device=device, precision=precision, batch_size=batch_size)
    call.show(report, words.embedded(report))


# -- graph -------------------------------------------------------------------------------------------------------------


@command(app, "query")
def query(
    call: Call,
    cypher: Annotated[str, typer.Argument(metavar="CYPHER")],
    output: Annotated[TableFormat, typer.Option("--format", help="To standard output.")] = TableFormat.TABLE,
    limit: Annotated[int, typer.Option(min=1, max=10_000_000, help="Most rows to return.")] = 1000,
    timeout: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds before the query is stopped.")] = 30.0,
) -> None:
    """Ask the graph in Cypher, read-only."""
    from flows import upkeep

    answer = upkeep.query(call.settings, cypher, row_limit=limit, timeout_s=timeout)
    write_table(answer.rows, TableFormat.JSON if call.as_json else output)
    if answer.truncated:
        typer.echo(f"only the first {limit:,} rows; more with --limit", err=True)


@command(app, "optout")
def optout(
    call: Call,
    item_or_entity: Annotated[str, typer.Argument(metavar="ITEM|ENTITY", help="Id of the item or entity.")],
    reason: Annotated[str | None, typer.Option("--reason", help="Why it is withdrawn, for the record.")] = None,
) -> None:
    """Withdraw a work, or all works of an entity.

    Lists the images and models that they touched.
    """
    from dataclasses import asdict

    from flows import upkeep

    call.show_tree(asdict(upkeep.opt_out(call.settings, item_or_entity, reason)))


# -- model -------------------------------------------------------------------------------------------------------------


@command(app, "train")
def train(
    call: Call,
    config: Annotated[str, typer.Argument(help="Configuration file, or a preset: mini, foundation, sd15, sdxl.")],
    samples: Annotated[
        str | None, typer.Option("--neighbors", metavar="DIGEST", help="Neighbor samples, by default the newest.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Encoder of the neighbors' images, by default the samples' own.")
    ] = None,
) -> None:
    """Train a graph-conditioned diffusion model.

    Continues a run that was stopped.
    """
    from flows import stages
    from flows.cli import messages as words

    report = stages.train(call.settings, config, samples, encoder)
    if os.environ.get("RANK", "0") == "0":  # the first of the processes that `accelerate launch` starts
        call.show(report, words.trained(report))


# -- state -------------------------------------------------------------------------------------------------------------


@command(app, "status")
def status(call: Call) -> None:
    """Count what there is.

    Sources, images, vectors, neighbor samples, models, and what is in the graph.
    """
    from flows.status import read_state

    call.show_tree(read_state(call.settings))


@command(app, "deploy")
def deploy(
    call: Call,
    file: Annotated[Path, typer.Argument(help="Settings file of the deployments.")] = Path("deployments.toml"),
    check: Annotated[bool, typer.Option("--check", help="Tell what would change; register nothing.")] = False,
) -> None:
    """Register the scheduled flows with the Prefect server.

    Schedules and parameters are in one settings file, which is checked first.
    """
    from flows.cli import messages
    from flows.deployments.deploy import deploy as register

    call.show(report := register(file, check=check), messages.deployed(report, check=check))


@command(app, "runs")
def runs(
    call: Call,
    last: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many runs to show.")] = 20,
    stage: Annotated[str | None, typer.Option(help="Only runs of this stage, such as ingest or retrain.")] = None,
) -> None:
    """List what the scheduled stages did last, how long they took, and what became slower."""
    from flows.cli import messages
    from flows.runs import list_runs

    call.show(found := list_runs(call.settings, last, stage), messages.runs_listed(found))


@command(app, "verify")
def verify(
    call: Call,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make damaged files again, where what they are made from is there.")
    ] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="With --repair: also train damaged encoders and models again.")
    ] = False,
) -> None:
    """Compare all published files with their digests; name what is damaged, and what makes it again."""
    from flows.cli import messages
    from flows.verify import verify as verify_root

    if retrain and not repair:
        raise typer.BadParameter("--retrain goes with --repair")
    report = verify_root(call.settings, repair_damage=repair, retrain=retrain)
    call.show(report, messages.verified(report))
    if not report.sound:
        raise typer.Exit(1)


@command(app, "doctor")
def doctor(call: Call) -> None:
    """Check this installation, and say what is wrong."""
    from flows.status import examine

    findings = examine(call.settings)
    call.show({"findings": findings}, "\n".join(f"{'ok  ' if f['ok'] else 'FAIL'}  {f['what']}" for f in findings))
    if not all(finding["ok"] for finding in findings):
        raise typer.Exit(1)
