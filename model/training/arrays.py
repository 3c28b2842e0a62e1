"""All that training reads of what is frozen, computed once into files that a step maps into memory and indexes.

`training-arrays/<digest>/` has one `.npy` file per array; those of the texts are in a folder of their own, see
`training.text_arrays`. They are written from start to end, shard by shard, so the memory that is needed does not depend
on the number of items; and a folder gets its name when it is complete, so a killed run leaves nothing half-read. A
resumed run, and every other one with the same inputs, finds them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import torch
from torch import Tensor

from ingest.datasets.root import DataRoot
from ingest.datasets.rows import Rows
from ingest.datasets.vectors import missing_embeddings, vector_dataset
from ingest.errors import Graph2ImageError
from model.neighbor_sets import NeighborSet
from model.neighbors import neighbor_weights, relation_numbers
from model.networks.neighbor_detail import detail_shape, latent_detail
from model.networks.text_encoders import TextEncoders
from model.training.array_files import ArrayWriter, make_folder, map_folder
from model.training.config import GraphEncoderConfig
from model.training.items import StringIndex, TrainingItems
from model.training.text_arrays import (
    TextArrays,
    build_text_arrays,
    item_texts,
    neighbor_summaries,
    open_text_arrays,
)

logger = logging.getLogger(__name__)

_ROWS_AT_A_TIME = 1024
#: Arrays of every training, those of the texts apart.
_NEEDED = ("item_ids", "latents", "latent_index", "text_index", "neighbor_counts")
_OF_TEXTS = ("input_ids", "text_hidden", "text_pooled")


@dataclass(frozen=True)
class Batch:
    """What one pass of training sees of its items.

    Parameters
    ----------
    latents
        `(batch, channels, h, w)`, normalized.
    input_ids
        `(batch, length)` int64.
    text_hidden, text_pooled
        `(batch, length, hidden_size)` and `(batch, pooled_size)`; see `model.networks.text_encoders.EncodedTexts`.
    neighbors
        Padded with zeros where the mask is false.
    """

    latents: Tensor
    input_ids: Tensor
    text_hidden: Tensor
    text_pooled: Tensor | None
    neighbors: NeighborSet

    def to(self, device: torch.device) -> Batch:
        """On `device`, with what is float16 as float32."""
        return Batch(
            _float(self.latents, device),
            self.input_ids.to(device, non_blocking=True),
            _float(self.text_hidden, device),
            None if self.text_pooled is None else _float(self.text_pooled, device),
            replace(
                self.neighbors,
                **{name: value.to(device, non_blocking=True) for name, value in self.neighbors.tensors().items()},
            ),
        )

    def pin(self) -> Batch:
        """In memory that a GPU copies from without waiting."""
        return Batch(
            self.latents.pin_memory(),
            self.input_ids.pin_memory(),
            self.text_hidden.pin_memory(),
            None if self.text_pooled is None else self.text_pooled.pin_memory(),
            replace(self.neighbors, **{name: value.pin_memory() for name, value in self.neighbors.tensors().items()}),
        )


def _float(value: Tensor, device: torch.device) -> Tensor:
    return value.to(device, non_blocking=True).float()


@dataclass(frozen=True)
class TrainingArrays:
    """Everything frozen, computed, in memory or mapped from files.

    Parameters
    ----------
    item_ids
        `(items,)` ids, as UTF-8.
    latents, latent_index
        `(images, channels, h, w)` float16, normalized; `(items,)` row of each item's image.
    coarse_latents
        `(images, channels, h / 2, w / 2)` float16, of the images at half the side; None if no step sees them.
    text_index
        `(items,)` row of each item's text in the arrays of texts. Row 0 is the empty text.
    input_ids, text_hidden, text_pooled
        `(texts, length)` int32, `(texts, length, hidden_size)` float16 and, for models with two text encoders,
        `(texts, pooled_size)` float32.
    neighbor_counts
        `(items,)` how many neighbors each item has. The arrays of neighbors are `(items, max_neighbors)`.
    neighbor_index, embeddings
        Rows of `(images + 1, dim)` float32 image embeddings, the last of which is zero; None if they are not looked at.
    neighbor_text_index, text_summary
        Rows of `(neighbors' texts + 1, hidden_size)` float32 summaries of texts, the last of which is zero; or None.
    detail
        `(images + 1, tokens, numbers)` float32, of the same images as `embeddings`; or None.
    neighbor_weights, neighbor_types
        float32 and int16, see `GraphQFormer.forward`; or None.
    """

    item_ids: npt.NDArray[np.bytes_]
    latents: Tensor
    latent_index: Tensor
    coarse_latents: Tensor | None
    text_index: Tensor
    input_ids: Tensor
    text_hidden: Tensor
    text_pooled: Tensor | None
    neighbor_counts: Tensor
    neighbor_index: Tensor | None
    embeddings: Tensor | None
    neighbor_text_index: Tensor | None
    text_summary: Tensor | None
    neighbor_weights: Tensor | None
    neighbor_types: Tensor | None
    detail: Tensor | None = None

    def __len__(self) -> int:
        return len(self.item_ids)

    def latents_of(self, *, coarse: bool) -> Tensor:
        """The latents of the images at their size, or at half the side."""
        if not coarse:
            return self.latents
        if self.coarse_latents is None:
            raise ValueError("arrays without latents of the images at half the side")
        return self.coarse_latents

    def names(self, indices: Tensor) -> list[str]:
        """Ids of the items `indices`."""
        return [bytes(self.item_ids[index]).decode() for index in indices.tolist()]

    def indices(self, seed: int, first: int, count: int) -> Tensor:
        """Items of the samples from number `first` on: a function of the arguments alone, each epoch a permutation."""
        positions = range(first, first + count)
        return torch.tensor([_permutation(seed, at // len(self), len(self))[at % len(self)] for at in positions])

    def batch(self, indices: Tensor, drop_text: Tensor, drop_graph: Tensor, *, coarse: bool = False) -> Batch:
        """Gather the items `indices`; the masks `(batch,)` say whose text is made empty, and whose neighbors absent.

        `coarse` asks for the latents of the images at half the side.
        """
        latents = self.latents_of(coarse=coarse)
        texts = self.text_index[indices].long().masked_fill(drop_text, 0)
        counts = self.neighbor_counts[indices].long().masked_fill(drop_graph, 0)
        given = [index.shape[1] for index in (self.neighbor_index, self.neighbor_text_index) if index is not None]
        mask = torch.arange(given[0] if given else 0) < counts[:, None]
        return Batch(
            latents[self.latent_index[indices].long()],
            self.input_ids[texts].long(),
            self.text_hidden[texts],
            None if self.text_pooled is None else self.text_pooled[texts],
            NeighborSet(
                _rows(self.embeddings, self.neighbor_index, indices, mask),
                mask,
                _rows(self.text_summary, self.neighbor_text_index, indices, mask),
                None if self.neighbor_weights is None else self.neighbor_weights[indices].masked_fill(~mask, 0.0),
                None if self.neighbor_types is None else self.neighbor_types[indices].long().masked_fill(~mask, 0),
                _rows(self.detail, self.neighbor_index, indices, mask),
            ),
        )


def _rows(values: Tensor | None, index: Tensor | None, items: Tensor, mask: Tensor) -> Tensor | None:
    """Rows of `values` for the neighbors of `items`; the last one, which is zero, where there is none."""
    if values is None or index is None:
        return None
    return values[index[items].long().masked_fill(~mask, -1)]


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, length: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(length)


# -- files -------------------------------------------------------------------------------------------------------------


def open_arrays(folder: Path, texts: Path) -> TrainingArrays | None:
    """Map the arrays in `folder`, and those of the texts in `texts`; None if one of them is not there.

    Raises
    ------
    Graph2ImageError
        If a file is missing or damaged.
    """
    text_arrays = open_text_arrays(texts)
    own = {field.name for field in fields(TrainingArrays)} - set(_OF_TEXTS) - set(_NEEDED)
    arrays = map_folder(folder, _NEEDED, sorted(own))
    if arrays is None or text_arrays is None:
        return None
    values: dict[str, Any] = {
        name: torch.from_numpy(array) if array is not None and name != "item_ids" else array
        for name, array in arrays.items()
    }
    return TrainingArrays(**values, **{name: getattr(text_arrays, name) for name in _OF_TEXTS})


def build_arrays(
    folder: Path,
    text_folder: Path,
    data: DataRoot,
    items: TrainingItems,
    config: GraphEncoderConfig,
    texts: TextEncoders,
    *,
    encoder: str,
    latents: str,
    coarse_latents: str | None = None,
) -> TrainingArrays:
    """Gather what training needs of `items` from the datasets, and run the text encoders over the distinct texts.

    Parameters
    ----------
    folder, text_folder
        Local folders that are made; that of the texts is used as it is, if it is there.
    encoder
        Encoder of the embeddings of the neighbors' images.
    latents, coarse_latents
        Datasets of the items' latents, and of those at half the side; the first has those of the neighbors too, if
        their detail is looked at.

    Raises
    ------
    Graph2ImageError
        If an image has no embedding or no latents, or the disk is full; the folder is not there then.
    """
    text_arrays = build_text_arrays(text_folder, items, texts)
    logger.info("Building the training arrays of %d items in %s", len(items), folder)

    def write(unfinished: Path) -> None:
        _write_items(unfinished, data, items, latents, coarse_latents)
        _write_neighbors(unfinished, data, items, config, encoder, latents)
        if config.texts:
            _write_neighbor_texts(unfinished, items, config, text_arrays, texts)

    if not folder.is_dir():  # only the texts may have been lost
        make_folder(folder, write)
    arrays = open_arrays(folder, text_folder)
    if arrays is None:
        raise Graph2ImageError(f"{folder} was removed while it was used")
    return arrays


def _write_items(folder: Path, data: DataRoot, items: TrainingItems, latents: str, coarse_latents: str | None) -> None:
    np.save(folder / "text_index.npy", item_texts(items)[0].astype(np.int32))
    np.save(folder / "item_ids.npy", np.asarray(items.table["item_id"].cast(pa.binary()).to_pylist(), np.bytes_))
    index = StringIndex(items.table["image_hash"])
    row_of = _write_latents(folder / "latents.npy", data, items, index, latents)
    np.save(folder / "latent_index.npy", row_of[index.find(items.table["image_hash"])].astype(np.int32))
    if coarse_latents is not None:
        # The datasets need not have the images in one order.
        coarse_row_of = _write_latents(folder / "coarse.npy", data, items, index, coarse_latents)
        coarse = np.load(folder / "coarse.npy", mmap_mode="r")
        source = np.zeros(len(coarse), np.int64)
        source[row_of] = coarse_row_of
        with ArrayWriter(folder / "coarse_latents.npy", coarse.shape[1:], np.float16) as writer:
            for start in range(0, len(source), _ROWS_AT_A_TIME):
                writer.append(coarse[source[start : start + _ROWS_AT_A_TIME]])
        (folder / "coarse.npy").unlink()


def _write_latents(
    path: Path, data: DataRoot, items: TrainingItems, index: StringIndex, latents: str
) -> npt.NDArray[np.int64]:
    """Write the latents of the indexed images; returns each one's row."""
    dataset = data.dataset(latents)
    shape = orjson.loads(dataset.schema.metadata[b"shape"])
    with ArrayWriter(path, shape, np.float16) as writer:
        row_of = _copy_rows(dataset, "latent", index, writer)
    rows = row_of[index.find(items.table["image_hash"])]
    if (missing := np.flatnonzero(rows < 0)).size:
        item_id = items.table["item_id"][int(missing[0])]
        raise Graph2ImageError(
            f"{len(missing)} items have no latents in {latents}, the first is {item_id}",
            f"Delete {data.path(latents)} to have them computed again.",
        )
    return row_of


