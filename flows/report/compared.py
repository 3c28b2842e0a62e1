"""Write the page of a comparison of models: tables, plots of scores against distances, and sheets of images."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import Any

from markupsafe import Markup

from flows.report import figures, wording
from flows.report.content import Card, Content
from flows.report.templates import template
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.evaluation.comparison import Comparison, GroupFigures
from model.evaluation.metrics import ASPECTS
from model.evaluation.pairing import Entry
from model.evaluation.statistics import Interval
from model.evaluation.views import Metric
from model.record import read_model_record

#: Items whose images are shown, and groups that a table has.
SHEET_ITEMS, GROUPS = 12, 12
#: Neighbors of an item that are shown.
NEIGHBORS = 3


@dataclass(frozen=True)
class _Section:
    """The metrics of one source, with their plot."""

    source: str
    metrics: tuple[Metric, ...]
    score: Metric
    plot: Markup
    plot_note: str


@dataclass(frozen=True)
class _Sheet:
    """An item, and what was made of it: by the entries' order, a data URL each."""

    card: Card
    made: tuple[str | None, ...]


def build_comparison_page(
    data: DataRoot,
    comparison: Comparison,
    entries: Sequence[Entry],
    out: Path,
    *,
    title: str,
    withdrawn: Collection[str] = (),
) -> str:
    """Write the page of a comparison to `out`, atomically.

    Parameters
    ----------
    entries
        Those that were compared.
    title
        Name of the data, such as "A synthetic gallery".
    withdrawn
        Ids of opted-out items: neither they nor images made for them or from them are shown.

    Returns
    -------
    str
        The headline: the first entry against each other one.
    """
    values = page_values(data, comparison, entries, title=title, withdrawn=withdrawn)
    page = template("compared.html.j2").render(values)
    DataRoot(str(out.parent)).write_bytes(out.name, page.encode())
    return str(values["claim"])


def page_values(
    data: DataRoot, comparison: Comparison, entries: Sequence[Entry], *, title: str, withdrawn: Collection[str] = ()
) -> dict[str, Any]:
    """What the template of a comparison, and those that extend it, are rendered with."""
    lead = comparison.metrics[_lead(comparison.metrics)]
    return {
        "title": title,
        "comparison": comparison,
        "claim": _claim(comparison, lead),
        "lead": lead,
        "sections": _sections(comparison),
        "figure": wording.figure,
        "difference_name": attrgetter("baseline"),
        "groups": _groups(comparison),
        "group_entries": [entry.name for entry in entries],
        "sheets": _sheets(data, comparison, entries, withdrawn),
        "hero": [],
        "neighbors": NEIGHBORS,
        "question_notes": [wording.question_note(question) for question in comparison.questions.values()],
        "reach": _reach(comparison),
        "provenance": _provenance(data, comparison),
    }


def _lead(metrics: Sequence[Metric]) -> int:
    """Index of the metric that the headline is about: style and subject right, or else the first of all."""
    return next((index for index, metric in enumerate(metrics) if metric.kind == "both"), 0)


def _claim(comparison: Comparison, lead: Metric) -> str:
    first = comparison.entries[0]
    unit = " points" if lead.kind in ASPECTS else ""
    said = f"{first.name}: {wording.metric_name(lead)} {wording.figure(lead, first.figures.get(lead.key))}"
    against = [
        f"{wording.figure(lead, one.figures[lead.key], sign=True)}{unit} against {one.baseline}"
        for one in comparison.differences
        if lead.key in one.figures
    ]
    return said + (f", which is {'; '.join(against)}" if against else "")


def _sections(comparison: Comparison) -> list[_Section]:
    sources = list(dict.fromkeys(metric.source for metric in comparison.metrics))
    found = []
    for source in sources:
        metrics = tuple(metric for metric in comparison.metrics if metric.source == source)
        score = metrics[_lead(metrics)]
        distance = next((metric for metric in metrics if metric.kind in ("fid", "kid")), None)
        found.append(
            _Section(
                source,
                metrics,
                score,
                Markup("") if distance is None else _plot(comparison, distance, score),
                "" if distance is None else f"{score.label} against {distance.label}: up and to the left is better",
            )
        )
    return found


