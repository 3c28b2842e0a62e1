"""One work, mixed from two entities ("70% of one artist, 30% of another"): which entities, and which of their works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flows.requests import CONTROL_SCALE, MIX_SHARES
from flows.samples import Sample, item_samples
from flows.settings import Settings
from flows.stages import withdrawn_items
from ingest.datasets.root import DataRoot, text_hash
from ingest.errors import Graph2ImageError
from model.generation.requests import GenerationRequest, Neighbor

#: `contrasting` looks at this many of a label's entities, the largest: two artists with two works each show little.
LARGEST_ENTITIES = 24
#: Works of an entity that condition an image.
WORKS = 5

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Mixture:
    """Two entities and, for one item, the works of each that condition it."""

    sample: Sample
    entities: tuple[str, str]
    neighbor_sets: tuple[tuple[Neighbor, ...], tuple[Neighbor, ...]]

    def requests(self, shares: Sequence[float] = MIX_SHARES) -> list[GenerationRequest]:
        """One image per share of the first entity; the graph guidance scale is split between the two."""
        return [
            GenerationRequest(
                self.sample.item_id,
                self.sample.text,
                self.neighbor_sets,
                (CONTROL_SCALE * share, CONTROL_SCALE * (1 - share)),
                f"mix-{round(100 * share)}-{round(100 * (1 - share))}",
            )
            for share in shares
        ]


def mixed(
    settings: Settings, model_id: str, item_ids: Sequence[str], shares: Mapping[str, float], scale: float
) -> list[GenerationRequest]:
    """Requests for items that are conditioned on works of entities; the graph scale is split by `shares` of them.

    Raises
    ------
    Graph2ImageError
        If an item or an entity is unknown, or withdrawn, or a share is negative or all are 0.
    """
    total = sum(shares.values())
    if min(shares.values()) < 0 or total == 0:
        raise Graph2ImageError("shares must not be negative, and not all 0")
    works = EntityWorks(settings, DataRoot(settings.data).read_json(f"models/{model_id}/model.json")["encoder"])
    return [
        GenerationRequest(
            sample.item_id,
            sample.text,
            tuple(works.best(entity, sample) for entity in shares),
            tuple(scale * share / total for share in shares.values()),
            "mix",
        )
        for sample in item_samples(settings, model_id, item_ids)
    ]


class EntityWorks:
    """Training images by entity, ranked for a text: what an item is mixed from.

    Parameters
    ----------
    encoder
        Encoder of the vectors; a text's similarity to an image is their cosine, as in neighbor sampling.
    """

    def __init__(self, settings: Settings, encoder: str) -> None:
        data = DataRoot(settings.data)
        self._data, self._encoder = data, encoder
        withdrawn = withdrawn_items(settings)
        items = pa.concat_tables(
            data.read(name, ["item_id", "image_hash", "split", "group_id"]) for name in data.names("items")
        )
        items = items.filter((pc.field("split") == "train") & pc.field("image_hash").is_valid())
        self._items = {row["item_id"]: row for row in items.to_pylist() if row["item_id"] not in withdrawn}
        vectors = data.read(f"embeddings/{encoder}")
        self._rows = {image: row for row, image in enumerate(vectors["image_hash"].to_pylist())}
        self._vectors = _matrix(vectors["embedding"])
        self._members: dict[str, list[str]] = {}
        for name in data.names("relations"):
            relations = data.read(name, ["from_id", "to_id"])
            for item, entity in zip(relations["from_id"].to_pylist(), relations["to_id"].to_pylist(), strict=True):
                if item in self._items and self._items[item]["image_hash"] in self._rows:
                    self._members.setdefault(entity, []).append(item)

    def best(self, entity: str, sample: Sample) -> tuple[Neighbor, ...]:
        """The works of `entity` that fit the text of `sample` best, never the item itself.

        Raises
        ------
        Graph2ImageError
            If no training image has the entity.
        """
        works = [item for item in self._members.get(entity, ()) if item != sample.item_id]
        if not works:
            raise Graph2ImageError(
                f"no training image belongs to {entity!r}",
                "Entity ids look like `art500k/Artist/<name>`; `graph2image query` lists them.",
            )
        text = self._data.dataset(f"text-embeddings/{self._encoder}").to_table(
            filter=pc.field("text_hash") == text_hash(sample.text)
        )
        similarity = self._pictures(works) @ _matrix(text["embedding"])[0]
        order = np.argsort(-similarity, kind="stable")[:WORKS]
        return tuple(Neighbor(works[i], self._items[works[i]]["image_hash"], 1.0) for i in order)

    def mix(self, sample: Sample, first: str, second: str) -> Mixture:
        """`sample` between two entities."""
        return Mixture(sample, (first, second), (self.best(first, sample), self.best(second, sample)))

    def contrasting(self, sample: Sample, label: str) -> Mixture | None:
        """`sample` between the two of the label's largest entities whose works for it look the least alike.

        None if fewer than two entities of `label` have `WORKS` training images.
        """
        large = sorted(
            (entity for entity, works in self._members.items() if entity.split("/")[1] == label and len(works) > WORKS),
            key=lambda entity: (-len(self._members[entity]), entity),
        )[:LARGEST_ENTITIES]
        sets = {entity: self.best(entity, sample) for entity in large}
        means = {entity: self._pictures([n.item_id for n in works]).mean(axis=0) for entity, works in sets.items()}
        pairs = list(combinations(large, 2))
        if not pairs:
            return None
        first, second = min(pairs, key=lambda pair: float(means[pair[0]] @ means[pair[1]]))
        return Mixture(sample, (first, second), (sets[first], sets[second]))

    def _pictures(self, items: Sequence[str]) -> Vectors:
        """Image embeddings of `items`, `(items, dim)`."""
        return self._vectors[[self._rows[self._items[item]["image_hash"]] for item in items]]


def _matrix(column: pa.ChunkedArray) -> Vectors:
    """A fixed-size-list column as an array `(rows, dim)`."""
    flat = pc.list_flatten(column)
    values: Vectors = np.asarray(flat, dtype=np.float32).reshape(len(column), -1)
    return values