def _write_neighbors(
    folder: Path, data: DataRoot, items: TrainingItems, config: GraphEncoderConfig, encoder: str, latents: str
) -> None:
    places = items.neighbor_places()
    shape = (len(items), config.max_neighbors)
    np.save(folder / "neighbor_counts.npy", items.neighbor_counts.astype(np.int16))
    if config.images:
        hashes = items.neighbors["image_hash"].combine_chunks()
        index = StringIndex(hashes.dictionary)
        dataset, dim = vector_dataset(data, f"embeddings/{encoder}")
        with ArrayWriter(folder / "embeddings.npy", (dim,), np.float32) as writer:
            row_of = _copy_rows(dataset, "embedding", index, writer)
            writer.append(np.zeros((1, dim), np.float32))
        rows = row_of[index.find(hashes.dictionary)][hashes.indices.to_numpy()]
        if (rows < 0).any():
            raise missing_embeddings(encoder, hashes.filter(pa.array(rows < 0)).unique().to_pylist())
        np.save(folder / "neighbor_index.npy", _scatter(shape, places, rows, np.int32))
        if config.neighbor_detail != "none":
            _write_detail(folder, data, config.neighbor_detail, index, row_of, latents)
    if config.neighbor_weights:
        ppr = items.neighbors["ppr"].to_numpy()
        np.save(folder / "neighbor_weights.npy", _scatter(shape, places, neighbor_weights(ppr, places[0]), np.float32))
    if items.relation_types:
        relations = items.neighbors["relation"].combine_chunks()
        numbers = relation_numbers(relations.dictionary_decode(), items.relation_types)
        np.save(folder / "neighbor_types.npy", _scatter(shape, places, numbers, np.int16))


