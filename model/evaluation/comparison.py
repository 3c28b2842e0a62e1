"""Several models, or several variants of one, on the same items: every figure, paired, by item and by group.

The images are those that evaluations have requested (`model.evaluation.record`), so nothing that is generated elsewhere
changes a comparison. Its files are in `comparisons/<comparison_id>/`: `comparison.json` with all figures, and
`scores.parquet`, `figures.parquet`, `differences.parquet` and `groups.parquet`.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from ingest.datasets.integrity import sealed
from ingest.datasets.items import read_entities
from ingest.datasets.root import DataRoot, digest
from ingest.errors import Graph2ImageError, explain_validation
from model.evaluation.features import FeatureExtractor
from model.evaluation.pairing import Entry, require_pairs
from model.evaluation.roles import Question, Role
from model.evaluation.scoring import Scores, score
from model.evaluation.statistics import Floats, Interval, clustered_intervals
from model.evaluation.subjects import Subjects, find_subjects
from model.evaluation.views import Metric
from model.generation.variants import Variant

log = logging.getLogger(__name__)

#: Another version of the method gives other figures.
_VERSION = 1
_RECORD = "comparison.json"
#: Intervals that rest on fewer clusters are too narrow, which is said.
FEW_CLUSTERS = 10
#: A group of fewer items says nothing of its own.
LEAST_IN_GROUP = 2
#: The row of the true images.
TRUE_IMAGES = "true image"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class EntryFigures(_Part):
    """The figures of one row of a comparison, by the metrics' keys; `variant` is None for the true images."""

    name: str
    model_ids: tuple[str, ...]
    evaluation_ids: tuple[str, ...]
    variant: Variant | None
    figures: dict[str, Interval]


class Difference(_Part):
    """The figures of an entry less those of another one, item by item."""

    name: str
    baseline: str
    figures: dict[str, Interval]


class GroupFigures(_Part):
    """The figures of one entry over the items of a group: an entity, such as an artist, of a label."""

    label: str
    group: str
    name: str
    n: int
    figures: dict[str, Interval]


class Comparison(_Part):
    """What a comparison found.

    Parameters
    ----------
    inputs
        Digest of the images that were compared, and of all that judged them.
    split, seeds, item_ids
        What was compared: an image of each item for each seed, in every entry.
    cluster_label
        The entity label that items are clustered by; None: by the groups of their near-duplicates.
    questions
        What the judge is asked.
    metrics
        In the order of a table.
    entries
        In the order of the call, and last the true images.
    differences
        The first entry less each other one.
    groups
        By label, group and entry.
    notes
        What is otherwise than a reader would expect.
    """

    comparison_id: str
    inputs: str
    split: str
    seeds: tuple[int, ...]
    item_ids: tuple[str, ...]
    clusters: int
    cluster_label: str | None
    questions: dict[Role, Question]
    metrics: tuple[Metric, ...]
    entries: tuple[EntryFigures, ...]
    differences: tuple[Difference, ...]
    groups: tuple[GroupFigures, ...]
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The comparison's folder under the data root."""
        return f"comparisons/{self.comparison_id}"


