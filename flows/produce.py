"""Flow: train → generate.

Run it with `python -m flows.produce CONFIG.toml`; with `PREFECT_API_URL` set, the run shows in that server.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from prefect import flow

from flows import tasks
from flows.cli.console import Call, command
from flows.cli.failures import run


@flow
def produce(
    config: Path,
    neighbors: str | None = None,
    split: Literal["train", "val", "test"] = "test",
    limit: int = 64,
    data: str | None = None,
    store: str | None = None,
) -> str:
    """From neighbor samples (by default the newest) to generated images with lineage; returns the model's id."""
    with tasks.only_flow(data, store) as settings:
        model_id = tasks.train(settings, config, neighbors)
        tasks.generate(settings, model_id, split, limit)
        return model_id


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@command(app, "produce")
def _produce(
    call: Call,
    config: Annotated[Path, typer.Argument(help="Configuration file, or a preset: mini, sd15, sdxl.")],
    neighbors: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="Neighbor samples, by default the newest.")
    ] = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Split whose items get an image.")] = "test",
    limit: Annotated[int, typer.Option(min=1, help="Items to make an image for, at most.")] = 64,
) -> None:
    """Train a model, then generate images for items of one split."""
    tasks.check_server(needed=False)
    model_id = produce(config, neighbors, split, limit, call.settings.data, call.settings.store)
    call.show({"model": model_id}, model_id)


if __name__ == "__main__":
    run("__main__", "python -m flows.produce")
