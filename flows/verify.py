"""What of a data root and its graph is damaged (`verify`), and what each file can be made from again (`--repair`)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from flows import stages
from flows.repair import APPENDED, Outcome, repair, to_cases
from flows.settings import Settings
from flows.train_again import interrupted, put_back
from graphstore import file_digest
from graphstore.bookkeeping import count_differences
from graphstore.connect import embedded_file
from graphstore.store import NoGraphError
from ingest.datasets.lock import writer_lock
from ingest.datasets.root import DataRoot
from ingest.datasets.verify import find_damage
from ingest.errors import Graph2ImageError, TransientError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """Damaged files of one kind and name.

    Attributes
    ----------
    files
        Paths under the data root, or the graph store, with what is wrong with each.
    remedy
        What makes them again.
    outcome
        What `--repair` came to.
    """

    files: tuple[str, ...]
    remedy: str
    outcome: Outcome


@dataclass(frozen=True)
class VerifyReport:
    """What was compared, and what of it is damaged."""

    files: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged any more."""
        return all(finding.outcome != "damaged" for finding in self.findings)


def verify(settings: Settings, *, repair_damage: bool = False, retrain: bool = False) -> VerifyReport:
    """Compare all that is published under the data root with its digests, and the graph with its own counts.

    Parameters
    ----------
    repair_damage
        Make what is damaged again, where what it is made from is there.
    retrain
        Of that also encoders and models, which takes as long as their training. They are kept if they come out the
        same.
    """
    data = DataRoot(settings.data)
    if repair_damage:
        put_back(data)
    inspection = find_damage(data)
    cases = to_cases(settings, data, inspection.damage, retrain=retrain)
    remedies = [case.remedy() for case in cases]  # before what they are read from is removed
    outcomes: list[Outcome] = ["damaged"] * len(cases)
    left = inspection.damage
    graph = _examine_graph(settings, data, repair_damage=repair_damage)
    if repair_damage:
        with writer_lock(data, "ingest"):
            outcomes = repair(cases)
            for name in data.names():
                if name.partition("/")[0] in APPENDED:
                    data.list_appended(name)  # what versions before this one have written
        if cases:
            left = find_damage(data).damage
    lost = {damage.name for damage in left}
    findings = [
        Finding(
            tuple(f"{damage.name} {damage.problem}" for damage in case.damage),
            remedy,
            "damaged" if any(damage.name in lost for damage in case.damage) else outcome,
        )
        for case, remedy, outcome in zip(cases, remedies, outcomes, strict=True)
    ]
    findings += [
        Finding(
            (f"{folder} was moved away by a training that was interrupted",),
            "`graph2image verify --repair`, which puts it back",
            "damaged",
        )
        for folder in interrupted(data)
    ]
    return VerifyReport(inspection.files, inspection.bytes, (*graph, *findings))


def _examine_graph(settings: Settings, data: DataRoot, *, repair_damage: bool) -> list[Finding]:
    """What is wrong with the graph: it is missing or changed, cannot be read, or has other counts than were loaded."""
    sources = [name.removeprefix("items/") for name in data.names("items")]
    if not sources:
        return []
    url = settings.store_url
    file = embedded_file(url)
    changed = None if file is None else file_digest.find_problem(file)
    remedy = "`graph2image ingest` of the same files again"
    try:
        if changed is not None:  # the database could end the process
            problems = [changed]
        else:
            with settings.open_store(read_only=True) as store:
                problems = count_differences(store)
    except NoGraphError:
        outcome: Outcome = "damaged"
        if repair_damage:
            for source in sources:
                stages.load(settings, source)
            stages.record_lineage(settings)
            outcome = "made again"
        return [Finding((f"{url} is missing",), f"{remedy}, which loads it from the datasets", outcome)]
    except TransientError as error:  # another process is writing to it
        log.warning("The graph was not looked at: %s", error.message)
        return []
    except Graph2ImageError as error:
        problems = [error.message]
    if not problems:
        if file is not None and file_digest.read(file) is None:
            _keep_digest(settings, url, repair_damage=repair_damage)
        return []
    aside = (
        remedy
        if file is None
        else f"a backup; or move {file} away, and verify --repair; or, if you have put that file there, remove "
        f"{file}{file_digest.SUFFIX}"
    )
    return [Finding(tuple(f"{url}: {problem}" for problem in problems), aside, "damaged")]


def _keep_digest(settings: Settings, url: str, *, repair_damage: bool) -> None:
    """Whoever wrote to the file was killed, or an earlier version: have a writer of today open and close it."""
    if not repair_damage:
        log.warning("%s has no digest: its bytes were not compared. The next command that writes to it keeps one.", url)
        return
    try:
        with settings.open_store():
            pass
    except Graph2ImageError as error:  # a place that cannot be written to, or somebody else writes
        log.warning("%s gets no digest: %s", url, error.message)
