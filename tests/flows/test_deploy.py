"""`deploy`: a settings file is checked, compared with the server, and registered; a real worker runs what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.server.utilities.user_templates import render_user_template_sync
from prefect.settings import PREFECT_API_URL
from typer.testing import Result

from flows.deployments.deploy import AUTOMATION, PAYLOAD
from flows.deployments.settings import read_deployments
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

Command = Callable[..., Result]

SETTINGS = """
pool = "{pool}"
data = "{data}"
webhook = "http://127.0.0.1:9/hook"
[deployment.shop]
flow = "ingest_table"
cron = "{cron}"
timezone = "Europe/Paris"
[deployment.shop.parameters.ingestion]
source = "table"
spec = "shop.toml"
root = "."
[deployment.nightly]
flow = "nightly"
[deployment.nightly.parameters]
retraining = {{ config = "mini", gate = {{ items = 8 }} }}
"""


@pytest.mark.parametrize("message", ["plain", 'file "a\\b.csv":\nrow 3', None])
def test_a_webhook_is_sent_json_whatever_failed(message: str | None) -> None:
    run = {"name": "ingest shop", "state": {"name": "Failed", "message": message}}
    sent = json.loads(render_user_template_sync(PAYLOAD, {"flow_run": run}))
    assert sent == {"run": "ingest shop", "state": "Failed", "message": message}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('flow = "nightly"', 'flow = "nightmare"'), "there is no flow 'nightmare'"),
        (('cron = "{cron}"', 'cron = "each night"'), "'each night' is no cron text"),
        (("Europe/Paris", "Mars/Base"), "there is no time zone 'Mars/Base'"),
        (("items = 8", "items = 0"), "deployment.nightly.parameters"),
        (('spec = "shop.toml"', 'speck = "shop.toml"'), "deployment.shop.parameters"),
        (('config = "mini"', 'confik = "mini"'), "deployment.nightly.parameters"),
        (("pool = ", "pools = "), "pools: unknown key"),
        (("[deployment.shop]", "[deployment.shop"), "cannot read"),
    ],
)
def test_mistakes_in_the_file_are_told(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = SETTINGS.replace(*change).format(pool="p", data=tmp_path, cron="0 3 * * *")
    (tmp_path / "deployments.toml").write_text(text)
    with pytest.raises(Graph2ImageError, match=said):
        read_deployments(tmp_path / "deployments.toml")


@pytest.mark.usefixtures("prefect_server")
def test_what_is_deployed_is_run_by_a_worker(shop: Path, tmp_path: Path, graph2image: Command) -> None:
    data = tmp_path / "data"
    file = shop / "deployments.toml"

    def deploy(*options: str, cron: str = "0 3 * * *") -> dict[str, object]:
        file.write_text(SETTINGS.format(pool="unattended", data=data, cron=cron))
        result = graph2image("deploy", str(file), "--json", *options, data=data)
        assert result.exit_code == 0, result.output
        told: dict[str, object] = json.loads(result.stdout)
        return told

    told = deploy("--check")
    assert (told["changes"], told["pool_is_new"], told["changed"]) == ({"shop": "new", "nightly": "new"}, True, False)
    with get_client(sync_client=True) as client:
        assert not [one for one in client.read_deployments() if one.name == "shop"]
    assert deploy()["changed"]
    told = deploy()
    assert (told["changes"], told["pool_is_new"], told["changed"]) == (
        {"shop": "unchanged", "nightly": "unchanged"},
        False,
        False,
    )
    assert deploy("--check", cron="0 4 * * *")["changes"] == {"shop": "changed: cron", "nightly": "unchanged"}
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("ingest-table/shop")
        assert found.schedules[0].schedule.timezone == "Europe/Paris"
        assert found.global_concurrency_limit is not None
        assert found.global_concurrency_limit.limit == 1
        first, second = (client.create_flow_run_from_deployment(found.id) for _ in range(2))  # two at once
        worker = ["-m", "prefect", "worker", "start", "--pool", "unattended", "--type", "process"]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PREFECT_API_URL": str(PREFECT_API_URL.value()),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        with subprocess.Popen(
            [sys.executable, *worker, "--install-policy", "never"], env=environment, cwd=tmp_path,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            deadline = time.monotonic() + 400
            while time.monotonic() < deadline:
                runs = [client.read_flow_run(run.id) for run in (first, second)]
                if all(run.state is not None and run.state.is_final() for run in runs):
                    break
                time.sleep(0.5)
            process.terminate()
    assert [run.state_name for run in runs] == ["Completed", "Completed"]
    begun, ended = zip(*((run.start_time, run.end_time) for run in runs), strict=True)
    assert max(begun) >= min(ended), "two runs of one deployment at once"
    assert DataRoot(str(data)).read("items/shop").num_rows == 40
    assert sorted(DataRoot(str(data)).read("runs")["outcome"].to_pylist()) == ["changed", "unchanged"]
    assert Automation.read(name=AUTOMATION).enabled
