"""What the report shows, read from the datasets: only the rows of the shown items, however large the data root is."""

from __future__ import annotations

import logging
import zlib
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
from model.generation.variants import TEXT, Variant

logger = logging.getLogger(__name__)

#: Works of an entity at each end of a mixing strip.
END_WORKS = 3

_RUN_SETTINGS = ("seed", "guidance_scale", "num_inference_steps")


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

    Raises
    ------
    Graph2ImageError
        If the model has generated nothing yet.
    """

    def __init__(self, data: DataRoot, model_id: str, neighbors: str, withdrawn: Collection[str]) -> None:
        self._data, self._withdrawn = data, frozenset(withdrawn)
        self._neighbors = f"neighbors/{neighbors}"
        self._rows = self._generated(model_id)
        if not self._rows:
            raise Graph2ImageError(
                f"model {model_id} has generated no images yet",
                "`graph2image evaluate` generates and compares held-out items.",
            )

    def _generated(self, model_id: str) -> dict[str, dict[Variant, dict[str, Any]]]:
        """Rows by item and variant, of one run: that with the most images, if there are several settings."""
        dataset = self._data.dataset("generated", GENERATED_SCHEMA)
        known = pc.field("kind").is_valid()  # not of an earlier version
        rows = dataset.to_table(filter=(pc.field("model_id") == model_id) & known).to_pylist()
        for row in rows:
            row["settings"] = orjson.loads(row["settings"])
        rows = [row for row in rows if not self._withdrawn & {row["item_id"], *_sources(row)}]
        runs = Counter(_run(row) for row in rows)
        shown = max(runs, key=lambda run: (runs[run], run), default=None)
        found: dict[str, dict[Variant, dict[str, Any]]] = {}
        for row in sorted(rows, key=lambda row: str(row["generated_id"])):
            variant = Variant.of_row(row)
            if variant is not None and _run(row) == shown:
                found.setdefault(row["item_id"], {}).setdefault(variant, row)
        return dict(sorted(found.items(), key=lambda entry: (zlib.crc32(entry[0].encode()), entry[0])))

    # -- what is shown -----------------------------------------------------------------------------------------------

    def cards(self, limit: int) -> list[Card]:
        """The first `limit` test items, in the order of a hash of their ids, that have an image from text only."""
        sampled = self._sampled([item for item, variants in self._rows.items() if TEXT in variants])
        chosen = [item for item in self._rows if item in sampled][:limit]
        items = self.items([*chosen, *(row["item_id"] for item_id in chosen for row in sampled[item_id])])
        return [
            Card(
                items[item_id],
                tuple(
                    Reason(items[row["item_id"]], row["ppr"], row["similarity"], row["via"])
                    for row in sampled[item_id]
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
        for item_id, variants in self._rows.items():
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
            return image_url(self._data.read_bytes(path, digest_then))
        except Exception as error:  # decoders raise anything on damaged bytes
            logger.warning("Not shown: cannot read the image %s: %s", self._data.path(path), error)
            return None

    def _sampled(self, item_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Sampled neighbors of those of the items that are test items, best first."""
        dataset = self._data.dataset(self._neighbors, NEIGHBOR_SCHEMA)
        rows = dataset.to_table(filter=among("item_id", item_ids) & (pc.field("split") == "test")).to_pylist()
        return {row["item_id"]: row["neighbors"] for row in rows}

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
        for batch in self._data.dataset(self._neighbors, NEIGHBOR_SCHEMA).to_batches(columns=["neighbors"]):
            via = pc.struct_field(pc.list_flatten(batch["neighbors"]), "via")
            first = pc.list_element(pc.split_pattern(via, " ", max_splits=1), 0)
            for row in pc.value_counts(first).to_pylist():
                counts[words(row["values"])] += row["counts"]
        return counts.most_common()


def _run(row: dict[str, Any]) -> tuple[float, ...]:
    return tuple(row["settings"][name] for name in _RUN_SETTINGS)


def _sources(row: dict[str, Any]) -> list[str]:
    """Ids of the items that an image was made from."""
    return [neighbor["item_id"] for neighbor in row["neighbors"]]


def _entity_name(row: dict[str, Any]) -> str:
    return f"{words(row['label'])} {row['name'] or row['entity_id']}"
