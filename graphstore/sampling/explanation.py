"""One item's neighbors with titles, scores and paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from graphstore.projection.projection import Projection
from graphstore.sampling.reranking import ItemVectors
from graphstore.sampling.sampler import Sampler, open_embeddings, project_graph, sample_rows, walks_on_server
from graphstore.sampling.settings import Engine, SamplerSettings
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot, text_hash
from ingest.errors import Graph2ImageError


@dataclass(frozen=True)
class ExplainedNeighbor:
    """A neighbor with its scores: `ppr` is None where no walk was made; `via` as `ppr.best_paths`, or the mode."""

    item_id: str
    label: str
    title: str | None
    image_hash: str | None
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


def explain_neighbors(
    store: GraphStore, data: DataRoot, item_id: str, settings: SamplerSettings, *, engine: Engine = "push"
) -> NeighborExplanation:
    """Sample the neighbors of one item, with titles and reasons.

    Raises
    ------
    Graph2ImageError
        If there is no such item or it is opted out, or embeddings are missing; or as `gds.gds_projection`.
    """
    image_required = settings.image_required
    settings, projection = project_graph(store, data, settings)
    with walks_on_server(store, data, settings, engine) as graph:
        sampler = Sampler(settings, projection, None, graph)
        return explain_sample(store, data, sampler, item_id, image_required=image_required)


def explain_sample(
    store: GraphStore,
    data: DataRoot,
    sampler: Sampler,
    item_id: str,
    *,
    image_required: bool,
    images: ItemVectors | None = None,
) -> NeighborExplanation:
    """As `explain_neighbors`, on a projection that is there already.

    Parameters
    ----------
    sampler
        Of what `project_graph` returned; its vectors need not be open.
    image_required
        Whether neighbors were to have an image, before there was a projection.
    images
        Vectors of the images of all items of the projection; by default those that are needed are read.
    """
    settings, projection = sampler.settings, sampler.projection
    items = projection.items
    node = projection.node(item_id)
    if not 0 <= node < items.num_rows:
        raise Graph2ImageError(
            f"there is no item {item_id!r} in the graph, or it was opted out",
            'Find ids with `graph2image query "MATCH (n:LABEL) RETURN n.id, n.title LIMIT 10"`.',
        )
    described = _describe(store, projection, [node])
    if settings.encoder is not None:
        # Of all texts, this one is needed.
        rows = pa.array(np.zeros(items.num_rows, np.int8), mask=np.arange(items.num_rows) != node)
        texts = pa.array([text_hash(described[0]["text"] or "")]).take(rows)
        sampler = replace(sampler, embedded=open_embeddings(data, settings.encoder, projection, texts, images))
    row = sample_rows(sampler, np.array([node], dtype=np.int32)).to_pylist()[0]
    found = [projection.node(neighbor["item_id"]) for neighbor in row["neighbors"]]
    neighbors = tuple(
        ExplainedNeighbor(label=about["label"], title=about["title"], **neighbor)
        for about, neighbor in zip(_describe(store, projection, found), row["neighbors"], strict=True)
    )
    has_image = items["image_hash"][node].is_valid
    notes = _notes(settings, item_id, row, has_image=has_image)
    if image_required and not settings.image_required:
        notes.append("no item in the graph has an image, so neighbors without one are taken")
    return NeighborExplanation(item_id, **described[0], split=row["split"], neighbors=neighbors, notes=tuple(notes))


def _notes(settings: SamplerSettings, item_id: str, row: dict[str, Any], *, has_image: bool) -> list[str]:
    notes = []
    vias = {neighbor["via"] for neighbor in row["neighbors"]}
    if settings.is_walked:
        if not vias:
            notes.append(f"no walk from {item_id} reaches a neighbor")
        elif vias == {"semantic"}:
            notes.append(f"no walk from {item_id} reaches a neighbor: these are the most similar images instead")
    if settings.query == "image" and settings.encoder is not None:
        if row["split"] != "train":
            notes.append(f"{item_id} is a {row['split']} item: the query is its text, its image is not looked at")
        elif not has_image:
            notes.append(f"{item_id} has no image: the query is its text")
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
