"""The copy check: how near a generated image comes to its own neighbors, and to any image of the training split.

Two measures, since each misses what the other finds:

- the cosine of the encoder's embeddings, which stays high when a copy is cropped, scaled or shifted;
- the number of bits in which the perceptual hashes differ, of 256 (those of the `images` dataset), which tells two
  images of the same kind apart, though an encoder finds them alike.

An image is flagged if either is over its threshold. Withdrawn works are compared with too, if the encoder saw them: a
copy of one would be the worst. The search is exact: every image is compared with every training image, in blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from ingest.datasets.items import read_items
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import IMAGE_SCHEMA
from ingest.datasets.vectors import image_vectors
from ingest.encoders.checkpoint import load_encoder
from ingest.encoders.vectors import choose_device
from ingest.errors import Graph2ImageError
from ingest.images.store import PERCEPTUAL_HASH_BYTES, perceptual_hash
from model.generation.requests import COPY_THRESHOLDS, CopyThresholds

#: Training images that are compared at once.
_BLOCK = 16_384

_Vectors = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint64]
_WORDS = PERCEPTUAL_HASH_BYTES // 8


@dataclass(frozen=True)
class CopyScores:
    """The nearest images to a generated one.

    Parameters
    ----------
    neighbor_similarity, neighbor_bits
        Largest cosine and fewest differing bits to one of its neighbors; None if it has none.
    training_similarity, training_bits
        The same, to any image of the training split; None if there is none with a vector or a hash.
    nearest_image
        Hash of the training image with the largest cosine.
    flagged
        Whether one of them is over its threshold.
    """

    neighbor_similarity: float | None
    neighbor_bits: int | None
    training_similarity: float | None
    training_bits: int | None
    nearest_image: str | None
    flagged: bool


class CopyCheck:
    """Compares images with the training split and with their neighbors.

    Parameters
    ----------
    encoder
        Whose embeddings are compared.
    neighbors
        Hashes of all images that will be named as neighbors.
    device
        Of the encoder; see `choose_device`.

    Raises
    ------
    Graph2ImageError
        If there is no such encoder.
    """

    def __init__(
        self,
        data: DataRoot,
        encoder: str,
        neighbors: Sequence[str],
        thresholds: CopyThresholds = COPY_THRESHOLDS,
        device: str | None = None,
    ) -> None:
        self._encoder = load_encoder(data, encoder, choose_device(device))
        self._thresholds = thresholds
        training = _training_images(data)
        self._images = pc.unique(pa.concat_arrays([training, pa.array(neighbors, pa.string())]))
        self._is_training = np.arange(len(self._images)) < len(training)
        vectors = image_vectors(data, encoder, self._images)
        self._vectors, self._has_vector = vectors.matrix, vectors.found
        self._hashes, self._has_hash = _read_hashes(data, self._images)

    def score(self, images: Sequence[Image.Image], neighbors: Sequence[Sequence[str]]) -> list[CopyScores]:
        """Scores of generated images; `neighbors` has the image hashes of each one's neighbors."""
        vectors = self._encoder.encode_images([self._encoder.prepare(image.convert("RGB")) for image in images])
        own_vectors = vectors.cpu().numpy()
        own_hashes = parse_hashes([perceptual_hash(image) for image in images])
        best, nearest, fewest = self._nearest(own_vectors, own_hashes)
        scores = []
        for row, hashes in enumerate(neighbors):
            rows = pc.index_in(pa.array(hashes, pa.string()), value_set=self._images).to_numpy(zero_copy_only=False)
            similarity = (self._vectors[rows] @ own_vectors[row])[self._has_vector[rows]]
            bits = differing_bits(own_hashes[row], self._hashes[rows])[self._has_hash[rows]]
            found = bool(np.isfinite(best[row]))
            scores.append(
                self._judged(
                    float(similarity.max()) if len(similarity) else None,
                    int(bits.min()) if len(bits) else None,
                    float(best[row]) if found else None,
                    int(fewest[row]) if fewest[row] <= 8 * PERCEPTUAL_HASH_BYTES else None,
                    self._images[int(nearest[row])].as_py() if found else None,
                )
            )
        return scores

    def _judged(
        self,
        neighbor_similarity: float | None,
        neighbor_bits: int | None,
        training_similarity: float | None,
        training_bits: int | None,
        nearest: str | None,
    ) -> CopyScores:
        similar = [value for value in (neighbor_similarity, training_similarity) if value is not None]
        differing = [value for value in (neighbor_bits, training_bits) if value is not None]
        flagged = any(value >= self._thresholds.similarity for value in similar) or any(
            value <= self._thresholds.bits for value in differing
        )
        return CopyScores(neighbor_similarity, neighbor_bits, training_similarity, training_bits, nearest, flagged)

    def _nearest(
        self, vectors: _Vectors, hashes: Hashes
    ) -> tuple[_Vectors, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Per image: the largest cosine to a training image, which that is, and the fewest differing bits."""
        best = np.full(len(vectors), -np.inf, np.float32)
        nearest = np.zeros(len(vectors), np.int64)
        fewest = np.full(len(vectors), np.iinfo(np.int64).max)
        for first in range(0, len(self._images), _BLOCK):
            block = slice(first, first + _BLOCK)
            similarity = vectors @ self._vectors[block].T
            similarity[:, ~(self._is_training & self._has_vector)[block]] = -np.inf
            at = similarity.argmax(axis=1)
            value = np.take_along_axis(similarity, at[:, None], 1)[:, 0]
            better = value > best
            best[better], nearest[better] = value[better], first + at[better]
            comparable = np.flatnonzero((self._is_training & self._has_hash)[block])
            if len(comparable):
                bits = differing_bits(hashes[:, None], self._hashes[block][comparable])
                fewest = np.minimum(fewest, bits.min(axis=1))
        return best, nearest, fewest


def _training_images(data: DataRoot) -> pa.Array:
    """Hashes of the training split's images."""
    wanted = (pc.field("split") == "train") & pc.field("image_hash").is_valid()
    return pc.unique(read_items(data, ["image_hash"], where=wanted)["image_hash"].combine_chunks())


def _read_hashes(data: DataRoot, images: pa.Array) -> tuple[Hashes, npt.NDArray[np.bool_]]:
    """Perceptual hashes `(n, 4)`, and which of the images have one."""
    hashes, there = np.zeros((len(images), _WORDS), np.uint64), np.zeros(len(images), bool)
    whole = pc.binary_length(pc.field("perceptual_hash")) == 2 * PERCEPTUAL_HASH_BYTES
    columns = ["image_hash", "perceptual_hash"]
    for batch in data.dataset("images", IMAGE_SCHEMA).to_batches(columns=columns, filter=whole):
        places = pc.index_in(batch["image_hash"], value_set=images).fill_null(-1).to_numpy()
        rows = np.flatnonzero(places >= 0)
        hashes[places[rows]] = parse_hashes(batch["perceptual_hash"].take(rows).to_pylist())
        there[places[rows]] = True
    return hashes, there


def parse_hashes(hashes: Sequence[str]) -> Hashes:
    """Perceptual hashes in hex as `(n, 4)`."""
    try:
        return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(-1, _WORDS)
    except ValueError as error:
        raise Graph2ImageError(f"the images dataset has a perceptual hash that is none: {error}") from error


def differing_bits(first: Hashes, second: Hashes) -> npt.NDArray[np.int64]:
    """Number of differing bits, over the last axis."""
    bits: npt.NDArray[np.int64] = np.bitwise_count(first ^ second).sum(axis=-1, dtype=np.int64)
    return bits
