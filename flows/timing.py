"""Wall-clock time and peak memory of each stage of one process."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StageTiming:
    """What a stage took: seconds, and the process's peak resident memory during it in MiB."""

    stage: str
    seconds: float
    peak_mib: float


class StopWatch:
    """Collects a `StageTiming` for each `with watch.stage(name):` block."""

    def __init__(self) -> None:
        self.timings: list[StageTiming] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        _reset_peak()
        started = time.perf_counter()
        yield
        self.timings.append(StageTiming(name, time.perf_counter() - started, _peak_mib()))


def _reset_peak() -> None:
    """Linux can forget the process's peak; elsewhere a stage reports the peak so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_mib() -> float:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
