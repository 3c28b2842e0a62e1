"""How close generated images come to the true ones, by variant: what the graph adds to the text.

For every held-out item, each variant's image is compared with the item's true image:

- *similarity*: cosine of the classifier's features, centered on the mean of the training images
  (`model.evaluation.classifier`, which knows neither the encoder nor the diffusion model);
- *palette distance*: how far one image's colors have to move to become the other's, see `palette_distance`;
- *right*: whether the classifier sees the item's own artist, genre, color … in the image;
- *copy rate*: how often an image is a near-copy of one of its own neighbors, by perceptual hash.

Variants are compared in pairs over the same items, so the standard error is that of the differences. The variant
`top-neighbor` is the image of the item's best neighbor itself: a strong baseline that makes nothing new.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from ingest.datasets.root import DataRoot, digest
from ingest.datasets.schemas import GENERATED_SCHEMA
from ingest.errors import Graph2ImageError
from ingest.images.loading import load_squares, square
from model.evaluation.classifier import (
    IMAGE_SIZE,
    Judge,
    Pixels,
    entity_labels,
    train_judge,
)

log = logging.getLogger(__name__)

TEXT, SHUFFLED, TOP_NEIGHBOR = "text", "shuffled", "top-neighbor"
_GRAPH = re.compile(r"graph-\d+(\.\d+)?")
#: Settings in which the images of one comparison may differ.
_OF_A_VARIANT = ("text", "graph_guidance_scales")

#: Two images whose 64-bit perceptual hashes differ in at most this many bits count as copies.
COPY_BITS = 8
#: Directions in CIELAB of the sliced palette distance.
DIRECTIONS = 32

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EvaluationReport:
    """What was compared; the figures are in `evaluations/<model_id>/metrics.json`."""

    model_id: str
    items: int
    variants: tuple[str, ...]
    changed: bool


@dataclass(frozen=True)
class _Picture:
    """An image to judge: of which item and variant, and the images that its neighbors are."""

    item_id: str
    variant: str
    pixels: Pixels
    neighbors: tuple[str, ...]


def evaluate(data: DataRoot, model_id: str, withdrawn: Collection[str] = ()) -> EvaluationReport:
    """Judge the images that `model_id` made of test items in the variants `text`, `graph-<scale>` and `shuffled`.

    Writes `evaluations/<model_id>/metrics.json` (means, standard errors, paired differences) and `items.parquet` (a row
    per item and variant). An item that lacks one of the variants is left out of all; so are items whose ids are in
    `withdrawn`, and images that those conditioned.

    Raises
    ------
    Graph2ImageError
        If fewer than two items have images of all variants, or there is nothing to train the classifier on.
    """
    truth = {item: image for item, image in _test_items(data).items() if item not in withdrawn}
    rows = data.read("generated", schema=GENERATED_SCHEMA)
    rows = rows.filter((pc.field("model_id") == model_id) & pc.field("item_id").isin(list(truth)))
    chosen = _complete(
        [row for row in rows.to_pylist() if not any(n["item_id"] in withdrawn for n in row["neighbors"])]
    )
    items = sorted({row["item_id"] for row in chosen})
    if len(items) < 2:
        raise Graph2ImageError(
            f"model {model_id!r} has images of {len(items)} test items in all variants; two are needed",
            "Run `graph2image evaluate`, which generates them first.",
        )
    judge = train_judge(data, withdrawn=withdrawn)
    folder = f"evaluations/{model_id}"
    inputs = digest(judge.judge_id, sorted(row["generated_id"] for row in chosen), COPY_BITS, DIRECTIONS)
    if data.exists(f"{folder}/metrics.json"):
        metrics = data.read_json(f"{folder}/metrics.json")
        if metrics["inputs"] == inputs:
            return EvaluationReport(model_id, metrics["n"], tuple(metrics["variants"]), changed=False)

    pictures = _pictures(data, model_id, chosen, truth, withdrawn)
    table = _judge(data, judge, pictures, {item: truth[item] for item in items})
    metrics = {"inputs": inputs, **_metrics(judge, table, items)}
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table), buffer)
    data.write_bytes(f"{folder}/items.parquet", buffer.getvalue())
    data.write_json(f"{folder}/metrics.json", metrics)
    log.info("Evaluated %s on %d items", model_id, len(items))
    return EvaluationReport(model_id, len(items), tuple(metrics["variants"]), changed=True)


def palette_distance(first: Pixels, second: Pixels) -> float:
    """How far apart the colors of two images are, wherever in the image they lie: ΔE*ab (CIE 1976).

    The sliced 1-Wasserstein distance of the two sets of pixels in CIELAB (Bonneel et al. 2015), over fixed directions,
    scaled so that a shift of every pixel by ΔE counts ΔE: a unit vector's component in a random direction of space is
    1/2 on average. Images are `(height, width, 3)` uint8 sRGB with equal numbers of pixels.
    """
    return _sliced_distance(_palette(first), _palette(second))


def _palette(picture: Pixels) -> Floats:
    """Sorted projections of the pixels on the directions, `(pixels, DIRECTIONS)`."""
    return np.sort(_to_lab(picture.reshape(-1, 3)) @ _directions().T, axis=0)


def _sliced_distance(first: Floats, second: Floats) -> float:
    return float(2 * np.abs(first - second).mean())


def _directions() -> Floats:
    """Unit vectors, evenly spread over the half sphere (a Fibonacci lattice)."""
    index = np.arange(DIRECTIONS) + 0.5
    height = 1 - index / DIRECTIONS
    angle = np.pi * (1 + 5**0.5) * index
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


def _to_lab(rgb: npt.NDArray[np.uint8]) -> Floats:
    """CIELAB (D65) of `(n, 3)` sRGB bytes."""
    value = rgb / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    cube = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = cube.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def _test_items(data: DataRoot) -> dict[str, str]:
    """Image hash of every test item, by item id."""
    found: dict[str, str] = {}
    for name in data.names("items"):
        table = data.read(name, ["item_id", "image_hash", "split"])
        table = table.filter((pc.field("split") == "test") & pc.field("image_hash").is_valid())
        found.update(zip(table["item_id"].to_pylist(), table["image_hash"].to_pylist(), strict=True))
    return found


def _complete(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the compared variants, one per item and variant, of the items that have all of them.

    They are of one seed and one set of settings, that by which most items were made: others are other experiments.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        shared = {name: value for name, value in orjson.loads(row["settings"]).items() if name not in _OF_A_VARIANT}
        groups.setdefault(digest(row["seed"], shared), []).append(row)
    return max((_complete_of_one(groups[key]) for key in sorted(groups)), key=len, default=[])


def _complete_of_one(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, of rows with equal settings."""
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["generated_id"]):
        if row["variant"] in (TEXT, SHUFFLED) or _GRAPH.fullmatch(row["variant"]):
            kept.setdefault((row["item_id"], row["variant"]), row)
    shuffled = {item for item, variant in kept if variant == SHUFFLED}
    variants = {variant for item, variant in kept if item in shuffled}
    whole = {item for item in shuffled if all((item, variant) in kept for variant in variants)}
    return [row for (item, variant), row in kept.items() if item in whole and variant in variants]


