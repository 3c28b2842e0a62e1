"""Similarities: the vectors of a few items or of all, and the most similar images, against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sources import vector

from graphstore.sampling import reranking
from graphstore.sampling.reranking import ItemVectors, most_similar, similarities
from ingest.datasets import matrices
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import embedding_schema
from ingest.errors import Graph2ImageError


def _publish(data: DataRoot, names: list[str], per_file: int = 3) -> None:
    schema = embedding_schema("image_hash", 8)
    for start in range(0, len(names), per_file):
        part = names[start : start + per_file]
        rows = [{"image_hash": name, "embedding": vector(name)} for name in part]
        data.append("embeddings/test", pa.Table.from_pylist(rows, schema), schema)


@pytest.fixture(params=["local", "remote"])
def root(request: pytest.FixtureRequest, data: DataRoot, tmp_path: Any) -> DataRoot:
    return data if request.param == "local" else DataRoot(f"memory://{tmp_path}")


@pytest.mark.parametrize("how", ["looked up", "in memory", "in a file"])
def test_any_way_gives_the_same_vectors(root: DataRoot, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"h{n}" for n in range(10)]
    _publish(root, names)
    # Two items share an image, one has none, and three images are nobody's.
    hashes = pa.array(["h3", "h1", None, "h9", "h3", "h0", "h7", "h2"])
    vectors = ItemVectors(root, "embeddings/test", "image_hash", hashes, "images")
    if how == "in a file":
        monkeypatch.setattr(matrices, "IN_MEMORY", 0)
    if how != "looked up":
        vectors.load()
    nodes = np.array([[0, 2, 4], [-1, 3, 7]])
    expected = [[vector("h3"), [0.0] * 8, vector("h3")], [[0.0] * 8, vector("h9"), vector("h2")]]
    found = vectors.of(nodes)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert vectors.of(np.empty((2, 0), np.int32)).shape == (2, 0, 8)
    np.testing.assert_array_equal(vectors.of(np.array([2, -1])), np.zeros((2, 8)))


@pytest.mark.parametrize("few", [True, False])
def test_missing_vectors_are_counted(data: DataRoot, few: bool) -> None:
    hashes = pa.array(["h0", "h1", "gone", "h2", "lost", "lost"])
    vectors = ItemVectors(data, "embeddings/test", "image_hash", hashes, "images")
    with pytest.raises(Graph2ImageError, match="no image embeddings of encoder 'test'") as raised:
        vectors.of(np.array([0])) if few else vectors.load()
    assert "graph2image embed" in str(raised.value)
    _publish(data, ["h0", "h1", "h2"])
    with pytest.raises(Graph2ImageError, match="2 images have no embedding"):
        vectors.of(np.arange(6)) if few else vectors.load()


class _Matrix(ItemVectors):
    """Vectors that are in memory already."""

    def __init__(self, matrix: npt.NDArray[np.float32]) -> None:
        self.matrix = matrix

    def of(self, nodes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self.matrix[nodes]
        return found


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 6), st.sampled_from([(2, 3), (512, 8192)]), st.data())
def test_most_similar_is_the_order_of_all_similarities(
    n: int, n_queries: int, k: int, blocks: tuple[int, int], data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    # Few different values, so that there are ties.
    images = rng.integers(-1, 2, (n + 1, 4)).astype(np.float32)
    groups = rng.integers(0, 5, n + 1).astype(np.int32)
    queries, query_groups = rng.integers(-1, 2, (n_queries, 4)).astype(np.float32), groups[:1].repeat(n_queries)
    candidates = np.flatnonzero(rng.random(n) < 0.8).astype(np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reranking, "_QUERIES", blocks[0])
        patch.setattr(reranking, "_CANDIDATES", blocks[1])
        found = most_similar(queries, query_groups, _Matrix(images), candidates, groups, k)
    for row in range(n_queries):
        allowed = [node for node in candidates.tolist() if groups[node] != query_groups[row]]
        best = sorted(allowed, key=lambda node: (-float(queries[row] @ images[node]), node))[:k]
        assert found[row].tolist() == best + [-1] * (k - len(best))


def test_similarities_do_not_depend_on_what_else_is_asked() -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((50, 64)).astype(np.float32)
    queries = rng.standard_normal((40, 64)).astype(np.float32)
    nodes = rng.integers(0, 50, (40, 7)).astype(np.int32)
    together = similarities(queries, _Matrix(images), nodes)
    for row in range(40):
        alone = similarities(queries[row : row + 1], _Matrix(images), nodes[row : row + 1, 3:4])
        assert alone[0, 0] == together[row, 3]
    np.testing.assert_allclose(together, np.einsum("nd,nkd->nk", queries, images[nodes]), rtol=1e-5)
