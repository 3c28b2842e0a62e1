"""The flows in a real Prefect server: they run, show their task runs, try again what may pass, and leave the counts."""

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import TaskRun
from prefect.settings import PREFECT_API_URL

from flows import tasks
from flows.prepare import prepare
from flows.produce import produce
from flows.settings import Settings
from ingest.errors import Graph2ImageError
from ingest.ingestion import Table

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


def test_prepare_then_produce(shop: Path, tiny_config: Path, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    ingestion = Table(spec=shop / "shop.toml", root=shop)
    digest = prepare(ingestion, data=data)
    assert (tmp_path / "data" / "neighbors" / digest / "_snapshot.json").exists()
    model_id = produce(tiny_config, limit=4, data=data)
    assert len(list((tmp_path / "data" / "generated" / model_id).glob("*.png"))) == 4

    with get_client(sync_client=True) as client:
        artifacts = {artifact.key for artifact in client.read_artifacts()}
    runs = [*task_runs("prepare"), *task_runs("produce")]
    names = ["ingest table", "embed with mini", "sample", f"train {tiny_config}", "generate 4 of test"]
    assert all(any(run.name.startswith(name) for run in runs) for name in names)
    assert all(run.state is not None and run.state.is_completed() for run in runs)
    assert {"ingest", "embed", "sample", "train", "generate"} <= artifacts

    assert prepare(ingestion, data=data) == digest


# -- trying again -----------------------------------------------------------------------------------------------------


def task_runs(flow_name: str) -> list[TaskRun]:
    """The task runs of all runs of a flow, the oldest first."""
    with get_client(sync_client=True) as client:
        flows = {flow.id for flow in client.read_flows() if flow.name == flow_name}
        runs = {run.id for run in client.read_flow_runs() if run.flow_id in flows}
        return [run for run in client.read_task_runs() if run.flow_run_id in runs]


def wait_until(happens: Callable[[], bool]) -> None:
    while not happens():
        time.sleep(0.2)


HOLDS_THE_STORE = """
import sys
from flows.settings import Settings
with Settings(data=sys.argv[1]).open_store():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_store_that_is_locked_is_tried_again(shop: Path, tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path / "data"))

    @flow(name="locked")
    def ingest_locked() -> str:
        return tasks.ingest.with_options(retry_delay_seconds=1)(settings, Table(spec=shop / "shop.toml", root=shop))

    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_STORE, settings.data],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"

        def release_after_the_first_try() -> None:
            wait_until(
                lambda: any(run.run_count > 1 or run.state_name == "AwaitingRetry" for run in task_runs("locked"))
            )
            holder.communicate()

        watcher = threading.Thread(target=release_after_the_first_try)
        watcher.start()
        assert ingest_locked() == "shop"
        watcher.join()
    (run,) = task_runs("locked")
    assert run.run_count > 1


def test_what_a_user_has_to_mend_is_not_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @flow(name="mistaken")
    def ingest_nothing() -> None:
        tasks.ingest(Settings(data=str(tmp_path)), Table(spec=tmp_path / "nothing.toml"))

    with caplog.at_level(logging.ERROR), pytest.raises(Graph2ImageError, match=r"nothing\.toml"):
        ingest_nothing()
    (run,) = task_runs("mistaken")
    assert run.run_count == 1
    assert run.state is not None
    assert run.state.is_failed()
    assert "Traceback" not in caplog.text


# -- the entry points -------------------------------------------------------------------------------------------------


def call(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], env=_environment(**environment),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def _environment(**changes: str) -> dict[str, str]:
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return os.environ | path | {"PREFECT_API_URL": str(PREFECT_API_URL.value())} | changes


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        ("flows.prepare", ["amazon", "nothing.json.gz"], "there is no file nothing.json.gz"),
        ("flows.prepare", ["amazon", "a", "--cron", "every night"], "'every night' is no cron text"),
        (
            "flows.prepare",
            ["amazon", "a", "--cron", "0 3 * * *", "--timezone", "Mars/Base"],
            "no time zone 'Mars/Base'",
        ),
        ("flows.produce", ["nothing.toml"], "nothing.toml"),
    ],
)
def test_a_mistake_is_told_in_two_lines(module: str, arguments: list[str], says: str, tmp_path: Path) -> None:
    done = call(module, *arguments, "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    # Log lines begin with the time: what Prefect says of its runs.
    errors = [line for line in done.stderr.splitlines() if not re.match(r"\d\d:\d\d:\d\d", line)]
    assert len(errors) <= 2
    assert says in errors[0]
    assert "Traceback" not in done.stderr


def test_a_schedule_without_a_server_is_one_clear_line(tmp_path: Path) -> None:
    arguments = ("amazon", "a", "--cron", "0 3 * * *", "--data", str(tmp_path))
    alone = {name: value for name, value in _environment().items() if name != "PREFECT_API_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.prepare", *arguments], env=alone, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        "a schedule needs a Prefect server, and none is named",
    )
    done = call("flows.prepare", *arguments, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1
    assert "http://127.0.0.1:9/api does not answer" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "zone"), [((), "Asia/Tokyo"), (("--timezone", "America/New_York"), "America/New_York")]
)
def test_a_schedule_is_in_the_zone_of_the_machine_or_the_one_given(
    options: tuple[str, ...], zone: str, tmp_path: Path
) -> None:
    arguments = ("goodreads", "a", "--data", str(tmp_path), "--cron", "0 3 * * *", *options)
    with subprocess.Popen(
        [sys.executable, "-m", "flows.prepare", *arguments],
        env=_environment(TZ="Asia/Tokyo"),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert zone in process.stdout.readline()
        found: list[Any] = []

        def scheduled() -> bool:
            with get_client(sync_client=True) as client:
                found[:] = [
                    schedule.schedule
                    for deployment in client.read_deployments()
                    if deployment.name == "prepare-goodreads"
                    for schedule in deployment.schedules
                    if schedule.schedule.timezone == zone
                ]
            return bool(found) or process.poll() is not None

        wait_until(scheduled)
        process.terminate()
    assert [(schedule.cron, schedule.timezone) for schedule in found] == [("0 3 * * *", zone)]
