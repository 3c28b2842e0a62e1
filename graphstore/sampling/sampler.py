"""Semantic PPR: which neighbors an item's image is made from.

1. Personalized PageRank from the item gives the `pool` nearest items (`ppr`, on the graph of `projection`).
2. They are re-ranked by the cosine of their image embeddings with the *text* embedding of the item; the best `k` stay.

The rules, whatever the mode: an item is never its own neighbor, nor is another of its group; only items of
`neighbor_splits` are neighbors, so no test item ever is one unless asked for; opted-out items appear nowhere; the own
image of a test or validation item is never looked at. An item from which no walk reaches any neighbor gets the
semantic ones, and their `via` says `semantic`.

Any item can be sampled, also one without an image. Neighbors have an image, unless told otherwise; the walk itself
needs none, so on a graph without any image, `ppr` and `random` find neighbors without.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from graphstore.ppr import best_paths, top_k_ppr
from graphstore.ppr.hubs import HubVectors
from graphstore.projection.projection import Projection, project, without_images
from graphstore.sampling.reranking import ItemVectors, most_similar, similarities
from graphstore.sampling.settings import Engine, SamplerSettings
from graphstore.store import GraphStore
from ingest.datasets.node_ids import NodeIndex
from ingest.datasets.root import DataRoot, digest, text_hash
from ingest.datasets.schemas import NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError

if TYPE_CHECKING:
    from graphstore.gds.walk import GdsGraph

_Indices: TypeAlias = npt.NDArray[np.int32]
_Vectors: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Embedded:
    """The vectors of the items' images and texts."""

    images: ItemVectors
    texts: ItemVectors


@dataclass(frozen=True)
class Sampler:
    """What samples are made from.

    Attributes
    ----------
    settings, projection
        Of `project_graph`.
    embedded
        Vectors of the items' images and texts; None without an encoder.
    gds
        The graph on the server that makes the walks; None if they are made here.
    hubs
        Hub vectors for the walks, if any.
    """

    settings: SamplerSettings
    projection: Projection
    embedded: Embedded | None
    gds: GdsGraph | None = None
    hubs: HubVectors | None = None


@dataclass(frozen=True)
class _Sample:
    """Neighbors of a batch of items: `(n, k)` arrays, best first, `nodes` filled up with -1; and `via` of each."""

    nodes: _Indices
    ppr: npt.NDArray[np.float64]
    via: list[list[str]]


# -- what samples are made from --------------------------------------------------------------------------------------


def prepare_sampler(store: GraphStore, data: DataRoot, settings: SamplerSettings) -> Sampler:
    """A sampler for all items of the graph.

    Raises
    ------
    Graph2ImageError
        As `projection.project`, and if embeddings are missing.
    """
    settings, projection = project_graph(store, data, settings)
    if settings.encoder is None:
        return Sampler(settings, projection, None)
    embedded = open_embeddings(data, settings.encoder, projection, _text_hashes(store, projection.items["item_id"]))
    embedded.images.load()
    embedded.texts.load()
    return Sampler(settings, projection, embedded)


def project_graph(store: GraphStore, data: DataRoot, settings: SamplerSettings) -> tuple[SamplerSettings, Projection]:
    """The projection that `settings` ask for, on which images that cannot be read count as none.

    The settings that are returned are those it was made with: on a graph without any image, neighbors need none.

    Raises
    ------
    Graph2ImageError
        As `projection.project`, and if images are to be compared and there are none.
    """
    projection = project(store, settings, cache=data)
    if projection.items["image_hash"].null_count == projection.items.num_rows:
        if settings.compares_images:
            raise Graph2ImageError(
                f"no item in the graph has an image, and mode {settings.mode} compares images",
                "Ingest a source with images, or walk without them: `graph2image neighbors --mode ppr`.",
            )
        settings = settings.model_copy(update={"image_required": False})
        projection = project(store, settings, cache=data)
    unreadable = _unreadable_images(data, settings)
    return settings, without_images(projection, unreadable, image_required=settings.image_required)


def _unreadable_images(data: DataRoot, settings: SamplerSettings) -> pa.ChunkedArray:
    """Hashes of the images that the encoder could not read."""
    if settings.encoder is None:
        return pa.chunked_array([], pa.string())
    schema = pa.schema([("image_hash", pa.string())])
    return data.read(f"unreadable/{settings.encoder}", ["image_hash"], schema)["image_hash"]