def _write_detail(
    folder: Path, data: DataRoot, kind: str, index: StringIndex, row_of: npt.NDArray[np.int64], latents: str
) -> None:
    """Write the detail of the indexed images, in the rows that `row_of` says."""
    dataset, path = data.dataset(latents), folder / "neighbor_latents.npy"
    shape = orjson.loads(dataset.schema.metadata[b"shape"])
    with ArrayWriter(path, shape, np.float16) as writer:
        latent_row_of = _copy_rows(dataset, "latent", index, writer)
    if missing := int((latent_row_of < 0).sum()):
        raise Graph2ImageError(
            f"{missing} neighbors' images have no latents in {latents}",
            f"Delete {data.path(latents)} to have them computed again.",
        )
    source = np.zeros(len(row_of), np.int64)
    source[row_of] = latent_row_of
    values = np.load(path, mmap_mode="r")
    with ArrayWriter(folder / "detail.npy", detail_shape(kind, shape[0]), np.float32) as writer:
        for start in range(0, len(source), _ROWS_AT_A_TIME):
            part = torch.from_numpy(values[source[start : start + _ROWS_AT_A_TIME]])
            writer.append(latent_detail(kind, part).numpy())
        writer.append(np.zeros((1, *writer.shape), np.float32))
    path.unlink()


