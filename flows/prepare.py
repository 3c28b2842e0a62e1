"""Flow: ingest → embed → sample.

Run it with `python -m flows.prepare SOURCE FILES… --images DIR`, with the options of `graph2image ingest`; with
`PREFECT_API_URL` set, the run shows in that server, and `--cron` leaves a process that runs it on a schedule.
"""

from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from prefect import flow
from prefect.schedules import Cron, Schedule
from tzlocal import get_localzone_name

from flows import tasks
from flows.cli.console import Call
from flows.cli.failures import run
from flows.cli.ingestions import ingestion_commands
from ingest.errors import Graph2ImageError, first_line
from ingest.ingestion import AnyIngestion


@flow
def prepare(ingestion: AnyIngestion, encoder: str = "mini", data: str | None = None, store: str | None = None) -> str:
    """From source files to neighbor samples; returns the digest that names the samples."""
    with tasks.only_flow(data, store) as settings:
        tasks.ingest(settings, ingestion)
        return tasks.sample(settings, tasks.embed(settings, encoder))


app = typer.Typer(
    help="Ingest source files, embed images and texts, sample neighbors.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _prepare(
    call: Call,
    ingestion: AnyIngestion,
    encoder: Annotated[
        str, typer.Option(help="Encoder of images and texts, as `graph2image embed` takes it.")
    ] = "mini",
    cron: Annotated[str | None, typer.Option(help='Stay, and run at these times, such as "0 3 * * *".')] = None,
    timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Zone of --cron, such as Asia/Tokyo; by default the machine's.")
    ] = None,
) -> None:
    settings = call.settings
    if timezone is not None and cron is None:
        raise typer.BadParameter("--timezone goes with --cron")
    schedule = None if cron is None else _schedule(cron, timezone)
    tasks.check_server(needed=schedule is not None)
    if schedule is None:
        digest = prepare(ingestion, encoder, settings.data, settings.store)
        call.show({"neighbors": digest}, f"neighbors/{digest}")
        return
    name = f"prepare-{ingestion.source}"
    typer.echo(f'{name} runs at "{schedule.cron}" in the time zone {schedule.timezone}, as long as this process does.')
    prepare.serve(
        name=name,
        schedule=schedule,
        parameters={
            "ingestion": ingestion.model_dump(mode="json"),
            "encoder": encoder,
            "data": settings.data,
            "store": settings.store,
        },
        print_starting_message=False,
    )


def _schedule(cron: str, timezone: str | None) -> Schedule:
    zone = timezone or get_localzone_name()
    try:
        ZoneInfo(zone)
    except (ValueError, KeyError, OSError) as error:
        raise Graph2ImageError(f"there is no time zone {zone!r}", "Zones are called as Europe/Paris or UTC.") from error
    try:
        return Cron(cron, timezone=zone)
    except ValueError as error:
        raise Graph2ImageError(
            f"{cron!r} is no cron text: {first_line(error)}",
            'Give minute, hour, day, month and day of the week, such as "0 3 * * *".',
        ) from error


ingestion_commands(app, _prepare)


if __name__ == "__main__":
    run("__main__", "python -m flows.prepare")
