"""The gate of a retraining: candidate and current model on the same held-out items and seeds, and the decision.

The candidate is promoted if its images are better by the paired test, the 95% interval of the clustered bootstrap
(`model.evaluation.statistics`), and no guard is worse than it may be. Where the current model is stale, it has to go:
then the candidate need not be better, only not much worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flows import requests, stages
from flows.comparison import Comparison, request_images
from flows.settings import Settings
from flows.snapshots import training_items
from ingest.datasets.items import among
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import GENERATED_SCHEMA
from ingest.errors import Graph2ImageError
from model.evaluation.comparison import Comparison as Compared
from model.evaluation.comparison import compare_entries
from model.evaluation.extractors import find_extractor
from model.evaluation.pairing import Entry
from model.evaluation.record import EvaluationRecord, write_evaluation
from model.generation.variants import Variant
from model.record import read_model_record

#: What is measured: whether an image is flagged as a copy, has its style, its subject, and both; and cosines of its
#: features with those of the true image, of its text and of its neighbors.
Measure = Literal["copy", "style", "subject", "both", "image", "text", "neighbors"]
#: Judged by the first of these that can be told.
HEADLINES: tuple[Measure, ...] = ("both", "image")
_VARIANT = Variant("graph", requests.CONTROL_SCALE)


class GateSettings(BaseModel):
    """What a candidate is judged by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: int = Field(64, ge=2, le=1_000_000, description="Number of held-out items that both models make images of.")
    split: Literal["val", "test"] = Field("val", description="Split that the held-out items are of.")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="Seeds of the start noise; an image for each.")
    steps: int | None = Field(
        None, ge=1, le=1_000, description="Number of denoising steps; by default the model's own."
    )
    guards: dict[Measure, float] = Field(
        {"copy": 0.02, "style": 0.05, "subject": 0.05},
        description="How much worse the candidate may be in each measure, whatever else is better.",
    )
    stale_loss: float = Field(
        0.05, ge=0, le=1, description="How much worse a candidate may be that replaces a stale model."
    )

    @model_validator(mode="after")
    def _sensible(self) -> GateSettings:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one is given twice")
        if any(not 0 <= tolerance <= 1 for tolerance in self.guards.values()):
            raise ValueError("guards: tolerances are from 0 to 1")
        return self


