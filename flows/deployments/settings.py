"""The settings file of the deployments, `deployments.toml`: schedules and parameters of the flows."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from prefect import Flow
from prefect.exceptions import ParameterBindError, ParameterTypeError
from prefect.schedules import Cron
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, model_validator
from tzlocal import get_localzone_name

from flows import nightly
from ingest.errors import Graph2ImageError, explain_validation, first_line

#: The flows that can be deployed, by the name that a settings file gives them.
FLOWS: dict[str, Flow[Any, Any]] = {
    **{name: getattr(nightly, name) for name in ("nightly", "refresh", "sample", "retrain", "generate_batch")},
    **{f"ingest_{source}": getattr(nightly, f"ingest_{source}")
       for source in ("art500k", "amazon", "goodreads", "instructg2i", "table")},
}  # fmt: skip


class Deployment(BaseModel):
    """One deployment: a flow, when it runs, and its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flow: str
    cron: str | None = None
    timezone: str = Field(default_factory=get_localzone_name)
    paused: bool = False
    parameters: dict[str, Any] = {}

    @model_validator(mode="after")
    def _sensible(self) -> Deployment:
        if self.flow not in FLOWS:
            raise ValueError(f"there is no flow {self.flow!r}; flows are: {', '.join(FLOWS)}")
        try:
            ZoneInfo(self.timezone)
        except (ValueError, KeyError, OSError) as error:
            raise ValueError(f"there is no time zone {self.timezone!r}, such as Europe/Paris or UTC") from error
        if self.cron is not None:
            try:
                Cron(self.cron, timezone=self.timezone)
            except ValueError as error:
                raise ValueError(f"{self.cron!r} is no cron text, such as 0 3 * * *: {first_line(error)}") from error
        return self


class DeploymentSettings(BaseModel):
    """All deployments, and where they run.

    Parameters
    ----------
    pool
        Work pool; made, for processes, if there is none of this name.
    data, store
        Data root and graph store of all flows that name none.
    working_dir
        Folder that the flows run in, with `graph2image.toml`; by default that of the settings file.
    image
        Image of a work pool that starts containers.
    webhook
        URL that is called when a run fails, crashes or is late.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: str = Field("graph2image", min_length=1)
    data: str | None = None
    store: str | None = None
    working_dir: Path | None = None
    image: str | None = None
    webhook: HttpUrl | None = None
    deployment: dict[str, Deployment] = Field(min_length=1)

    def parameters_of(self, name: str) -> dict[str, Any]:
        """Parameters of a deployment, with the places of all."""
        places = {key: value for key, value in (("data", self.data), ("store", self.store)) if value is not None}
        return places | self.deployment[name].parameters


def read_deployments(file: Path) -> DeploymentSettings:
    """Read a settings file, and check every schedule and parameter in it; nothing is registered.

    Raises
    ------
    Graph2ImageError
        If it cannot be read, or something in it is wrong; it names the key.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Graph2ImageError(
            f"there is no settings file {file}", "docs/operations.md has one to begin with."
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Graph2ImageError(f"cannot read {file}: {error}") from error
    with explain_validation(str(file)):
        settings = DeploymentSettings.model_validate(content)
    for name, deployment in settings.deployment.items():
        flow = FLOWS[deployment.flow]
        try:
            flow.validate_parameters(settings.parameters_of(name))
        except (ParameterTypeError, ParameterBindError, TypeError) as error:
            problem = " ".join(str(error).split())
            raise Graph2ImageError(f"{file}: deployment.{name}.parameters: {problem}") from error
    return settings
