"""How close generated images come to the true ones, by variant: what the graph adds to the text.

For every item of an evaluation, each variant's image is judged by itself and compared with the item's true image:

- *style and subject right*: whether the judge sees an own entity of the item in the image, for the label that only
  the graph tells (an artist, a brand), for the one that the text tells (a tag, a category), and for both together,
  which is the headline: copying a neighbor has the style, and text alone has the subject;
- *similarity*: cosine of the features of the judge (`model.evaluation.judge`), which knows neither the encoder nor the
  diffusion model;
- *palette distance*: how far one image's colors have to move to become the other's, see `model.evaluation.palette`;
- *copy rate*: how often an image is a near-copy of one of its own neighbors, by perceptual hash; and how often the
  true image is, which is as often as chance has it.

Variants are compared in pairs over the same items, so the standard error is that of the differences. Images that are
not generated stand beside them: see `model.evaluation.references`.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from ingest.datasets.items import among, read_items
from ingest.datasets.root import DataRoot, digest
from ingest.errors import Graph2ImageError
from ingest.images.loading import Fit, square
from ingest.images.store import perceptual_hash
from model.evaluation.encoder_judge import EncoderJudge, load_encoder_judge
from model.evaluation.images import Row, generated_rows, read_generated, readable_squares, source_ids
from model.evaluation.judge import Judge, TrainingItems, judge_size, read_training_items, train_judge
from model.evaluation.metrics import (
    JudgedImage,
    Metrics,
    asked,
    metrics_file,
    paired_differences,
    read_metrics,
    variant_metrics,
)
from model.evaluation.palette import DIRECTIONS, Pixels, palette, sliced_distance
from model.evaluation.record import EvaluationRecord, write_evaluation
from model.evaluation.references import decoded, load_autoencoder, same_entities
from model.evaluation.roles import Role, item_labels
from model.generation.copycheck import differing_bits, parse_hashes
from model.generation.requests import COPY_THRESHOLDS
from model.generation.variants import (
    SAME_ENTITIES,
    TOP_NEIGHBOR,
    TOP_NEIGHBOR_DECODED,
    TRUE,
    TRUE_DECODED,
    Variant,
)
from model.record import ModelRecord, read_model_record

log = logging.getLogger(__name__)

#: Another version of the method gives other figures.
_VERSION = 2


@dataclass(frozen=True)
class EvaluationReport:
    """What was compared; the figures are in `evaluations/<model_id>/<evaluation_id>/metrics.json`.

    `unreadable` counts requested images that are missing or damaged, which took no part.
    """

    model_id: str
    evaluation_id: str
    items: int
    variants: tuple[str, ...]
    unreadable: int
    changed: bool


@dataclass(frozen=True)
class _Item:
    """An item that is compared: its true image, its group, and the rows of its generated images, by variant."""

    item_id: str
    image_hash: str
    group_id: str
    rows: Mapping[Variant, Row]

    @property
    def neighbors(self) -> list[str]:
        """Ids of its own neighbors, best first: those of any image that was made with them."""
        return next((source_ids(row) for variant, row in self.rows.items() if variant.kind == "graph"), [])


@dataclass(frozen=True)
class _Shown:
    """An image to judge.

    Parameters
    ----------
    group
        Of the item that it shows or was made from; None for a generated image.
    sources
        Ids of the items whose images it may be a copy of.
    """

    item: _Item
    variant: Variant
    pixels: Pixels
    group: str | None
    sources: Sequence[str] = ()


def evaluate(
    data: DataRoot,
    record: EvaluationRecord,
    withdrawn: Collection[str] = (),
) -> EvaluationReport:
    """Judge the images that an evaluation has requested, and nothing else.

    Writes the record, `metrics.json` (means, standard errors, paired differences) and `items.parquet` (a row per item
    and variant) to the evaluation's folder. An item that lacks one of its requested images is left out; so is one whose
    id is in `withdrawn`, whose true image cannot be read, or of which an image was made from a withdrawn item.

    Raises
    ------
    Graph2ImageError
        If there is no such model, fewer than two items have images of all variants, or a label cannot be told.
    """
    model = read_model_record(data, record.model_id)
    size, fit = judge_size(model.config.image_size), model.config.image_fit
    items = _complete(data, record, withdrawn)
    truth = readable_squares(data, [item.image_hash for item in items], size, fit)
    generated, unreadable = _read_generated(data, [item for item in items if item.image_hash in truth], size)
    items = list({shown.item.item_id: shown.item for shown in generated}.values())
    if len(items) < 2:
        raise Graph2ImageError(
            f"{len(items)} items of the evaluation have a true image and all requested images; two are needed"
            + (f" ({unreadable} images are missing or damaged)" if unreadable else ""),
            "Run `graph2image evaluate` again: it generates what is missing.",
        )
    training = read_training_items(data, withdrawn)
    judge = train_judge(data, training, size, record.labels, fit) or load_encoder_judge(data, model.encoder, size)
    ids = sorted(str(row["generated_id"]) for item in items for row in item.rows.values())
    inputs = digest(_VERSION, judge.judge_id, ids, COPY_THRESHOLDS.bits, DIRECTIONS)
    before = _recorded(data, record)
    if before is not None and before.inputs == inputs:
        names = tuple(row.variant.label for row in before.variants)
        return EvaluationReport(record.model_id, record.evaluation_id, before.n, names, unreadable, changed=False)

    sources = _Sources(data, items, withdrawn, size, fit)
    references = _references(data, model, judge, training, sources, items, truth)
    judged = _judge(data, judge, sources, [*generated, *references], truth)
    metrics = _metrics(inputs, judge, judged, unreadable)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([_flat(image) for image in judged]), buffer)
    write_evaluation(data, record)
    data.write_bytes(f"{record.folder}/items.parquet", buffer.getvalue())
    data.write_json(metrics_file(record.model_id, record.evaluation_id), metrics.model_dump(mode="json"))
    log.info("Evaluated %s on %d items", record.model_id, metrics.n)
    names = tuple(row.variant.label for row in metrics.variants)
    return EvaluationReport(record.model_id, record.evaluation_id, metrics.n, names, unreadable, changed=True)


def _recorded(data: DataRoot, record: EvaluationRecord) -> Metrics | None:
    """What an earlier run found; None if there is none that can be read."""
    try:
        return read_metrics(data, record.model_id, record.evaluation_id)
    except Graph2ImageError:
        return None


# -- which images are compared -----------------------------------------------------------------------------------------


def _complete(data: DataRoot, record: EvaluationRecord, withdrawn: Collection[str]) -> list[_Item]:
    """The items that have a true image and rows of all requested images, with nothing withdrawn in them."""
    made = generated_rows(data, [image.generated_id for image in record.images])
    rows: dict[str, dict[Variant, Row]] = {}
    incomplete = {*withdrawn}
    for image in record.images:
        row = made.get(image.generated_id)
        if row is None or not {*withdrawn}.isdisjoint(source_ids(row)):
            incomplete.add(image.item_id)
        else:
            rows.setdefault(image.item_id, {})[image.variant] = row
    wanted = among("item_id", {*rows} - incomplete) & pc.field("image_hash").is_valid() & ~pc.field("opted_out")
    found = read_items(data, ["item_id", "image_hash", "group_id"], where=wanted).to_pylist()
    items = {
        row["item_id"]: _Item(row["item_id"], row["image_hash"], row["group_id"], rows[row["item_id"]]) for row in found
    }
    return [items[item_id] for item_id in rows if item_id in items]


def _read_generated(data: DataRoot, items: Sequence[_Item], size: int) -> tuple[list[_Shown], int]:
    """The images of the items of which all can be read, and how many cannot."""
    found, unreadable = [], 0
    for item in items:
        shown = []
        for variant, row in item.rows.items():
            image = read_generated(data, row)
            if image is None:
                unreadable += 1
            else:
                shown.append(_Shown(item, variant, np.asarray(square(image, size)), None, source_ids(row)))
        if len(shown) == len(item.rows):
            found += shown
    return found, unreadable


class _Sources:
    """The items that images were made from: their images, and the groups that those are in."""

    def __init__(self, data: DataRoot, items: Sequence[_Item], withdrawn: Collection[str], size: int, fit: Fit) -> None:
        named = {source for item in items for row in item.rows.values() for source in source_ids(row)}
        wanted = among("item_id", named - {*withdrawn}) & pc.field("image_hash").is_valid()
        rows = read_items(data, ["item_id", "image_hash", "group_id"], where=wanted).to_pylist()
        squares = readable_squares(data, [row["image_hash"] for row in rows], size, fit)
        self.pixels = {row["item_id"]: squares[row["image_hash"]] for row in rows if row["image_hash"] in squares}
        self.groups = {row["item_id"]: row["group_id"] for row in rows}
        self.image_hashes = {row["item_id"]: row["image_hash"] for row in rows}
        self._hashes = {item: parse_hashes([perceptual_hash(Image.fromarray(p))]) for item, p in self.pixels.items()}

    def copied(self, pixels: Pixels, sources: Sequence[str]) -> bool | None:
        """Whether an image is a near-copy of one of these items' images; None if none of them can be read."""
        hashes = [self._hashes[source] for source in sources if source in self._hashes]
        if not hashes:
            return None
        own = parse_hashes([perceptual_hash(Image.fromarray(pixels))])
        return bool((differing_bits(own, np.concatenate(hashes)) <= COPY_THRESHOLDS.bits).any())


