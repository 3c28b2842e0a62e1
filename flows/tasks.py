"""The stages as Prefect tasks.

A task takes and returns paths, ids and counts, never data: Prefect keeps task inputs and results in memory. Nothing is
cached by Prefect either; what is done already is found by the stages themselves, in the Parquet and the graph store.

A task is tried again only after an error that may have passed by then: a lock that is held, a server that cannot be
reached. What a user has to mend fails at once.
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import State, Task, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import TaskRun
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from flows import requests, stages
from flows.report.figures import image_url
from flows.retrain import Retraining
from flows.retrain import retrain as retrain_model
from flows.runs import flatten, recorded
from flows.settings import Settings, load_settings
from flows.timing import Report
from graphstore.sampling.settings import SamplerSettings
from ingest.datasets.lock import writer_lock
from ingest.errors import Graph2ImageError, TransientError, first_line
from ingest.ingestion import AnyIngestion

#: Seconds before the second try of a task, the third, and so on: a store that is written to is free within minutes, a
#: server is back within an hour.
RETRY_DELAYS_S = [10, 60, 300, 1800]
#: Seconds that a flow waits for another one on the same data root to end.
WAIT_S = 6 * 3600
#: Generated images that a run shows.
SHOWN = 4


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


def run_stage(settings: Settings, stage: str, call: Callable[[], Report]) -> Report:
    """Call a stage; keep its row in `runs`, and its counts as a table artifact, to look at in the Prefect server."""
    report = recorded(settings, str(flow_run.get_id() or ""), stage, call)
    rows = [{"count": name, "value": str(value)} for name, value in flatten(asdict(report)).items()]  # type: ignore[call-overload]  # every report is a dataclass
    create_table_artifact(table=rows, key=stage)
    return report


@contextmanager
def only_flow(data: str | None, store: str | None) -> Iterator[Settings]:
    """The settings, while no other flow runs on this data root.

    Raises
    ------
    TransientError
        If another one has not ended after `WAIT_S`; it names the process.
    """
    settings = load_settings(data=data, store=store)
    with writer_lock(settings.data_root, "flow", wait_seconds=WAIT_S):
        yield settings


@task(task_run_name="ingest {ingestion.source}", **_STAGE)
def ingest(settings: Settings, ingestion: AnyIngestion) -> str:
    """Ingest the files of a source; returns its name."""
    outcome = run_stage(settings, "ingest", lambda: stages.ingest(settings, ingestion))
    report = outcome.ingest
    if report.rejected or report.missing_images:
        data = settings.data_root
        rows = [
            {"reason": reason, "rows": rows} for reason, rows in {**report.rejected, **report.missing_images}.items()
        ]
        create_table_artifact(
            table=rows,
            key=re.sub("[^a-z0-9]+", "-", f"rejects-{report.source}".lower()),
            description=f"Each row, with what is wrong with it: {data.path('rejects', report.source)}, "
            f"{data.path('missing-images', report.source)}",
        )
    return report.source


@task(task_run_name="embed with {encoder}", **_STAGE)
def embed(settings: Settings, encoder: str) -> str:
    """Embed what is new; returns the encoder's id."""
    return run_stage(settings, "embed", lambda: stages.embed(settings, encoder)).encoder


@task(**_STAGE)
def sample(settings: Settings, encoder: str) -> str:
    """Sample neighbors for every item; returns the digest that names the dataset."""
    return run_stage(settings, "sample", lambda: stages.sample(settings, SamplerSettings(encoder=encoder))).digest


@task(task_run_name="train {config}", **_STAGE)
def train(settings: Settings, config: Path, neighbors: str | None) -> str:
    """Train a model; returns its id."""
    return run_stage(settings, "train", lambda: stages.train(settings, config, neighbors)).model_id


@task(task_run_name="retrain {retraining.config}", **_STAGE)
def retrain(settings: Settings, retraining: Retraining, encoder: str | None = None) -> str:
    """Train a candidate if enough has changed, and promote it if it is better; returns what was decided."""
    sampler = None if encoder is None else SamplerSettings(encoder=encoder)
    report = run_stage(settings, "retrain", lambda: retrain_model(settings, retraining, sampler))
    create_markdown_artifact(report.markdown, key="retrain-decision")
    return report.decision


@task(task_run_name="generate {limit} of {split}", **_STAGE)
def generate(settings: Settings, model_id: str, split: str, limit: int) -> int:
    """Generate an image for items of a split; returns how many are new."""
    wanted = requests.for_split(settings, model_id, split, limit)
    outcome = run_stage(
        settings,
        "generate",
        lambda: stages.generate(
            settings, model_id, wanted.requests, stages.generation_settings(settings, model_id), wanted.notes
        ),
    )
    data = settings.data_root
    shown = outcome.generate.generated_ids[:SHOWN]
    for number, generated_id in enumerate(shown, 1):
        image = data.read_bytes(f"generated/{model_id}/{generated_id}.png")
        create_image_artifact(image_url(image), key=f"sample-{number}", description=generated_id)
    return outcome.generate.new
