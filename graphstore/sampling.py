"""Semantic PPR: which neighbors an item's picture is made from, for one item with explanations or for all of them.

1. Personalized PageRank from the item gives the `pool` nearest items (`ppr`, on the graph of `projection`).
2. They are re-ranked by the cosine of their image embeddings with the *text* embedding of the item; the best `k` stay.

The rules, whatever the mode: an item is never its own neighbor, nor is another of its group; only items of
`neighbor_splits` are neighbors, so no test item ever is one unless asked for; opted-out items appear nowhere; an item's
own picture is never looked at. An item from which no walk reaches any neighbor gets the semantic ones, and their `via`
says `semantic`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator
from tqdm.auto import tqdm

from graphstore.ppr import best_paths, top_k_ppr
from graphstore.projection import Projection, project, without_pictures
from graphstore.store import GraphStore
from ingest.datasets import NEIGHBOR_SCHEMA, DataRoot, digest, text_hash
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)

_Indices: TypeAlias = npt.NDArray[np.int32]
_Vectors: TypeAlias = npt.NDArray[np.float32]

#: Items per file of a neighbors dataset: what a killed run loses at most.
SHARD_ROWS = 4_096
#: Items whose similarities with all candidates are in memory at once.
_BLOCK_ROWS = 256


class SamplerSettings(BaseModel):
    """How neighbors are sampled. Equal settings on an equal graph give equal neighbors.

    Attributes
    ----------
    encoder
        Whose embeddings are compared.
    mode
        `semantic-ppr` as in the module's notes; `ppr` without the re-ranking; `semantic` without the graph; `random`.
    k
        Neighbors per item, at most.
    pool
        Candidates that the walk hands to the re-ranking. A small pool keeps what the graph says: with 5 neighbors,
        pools of 10 gave better pictures than pools of 20.
    damping_factor, epsilon
        Of `ppr.top_k_ppr`.
    relation_weights, entity_exponent, neighbor_splits
        Of `projection.project`.
    seed
        Of the mode `random`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    mode: Literal["random", "ppr", "semantic", "semantic-ppr"] = "semantic-ppr"
    k: int = Field(default=5, ge=1)
    pool: int = Field(default=10, ge=1)
    damping_factor: float = Field(default=0.85, gt=0, lt=1)
    epsilon: float = Field(default=1e-5, gt=0)
    relation_weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    entity_exponent: float = Field(default=1.0, ge=-2, le=2)
    neighbor_splits: tuple[Literal["train", "val", "test"], ...] = ("train",)
    seed: int = 0

    @model_validator(mode="after")
    def _check_pool(self) -> SamplerSettings:
        if self.pool < self.k:
            raise ValueError(f"pool ({self.pool}) must be at least k ({self.k})")
        return self


@dataclass(frozen=True)
class SampleReport:
    """What `sample_all` wrote.

    Attributes
    ----------
    digest
        Names the dataset: `neighbors/<digest>`.
    items, neighbors
        Rows, and neighbors in all of them.
    incomplete
        Items with fewer than `k` neighbors.
    fallbacks
        Items whose neighbors are semantic ones, because no walk reaches any.
    shards_new, shards_existing
        Files that were computed by this run, and by earlier ones.
    changed
        False if the dataset was complete already.
    """

    digest: str
    graph_version: str
    items: int
    neighbors: int
    incomplete: int
    fallbacks: int
    shards_new: int
    shards_existing: int
    changed: bool


@dataclass(frozen=True)
class ExplainedNeighbor:
    """A neighbor with its scores: `ppr` is None where no walk was made; `via` as `ppr.best_paths`, or the mode."""

    item_id: str
    label: str
    title: str | None
    image_hash: str
    ppr: float | None
    similarity: float
    via: str


@dataclass(frozen=True)
class NeighborExplanation:
    """An item and its neighbors, best first."""

    item_id: str
    label: str
    title: str | None
    text: str | None
    split: str
    neighbors: tuple[ExplainedNeighbor, ...]