def _pictures(
    data: DataRoot, model_id: str, rows: Sequence[dict[str, Any]], truth: dict[str, str], withdrawn: Collection[str]
) -> list[_Picture]:
    """The generated images, and the best neighbor's own one for each item."""
    record = data.read_json(f"models/{model_id}/model.json")
    samples = data.read(f"neighbors/{record['neighbors']}").filter(pc.field("item_id").isin(list(truth)))
    neighbors = {
        row["item_id"]: [n["image_hash"] for n in row["neighbors"] if n["item_id"] not in withdrawn]
        for row in samples.to_pylist()
    }
    image_of = {
        neighbor["item_id"]: neighbor["image_hash"] for row in samples.to_pylist() for neighbor in row["neighbors"]
    }
    pictures = []
    for row in rows:
        with Image.open(io.BytesIO(data.read_bytes(row["image_path"]))) as picture:
            pixels = np.asarray(square(picture.convert("RGB"), IMAGE_SIZE))
        sources = tuple(image_of[n["item_id"]] for n in row["neighbors"] if n["item_id"] in image_of)
        pictures.append(_Picture(row["item_id"], row["variant"], pixels, sources))
    with_neighbor = sorted({row["item_id"] for row in rows if neighbors.get(row["item_id"])})
    for item, pixels in zip(
        with_neighbor, load_squares(data, [neighbors[item][0] for item in with_neighbor], IMAGE_SIZE), strict=True
    ):
        pictures.append(_Picture(item, TOP_NEIGHBOR, pixels, ()))
    return pictures


