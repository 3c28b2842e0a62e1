"""Compare a model with its own controls on held-out items: generate all variants, evaluate, write the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import requests, stages
from flows.report import build_report
from flows.samples import LIVE, split_samples
from flows.settings import Settings
from flows.timing import StopWatch
from ingest.errors import Graph2ImageError
from model.evaluation.metrics import Figures, read_metrics
from model.evaluation.record import EvaluationRecord, RequestedImage
from model.evaluation.roles import Role
from model.generation.mixing import WORKS, EntityWorks
from model.generation.requests import GenerationRequest, GenerationSettings, Sample
from model.generation.variants import Variant
from model.record import read_model_record

#: Items that get a mixing strip.
MIXED_ITEMS = 3


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Parameters
    ----------
    items
        How many items, of `split`.
    neighbors
        Name of a neighbors dataset, by default the one that the model was trained with; or `flows.samples.LIVE`.
    mix_label
        Entity label, such as `Artist`: the mixing strips go between two of its entities. By default it is the label
        with the most entities that have works enough.
    generation
        Settings of the images; by default those that are usual for the model.
    style, subject
        The entity labels that the judge names style and subject by; None for those which the figures suggest.
    variants
        Of the variants of `flows.requests.controls`, those that are made; by default all.
    mixtures
        Whether a few items are mixed between two entities.
    """

    items: int
    split: str = "test"
    neighbors: str | None = None
    mix_label: str | None = None
    generation: GenerationSettings | None = None
    style: str | None = None
    subject: str | None = None
    variants: tuple[Variant, ...] = ()
    mixtures: bool = True

    @property
    def labels(self) -> dict[Role, str]:
        """The labels that were named, by role."""
        named: dict[Role, str | None] = {"style": self.style, "subject": self.subject}
        return {role: label for role, label in named.items() if label is not None}


@dataclass(frozen=True)
class ComparisonReport:
    """A model's images and figures, and where the report is.

    `accuracy` has, by variant, how often style, subject and both are right; `differences` those of each graph variant
    less its controls, by the variants' names.
    """

    model_id: str
    evaluation_id: str
    items: int
    images_new: int
    images_existing: int
    headline: str
    accuracy: dict[str, dict[str, Any]]
    differences: dict[str, dict[str, Any]]
    report: str
    changed: bool
    notes: tuple[str, ...] = ()


def compare(
    settings: Settings, model_id: str, report: Path, wanted: Comparison, title: str, watch: StopWatch
) -> ComparisonReport:
    """Generate held-out items in every variant, evaluate exactly those images, and write `report`.

    Parameters
    ----------
    title
        Heading of the report.

    Raises
    ------
    Graph2ImageError
        If fewer than two items of the split have an image, there is no such label, or a stage fails.
    """
    data = settings.data_root
    with watch.stage("generate"):
        evaluation, outcome = request_images(settings, model_id, wanted)
        made, notes = watch.keep(outcome).generate, outcome.notes
    with watch.stage("evaluate"):
        evaluated = watch.keep(stages.evaluate(settings, evaluation))
    with settings.open_store(read_only=True) as store:
        schema = store.schema()
    headline = build_report(
        data,
        schema,
        evaluation,
        report,
        watch.timings,
        title=title,
        store_url=settings.store_url,
        withdrawn=stages.withdrawn_items(settings),
    )
    metrics = read_metrics(data, model_id, evaluation.evaluation_id)
    return ComparisonReport(
        model_id,
        evaluation.evaluation_id,
        evaluated.items,
        made.new,
        made.existing,
        headline,
        {row.variant.label: _accuracy(row) for row in metrics.variants},
        {f"{row.variant.label} less {row.baseline.label}": _accuracy(row) for row in metrics.paired},
        str(report),
        watch.changed,
        notes,
    )


def request_images(
    settings: Settings, model_id: str, wanted: Comparison
) -> tuple[EvaluationRecord, stages.GenerateOutcome]:
    """Generate the images of an evaluation, as far as they are not there.

    Raises
    ------
    Graph2ImageError
        As `compare`.
    """
    samples = split_samples(settings, model_id, wanted.split, wanted.items, wanted.neighbors, with_image=True)
    if len(samples) < 2:
        raise Graph2ImageError(
            f"{len(samples)} items of the {wanted.split} split have an image and neighbor samples; two are needed "
            "to compare",
            "Ingest more items, then run `graph2image neighbors --all` and `graph2image train CONFIG` again.",
        )
    judged = requests.controls(samples)
    if wanted.variants:
        judged = [request for request in judged if request.variant in wanted.variants]
    strips: list[GenerationRequest] = []
    notes: tuple[str, ...] = ()
    if wanted.mixtures:
        strips, notes = _mixing_strips(requests.entity_works(settings, model_id), samples, wanted.mix_label)
    generation = wanted.generation or stages.generation_settings(settings, model_id)
    made = stages.generate(settings, model_id, [*judged, *strips], generation, notes)
    images = [
        RequestedImage(generated_id=generated_id, item_id=request.item_id, variant=request.variant)
        for generated_id, request in zip(made.generate.generated_ids, [*judged, *strips], strict=True)
    ]
    neighbors = wanted.neighbors or read_model_record(settings.data_root, model_id).neighbors
    evaluation = EvaluationRecord(
        model_id=model_id,
        split=wanted.split,
        neighbors=None if neighbors == LIVE else neighbors,
        settings=generation.recorded(),
        images=tuple(images[: len(judged)]),
        labels=wanted.labels,
        mixtures=tuple(images[len(judged) :]),
    )
    return evaluation, made


def _accuracy(row: Figures) -> dict[str, Any]:
    return {aspect: estimate.model_dump() for aspect, estimate in row.accuracy.items()}


def _mixing_strips(
    works: EntityWorks, samples: Sequence[Sample], label: str | None
) -> tuple[list[GenerationRequest], tuple[str, ...]]:
    """Requests that go from one entity to another, for a few of the samples; and a note if there are none."""
    if label is not None and label not in works.labels:
        raise Graph2ImageError(
            f"there are no entities with the label {label!r} to mix",
            f"Entity labels are: {', '.join(works.labels)}." if works.labels else "These items have no entities.",
        )
    chosen = label or works.contrasting_label()
    mixtures = [works.contrasting(sample, chosen) for sample in samples[:MIXED_ITEMS]] if chosen else []
    wanted = [
        request
        for mixture in mixtures
        if mixture is not None
        for request in mixture.requests(requests.CONTROL_SCALE, requests.MIX_SHARES)
    ]
    if wanted:
        return wanted, ()
    return [], (f"nothing mixed: no two entities{f' {label}' if label else ''} have more than {WORKS} works each",)