def _references(
    data: DataRoot,
    model: ModelRecord,
    judge: Judge | EncoderJudge,
    training: TrainingItems,
    sources: _Sources,
    items: Sequence[_Item],
    truth: Mapping[str, Pixels],
) -> list[_Shown]:
    """The images that the generated ones are compared with; see `model.evaluation.references`."""
    found = [_Shown(item, TRUE, truth[item.image_hash], item.group_id, item.neighbors) for item in items]
    images = [item.image_hash for item in items]
    for item in items:
        top = next((source for source in item.neighbors if source in sources.pixels), None)
        if top is not None:
            found.append(_Shown(item, TOP_NEIGHBOR, sources.pixels[top], sources.groups[top]))
            images.append(sources.image_hashes[top])
    fit = model.config.image_fit
    before = readable_squares(data, images, model.config.image_size, fit)
    names = sorted(before)
    passed = decoded(load_autoencoder(data, model.model_id), np.stack([before[name] for name in names]))
    after = {
        name: np.asarray(square(Image.fromarray(pixels), judge.size))
        for name, pixels in zip(names, passed, strict=True)
    }
    of = {TRUE: TRUE_DECODED, TOP_NEIGHBOR: TOP_NEIGHBOR_DECODED}
    found += [
        replace(one, variant=of[one.variant], pixels=after[name]) for one, name in zip(found, images, strict=True)
    ]
    own = item_labels(data, [item.item_id for item in items])
    alike = same_entities(training, judge.questions.values(), [item.item_id for item in items], own)
    squares = readable_squares(data, [training.image_hashes[index] for index in alike.values()], judge.size, fit)
    for item in items:
        index = alike.get(item.item_id)
        if index is not None and (image_hash := training.image_hashes[index]) in squares:
            found.append(_Shown(item, SAME_ENTITIES, squares[image_hash], training.group_ids[index]))
    return found


