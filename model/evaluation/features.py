"""Features of images and texts, by the extractor that made them, and the cache of them in the data root.

Features are kept in `features/<extractor id>/images` and `features/<extractor id>/texts`, keyed by what they are of. An
extractor's id holds a digest of its weights and settings, so another version has a cache of its own; and features that
were made by two extractors are refused wherever they would meet.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from ingest.datasets.root import DataRoot, text_hash
from ingest.datasets.schemas import embedding_schema
from ingest.datasets.vectors import read_vectors
from ingest.errors import Graph2ImageError

Matrix = npt.NDArray[np.float32]

#: What made the features: a CLIP or a DINOv2 as published, the encoder that the graph's images are embedded with, or
#: the judge of `evaluate`.
Family = Literal["clip", "dinov2", "encoder", "judge"]

#: Images or texts that are loaded and computed at a time, and that a file of the cache holds.
_BATCH, _FILE = 32, 1_024


@dataclass(frozen=True)
class Features:
    """Features of images or texts, and who made them.

    Parameters
    ----------
    extractor_id
        Names the extractor and the version of it.
    matrix
        `(n, dim)` float32, as the extractor gives them: not of unit length.
    """

    extractor_id: str
    matrix: Matrix

    def rows(self, rows: npt.NDArray[np.int64]) -> Features:
        """Those of some of the images."""
        return Features(self.extractor_id, self.matrix[rows])

    @property
    def unit(self) -> Matrix:
        """`(n, dim)`, of unit length."""
        lengths = np.linalg.norm(self.matrix, axis=1, keepdims=True)
        normalized: Matrix = self.matrix / np.maximum(lengths, 1e-12)
        return normalized


class FeatureExtractor(abc.ABC):
    """Makes features of images, and of texts if it can. Its network is loaded when it is first needed.

    Attributes
    ----------
    extractor_id
        Holds a digest of the weights and of all settings that decide the features.
    family
        Decides what its figures are called.
    name
        For people: a model's name on the hub, or a folder's.
    """

    extractor_id: str
    family: Family
    name: str

    #: Whether images can be compared with texts.
    has_texts: bool

    @abc.abstractmethod
    def images(self, images: Sequence[Image.Image]) -> Matrix:
        """Features `(n, dim)` of square RGB images of any size."""

    @abc.abstractmethod
    def texts(self, texts: Sequence[str]) -> Matrix:
        """Features `(n, dim)` of texts, in the same space; only if `has_texts`."""


def require_same(*features: Features) -> None:
    """Raise a `Graph2ImageError` if features were made by several extractors, or by several versions of one."""
    ids = list(dict.fromkeys(one.extractor_id for one in features))
    if len(ids) > 1:
        raise Graph2ImageError(
            f"features of {ids[0]} and of {ids[1]} cannot be compared: they are of two extractors, or versions of one",
            "Compare again with one of them: the features that are missing are then computed.",
        )


def cosines(first: Features, second: Features) -> npt.NDArray[np.float64]:
    """Cosine of each row of the first with the same row of the second, `(n,)`."""
    require_same(first, second)
    found: npt.NDArray[np.float64] = np.einsum("nd,nd->n", first.unit, second.unit, dtype=np.float64)
    return found


# -- the cache ---------------------------------------------------------------------------------------------------------


def image_features(
    data: DataRoot, extractor: FeatureExtractor, images: Mapping[str, Callable[[], Image.Image]]
) -> Features:
    """Features of images by key, in their order: those that are in the cache, the others computed and kept.

    Parameters
    ----------
    images
        By a key that tells what is seen, such as the SHA-256 of a file: loads the square RGB image.
    """

    def compute(keys: Sequence[str]) -> Matrix:
        return extractor.images([images[key]() for key in keys])

    return _cached(data, extractor, "images", "image_hash", list(images), compute)


def text_features(data: DataRoot, extractor: FeatureExtractor, texts: Sequence[str]) -> Features:
    """Features of distinct texts, in their order; as `image_features`."""
    by_key = {text_hash(text): text for text in texts}

    def compute(keys: Sequence[str]) -> Matrix:
        return extractor.texts([by_key[key] for key in keys])

    return _cached(data, extractor, "texts", "text_hash", list(by_key), compute)


def _cached(
    data: DataRoot,
    extractor: FeatureExtractor,
    kind: str,
    key: str,
    keys: Sequence[str],
    compute: Callable[[Sequence[str]], Matrix],
) -> Features:
    name = f"features/{extractor.extractor_id}/{kind}"
    wanted = pa.array(keys, pa.string())
    missing = read_vectors(data, name, key, wanted).missing() if data.names(name) else keys
    for block in _blocks(missing, _FILE):
        matrix = np.concatenate([_checked(extractor, part, compute(part)) for part in _blocks(block, _BATCH)])
        schema = embedding_schema(key, matrix.shape[1])
        data.append(name, pa.table([block, list(matrix)], schema=schema), schema)
    return Features(extractor.extractor_id, read_vectors(data, name, key, wanted).matrix)


def _checked(extractor: FeatureExtractor, keys: Sequence[str], matrix: Matrix) -> Matrix:
    if not np.isfinite(matrix).all():
        bad = keys[int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])]
        raise Graph2ImageError(
            f"{extractor.name} gives features of {bad} that are not finite numbers",
            "Its weights are damaged, or not those of its configuration.",
        )
    return matrix.astype(np.float32)


def _blocks(keys: Sequence[str], size: int) -> list[Sequence[str]]:
    return [keys[first : first + size] for first in range(0, len(keys), size)]