def _judge(data: DataRoot, judge: Judge, pictures: Sequence[_Picture], truth: dict[str, str]) -> list[dict[str, Any]]:
    """A row per image: similarity, palette distance, whether each head is right, whether it copies a neighbor."""
    items = list(truth)
    true_pixels = load_squares(data, list(truth.values()), IMAGE_SIZE)
    true_features, _ = judge.look(true_pixels)
    true_palettes = {item: _palette(pixels) for item, pixels in zip(items, true_pixels, strict=True)}
    position = {item: index for index, item in enumerate(items)}
    features, predictions = judge.look(np.stack([picture.pixels for picture in pictures]))
    entities = entity_labels(data)

    sources = sorted({source for picture in pictures for source in picture.neighbors})
    hashes = {
        source: imagehash.phash(Image.fromarray(pixels))
        for source, pixels in zip(sources, load_squares(data, sources, IMAGE_SIZE) if sources else [], strict=True)
    }
    table = []
    for index, picture in enumerate(pictures):
        own = imagehash.phash(Image.fromarray(picture.pixels))
        row: dict[str, Any] = {
            "item_id": picture.item_id,
            "variant": picture.variant,
            "similarity": float(features[index] @ true_features[position[picture.item_id]]),
            "palette_distance": _sliced_distance(_palette(picture.pixels), true_palettes[picture.item_id]),
            "copy": any(own - hashes[source] <= COPY_BITS for source in picture.neighbors)
            if picture.neighbors
            else None,
        }
        for head, predicted in zip(judge.heads, predictions, strict=True):
            entity = entities[head.label].get(picture.item_id)
            known = entity in head.classes
            row[f"right_{head.label}"] = head.classes[predicted[index]] == entity if known else None
        table.append(row)
    return table


def _metrics(judge: Judge, table: Sequence[dict[str, Any]], items: Sequence[str]) -> dict[str, Any]:
    by_variant: dict[str, dict[str, dict[str, Any]]] = {}
    for row in table:
        by_variant.setdefault(row["variant"], {})[row["item_id"]] = row
    graphs = sorted((v for v in by_variant if _GRAPH.fullmatch(v)), key=lambda v: float(v.removeprefix("graph-")))
    order = [v for v in (TEXT, *graphs, SHUFFLED, TOP_NEIGHBOR) if v in by_variant]
    heads = [head.label for head in judge.heads]
    variants = {}
    for variant in order:
        rows = list(by_variant[variant].values())
        copies = [row["copy"] for row in rows if row["copy"] is not None]
        variants[variant] = {
            "n": len(rows),
            "similarity": _mean([row["similarity"] for row in rows]),
            "palette_distance": _mean([row["palette_distance"] for row in rows]),
            "right": {head: _mean([row[f"right_{head}"] for row in rows]) for head in heads},
            "copy_rate": float(np.mean(copies)) if copies else None,
        }
    paired = []
    for variant in graphs:
        for baseline in (TEXT, SHUFFLED, TOP_NEIGHBOR):
            others = by_variant.get(baseline, {})
            pairs = [(by_variant[variant][item], others[item]) for item in items if item in others]
            if len(pairs) < 2:
                continue
            paired.append(
                {
                    "variant": variant,
                    "baseline": baseline,
                    "n": len(pairs),
                    "similarity": _difference(pairs, "similarity"),
                    "palette_distance": _difference(pairs, "palette_distance"),
                    "right": {head: _difference(pairs, f"right_{head}") for head in heads},
                }
            )
    return {
        "n": len(items),
        "classifier": {
            "id": judge.judge_id,
            "heads": {
                head.label: {"classes": len(head.classes), "accuracy": judge.accuracy[head.label]}
                for head in judge.heads
            },
        },
        "variants": variants,
        "paired": paired,
    }


def _difference(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], column: str) -> dict[str, float | None]:
    return _mean(
        [
            None if ours[column] is None or theirs[column] is None else float(ours[column]) - float(theirs[column])
            for ours, theirs in pairs
        ]
    )


def _mean(values: Sequence[float | bool | None]) -> dict[str, float | None]:
    """Mean and standard error of the values that there are; None where there are too few."""
    known = np.array([value for value in values if value is not None], dtype=float)
    return {
        "mean": float(known.mean()) if len(known) else None,
        "se": float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None,
    }