# -- judging -----------------------------------------------------------------------------------------------------------


def _judge(
    data: DataRoot,
    judge: Judge | EncoderJudge,
    sources: _Sources,
    images: Sequence[_Shown],
    truth: Mapping[str, Pixels],
) -> list[JudgedImage]:
    """What the judge sees in each image, similarity, palette distance, and whether a neighbor is copied."""
    features, entities = judge.predict(np.stack([shown.pixels for shown in images]), [shown.group for shown in images])
    labels = item_labels(data, list({shown.item.item_id: None for shown in images}))
    true_features = {
        shown.item.item_id: row for shown, row in zip(images, features, strict=True) if shown.variant == TRUE
    }
    palettes = {image_hash: palette(pixels) for image_hash, pixels in truth.items()}
    judged = []
    for index, shown in enumerate(images):
        item = shown.item
        accurate: dict[Role, bool | None] = {}
        for role, question in judge.questions.items():
            own = {*labels.get(question.label, {}).get(item.item_id, ())}
            accurate[role] = None if own.isdisjoint(question.classes) else entities[role][index] in own
        judged.append(
            JudgedImage(
                item.item_id,
                shown.variant,
                None if shown.variant == TRUE else float(features[index] @ true_features[item.item_id]),
                sliced_distance(palette(shown.pixels), palettes[item.image_hash]),
                sources.copied(shown.pixels, shown.sources),
                accurate,
            )
        )
    return judged


def _metrics(inputs: str, judge: Judge | EncoderJudge, judged: Sequence[JudgedImage], unreadable: int) -> Metrics:
    variants = sorted({image.variant for image in judged}, key=lambda variant: variant.sort_key)
    aspects = asked(judge.questions)
    return Metrics(
        inputs=inputs,
        n=len({image.item_id for image in judged}),
        judge_id=judge.judge_id,
        questions=dict(judge.questions),
        variants=tuple(
            variant_metrics(variant, [image for image in judged if image.variant == variant], aspects)
            for variant in variants
        ),
        paired=tuple(paired_differences(judged, aspects)),
        unreadable=unreadable,
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
        **{f"{role}_right": value for role, value in image.accurate.items()},
    }
