"""The two indexes of a Neo4j store that `search` asks: of titles, and of images' vectors.

- The words of all item labels' titles are in one full-text index.
- The vector of an item's image is a property of the item, single-precision, and each item label has a vector index
  (HNSW, which is approximate). A second property says of which image and encoder the vector is. So what is to be done
  is seen from the store alone, and a run that was killed is continued by the next.
- One node records whose vectors the indexes hold, and whether all are in.

Properties that begin with an underscore are no source's: columns cannot be called so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from graphstore.neo4j.transactions import ServerStore
from graphstore.store import FoundItem, IndexReport, Item, SearchIndexes, SimilarItem
from ingest.datasets.names import GRAPH_SCHEMA
from ingest.datasets.root import DataRoot

log = logging.getLogger(__name__)

TITLE_INDEX = "graph2image_titles"
_IMAGE_INDEX = "graph2image_images_{label}"
#: Lower-cased words of UAX #29, without stop words: titles such as "The Who" consist of those.
_ANALYZER = "standard-no-stop-words"
#: How long an index may take to be filled.
_WAIT_S = 3_600
#: At first `_MORE * k` vectors are asked for, and at least `_LEAST`, then compared exactly: the index keeps vectors of
#: one byte per number, and a longer list misses less.
_MORE, _LEAST = 4, 100
_BLOCK = 1_024

_CURRENT = "$encoder + ' ' + n.image_hash"
_SPECIAL = re.compile(r'[+\-!(){}\[\]^"~*?:\\/&|]')


class Neo4jIndexes(SearchIndexes):
    """The indexes of a store; see the module's notes."""

    def __init__(self, store: ServerStore) -> None:
        self._store = store

    # -- titles --------------------------------------------------------------------------------------------------------

    def update_titles(self) -> None:
        labels = self._store.labels_of_kind("item")
        if not labels or self._title_index_covers(labels, state=None):
            return
        all_labels = "|".join(f"`{label}`" for label in labels)
        with self._store.session() as session:
            session.run(f"DROP INDEX {TITLE_INDEX} IF EXISTS").consume()
            session.run(
                f"CREATE FULLTEXT INDEX {TITLE_INDEX} IF NOT EXISTS FOR (n:{all_labels}) "
                f"ON EACH [n.title] OPTIONS {{indexConfig: {{`fulltext.analyzer`: '{_ANALYZER}'}}}}"
            ).consume()
            session.run("CALL db.awaitIndex($name, $wait)", name=TITLE_INDEX, wait=_WAIT_S).consume()

    def _title_index_covers(self, labels: Sequence[str], state: str | None) -> bool:
        shown = self._store.read(
            "SHOW FULLTEXT INDEXES YIELD name, labelsOrTypes, state WHERE name = $name RETURN labelsOrTypes, state",
            {"name": TITLE_INDEX},
        ).to_pylist()
        return any(set(labels) <= set(row["labelsOrTypes"]) and state in (None, row["state"]) for row in shown)

    def find_titles(self, words: Sequence[str], labels: Sequence[str], k: int) -> list[FoundItem] | None:
        if not self._title_index_covers(self._store.labels_of_kind("item"), "ONLINE"):
            return None
        rows = self._store.read(
            "CALL db.index.fulltext.queryNodes($name, $words) YIELD node, score "
            "WITH node, score, [label IN labels(node) WHERE label IN $labels] AS own "
            "WHERE size(own) > 0 AND NOT coalesce(node.opted_out, false) "
            "RETURN node.id AS item_id, own[0] AS label, node.title AS title, score "
            "ORDER BY score DESC, item_id LIMIT $k",
            {"name": TITLE_INDEX, "words": " ".join(map(_escaped, words)), "labels": list(labels), "k": k},
        ).to_pylist()
        return [FoundItem(**row) for row in rows]

    # -- images --------------------------------------------------------------------------------------------------------

    def encoder(self) -> str | None:
        record = self._record()
        return record["encoder"] if record and record["complete"] else None

    def find_similar(self, item: Item, encoder: str, labels: Sequence[str], k: int) -> list[SimilarItem] | None:
        has_vector = self._store.read(
            f"MATCH (n:`{item.label}` {{id: $id}}) WHERE n._embedded_as = {_CURRENT} RETURN n.id AS id",
            {"id": item.item_id, "encoder": encoder},
        ).num_rows
        if not has_vector or self.encoder() != encoder or not set(labels) <= self._image_indexes("ONLINE"):
            return None
        found = [row for label in labels for row in self._similar_of_label(item, encoder, label, k)]
        return sorted(found, key=lambda row: (-row.similarity, row.item_id))[:k]

    def _similar_of_label(self, item: Item, encoder: str, label: str, k: int) -> list[SimilarItem]:
        nodes = self._store.read(f"MATCH (n:`{label}`) RETURN count(n) AS count")["count"][0].as_py()
        asked = max(_MORE * k, _LEAST)
        while True:
            rows = self._store.read(
                f"MATCH (own:`{item.label}` {{id: $id}}) "
                "CALL db.index.vector.queryNodes($index, $asked, own._embedding) YIELD node AS n "
                f"WITH own, n WHERE n <> own AND NOT coalesce(n.opted_out, false) AND n._embedded_as = {_CURRENT} "
                "RETURN n.id AS item_id, $label AS label, n.title AS title, "
                "2 * vector.similarity.cosine(n._embedding, own._embedding) - 1 AS similarity "
                "ORDER BY similarity DESC, item_id LIMIT $k",
                {
                    "id": item.item_id,
                    "index": _IMAGE_INDEX.format(label=label),
                    "asked": asked,
                    "encoder": encoder,
                    "label": label,
                    "k": k,
                },
            ).to_pylist()
            if len(rows) >= k or asked > nodes:
                return [SimilarItem(**row) for row in rows]
            asked *= _MORE  # those found were opted out, most of them

    def update_vectors(self, data: DataRoot, encoder: str) -> IndexReport:
        name = f"embeddings/{encoder}"
        with self._store.exclusive():
            labels = self._store.labels_of_kind("item")
            there = bool(data.names(name))
            dimension = data.dataset(name).schema.field("embedding").type.list_size if there else None
            self._begin(encoder, dimension)
            removed = sum(self._remove_outdated(label, encoder) for label in labels)
            if dimension is not None:
                self._define_indexes(labels, dimension)
            pending = {label: self._pending(label) for label in labels}
            written = self._write_vectors(data, name, encoder, pending) if there else 0
            with self._store.session() as session:
                for label in self._image_indexes(state=None):
                    session.run("CALL db.awaitIndex($name, $wait)", name=_IMAGE_INDEX.format(label=label), wait=_WAIT_S)
            self._set_record(complete=True)
            items = sum(
                self._store.read(f"MATCH (n:`{label}`) RETURN count(n._embedded_as) AS count")["count"][0].as_py()
                for label in labels
            )
        missing = sum(rows.num_rows for rows in pending.values()) - written
        report = IndexReport(encoder, written, removed, items, missing)
        if report.changed:
            log.info("%s has the vectors of %d items; %d written, %d removed", self._store.url, items, written, removed)
        return report

    def _remove_outdated(self, label: str, encoder: str) -> int:
        with self._store.session() as session:
            [count] = session.run(
                f"MATCH (n:`{label}`) WHERE n._embedded_as IS NOT NULL AND (n.image_hash IS NULL "
                f"OR coalesce(n.opted_out, false) OR n._embedded_as <> {_CURRENT}) "
                "CALL (n) { REMOVE n._embedded_as, n._embedding } IN TRANSACTIONS OF 10000 ROWS RETURN count(*)",
                encoder=encoder,
            ).single(strict=True)
        return int(count)

    def _begin(self, encoder: str, dimension: int | None) -> None:
        """Drop the indexes if they are of another encoder."""
        record = self._record()
        if record is not None and (record["encoder"], record["dimension"]) == (encoder, dimension):
            return
        self._set_record(encoder=encoder, dimension=dimension, complete=False)
        with self._store.session() as session:
            for label in self._image_indexes(state=None):
                session.run(f"DROP INDEX `{_IMAGE_INDEX.format(label=label)}` IF EXISTS").consume()

    def _define_indexes(self, labels: Sequence[str], dimension: int) -> None:
        with self._store.session() as session:
            for label in labels:
                session.run(
                    f"CREATE VECTOR INDEX `{_IMAGE_INDEX.format(label=label)}` IF NOT EXISTS FOR (n:`{label}`) "
                    f"ON n._embedding OPTIONS {{indexConfig: {{`vector.dimensions`: {dimension:d}, "
                    "`vector.similarity_function`: 'cosine'}}"
                ).consume()

    def _image_indexes(self, state: str | None) -> set[str]:
        """The labels that have a vector index of ours."""
        shown = self._store.read(
            "SHOW VECTOR INDEXES YIELD name, labelsOrTypes, state WHERE name STARTS WITH $start "
            "RETURN labelsOrTypes, state",
            {"start": _IMAGE_INDEX.format(label="")},
        ).to_pylist()
        return {row["labelsOrTypes"][0] for row in shown if state in (None, row["state"])}

    def _record(self) -> dict[str, Any] | None:
        rows = self._store.read(
            f"MATCH (s:{GRAPH_SCHEMA} {{id: 'image index'}}) RETURN s.encoder AS encoder, s.dimension AS dimension, "
            "s.complete AS complete"
        ).to_pylist()
        return rows[0] if rows else None

    def _set_record(self, **values: Any) -> None:
        self._store.write(f"MERGE (s:{GRAPH_SCHEMA} {{id: 'image index'}}) SET s += $values", {"values": values})

    def _pending(self, label: str) -> pa.Table:
        """`id` and `image_hash` of the items that have an image, but not its vector."""
        cypher = (
            f"MATCH (n:`{label}`) WHERE n.image_hash IS NOT NULL AND n._embedded_as IS NULL "
            "AND NOT coalesce(n.opted_out, false) RETURN n.id, n.image_hash"
        )
        parts = [pa.table({"id": pa.array([], pa.string()), "image_hash": pa.array([], pa.string())})]
        with self._store.session() as session:
            result = session.run(cypher)
            while rows := result.fetch(10_000):
                ids, hashes = zip(*rows, strict=True)
                parts.append(pa.table({"id": pa.array(ids), "image_hash": pa.array(hashes)}))
        return pa.concat_tables(parts)

    def _write_vectors(self, data: DataRoot, name: str, encoder: str, pending: dict[str, pa.Table]) -> int:
        """Write the vectors of pending items that are in the dataset; returns how many."""
        total = sum(rows.num_rows for rows in pending.values())
        written = 0
        with tqdm(total=total, desc="index", unit="vector", disable=None if total else True) as progress:
            for label, rows in pending.items():
                cypher = (
                    f"UNWIND $rows AS row MATCH (n:`{label}` {{id: row.id}}) "
                    "CALL db.create.setNodeVectorProperty(n, '_embedding', row.embedding) "
                    "SET n._embedded_as = row.source"
                )
                for found in _with_vectors(data, name, rows):
                    source = pa.array([f"{encoder} {image_hash}" for image_hash in found["image_hash"].to_pylist()])
                    table = found.select(["id", "embedding"]).append_column("source", source)
                    self._store.write_rows(cypher, table)
                    written += table.num_rows
                    progress.update(table.num_rows)
        return written


