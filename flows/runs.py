"""The metrics file: what every stage of every scheduled run took and did, one Parquet row each (dataset `runs`).

Prefect's server forgets runs when its database is lost or cleaned; these rows lie beside the data that they are about.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from flows.timing import Report, peak_mib, reset_peak
from ingest.datasets.root import DataRoot, digest
from ingest.datasets.schemas import RUN_SCHEMA
from ingest.errors import first_line

if TYPE_CHECKING:
    from flows.settings import Settings

#: A stage counts as slower when it took so many times as long as the median of its runs before, and so many seconds.
SLOWER, SLOWER_SECONDS = 1.5, 5.0
#: Runs before, that a run is compared with.
COMPARED = 10


@dataclass(frozen=True)
class Run:
    """One run of a stage.

    Attributes
    ----------
    outcome
        `changed`, `unchanged`, or `failed`; then `problem` says why.
    counts, digest
        What the stage reported, and a digest of it.
    """

    run_id: str
    stage: str
    started_at: datetime
    seconds: float
    peak_mib: float
    outcome: str
    problem: str | None
    counts: dict[str, Any]
    digest: str | None


@dataclass(frozen=True)
class RunList:
    """The last runs, the newest first, and what has become slower, in sentences."""

    runs: tuple[Run, ...]
    slower: tuple[str, ...]


def recorded(settings: Settings, run_id: str, stage: str, call: Callable[[], Report]) -> Report:
    """Call a stage, and keep a row about it, also if it fails."""
    reset_peak()
    started_at, started = datetime.now(UTC), perf_counter()
    row: dict[str, Any] = {"run_id": run_id, "stage": stage, "started_at": started_at}
    try:
        report = call()
    except Exception as error:
        _append(settings, row, started, outcome="failed", problem=first_line(error), counts={}, digest=None)
        raise
    counts = flatten(asdict(report))  # type: ignore[call-overload]  # every report is a dataclass
    outcome = "changed" if report.changed else "unchanged"
    _append(settings, row, started, outcome=outcome, problem=None, counts=counts, digest=digest(counts))
    return report


def _append(settings: Settings, row: dict[str, Any], started: float, **columns: Any) -> None:
    columns["counts"] = orjson.dumps(columns["counts"], default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    whole = {**row, "seconds": perf_counter() - started, "peak_mib": peak_mib(), **columns}
    settings.data_root.append("runs", pa.Table.from_pylist([whole], RUN_SCHEMA), RUN_SCHEMA)


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested counts with dots in their names."""
    rows: dict[str, Any] = {}
    for name, part in value.items():
        rows |= flatten(part, f"{prefix}{name}.") if isinstance(part, dict) else {f"{prefix}{name}": part}
    return rows


def list_runs(settings: Settings, last: int = 20, stage: str | None = None) -> RunList:
    """The last runs of all stages, or of one."""
    runs = [run for run in _runs(settings.data_root) if stage in (None, run.stage)]
    stages = dict.fromkeys(run.stage for run in runs)
    found = (_slower([run for run in runs if run.stage == name]) for name in stages)
    return RunList(tuple(runs[::-1][:last]), tuple(filter(None, found)))


def _runs(data: DataRoot) -> list[Run]:
    rows = data.read("runs", schema=RUN_SCHEMA).sort_by("started_at").to_pylist()
    return [Run(**{**row, "counts": orjson.loads(row["counts"])}) for row in rows]


def _slower(runs: list[Run]) -> str | None:
    """Whether the last run of a stage that did something took longer than those before."""
    took = [run.seconds for run in runs if run.outcome == "changed"]
    if len(took) < 3:
        return None
    before = statistics.median(took[-COMPARED - 1 : -1])
    if took[-1] < SLOWER * before or took[-1] < before + SLOWER_SECONDS:
        return None
    return f"{runs[-1].stage} took {took[-1]:.0f} s the last time, and {before:.0f} s usually"
