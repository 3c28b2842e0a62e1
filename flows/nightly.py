"""The flows of a platform that runs unattended: one per step, and `nightly`, which is all of them in order.

Each is a list of calls to the tasks of `flows.tasks`, which call the stages. What is done already is found, so that a
run that died is simply run again. One flow at a time runs on a data root, whatever started it: the others wait.
"""

from __future__ import annotations

import logging
from typing import Literal

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from flows import stages, tasks
from flows.retrain import Retraining
from ingest.errors import Graph2ImageError, TransientError
from ingest.ingestion import Amazon, AnyIngestion, Art500k, Goodreads, InstructG2I, Table

log = logging.getLogger(__name__)

HOUR = 3600


class Batch(BaseModel):
    """Which items get an image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Literal["train", "val", "test"] = Field("test", description="Split of the items.")
    limit: int = Field(64, ge=0, le=1_000_000_000, description="Number of items, at most; 0 makes no images.")


# -- one per source ----------------------------------------------------------------------------------------------------


@flow(flow_run_name="ingest art500k", timeout_seconds=24 * HOUR)
def ingest_art500k(ingestion: Art500k, data: str | None = None, store: str | None = None) -> str:
    """ART500K's label files and images, into Parquet and the graph."""
    with tasks.only_flow(data, store) as settings:
        return tasks.ingest(settings, ingestion)


@flow(flow_run_name="ingest amazon", timeout_seconds=24 * HOUR)
def ingest_amazon(ingestion: Amazon, data: str | None = None, store: str | None = None) -> str:
    """Amazon product metadata, into Parquet and the graph."""
    with tasks.only_flow(data, store) as settings:
        return tasks.ingest(settings, ingestion)


@flow(flow_run_name="ingest goodreads", timeout_seconds=24 * HOUR)
def ingest_goodreads(ingestion: Goodreads, data: str | None = None, store: str | None = None) -> str:
    """The Goodreads book graph, into Parquet and the graph."""
    with tasks.only_flow(data, store) as settings:
        return tasks.ingest(settings, ingestion)


@flow(flow_run_name="ingest instructg2i", timeout_seconds=24 * HOUR)
def ingest_instructg2i(ingestion: InstructG2I, data: str | None = None, store: str | None = None) -> str:
    """A data set in InstructG2I's layout, into Parquet and the graph."""
    with tasks.only_flow(data, store) as settings:
        return tasks.ingest(settings, ingestion)


@flow(flow_run_name="ingest the table of {ingestion.spec}", timeout_seconds=24 * HOUR)
def ingest_table(ingestion: Table, data: str | None = None, store: str | None = None) -> str:
    """Your table with images, into Parquet and the graph."""
    with tasks.only_flow(data, store) as settings:
        return tasks.ingest(settings, ingestion)


# -- one per step ------------------------------------------------------------------------------------------------------


@flow(flow_run_name="refresh with {encoder}", timeout_seconds=24 * HOUR)
def refresh(encoder: str = "mini", data: str | None = None, store: str | None = None) -> str:
    """Embeddings for the images and texts that are new; returns the encoder's id."""
    with tasks.only_flow(data, store) as settings:
        return tasks.embed(settings, encoder)


@flow(flow_run_name="sample", timeout_seconds=24 * HOUR)
def sample(encoder: str | None = None, data: str | None = None, store: str | None = None) -> str:
    """Neighbor samples of every item, by the newest encoder or a named one; returns the digest that names them."""
    with tasks.only_flow(data, store) as settings:
        return tasks.sample(settings, encoder or stages.newest(settings, "encoders"))


@flow(flow_run_name="retrain {retraining.config}", timeout_seconds=7 * 24 * HOUR)
def retrain(retraining: Retraining = Retraining(), data: str | None = None, store: str | None = None) -> str:  # noqa: B008
    """Train a candidate if enough has changed, and promote it if it is better; returns what was decided."""
    with tasks.only_flow(data, store) as settings:
        return tasks.retrain(settings, retraining)


@flow(flow_run_name="generate {batch.limit} of {batch.split}", timeout_seconds=24 * HOUR)
def generate_batch(batch: Batch = Batch(), data: str | None = None, store: str | None = None) -> int:  # noqa: B008
    """Images by the promoted model for items of a split; returns how many are new."""
    with tasks.only_flow(data, store) as settings:
        return tasks.generate(settings, stages.default_model(settings), batch.split, batch.limit)


@flow(flow_run_name="nightly: {retraining.config}", timeout_seconds=8 * 24 * HOUR)
def nightly(
    ingestions: list[AnyIngestion] = [],  # noqa: B006
    encoder: str = "mini",
    retraining: Retraining = Retraining(),  # noqa: B008
    batch: Batch = Batch(),  # noqa: B008
    data: str | None = None,
    store: str | None = None,
) -> str:
    """All of it in order: ingest every source, embed, retrain if it is time, generate; returns what was decided.

    A source with a mistake in it does not keep the others from being ingested, nor the models up to date; the run
    fails at the end, with that mistake.
    """
    with tasks.only_flow(data, store) as settings:
        failed: list[Graph2ImageError] = []
        for ingestion in ingestions:
            try:
                tasks.ingest(settings, ingestion)
            except TransientError:
                raise
            except Graph2ImageError as error:
                log.warning("%s was not ingested: %s", ingestion.source, error.message)
                failed.append(error)
        embedded = tasks.embed(settings, encoder)
        decision = tasks.retrain(settings, retraining, embedded)
        if batch.limit:
            tasks.generate(settings, stages.default_model(settings), batch.split, batch.limit)
    if failed:
        raise failed[0]
    return decision
