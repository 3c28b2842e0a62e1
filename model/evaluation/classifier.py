"""An independent judge of images: a small CNN that tells an item's entities from its image.

It is trained on the training split's images and the items' relations to entities (an artist, a genre, a color), so it
knows nothing of text, encoder or diffusion model. Its last hidden layer gives the features by which evaluation compares
images.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from tqdm.auto import tqdm

from ingest.datasets.integrity import sealed
from ingest.datasets.items import item_entities, read_entities, read_items
from ingest.datasets.root import DataRoot, digest
from ingest.encoders.precision import bf16_autocast
from ingest.encoders.workers import PARTS, Workers, average_buffers, replicas
from ingest.errors import Graph2ImageError
from ingest.images.loading import load_squares

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]

#: A class needs this many training images, and a head keeps its most frequent classes.
SMALLEST_CLASS = 8
MOST_CLASSES = 64
#: A head is left out if its classes cover less than this share of the training images.
SMALLEST_COVERAGE = 0.3

IMAGE_SIZE = 64
FEATURES = 128
BATCH_SIZE = 64
EPOCHS = 14
FEWEST_STEPS, MOST_STEPS = 800, 1500
LEARNING_RATE = 2e-3
#: Of every tenth training image the classifier sees nothing: its accuracy is measured there.
HELD_BACK = 10


@dataclass(frozen=True)
class Head:
    """One question to an image: which entity of a label. `classes` are entity ids."""

    label: str
    classes: tuple[str, ...]


class Classifier(nn.Module):
    """Residual CNN for `(batch, 3, 64, 64)` images in [-1, 1], with a linear head per entity label."""

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        widths = (32, 64, 96, FEATURES)
        stages: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.ReLU()]
        for before, after in pairwise(widths):
            stages += [
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.Conv2d(after, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*stages)
        self.heads = nn.ModuleList(nn.Linear(FEATURES, len(head.classes)) for head in heads)

    def features(self, images: Tensor) -> Tensor:
        """Features `(batch, 128)`: the last feature maps, averaged over the image."""
        maps: Tensor = self.body(images)
        return maps.mean((2, 3))

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.features(images)
        return [head(features) for head in self.heads]


@dataclass(frozen=True)
class Judge:
    """A trained classifier.

    Parameters
    ----------
    center
        Mean feature vector of the training images; features are compared relative to it.
    accuracy
        By head label, on training-split images that were held back.
    """

    judge_id: str
    model: Classifier
    heads: tuple[Head, ...]
    center: Tensor
    accuracy: Mapping[str, float]

    @torch.no_grad()
    def predict(self, pixels: Pixels) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.int64]]]:
        """Centered unit features `(n, 128)` and the predicted class of each head `(n,)` for `(n, 64, 64, 3)` pixels."""
        features, predictions = [], []
        for start in range(0, len(pixels), 256):
            batch = self.model.features(_to_tensor(pixels[start : start + 256]))
            features.append(F.normalize(batch - self.center, dim=1))
            predictions.append([head(batch).argmax(1) for head in self.model.heads])
        merged = [torch.cat(parts).numpy() for parts in zip(*predictions, strict=True)]
        return torch.cat(features).numpy(), merged


def entity_labels(data: DataRoot) -> dict[str, dict[str, str]]:
    """By entity label: item id → entity id, the first one where an item has several."""
    items = read_items(data, ["item_id"])["item_id"].combine_chunks()
    entities = read_entities(data)
    pairs = item_entities(data, items, entities["entity_id"].combine_chunks())
    rows = entities.take(pairs[1]).to_pydict()
    found: dict[str, dict[str, str]] = {}
    for item, label, entity in zip(items.take(pairs[0]).to_pylist(), rows["label"], rows["entity_id"], strict=True):
        found.setdefault(label, {}).setdefault(item, entity)
    return found


def train_judge(data: DataRoot, seed: int = 0, withdrawn: Collection[str] = ()) -> Judge | None:
    """The classifier of the current training images, trained now if there is none; `withdrawn` items take no part.

    None if the training items have no entity label with at least two classes to tell apart.

    Raises
    ------
    Graph2ImageError
        If a training image cannot be read, or the classifier's files are damaged.
    """
    wanted = (pc.field("split") == "train") & pc.field("image_hash").is_valid() & ~pc.field("opted_out")
    rows = read_items(data, ["item_id", "image_hash"], where=wanted).to_pylist()
    items = [row for row in rows if row["item_id"] not in withdrawn]
    entities = entity_labels(data)
    heads = _choose_heads([row["item_id"] for row in items], entities)
    if not heads:
        return None
    targets = np.array([[_class_of(head, entities[head.label].get(row["item_id"])) for head in heads] for row in items])
    hashes = [row["image_hash"] for row in items]
    recipe = (IMAGE_SIZE, FEATURES, BATCH_SIZE, EPOCHS, FEWEST_STEPS, MOST_STEPS, LEARNING_RATE, HELD_BACK, PARTS, seed)
    judge_id = f"judge-{digest([(h.label, h.classes) for h in heads], hashes, targets.tolist(), recipe)}"
    folder = f"classifiers/{judge_id}"
    if not data.exists(f"{folder}/judge.json"):
        model, record = train_classifier(load_squares(data, hashes, IMAGE_SIZE), targets, heads, seed)
        files = {"model.safetensors": save(model), "judge.json": sealed(record)}
        data.write_folder(folder, files, marker="judge.json")
    return _load(data, judge_id, heads)


def _choose_heads(items: Sequence[str], entities: Mapping[str, Mapping[str, str]]) -> list[Head]:
    heads = []
    for label in sorted(entities):
        counts = Counter(entities[label][item] for item in items if item in entities[label])
        frequent = [entity for entity, count in counts.most_common(MOST_CLASSES) if count >= SMALLEST_CLASS]
        covered = sum(counts[entity] for entity in frequent)
        if len(frequent) >= 2 and covered >= SMALLEST_COVERAGE * len(items):
            heads.append(Head(label, tuple(sorted(frequent))))
    return heads


def _class_of(head: Head, entity: str | None) -> int:
    """Index of the class; -100, which the loss ignores, for a rare or missing one."""
    return head.classes.index(entity) if entity in head.classes else -100


def _to_tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def train_classifier(
    pixels: Pixels, targets: npt.NDArray[np.int64], heads: Sequence[Head], seed: int, steps: int | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights (with the feature center) and the record of a newly trained classifier.

    Parameters
    ----------
    pixels, targets
        `(n, 64, 64, 3)` uint8 images, and each one's class `(n, heads)`, or -100.
    steps
        By default `EPOCHS` times over the images, within bounds.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(heads).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)
    held_back = np.arange(len(pixels)) % HELD_BACK == 0
    images, classes = torch.from_numpy(pixels[~held_back]).permute(0, 3, 1, 2), torch.from_numpy(targets[~held_back])
    steps = steps or min(max(FEWEST_STEPS, EPOCHS * len(images) // BATCH_SIZE), MOST_STEPS)
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    parts = replicas(model.train())

    def share(micro_batch: tuple[Classifier, Tensor, Tensor, Tensor]) -> Tensor:
        """The micro-batch's share of a step's loss: the heads' mean cross-entropies, added up."""
        part, views, truth, known = micro_batch
        with bf16_autocast():
            outputs = part(views)
        losses = [
            F.cross_entropy(output.float(), truth[:, index], label_smoothing=0.1, reduction="sum")
            for index, output in enumerate(outputs)
        ]
        return (torch.stack(losses) / known.clamp(min=1)).sum()

    with Workers() as workers:
        for _ in tqdm(range(steps), "classifier", unit="step", disable=None):
            batch = torch.randint(len(images), (min(BATCH_SIZE, len(images)),), generator=generator)
            views = images[batch].float().div(127.5).sub(1)
            # Mirrored and shifted by a few pixels; color stays as it is.
            if torch.rand((), generator=generator) < 0.5:
                views = views.flip(3)
            left, top = torch.randint(0, 9, (2,), generator=generator).tolist()
            padded = F.pad(views, (4, 4, 4, 4), mode="replicate")
            views = padded[:, :, top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]
            views = views.contiguous(memory_format=torch.channels_last)
            known = (classes[batch] >= 0).sum(0)
            if bool(known.any()):
                chunks = zip(views.chunk(len(parts)), classes[batch].chunk(len(parts)), strict=True)
                micro_batches = [(part, *chunk, known) for part, chunk in zip(parts, chunks, strict=False)]
                workers.backward(share, micro_batches, weights)
                optimizer.step()
            schedule.step()
    average_buffers(parts)
    model.eval()
    with torch.no_grad():
        center = torch.cat(
            [model.features(_to_tensor(part)) for part in np.array_split(pixels, -(-len(pixels) // 256))]
        )
        outputs = model(_to_tensor(pixels[held_back]))
    accuracy = {}
    for index, (head, output) in enumerate(zip(heads, outputs, strict=True)):
        truth = targets[held_back][:, index]
        known = truth >= 0
        accuracy[head.label] = float((output.argmax(1).numpy()[known] == truth[known]).mean()) if known.any() else 0.0
    log.info("Trained the classifier on %d images: %s", len(images), {k: round(v, 2) for k, v in accuracy.items()})
    trained = {name: value.contiguous() for name, value in model.state_dict().items()}
    return {**trained, "center": center.mean(0)}, {"accuracy": accuracy, "steps": steps, "images": len(images)}


def _load(data: DataRoot, judge_id: str, heads: Sequence[Head]) -> Judge:
    folder = f"classifiers/{judge_id}"
    data.check_folder(folder)
    model = Classifier(heads)
    try:
        weights = load(data.read_bytes(f"{folder}/model.safetensors"))
        center = weights.pop("center")
        model.load_state_dict(weights)
        accuracy = {head.label: float(data.read_json(f"{folder}/judge.json")["accuracy"][head.label]) for head in heads}
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise Graph2ImageError(
            f"the classifier in {data.path(folder)} is damaged: {str(error).partition(chr(10))[0]}",
            "Delete this folder: the next evaluation trains the classifier again.",
        ) from error
    return Judge(judge_id, model.eval().requires_grad_(False), tuple(heads), center, accuracy)
