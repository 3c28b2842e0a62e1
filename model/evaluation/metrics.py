"""The figures of an evaluation: how far colors are apart, means with standard errors, and paired differences.

They are kept in `evaluations/<model_id>/metrics.json`, of which `Metrics` is the type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError, explain_validation
from model.generation.variants import TEXT, TOP_NEIGHBOR, Variant

#: Directions in CIELAB of the sliced palette distance.
DIRECTIONS = 32

Floats: TypeAlias = npt.NDArray[np.float64]
Pixels: TypeAlias = npt.NDArray[np.uint8]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Estimate(_Part):
    """A mean and its standard error; None where there are too few values."""

    mean: float | None
    se: float | None


class VariantMetrics(_Part):
    """The figures of one variant, over `n` images.

    Parameters
    ----------
    similarity
        Cosine of the classifier's features with those of the true image.
    palette_distance
        See `palette_distance`.
    attribute_accuracy
        By entity label: how often the classifier sees the item's own entity in the image.
    copy_rate
        Share of the images that are near-copies of one of their neighbors; None if none had a neighbor.
    """

    variant: Variant
    n: int
    similarity: Estimate
    palette_distance: Estimate
    attribute_accuracy: dict[str, Estimate]
    copy_rate: float | None


class PairedDifference(_Part):
    """A variant less a baseline, item by item, over `n` items; the figures are those of `VariantMetrics`."""

    variant: Variant
    baseline: Variant
    n: int
    similarity: Estimate
    palette_distance: Estimate
    attribute_accuracy: dict[str, Estimate]


class ClassifierHead(_Part):
    """An entity label that the classifier tells: number of classes, and its accuracy on real images held back."""

    classes: int
    accuracy: float


class Metrics(_Part):
    """What an evaluation found, over `n` items.

    Parameters
    ----------
    inputs
        Digest of the images that were compared.
    classifier_id, heads
        The classifier that judged, and its heads by entity label.
    variants, paired
        In order.
    """

    inputs: str
    n: int
    classifier_id: str
    heads: dict[str, ClassifierHead]
    variants: tuple[VariantMetrics, ...]
    paired: tuple[PairedDifference, ...]

    def of(self, variant: Variant) -> VariantMetrics | None:
        """The figures of a variant; None if it was not compared."""
        return next((row for row in self.variants if row.variant == variant), None)

    def difference(self, variant: Variant, baseline: Variant) -> PairedDifference | None:
        """The paired difference of two variants; None if it was not computed."""
        return next((row for row in self.paired if (row.variant, row.baseline) == (variant, baseline)), None)


def metrics_file(model_id: str) -> str:
    """Name of the file under the data root."""
    return f"evaluations/{model_id}/metrics.json"


def read_metrics(data: DataRoot, model_id: str) -> Metrics:
    """Read the figures of a model's evaluation.

    Raises
    ------
    Graph2ImageError
        If the model was not evaluated, or the file is damaged or of another version of this program.
    """
    name = metrics_file(model_id)
    if not data.exists(name):
        raise Graph2ImageError(
            f"model {model_id} has not been evaluated under {data.url}", "Run `graph2image evaluate` first."
        )
    value = data.read_json(name)
    with explain_validation(
        f"{data.path(name)} is of another version of graph2image",
        "Run `graph2image evaluate`, which writes it again.",
    ):
        return Metrics.model_validate(value)


@dataclass(frozen=True)
class JudgedImage:
    """What the classifier and the hashes say of one image.

    `accurate` has, by entity label, whether the item's own entity is seen in the image; None where it has none that the
    classifier knows. `copy` is None for an image without neighbors.
    """

    item_id: str
    variant: Variant
    similarity: float
    palette_distance: float
    copy: bool | None
    accurate: Mapping[str, bool | None]


def variant_metrics(variant: Variant, images: Sequence[JudgedImage]) -> VariantMetrics:
    """The figures of one variant's images."""
    copies = [image.copy for image in images if image.copy is not None]
    return VariantMetrics(
        variant=variant,
        n=len(images),
        similarity=_mean([image.similarity for image in images]),
        palette_distance=_mean([image.palette_distance for image in images]),
        attribute_accuracy={
            label: _mean([image.accurate[label] for image in images])
            for label in (images[0].accurate if images else ())
        },
        copy_rate=float(np.mean(copies)) if copies else None,
    )


def paired_differences(images: Sequence[JudgedImage]) -> list[PairedDifference]:
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
                found.append(_paired(variant, baseline, pairs))
    return found


def _paired(variant: Variant, baseline: Variant, pairs: Sequence[tuple[JudgedImage, JudgedImage]]) -> PairedDifference:
    return PairedDifference(
        variant=variant,
        baseline=baseline,
        n=len(pairs),
        similarity=_mean([ours.similarity - theirs.similarity for ours, theirs in pairs]),
        palette_distance=_mean([ours.palette_distance - theirs.palette_distance for ours, theirs in pairs]),
        attribute_accuracy={
            label: _mean([_less(ours.accurate[label], theirs.accurate[label]) for ours, theirs in pairs])
            for label in pairs[0][0].accurate
        },
    )


def _less(ours: bool | None, theirs: bool | None) -> float | None:
    return None if ours is None or theirs is None else float(ours) - float(theirs)


def _mean(values: Sequence[float | bool | None]) -> Estimate:
    """Mean and standard error of the values that there are."""
    known = np.array([value for value in values if value is not None], dtype=float)
    return Estimate(
        mean=float(known.mean()) if len(known) else None,
        se=float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None,
    )


# -- colors ------------------------------------------------------------------------------------------------------------


def palette_distance(first: Pixels, second: Pixels) -> float:
    """How far apart the colors of two images are, wherever in the image they lie: ΔE*ab (CIE 1976).

    The sliced 1-Wasserstein distance of the two sets of pixels in CIELAB (Bonneel et al. 2015), over fixed directions,
    scaled so that a shift of every pixel by ΔE counts ΔE: a unit vector's component in a random direction of space is
    1/2 on average. Images are `(height, width, 3)` uint8 sRGB with equal numbers of pixels.
    """
    return sliced_distance(palette(first), palette(second))


def palette(pixels: Pixels) -> Floats:
    """Sorted projections of the pixels on the directions, `(n, DIRECTIONS)`, as `sliced_distance` takes them."""
    return np.sort(to_lab(pixels.reshape(-1, 3)) @ _directions().T, axis=0)


def sliced_distance(first: Floats, second: Floats) -> float:
    """`palette_distance` of two images, from their `palette`."""
    return float(2 * np.abs(first - second).mean())


def _directions() -> Floats:
    """Unit vectors, evenly spread over the half sphere (a Fibonacci lattice)."""
    index = np.arange(DIRECTIONS) + 0.5
    height = 1 - index / DIRECTIONS
    angle = np.pi * (1 + 5**0.5) * index
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


def to_lab(rgb: npt.NDArray[np.uint8]) -> Floats:
    """CIELAB (D65) of `(n, 3)` sRGB bytes."""
    value = rgb / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    cube = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = cube.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
