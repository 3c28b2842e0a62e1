"""Run a study: make every step of every variant that is not finished, compare what there is, and write one page."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.settings import Settings
from flows.study.config import Study, Variant, load_study
from flows.study.page import Outcome, build_study_page
from flows.study.steps import PlannedStep, Steps
from flows.timing import duration
from ingest.errors import Graph2ImageError, first_line
from model.evaluation.comparison import Comparison, compare_entries
from model.evaluation.extractors import find_extractor
from model.evaluation.pairing import Entry
from model.evaluation.study import ItemScores
from model.record import read_model_record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyReport:
    """What became of a study.

    Attributes
    ----------
    variants
        How many were compared.
    failed
        Why, by the names of the variants that failed.
    missing
        Variants that were not asked for and are not finished.
    made, existing
        Steps that this run made, and that were finished before.
    seconds, overhead
        Of this run; and what of it was neither a step nor the judging.
    comparison_id, report
        None if fewer than two variants are finished.
    """

    variants: int
    failed: dict[str, str]
    missing: tuple[str, ...]
    made: int
    existing: int
    seconds: float
    overhead: float
    headline: str
    comparison_id: str | None
    report: str | None
    changed: bool


@dataclass(frozen=True)
class StudyPlan:
    """What is left of a study. `seconds_left` is None if nothing was made yet to tell it from."""

    steps: tuple[PlannedStep, ...]
    seconds_left: float | None

    @property
    def left(self) -> tuple[PlannedStep, ...]:
        """The steps that are not finished."""
        return tuple(step for step in self.steps if not step.finished)


def plan_study(settings: Settings, path: Path, only: Sequence[str] = ()) -> StudyPlan:
    """What a study still has to make; nothing is made.

    Raises
    ------
    Graph2ImageError
        As `flows.study.config.load_study`; or if there is no variant of a name in `only`.
    """
    study = load_study(path)
    return _plan(Steps(settings, study).plan(_chosen(study, path, only)))


def run_study(
    settings: Settings,
    path: Path,
    report: Path,
    only: Sequence[str] = (),
    *,
    batch_size: int = 32,
    device: str | None = None,
) -> StudyReport:
    """Make a study, as far as it is not made, and write its page to `report`.

    A variant that fails does not stop the others: the page says why.

    Parameters
    ----------
    only
        Names of the variants to make, in this order; by default all. The page has all that are finished.

    Raises
    ------
    Graph2ImageError
        As `plan_study`; or if an extractor is not there, which is told before anything is made.
    """
    started = time.monotonic()
    study = load_study(path)
    chosen = _chosen(study, path, only)
    extractors = [find_extractor(settings.data_root, name) for name in study.extractors]
    steps = Steps(settings, study, batch_size, device)
    failed: dict[str, str] = {}
    working, made = 0.0, 0
    for variant in chosen:
        for step in steps.of(variant):
            began = time.monotonic()
            try:
                if steps.find(step) is not None:
                    continue
                _announce(_plan(steps.plan([one for one in chosen if one.name not in failed])), step.title)
                made += steps.make(step)
            except Exception as error:  # whatever it is, the other variants go on
                failed[variant.name] = f"{step.title}: {_reason(error)}"
                log.warning("%s failed: %s", variant.name, failed[variant.name])
                log.debug("What failed", exc_info=True)
                break
            finally:
                working += time.monotonic() - began
    began = time.monotonic()
    finished = [variant for variant in study.variants if _is_finished(steps, variant)]
    compared = _compare(settings, study, steps, finished, extractors)
    working += time.monotonic() - began
    outcome = Outcome(
        study,
        tuple(variant.name for variant in finished),
        failed,
        {variant.name: steps.seconds(variant) for variant in finished},
    )
    headline, changed = f"{len(finished)} variants are finished: two are needed to compare", made > 0
    if compared is not None:
        comparison, entries, is_new = compared
        headline = build_study_page(settings, outcome, comparison, entries, report)
        changed |= is_new
    seconds = time.monotonic() - started
    return StudyReport(
        variants=len(finished),
        failed=failed,
        missing=tuple(v.name for v in study.variants if v not in finished and v.name not in failed),
        made=made,
        existing=sum(step.finished for step in steps.plan(study.variants)) - made,
        seconds=round(seconds, 1),
        overhead=round(seconds - working, 1),
        headline=headline,
        comparison_id=None if compared is None else compared[0].comparison_id,
        report=None if compared is None else str(report),
        changed=changed,
    )


def _compare(
    settings: Settings, study: Study, steps: Steps, finished: Sequence[Variant], extractors: Sequence[Any]
) -> tuple[Comparison, list[Entry], bool] | None:
    """The figures of the finished variants; None if there are fewer than two."""
    if len(finished) < 2:
        return None
    entries = [Entry(one.name, one.generation.variant, steps.evaluations(one)) for one in finished]
    data = settings.data_root
    chosen = extractors or [find_extractor(data, read_model_record(data, entries[0].model_ids[0]).encoder)]
    comparison, changed = compare_entries(
        data, entries, chosen, cluster_label=study.cluster_label, withdrawn=steps.withdrawn
    )
    scores = ItemScores(data, comparison)
    names = {entry.name for entry in entries}
    pairs = [pair for pair in study.comparisons if names.issuperset(pair)]
    wanted = {*study.metrics, *(sweep.metric for sweep in study.sweeps)}
    metrics = tuple(metric for metric in comparison.metrics if not study.metrics or metric.kind in wanted)
    return (
        comparison.model_copy(
            update={
                "metrics": metrics or comparison.metrics,
                "differences": tuple(scores.difference(*pair) for pair in pairs),
            }
        ),
        entries,
        changed,
    )


def _chosen(study: Study, path: Path, only: Sequence[str]) -> list[Variant]:
    by_name = {variant.name: variant for variant in study.variants}
    if unknown := [name for name in only if name not in by_name]:
        raise Graph2ImageError(f"{path}: there is no variant {unknown[0]!r}", f"Variants are: {', '.join(by_name)}.")
    return [by_name[name] for name in only] or list(study.variants)


def _is_finished(steps: Steps, variant: Variant) -> bool:
    try:
        return all(steps.find(step) is not None for step in steps.of(variant))
    except Graph2ImageError:  # told before
        return False


def _plan(steps: Sequence[PlannedStep]) -> StudyPlan:
    left = [step.seconds for step in steps if not step.finished]
    known = [seconds for seconds in left if seconds is not None]
    return StudyPlan(tuple(steps), sum(known) if len(known) == len(left) else None)


def _announce(plan: StudyPlan, title: str) -> None:
    number = len(plan.steps) - len(plan.left) + 1
    left = "" if plan.seconds_left is None else f"; about {duration(plan.seconds_left)} left"
    log.info("Step %d of %d: %s%s", number, len(plan.steps), title, left)


def _reason(error: Exception) -> str:
    if isinstance(error, Graph2ImageError):
        return error.message
    return f"{type(error).__name__}: {first_line(error)}"
