"""Write the page of a study: a comparison's page, with its variants, what failed, and its sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from flows import stages
from flows.report import figures, wording
from flows.report.compared import page_values
from flows.report.templates import template
from flows.settings import Settings
from flows.study.config import Study, Sweep
from flows.timing import duration
from ingest.datasets.root import DataRoot
from model.evaluation.comparison import Comparison
from model.evaluation.pairing import Entry
from model.evaluation.study import ItemScores

#: Differences that the headline has.
_CLAIMS = 3


@dataclass(frozen=True)
class Outcome:
    """What became of a study's variants: which are finished, why others failed, and the seconds that they took."""

    study: Study
    finished: tuple[str, ...]
    failed: Mapping[str, str]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class _Swept:
    """A sweep's plot, and its trend for people."""

    name: str
    key: str
    metric: str
    plot: Markup
    trend: str
    missing: tuple[str, ...]


def build_study_page(
    settings: Settings, outcome: Outcome, comparison: Comparison, entries: Sequence[Entry], out: Path
) -> str:
    """Write the page to `out`, atomically; returns the headline: the first of the study's differences.

    Parameters
    ----------
    comparison
        With the study's metrics and differences.
    """
    data, study = settings.data_root, outcome.study
    withdrawn = stages.withdrawn_items(settings)
    values = page_values(data, comparison, entries, title=study.title, withdrawn=withdrawn)
    lead = values["lead"]
    claims = [
        f"{one.name} less {one.baseline}: {wording.figure(lead, one.figures[lead.key], sign=True)}"
        for one in comparison.differences[:_CLAIMS]
        if lead.key in one.figures
    ]
    claim = f"{wording.capitalize_first(wording.metric_name(lead))}. {'; '.join(claims)}" if claims else values["claim"]
    scores = ItemScores(data, comparison)
    swept = [_swept(sweep, comparison, scores) for sweep in study.sweeps]
    page = template("study.html.j2").render(
        values
        | {
            "claim": claim,
            "difference_name": lambda one: f"{one.name} less {one.baseline}",
            "variants": study.variants,
            "failed": outcome.failed,
            "took": {name: duration(seconds) for name, seconds in outcome.seconds.items()},
            "training_seeds": study.training_seeds,
            "generation_seeds": study.generation_seeds,
            "sweeps": [one for one in swept if one is not None],
        }
    )
    DataRoot(str(out.parent)).write_bytes(out.name, page.encode())
    return claim


def _swept(sweep: Sweep, comparison: Comparison, scores: ItemScores) -> _Swept | None:
    """The plot of a sweep over those of its variants that are finished; None if they or the metric are too few."""
    entries = {entry.name: entry for entry in comparison.entries}
    metric = next((one for one in comparison.metrics if one.kind == sweep.metric), None)
    there = [(name, value) for name, value in zip(sweep.variants, sweep.values, strict=True) if name in entries]
    if metric is None or len(there) < 2:
        return None
    points = []
    for number, (name, value) in enumerate(there, 1):
        figure = entries[name].figures.get(metric.key)
        if figure is not None and figure.mean is not None:
            factor = wording.scale(metric)
            points.append(figures.Point(str(number), value, factor * figure.mean, 0.0, factor * (figure.se or 0.0)))
    trend = "–"
    if not metric.of_sets:
        trend = wording.estimate(scores.trend(metric, *zip(*there, strict=True)), 2, sign=True)
    return _Swept(
        sweep.name,
        sweep.key,
        wording.metric_name(metric),
        figures.scatter(points, sweep.key.rpartition(".")[2].replace("_", " "), wording.axis(metric)),
        trend,
        tuple(name for name in sweep.variants if name not in entries),
    )