@dataclass(frozen=True)
class _Sampler:
    """The graph and, per item, the image embedding (zeros without an image) and the text embedding."""

    settings: SamplerSettings
    projection: Projection
    images: _Vectors
    texts: _Vectors


@dataclass(frozen=True)
class _Sample:
    """Neighbors of a batch of items: [items, k] arrays, best first, `nodes` filled up with -1."""

    nodes: _Indices
    ppr: npt.NDArray[np.float64]
    via: list[list[str]]


def explain_neighbors(
    store: GraphStore, data: DataRoot, item_id: str, settings: SamplerSettings
) -> NeighborExplanation:
    """Sample the neighbors of one item, with titles and reasons.

    Raises
    ------
    Graph2ImageError
        If there is no such item or it is opted out, or embeddings are missing.
    """
    sampler = _prepare(store, data, settings)
    projection = sampler.projection
    node = projection.node(item_id)
    if not 0 <= node < projection.items.num_rows:
        raise Graph2ImageError(
            f"there is no item {item_id!r} in the graph, or it was opted out",
            'Find ids with `graph2image query "MATCH (n:LABEL) RETURN n.id, n.title LIMIT 10"`.',
        )
    row = _rows(sampler, np.array([node], dtype=np.int32)).to_pylist()[0]
    labels = dict(zip(projection.items["item_id"].to_pylist(), projection.items["label"].to_pylist(), strict=True))
    described = {
        name: _describe(store, labels[name], name) for name in (item_id, *(n["item_id"] for n in row["neighbors"]))
    }
    neighbors = tuple(
        ExplainedNeighbor(label=labels[n["item_id"]], title=described[n["item_id"]][0], **n) for n in row["neighbors"]
    )
    return NeighborExplanation(item_id, labels[item_id], *described[item_id], row["split"], neighbors)


def sample_all(store: GraphStore, data: DataRoot, settings: SamplerSettings) -> SampleReport:
    """Sample the neighbors of every item with an image, of all splits, and publish them as `neighbors/<digest>`.

    A shard that an earlier, killed run has written is kept. The dataset's metadata has the settings, the encoder, the
    graph version and the counts of the report.

    Raises
    ------
    Graph2ImageError
        If the graph is empty, `relation_weights` names an unknown type, or embeddings are missing.
    """
    version = store.version()
    name = digest(settings.model_dump(mode="json"), version)
    dataset = f"neighbors/{name}"
    published = data.snapshot(dataset)
    if published is not None:
        counts = published.metadata["counts"]
        return SampleReport(name, version, **counts, shards_new=0, shards_existing=len(published.files), changed=False)

    sampler = _prepare(store, data, settings)
    targets = np.flatnonzero(sampler.projection.items["image_hash"].is_valid().to_numpy()).astype(np.int32)
    if len(targets) == 0:
        raise Graph2ImageError("no item in the graph has an image", "Ingest a source with images first.")
    existing = {tuple(shard["item_id"].to_pylist()) for shard in _shards(data, dataset, ["item_id"])}
    ids = sampler.projection.items["item_id"]
    new = 0
    with tqdm(total=len(targets), desc="sample neighbors", unit="item", disable=None) as progress:
        for part in np.split(targets, range(SHARD_ROWS, len(targets), SHARD_ROWS)):
            if tuple(ids.take(part).to_pylist()) not in existing:
                data.append(dataset, _rows(sampler, part), NEIGHBOR_SCHEMA)
                new += 1
            progress.update(len(part))

    counts = _count(_shards(data, dataset), settings)
    metadata = {
        "settings": settings.model_dump(mode="json"),
        "encoder": settings.encoder,
        "graph_version": version,
        "counts": counts,
    }
    snapshot, _ = data.publish(dataset, _shards(data, dataset), NEIGHBOR_SCHEMA, metadata)
    log.info("sampled %d neighbors for %d items: %s", counts["neighbors"], counts["items"], dataset)
    return SampleReport(
        name, version, **counts, shards_new=new, shards_existing=len(snapshot.files) - new, changed=True
    )


