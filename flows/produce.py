"""Flow: train → generate.

Run it with `python -m flows.produce CONFIG.toml`; with `PREFECT_API_URL` set, the run shows in that server.
"""

from pathlib import Path

import typer
from prefect import flow

from flows import tasks
from flows.settings import load_settings


@flow
def produce(
    config: Path,
    neighbors: str | None = None,
    split: str = "test",
    limit: int = 64,
    data: str | None = None,
    store: str | None = None,
) -> str:
    """From neighbor samples (by default the newest) to generated images with lineage; returns the model's id."""
    settings = load_settings(data=data, store=store)
    model_id = tasks.train(settings, config, neighbors)
    tasks.generate(settings, model_id, split, limit)
    return model_id


def main(
    config: Path,
    neighbors: str | None = None,
    split: str = "test",
    limit: int = 64,
    data: str | None = None,
    store: str | None = None,
) -> None:
    """Train a model, then generate images for items of one split."""
    print(produce(config, neighbors, split, limit, data, store))


if __name__ == "__main__":
    typer.run(main)
