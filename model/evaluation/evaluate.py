"""How close generated images come to the true ones, by variant: what the graph adds to the text.

For every held-out item, each variant's image is compared with the item's true image:

- *similarity*: cosine of the classifier's features, centered on the mean of the training images
  (`model.evaluation.classifier`, which knows neither the encoder nor the diffusion model);
- *palette distance*: how far one image's colors have to move to become the other's, see `metrics.palette_distance`;
- *attribute accuracy*: whether the classifier sees the item's own artist, genre, color … in the image;
- *copy rate*: how often an image is a near-copy of one of its own neighbors, by perceptual hash.

Variants are compared in pairs over the same items, so the standard error is that of the differences. The variant
`top-neighbor` is the image of the item's best neighbor itself: a strong baseline that makes nothing new.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import imagehash
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from ingest.datasets.items import among, read_items
from ingest.datasets.root import DataRoot, digest
from ingest.datasets.schemas import GENERATED_SCHEMA, NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError
from ingest.images.loading import image_paths, square, try_images
from model.evaluation.classifier import IMAGE_SIZE, Judge, entity_labels, train_judge
from model.evaluation.encoder_judge import EncoderJudge, load_encoder_judge
from model.evaluation.metrics import (
    DIRECTIONS,
    ClassifierHead,
    JudgedImage,
    Metrics,
    Pixels,
    metrics_file,
    paired_differences,
    palette,
    read_metrics,
    sliced_distance,
    variant_metrics,
)
from model.generation.variants import TOP_NEIGHBOR, Variant
from model.record import ModelRecord, read_model_record

log = logging.getLogger(__name__)

#: Settings in which the images of one comparison may differ.
_OF_A_VARIANT = ("text", "graph_guidance_scales")

#: Two images whose 64-bit perceptual hashes differ in at most this many bits count as copies.
COPY_BITS = 8


@dataclass(frozen=True)
class EvaluationReport:
    """What was compared; the figures are in `evaluations/<model_id>/metrics.json`.

    `unreadable` counts generated images that are missing or damaged, which took no part.
    """

    model_id: str
    items: int
    variants: tuple[str, ...]
    unreadable: int
    changed: bool


@dataclass(frozen=True)
class _Candidate:
    """A generated image that may be compared: its row of the `generated` dataset, and its variant."""

    row: Mapping[str, Any]
    variant: Variant

    @property
    def item_id(self) -> str:
        return str(self.row["item_id"])

    @property
    def path(self) -> str:
        return str(self.row["image_path"])


@dataclass(frozen=True)
class _Judged:
    """An image to judge: of which item and variant, and the hashes of its neighbors' images."""

    item_id: str
    variant: Variant
    pixels: Pixels
    neighbors: tuple[str, ...]


def evaluate(data: DataRoot, model_id: str, withdrawn: Collection[str] = ()) -> EvaluationReport:
    """Judge the images that `model_id` made of test items: from text only, with neighbors, with shuffled neighbors.

    Writes `evaluations/<model_id>/metrics.json` (means, standard errors, paired differences) and `items.parquet` (a row
    per item and variant). An item that lacks one of the variants is left out of all; so are items whose ids are in
    `withdrawn` or whose image cannot be read, and images that withdrawn items conditioned.

    Raises
    ------
    Graph2ImageError
        If there is no such model, or fewer than two items have images of all variants.
    """
    record = read_model_record(data, model_id)
    true_images = _true_images(data, withdrawn)
    chosen = _complete(_candidates(data, model_id, true_images, withdrawn))
    pixels = {candidate.path: _read_generated(data, candidate.row) for candidate in chosen}
    incomplete = {candidate.item_id for candidate in chosen if pixels[candidate.path] is None}
    unreadable = sum(image is None for image in pixels.values())
    chosen = [candidate for candidate in chosen if candidate.item_id not in incomplete]
    items = sorted({candidate.item_id for candidate in chosen})
    if len(items) < 2:
        raise Graph2ImageError(
            f"model {model_id!r} has images of {len(items)} test items in all variants; two are needed"
            + (f" ({unreadable} images are missing or damaged)" if unreadable else ""),
            "Run `graph2image evaluate`, which generates them first.",
        )
    judge = train_judge(data, withdrawn=withdrawn) or load_encoder_judge(data, record.encoder)
    inputs = digest(judge.judge_id, sorted(str(c.row["generated_id"]) for c in chosen), COPY_BITS, DIRECTIONS)
    before = _recorded(data, model_id)
    if before is not None and before.inputs == inputs:
        labels = tuple(row.variant.label for row in before.variants)
        return EvaluationReport(model_id, before.n, labels, unreadable, changed=False)

    hashes = {candidate.item_id: true_images[candidate.item_id] for candidate in chosen}
    judged = _judge(data, judge, _images_to_judge(data, record, chosen, pixels, withdrawn), hashes)
    metrics = _metrics(inputs, judge, judged)
    table = pa.Table.from_pylist([_flat(image) for image in judged])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    data.write_bytes(f"evaluations/{model_id}/items.parquet", buffer.getvalue())
    data.write_json(metrics_file(model_id), metrics.model_dump(mode="json"))
    log.info("Evaluated %s on %d items", model_id, metrics.n)
    labels = tuple(row.variant.label for row in metrics.variants)
    return EvaluationReport(model_id, metrics.n, labels, unreadable, changed=True)


