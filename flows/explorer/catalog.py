"""What there is to look at, in memory: all items by id, and the names of all entities.

A graph version is read once; from then on pages, counts and searches read columns and ask no store. An item takes some
200 bytes, and its words about as many.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from flows.explorer.graph import Graph
from graphstore.search.titles import TitleIndex
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.datasets.vectors import Vectors, image_vectors
from ingest.errors import Graph2ImageError

#: By what items are told apart.
FACETS = ("label", "source", "split", "image")
_SCHEMA = {
    "id": pl.String,
    "label": pl.Categorical,
    "source": pl.Categorical,
    "split": pl.Categorical,
    "image": pl.Categorical,
    "title": pl.String,
    "image_hash": pl.String,
}
#: Choices of facets whose items are remembered.
_CHOICES = 64

_Rows = npt.NDArray[np.int64]


class NotFoundError(Graph2ImageError):
    """What a request names does not exist, or was withdrawn."""


@dataclass(frozen=True)
class Choice:
    """Values of facets; None is any."""

    label: str | None = None
    source: str | None = None
    split: str | None = None
    image: str | None = None

    def without(self, facet: str) -> Choice:
        return Choice(**{**self.__dict__, facet: None})


class Catalog:
    """The items and entities of one graph version, without what is opted out."""

    def __init__(self, store: GraphStore, version: str) -> None:
        self.version = version
        self._items = pl.concat([pl.DataFrame(schema=_SCHEMA), *_items(store)]).sort("id")
        self._titles = TitleIndex(store)
        entities = [pl.DataFrame(schema={"id": pl.String, "label": pl.String, "name": pl.String}), *_entities(store)]
        self._entities = pl.concat(entities).sort("id")
        self._chosen: OrderedDict[Choice, _Rows] = OrderedDict()
        self._counts: dict[Choice, dict[str, dict[str, int]]] = {}
        self._vectors: dict[str, Vectors] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._items.height

    # -- items ---------------------------------------------------------------------------------------------------------

    def item(self, item_id: str) -> dict[str, Any]:
        """An item's row.

        Raises
        ------
        NotFoundError
            If there is none, or it was withdrawn.
        """
        row = self.find(item_id)
        if row is None:
            raise NotFoundError(f"there is no item {item_id[:200]!r}, or it was withdrawn", "Search for its title.")
        return row

    def find(self, item_id: str) -> dict[str, Any] | None:
        """An item's row, if there is one."""
        return _row_of(self._items, item_id)

    def find_entity(self, entity_id: str) -> dict[str, Any] | None:
        """An entity's row, if there is one."""
        return _row_of(self._entities, entity_id)

    def page(self, choice: Choice, after: str | None, limit: int) -> tuple[list[dict[str, Any]], int]:
        """The items of a choice that come after the item `after`, in the order of ids; and how many there are."""
        rows = self._rows(choice)
        start = 0
        if after is not None:
            place = int(self._items["id"].search_sorted(after, "right"))
            start = int(np.searchsorted(rows, place))
        return self._items[rows[start : start + limit]].to_dicts(), len(rows)

    def counts(self, choice: Choice) -> dict[str, dict[str, int]]:
        """Of each facet, how many items each value has among those of the other facets' choice."""
        if choice not in self._counts:
            counted = {}
            for facet in FACETS:
                others = self._items[self._rows(choice.without(facet))]
                values = others.group_by(facet).len().sort(["len", facet], descending=[True, False])
                counted[facet] = {str(value): int(count) for value, count in values.iter_rows()}
            if len(self._counts) > _CHOICES:
                self._counts.clear()
            self._counts[choice] = counted
        return self._counts[choice]

    def with_words(self, text: str, choice: Choice, limit: int) -> tuple[list[dict[str, Any]], int]:
        """The items of a choice whose titles fit best, with their `score`; and how many fit."""
        found = self._titles.find(text)
        if choice != Choice():
            found = found.join(self._items[self._rows(choice)].select("id"), on="id", how="semi", maintain_order="left")
        best = found.head(limit).select("id", "score")
        rows = best.join(self._items, on="id", how="left", maintain_order="left").filter(pl.col("label").is_not_null())
        return rows.to_dicts(), found.height

    def like(
        self, data: DataRoot, encoder: str, query: npt.NDArray[np.float32], choice: Choice, limit: int, but: str | None
    ) -> list[dict[str, Any]]:
        """The items of a choice whose images are most like a vector, with their `score`, the cosine."""
        vectors = self._image_vectors(data, encoder)
        rows = self._rows(choice)
        codes = self._image_codes[rows]
        usable = (codes >= 0) & vectors.found[codes]
        rows, codes = rows[usable], codes[usable]
        cosines = (vectors.matrix @ query)[codes]
        best = np.argsort(-cosines, kind="stable")[: limit + 1]
        found = self._items[rows[best]].with_columns(score=pl.Series(cosines[best], dtype=pl.Float64))
        return found.filter(pl.col("id") != (but or "")).head(limit).to_dicts()

    def vector(self, data: DataRoot, encoder: str, image_hash: str) -> npt.NDArray[np.float32]:
        """The vector of an image.

        Raises
        ------
        Graph2ImageError
            If it has none.
        """
        vectors = self._image_vectors(data, encoder)
        place = int(self._hashes.search_sorted(image_hash))
        if place >= len(self._hashes) or self._hashes[place] != image_hash or not vectors.found[place]:
            raise Graph2ImageError(
                f"the image has no embedding of {encoder}", "Run `graph2image embed`, then try again."
            )
        found: npt.NDArray[np.float32] = vectors.matrix[place]
        return found

    def has_image(self, image_hash: str) -> bool:
        """Whether an item that was not withdrawn has this image."""
        place = int(self._hashes.search_sorted(image_hash))
        return place < len(self._hashes) and self._hashes[place] == image_hash

    # -- entities ------------------------------------------------------------------------------------------------------

    def entities(self, text: str, label: str | None, limit: int) -> list[dict[str, Any]]:
        """Entities whose names have `text` in them; those that begin with it first."""
        name = pl.col("name").str.to_lowercase()
        wanted = text.strip().lower()
        found = self._entities.filter(name.str.contains(wanted, literal=True))
        if label is not None:
            found = found.filter(pl.col("label") == label)
        order = [~name.str.starts_with(wanted), name.str.len_chars(), pl.col("id")]
        return found.sort(order).head(limit).to_dicts()

    # -- parts ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _hashes(self) -> pl.Series:
        """Distinct hashes of images, sorted."""
        return self._items["image_hash"].drop_nulls().unique().sort()

    @cached_property
    def _image_codes(self) -> _Rows:
        """Of each item, where its image is among the distinct ones; -1 without."""
        codes = self._hashes.search_sorted(self._items["image_hash"].fill_null("")).to_numpy().astype(np.int64)
        codes[self._items["image_hash"].is_null().to_numpy()] = -1
        return codes

    def _image_vectors(self, data: DataRoot, encoder: str) -> Vectors:
        with self._lock:
            if encoder not in self._vectors:
                hashes = self._hashes.to_arrow().cast(pa.string())
                self._vectors = {encoder: image_vectors(data, encoder, hashes)}
            return self._vectors[encoder]

    def _rows(self, choice: Choice) -> _Rows:
        """Rows of the items of a choice, ascending."""
        with self._lock:
            if choice in self._chosen:
                self._chosen.move_to_end(choice)
                return self._chosen[choice]
        wanted = pl.lit(value=True)
        for facet in FACETS:
            value = getattr(choice, facet)
            if value is not None:
                wanted &= pl.col(facet).cast(pl.String) == value
        mask = self._items.select(wanted.alias("wanted").and_(pl.col("id").is_not_null()))["wanted"]
        rows = np.flatnonzero(mask.to_numpy())
        with self._lock:
            self._chosen[choice] = rows
            if len(self._chosen) > _CHOICES:
                self._chosen.popitem(last=False)
        return rows


