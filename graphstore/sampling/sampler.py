"""Semantic PPR: which neighbors an item's image is made from.

1. Personalized PageRank from the item gives the `pool` nearest items (`ppr`, on the graph of `projection`).
2. They are re-ranked by the cosine of their image embeddings with the *text* embedding of the item; the best `k` stay.

The rules, whatever the mode: an item is never its own neighbor, nor is another of its group; only items of
`neighbor_splits` are neighbors, so no test item ever is one unless asked for; opted-out items appear nowhere; the own
image of a test or validation item is never looked at. An item from which no walk reaches any neighbor gets the
semantic ones, and their `via` says `semantic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from graphstore.ppr import best_paths, top_k_ppr
from graphstore.ppr.hubs import HubVectors
from graphstore.projection.projection import (
    Direction,
    Projection,
    project,
    without_pictures,
)
from graphstore.sampling.reranking import Vectors, most_similar, similarities
from graphstore.store import GraphStore
from ingest.datasets.node_ids import NodeIndex
from ingest.datasets.root import DataRoot, digest, text_hash
from ingest.datasets.schemas import NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError

if TYPE_CHECKING:
    from graphstore.gds.walk import GdsGraph

#: Where walks are made: `push`, here; or by Graph Data Science on the store's server.
Engine: TypeAlias = Literal["push", "gds"]

_Indices: TypeAlias = npt.NDArray[np.int32]
_Vectors: TypeAlias = npt.NDArray[np.float32]


class SamplerSettings(BaseModel):
    """How neighbors are sampled. Equal settings on an equal graph give equal neighbors.

    Attributes
    ----------
    encoder
        Whose embeddings are compared. The modes `ppr` and `random` do without: their neighbors have no similarity then,
        and an item from which no walk reaches any has none.
    mode
        `semantic-ppr` as in the module's notes; `ppr` without the re-ranking; `semantic` without the graph; `random`.
    query
        What images are compared with: the item's `text`, or its own `image`. Only a training item's own image is
        ever a query; for the others it is the text.
    k
        Neighbors per item, at most.
    pool
        Candidates that the walk hands to the re-ranking. A small pool keeps what the graph says: with 5 neighbors,
        pools of 10 gave better images than pools of 20.
    damping_factor, epsilon
        Of `ppr.top_k_ppr`.
    relation_weights, via, directions, entity_exponent, neighbor_splits
        Of `projection.project`.
    seed
        Of the mode `random`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str | None = None
    mode: Literal["random", "ppr", "semantic", "semantic-ppr"] = "semantic-ppr"
    query: Literal["text", "image"] = "text"
    k: int = Field(default=5, ge=1)
    pool: int = Field(default=10, ge=1)
    damping_factor: float = Field(default=0.85, gt=0, lt=1)
    epsilon: float = Field(default=1e-5, gt=0, allow_inf_nan=False)
    relation_weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    via: tuple[str, ...] | None = Field(default=None, min_length=1)
    directions: dict[str, Direction] = {}
    entity_exponent: float = Field(default=1.0, ge=-2, le=2)
    neighbor_splits: tuple[Literal["train", "val", "test"], ...] = ("train",)
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> SamplerSettings:
        if self.pool < self.k:
            raise ValueError(f"pool ({self.pool}) must be at least k ({self.k})")
        if self.encoder is None and self.mode.startswith("semantic"):
            raise ValueError(f"mode {self.mode} needs an encoder")
        return self


@dataclass(frozen=True)
class ExplainedNeighbor:
    """A neighbor with its scores: `ppr` is None where no walk was made; `via` as `ppr.best_paths`, or the mode."""

    item_id: str
    label: str
    title: str | None
    image_hash: str
    ppr: float | None
    similarity: float | None
    via: str


