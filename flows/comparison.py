"""Compare a model with its own controls on held-out items: generate all variants, evaluate, write the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows import requests, stages
from flows.mixing import EntityWorks
from flows.report import build_report
from flows.samples import split_samples
from flows.settings import Settings
from flows.timing import StopWatch
from ingest.datasets.root import DataRoot
from model.generation.requests import GenerationRequest, GenerationSettings

#: Items that get a mixing strip.
MIXED_ITEMS = 3


@dataclass(frozen=True)
class ComparisonReport:
    """A model's images and figures, and where the report is."""

    model_id: str
    pictures_new: int
    pictures_existing: int
    headline: str
    report: str
    changed: bool


def compare(
    settings: Settings, model_id: str, report: Path, items: int, mix_label: str, title: str, watch: StopWatch
) -> ComparisonReport:
    """Generate `items` held-out items in every variant, evaluate them and write `report`.

    Parameters
    ----------
    mix_label
        Entity label, such as `Artist`: the mixing strips go between two of its entities.
    title
        Heading of the report.
    """
    with watch.stage("generate"):
        wanted = _variants(settings, model_id, items, mix_label)
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
    return ComparisonReport(model_id, made.new, made.existing, headline, str(report), watch.changed)


def _variants(settings: Settings, model_id: str, items: int, mix_label: str) -> list[GenerationRequest]:
    samples = split_samples(settings, model_id, "test", items)
    wanted = requests.controls(samples)
    works = EntityWorks(settings, DataRoot(settings.data).read_json(f"models/{model_id}/model.json")["encoder"])
    for sample in samples[:MIXED_ITEMS]:
        mixture = works.contrasting(sample, mix_label)
        if mixture is not None:
            wanted += mixture.requests()
    return wanted