class Catalogs:
    """The catalog of the graph as it is now."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None

    def now(self) -> Catalog:
        """The catalog, read anew if the graph has changed.

        Raises
        ------
        Graph2ImageError
            If the graph cannot be read.
        """
        version = self._graph.version()
        catalog = self._catalog
        if catalog is not None and catalog.version == version:
            return catalog
        with self._lock:
            if self._catalog is None or self._catalog.version != version:
                with self._graph.reading() as store:
                    self._catalog = Catalog(store, version)
            return self._catalog


def _row_of(rows: pl.DataFrame, id_: str) -> dict[str, Any] | None:
    """The row with this id, of rows that are sorted by it."""
    place = int(rows["id"].search_sorted(id_))
    if place < rows.height and rows["id"][place] == id_:
        return rows.row(place, named=True)
    return None


def _items(store: GraphStore) -> Sequence[pl.DataFrame]:
    parts = []
    for label in store.labels_of_kind("item"):
        nodes = pl.DataFrame(pl.from_arrow(store.nodes(label, ["id", "split", "title", "image_hash", "opted_out"])))
        parts.append(
            nodes.filter(~pl.col("opted_out").fill_null(value=False))
            .with_columns(
                label=pl.lit(label),
                source=pl.col("id").str.split(":").list.first(),
                image=pl.when(pl.col("image_hash").is_null()).then(pl.lit("without")).otherwise(pl.lit("with")),
            )
            .select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items())
        )
    return parts


def _entities(store: GraphStore) -> Sequence[pl.DataFrame]:
    parts = []
    for label in store.labels_of_kind("entity"):
        nodes = pl.DataFrame(pl.from_arrow(store.nodes(label, ["id", "name", "opted_out"])))
        parts.append(
            nodes.filter(~pl.col("opted_out").fill_null(value=False)).select(
                pl.col("id").cast(pl.String), label=pl.lit(label), name=pl.coalesce("name", "id").cast(pl.String)
            )
        )
    return parts