@dataclass(frozen=True)
class NeighborExplanation:
    """An item and its neighbors, best first; `notes` say what was done otherwise than asked for, and why."""

    item_id: str
    label: str
    title: str | None
    text: str | None
    split: str
    neighbors: tuple[ExplainedNeighbor, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Embedded:
    """The vectors of the items' images and texts."""

    images: Vectors
    texts: Vectors


@dataclass(frozen=True)
class Sampler:
    """The graph, vectors of items (if there is an encoder) and of hubs, and the server whose walks are used, if any."""

    settings: SamplerSettings
    projection: Projection
    embedded: Embedded | None
    gds: GdsGraph | None = None
    hubs: HubVectors | None = None


@dataclass(frozen=True)
class _Sample:
    """Neighbors of a batch of items: [items, k] arrays, best first, `nodes` filled up with -1."""

    nodes: _Indices
    ppr: npt.NDArray[np.float64]
    via: list[list[str]]


def explain_neighbors(
    store: GraphStore, data: DataRoot, item_id: str, settings: SamplerSettings, *, engine: Engine = "push"
) -> NeighborExplanation:
    """Sample the neighbors of one item, with titles and reasons.

    Raises
    ------
    Graph2ImageError
        If there is no such item or it is opted out, or embeddings are missing; or as `gds.gds_projection`.
    """
    projection = _project(store, data, settings)
    items = projection.items
    node = projection.node(item_id)
    if not 0 <= node < items.num_rows:
        raise Graph2ImageError(
            f"there is no item {item_id!r} in the graph, or it was opted out",
            'Find ids with `graph2image query "MATCH (n:LABEL) RETURN n.id, n.title LIMIT 10"`.',
        )
    described = _describe(store, projection, [node])
    embedded = None
    if settings.encoder is not None:
        # Of all texts, this one is needed.
        places = pa.array(np.zeros(items.num_rows, np.int8), mask=np.arange(items.num_rows) != node)
        texts = pa.array([text_hash(described[0]["text"] or "")]).take(places)
        embedded = _embedded(data, settings.encoder, projection, texts)
    with _on_server(store, data, settings, engine) as graph:
        sampler = Sampler(settings, projection, embedded, graph)
        row = sample_rows(sampler, np.array([node], dtype=np.int32)).to_pylist()[0]
    found = [projection.node(neighbor["item_id"]) for neighbor in row["neighbors"]]
    neighbors = tuple(
        ExplainedNeighbor(label=about["label"], title=about["title"], **neighbor)
        for about, neighbor in zip(_describe(store, projection, found), row["neighbors"], strict=True)
    )
    notes = tuple(_notes(settings, item_id, row))
    return NeighborExplanation(item_id, **described[0], split=row["split"], neighbors=neighbors, notes=notes)


def _notes(settings: SamplerSettings, item_id: str, row: dict[str, Any]) -> list[str]:
    notes = []
    vias = {neighbor["via"] for neighbor in row["neighbors"]}
    if settings.mode in ("ppr", "semantic-ppr"):
        if not vias:
            notes.append(f"no walk from {item_id} reaches a neighbor")
        elif vias == {"semantic"}:
            notes.append(f"no walk from {item_id} reaches a neighbor: these are the most similar images instead")
    if settings.query == "image" and settings.encoder is not None and row["split"] != "train":
        notes.append(f"{item_id} is a {row['split']} item: the query is its text, its image is not looked at")
    return notes


def _describe(store: GraphStore, projection: Projection, nodes: Sequence[int]) -> list[dict[str, Any]]:
    """Label, title and text of items."""
    described = []
    for row in projection.items.select(["item_id", "label"]).take(pa.array(nodes, pa.int64())).to_pylist():
        found = store.read(
            f"MATCH (n:`{row['label']}` {{id: $id}}) RETURN n.title AS title, n.text AS text", {"id": row["item_id"]}
        )
        described.append({"label": row["label"], **found.to_pylist()[0]})
    return described


# -- what samples are made from --------------------------------------------------------------------------------------


def prepare_sampler(store: GraphStore, data: DataRoot, settings: SamplerSettings) -> Sampler:
    """A sampler for all items of the graph.

    Raises
    ------
    Graph2ImageError
        As `projection.project`, and if embeddings are missing.
    """
    projection = _project(store, data, settings)
    if settings.encoder is None:
        return Sampler(settings, projection, None)
    embedded = _embedded(data, settings.encoder, projection, _text_hashes(store, projection.items["item_id"]))
    embedded.images.load()
    embedded.texts.load()
    return Sampler(settings, projection, embedded)


def _project(store: GraphStore, data: DataRoot, settings: SamplerSettings) -> Projection:
    projection = project(
        store,
        relation_weights=settings.relation_weights,
        via=settings.via,
        directions=settings.directions,
        entity_exponent=settings.entity_exponent,
        neighbor_splits=settings.neighbor_splits,
        cache=data,
    )
    return without_pictures(projection, _lost_pictures(data, settings))


def _lost_pictures(data: DataRoot, settings: SamplerSettings) -> pa.ChunkedArray:
    """Hashes of the images that the encoder could not read."""
    if settings.encoder is None:
        return pa.chunked_array([], pa.string())
    schema = pa.schema([("image_hash", pa.string())])
    return data.read(f"unreadable/{settings.encoder}", ["image_hash"], schema)["image_hash"]


def _on_server(
    store: GraphStore, data: DataRoot, settings: SamplerSettings, engine: Engine
) -> AbstractContextManager[GdsGraph | None]:
    """The graph of `_project` for GDS, if walks are made there."""
    if engine == "push" or settings.mode in ("semantic", "random"):
        return nullcontext()
    from graphstore.gds.walk import gds_projection

    return gds_projection(
        store,
        relation_weights=settings.relation_weights,
        via=settings.via,
        directions=settings.directions,
        entity_exponent=settings.entity_exponent,
        neighbor_splits=settings.neighbor_splits,
        lost_pictures=_lost_pictures(data, settings).to_pylist(),
    )


def _embedded(data: DataRoot, encoder: str, projection: Projection, text_hashes: pa.Array) -> Embedded:
    return Embedded(
        Vectors(data, f"embeddings/{encoder}", "image_hash", projection.items["image_hash"], "pictures"),
        Vectors(data, f"text-embeddings/{encoder}", "text_hash", text_hashes, "texts"),
    )


def _text_hashes(store: GraphStore, item_ids: pa.ChunkedArray) -> pa.Array:
    """[len(item_ids)] the hash of each item's text."""
    index = NodeIndex(item_ids.combine_chunks())
    hashes = np.empty(len(item_ids), dtype=object)
    for label in store.labels_of_kind("item"):
        nodes = store.nodes(label, ["id", "text"])
        places = index.find(nodes["id"])
        texts = nodes["text"].combine_chunks().fill_null("").dictionary_encode()
        distinct = np.array([text_hash(text) for text in texts.dictionary.to_pylist()], dtype=object)
        there = places >= 0
        hashes[places[there]] = distinct[texts.indices.to_numpy()[there]]
    return pa.array(hashes, pa.string())


# -- one batch -------------------------------------------------------------------------------------------------------


def sample_rows(sampler: Sampler, targets: _Indices) -> pa.Table:
    """Rows of a neighbors dataset for the items with these numbers."""
    sample = _sample(sampler, targets)
    items = sampler.projection.items
    found = sample.nodes >= 0
    flat = sample.nodes[found]
    similarity = pa.nulls(len(flat), pa.float32())
    if sampler.embedded is not None:
        queries = _queries(sampler, sampler.embedded, targets)
        similarity = pa.array(similarities(queries, sampler.embedded.images, sample.nodes)[found])
    ppr = sample.ppr[found].astype(np.float32)
    struct = pa.StructArray.from_arrays(
        [
            items["item_id"].combine_chunks().take(flat),
            items["image_hash"].combine_chunks().take(flat),
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
    """[len(targets), k] the items that walks from each target reach most, filled up with -1, and their scores."""
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
    """[len(targets), dim] what images are compared with."""
    queries = embedded.texts.of(targets)
    if sampler.settings.query == "image":
        items = sampler.projection.items.select(["split", "image_hash"]).take(targets)
        own = pc.and_(pc.equal(items["split"], "train"), pc.is_valid(items["image_hash"])).to_numpy()
        queries[own] = embedded.images.of(targets[own])
    return queries


def _semantic(sampler: Sampler, embedded: Embedded, targets: _Indices) -> _Indices:
    """[len(targets), k] the candidates most similar to each target's query, filled up with -1."""
    embedded.images.load()
    projection = sampler.projection
    return most_similar(
        _queries(sampler, embedded, targets),
        projection.groups[targets],
        embedded.images,
        np.flatnonzero(projection.is_neighbor).astype(np.int32),
        projection.groups,
        sampler.settings.k,
    )


def _random(sampler: Sampler, targets: _Indices) -> _Indices:
    """[len(targets), k] candidates, each set uniform and decided by the seed and the item's id alone."""
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
