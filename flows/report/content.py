"""What the report shows, read from the datasets: only the rows of the shown items, however large the data root is."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
import pyarrow.compute as pc

from flows.report.figures import image_url
from flows.report.wording import words
from ingest.datasets.items import among, read_entities, read_items
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import GENERATED_SCHEMA, IMAGE_SCHEMA, NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError
from ingest.images.loading import Fit
from model.evaluation.record import EvaluationRecord, RequestedImage
from model.generation.variants import Variant

logger = logging.getLogger(__name__)

#: Works of an entity at each end of a mixing strip.
END_WORKS = 3


@dataclass(frozen=True)
class Item:
    """An item, and the data URL of its image if it has one that can be read."""

    item_id: str
    label: str
    title: str
    text: str
    image: str | None


@dataclass(frozen=True)
class Reason:
    """A neighbor of an item, with its scores, as far as it has some, and the reason as the sampler wrote it."""

    item: Item
    ppr: float | None
    similarity: float | None
    via: str


@dataclass(frozen=True)
class Made:
    """A generated image: `row` is its row of the `generated` dataset, its settings decoded; `image` its data URL."""

    variant: Variant
    row: dict[str, Any]
    image: str | None


@dataclass(frozen=True)
class Card:
    """A held-out item with its neighbors and what was made of it, the variants in order."""

    item: Item
    reasons: tuple[Reason, ...]
    made: tuple[Made, ...]

    def of(self, variant: Variant) -> Made | None:
        """The image of one variant."""
        return next((made for made in self.made if made.variant == variant), None)


@dataclass(frozen=True)
class End:
    """One side of a mixing strip: the entity, as far as its works tell, and some of them."""

    entity: str
    works: tuple[Item, ...]


@dataclass(frozen=True)
class Strip:
    """One item between two entities; `made` goes from all of the first to all of the second."""

    item: Item
    first: End
    second: End
    made: tuple[Made, ...]


class Content:
    """The rows behind a report.

    Parameters
    ----------
    withdrawn
        Ids of items that are shown nowhere, nor is any image that was made for them or from them.
    fit
        How the model's images become square.

    Raises
    ------
    Graph2ImageError
        If none of the evaluation's images is there.
    """

    def __init__(
        self, data: DataRoot, evaluation: EvaluationRecord, withdrawn: Collection[str], fit: Fit = "crop"
    ) -> None:
        self._data, self._withdrawn, self._fit = data, frozenset(withdrawn), fit
        self._neighbors = evaluation.neighbors and f"neighbors/{evaluation.neighbors}"
        self._rows, self._mixtures = self._generated(evaluation.images), self._generated(evaluation.mixtures)
        if not self._rows:
            raise Graph2ImageError(
                f"the images of evaluation {evaluation.evaluation_id} of model {evaluation.model_id} are gone",
                "`graph2image evaluate` generates them again.",
            )

    def _generated(self, images: Sequence[RequestedImage]) -> dict[str, dict[Variant, dict[str, Any]]]:
        """Rows of the requested images by item and variant, without those that withdrawn items have a part in."""
        names = among("generated_id", [image.generated_id for image in images])
        made = {
            row["generated_id"]: row
            for row in self._data.dataset("generated", GENERATED_SCHEMA).to_table(filter=names).to_pylist()
        }
        found: dict[str, dict[Variant, dict[str, Any]]] = {}
        for image in images:
            row = made.get(image.generated_id)
            if row is not None and not self._withdrawn & {row["item_id"], *_sources(row)}:
                found.setdefault(image.item_id, {})[image.variant] = row | {"settings": orjson.loads(row["settings"])}
        return found

    # -- what is shown -----------------------------------------------------------------------------------------------

    def cards(self, limit: int) -> list[Card]:
        """The first `limit` items of the evaluation, which come in an order that says nothing of them."""
        chosen = list(self._rows)[:limit]
        reasons = {item_id: self._reasons(item_id, self._rows[item_id]) for item_id in chosen}
        items = self.items([*chosen, *(row["item_id"] for rows in reasons.values() for row in rows)])
        return [
            Card(
                items[item_id],
                tuple(
                    Reason(items[row["item_id"]], row["ppr"], row["similarity"], row["via"])
                    for row in reasons[item_id]
                    if row["item_id"] in items
                ),
                self._made(self._rows[item_id], lambda variant: variant.kind != "mix"),
            )
            for item_id in chosen
            if item_id in items
        ]

    def strips(self) -> list[Strip]:
        """The items that were mixed from two entities."""
        found = []
        for item_id, variants in self._mixtures.items():
            rows = {variant.shares: row for variant, row in variants.items() if variant.kind == "mix"}
            if (1.0, 0.0) not in rows or (0.0, 1.0) not in rows:
                continue
            first, second = _sources(rows[1.0, 0.0]), _sources(rows[0.0, 1.0])
            items = self.items([item_id, *first, *second])
            if item_id not in items or not first or not second:
                continue
            names = self._telling_entities(first, second)
            first_end, second_end = (
                End(name, tuple(items[work] for work in works if work in items)[:END_WORKS])
                for name, works in zip(names, (first, second), strict=True)
            )
            made = self._made(variants, lambda variant: len(variant.shares) == 2)
            found.append(Strip(items[item_id], first_end, second_end, made))
        return found

    def _made(self, rows: Mapping[Variant, dict[str, Any]], wanted: Callable[[Variant], bool]) -> tuple[Made, ...]:
        ordered = sorted((variant for variant in rows if wanted(variant)), key=lambda variant: variant.sort_key)
        return tuple(Made(variant, rows[variant], self._generated_image(rows[variant])) for variant in ordered)

    def _generated_image(self, row: Mapping[str, Any]) -> str | None:
        return self._image(row["image_path"], row["image_sha256"])

    def _image(self, path: str, digest_then: str | None) -> str | None:
        """An image file as a data URL; None, and a warning, if it is missing or damaged."""
        try:
            return image_url(self._data.read_bytes(path, digest_then), self._fit)
        except Exception as error:  # decoders raise anything on damaged bytes
            logger.warning("Not shown: cannot read the image %s: %s", self._data.path(path), error)
            return None

    def _reasons(self, item_id: str, rows: Mapping[Variant, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The neighbors that the item's images were made with, best first, and why; nothing is known of live ones."""
        row = next((row for variant, row in rows.items() if variant.kind == "graph"), None)
        if row is None:
            return []
        ids = [source for _, source in sorted((n["rank"], n["item_id"]) for n in row["neighbors"])]
        known: dict[str, dict[str, Any]] = {}
        if self._neighbors is not None:
            dataset = self._data.dataset(self._neighbors, NEIGHBOR_SCHEMA)
            sampled = dataset.to_table(filter=among("item_id", [item_id])).to_pylist()
            known = {neighbor["item_id"]: neighbor for one in sampled for neighbor in one["neighbors"]}
        return [known.get(id_, {"item_id": id_, "ppr": None, "similarity": None, "via": ""}) for id_ in ids]

    def items(self, item_ids: Iterable[str]) -> dict[str, Item]:
        """Items by id, without the withdrawn ones."""
        columns = ["item_id", "label", "title", "text", "image_hash"]
        shown = among("item_id", set(item_ids) - self._withdrawn) & ~pc.field("opted_out")
        rows = read_items(self._data, columns, where=shown).to_pylist()
        hashes = [row["image_hash"] for row in rows if row["image_hash"]]
        images = self._data.dataset("images", IMAGE_SCHEMA).to_table(
            columns=["image_hash", "path"], filter=among("image_hash", hashes)
        )
        paths = dict(zip(images["image_hash"].to_pylist(), images["path"].to_pylist(), strict=True))
        return {
            row["item_id"]: Item(
                row["item_id"],
                row["label"],
                row["title"] or row["item_id"],
                row["text"] or "",
                self._image(paths[row["image_hash"]], row["image_hash"]) if row["image_hash"] in paths else None,
            )
            for row in rows
        }

    # -- entities ----------------------------------------------------------------------------------------------------

    def between(self, reasons: Iterable[Reason]) -> dict[str, str]:
        """What the nodes that `via` names are, by id: `shared artist: Haruka Mizuno`, or `both linked to …`."""
        ids = [node for reason in reasons if (node := reason.via.partition(" ")[2])]
        found = {item.item_id: f"both linked to “{item.title}”" for item in self.items(ids).values()}
        return found | {row["entity_id"]: f"shared {_entity_name(row)}" for row in self._entities(ids)}

    def _entities(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = read_entities(self._data, where=among("entity_id", ids)).to_pylist()
        return rows

    def _telling_entities(self, first: Sequence[str], second: Sequence[str]) -> tuple[str, str]:
        """Names of the two entities that tell the works of one side from those of the other.

        Of the labels that have an entity common to all works of one side, and another one to all of the other side,
        that whose entities are the rarest.
        """
        links = self._links([*first, *second])
        sides = []
        for own, other in ((first, second), (second, first)):
            common = set.intersection(*(links.get(work, set()) for work in own))
            sides.append(self._entities(common - set().union(*(links.get(work, set()) for work in other))))
        pairs = [(a, b) for a in sides[0] for b in sides[1] if a["label"] == b["label"]]
        if not pairs:
            return "one set of works", "another set of works"
        best = min(pairs, key=lambda pair: (sum(self.degrees[row["entity_id"]] for row in pair), str(pair)))
        return _entity_name(best[0]), _entity_name(best[1])

    def _links(self, item_ids: Sequence[str]) -> dict[str, set[str]]:
        """What the items are related to, by item."""
        links: dict[str, set[str]] = {}
        for name in self._data.names("relations"):
            table = self._data.dataset(name).to_table(columns=["from_id", "to_id"], filter=among("from_id", item_ids))
            for item, other in zip(table["from_id"].to_pylist(), table["to_id"].to_pylist(), strict=True):
                links.setdefault(item, set()).add(other)
        return links

    # -- the graph in figures ----------------------------------------------------------------------------------------

    @cached_property
    def degrees(self) -> Counter[str]:
        """Number of relations of every node that has any."""
        degrees: Counter[str] = Counter()
        for name in self._data.names("relations"):
            table = self._data.read(name, ["from_id", "to_id"])
            for column in ("from_id", "to_id"):
                for row in pc.value_counts(table[column]).to_pylist():
                    degrees[row["values"]] += row["counts"]
        return degrees

    def degrees_of(self, kind: str) -> list[int]:
        """Number of relations of each of the `items`, or of the `entities`."""
        key = {"items": "item_id", "entities": "entity_id"}[kind]
        return [
            self.degrees[node]
            for name in self._data.names(kind)
            for node in self._data.read(name, [key])[key].to_pylist()
            if node not in self._withdrawn
        ]

    def reasons_by_type(self) -> list[tuple[str, int]]:
        """How many of all sampled neighbors were reached through each relation type, most first."""
        counts: Counter[str] = Counter()
        if self._neighbors is None:
            return []
        for batch in self._data.dataset(self._neighbors, NEIGHBOR_SCHEMA).to_batches(columns=["neighbors"]):
            via = pc.struct_field(pc.list_flatten(batch["neighbors"]), "via")
            first = pc.list_element(pc.split_pattern(via, " ", max_splits=1), 0)
            for row in pc.value_counts(first).to_pylist():
                counts[words(row["values"])] += row["counts"]
        return counts.most_common()


def _sources(row: dict[str, Any]) -> list[str]:
    """Ids of the items that an image was made from."""
    return [neighbor["item_id"] for neighbor in row["neighbors"]]


def _entity_name(row: dict[str, Any]) -> str:
    return f"{words(row['label'])} {row['name'] or row['entity_id']}"