def _shards(data: DataRoot, dataset: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The files of a neighbors dataset in the order of their items."""
    fragments = list(data.dataset(dataset, NEIGHBOR_SCHEMA).get_fragments())
    firsts = [fragment.head(1, columns=["item_id"])["item_id"].to_pylist() for fragment in fragments]
    for _, number in sorted((first, number) for number, first in enumerate(firsts) if first):
        yield fragments[number].to_table(columns=columns)


def _count(shards: Iterator[pa.Table], settings: SamplerSettings) -> dict[str, int]:
    counts = {"items": 0, "neighbors": 0, "incomplete": 0, "fallbacks": 0}
    for shard in shards:
        lengths = pc.list_value_length(shard["neighbors"]).to_numpy()
        counts["items"] += shard.num_rows
        counts["neighbors"] += int(lengths.sum())
        counts["incomplete"] += int((lengths < settings.k).sum())
        if settings.mode in ("ppr", "semantic-ppr"):
            first = pc.list_element(shard["neighbors"].filter(pa.array(lengths > 0)), 0)
            counts["fallbacks"] += pc.sum(pc.equal(pc.struct_field(first, "via"), "semantic"), min_count=0).as_py()
    return counts


def _describe(store: GraphStore, label: str, item_id: str) -> tuple[str | None, str | None]:
    row = store.read(f"MATCH (n:`{label}` {{id: $id}}) RETURN n.title AS title, n.text AS text", {"id": item_id})
    return row["title"][0].as_py(), row["text"][0].as_py()


# -- one batch -------------------------------------------------------------------------------------------------------


def _prepare(store: GraphStore, data: DataRoot, settings: SamplerSettings) -> _Sampler:
    projection = project(
        store,
        relation_weights=settings.relation_weights,
        entity_exponent=settings.entity_exponent,
        neighbor_splits=settings.neighbor_splits,
    )
    texts = pa.concat_tables(
        store.read(f"MATCH (n:`{label}`) RETURN n.id AS id, n.text AS text") for label in store.labels_of_kind("item")
    )
    rows = pc.index_in(projection.items["item_id"], value_set=texts["id"])
    text_hashes = pa.array([text_hash(text or "") for text in texts["text"].take(rows).to_pylist()])
    encoder = settings.encoder
    unreadable = data.read(f"unreadable/{encoder}", ["image_hash"], pa.schema([("image_hash", pa.string())]))
    projection = without_pictures(projection, unreadable["image_hash"])
    return _Sampler(
        settings,
        projection,
        _read_embeddings(data, f"embeddings/{encoder}", "image_hash", projection.items["image_hash"]),
        _read_embeddings(data, f"text-embeddings/{encoder}", "text_hash", text_hashes),
    )


def _read_embeddings(data: DataRoot, dataset: str, key: str, hashes: pa.ChunkedArray | pa.Array) -> _Vectors:
    """[len(hashes), dim] embeddings, zeros for a null hash."""
    hint = "Run `graph2image embed` first."
    if not data.fs.exists(data.path(dataset)):
        raise Graph2ImageError(f"there is no dataset {dataset!r} under {data.url}", hint)
    table = data.read(dataset)
    vectors = table["embedding"].combine_chunks()
    matrix = vectors.flatten().to_numpy().reshape(len(vectors), vectors.type.list_size)
    rows = pc.index_in(hashes, value_set=table[key], skip_nulls=True)
    missing = pc.and_(pc.is_valid(hashes), pc.is_null(rows))
    count = pc.sum(missing, min_count=0).as_py()
    if count:
        what = "pictures" if key == "image_hash" else "texts"
        raise Graph2ImageError(f"{count} {what} have no embedding in {dataset!r}", hint)
    result = matrix[rows.fill_null(0).to_numpy()] if len(matrix) else np.zeros((len(hashes), matrix.shape[1]))
    result = result.astype(np.float32)
    result[pc.is_null(hashes).to_numpy(zero_copy_only=False)] = 0.0
    return result


def _rows(sampler: _Sampler, targets: _Indices) -> pa.Table:
    """Rows of a neighbors dataset for the items with these numbers."""
    sample = _sample(sampler, targets)
    items = sampler.projection.items
    found = sample.nodes >= 0
    similarity = np.einsum("nd,nkd->nk", sampler.texts[targets], sampler.images[sample.nodes])[found]
    flat = sample.nodes[found]
    ppr = sample.ppr[found].astype(np.float32)
    struct = pa.StructArray.from_arrays(
        [
            items["item_id"].combine_chunks().take(flat),
            items["image_hash"].combine_chunks().take(flat),
            pa.array(ppr, mask=np.isnan(ppr)),
            pa.array(similarity.astype(np.float32)),
            pa.array([via for row in sample.via for via in row], pa.string()),
        ],
        fields=list(NEIGHBOR_SCHEMA.field("neighbors").type.value_type),
    )
    offsets = np.concatenate([[0], np.cumsum(found.sum(axis=1))]).astype(np.int32)
    neighbors = pa.ListArray.from_arrays(pa.array(offsets), struct)
    return pa.table([items["item_id"].take(targets), items["split"].take(targets), neighbors], schema=NEIGHBOR_SCHEMA)


def _sample(sampler: _Sampler, targets: _Indices) -> _Sample:
    settings = sampler.settings
    if settings.mode == "random":
        return _unwalked(_random(sampler, targets), "random")
    if settings.mode == "semantic":
        return _unwalked(_semantic(sampler, targets), "semantic")
    wanted = settings.pool if settings.mode == "semantic-ppr" else settings.k
    top = top_k_ppr(
        sampler.projection,
        targets,
        k=wanted,
        damping_factor=settings.damping_factor,
        epsilon=settings.epsilon,
    )
    nodes, scores = top.nodes, top.scores
    if settings.mode == "semantic-ppr":
        similarity = np.einsum("nd,nkd->nk", sampler.texts[targets], sampler.images[nodes])
        similarity[nodes < 0] = -np.inf
        # Stable, so that the walk decides between equal similarities.
        best = np.argsort(-similarity, axis=1, kind="stable")[:, : settings.k]
        nodes, scores = np.take_along_axis(nodes, best, 1), np.take_along_axis(scores, best, 1)
    via = best_paths(sampler.projection, targets, nodes)
    alone = np.flatnonzero((nodes < 0).all(axis=1))
    if len(alone):
        nodes[alone], scores[alone] = _semantic(sampler, targets[alone]), np.nan
        for row in alone:
            via[row] = ["semantic"] * int((nodes[row] >= 0).sum())
    return _Sample(nodes, scores, via)


def _unwalked(nodes: _Indices, via: str) -> _Sample:
    return _Sample(nodes, np.full(nodes.shape, np.nan), [[via] * count for count in (nodes >= 0).sum(axis=1)])


def _semantic(sampler: _Sampler, targets: _Indices) -> _Indices:
    """[len(targets), k] the candidates most similar to each target's text, filled up with -1."""
    k, groups = sampler.settings.k, sampler.projection.groups
    candidates = np.flatnonzero(sampler.projection.is_neighbor).astype(np.int32)
    images = sampler.images[candidates]
    nodes = np.full((len(targets), k), -1, dtype=np.int32)
    for start in range(0, len(targets), _BLOCK_ROWS):
        block = targets[start : start + _BLOCK_ROWS]
        similarity = sampler.texts[block] @ images.T
        similarity[groups[block][:, None] == groups[candidates][None, :]] = -np.inf
        kept = min(k, len(candidates))
        best = np.argpartition(-similarity, kept - 1, axis=1)[:, :kept] if kept else np.empty((len(block), 0), np.int64)
        values = np.take_along_axis(similarity, best, 1)
        order = np.lexsort((best, -values), axis=1)
        best, values = np.take_along_axis(best, order, 1), np.take_along_axis(values, order, 1)
        nodes[start : start + len(block), :kept] = np.where(np.isneginf(values), -1, candidates[best])
    return nodes


def _random(sampler: _Sampler, targets: _Indices) -> _Indices:
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
