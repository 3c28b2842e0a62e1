"""The computation of vectors: batches of images or texts through an encoder, published shard by shard.

Images are decoded by threads that work ahead of the model, across the borders of batches and shards, and a shard is
written while the next one is computed. On a GPU nothing waits for a batch to be finished: only the writer does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import embedding_schema
from ingest.encoders.checkpoint import Encoder
from ingest.encoders.identity import Precision
from ingest.encoders.precision import cpu_has_fast_bf16
from ingest.errors import Graph2ImageError
from ingest.images.loading import try_images

#: Rows per file: what a killed run loses, beside a shard that is just being written.
SHARD_ROWS = 1_024

#: A vector whose length differs from 1 by more is none: not a number, or of length 0.
LENGTH_TOLERANCE = 1e-3


def choose_device(asked: str | None) -> torch.device:
    """The device asked for; by default a GPU if there is one.

    Raises
    ------
    Graph2ImageError
        If there is no such device.
    """
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # an assertion where torch was built without CUDA
        reason = str(error).partition("\n")[0]
        raise Graph2ImageError(f"cannot use the device {asked!r}: {reason}", "Use cpu, or leave it out.") from error
    return device


def choose_precision(device: torch.device) -> Precision:
    """The fastest precision of a device's own instructions that keeps vectors within the stated tolerance.

    bf16 on GPUs since Ampere and on CPUs with AVX512-BF16 or AMX (4 times the speed of fp32 for ViT-B-32 on a Zen 5);
    fp16 on older GPUs; fp32 elsewhere.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        return "bf16" if cpu_has_fast_bf16() else "fp32"
    return "fp32"


def append_image_vectors(
    data: DataRoot,
    name: str,
    hashes: Sequence[str],
    paths: Mapping[str, str],
    encoder: Encoder,
    batch_size: int,
) -> dict[str, str]:
    """Append the vectors of images to dataset `name`; returns what is wrong with those that cannot be read, by hash.

    Raises
    ------
    Graph2ImageError
        If a batch does not fit into the device's memory, or a vector is not finite.
    """
    unreadable: dict[str, str] = {}
    # So many ahead that the threads have the next batch ready, and decode the one after it, while the model works.
    images = try_images(data, paths, hashes, encoder.prepare, ahead=2 * batch_size, smallest_size=encoder.smallest_size)

    def encode(batch: Sequence[str]) -> tuple[list[str], Tensor | None]:
        read, pixels = [], []
        for image_hash, image in zip(batch, islice(images, len(batch)), strict=True):
            if isinstance(image, Graph2ImageError):
                unreadable[image_hash] = image.message
            else:
                read.append(image_hash)
                pixels.append(image)
        return read, encoder.encode_images(pixels) if pixels else None

    def describe(image_hash: str) -> str:
        return f"the image {data.path(paths[image_hash])}"

    _append(data, name, "image_hash", hashes, encode, describe, encoder.precision, batch_size)
    return unreadable


def append_text_vectors(data: DataRoot, name: str, texts: Mapping[str, str], encoder: Encoder, batch_size: int) -> None:
    """Append the vectors of `texts`, by text hash, to dataset `name`; raises as `append_image_vectors` does."""

    def encode(batch: Sequence[str]) -> tuple[list[str], Tensor]:
        return list(batch), encoder.encode_texts([texts[key] for key in batch])

    def describe(key: str) -> str:
        return f"the text {texts[key][:100]!r}"

    _append(data, name, "text_hash", list(texts), encode, describe, encoder.precision, batch_size)


def _append(
    data: DataRoot,
    name: str,
    key: str,
    keys: Sequence[str],
    encode: Callable[[Sequence[str]], tuple[list[str], Tensor | None]],
    describe: Callable[[str], str],
    precision: Precision,
    batch_size: int,
) -> None:
    def publish(done: Sequence[str], parts: Sequence[Tensor]) -> None:
        vectors = torch.cat(list(parts)).cpu().numpy()
        if (wrong := ~(np.abs(np.linalg.norm(vectors, axis=1) - 1) < LENGTH_TOLERANCE)).any():
            raise Graph2ImageError(
                f"the encoder gives no finite vector in {precision} for {describe(done[int(wrong.argmax())])}",
                "Its weights may be damaged."
                if precision == "fp32"
                else "Its weights may be damaged, or its numbers too large for this precision: try --precision fp32.",
            )
        data.append(name, _vector_table(key, done, vectors, precision), _schema(key, vectors.shape[1], precision))

    writing: Future[None] | None = None
    with ThreadPoolExecutor(1, "vectors") as writer, tqdm(total=len(keys), desc=name, unit="row", disable=None) as bar:
        for shard in _chunks(keys, SHARD_ROWS):
            done: list[str] = []
            parts: list[Tensor] = []
            for batch in _chunks(shard, batch_size):
                with _explain_out_of_memory(len(batch)):
                    read, vectors = encode(batch)
                if vectors is not None:
                    done += read
                    parts.append(vectors)
                bar.update(len(batch))
            if writing is not None:
                writing.result()
            writing = writer.submit(publish, done, parts) if parts else None
        if writing is not None:
            writing.result()


@contextmanager
def _explain_out_of_memory(batch_size: int) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise Graph2ImageError(
            f"a batch of {batch_size} does not fit into the memory of the GPU", "Use a smaller --batch-size."
        ) from error


def _chunks(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))


def _schema(key: str, dim: int, precision: Precision) -> pa.Schema:
    return embedding_schema(key, dim).with_metadata({"precision": precision})


def _vector_table(key: str, keys: Sequence[str], vectors: npt.NDArray[np.float32], precision: Precision) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    return pa.table(
        [pa.array(keys, pa.string()), pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])],
        schema=_schema(key, vectors.shape[1], precision),
    )