def walks_on_server(
    store: GraphStore, data: DataRoot, settings: SamplerSettings, engine: Engine
) -> AbstractContextManager[GdsGraph | None]:
    """The graph of `project_graph` for GDS, if walks are made there."""
    if engine == "push" or not settings.is_walked:
        return nullcontext()
    from graphstore.gds.walk import gds_projection

    return gds_projection(store, settings, unreadable_images=_unreadable_images(data, settings).to_pylist())


def open_image_vectors(data: DataRoot, encoder: str, projection: Projection) -> ItemVectors:
    """The vectors of the items' images, of which nothing is read yet."""
    return ItemVectors(data, f"embeddings/{encoder}", "image_hash", projection.items["image_hash"], "images")


def open_embeddings(
    data: DataRoot, encoder: str, projection: Projection, text_hashes: pa.Array, images: ItemVectors | None = None
) -> Embedded:
    """The vectors of the items' images, unless they are given, and of the texts with these hashes.

    Nothing is read yet.
    """
    return Embedded(
        images or open_image_vectors(data, encoder, projection),
        ItemVectors(data, f"text-embeddings/{encoder}", "text_hash", text_hashes, "texts"),
    )


def _text_hashes(store: GraphStore, item_ids: pa.ChunkedArray) -> pa.Array:
    """`(n_items,)` the hash of each item's text."""
    index = NodeIndex(item_ids.combine_chunks())
    hashes = np.empty(len(item_ids), dtype=object)
    for label in store.labels_of_kind("item"):
        nodes = store.nodes(label, ["id", "text"])
        found = index.find(nodes["id"])
        texts = nodes["text"].combine_chunks().fill_null("").dictionary_encode()
        distinct = np.array([text_hash(text) for text in texts.dictionary.to_pylist()], dtype=object)
        is_item = found >= 0
        hashes[found[is_item]] = distinct[texts.indices.to_numpy()[is_item]]
    return pa.array(hashes, pa.string())


# -- one batch -------------------------------------------------------------------------------------------------------


def sample_rows(sampler: Sampler, targets: _Indices) -> pa.Table:
    """Rows of a neighbors dataset for the items with these numbers."""
    sample = _sample(sampler, targets)
    items = sampler.projection.items
    found = sample.nodes >= 0
    flat = sample.nodes[found]
    # Taken first, made one chunk then: the other way round, every batch would copy the whole column.
    ids, images = (items[name].take(pa.array(flat)).combine_chunks() for name in ("item_id", "image_hash"))
    similarity = pa.nulls(len(flat), pa.float32())
    if sampler.embedded is not None:
        queries = _queries(sampler, sampler.embedded, targets)
        cosines = similarities(queries, sampler.embedded.images, sample.nodes)[found]
        similarity = pa.array(cosines, mask=images.is_null().to_numpy(zero_copy_only=False))
    ppr = sample.ppr[found].astype(np.float32)
    struct = pa.StructArray.from_arrays(
        [
            ids,
            images,
            pa.array(ppr, mask=np.isnan(ppr)),
            similarity,
            pa.array([via for row in sample.via for via in row], pa.string()),
        ],
        fields=list(NEIGHBOR_SCHEMA.field("neighbors").type.value_type),
    )
    offsets = np.concatenate([[0], np.cumsum(found.sum(axis=1))]).astype(np.int32)
    neighbors = pa.ListArray.from_arrays(pa.array(offsets), struct)
    return pa.table([items["item_id"].take(targets), items["split"].take(targets), neighbors], schema=NEIGHBOR_SCHEMA)


