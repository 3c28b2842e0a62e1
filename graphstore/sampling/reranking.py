"""Similarities of images with queries, for one item or for millions, in bounded memory.

The vectors are in Parquet, compressed, by the hash of an image or text. For a few of them only the files that have
them are read. For many, all that are wanted are decoded once into one matrix: in memory if it is small, else in a file
without a name that is mapped into memory, so that the system keeps in memory what fits there.

`most_similar` is exact: every query is multiplied with every candidate, block by block.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from ingest.datasets.root import DataRoot
from ingest.datasets.vectors import read_vectors
from ingest.errors import Graph2ImageError

_Indices: TypeAlias = npt.NDArray[np.int32]
_Vectors: TypeAlias = npt.NDArray[np.float32]

#: Up to so many vectors at once are looked up in the files that hold them.
_FEW = 1_024
#: Queries and candidates whose similarities are in memory at once: 16 MiB.
_QUERIES, _CANDIDATES = 512, 8_192
#: So many more candidates than asked for are kept until all are compared: what a product of matrices says of two that
#: are almost equally similar depends on the sizes of its blocks.
_MARGIN = 8


class ItemVectors:
    """The vector of each item, from an embeddings dataset.

    Parameters
    ----------
    dataset, key
        Name of the dataset, and its column of hashes.
    hashes
        `(n_items,)` the hash of each item's image or text; null for an item without.
    what
        What is embedded, for messages: `images`, `texts`.
    """

    def __init__(self, data: DataRoot, dataset: str, key: str, hashes: pa.Array | pa.ChunkedArray, what: str) -> None:
        self._data, self._name, self._key, self._what = data, dataset, key, what
        hashes = hashes.combine_chunks() if isinstance(hashes, pa.ChunkedArray) else hashes
        encoded = hashes.dictionary_encode()
        self._hashes: pa.Array = encoded.dictionary
        self._rows = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        self._matrix: _Vectors | None = None

    def of(self, nodes: npt.NDArray[np.integer[Any]]) -> _Vectors:
        """`(*nodes.shape, dim)` float32, the vectors of these items; zeros for an item without, and for -1.

        Raises
        ------
        Graph2ImageError
            If a vector is missing.
        """
        rows = np.where(nodes >= 0, self._rows[nodes], -1)
        if self._matrix is None and rows.size <= _FEW:
            wanted, inverse = np.unique(rows, return_inverse=True)
            matrix = self._read(self._hashes.take(pa.array(wanted[wanted >= 0])))
            rows = inverse.reshape(rows.shape) - int((wanted < 0).any())
        else:
            matrix = self.load()
        vectors = matrix[rows] if len(matrix) else np.zeros((*rows.shape, matrix.shape[1]), np.float32)
        vectors[rows < 0] = 0.0
        return vectors

    def load(self) -> _Vectors:
        """Decode all vectors of the items, once; returns the matrix `(n_distinct_hashes, dim)`."""
        if self._matrix is None:
            self._matrix = self._read(self._hashes)
        return self._matrix

    def _read(self, hashes: pa.Array) -> _Vectors:
        """`(n, dim)` the vectors of these hashes."""
        vectors = read_vectors(self._data, self._name, self._key, hashes)
        if missing := vectors.missing():
            raise Graph2ImageError(
                f"{len(missing)} {self._what} have no embedding in {self._name!r}", "Run `graph2image embed` first."
            )
        return vectors.matrix


def similarities(queries: _Vectors, images: ItemVectors, nodes: _Indices) -> _Vectors:
    """`(n, k)` float32, the cosine of each of the `queries` `(n, dim)` with the images of its `nodes` `(n, k)`.

    Each is summed in the same order whatever else is asked for, so equal pairs give equal bits.
    """
    result = np.zeros(nodes.shape, dtype=np.float32)
    rows = max(1, _CANDIDATES // max(1, nodes.shape[1]))
    for start in range(0, len(nodes), rows):
        part = slice(start, start + rows)
        result[part] = np.einsum("nd,nkd->nk", queries[part], images.of(nodes[part]))
    return result


def most_similar(
    queries: _Vectors, query_groups: _Indices, images: ItemVectors, candidates: _Indices, groups: _Indices, k: int
) -> _Indices:
    """The candidates whose images are most similar to each query, exactly.

    Parameters
    ----------
    queries, query_groups
        `(n, dim)` unit vectors, and `(n,)` the group that each query must not find anything of.
    candidates
        Item numbers, ascending.
    groups
        The group of every item.

    Returns
    -------
    numpy.ndarray
        `(n, k)` item numbers, best first, filled up with -1. The smaller number comes first among equals.
    """
    kept = k + _MARGIN
    nodes = np.full((len(queries), kept), -1, dtype=np.int32)
    best = np.full((len(queries), kept), -np.inf, dtype=np.float32)
    for first in range(0, len(candidates), _CANDIDATES):
        block = candidates[first : first + _CANDIDATES]
        image_vectors = np.ascontiguousarray(images.of(block).T)
        for start in range(0, len(queries), _QUERIES):
            part = slice(start, start + _QUERIES)
            _keep_best(queries[part] @ image_vectors, query_groups[part], block, groups[block], nodes[part], best[part])
    exact = similarities(queries, images, nodes)
    exact[nodes < 0] = -np.inf
    order = np.lexsort((nodes, -exact), axis=1)[:, :k]
    return np.take_along_axis(nodes, order, 1)


@njit(nogil=True, cache=True)
def _keep_best(
    similarity: _Vectors, query_groups: _Indices, block: _Indices, groups: _Indices, nodes: _Indices, best: _Vectors
) -> None:
    """Insert a block of candidates into each query's best so far, which are sorted."""
    kept = nodes.shape[1]
    for row in range(len(similarity)):
        least = best[row, kept - 1]
        for column in range(len(block)):
            value = similarity[row, column]
            if value > least and groups[column] != query_groups[row]:
                index = kept - 1
                while index > 0 and best[row, index - 1] < value:
                    best[row, index], nodes[row, index] = best[row, index - 1], nodes[row, index - 1]
                    index -= 1
                best[row, index], nodes[row, index] = value, block[column]
                least = best[row, kept - 1]
