"""Compare several models on the same items and seeds: generate what is missing, judge all of it, and write a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows import requests, stages
from flows.comparison import Comparison, request_images
from flows.report.compared import build_comparison_page
from flows.report.wording import figure, variant_name
from flows.settings import Settings
from ingest.errors import Graph2ImageError
from model.evaluation.comparison import compare_entries
from model.evaluation.extractors import find_extractor
from model.evaluation.features import FeatureExtractor
from model.evaluation.pairing import Entry
from model.evaluation.record import EvaluationRecord, read_evaluation, write_evaluation
from model.generation.variants import TEXT, Variant
from model.record import read_model_record

#: What is made and compared of each model, best known first.
VARIANTS = (Variant("graph", requests.CONTROL_SCALE), TEXT, Variant("shuffled", requests.CONTROL_SCALE))


@dataclass(frozen=True)
class Contender:
    """A model that is compared.

    Parameters
    ----------
    name
        What it is called. Models of one name are one, trained or evaluated with several seeds.
    evaluation_id
        The evaluation whose images are compared; None to make one.
    """

    name: str
    model_id: str
    evaluation_id: str | None = None

    @classmethod
    def parse(cls, text: str) -> Contender:
        """From `[NAME=]MODEL[/EVALUATION]`.

        Raises
        ------
        Graph2ImageError
            If it has another form.
        """
        name, given, rest = text.rpartition("=")
        model_id, named, evaluation_id = rest.partition("/")
        if not model_id or (given and not name) or (named and (not evaluation_id or "/" in evaluation_id)):
            raise Graph2ImageError(f"{text!r} names no model to compare", "Write it as [NAME=]MODEL[/EVALUATION].")
        return cls(name or model_id, model_id, evaluation_id or None)


@dataclass(frozen=True)
class ModelComparison:
    """What is compared of the models, and by what.

    Parameters
    ----------
    items, split, neighbors, style, subject
        As of `flows.comparison.Comparison`.
    seeds
        Of the start noise: an item has an image for each.
    generation
        Settings by name, for all models, of `flows.stages.generation_settings`; others are those usual for each model.
    extractors
        By folder, name on the hub or id of an encoder; by default the encoder of the first model.
    cluster_label
        See `model.evaluation.comparison.compare_entries`.
    """

    items: int = 64
    split: str = "test"
    neighbors: str | None = None
    style: str | None = None
    subject: str | None = None
    seeds: tuple[int, ...] = (0,)
    generation: Mapping[str, Any] = field(default_factory=dict)
    extractors: tuple[str, ...] = ()
    cluster_label: str | None = None


@dataclass(frozen=True)
class ModelComparisonReport:
    """What was compared, and where the figures and the page are.

    `figures` has, by whose features they are of, a row per entry: its metrics for people, by their names. All numbers
    are in `comparisons/<comparison_id>/` of the data root.
    """

    comparison_id: str
    items: int
    clusters: int
    seeds: tuple[int, ...]
    headline: str
    figures: dict[str, tuple[dict[str, str], ...]]
    report: str
    changed: bool
    notes: tuple[str, ...]


def compare_models(
    settings: Settings, contenders: Sequence[Contender], wanted: ModelComparison, report: Path, title: str
) -> ModelComparisonReport:
    """Make the evaluations of the models that name none, compare all, and write the page `report`.

    Raises
    ------
    Graph2ImageError
        If there is no such model, evaluation or extractor, or what is named does not pair.
    """
    if not contenders:
        raise Graph2ImageError("there is no model to compare", "Name one or more.")
    if len(set(wanted.seeds)) < len(wanted.seeds):
        raise Graph2ImageError(f"a seed is given twice: {', '.join(map(str, wanted.seeds))}")
    for contender in contenders:  # what is not there is told before anything is made
        read_model_record(settings.data_root, contender.model_id)
        if contender.evaluation_id is not None:
            read_evaluation(settings.data_root, contender.model_id, contender.evaluation_id)
    extractors = [find_extractor(settings.data_root, name) for name in wanted.extractors]
    by_name: dict[str, list[EvaluationRecord]] = {}
    changed = False
    for contender in contenders:
        records, is_new = _evaluations(settings, contender, wanted)
        by_name.setdefault(contender.name, []).extend(records)
        changed |= is_new
    entries = [entry for name, records in by_name.items() for entry in _entries(name, records)]
    compared = _compare(settings, entries, extractors, wanted.cluster_label, report, title)
    return replace(compared, changed=compared.changed or changed)


def _compare(
    settings: Settings,
    entries: Sequence[Entry],
    extractors: Sequence[FeatureExtractor],
    cluster_label: str | None,
    report: Path,
    title: str,
) -> ModelComparisonReport:
    data, withdrawn = settings.data_root, stages.withdrawn_items(settings)
    chosen = extractors or [find_extractor(data, encoder) for encoder in _encoders(settings, entries)]
    found, changed = compare_entries(data, entries, chosen, cluster_label=cluster_label, withdrawn=withdrawn)
    headline = build_comparison_page(data, found, entries, report, title=title, withdrawn=withdrawn)
    sources = dict.fromkeys(metric.source for metric in found.metrics)
    rows = {
        source: tuple(
            {"images": entry.name}
            | {m.label: figure(m, entry.figures.get(m.key)) for m in found.metrics if m.source == source}
            for entry in found.entries
        )
        for source in sources
    }
    return ModelComparisonReport(
        found.comparison_id,
        len(found.item_ids),
        found.clusters,
        found.seeds,
        headline,
        rows,
        str(report),
        changed,
        found.notes,
    )


def _evaluations(
    settings: Settings, contender: Contender, wanted: ModelComparison
) -> tuple[list[EvaluationRecord], bool]:
    """The evaluations of a contender: the one that it names, or one for each seed; and whether any image is new."""
    data, model_id = settings.data_root, contender.model_id
    if contender.evaluation_id is not None:
        return [read_evaluation(data, model_id, contender.evaluation_id)], False
    records, changed = [], False
    for seed in wanted.seeds:
        of_seed = Comparison(
            wanted.items,
            wanted.split,
            wanted.neighbors,
            generation=stages.generation_settings(settings, model_id, seed=seed, **wanted.generation),
            style=wanted.style,
            subject=wanted.subject,
            variants=VARIANTS,
            mixtures=False,
        )
        record, outcome = request_images(settings, model_id, of_seed)
        write_evaluation(data, record)
        records.append(record)
        changed |= outcome.changed
    return records, changed


def _entries(name: str, records: Sequence[EvaluationRecord]) -> list[Entry]:
    """One entry for each variant that all evaluations of a name have."""
    common = set.intersection(*({image.variant for image in record.images} for record in records))
    chosen = [variant for variant in VARIANTS if variant in common]
    variants = chosen or sorted(common, key=lambda variant: variant.sort_key)
    if not variants:
        raise Graph2ImageError(f"the evaluations of {name!r} have no variant in common", "Name each on its own.")
    names = {variant: variant_name(variant).replace("\N{NO-BREAK SPACE}", " ") for variant in variants}
    return [Entry(f"{name}, {names[variant]}", variant, tuple(records)) for variant in variants]


def _encoders(settings: Settings, entries: Sequence[Entry]) -> list[str]:
    """The encoder of the first model, which is there without a network."""
    return [read_model_record(settings.data_root, entries[0].model_ids[0]).encoder] if entries else []