def _sample(sampler: Sampler, targets: _Indices) -> _Sample:
    settings, embedded = sampler.settings, sampler.embedded
    if settings.mode == "random":
        return _unwalked(_random(sampler, targets), "random")
    if settings.mode == "semantic" and embedded is not None:
        return _unwalked(_semantic(sampler, embedded, targets), "semantic")
    reranked = settings.mode == "semantic-ppr"
    nodes, scores = _nearest(sampler, targets, settings.pool if reranked else settings.k)
    if reranked and embedded is not None:
        similarity = similarities(_queries(sampler, embedded, targets), embedded.images, nodes)
        similarity[nodes < 0] = -np.inf
        # Stable, so that the walk decides between equal similarities.
        best = np.argsort(-similarity, axis=1, kind="stable")[:, : settings.k]
        nodes, scores = np.take_along_axis(nodes, best, 1), np.take_along_axis(scores, best, 1)
    via = best_paths(sampler.projection, targets, nodes)
    alone = np.flatnonzero((nodes < 0).all(axis=1))
    if len(alone) and embedded is not None:
        nodes[alone], scores[alone] = _semantic(sampler, embedded, targets[alone]), np.nan
        for row in alone:
            via[row] = ["semantic"] * int((nodes[row] >= 0).sum())
    return _Sample(nodes, scores, via)


def _nearest(sampler: Sampler, targets: _Indices, k: int) -> tuple[_Indices, npt.NDArray[np.float64]]:
    """`(n, k)` items that the walk from each target reaches most, filled up with -1, and their scores."""
    settings, projection = sampler.settings, sampler.projection
    damping_factor, epsilon = settings.damping_factor, settings.epsilon
    if sampler.gds is None:
        top = top_k_ppr(projection, targets, k=k, damping_factor=damping_factor, epsilon=epsilon, hubs=sampler.hubs)
        return top.nodes, top.scores
    from graphstore.gds.walk import gds_top_k_ppr

    nodes, scores = np.full((len(targets), k), -1, dtype=np.int32), np.zeros((len(targets), k))
    sources = [str(projection.ids[target]) for target in targets.tolist()]
    for row, ranked in enumerate(gds_top_k_ppr(sampler.gds, sources, k=k, damping_factor=damping_factor)):
        nodes[row, : len(ranked)] = [projection.node(item_id) for item_id, _ in ranked]
        scores[row, : len(ranked)] = [score for _, score in ranked]
    return nodes, scores


def _unwalked(nodes: _Indices, via: str) -> _Sample:
    return _Sample(nodes, np.full(nodes.shape, np.nan), [[via] * count for count in (nodes >= 0).sum(axis=1)])


def _queries(sampler: Sampler, embedded: Embedded, targets: _Indices) -> _Vectors:
    """`(n, dim)` what images are compared with."""
    queries = embedded.texts.of(targets)
    if sampler.settings.query == "image":
        items = sampler.projection.items.select(["split", "image_hash"]).take(targets)
        own = pc.and_(pc.equal(items["split"], "train"), pc.is_valid(items["image_hash"])).to_numpy()
        queries[own] = embedded.images.of(targets[own])
    return queries


def _semantic(sampler: Sampler, embedded: Embedded, targets: _Indices) -> _Indices:
    """`(n, k)` candidates most similar to each target's query, filled up with -1."""
    embedded.images.load()
    projection = sampler.projection
    has_image = projection.items["image_hash"].is_valid().to_numpy()
    candidates = np.flatnonzero(projection.is_neighbor[: len(has_image)] & has_image).astype(np.int32)
    return most_similar(
        _queries(sampler, embedded, targets),
        projection.groups[targets],
        embedded.images,
        candidates,
        projection.groups,
        sampler.settings.k,
    )


def _random(sampler: Sampler, targets: _Indices) -> _Indices:
    """`(n, k)` candidates, each set uniform and decided by the seed and the item's id alone."""
    k, projection = sampler.settings.k, sampler.projection
    candidates = np.flatnonzero(projection.is_neighbor).astype(np.int32)
    group_sizes = np.bincount(projection.groups[candidates], minlength=projection.groups.max() + 1)
    nodes = np.full((len(targets), k), -1, dtype=np.int32)
    for row, target in enumerate(targets.tolist()):
        group = projection.groups[target]
        rng = np.random.default_rng(int(digest(sampler.settings.seed, str(projection.ids[target])), 16))
        # With so many drawn, k are left when all of the group are among them.
        drawn = rng.choice(candidates, min(len(candidates), k + int(group_sizes[group])), replace=False)
        chosen = drawn[projection.groups[drawn] != group][:k]
        nodes[row, : len(chosen)] = chosen
    return nodes