def compare_entries(
    data: DataRoot,
    entries: Sequence[Entry],
    extractors: Sequence[FeatureExtractor],
    *,
    cluster_label: str | None = None,
    withdrawn: Collection[str] = (),
) -> tuple[Comparison, bool]:
    """Compare the images of some entries, and keep what is found; the same comparison again is read.

    An item that lacks an image in any entry, or has one that cannot be read, or anything withdrawn in it, is left out
    of all.

    Parameters
    ----------
    extractors
        From `model.evaluation.extractors.find_extractor`.
    cluster_label
        Entity label, such as `Artist`: items that share an entity of it are not independent of each other. By default
        the label that the judge tells the style by.
    withdrawn
        Ids of items that take no part.

    Returns
    -------
    comparison, changed
        `changed` is False if it was there.

    Raises
    ------
    Graph2ImageError
        If the entries do not pair, fewer than two items are left, or there is no such label.
    """
    require_pairs(entries)
    ids = [extractor.extractor_id for extractor in extractors]
    if len(set(ids)) < len(ids):
        raise Graph2ImageError("an extractor is named twice", "Name each once.")
    evaluations = [
        [entry.name, entry.variant.label, sorted(record.evaluation_id for record in entry.evaluations)]
        for entry in entries
    ]
    comparison_id = digest(_VERSION, evaluations, ids, cluster_label)
    subjects = find_subjects(data, entries, withdrawn, cluster_label)
    inputs = digest(subjects.inputs, ids)
    if (before := _recorded(data, comparison_id)) is not None and before.inputs == inputs:
        return before, False
    scores = score(data, entries, subjects, extractors)
    comparison = _summary(data, comparison_id, inputs, entries, subjects, scores)
    files = {_RECORD: sealed(comparison.model_dump(mode="json"))}
    for name, rows in _tables(comparison, entries, subjects, scores).items():
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, compression="zstd")
        files[f"{name}.parquet"] = buffer.getvalue()
    data.write_folder(comparison.folder, files, marker=_RECORD)
    log.info("Compared %d entries on %d items", len(entries), len(subjects.items))
    return comparison, True


def read_comparison(data: DataRoot, comparison_id: str) -> Comparison:
    """Read what a comparison found.

    Raises
    ------
    Graph2ImageError
        If there is none, or it is damaged or of another version of this program.
    """
    name = f"comparisons/{comparison_id}/{_RECORD}"
    if not data.exists(name):
        raise Graph2ImageError(
            f"there is no comparison {comparison_id!r} under {data.url}", "Run `graph2image compare` first."
        )
    value = data.read_json(name)
    with explain_validation(
        f"{data.path(name)} is of another version of graph2image", "Run `graph2image compare`, which writes it again."
    ):
        return Comparison.model_validate(value)


def _recorded(data: DataRoot, comparison_id: str) -> Comparison | None:
    """What an earlier run found; None if there is nothing that can be read whole."""
    try:
        found = read_comparison(data, comparison_id)
        data.check_folder(found.folder)
    except Graph2ImageError:
        return None
    return found


# -- figures -----------------------------------------------------------------------------------------------------------


def _summary(
    data: DataRoot,
    comparison_id: str,
    inputs: str,
    entries: Sequence[Entry],
    subjects: Subjects,
    scores: Scores,
) -> Comparison:
    clusters = [item.cluster for item in subjects.items]
    means = [scores.item_means(index) for index in range(len(entries))]
    figures = [
        {**_intervals(scores.metrics, values, clusters), **scores.distances(index)}
        for index, values in enumerate([*means, scores.true])
    ]
    rows = [
        EntryFigures(
            name=entry.name,
            model_ids=entry.model_ids,
            evaluation_ids=tuple(record.evaluation_id for record in entry.evaluations),
            variant=entry.variant,
            figures=found,
        )
        for entry, found in zip(entries, figures, strict=False)
    ]
    rows.append(EntryFigures(name=TRUE_IMAGES, model_ids=(), evaluation_ids=(), variant=None, figures=figures[-1]))
    differences = [
        Difference(
            name=entries[0].name,
            baseline=entry.name,
            figures={
                **_intervals(scores.metrics, means[0] - means[index], clusters),
                **scores.distance_differences(index),
            },
        )
        for index, entry in enumerate(entries)
        if index
    ]
    count = len(set(clusters))
    notes = [*subjects.notes, *scores.notes]
    if count < FEW_CLUSTERS:
        notes.append(f"the items are of {count} clusters: intervals that rest on fewer than ten are too narrow")
    return Comparison(
        comparison_id=comparison_id,
        inputs=inputs,
        split=entries[0].evaluations[0].split,
        seeds=entries[0].seeds,
        item_ids=tuple(item.item_id for item in subjects.items),
        clusters=count,
        cluster_label=subjects.cluster_label,
        questions=dict(subjects.questions),
        metrics=scores.metrics,
        entries=tuple(rows),
        differences=tuple(differences),
        groups=tuple(_groups(data, entries, subjects, scores, means)),
        notes=tuple(notes),
    )