def _recorded(data: DataRoot, model_id: str) -> Metrics | None:
    """What an earlier run found; None if there is none that can be read."""
    try:
        return read_metrics(data, model_id)
    except Graph2ImageError:
        return None


def _true_images(data: DataRoot, withdrawn: Collection[str]) -> dict[str, str]:
    """Image hash of every test item that has one, by item id."""
    wanted = (pc.field("split") == "test") & pc.field("image_hash").is_valid() & ~pc.field("opted_out")
    table = read_items(data, ["item_id", "image_hash"], where=wanted)
    pairs = zip(table["item_id"].to_pylist(), table["image_hash"].to_pylist(), strict=True)
    return {item_id: image_hash for item_id, image_hash in pairs if item_id not in withdrawn}


# -- which images are compared -----------------------------------------------------------------------------------------


def _candidates(
    data: DataRoot, model_id: str, true_images: Mapping[str, str], withdrawn: Collection[str]
) -> list[_Candidate]:
    """The model's images of test items in a variant that is compared."""
    wanted = (pc.field("model_id") == model_id) & among("kind", ["text", "graph", "shuffled"])
    table = data.dataset("generated", GENERATED_SCHEMA).to_table(filter=wanted & among("item_id", true_images))
    return [
        _Candidate(row, variant)
        for row in table.to_pylist()
        if (variant := Variant.of_row(row)) is not None
        and not any(neighbor["item_id"] in withdrawn for neighbor in row["neighbors"])
    ]


def _read_generated(data: DataRoot, row: Mapping[str, Any]) -> Pixels | None:
    """A generated image as the classifier takes it; None, and a warning, if it is missing or damaged."""
    try:
        with Image.open(io.BytesIO(data.read_bytes(row["image_path"], row["image_sha256"]))) as image:
            return np.asarray(square(image.convert("RGB"), IMAGE_SIZE))
    except Exception as error:  # decoders raise anything on damaged bytes
        log.warning("Left out: cannot read the generated image %s: %s", data.path(row["image_path"]), error)
        return None


