"""The values of a comparison: of every image by itself, and of every set of images, by all who look at them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.evaluation.features import FeatureExtractor
from model.evaluation.pairing import Entry
from model.evaluation.statistics import HALVES, Floats, Interval, cluster_halves
from model.evaluation.subjects import Subjects
from model.evaluation.views import ExtractorView, JudgeView, Metric, View

log = logging.getLogger(__name__)

#: Of a normal distribution, 95% lies within so many standard deviations.
_Z = 1.96


@dataclass(frozen=True)
class _Distance:
    """A distance between sets, by seed, and those of the halves of the items' clusters."""

    values: list[float] = field(default_factory=list)
    of_halves: list[Floats] = field(default_factory=list)


@dataclass(frozen=True)
class Scores:
    """The values of a comparison.

    Parameters
    ----------
    metrics
        In the order of a table.
    values
        By entry and evaluation, `(items, metrics of images)`; NaN where there is none.
    true
        The same of the true images.
    sets
        By entry, the distances by the metrics' keys.
    clusters
        How many there are.
    notes
        What could not be computed, and why.
    """

    metrics: tuple[Metric, ...]
    values: tuple[tuple[Floats, ...], ...]
    true: Floats
    sets: tuple[Mapping[str, _Distance], ...]
    clusters: int
    notes: tuple[str, ...]

    def item_means(self, entry: int) -> Floats:
        """`(items, metrics of images)`: the mean of an item's images of all seeds."""
        stacked = np.stack(self.values[entry])
        known = ~np.isnan(stacked)
        with np.errstate(invalid="ignore"):
            means: Floats = np.where(known, stacked, 0).sum(0) / known.sum(0)
        return means

    def distances(self, entry: int) -> dict[str, Interval]:
        """The distances of an entry, or none for the true images, which come last."""
        if entry == len(self.sets):
            return {}
        return {key: self._interval(one.values, one.of_halves) for key, one in self.sets[entry].items()}

    def distance_differences(self, entry: int) -> dict[str, Interval]:
        """Those of the first entry less those of another one, over the same halves."""
        first, other = self.sets[0], self.sets[entry]
        return {
            key: self._interval(
                [ours - theirs for ours, theirs in zip(first[key].values, other[key].values, strict=True)],
                [ours - theirs for ours, theirs in zip(first[key].of_halves, other[key].of_halves, strict=True)],
            )
            for key in first
            if key in other
        }

    def _interval(self, values: Sequence[float], of_halves: Sequence[Floats]) -> Interval:
        mean, items = float(np.mean(values)), len(self.true)
        draws = np.mean(of_halves, axis=0) if of_halves else np.empty(0)
        draws = draws[~np.isnan(draws)]
        if len(draws) < HALVES // 2:
            return Interval(mean=mean, n=items, clusters=self.clusters)
        se = float(draws.std(ddof=1))
        return Interval(mean=mean, se=se, low=mean - _Z * se, high=mean + _Z * se, n=items, clusters=self.clusters)


def score(
    data: DataRoot, entries: Sequence[Entry], subjects: Subjects, extractors: Sequence[FeatureExtractor]
) -> Scores:
    """Every value of every image of the entries.

    Raises
    ------
    Graph2ImageError
        If there is neither a judge nor an extractor, or an extractor cannot be loaded.
    """
    views: list[View] = [] if subjects.judge is None else [JudgeView(data, subjects, subjects.judge)]
    views += [ExtractorView(data, subjects, extractor) for extractor in extractors]
    if not views:
        raise Graph2ImageError(
            "there is nothing to compare by: no entities can be told from the images, and no extractor is named",
            "Name one, such as --extractor openai/clip-vit-large-patch14 or the id of an encoder.",
        )
    halves = cluster_halves([item.cluster for item in subjects.items])
    notes = [note for view in views for note in view.notes]
    values, sets = [], []
    for entry in entries:
        distances: dict[str, _Distance] = {}
        of_entry = []
        for record in entry.evaluations:
            log.info("Judging %d images of %s, seed %s", len(subjects.items), entry.name, record.settings.get("seed"))
            images = entry.images(record)
            rows = [subjects.generated[images[item.item_id]] for item in subjects.items]
            parts = []
            for view in views:
                found, features = view.values(rows)
                parts.append(found)
                for key, (distance, of_halves) in view.distances(features, halves).items():
                    kept = distances.setdefault(key, _Distance())
                    kept.values.append(distance)
                    if of_halves is not None:
                        kept.of_halves.append(of_halves)
            of_entry.append(np.concatenate(parts, axis=1))
        values.append(tuple(of_entry))
        sets.append(distances)
    return Scores(
        metrics=tuple(metric for view in views for metric in view.metrics),
        values=tuple(values),
        true=np.concatenate([view.true_values for view in views], axis=1),
        sets=tuple(sets),
        clusters=len({item.cluster for item in subjects.items}),
        notes=tuple(notes),
    )
