"""Items whose images are most like an item's, by the cosine of their vectors.

A store with indexes answers from them; `embed` keeps those current. Otherwise, and where the index does not have the
encoder asked for, the image is compared with all images' vectors in Parquet: the same answer, but for the few items
that an approximate index may miss.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from graphstore.search.labels import searched_labels
from graphstore.store import GraphStore, Item, SimilarItem
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)

_Vectors: TypeAlias = npt.NDArray[np.float32]

#: Vectors that are multiplied at once.
_BLOCK = 8_192
#: This many more than asked for are kept, in case an image has its vector twice.
_MARGIN = 8


@dataclass(frozen=True)
class SimilarItems:
    """The items most like one, best first; `indexed` says whether an approximate index was asked."""

    item_id: str
    label: str
    title: str | None
    encoder: str
    indexed: bool
    items: tuple[SimilarItem, ...]


def similar(
    store: GraphStore, data: DataRoot, item_id: str, *, encoder: str, k: int = 10, label: str | None = None
) -> SimilarItems:
    """The items whose images are most similar to the image of an item.

    Opted-out items are never among them; others of the item's own group are.

    Parameters
    ----------
    encoder
        Whose vectors are compared.
    k
        Items, at most.
    label
        Of the items to find; by default of any.

    Raises
    ------
    Graph2ImageError
        If there is no such item or label, the item has no image, or the image has no vector of the encoder.
    """
    labels = searched_labels(store, label)
    item = find_item(store, item_id)
    if item.image_hash is None:
        raise Graph2ImageError(
            f"item {item_id} has no image to compare",
            f'Search by words instead: graph2image search "{(item.title or "…")[:60]}"',
        )
    found = None
    if store.indexes is not None:
        found = store.indexes.find_similar(item, encoder, labels, k)
        if found is None:
            log.info("the store's index has no vector of %s for %s: compared with all images instead", encoder, item_id)
    items = _most_similar(store, data, item, encoder, labels, k) if found is None else found
    return SimilarItems(item_id, item.label, item.title, encoder, found is not None, tuple(items))


def find_item(store: GraphStore, item_id: str) -> Item:
    """The item with this id.

    Raises
    ------
    Graph2ImageError
        If there is none, or it is opted out.
    """
    for label in store.labels_of_kind("item"):
        rows = store.read(
            f"MATCH (n:`{label}` {{id: $id}}) WHERE NOT coalesce(n.opted_out, false) "
            "RETURN n.id AS item_id, n.title AS title, n.image_hash AS image_hash",
            {"id": item_id},
        ).to_pylist()
        if rows:
            return Item(label=label, **rows[0])
    raise Graph2ImageError(
        f"there is no item {item_id!r} in the graph, or it was opted out", 'Find ids with `graph2image search "WORDS"`.'
    )


def _most_similar(
    store: GraphStore, data: DataRoot, item: Item, encoder: str, labels: Sequence[str], k: int
) -> list[SimilarItem]:
    """The most similar items, from the vectors in Parquet; exact."""
    from graphstore.sampling.reranking import ItemVectors
    from ingest.datasets.node_ids import NodeIndex

    if not data.names(f"embeddings/{encoder}"):
        there = [name.partition("/")[2] for name in data.names("embeddings")]
        raise Graph2ImageError(
            f"there are no image embeddings of encoder {encoder!r} under {data.url}",
            "Run `graph2image embed` first" + (f"; there are those of {', '.join(there)}." if there else "."),
        )
    name = f"embeddings/{encoder}"
    try:
        query = ItemVectors(data, name, "image_hash", pa.array([item.image_hash]), "images").of(np.zeros(1, np.int32))[
            0
        ]
    except Graph2ImageError as error:
        raise Graph2ImageError(
            f"the image of {item.item_id} has no embedding of {encoder}",
            f"Run `graph2image embed --encoder {encoder}`; unreadable/{encoder} lists images that cannot be read.",
        ) from error

    parts = []
    for label in labels:
        nodes = store.nodes(label, ["id", "image_hash", "opted_out"])
        usable = pc.and_(pc.is_valid(nodes["image_hash"]), pc.invert(pc.fill_null(nodes["opted_out"], False)))
        others = nodes.filter(pc.and_(usable, pc.not_equal(nodes["id"], item.item_id)))
        parts.append(others.select(["id", "image_hash"]).append_column("label", pa.repeat(label, others.num_rows)))
    candidates = pa.concat_tables(parts)
    hashes = candidates["image_hash"].combine_chunks().dictionary_encode()

    codes, cosines = _best_vectors(data, name, NodeIndex(hashes.dictionary), query, k + _MARGIN)
    ranks = np.full(len(hashes.dictionary), np.nan, np.float32)
    ranks[codes] = cosines
    similarity = ranks[hashes.indices.to_numpy()]
    rows = np.flatnonzero(~np.isnan(similarity))
    best = candidates.take(rows).append_column("similarity", pa.array(similarity[rows], pa.float64()))
    best = best.sort_by([("similarity", "descending"), ("id", "ascending")]).slice(0, k)
    titles = _titles(store, best)
    return [SimilarItem(row["id"], row["label"], titles[row["id"]], row["similarity"]) for row in best.to_pylist()]


def _best_vectors(
    data: DataRoot, name: str, wanted: Any, query: _Vectors, kept: int
) -> tuple[npt.NDArray[np.int32], _Vectors]:
    """Indices in the `NodeIndex` `wanted` of the hashes whose vectors are most similar, and the cosines."""
    codes, cosines = np.empty(0, np.int32), np.empty(0, np.float32)
    batches = data.dataset(name).to_batches(
        ["image_hash", "embedding"], batch_size=_BLOCK, batch_readahead=1, fragment_readahead=1
    )
    for batch in batches:
        found = wanted.find(batch["image_hash"])
        there = np.flatnonzero(found >= 0)
        if not len(there):
            continue
        vectors = batch["embedding"].flatten().to_numpy().reshape(batch.num_rows, -1)
        codes = np.concatenate([codes, found[there]])
        cosines = np.concatenate([cosines, (vectors @ query)[there]])
        if len(codes) > kept:
            best = np.argpartition(-cosines, kept - 1)[:kept]
            codes, cosines = codes[best], cosines[best]
    return codes, cosines


def _titles(store: GraphStore, items: pa.Table) -> dict[str, str | None]:
    """Titles of items, which have columns `id` and `label`, by id."""
    titles: dict[str, str | None] = {}
    for label in items["label"].unique().to_pylist():
        ids = items.filter(pc.equal(items["label"], label))["id"].to_pylist()
        rows = store.read(
            f"MATCH (n:`{label}`) WHERE n.id IN $ids RETURN n.id AS id, n.title AS title", {"ids": ids}
        ).to_pylist()
        titles |= {row["id"]: row["title"] for row in rows}
    return titles