@dataclass(frozen=True)
class Difference:
    """A measure of the candidate less that of the current model; the bounds are None where no test can be made."""

    candidate: float | None
    current: float | None
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, and why.

    Attributes
    ----------
    headline
        The measure that decided; None without a current model.
    reasons
        In sentences.
    """

    promote: bool
    reasons: tuple[str, ...]
    headline: Measure | None
    items: int
    comparison_id: str
    measures: dict[str, Difference]


def judge(
    settings: Settings, candidate: str, current: str | None, neighbors: str, wanted: GateSettings, *, stale: bool
) -> Verdict:
    """Let both models make images of the same held-out items, from the same samples and seeds, and compare them.

    Items that either model was trained on take no part.

    Parameters
    ----------
    current
        The model that the candidate would replace; None: there is none, and the candidate is only measured.
    stale
        Whether the current one was trained on items that have been withdrawn since.

    Raises
    ------
    Graph2ImageError
        If fewer than two held-out items are left, or the models' images cannot be compared.
    """
    data = settings.data_root
    models = [candidate, *([current] if current else [])]
    records = {model_id: read_model_record(data, model_id) for model_id in models}
    seen: set[str] = set().union(*(training_items(data, record.neighbors) for record in records.values()))
    evaluations = {
        model_id: tuple(_evaluation(settings, model_id, neighbors, wanted, seed, seen) for seed in wanted.seeds)
        for model_id in models
    }
    entries = [Entry(model_id, _VARIANT, found) for model_id, found in evaluations.items()]
    compared, _ = compare_entries(
        data,
        entries,
        [find_extractor(data, records[candidate].encoder)],
        withdrawn=stages.withdrawn_items(settings),
    )
    measures = _measures(compared)
    measures["copy"] = _copies(data, [evaluations[model_id] for model_id in models], compared.item_ids)
    if current is None:
        why = "there is no model yet that it would replace"
        return Verdict(True, (why,), None, len(compared.item_ids), compared.comparison_id, measures)
    headline = next((measure for measure in HEADLINES if measure in measures), None)
    ok, reasons = decide(headline, measures, wanted, stale=stale)
    return Verdict(ok, tuple(reasons), headline, len(compared.item_ids), compared.comparison_id, measures)


def decide(
    headline: Measure | None, measures: Mapping[str, Difference], wanted: GateSettings, *, stale: bool
) -> tuple[bool, list[str]]:
    """Whether to promote, and why: a sentence for each thing that counted."""
    found = measures[headline] if headline else Difference(None, None, None, None, None)
    if found.mean is None:
        return False, ["there is nothing to tell by which of the two makes better images"]
    told = f"{headline} {_signed(found.mean)}"
    if found.low is not None and found.high is not None:
        told += f" ({_signed(found.low)} to {_signed(found.high)})"
    better = found.low is not None and found.low > 0
    if better:
        ok, reasons = True, [f"better: {told}"]
    elif stale:
        ok = found.mean >= -wanted.stale_loss
        reasons = ["the current model is stale: it was trained on items that have been withdrawn since"]
        reasons.append(f"{'not much worse' if ok else 'too much worse'}: {told}, at most {wanted.stale_loss:g} worse")
    else:
        ok, reasons = False, [f"not clearly better: {told}"]
    for measure, tolerance in wanted.guards.items():
        guard = measures.get(measure)
        if guard is None or guard.mean is None:
            continue
        loss = guard.mean if measure == "copy" else -guard.mean
        if loss > tolerance + 1e-12:
            ok = False
            reasons.append(f"worse in {measure}: {_signed(guard.mean)}, where at most {tolerance:g} is allowed")
    return ok, reasons


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _evaluation(
    settings: Settings, model_id: str, neighbors: str, wanted: GateSettings, seed: int, seen: set[str]
) -> EvaluationRecord:
    """Make the images of a seed; those of items that a model has seen do not count."""
    generation = stages.generation_settings(settings, model_id, seed=seed, num_inference_steps=wanted.steps)
    comparison = Comparison(
        wanted.items, wanted.split, neighbors, generation=generation, variants=(_VARIANT,), mixtures=False
    )
    record, _ = request_images(settings, model_id, comparison)
    images = tuple(image for image in record.images if image.item_id not in seen)
    if len(images) < 2:
        raise Graph2ImageError(
            f"{len(images)} items of the {wanted.split} split were held out from both models; two are needed",
            "Ingest more items, or judge by another split.",
        )
    record = record.model_copy(update={"images": images})
    write_evaluation(settings.data_root, record)
    return record


def _measures(compared: Compared) -> dict[str, Difference]:
    """The differences of what can be told of single images, by their kinds."""
    found: dict[str, Difference] = {}
    for metric in compared.metrics:
        if metric.of_sets or metric.kind in found:
            continue
        ours = compared.entries[0].figures.get(metric.key)
        if ours is None:
            continue
        if not compared.differences:
            found[metric.kind] = Difference(ours.mean, None, None, None, None)
            continue
        theirs = compared.entries[1].figures.get(metric.key)
        less = compared.differences[0].figures.get(metric.key)
        if theirs is not None and less is not None:
            found[metric.kind] = Difference(ours.mean, theirs.mean, less.mean, less.low, less.high)
    return found


def _copies(data: DataRoot, models: Sequence[Sequence[EvaluationRecord]], items: Sequence[str]) -> Difference:
    """Share of the images that the copy check has flagged, of the candidate and of the current model."""
    kept = {*items}
    rates: list[float | None] = []
    for evaluations in models:
        names = [image.generated_id for record in evaluations for image in record.images if image.item_id in kept]
        rows = data.dataset("generated", GENERATED_SCHEMA).to_table(
            ["generated_id", "scores"], filter=among("generated_id", names)
        )
        flags = {row["generated_id"]: row["scores"]["flagged"] for row in rows.to_pylist() if row["scores"]}
        rates.append(sum(flags.values()) / len(flags) if flags else None)
    ours, theirs = rates[0], rates[1] if len(rates) > 1 else None
    return Difference(ours, theirs, None if ours is None or theirs is None else ours - theirs, None, None)


def as_table(measures: Mapping[str, Difference]) -> list[dict[str, Any]]:
    """The measures as rows for people."""

    def text(value: float | None, signed: str = "") -> str:
        return "-" if value is None else f"{value:{signed}.3f}"

    return [
        {
            "measure": measure,
            "candidate": text(found.candidate),
            "current": text(found.current),
            "difference": text(found.mean, "+"),
            "95% interval": "-" if found.low is None else f"{text(found.low, '+')} to {text(found.high, '+')}",
        }
        for measure, found in measures.items()
    ]
