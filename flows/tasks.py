"""The stages as Prefect tasks.

A task takes and returns paths, ids and counts, never data: Prefect keeps task inputs and results in memory. Nothing is
cached by Prefect either; what is done already is found by the stages themselves, in the Parquet and the graph store.

A task is tried again only after an error that may have passed by then: a lock that is held, a server that cannot be
reached. What a user has to mend fails at once.
"""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import State, Task, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import TaskRun
from prefect.settings import PREFECT_API_URL

from flows import requests, stages
from flows.settings import Settings
from graphstore.sampling.settings import SamplerSettings
from ingest.errors import Graph2ImageError, TransientError, first_line
from ingest.ingestion import AnyIngestion

#: Seconds before the second try of a task, the third, and so on: a store that is written to is free within minutes, a
#: server is back within an hour.
RETRY_DELAYS_S = [10, 60, 300, 1800]


def may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task is worth another try."""
    return isinstance(state.data, TransientError | ConnectionError | TimeoutError)


#: How every task is called.
_STAGE: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": len(RETRY_DELAYS_S),
    "retry_delay_seconds": RETRY_DELAYS_S,
    "retry_jitter_factor": 0.3,
    "retry_condition_fn": may_pass,
}


def _without_traceback(record: logging.LogRecord) -> bool:
    """What a user is to mend is told in its message; where in the code it was noticed helps nobody."""
    if record.exc_info and isinstance(record.exc_info[1], Graph2ImageError):
        record.exc_info = None
    return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_without_traceback)


def check_server(*, needed: bool) -> None:
    """See that there is a Prefect server, before any work.

    Raises
    ------
    Graph2ImageError
        If one is `needed`, and none is named.
    TransientError
        If the server that is named does not answer.
    """
    api = PREFECT_API_URL.value()
    if api is None:
        if needed:
            raise Graph2ImageError(
                "a schedule needs a Prefect server, and none is named",
                "Start one with `prefect server start`, and set PREFECT_API_URL=http://127.0.0.1:4200/api.",
            )
        return
    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
    if problem is not None:
        raise TransientError(
            f"the Prefect server {api} does not answer: {first_line(problem)}", "Start it, or correct PREFECT_API_URL."
        )


def record_counts(key: str, report: Any) -> None:
    """Keep the counts of a stage as a table artifact, to look at in the Prefect server."""
    rows = [{"count": name, "value": str(value)} for name, value in _flatten(asdict(report))]
    create_table_artifact(table=rows, key=key)


def _flatten(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, part in value.items():
        rows += _flatten(part, f"{prefix}{name}.") if isinstance(part, dict) else [(prefix + name, part)]
    return rows


@task(**_STAGE)
def ingest(settings: Settings, ingestion: AnyIngestion) -> str:
    """Ingest the files of a source; returns its name."""
    outcome = stages.ingest(settings, ingestion)
    record_counts("ingest", outcome)
    return outcome.ingest.source


@task(**_STAGE)
def embed(settings: Settings, encoder: str) -> str:
    """Embed what is new; returns the encoder's id."""
    report = stages.embed(settings, encoder)
    record_counts("embed", report)
    return report.encoder


@task(**_STAGE)
def sample(settings: Settings, encoder: str) -> str:
    """Sample neighbors for every item; returns the digest that names the dataset."""
    report = stages.sample(settings, SamplerSettings(encoder=encoder))
    record_counts("sample", report)
    return report.digest


@task(**_STAGE)
def train(settings: Settings, config: Path, neighbors: str | None) -> str:
    """Train a model; returns its id."""
    report = stages.train(settings, config, neighbors)
    record_counts("train", report)
    return report.model_id


@task(**_STAGE)
def generate(settings: Settings, model_id: str, split: str, limit: int) -> int:
    """Generate an image for items of a split; returns how many are new."""
    wanted = requests.for_split(settings, model_id, split, limit)
    outcome = stages.generate(
        settings, model_id, wanted.requests, stages.generation_settings(settings, model_id), wanted.notes
    )
    record_counts("generate", outcome)
    return outcome.generate.new
