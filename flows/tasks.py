"""The stages as Prefect tasks.

A task takes and returns paths, ids and counts, never data: Prefect keeps task inputs and results in memory. Nothing is
cached by Prefect either; what is done already is found by the stages themselves, in the Parquet and the graph store.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

# A local run without a Prefect server starts one of its own; on a busy machine that takes longer than Prefect waits.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
# What the stages log shows with the task run.
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "ingest,graphstore,model,flows")

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows import requests, stages
from flows.settings import Settings
from graphstore.sampling.settings import SamplerSettings
from ingest.ingestion import Ingestion
from model.generation.requests import GenerationSettings
from model.training.config import load_train_config


def record_counts(key: str, report: Any) -> None:
    """Keep the counts of a stage as a table artifact, to look at in the Prefect server."""
    rows = [{"count": name, "value": str(value)} for name, value in _flatten(asdict(report))]
    create_table_artifact(table=rows, key=key)


def _flatten(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, part in value.items():
        rows += _flatten(part, f"{prefix}{name}.") if isinstance(part, dict) else [(prefix + name, part)]
    return rows


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=10)
def ingest(settings: Settings, ingestion: Ingestion) -> str:
    """Ingest the files of a source; returns its name."""
    outcome = stages.ingest(settings, ingestion)
    record_counts("ingest", outcome)
    return outcome.ingest.source


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=10)
def embed(settings: Settings, encoder: str) -> str:
    """Embed what is new; returns the encoder's id."""
    report = stages.embed(settings, encoder)
    record_counts("embed", report)
    return report.encoder


@task(cache_policy=NO_CACHE)
def sample(settings: Settings, encoder: str) -> str:
    """Sample neighbors for every item; returns the digest that names the dataset."""
    report = stages.sample(settings, SamplerSettings(encoder=encoder))
    record_counts("sample", report)
    return report.digest


@task(cache_policy=NO_CACHE)
def train(settings: Settings, config: Path, neighbors: str | None) -> str:
    """Train a model; returns its id."""
    report = stages.train(settings, load_train_config(config), neighbors)
    record_counts("train", report)
    return report.model_id


@task(cache_policy=NO_CACHE)
def generate(settings: Settings, model_id: str, split: str, limit: int) -> int:
    """Generate an image for items of a split; returns how many are new."""
    wanted = requests.for_split(settings, model_id, split, limit)
    outcome = stages.generate(settings, model_id, wanted.requests, GenerationSettings(), wanted.notes)
    record_counts("generate", outcome)
    return outcome.generate.new
