"""The neighbors of an item under any settings, at once: projections are kept, and vectors stay in memory.

Also what connects them: the edges of the projection between the item, its neighbors, and what they share.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

from flows.explorer.catalog import Catalog
from flows.explorer.graph import Graph
from flows.report.wording import via_words, words
from graphstore.projection.projection import Projection
from graphstore.sampling.explanation import NeighborExplanation, explain_sample
from graphstore.sampling.reranking import ItemVectors
from graphstore.sampling.sampler import Sampler, open_image_vectors, project_graph
from graphstore.sampling.settings import SamplerSettings
from ingest.datasets.root import DataRoot

#: Projections that are kept: of a graph with millions of edges, each takes a hundred megabytes.
_KEPT = 6
#: Nodes between the item and its neighbors that are drawn.
_BETWEEN = 14
#: Edges of a node that are looked at: a hub's are too many to draw.
_EDGES = 2_000


@dataclass(frozen=True)
class Neighborhood:
    """An item's neighbors with reasons, and the graph between them, ready to draw.

    Attributes
    ----------
    reasons
        Why each neighbor was chosen, in words.
    nodes
        `id`, `kind` (`item`, `neighbor`, `entity`), `label`, `title`, `image_hash` of each.
    edges
        `from_id`, `to_id` and `type` of each.
    types
        All relation types of the graph.
    """

    explanation: NeighborExplanation
    reasons: tuple[str, ...]
    nodes: tuple[dict[str, Any], ...]
    edges: tuple[dict[str, str], ...]
    types: tuple[str, ...]


@dataclass(frozen=True)
class _Ready:
    settings: SamplerSettings
    projection: Projection
    images: ItemVectors | None


class Neighborhoods:
    """Samples neighbors on projections that it keeps."""

    def __init__(self, graph: Graph, data: DataRoot) -> None:
        self._graph, self._data = graph, data
        self._lock = threading.Lock()
        self._ready: OrderedDict[tuple[str, str], _Ready] = OrderedDict()
        self._images: tuple[tuple[Any, ...], ItemVectors] | None = None

    def around(self, catalog: Catalog, item_id: str, settings: SamplerSettings) -> Neighborhood:
        """The neighborhood of an item.

        Raises
        ------
        Graph2ImageError
            As `graphstore.sampling.explanation.explain_neighbors`.
        """
        ready = self._prepared(catalog.version, settings)
        # Only what chooses the projection is shared; mode, k, pool and query are the request's.
        sampler_settings = settings.model_copy(update={"image_required": ready.settings.image_required})
        with self._graph.reading() as store:
            explanation = explain_sample(
                store,
                self._data,
                Sampler(sampler_settings, ready.projection, None),
                item_id,
                image_required=settings.image_required,
                images=ready.images,
            )
        nodes, edges = _between(ready.projection, explanation, catalog)
        names = {node["id"]: _shared(node) for node in nodes}
        reasons = tuple(via_words(neighbor.via, names) for neighbor in explanation.neighbors)
        return Neighborhood(explanation, reasons, tuple(nodes), tuple(edges), ready.projection.type_names)

    def _prepared(self, version: str, settings: SamplerSettings) -> _Ready:
        sampled = {"mode", "query", "k", "pool", "epsilon", "seed", "damping_factor"}
        key = version, settings.model_dump_json(exclude=sampled) + str(settings.compares_images)
        with self._lock:
            if key in self._ready:
                self._ready.move_to_end(key)
                return self._ready[key]
        with self._graph.reading() as store:
            projected, projection = project_graph(store, self._data, settings)
        with self._lock:
            ready = _Ready(projected, projection, self._vectors(version, settings, projection))
            if self._ready and next(iter(self._ready))[0] != version:
                self._ready.clear()
            self._ready[key] = ready
            if len(self._ready) > _KEPT:
                self._ready.popitem(last=False)
        return ready

    def _vectors(self, version: str, settings: SamplerSettings, projection: Projection) -> ItemVectors | None:
        """The images' vectors in memory, the same for all projections of a graph."""
        if settings.encoder is None:
            return None
        key = version, settings.encoder, settings.neighbor_splits
        if self._images is None or self._images[0] != key:
            images = open_image_vectors(self._data, settings.encoder, projection)
            images.load()
            self._images = key, images
        return self._images[1]


def _between(
    projection: Projection, explanation: NeighborExplanation, catalog: Catalog
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """What to draw: the item, its neighbors, and what links several of them."""
    shown = [explanation.item_id, *(neighbor.item_id for neighbor in explanation.neighbors)]
    links: list[tuple[str, str, str]] = []
    for item_id in shown:
        node = projection.node(item_id)
        start = int(projection.offsets[node])
        part = slice(start, min(int(projection.offsets[node + 1]), start + _EDGES))
        for target, type_ in zip(projection.targets[part].tolist(), projection.types[part].tolist(), strict=True):
            links.append((item_id, str(projection.ids[target]), projection.type_names[type_]))
    inside = set(shown)
    shared = Counter(other for other, _ in {(other, item) for item, other, _ in links} if other not in inside)
    named = {neighbor.via.partition(" ")[2] for neighbor in explanation.neighbors}
    degrees = {id_: _degree(projection, id_) for id_, count in shared.items() if count > 1}
    # What a path goes through first; then what many share, and few others.
    order = sorted(degrees, key=lambda id_: (id_ not in named, -shared[id_] / degrees[id_] ** 0.5, id_))
    drawn = inside | set(order[:_BETWEEN])
    nodes = []
    for id_ in [*shown, *order[:_BETWEEN]]:
        row = catalog.find(id_)
        if row is not None:
            kind = "item" if id_ == shown[0] else "neighbor" if id_ in inside else "entity"
            nodes.append({key: row[key] for key in ("id", "label", "title", "image_hash")} | {"kind": kind})
            continue
        entity = catalog.find_entity(id_) or {"label": "", "name": id_}
        nodes.append(
            {"id": id_, "kind": "entity", "label": entity["label"], "title": entity["name"], "image_hash": None}
        )
    edges: dict[tuple[frozenset[str], str], dict[str, str]] = {}
    for item_id, other, type_ in links:
        if other in drawn and other != item_id:
            edges.setdefault((frozenset((item_id, other)), type_), {"from_id": item_id, "to_id": other, "type": type_})
    return nodes, list(edges.values())


def _degree(projection: Projection, id_: str) -> int:
    node = projection.node(id_)
    return max(1, int(projection.offsets[node + 1] - projection.offsets[node]))


def _shared(node: dict[str, Any]) -> str:
    """What a node between two items is called in a reason."""
    if node["kind"] == "entity" and node["image_hash"] is None:
        return f"shared {words(node['label'])}: {node['title']}"
    return f"both linked to “{node['title'] or node['id']}”"