def _escaped(word: str) -> str:
    """A word as Lucene's query parser takes it for itself."""
    return f"\\{word}" if word in ("AND", "OR", "NOT") else _SPECIAL.sub(r"\\\g<0>", word)


def _with_vectors(data: DataRoot, name: str, items: pa.Table) -> Iterator[pa.Table]:
    """`items` with their vectors, in the order of the vectors' dataset, which is read where it has some of them."""
    from ingest.datasets.node_ids import NodeIndex

    hashes = items["image_hash"].combine_chunks().dictionary_encode()
    if not len(hashes):
        return
    index = NodeIndex(hashes.dictionary)
    codes = hashes.indices.to_numpy()
    # The items of each hash are next to each other.
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(hashes.dictionary) + 1))
    done = np.zeros(len(hashes.dictionary), bool)
    for file in data.dataset(name).by_file():
        known = index.find(file.to_table(columns=["image_hash"])["image_hash"])
        if not (known >= 0).any():
            continue
        for batch in file.to_batches(columns=["image_hash", "embedding"], batch_size=_BLOCK):
            found = index.find(batch["image_hash"])
            hits = np.flatnonzero(found >= 0)
            _, first = np.unique(found[hits], return_index=True)
            hits = hits[np.sort(first)]
            hits = hits[~done[found[hits]]]
            done[found[hits]] = True
            counts = starts[found[hits] + 1] - starts[found[hits]]
            rows = [order[starts[code] : starts[code + 1]] for code in found[hits]]
            if not rows:
                continue
            vectors = batch["embedding"].take(pa.array(np.repeat(hits, counts)))
            yield items.take(pa.array(np.concatenate(rows))).append_column("embedding", vectors)
