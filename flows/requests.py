"""Which pictures to ask a model for: held-out items, the controls of an evaluation, mixtures of two entities."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flows.settings import Settings
from flows.stages import withdrawn_items
from ingest.datasets import SPLITS, DataRoot
from ingest.errors import Graph2ImageError
from model.generate import GenerationRequest, Neighbor

#: Graph guidance scales that an evaluation compares; text only is scale 0.
SCALES = (1.0, 1.5, 2.0)
#: The scale of the controls (shuffled neighbors) and of the mixtures.
CONTROL_SCALE = 1.5
#: Shares of the first of two mixed entities.
MIX_SHARES = (1.0, 0.7, 0.5, 0.3, 0.0)


@dataclass(frozen=True)
class Sample:
    """An item of the neighbor samples: what the model is told and shown."""

    item_id: str
    text: str
    split: str
    neighbors: tuple[Neighbor, ...]


def neighbor_samples(settings: Settings, model_id: str) -> dict[str, Sample]:
    """The samples that `model_id` was trained with, by item id; works that were withdrawn since are left out."""
    data = DataRoot(settings.data)
    digest = data.read_json(f"models/{model_id}/model.json")["neighbors"]
    texts = item_texts(data)
    withdrawn = withdrawn_items(settings)
    return {
        row["item_id"]: Sample(
            row["item_id"],
            texts[row["item_id"]],
            row["split"],
            tuple(
                Neighbor(n["item_id"], n["image_hash"], 1.0) for n in row["neighbors"] if n["item_id"] not in withdrawn
            ),
        )
        for batch in data.dataset(f"neighbors/{digest}").to_batches()
        for row in batch.to_pylist()
        if row["item_id"] in texts and row["item_id"] not in withdrawn
    }


def item_texts(data: DataRoot) -> dict[str, str]:
    """Text of every item, by item id."""
    texts: dict[str, str] = {}
    for name in data.names("items"):
        table = data.read(name, ["item_id", "text"])
        texts.update(zip(table["item_id"].to_pylist(), (t or "" for t in table["text"].to_pylist()), strict=True))
    return texts


def held_out(samples: Iterable[Sample], split: str, limit: int) -> list[Sample]:
    """`limit` items of `split`, picked by a hash of their ids: always the same ones, in no order of the source."""
    chosen = sorted((s for s in samples if s.split == split), key=lambda s: (zlib.crc32(s.item_id.encode()), s.item_id))
    return chosen[:limit]


def plain(samples: Iterable[Sample], scale: float = CONTROL_SCALE) -> list[GenerationRequest]:
    """One picture per item, from its text and its neighbors."""
    return [GenerationRequest(s.item_id, s.text, (s.neighbors,), (scale,), f"graph-{scale:g}") for s in samples]


def controls(samples: Sequence[Sample]) -> list[GenerationRequest]:
    """For each item: text only, text and graph at several scales, and text with another item's neighbors.

    The neighbors are shuffled by giving each item those of the next one in the list; with fewer than two items there is
    nothing to shuffle.
    """
    requests = [GenerationRequest(s.item_id, s.text, (), (), "text") for s in samples]
    for scale in SCALES:
        requests += plain(samples, scale)
    if len(samples) > 1:
        for sample, other in zip(samples, [*samples[1:], samples[0]], strict=True):
            requests.append(
                GenerationRequest(sample.item_id, sample.text, (other.neighbors,), (CONTROL_SCALE,), "shuffled")
            )
    return requests


def for_split(
    settings: Settings, model_id: str, split: str, limit: int, scale: float = CONTROL_SCALE
) -> list[GenerationRequest]:
    """Requests for `limit` items of `split`."""
    if split not in SPLITS:
        raise Graph2ImageError(f"there is no split {split!r}", f"Splits are: {', '.join(SPLITS)}.")
    return plain(held_out(neighbor_samples(settings, model_id).values(), split, limit), scale)


def for_items(
    settings: Settings, model_id: str, item_ids: Sequence[str], scale: float = CONTROL_SCALE
) -> list[GenerationRequest]:
    """Requests for the named items.

    Raises
    ------
    Graph2ImageError
        If an item is unknown to the model's samples, or was withdrawn.
    """
    return plain(named(settings, model_id, item_ids), scale)


def named(settings: Settings, model_id: str, item_ids: Sequence[str]) -> list[Sample]:
    """Samples of the named items; raises as `for_items` does."""
    samples = neighbor_samples(settings, model_id)
    for item_id in item_ids:
        if item_id not in samples:
            raise Graph2ImageError(
                f"{item_id!r} is not among the samples of {model_id}, or it was withdrawn",
                "List items with `graph2image query`; new items need `embed`, `neighbors --all` and `train` first.",
            )
    return [samples[item_id] for item_id in item_ids]