def _intervals(metrics: Sequence[Metric], values: Floats, clusters: Sequence[str]) -> dict[str, Interval]:
    of_items = [metric for metric in metrics if not metric.of_sets]
    found = clustered_intervals(values, clusters)
    return {metric.key: interval for metric, interval in zip(of_items, found, strict=True) if interval.n}


def _groups(
    data: DataRoot, entries: Sequence[Entry], subjects: Subjects, scores: Scores, means: Sequence[Floats]
) -> list[GroupFigures]:
    """The figures of every entity that the judge is asked for, or that items are clustered by."""
    names = {row["entity_id"]: row["name"] for row in read_entities(data).to_pylist()}
    clusters = [item.cluster for item in subjects.items]
    found = []
    for label, groups in subjects.groups.items():
        for group, rows in groups.items():
            if len(rows) < LEAST_IN_GROUP:
                continue
            for entry, values in zip(entries, means, strict=True):
                figures = _intervals(scores.metrics, values[rows], [clusters[row] for row in rows.tolist()])
                name = names.get(group, group)
                found.append(GroupFigures(label=label, group=name, name=entry.name, n=len(rows), figures=figures))
    return found


# -- tables ------------------------------------------------------------------------------------------------------------


def _tables(
    comparison: Comparison, entries: Sequence[Entry], subjects: Subjects, scores: Scores
) -> dict[str, pa.Table]:
    labels = {metric.key: metric.label for metric in comparison.metrics}

    def rows(figures: Mapping[str, Interval], **columns: Any) -> list[dict[str, Any]]:
        return [
            {**columns, "metric": key, "metric_label": labels[key], **interval.model_dump()}
            for key, interval in figures.items()
        ]

    tables = {
        "figures": [row for entry in comparison.entries for row in rows(entry.figures, entry=entry.name)],
        "differences": [
            row for one in comparison.differences for row in rows(one.figures, entry=one.name, baseline=one.baseline)
        ],
        "groups": [
            row
            for one in comparison.groups
            for row in rows(one.figures, label=one.label, group=one.group, entry=one.name)
        ],
    }
    return {
        "scores": _scores_table(entries, subjects, scores),
        **{name: pa.Table.from_pylist(found, _schema(name)) for name, found in tables.items()},
    }


def _schema(name: str) -> pa.Schema:
    keys = {"figures": ["entry"], "differences": ["entry", "baseline"], "groups": ["label", "group", "entry"]}[name]
    texts, counts = [*keys, "metric", "metric_label"], ["n", "clusters"]
    return pa.schema(
        [
            *(pa.field(column, pa.string()) for column in texts),
            *(pa.field(column, pa.float64()) for column in ("mean", "se", "low", "high")),
            *(pa.field(column, pa.int64()) for column in counts),
        ]
    )


def _scores_table(entries: Sequence[Entry], subjects: Subjects, scores: Scores) -> pa.Table:
    """A row per entry, evaluation, item and metric, without those that have no value."""
    of_items = [metric.key for metric in scores.metrics if not metric.of_sets]
    parts = []
    for entry, values in zip(entries, scores.values, strict=True):
        for record, of_record in zip(entry.evaluations, values, strict=True):
            images = entry.images(record)
            rows, columns = np.nonzero(~np.isnan(of_record))
            items = [subjects.items[row] for row in rows.tolist()]
            parts.append(
                pa.table(
                    {
                        "entry": pa.array([entry.name] * len(items), pa.string()),
                        "model_id": pa.array([record.model_id] * len(items), pa.string()),
                        "evaluation_id": pa.array([record.evaluation_id] * len(items), pa.string()),
                        "seed": pa.array([int(record.settings.get("seed", 0))] * len(items), pa.int64()),
                        "item_id": pa.array([item.item_id for item in items], pa.string()),
                        "generated_id": pa.array([images[item.item_id] for item in items], pa.string()),
                        "cluster": pa.array([item.cluster for item in items], pa.string()),
                        "metric": pa.array([of_items[column] for column in columns.tolist()], pa.string()),
                        "value": pa.array(of_record[rows, columns], pa.float64()),
                    }
                )
            )
    return pa.concat_tables(parts)
