"""Embeddings as arrays, by the hashes of images or texts: what reads `embeddings/` and `text-embeddings/`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingest.datasets.matrices import zero_matrix
from ingest.datasets.node_ids import NodeIndex
from ingest.datasets.root import DataRoot
from ingest.datasets.rows import Rows
from ingest.errors import Graph2ImageError

Matrix: TypeAlias = npt.NDArray[np.float32]

#: Up to so many vectors are looked up in the files that hold them; of more, all files are decoded once.
_FEW = 1024


@dataclass(frozen=True)
class Vectors:
    """Vectors of some hashes.

    Parameters
    ----------
    hashes
        `(n,)` distinct hashes, as they were asked for.
    matrix
        `(n, dim)` float32 vectors of unit length; zero where there is none.
    found
        `(n,)` which of them have a vector.
    """

    hashes: pa.Array
    matrix: Matrix
    found: npt.NDArray[np.bool_]

    def missing(self) -> list[str]:
        """Hashes without a vector."""
        hashes: list[str] = self.hashes.filter(pa.array(~self.found)).to_pylist()
        return hashes

    def rows(self, hashes: pa.Array) -> npt.NDArray[np.int64]:
        """Rows of the matrix for these hashes, which may repeat; -1 for null, and for one that was not asked for."""
        return np.asarray(pc.fill_null(pc.index_in(hashes, value_set=self.hashes), -1), np.int64)


def image_vectors(data: DataRoot, encoder: str, image_hashes: pa.Array) -> Vectors:
    """Embeddings of images, by image hash.

    Parameters
    ----------
    image_hashes
        Distinct hashes.

    Raises
    ------
    Graph2ImageError
        If the encoder has embedded no images at all.
    """
    return read_vectors(data, f"embeddings/{encoder}", "image_hash", image_hashes)


def text_vectors(data: DataRoot, encoder: str, text_hashes: pa.Array) -> Vectors:
    """Embeddings of texts, by `ingest.datasets.root.text_hash`; as `image_vectors`."""
    return read_vectors(data, f"text-embeddings/{encoder}", "text_hash", text_hashes)


def missing_embeddings(encoder: str, image_hashes: Sequence[str]) -> Graph2ImageError:
    """The error about neighbors' images without an embedding."""
    return Graph2ImageError(
        f"{len(image_hashes)} neighbor images have no embedding of {encoder}, the first is {image_hashes[0]}",
        "Run `graph2image embed` first.",
    )


def vector_dataset(data: DataRoot, name: str) -> tuple[Rows, int]:
    """An embeddings dataset, and the length of its vectors.

    Raises
    ------
    Graph2ImageError
        If there is none of this name.
    """
    if not data.names(name):
        kind, _, encoder = name.partition("/")
        there = [other.partition("/")[2] for other in data.names(kind)]
        what = "image" if kind == "embeddings" else "text"
        raise Graph2ImageError(
            f"there are no {what} embeddings of encoder {encoder!r} under {data.url}",
            "Run `graph2image embed` first" + (f"; there are those of {', '.join(there)}." if there else "."),
        )
    dataset = data.dataset(name)
    return dataset, dataset.schema.field("embedding").type.list_size


def decode(column: pa.FixedSizeListArray, dim: int) -> Matrix:
    """A batch's column of vectors as `(n, dim)`."""
    matrix: Matrix = column.flatten().to_numpy().reshape(len(column), dim)
    return matrix


def read_vectors(data: DataRoot, name: str, key: str, hashes: pa.Array) -> Vectors:
    """Vectors of the dataset `name`, by its column `key`; as `image_vectors` and `text_vectors`, which are this."""
    dataset, dim = vector_dataset(data, name)
    wanted, parts = None, [dataset]
    if len(hashes) <= _FEW:
        wanted = pc.field(key).isin(hashes)
        files = set(dataset.to_table(["__filename"], filter=wanted)["__filename"].to_pylist())
        parts = [part for part in dataset.by_file() if part.files[0] in files]
    matrix, found = zero_matrix(data, len(hashes), dim), np.zeros(len(hashes), bool)
    index = NodeIndex(hashes)
    for part in parts:
        for batch in part.to_batches([key, "embedding"], wanted, batch_readahead=4, fragment_readahead=2):
            places = index.find(batch[key])
            rows = np.flatnonzero(places >= 0)
            matrix[places[rows]] = decode(batch["embedding"], dim)[rows]
            found[places[rows]] = True
    return Vectors(hashes, matrix, found)
