"""The items' texts as the network is conditioned on them, encoded once into `training-arrays/texts-<digest>/`.

They are most of what a training reads, and depend on the texts and on who encodes them alone: trainings that differ in
their neighbors, their network or their steps share them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ingest.datasets.root import digest
from ingest.errors import Graph2ImageError
from model.networks.text_encoders import TextEncoders
from model.training.array_files import ArrayWriters, make_folder, map_folder
from model.training.items import TrainingItems

logger = logging.getLogger(__name__)

#: Texts that are encoded at a time.
SHARD = 1024


@dataclass(frozen=True)
class TextArrays:
    """Encoded texts, the first of which is the empty one.

    Parameters
    ----------
    input_ids, text_hidden, text_pooled
        `(texts, length)` int32, `(texts, length, hidden_size)` float16 and, for models with two text encoders,
        `(texts, pooled_size)` float32.
    text_summary
        `(texts, hidden_size)` float32: each text in one vector, which is what a model knows of a neighbor's.
    """

    input_ids: Tensor
    text_hidden: Tensor
    text_pooled: Tensor | None
    text_summary: Tensor


def item_texts(items: TrainingItems) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Row of each item's text, and the distinct texts in the order of the rows, the empty one first."""
    chunks = [pa.array([""], pa.large_string()), *items.table["text"].chunks]
    coded = pa.chunked_array(chunks).combine_chunks().dictionary_encode()
    return coded.indices.to_numpy()[1:], coded.dictionary


def text_arrays_name(items: TrainingItems, text_id: str) -> str:
    """Name of the folder of the items' texts, encoded by `text_id`."""
    state = hashlib.sha256()
    for texts in _shards(item_texts(items)[1]):
        state.update(orjson.dumps(texts))
    return f"texts-{digest(text_id, state.hexdigest())}"


def build_text_arrays(folder: Path, items: TrainingItems, texts: TextEncoders) -> TextArrays:
    """Run the text encoders over the items' distinct texts, unless `folder` has them; a killed build starts again.

    Raises
    ------
    Graph2ImageError
        If the folder is damaged, or the disk is full.
    """
    if (arrays := open_text_arrays(folder)) is None:
        logger.info("Encoding the texts of %d items into %s", len(items), folder)
        _, distinct = item_texts(items)
        make_folder(folder, lambda unfinished: _write(unfinished, distinct, texts))
        arrays = open_text_arrays(folder)
    if arrays is None:
        raise Graph2ImageError(f"{folder} was removed while it was used")
    return arrays


def open_text_arrays(folder: Path) -> TextArrays | None:
    """Map the arrays in `folder`; None if they are not there.

    Raises
    ------
    Graph2ImageError
        If a file is missing or damaged.
    """
    arrays = map_folder(folder, ("input_ids", "text_hidden", "text_summary"), ("text_pooled",))
    if arrays is None:
        return None
    tensors: dict[str, Any] = {
        name: values if values is None else torch.from_numpy(values) for name, values in arrays.items()
    }
    return TextArrays(**tensors)


def neighbor_summaries(
    items: TrainingItems, own: TextArrays, texts: TextEncoders
) -> tuple[npt.NDArray[np.int64], Iterator[Tensor]]:
    """Summaries of the neighbors' texts; only those that are no item's text are encoded.

    Returns
    -------
    rows, parts
        Row of each neighbor's text, and the rows in parts, `(n, hidden_size)` each.
    """
    column = items.neighbors["text"].combine_chunks()
    coded = column.dictionary.cast(pa.large_string()).dictionary_encode()
    rows = coded.indices.to_numpy()[column.indices.to_numpy()]
    distinct = coded.dictionary
    places = np.array(pc.fill_null(pc.index_in(distinct, value_set=item_texts(items)[1]), -1), np.int64)
    return rows, (
        _summaries(shard, places[start : start + SHARD], own.text_summary, texts)
        for start, shard in zip(range(0, len(distinct), SHARD), _shards(distinct), strict=True)
    )


def _summaries(shard: list[str], places: npt.NDArray[np.int64], own: Tensor, texts: TextEncoders) -> Tensor:
    """Summaries `(len(shard), hidden_size)`: the rows `places` of `own`, or encoded where that is -1."""
    found = own[torch.from_numpy(places).clamp(min=0)]
    if (new := np.flatnonzero(places < 0)).size:
        found[new] = texts.encode([shard[place] for place in new]).summary.float().cpu()
    return found


def _write(folder: Path, distinct: pa.Array, texts: TextEncoders) -> None:
    count = -(-len(distinct) // SHARD)
    with ArrayWriters(folder) as writers:
        for shard in tqdm(_shards(distinct), total=count, desc="texts", unit="shard", disable=None):
            encoded = texts.encode(shard)
            writers.append("input_ids", encoded.input_ids, np.int32)
            writers.append("text_hidden", encoded.hidden, np.float16)
            writers.append("text_summary", encoded.summary, np.float32)
            if encoded.pooled is not None:
                writers.append("text_pooled", encoded.pooled, np.float32)


def _shards(texts: pa.Array) -> Iterator[list[str]]:
    for start in range(0, len(texts), SHARD):
        yield texts.slice(start, SHARD).to_pylist()
