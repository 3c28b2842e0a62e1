"""The judge of images: it tells whose style an image has and what it shows, and how alike two images are in that.

It sees fixed descriptors of color and texture (`model.evaluation.descriptors`) and is trained on the training split's
images and their entities, so it knows nothing of text encoder, autoencoder or diffusion model. It is cross-fitted: an
image that is in the training split, or was made from one that is, or comes near to one, is judged by a classifier that
has seen neither that image nor any other of its group.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute as pc
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ingest.datasets.integrity import sealed
from ingest.datasets.items import item_texts, read_items
from ingest.datasets.root import DataRoot, digest
from ingest.errors import Graph2ImageError
from ingest.images.loading import Fit, image_paths, square, try_images
from ingest.images.store import perceptual_hash
from model.evaluation.descriptors import describe
from model.evaluation.linear import FOLDS, RIDGE, CrossFitted, Indices, Matrix, fold_of, folds_of
from model.evaluation.palette import Pixels
from model.evaluation.roles import (
    LEAST_SKILL,
    MOST_CLASSES,
    MOST_SHARED,
    ROLES,
    SMALLEST_CLASS,
    SMALLEST_COVERAGE,
    Entities,
    Question,
    Role,
    choose,
    item_labels,
    tell,
)
from model.generation.copycheck import Hashes, differing_bits, parse_hashes

log = logging.getLogger(__name__)

#: Images are judged at the size that they are made in, within these bounds: smaller ones have no brushwork to judge,
#: and larger ones take as much longer as they have more pixels.
SMALLEST_SIZE, LARGEST_SIZE = 64, 128
#: Training images that the judge is trained on, at most: those with the smallest hashes of their items' ids.
MOST_IMAGES = 20_000
#: Training images that are in memory at a time.
_BLOCK = 512
#: Another version of the method is another judge.
_VERSION = 2


@dataclass(frozen=True)
class Judge:
    """Cross-fitted classifiers for each role.

    Parameters
    ----------
    size
        Side of the images that it takes, in pixels.
    questions
        What is asked in each role.
    hashes, folds
        `(training images, 4)`: their perceptual hashes, and `(training images,)`: which classifiers have not seen them.
    """

    judge_id: str
    size: int
    questions: Mapping[Role, Question]
    classifiers: Mapping[Role, CrossFitted]
    hashes: Hashes
    folds: Indices

    def predict(self, pixels: Pixels, groups: Sequence[str | None]) -> tuple[Matrix, dict[Role, list[str]]]:
        """Features and entities of images, by classifiers that have not seen what the images may be copies of.

        Parameters
        ----------
        pixels
            `(n, size, size, 3)`.
        groups
            Of each image, the group of the item that it shows or was made from; None for a generated image, which is
            taken for what the training image with the nearest perceptual hash shows.

        Returns
        -------
        features
            `(n, classes of all roles)`, unit vectors: what is seen beyond a guess, in which each role weighs the same.
        entities
            By role, the entity that is seen in each image.
        """
        described = describe(pixels)
        folds = np.array([self._fold(image, group) for image, group in zip(pixels, groups, strict=True)], np.int64)
        parts, entities = [], {}
        for role, question in self.questions.items():
            scores = self.classifiers[role].scores(described, folds)
            parts.append(scores / np.maximum(np.linalg.norm(scores, axis=1, keepdims=True), 1e-9))
            predicted = self.classifiers[role].predict(described, folds)
            entities[role] = [question.classes[index] for index in predicted]
        return np.concatenate(parts, axis=1) / np.sqrt(len(parts), dtype=np.float32), entities

    def _fold(self, image: Pixels, group: str | None) -> int:
        if group is not None:
            return fold_of(group)
        own = parse_hashes([perceptual_hash(Image.fromarray(image))])
        return int(self.folds[differing_bits(own, self.hashes).argmin()])


def judge_size(image_size: int) -> int:
    """Side at which images of a model of `image_size` are judged."""
    return min(max(image_size, SMALLEST_SIZE), LARGEST_SIZE)


@dataclass(frozen=True)
class TrainingItems:
    """The training items that a judge is made from, and that images may be copies of.

    Parameters
    ----------
    entities
        Their entities, by label and item id.
    """

    item_ids: tuple[str, ...]
    image_hashes: tuple[str, ...]
    group_ids: tuple[str, ...]
    entities: Entities = field(repr=False)

    @cached_property
    def folds(self) -> Indices:
        """`(n,)`: the fold of each item's group."""
        return folds_of(self.group_ids)


def read_training_items(data: DataRoot, withdrawn: Collection[str] = ()) -> TrainingItems:
    """The items of the training split that have an image, `MOST_IMAGES` at most; `withdrawn` items take no part."""
    wanted = (pc.field("split") == "train") & pc.field("image_hash").is_valid() & ~pc.field("opted_out")
    columns = ["item_id", "image_hash", "group_id"]
    table = read_items(data, columns, where=wanted)
    rows = sorted(zip(*(table[name].to_pylist() for name in columns), strict=True), key=lambda row: _order(row[0]))
    kept = [row for row in rows if row[0] not in withdrawn][:MOST_IMAGES]
    item_ids, hashes, groups = (tuple(column) for column in zip(*kept, strict=True)) if kept else ((), (), ())
    return TrainingItems(item_ids, hashes, groups, item_labels(data, item_ids))