def _write_neighbor_texts(
    folder: Path, items: TrainingItems, config: GraphEncoderConfig, own: TextArrays, texts: TextEncoders
) -> None:
    rows, parts = neighbor_summaries(items, own, texts)
    shape = (len(items), config.max_neighbors)
    np.save(folder / "neighbor_text_index.npy", _scatter(shape, items.neighbor_places(), rows, np.int32))
    with ArrayWriter(folder / "text_summary.npy", own.text_summary.shape[1:], np.float32) as writer:
        for part in parts:
            writer.append(part.numpy())
        writer.append(np.zeros((1, *writer.shape), np.float32))


def _scatter(
    shape: tuple[int, int],
    places: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    values: npt.NDArray[Any],
    dtype: npt.DTypeLike,
) -> npt.NDArray[Any]:
    """A row per item, with the values of its neighbors, then zeros."""
    table = np.zeros(shape, dtype)
    table[places] = values
    return table


def _copy_rows(dataset: Rows, column: str, index: StringIndex, writer: ArrayWriter) -> npt.NDArray[np.int64]:
    """Append the vectors of the images in `index`, as the dataset has them; returns each one's row, or -1."""
    row_of = np.full(len(index.values), -1)
    for file in dataset.by_file():
        table = file.to_table(["image_hash", column])
        places = index.find(table["image_hash"])
        places[places >= 0] = np.where(row_of[places[places >= 0]] < 0, places[places >= 0], -1)
        found, rows = np.unique(places, return_index=True)
        found, rows = found[found >= 0], rows[found >= 0]
        if len(found):
            vectors = table[column].combine_chunks().flatten().to_numpy().reshape(table.num_rows, *writer.shape)
            row_of[found] = writer.rows + np.arange(len(found))
            writer.append(vectors[rows])
    return row_of
