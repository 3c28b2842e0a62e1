"""Flow: ingest → embed → sample.

Run it with `python -m flows.prepare SPEC.toml --root DIR`; with `PREFECT_API_URL` set, the run shows in that server.
"""

from pathlib import Path
from typing import Annotated

import typer
from prefect import flow

from flows import tasks
from flows.settings import load_settings


@flow
def prepare(spec: Path, root: Path, encoder: str = "mini", data: str | None = None, store: str | None = None) -> str:
    """From source files to neighbor samples; returns the digest that names the samples."""
    settings = load_settings(data=data, store=store)
    tasks.ingest_table(settings, spec, root)
    return tasks.sample(settings, tasks.embed(settings, encoder))


def main(
    spec: Path,
    root: Annotated[Path, typer.Option(help="Folder that the paths in SPEC are relative to.")],
    encoder: str = "mini",
    data: str | None = None,
    store: str | None = None,
) -> None:
    """Ingest a table, embed its pictures and texts, sample neighbors."""
    print(prepare(spec, root, encoder, data, store))


if __name__ == "__main__":
    typer.run(main)