def _order(item_id: str) -> tuple[int, str]:
    return zlib.crc32(item_id.encode("utf-8", "surrogatepass")), item_id


def train_judge(
    data: DataRoot,
    items: TrainingItems,
    size: int,
    wanted: Mapping[Role, str] | None = None,
    fit: Fit = "crop",
) -> Judge | None:
    """The judge that these items make, trained now if there is none.

    None if no label of theirs can be told from images.

    Parameters
    ----------
    wanted
        The label to ask for in a role, instead of the one that the figures suggest.
    fit
        How images become square.

    Raises
    ------
    Graph2ImageError
        If a wanted label cannot be asked for, or the judge's files are damaged.
    """
    wanted = wanted or {}
    recipe = (
        _VERSION, FOLDS, RIDGE, SMALLEST_CLASS, MOST_CLASSES, SMALLEST_COVERAGE, LEAST_SKILL, MOST_SHARED
    )  # fmt: skip
    texts = item_texts(data, items.item_ids)
    seen = [(item, texts.get(item, "")) for item in items.item_ids]
    view = size if fit == "crop" else (size, fit)
    judge_id = f"judge-{digest(seen, items.image_hashes, items.group_ids, items.entities, view, dict(wanted), recipe)}"
    folder = f"classifiers/{judge_id}"
    if not data.exists(f"{folder}/judge.json"):
        tensors, questions = _fit(data, items, [text for _, text in seen], size, wanted, fit)
        record = {"size": size, "images": len(tensors["folds"]), "questions": [asdict(q) for q in questions]}
        files = {"judge.safetensors": save(tensors), "judge.json": sealed(record)}
        data.write_folder(folder, files, marker="judge.json")
    return _load(data, judge_id, size)


def _fit(
    data: DataRoot, items: TrainingItems, texts: Sequence[str], size: int, wanted: Mapping[Role, str], fit: Fit
) -> tuple[dict[str, np.ndarray[Any, Any]], list[Question]]:
    """The judge's arrays, and what it is asked; images that cannot be read take no part."""
    described, hashes, there = _describe(data, items.image_hashes, size, fit)
    rows = np.flatnonzero(there)
    item_ids, folds = [items.item_ids[row] for row in rows.tolist()], items.folds[rows]
    chosen = choose(tell(item_ids, items.entities, [texts[row] for row in rows.tolist()], described, folds), wanted)
    tensors: dict[str, np.ndarray[Any, Any]] = {"hashes": hashes, "folds": folds}
    for role, one in chosen.items():
        log.info("The judge's %s is %s: told right of %.2f of true images", role, one.label, one.accuracy)
        tensors |= {f"{role}.{name}": np.ascontiguousarray(value) for name, value in vars(one.by_image).items()}
    return tensors, [one.question(role) for role, one in chosen.items()]


def _describe(
    data: DataRoot, image_hashes: Sequence[str], size: int, fit: Fit
) -> tuple[Matrix, Hashes, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Descriptors and perceptual hashes of the images that can be read, and which of all those are.

    Some hundred images are in memory at a time.
    """
    parts: list[Matrix] = []
    hashes: list[str] = []
    there, paths = np.zeros(len(image_hashes), bool), image_paths(data)
    for first in range(0, len(image_hashes), _BLOCK):
        block = image_hashes[first : first + _BLOCK]
        squares = []
        for row, image in enumerate(try_images(data, paths, block, lambda image: square(image, size, fit)), first):
            if isinstance(image, Graph2ImageError):
                log.warning("Not for the judge: %s", image.message)
                continue
            there[row] = True
            squares.append(np.asarray(image))
            hashes.append(perceptual_hash(image))
        if squares:
            parts.append(describe(np.stack(squares)))
    return (np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)), parse_hashes(hashes), there


def _load(data: DataRoot, judge_id: str, size: int) -> Judge | None:
    folder, names = f"classifiers/{judge_id}", [field.name for field in fields(CrossFitted)]
    data.check_folder(folder)
    try:
        tensors = load(data.read_bytes(f"{folder}/judge.safetensors"))
        found = TypeAdapter(list[Question]).validate_python(data.read_json(f"{folder}/judge.json")["questions"])
        questions = {question.role: question for question in found}
        classifiers = {role: CrossFitted(*(tensors[f"{role}.{name}"] for name in names)) for role in questions}
    except (SafetensorError, OSError, ValidationError, ValueError, KeyError, TypeError) as error:
        raise Graph2ImageError(
            f"the judge in {data.path(folder)} is damaged: {str(error).partition(chr(10))[0]}",
            "Delete this folder: the next evaluation trains it again.",
        ) from error
    ordered = {role: questions[role] for role in ROLES if role in questions}
    return Judge(judge_id, size, ordered, classifiers, tensors["hashes"], tensors["folds"]) if ordered else None