def _plot(comparison: Comparison, distance: Metric, score: Metric) -> Markup:
    points = []
    for number, entry in enumerate(comparison.entries, 1):
        x, y = entry.figures.get(distance.key), entry.figures.get(score.key)
        if x is None or y is None or x.mean is None or y.mean is None:
            continue
        x_scale, y_scale = wording.scale(distance), wording.scale(score)
        points.append(
            figures.Point(
                str(number), x_scale * x.mean, y_scale * y.mean, x_scale * (x.se or 0.0), y_scale * (y.se or 0.0)
            )
        )
    return figures.scatter(points, wording.axis(distance), wording.axis(score))


def _reach(comparison: Comparison) -> dict[str, float]:
    """Largest distance from 0 of any difference with its two standard errors, by metric."""

    def reach(interval: Interval) -> float:
        return abs(interval.mean or 0.0) + 2 * (interval.se or 0.0)

    return {
        metric.key: max(
            (reach(d.figures[metric.key]) for d in comparison.differences if metric.key in d.figures), default=0
        )
        or 1.0
        for metric in comparison.metrics
    }


def _groups(comparison: Comparison) -> dict[str, list[tuple[str, int, dict[str, GroupFigures]]]]:
    """By label, the largest groups: name, items, and the figures by entry."""
    found: dict[str, dict[str, dict[str, GroupFigures]]] = {}
    for one in comparison.groups:
        found.setdefault(one.label, {}).setdefault(one.group, {})[one.name] = one
    return {
        label: sorted(
            ((group, next(iter(rows.values())).n, rows) for group, rows in groups.items()),
            key=lambda row: (-row[1], row[0]),
        )[:GROUPS]
        for label, groups in found.items()
    }


def _sheets(
    data: DataRoot, comparison: Comparison, entries: Sequence[Entry], withdrawn: Collection[str]
) -> list[_Sheet]:
    """The first items, with the images of each entry's first evaluation."""
    chosen = comparison.item_ids[:SHEET_ITEMS]
    fit = read_model_record(data, entries[0].model_ids[0]).config.image_fit
    cards: list[dict[str, Card]] = []
    for entry in entries:
        record = entry.evaluations[0]
        images = {image.item_id: image for image in record.images if image.variant == entry.variant}
        shown = record.model_copy(update={"images": tuple(images[item] for item in chosen), "mixtures": ()})
        try:
            found = Content(data, shown, withdrawn, fit).cards(SHEET_ITEMS)
        except Graph2ImageError:  # all of these are withdrawn since
            found = []
        cards.append({card.item.item_id: card for card in found})
    return [
        _Sheet(
            cards[0][item],
            tuple(
                made.image if item in of_entry and (made := of_entry[item].of(entry.variant)) else None
                for entry, of_entry in zip(entries, cards, strict=True)
            ),
        )
        for item in chosen
        if item in cards[0]
    ]


def _provenance(data: DataRoot, comparison: Comparison) -> dict[str, str]:
    extractors = dict.fromkeys(f"{metric.source}: {metric.extractor_id}" for metric in comparison.metrics)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("graph2image", "torch", "transformers"))
    return {
        "Comparison": f"{comparison.comparison_id}, in {data.url}",
        "Items": f"{len(comparison.item_ids)} of the {comparison.split} split",
        "Seeds": ", ".join(map(str, comparison.seeds)),
        "Clusters": f"{comparison.clusters}, by {comparison.cluster_label or 'groups of near-duplicates'}",
        **{
            f"Evaluations of {entry.name}": ", ".join(
                f"{model} {evaluation}"
                for model, evaluation in zip(
                    entry.model_ids * len(entry.evaluation_ids), entry.evaluation_ids, strict=False
                )
            )
            for entry in comparison.entries
            if entry.variant is not None
        },
        "Features by": "; ".join(extractors),
        "Software": f"{versions}, Python {platform.python_version()}",
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "Written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }
