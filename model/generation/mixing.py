"""One work, mixed from two entities ("70% of one artist, 30% of another"): which entities, and which of their works.

Reads the datasets only: training items, their relations to entities, and embeddings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingest.datasets.items import item_entities, read_entities, read_items
from ingest.datasets.root import DataRoot, text_hash
from ingest.datasets.vectors import Matrix, image_vectors, text_vectors
from ingest.errors import Graph2ImageError
from model.generation.requests import GenerationRequest, Sample
from model.generation.variants import Variant
from model.neighbors import Neighbor

#: `contrasting` looks at this many of a label's entities, the largest: two artists with two works each show little.
LARGEST_ENTITIES = 24
#: Works of an entity that condition an image.
WORKS = 5

_Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mixture:
    """Two entities and, for one item, the works of each that condition it."""

    sample: Sample
    entities: tuple[str, str]
    neighbor_sets: tuple[tuple[Neighbor, ...], tuple[Neighbor, ...]]

    def requests(self, graph_guidance_scale: float, shares: Sequence[float]) -> list[GenerationRequest]:
        """One image per share of the first entity; the graph guidance scale is split between the two."""
        return [
            GenerationRequest(
                self.sample.item_id,
                self.sample.text,
                Variant.mix(graph_guidance_scale, (share, 1 - share)),
                self.neighbor_sets,
            )
            for share in shares
        ]


class EntityWorks:
    """Training images by entity, ranked for a text: what an item is mixed from.

    Parameters
    ----------
    encoder
        Encoder of the vectors; a text's similarity to an image is their cosine, as in neighbor sampling.
    withdrawn
        Ids of items that take no part.

    Raises
    ------
    Graph2ImageError
        If the encoder has embedded nothing.
    """

    def __init__(self, data: DataRoot, encoder: str, withdrawn: Collection[str] = ()) -> None:
        self._data, self._encoder = data, encoder
        self._texts: dict[str, Matrix] = {}
        usable = (pc.field("split") == "train") & pc.field("image_hash").is_valid() & ~pc.field("opted_out")
        items = read_items(data, ["item_id", "image_hash"], where=usable)
        items = items.filter(pc.invert(pc.is_in(items["item_id"], value_set=pa.array(sorted(withdrawn), pa.string()))))
        vectors = image_vectors(data, encoder, pc.unique(items["image_hash"]))
        rows = vectors.rows(items["image_hash"].combine_chunks())
        items = items.filter(pa.array(vectors.found[rows])).combine_chunks()
        self._vectors, self._rows = vectors.matrix, rows[vectors.found[rows]]
        self._ids: list[str] = items["item_id"].to_pylist()
        self._place = {item_id: index for index, item_id in enumerate(self._ids)}
        self._hashes: list[str] = items["image_hash"].to_pylist()
        entities = read_entities(data)
        self._labels: list[str] = entities["label"].to_pylist()
        self._entity_ids: list[str] = entities["entity_id"].to_pylist()
        self._entities = {entity: index for index, entity in enumerate(self._entity_ids)}
        works, owners = item_entities(data, _array(items["item_id"]), _array(entities["entity_id"]))
        pairs = np.unique(np.stack([np.asarray(owners, np.int64), np.asarray(works, np.int64)], axis=1), axis=0)
        self._works, self._counts = pairs[:, 1], np.bincount(pairs[:, 0], minlength=len(self._labels))
        self._starts = np.cumsum(self._counts) - self._counts

    def best(self, entity: str, sample: Sample) -> tuple[Neighbor, ...]:
        """The works of `entity` that fit the text of `sample` best, never the item itself.

        Raises
        ------
        Graph2ImageError
            If there is no such entity, no training image has it, or the text has no embedding.
        """
        if entity not in self._entities:
            raise Graph2ImageError(
                f"there is no entity {entity!r}",
                "Entity ids look like `art500k/Artist/<name>`; `graph2image query` lists them.",
            )
        works = self._members(self._entities[entity])
        works = works[works != self._place.get(sample.item_id, -1)]
        if not len(works):
            raise Graph2ImageError(
                f"no training image belongs to {entity!r}", "Name an entity with works in the training split."
            )
        similarity = self._vectors[self._rows[works]] @ self._text_vector(sample)
        order = np.argsort(-similarity, kind="stable")[:WORKS]
        return tuple(Neighbor(self._ids[work], self._hashes[work]) for work in works[order])

    def mix(self, sample: Sample, first: str, second: str) -> Mixture:
        """`sample` between two entities; raises as `best`."""
        return Mixture(sample, (first, second), (self.best(first, sample), self.best(second, sample)))

    @property
    def labels(self) -> list[str]:
        """Entity labels, sorted."""
        return sorted(set(self._labels))

    def contrasting_label(self) -> str | None:
        """The label with the most entities that `contrasting` can choose from; None if there is none."""
        large = np.flatnonzero(self._counts > WORKS)
        names, counts = np.unique(np.asarray(self._labels, object)[large], return_counts=True)
        several = [(-int(count), name) for name, count in zip(names.tolist(), counts, strict=True) if count > 1]
        return min(several)[1] if several else None

    def contrasting(self, sample: Sample, label: str) -> Mixture | None:
        """`sample` between the two of the label's largest entities whose works for it look the least alike.

        None if fewer than two entities of `label` have more than `WORKS` training images.
        """
        large = [i for i in np.flatnonzero(self._counts > WORKS).tolist() if self._labels[i] == label]
        large = sorted(large, key=lambda i: (-int(self._counts[i]), self._entity_ids[i]))[:LARGEST_ENTITIES]
        ids = [self._entity_ids[i] for i in large]
        if len(ids) < 2:
            return None
        sets = {entity: self.best(entity, sample) for entity in ids}
        means = {
            entity: self._vectors[self._rows[[self._place[n.item_id] for n in works]]].mean(axis=0)
            for entity, works in sets.items()
        }
        first, second = min(combinations(ids, 2), key=lambda pair: float(means[pair[0]] @ means[pair[1]]))
        return Mixture(sample, (first, second), (sets[first], sets[second]))

    def _members(self, entity: int) -> _Indices:
        """Items of an entity."""
        members: _Indices = self._works[self._starts[entity] : self._starts[entity] + self._counts[entity]]
        return members

    def _text_vector(self, sample: Sample) -> Matrix:
        key = text_hash(sample.text)
        if key not in self._texts:
            vectors = text_vectors(self._data, self._encoder, pa.array([key]))
            if not vectors.found.all():
                raise Graph2ImageError(
                    f"the text of {sample.item_id} has no embedding of {self._encoder}",
                    "Run `graph2image embed` first.",
                )
            self._texts[key] = vectors.matrix[0]
        return self._texts[key]


def mixed(
    works: EntityWorks, samples: Sequence[Sample], shares: Mapping[str, float], graph_guidance_scale: float
) -> list[GenerationRequest]:
    """Requests for items that are conditioned on works of entities; the graph scale is split by `shares` of them.

    Raises
    ------
    Graph2ImageError
        If an entity is unknown or has no works, or a share is negative or all are 0.
    """
    try:
        variant = Variant.mix(graph_guidance_scale, list(shares.values()))
    except ValueError as error:
        raise Graph2ImageError("shares must not be negative, and not all 0") from error
    return [
        GenerationRequest(sample.item_id, sample.text, variant, tuple(works.best(entity, sample) for entity in shares))
        for sample in samples
    ]


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
