"""The figures of an evaluation: means with standard errors, and paired differences.

They are kept in `evaluations/<model_id>/<evaluation_id>/metrics.json`, of which `Metrics` is the type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError, explain_validation
from model.evaluation.roles import Question, Role
from model.generation.variants import TEXT, TOP_NEIGHBOR, Variant

#: What an image can be right in: each role, and all of them together.
Aspect = Literal[Role, "both"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)


def asked(questions: Mapping[Role, Question]) -> tuple[Aspect, ...]:
    """What images can be right in, if a judge is asked these."""
    return ASPECTS if len(questions) == len(get_args(Role)) else tuple(questions)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Estimate(_Part):
    """A mean and its standard error; None where there are too few values."""

    mean: float | None
    se: float | None


class Figures(_Part):
    """Means over `n` images, or of paired differences between `n` pairs of them.

    Parameters
    ----------
    accuracy
        How often the judge sees the item's own style, its subject, and both in the image; as far as it is asked.
    similarity
        Cosine of the judge's features with those of the true image.
    palette_distance
        See `model.evaluation.palette`.
    copy_rate
        Share of the images that are near-copies of one of the neighbors that they were made from, or of the item's own
        neighbors for a true image; without a mean if there are no neighbors.
    """

    n: int
    accuracy: dict[Aspect, Estimate]
    similarity: Estimate
    palette_distance: Estimate
    copy_rate: Estimate


class VariantMetrics(Figures):
    """The figures of one variant."""

    variant: Variant


class PairedDifference(Figures):
    """The figures of a variant less those of a baseline, item by item."""

    variant: Variant
    baseline: Variant


class Metrics(_Part):
    """What an evaluation found, over `n` items.

    Parameters
    ----------
    inputs
        Digest of the images that were compared and of the judge.
    judge_id, questions
        Who judged, and what was asked: nothing, if there are no entities that can be told from images.
    variants, paired
        In order.
    unreadable
        Images that were requested, and are missing or damaged: their items took no part.
    """

    inputs: str
    n: int
    judge_id: str
    questions: dict[Role, Question]
    variants: tuple[VariantMetrics, ...]
    paired: tuple[PairedDifference, ...]
    unreadable: int = 0

    @property
    def aspects(self) -> tuple[Aspect, ...]:
        """What images can be right in."""
        return asked(self.questions)

    def of(self, variant: Variant) -> VariantMetrics | None:
        """The figures of a variant; None if it was not compared."""
        return next((row for row in self.variants if row.variant == variant), None)

    def difference(self, variant: Variant, baseline: Variant) -> PairedDifference | None:
        """The paired difference of two variants; None if it was not computed."""
        return next((row for row in self.paired if (row.variant, row.baseline) == (variant, baseline)), None)


def metrics_file(model_id: str, evaluation_id: str) -> str:
    """Name of the file under the data root."""
    return f"evaluations/{model_id}/{evaluation_id}/metrics.json"


def read_metrics(data: DataRoot, model_id: str, evaluation_id: str) -> Metrics:
    """Read the figures of an evaluation of a model.

    Raises
    ------
    Graph2ImageError
        If the evaluation was not made, or the file is damaged or of another version of this program.
    """
    name = metrics_file(model_id, evaluation_id)
    if not data.exists(name):
        raise Graph2ImageError(
            f"there is no evaluation {evaluation_id} of model {model_id} under {data.url}",
            "Run `graph2image evaluate` first.",
        )
    value = data.read_json(name)
    with explain_validation(
        f"{data.path(name)} is of another version of graph2image",
        "Run `graph2image evaluate`, which writes it again.",
    ):
        return Metrics.model_validate(value)


@dataclass(frozen=True)
class JudgedImage:
    """What the judge and the hashes say of one image.

    `accurate` has, by role, whether an own entity of the item is seen in the image; None where it has none that the
    judge knows. `similarity` is None for the true image itself, `copy` where there are no neighbors to copy.
    """

    item_id: str
    variant: Variant
    similarity: float | None
    palette_distance: float
    copy: bool | None
    accurate: Mapping[Role, bool | None]

    def right(self, aspect: Aspect) -> bool | None:
        """Whether the image is right in a role, or in both; None if that cannot be said."""
        if aspect != "both":
            return self.accurate.get(aspect)
        every = list(self.accurate.values())
        return None if len(every) < len(get_args(Role)) or None in every else all(every)


def variant_metrics(variant: Variant, images: Sequence[JudgedImage], aspects: Sequence[Aspect]) -> VariantMetrics:
    """The figures of one variant's images."""
    figures = _figures([(image, None) for image in images], aspects)
    return VariantMetrics(variant=variant, **vars(figures))


def paired_differences(images: Sequence[JudgedImage], aspects: Sequence[Aspect]) -> list[PairedDifference]:
    """Every graph variant less each control, over the items that both have."""
    by_variant: dict[Variant, dict[str, JudgedImage]] = {}
    for image in images:
        by_variant.setdefault(image.variant, {})[image.item_id] = image
    order = sorted(by_variant, key=lambda variant: variant.sort_key)
    controls = [v for v in order if v.kind == "shuffled"]
    found = []
    for variant in (v for v in order if v.kind == "graph"):
        for baseline in (TEXT, *controls, TOP_NEIGHBOR):
            theirs = by_variant.get(baseline, {})
            pairs = [(ours, theirs[item]) for item, ours in by_variant[variant].items() if item in theirs]
            if len(pairs) > 1:
                figures = _figures(pairs, aspects)
                found.append(PairedDifference(variant=variant, baseline=baseline, **vars(figures)))
    return found


def _figures(pairs: Sequence[tuple[JudgedImage, JudgedImage | None]], aspects: Sequence[Aspect]) -> Figures:
    """Means of the first images' values, less those of the second where there are second ones."""

    def mean(value: Callable[[JudgedImage], float | bool | None]) -> Estimate:
        return _mean([_less(value(ours), None if theirs is None else value(theirs), theirs) for ours, theirs in pairs])

    return Figures(
        n=len(pairs),
        accuracy={aspect: mean(methodcaller("right", aspect)) for aspect in aspects},
        similarity=mean(lambda image: image.similarity),
        palette_distance=mean(lambda image: image.palette_distance),
        copy_rate=mean(lambda image: image.copy),
    )


def _less(ours: float | None, theirs: float | None, other: JudgedImage | None) -> float | None:
    if ours is None or other is None:
        return None if ours is None else float(ours)
    return None if theirs is None else float(ours) - float(theirs)


def _mean(values: Sequence[float | None]) -> Estimate:
    """Mean and standard error of the values that there are."""
    known = np.array([value for value in values if value is not None], dtype=float)
    return Estimate(
        mean=float(known.mean()) if len(known) else None,
        se=float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None,
    )
