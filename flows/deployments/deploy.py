"""Registering the deployments of a settings file with the Prefect server, and telling before what that would change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson
from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.types.entrypoint import EntrypointType

from flows import tasks
from flows.deployments.settings import FLOWS, DeploymentSettings, read_deployments

#: Tells our deployments from others in the server.
TAG = "graph2image"
AUTOMATION = "graph2image-failed-or-late"
#: What the webhook is sent, as JSON whatever is in a message.
PAYLOAD = (
    '{"run": {{ flow_run.name | tojson }}, "state": {{ flow_run.state.name | tojson }}, '
    '"message": {{ flow_run.state.message | tojson }}}'
)
_EVENTS = {f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut", "Late")}


@dataclass(frozen=True)
class DeployReport:
    """What is, or would be, registered.

    Attributes
    ----------
    changes
        By deployment: `new`, `unchanged`, or what differs from what is registered.
    others
        Deployments of ours that the file does not name; they are left alone.
    """

    file: str
    pool: str
    pool_is_new: bool
    changes: dict[str, str]
    others: tuple[str, ...]
    changed: bool


def deploy(file: Path, *, check: bool = False) -> DeployReport:
    """Register every deployment of a settings file; `check` only tells what would change.

    A deployment runs once at a time: a run that comes meanwhile waits.

    Raises
    ------
    Graph2ImageError
        If anything in the file is wrong, or no server is named.
    TransientError
        If the server does not answer.
    """
    settings = read_deployments(file)
    tasks.check_server(needed=True)
    folder = settings.working_dir or file.resolve().parent
    with get_client(sync_client=True) as client:
        pool_is_new = _pool_is_new(client, settings.pool)
        wanted = {name: _wanted(settings, name, folder) for name in settings.deployment}
        there = {deployment.name: deployment for deployment in client.read_deployments() if TAG in deployment.tags}
        changes = {name: _difference(there.get(name), values) for name, values in wanted.items()}
        if not check and pool_is_new:
            client.create_work_pool(WorkPoolCreate(name=settings.pool, type="process"))
    if not check:
        for name, change in changes.items():
            if change != "unchanged":
                _register(settings, name, wanted[name])
        _tell_of_failures(settings)
    changed = pool_is_new or any(change != "unchanged" for change in changes.values())
    others = tuple(sorted(there.keys() - wanted.keys()))
    return DeployReport(str(file), settings.pool, pool_is_new, changes, others, changed and not check)


def _pool_is_new(client: SyncPrefectClient, name: str) -> bool:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        return True
    return False


def _wanted(settings: DeploymentSettings, name: str, folder: Path) -> dict[str, Any]:
    deployment = settings.deployment[name]
    return {
        "flow": deployment.flow,
        "cron": deployment.cron,
        "timezone": deployment.timezone if deployment.cron else None,
        "paused": deployment.paused,
        "parameters": settings.parameters_of(name),
        "pool": settings.pool,
        "job_variables": {"image": settings.image} if settings.image else {"working_dir": str(folder)},
    }


def _difference(there: Any, wanted: dict[str, Any]) -> str:
    """How a deployment differs from what is registered."""
    if there is None:
        return "new"
    schedule = there.schedules[0].schedule if there.schedules else None
    registered = {
        "flow": str(there.entrypoint).rpartition(".")[2],
        "cron": getattr(schedule, "cron", None),
        "timezone": getattr(schedule, "timezone", None),
        "paused": there.paused,
        "parameters": there.parameters,
        "pool": there.work_pool_name,
        "job_variables": there.job_variables,
    }
    differing = [key for key in wanted if _json(wanted[key]) != _json(registered[key])]
    return f"changed: {', '.join(differing)}" if differing else "unchanged"


def _json(value: object) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS)


def _register(settings: DeploymentSettings, name: str, wanted: dict[str, Any]) -> None:
    flow = FLOWS[wanted["flow"]]
    schedule = {"cron": wanted["cron"], "timezone": wanted["timezone"]}
    deployment = RunnerDeployment.from_flow(
        flow,
        name,
        schedules=[{"schedule": schedule, "active": True}] if wanted["cron"] else [],
        paused=wanted["paused"],
        parameters=wanted["parameters"],
        tags=[TAG],
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        job_variables=wanted["job_variables"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    deployment.apply(work_pool_name=settings.pool)


def _tell_of_failures(settings: DeploymentSettings) -> None:
    """Call the webhook when a run fails, crashes or is late; without one, take the automation away."""
    try:
        before = cast(Automation | None, Automation.read(name=AUTOMATION))
    except ValueError:
        before = None
    if settings.webhook is None:
        if before is not None:
            before.delete()
        return
    block = Webhook(method="POST", url=str(settings.webhook)).save("graph2image", overwrite=True)
    automation = Automation(
        name=AUTOMATION,
        description="A run of graph2image failed, crashed or is late.",
        trigger=EventTrigger(
            expect=_EVENTS,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            CallWebhook(
                block_document_id=block,
                payload=PAYLOAD,
            )
        ],
    )
    if before is None:
        automation.create()
    else:
        automation.id = before.id
        automation.update()
