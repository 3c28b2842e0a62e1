"""The contract of a graph store: what the rest of graph2image asks of a graph database.

Reading and writing go through Cypher and Arrow tables, so a load or a projection never loops over rows in Python.
The Cypher written here and in the modules that use a store keeps to what both Ladybug and Neo4j accept. Whole labels
and relation types are read by `nodes` and `relations`: their columns have their types whatever is in them.

What a kind of store can do beyond that is a capability, asked of the store itself: `bulk_load_rolls_back`, `runs_gds`,
`indexes`. Which kind it is, only `graphstore.connect` knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import pyarrow as pa

from graphstore.schema import TYPE_NAMES, GraphSchema, LabelInfo, RelationInfo
from ingest.datasets.names import LOADED_SOURCE, OPT_OUT
from ingest.datasets.root import DataRoot, digest
from ingest.errors import Graph2ImageError

_TRUNCATED = b"graph2image.truncated"


class NoGraphError(Graph2ImageError):
    """A store that is to be read has no graph yet."""

    def __init__(self, url: str) -> None:
        super().__init__(f"there is no graph store at {url}", "Run `graph2image ingest` first.")


class GraphStore(ABC):
    """A graph database that holds items, entities, relations and lineage.

    Every node has an `id`, unique in the store. Methods that write need a store opened with `read_only=False`; each is
    all or nothing, and several together are inside `transaction()`.

    Attributes
    ----------
    url
        As given to `connect.open_store`.
    bulk_load_rolls_back
        Whether an exception inside `bulk_load` undoes what was written there.
    runs_gds
        Whether `read` may call the procedures of Neo4j's Graph Data Science, if the server has that library.
    """

    url: str
    bulk_load_rolls_back: ClassVar[bool]
    runs_gds: ClassVar[bool]

    @property
    @abstractmethod
    def indexes(self) -> SearchIndexes | None:
        """The store's own search indexes; None for a store without, where searches read all titles and vectors."""

    # -- reading -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def query(
        self,
        cypher: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        row_limit: int = 10_000,
        timeout_s: float = 30.0,
    ) -> pa.Table:
        """Run a user's Cypher, read-only whatever the mode of the store.

        Returns
        -------
        pyarrow.Table
            At most `row_limit` rows; `is_truncated` tells whether there were more.

        Raises
        ------
        Graph2ImageError
            For an attempt to write, a mistake in the Cypher (with the store's own message), a parameter without a
            value, or a query that takes longer than `timeout_s`.
        """

    @abstractmethod
    def read(self, cypher: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run Cypher of ours that reads, without limits; inside `transaction()` it sees what was written so far.

        A column without any value may have any type.
        """

    @abstractmethod
    def nodes(self, label: str, properties: Sequence[str]) -> pa.Table:
        """These properties of all nodes of a label, in the types of `node_labels`, in any order."""

    @abstractmethod
    def relations(self, type_: str, from_label: str, to_label: str, properties: Sequence[str] = ()) -> pa.Table:
        """`from_id`, `to_id` and these properties of all relations of a type between two labels, in any order.

        `weight` is float64, `rank` int64, `role` string.
        """

    # -- what there is -------------------------------------------------------------------------------------------------

    @abstractmethod
    def node_labels(self) -> dict[str, pa.Schema]:
        """Every label with its properties."""

    def labels(self) -> list[str]:
        """Every label."""
        return list(self.node_labels())

    @abstractmethod
    def relation_types(self) -> list[tuple[str, str, str]]:
        """Every (relation type, from label, to label), sorted."""

    @abstractmethod
    def relation_properties(self, type_: str) -> pa.Schema:
        """The properties that relations of a type can have, in the order in which they were defined."""

    def labels_of_kind(self, kind: str) -> list[str]:
        """Labels of the loaded items (`kind="item"`) or entities (`kind="entity"`), sorted."""
        column = self.read(f"MATCH (s:{LOADED_SOURCE}) RETURN s.{kind}_labels AS labels").column("labels")
        return sorted({label for labels in column.to_pylist() for label in labels or ()} & set(self.labels()))

    def schema(self) -> GraphSchema:
        """Labels with counts and properties, relation types with end points and counts."""
        kinds = {label: kind for kind in ("item", "entity") for label in self.labels_of_kind(kind)}
        labels = tuple(
            LabelInfo(
                name,
                kinds.get(name, "system"),
                self._count(f"MATCH (n:`{name}`) RETURN count(n) AS count"),
                {field.name: TYPE_NAMES[field.type] for field in properties},
            )
            for name, properties in sorted(self.node_labels().items())
        )
        relations = tuple(
            RelationInfo(*key, self._count("MATCH (:`{1}`)-[r:`{0}`]->(:`{2}`) RETURN count(r) AS count".format(*key)))
            for key in self.relation_types()
        )
        return GraphSchema(labels, relations)

    def _count(self, cypher: str) -> int:
        return int(self.read(cypher)["count"][0].as_py())

    def version(self) -> str:
        """The graph version: a digest of what was loaded from each source and of what was opted out."""
        sources = self.read(
            f"MATCH (s:{LOADED_SOURCE}) RETURN s.id AS id, s.items_digest AS items, s.entities_digest AS entities, "
            "s.relations_digest AS relations, s.gone_digest AS gone, s.loading AS loading ORDER BY id"
        )
        opted_out = self.read(f"MATCH (o:{OPT_OUT}) RETURN o.id AS id ORDER BY id")
        return digest(sources.to_pylist(), opted_out.column("id").to_pylist())

    # -- transactions --------------------------------------------------------------------------------------------------

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Nobody else writes to the store meanwhile.

        Raises
        ------
        Graph2ImageError
            If somebody else is writing.
        """

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """All that is written inside is there at the end, or nothing: after an exception, and after a kill."""

    @abstractmethod
    def bulk_load(self) -> AbstractContextManager[None]:
        """As `transaction`, for many rows; but a kill may leave a part of them, and so may an exception.

        It is durable when the next `transaction` begins. The caller marks first, in a transaction, what it is
        about to write, and takes the mark away afterwards, in another one. Labels and relation types are defined
        here, not in a transaction.
        """

    # -- writing -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def write(self, cypher: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run Cypher of ours that writes."""

    @abstractmethod
    def define_label(self, label: str, properties: pa.Schema) -> None:
        """Make sure that nodes with `label` can have `properties`; types as given by `schema.property_type`."""

    @abstractmethod
    def define_relation(self, type_: str, from_label: str, to_label: str, properties: pa.Schema) -> None:
        """Make sure that relations `type_` can lead from `from_label` to `to_label` and have `properties`."""

    @abstractmethod
    def check_nodes(self, label: str, nodes: pa.Table) -> None:
        """Raise Graph2ImageError if the store cannot hold these nodes; nothing is written."""

    @abstractmethod
    def upsert_nodes(self, label: str, nodes: pa.Table) -> None:
        """Create or update one node per row; column `id` is the key and unique, the others are properties."""

    @abstractmethod
    def upsert_relations(self, type_: str, from_label: str, to_label: str, relations: pa.Table) -> None:
        """Create or update one relation per row; `from_id`, `to_id` are the key, unique, and both nodes exist."""

    @abstractmethod
    def remove_relations(self, type_: str, from_label: str, to_label: str, relations: pa.Table) -> None:
        """Remove the relations with these `from_id`, `to_id`."""

    # -- closing -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def close(self) -> None:
        """Release the database; the store cannot be used after that."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def is_truncated(table: pa.Table) -> bool:
    """Whether the query behind `table` had more rows than its `row_limit`."""
    return bool(table.schema.metadata and _TRUNCATED in table.schema.metadata)


def check_columns(names: Sequence[str]) -> None:
    """Raise if two columns of a query have one name: whoever reads rows by names would have one of them only."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Graph2ImageError(f"the query returns two columns named {twice[0]!r}", "Name each by AS.")


def mark_truncated(table: pa.Table) -> pa.Table:
    """`table`, marked for `is_truncated`; for implementations of `GraphStore.query`."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _TRUNCATED: b"true"})


# -- the capability to search ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """What a store knows of an item."""

    item_id: str
    label: str
    title: str | None
    image_hash: str | None


@dataclass(frozen=True)
class SimilarItem:
    """An item, and the cosine of its image's vector with the one asked for."""

    item_id: str
    label: str
    title: str | None
    similarity: float


@dataclass(frozen=True)
class FoundItem:
    """An item whose title has words that were searched for, and its BM25 score."""

    item_id: str
    label: str
    title: str
    score: float


@dataclass(frozen=True)
class IndexReport:
    """What `SearchIndexes.update_vectors` did.

    Attributes
    ----------
    written, removed
        Vectors brought to items, and taken from items that lost their image, were opted out, or had one of another
        image or encoder.
    items
        Items that are in the index now.
    missing
        Items with an image that has no vector.
    """

    encoder: str
    written: int
    removed: int
    items: int
    missing: int

    @property
    def changed(self) -> bool:
        return self.written + self.removed > 0


class SearchIndexes(ABC):
    """Indexes that a store keeps of the titles of its items, and of their images' vectors.

    Answers leave out what is opted out. What an index does not have (yet), it says with None; then it is computed from
    all titles, or from the vectors in Parquet.
    """

    @abstractmethod
    def update_titles(self) -> None:
        """Make sure that the titles of all item labels are indexed; the index follows later changes by itself."""

    @abstractmethod
    def find_titles(self, words: Sequence[str], labels: Sequence[str], k: int) -> list[FoundItem] | None:
        """The `k` items of these labels whose titles fit the words best, best first; None without a whole index."""

    @abstractmethod
    def update_vectors(self, data: DataRoot, encoder: str) -> IndexReport:
        """Bring the vectors of an encoder to the items in the store, and index them.

        Only what is new or changed is written. Vectors of another encoder are replaced, and so are their indexes: a
        store holds the vectors of one encoder. They stream from Parquet; in memory are the ids of the items to be
        written.

        Raises
        ------
        Graph2ImageError
            If somebody else is writing to the store, or it fails; what was written stays, and the next call continues.
        """

    @abstractmethod
    def encoder(self) -> str | None:
        """Id of the encoder whose vectors the store has; None if there are none, or not all yet."""

    @abstractmethod
    def find_similar(self, item: Item, encoder: str, labels: Sequence[str], k: int) -> list[SimilarItem] | None:
        """The `k` items of these labels whose images are most like the item's, best first; it is not among them.

        None if the store does not have this image's vector, or not the encoder's.
        """


# -- opening a store -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Access:
    """Who signs in to a server, and how. The password itself is looked for when it is needed, and kept nowhere.

    Attributes
    ----------
    user
        Name of the user.
    password_file
        File that holds the password; without one, `graphstore.neo4j.driver.find_password` says where it comes from.
    wait_s
        Seconds that a server which does not answer is waited for.
    """

    user: str = "neo4j"
    password_file: Path | None = None
    wait_s: float = 30.0
