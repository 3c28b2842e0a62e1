"""Flow: ingest → embed → sample.

Run it with `python -m flows.prepare SOURCE FILES… --place DIR`; with `PREFECT_API_URL` set, the run shows in that
server, and `--cron` leaves a process that runs it on a schedule.
"""

from pathlib import Path
from typing import Annotated

import typer
from prefect import flow

from flows import tasks
from flows.settings import load_settings
from ingest.ingestion import Ingestion


@flow
def prepare(ingestion: Ingestion, encoder: str = "mini", data: str | None = None, store: str | None = None) -> str:
    """From source files to neighbor samples; returns the digest that names the samples."""
    settings = load_settings(data=data, store=store)
    tasks.ingest(settings, ingestion)
    return tasks.sample(settings, tasks.embed(settings, encoder))


def main(
    source: Annotated[str, typer.Argument(help="art500k, amazon, goodreads, instructg2i or table.")],
    files: Annotated[
        list[str], typer.Argument(help="Files or patterns; the spec of a table; a folder of instructg2i.")
    ],
    place: Annotated[Path | None, typer.Option(help="Where images are; for a table, its root.")] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch the images from their addresses.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove the items that the files no longer have.")] = False,
    encoder: str = "mini",
    data: str | None = None,
    store: str | None = None,
    cron: Annotated[str | None, typer.Option(help='Stay, and run at these times, such as "0 3 * * *".')] = None,
) -> None:
    """Ingest source files, embed images and texts, sample neighbors."""
    ingestion = Ingestion.model_validate(
        {"source": source, "files": files, "place": place, "fetch": fetch, "prune": prune}
    )
    if cron is None:
        print(prepare(ingestion, encoder, data, store))
    else:
        parameters = {"ingestion": ingestion.model_dump(mode="json"), "encoder": encoder, "data": data, "store": store}
        prepare.serve(name=f"prepare-{source}", cron=cron, parameters=parameters)


if __name__ == "__main__":
    typer.run(main)
