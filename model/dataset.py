"""Training data: the Parquet datasets read once, into compact arrays that a step only indexes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ingest.datasets import DataRoot, digest
from ingest.errors import Graph2ImageError
from model.latents import read_latents
from model.text import TextEncoders

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingItems:
    """The items of the training split, in parallel lists; `neighbor_hashes` are of images, best neighbor first."""

    item_ids: list[str]
    texts: list[str]
    image_hashes: list[str]
    neighbor_hashes: list[list[str]]

    def __len__(self) -> int:
        return len(self.item_ids)

    def digest(self) -> str:
        """Identifies all that training sees of the items."""
        return digest(self.item_ids, self.texts, self.image_hashes, self.neighbor_hashes)


def read_training_items(
    data: DataRoot, neighbors: str, max_neighbors: int, withdrawn: Collection[str] = ()
) -> TrainingItems:
    """Items of the training split that have an image and a row in `neighbors/<neighbors>`, in the order of their ids.

    Items whose ids are in `withdrawn` are neither among them nor among their neighbors.

    Raises
    ------
    Graph2ImageError
        If there is no such neighbors dataset, or no such item.
    """
    name = f"neighbors/{neighbors}"
    if data.snapshot(name) is None:
        raise Graph2ImageError(
            f"there is no neighbors dataset {neighbors!r}", "Run `graph2image neighbors --all` first."
        )
    sampled = data.dataset(name).to_table(columns=["item_id", "neighbors"], filter=pc.field("split") == "train")
    neighbor_hashes = {
        item_id: [n["image_hash"] for n in best if n["item_id"] not in withdrawn][:max_neighbors]
        for item_id, best in zip(sampled["item_id"].to_pylist(), sampled["neighbors"].to_pylist(), strict=True)
        if item_id not in withdrawn
    }
    columns = ["item_id", "text", "image_hash", "opted_out"]
    items = pa.concat_tables(data.read(source, columns) for source in data.names("items"))
    kept = sorted(
        (
            item
            for item in items.to_pylist()
            if item["item_id"] in neighbor_hashes and item["image_hash"] and not item["opted_out"]
        ),
        key=lambda item: item["item_id"],
    )
    if not kept:
        raise Graph2ImageError(f"{name} has no training items with images", "Ingest some, then sample neighbors again.")
    if len(kept) < len(neighbor_hashes):
        logger.info("Left out %d training items without an image", len(neighbor_hashes) - len(kept))
    return TrainingItems(
        [item["item_id"] for item in kept],
        [item["text"] or "" for item in kept],
        [item["image_hash"] for item in kept],
        [neighbor_hashes[item["item_id"]] for item in kept],
    )


def read_embeddings(data: DataRoot, encoder: str, image_hashes: Sequence[str]) -> tuple[dict[str, int], Tensor]:
    """Image embeddings: the row of each hash, and `(images, dim)` float32.

    Raises
    ------
    Graph2ImageError
        If an image has no embedding.
    """
    wanted = sorted(set(image_hashes))
    dataset = data.dataset(f"embeddings/{encoder}")
    table = dataset.to_table(filter=pc.field("image_hash").isin(pa.array(wanted, pa.string())))
    rows = {image_hash: index for index, image_hash in enumerate(table["image_hash"].to_pylist())}
    missing = [image_hash for image_hash in wanted if image_hash not in rows]
    if missing:
        raise Graph2ImageError(
            f"{len(missing)} neighbor images have no embedding of {encoder}, the first is {missing[0]}",
            "Run `graph2image embed` first.",
        )
    dim = dataset.schema.field("embedding").type.list_size
    values = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, dim)
    return rows, torch.from_numpy(np.array(values))


@dataclass(frozen=True)
class Batch:
    """What one training step sees, in float32, ids in int64 and the mask in bool; see `TrainingArrays`."""

    latents: Tensor
    input_ids: Tensor
    text_hidden: Tensor
    neighbor_embeds: Tensor
    neighbor_mask: Tensor


@dataclass(frozen=True)
class TrainingArrays:
    """Everything frozen, computed: latents, the distinct texts' tokens and hidden states, the neighbors' embeddings.

    Parameters
    ----------
    latents
        `(items, channels, h, w)` float16, normalized.
    text_index
        `(items,)` row of each item's text in `input_ids` `(texts, length)` and `text_hidden`
        `(texts, length, hidden_size)` float16. Row 0 is the empty text.
    neighbor_index
        `(items, max_neighbors)` rows of `embeddings` `(images + 1, dim)`, -1 where there is no neighbor; the last row
        is zero.
    """

    latents: Tensor
    text_index: Tensor
    input_ids: Tensor
    text_hidden: Tensor
    neighbor_index: Tensor
    embeddings: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def indices(self, seed: int, step: int, batch_size: int) -> Tensor:
        """Items of the batch of `step`: a function of the arguments alone, each epoch a permutation of the items."""
        positions = range(step * batch_size, (step + 1) * batch_size)
        return torch.tensor([_permutation(seed, at // len(self), len(self))[at % len(self)] for at in positions])

    def batch(self, indices: Tensor, drop_text: Tensor, drop_graph: Tensor) -> Batch:
        """Gather the items `indices`; the masks `(batch,)` say whose text is made empty, and whose neighbors absent."""
        texts = self.text_index[indices].masked_fill(drop_text, 0)
        neighbors = self.neighbor_index[indices].masked_fill(drop_graph[:, None], -1)
        return Batch(
            self.latents[indices].float(),
            self.input_ids[texts],
            self.text_hidden[texts].float(),
            self.embeddings[neighbors],
            neighbors >= 0,
        )


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, length: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(length)


def build_arrays(
    data: DataRoot,
    items: TrainingItems,
    latents: str,
    encoder: str,
    max_neighbors: int,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> TrainingArrays:
    """Gather what training needs of `items` from the datasets, and run the text encoder over their distinct texts."""
    rows, embeddings = read_embeddings(data, encoder, [name for hashes in items.neighbor_hashes for name in hashes])
    neighbor_index = torch.full((len(items), max_neighbors), -1, dtype=torch.int64)
    for item, hashes in enumerate(items.neighbor_hashes):
        neighbor_index[item, : len(hashes)] = torch.tensor([rows[name] for name in hashes], dtype=torch.int64)

    texts = dict.fromkeys(["", *items.texts])
    position = {text: index for index, text in enumerate(texts)}
    encoded = TextEncoders(text_encoder, tokenizer).encode(list(texts))
    return TrainingArrays(
        read_latents(data, latents, items.image_hashes),
        torch.tensor([position[text] for text in items.texts]),
        encoded.input_ids.cpu(),
        encoded.hidden.half().cpu(),
        neighbor_index,
        torch.cat([embeddings, embeddings.new_zeros(1, embeddings.shape[1])]),
    )
