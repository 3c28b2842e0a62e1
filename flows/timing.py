"""Wall-clock time and peak memory of each stage, kept beside the data they are about."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import orjson


class StageReport(Protocol):
    """What every stage returns: counts, and whether there was anything to do."""

    @property
    def changed(self) -> bool: ...


Report = TypeVar("Report", bound=StageReport)


@dataclass(frozen=True)
class StageTiming:
    """What a stage took: seconds, and the process's peak resident memory during it in MiB."""

    stage: str
    seconds: float
    peak_mib: float


class StopWatch:
    """Times `with watch.stage(name):` blocks.

    The timing of a stage that had nothing to do says nothing about the stage: `timings` then has the one of the run
    that did the work, from `file`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept: dict[str, StageTiming] = {}
        if file.exists():
            self._kept = {row["stage"]: StageTiming(**row) for row in orjson.loads(file.read_bytes())}
        self._changed_stage = False
        self.changed = False
        self.seconds = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block; inside it, pass the stage's report to `keep`."""
        reset_peak()
        self._changed_stage = False
        started = time.perf_counter()
        yield
        elapsed = time.perf_counter() - started
        self.seconds += elapsed
        if self._changed_stage or name not in self._kept:
            self._kept[name] = StageTiming(name, round(elapsed, 2), round(peak_mib()))
            self._file.write_bytes(orjson.dumps([asdict(t) for t in self._kept.values()], option=orjson.OPT_INDENT_2))

    def keep(self, report: Report) -> Report:
        """Note whether the running stage changed anything; returns `report`."""
        self._changed_stage |= report.changed
        self.changed |= report.changed
        return report

    @property
    def timings(self) -> list[StageTiming]:
        """One per stage, in the order of the first run."""
        return list(self._kept.values())


def reset_peak() -> None:
    """Forget the process's peak memory; only Linux can, elsewhere it is the peak since the process began."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_mib() -> float:
    """Peak resident memory of the process in MiB, since `reset_peak`."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
