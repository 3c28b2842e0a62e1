"""Flow: ingest → embed → sample.

Run it with `python -m flows.prepare SOURCE FILES… --images DIR`, with the options of `graph2image ingest`; with
`PREFECT_API_URL` set, the run shows in that server, and `--cron` leaves a process that runs it on a schedule.
"""

from typing import Annotated

import typer
from prefect import flow

from flows import tasks
from flows.cli.console import Call
from flows.cli.ingestions import ingestion_commands
from flows.settings import load_settings
from ingest.ingestion import AnyIngestion


@flow
def prepare(ingestion: AnyIngestion, encoder: str = "mini", data: str | None = None, store: str | None = None) -> str:
    """From source files to neighbor samples; returns the digest that names the samples."""
    settings = load_settings(data=data, store=store)
    tasks.ingest(settings, ingestion)
    return tasks.sample(settings, tasks.embed(settings, encoder))


app = typer.Typer(
    help="Ingest source files, embed images and texts, sample neighbors.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _prepare(
    call: Call,
    ingestion: AnyIngestion,
    encoder: Annotated[
        str, typer.Option(help="Encoder of images and texts, as `graph2image embed` takes it.")
    ] = "mini",
    cron: Annotated[str | None, typer.Option(help='Stay, and run at these times, such as "0 3 * * *".')] = None,
) -> None:
    settings = call.settings
    if cron is None:
        digest = prepare(ingestion, encoder, settings.data, settings.store)
        call.show({"neighbors": digest}, digest)
        return
    parameters = {
        "ingestion": ingestion.model_dump(mode="json"),
        "encoder": encoder,
        "data": settings.data,
        "store": settings.store,
    }
    prepare.serve(name=f"prepare-{ingestion.source}", cron=cron, parameters=parameters)


ingestion_commands(app, _prepare)


if __name__ == "__main__":
    app()
