"""Compare a model with its own controls on held-out items: generate all variants, evaluate, write the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows import requests, stages
from flows.report import build_report
from flows.samples import split_samples
from flows.settings import Settings
from flows.timing import StopWatch
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.generation.mixing import WORKS, EntityWorks
from model.generation.requests import GenerationRequest, GenerationSettings, Sample

#: Items that get a mixing strip.
MIXED_ITEMS = 3


@dataclass(frozen=True)
class ComparisonReport:
    """A model's images and figures, and where the report is."""

    model_id: str
    images_new: int
    images_existing: int
    headline: str
    report: str
    changed: bool
    notes: tuple[str, ...] = ()


def compare(
    settings: Settings, model_id: str, report: Path, items: int, mix_label: str | None, title: str, watch: StopWatch
) -> ComparisonReport:
    """Generate `items` held-out items in every variant, evaluate them and write `report`.

    Parameters
    ----------
    mix_label
        Entity label, such as `Artist`: the mixing strips go between two of its entities. By default it is the label
        with the most entities that have works enough.
    title
        Heading of the report.

    Raises
    ------
    Graph2ImageError
        If no item of the test split has an image, there is no entity label `mix_label`, or a stage fails.
    """
    with watch.stage("generate"):
        samples = split_samples(settings, model_id, "test", items, with_image=True)
        if len(samples) < 2:
            raise Graph2ImageError(
                f"{len(samples)} items of the test split have an image and neighbor samples; two are needed to compare",
                "Ingest more items, then run `graph2image neighbors --all` and `graph2image train CONFIG` again.",
            )
        strips, notes = _mixing_strips(requests.entity_works(settings, model_id), samples, mix_label)
        wanted = [*requests.controls(samples), *strips]
        outcome = watch.keep(stages.generate(settings, model_id, wanted, GenerationSettings()))
    with watch.stage("evaluate"):
        watch.keep(stages.evaluate(settings, model_id))
    with settings.open_store(read_only=True) as store:
        schema = store.schema()
    headline = build_report(
        DataRoot(settings.data),
        schema,
        model_id,
        report,
        watch.timings,
        title=title,
        store_url=settings.store_url,
        withdrawn=stages.withdrawn_items(settings),
    )
    made = outcome.generate
    return ComparisonReport(model_id, made.new, made.existing, headline, str(report), watch.changed, notes)


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