def _complete(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """One image per item and variant, of the items that have all variants.

    They are of one seed and one set of settings, that by which most items were made: others are other experiments.
    """
    groups: dict[str, list[_Candidate]] = {}
    for candidate in candidates:
        settings = orjson.loads(candidate.row["settings"])
        shared = {name: value for name, value in settings.items() if name not in _OF_A_VARIANT}
        groups.setdefault(digest(candidate.row["seed"], shared), []).append(candidate)
    return max((_complete_of_one(groups[key]) for key in sorted(groups)), key=len, default=[])


def _complete_of_one(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The same, of images with equal settings."""
    kept: dict[tuple[str, Variant], _Candidate] = {}
    for candidate in sorted(candidates, key=lambda candidate: str(candidate.row["generated_id"])):
        kept.setdefault((candidate.item_id, candidate.variant), candidate)
    shuffled = {item for item, variant in kept if variant.kind == "shuffled"}
    variants = {variant for item, variant in kept if item in shuffled}
    whole = {item for item in shuffled if all((item, variant) in kept for variant in variants)}
    return [candidate for (item, variant), candidate in kept.items() if item in whole and variant in variants]


# -- judging -----------------------------------------------------------------------------------------------------------


def _images_to_judge(
    data: DataRoot,
    record: ModelRecord,
    chosen: Sequence[_Candidate],
    pixels: Mapping[str, Pixels | None],
    withdrawn: Collection[str],
) -> list[_Judged]:
    """The generated images, of which `pixels` has the pixels by path, and the best neighbor's own one for each item."""
    items = sorted({candidate.item_id for candidate in chosen})
    dataset = data.dataset(f"neighbors/{record.neighbors}", NEIGHBOR_SCHEMA)
    sampled = dataset.to_table(["item_id", "neighbors"], filter=among("item_id", items)).to_pylist()
    image_of = {
        neighbor["item_id"]: neighbor["image_hash"]
        for row in sampled
        for neighbor in row["neighbors"]
        if neighbor["image_hash"] and neighbor["item_id"] not in withdrawn
    }
    images = [
        _Judged(
            candidate.item_id,
            candidate.variant,
            shown,
            tuple(image_of[n["item_id"]] for n in candidate.row["neighbors"] if n["item_id"] in image_of),
        )
        for candidate in chosen
        if (shown := pixels[candidate.path]) is not None
    ]
    best = {
        row["item_id"]: image_of[first]
        for row in sampled
        if (first := next((n["item_id"] for n in row["neighbors"] if n["item_id"] in image_of), None))
    }
    squares = _readable_squares(data, set(best.values()))
    return images + [
        _Judged(item, TOP_NEIGHBOR, squares[best[item]], ()) for item in items if best.get(item) in squares
    ]


def _judge(
    data: DataRoot, judge: Judge | EncoderJudge, images: Sequence[_Judged], true_images: Mapping[str, str]
) -> list[JudgedImage]:
    """Similarity, palette distance, what each head sees, and whether a neighbor is copied, of each image."""
    squares = _readable_squares(
        data, {*true_images.values(), *(hash_ for image in images for hash_ in image.neighbors)}
    )
    items = [item for item, image_hash in true_images.items() if image_hash in squares]
    if len(items) < 2:
        raise Graph2ImageError(
            f"the true images of {len(items)} items can be read; two are needed",
            f"Is the folder {data.path('images')} there? Ingest the source again.",
        )
    true_pixels = np.stack([squares[true_images[item]] for item in items])
    true_features, _ = judge.predict(true_pixels)
    place = {item: index for index, item in enumerate(items)}
    true_palettes = [palette(pixels) for pixels in true_pixels]
    images = [image for image in images if image.item_id in place]
    features, predictions = judge.predict(np.stack([image.pixels for image in images]))
    entities = entity_labels(data)
    hashes = {
        name: imagehash.phash(Image.fromarray(squares[name]))
        for name in {name for image in images for name in image.neighbors}
        if name in squares
    }
    judged = []
    for index, image in enumerate(images):
        accurate = {}
        for head, predicted in zip(judge.heads, predictions, strict=True):
            entity = entities[head.label].get(image.item_id)
            accurate[head.label] = head.classes[predicted[index]] == entity if entity in head.classes else None
        own, sources = imagehash.phash(Image.fromarray(image.pixels)), [n for n in image.neighbors if n in hashes]
        true = place[image.item_id]
        judged.append(
            JudgedImage(
                image.item_id,
                image.variant,
                similarity=float(features[index] @ true_features[true]),
                palette_distance=sliced_distance(palette(image.pixels), true_palettes[true]),
                copy=any(own - hashes[source] <= COPY_BITS for source in sources) if sources else None,
                accurate=accurate,
            )
        )
    return judged


def _metrics(inputs: str, judge: Judge | EncoderJudge, judged: Sequence[JudgedImage]) -> Metrics:
    variants = sorted({image.variant for image in judged}, key=lambda variant: variant.sort_key)
    return Metrics(
        inputs=inputs,
        n=len({image.item_id for image in judged}),
        classifier_id=judge.judge_id,
        heads={
            head.label: ClassifierHead(classes=len(head.classes), accuracy=judge.accuracy[head.label])
            for head in judge.heads
        },
        variants=tuple(variant_metrics(v, [image for image in judged if image.variant == v]) for v in variants),
        paired=tuple(paired_differences(judged)),
    )


def _flat(image: JudgedImage) -> dict[str, Any]:
    """The image as a row of `items.parquet`."""
    return {
        "item_id": image.item_id,
        "variant": image.variant.label,
        **{name: value for name, value in asdict(image.variant).items() if name != "shares"},
        "similarity": image.similarity,
        "palette_distance": image.palette_distance,
        "copy": image.copy,
        **{f"accurate_{label}": value for label, value in image.accurate.items()},
    }


def _readable_squares(data: DataRoot, image_hashes: Iterable[str]) -> dict[str, Pixels]:
    """Stored images by hash, as the classifier takes them; those that cannot be read are left out with a warning."""
    wanted = sorted(set(image_hashes))
    loaded = try_images(data, image_paths(data), wanted, lambda image: np.asarray(square(image, IMAGE_SIZE)))
    found = {}
    for image_hash, pixels in zip(wanted, loaded, strict=True):
        if isinstance(pixels, Graph2ImageError):
            log.warning("Left out: %s", pixels.message)
        else:
            found[image_hash] = pixels
    return found
