"""Items whose images are most like an item's (`similar`), or that have words in their title (`search`).

A Neo4j store answers from its indexes (`neo4j_search`), which `embed` and `ingest` keep current. Otherwise, and where
an index is not there or not of the encoder asked for, the answer is computed from all images' vectors in Parquet, and
from all titles in the store: the same answer, but for the few items that an approximate index of vectors may miss.

Titles are ranked as Lucene ranks them: BM25 (S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25
and Beyond", 2009) without the constant factor k1 + 1, over words as Unicode's UAX #29 finds them, lower-cased.
Words are words: nothing in the text is an operator.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

if TYPE_CHECKING:
    import polars as pl

    from graphstore.neo4j.store import Neo4jStore

log = logging.getLogger(__name__)

_Vectors: TypeAlias = npt.NDArray[np.float32]

#: Lucene's parameters of BM25.
_K1, _B = 1.2, 0.75
#: Lucene takes 1,024.
_MOST_WORDS = 256
#: Titles that are taken apart at once, and vectors that are multiplied at once.
_TITLES, _BLOCK = 50_000, 8_192
#: So many more than asked for are kept, in case an image has its vector twice.
_MARGIN = 8

# The rules of UAX #29 as Lucene has them: letters may be joined by one apostrophe, period or colon, digits by one
# comma, period, semicolon or apostrophe; each ideograph and each Hiragana is a word, and so is a run of Katakana, or of
# a script without spaces, and a pictograph.
_EXTEND = r"[\p{M}\p{Cf}\x{FF9E}\x{FF9F}]"
_IDEOGRAPH = r"\p{Han}\p{Hiragana}"
_KATAKANA = r"[\p{Katakana}ー]"
_UNSPACED = (
    r"[\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}\p{Tai_Viet}\p{Ahom}&&[\p{L}\p{M}]]"
)
_LETTER = (
    rf"[\w--[\p{{Nd}}\p{{M}}\p{{Katakana}}\p{{Join_Control}}ー\x{{FF9E}}\x{{FF9F}}{_IDEOGRAPH}{_UNSPACED}]]{_EXTEND}*"
)
_DIGIT = rf"\p{{Nd}}{_EXTEND}*"
_WORD = (
    rf"(?:{_LETTER}(?:['’‘＇.:·‧․︓﹕．：]{_EXTEND}*{_LETTER})*|{_DIGIT}(?:[.,;'’‘＇․﹐﹔，；．]{_EXTEND}*{_DIGIT})*)+"
    rf"|{_KATAKANA}(?:{_KATAKANA}|{_EXTEND})*|[{_IDEOGRAPH}]{_EXTEND}*|{_UNSPACED}(?:{_UNSPACED}|{_EXTEND})*"
    rf"|[\p{{Extended_Pictographic}}--[©®]](?:\p{{Emoji_Modifier}}|\x{{200D}}\p{{Extended_Pictographic}}|{_EXTEND})*"
    rf"|\p{{Regional_Indicator}}{_EXTEND}*\p{{Regional_Indicator}}{_EXTEND}*"
)


@dataclass(frozen=True)
class SimilarItem:
    """An item, and the cosine of its image's vector with the one asked for."""

    item_id: str
    label: str
    title: str | None
    similarity: float


@dataclass(frozen=True)
class SimilarItems:
    """The items most like one, best first; `indexed` says whether an approximate index was asked."""

    item_id: str
    label: str
    title: str | None
    encoder: str
    indexed: bool
    items: tuple[SimilarItem, ...]


@dataclass(frozen=True)
class FoundItem:
    """An item whose title has words that were searched for, and its BM25 score."""

    item_id: str
    label: str
    title: str
    score: float


@dataclass(frozen=True)
class FoundItems:
    """The items that fit best, best first; `words` are those that were searched for."""

    words: tuple[str, ...]
    items: tuple[FoundItem, ...]


@dataclass(frozen=True)
class Item:
    """What the store knows of an item."""

    item_id: str
    label: str
    title: str | None
    image_hash: str | None


# -- by image --------------------------------------------------------------------------------------------------------


def similar(
    store: GraphStore, data: DataRoot, item_id: str, *, encoder: str, k: int = 10, label: str | None = None
) -> SimilarItems:
    """The items whose images are most similar to the image of an item.

    Opted-out items are never among them; others of the item's own group are.

    Parameters
    ----------
    encoder
        Whose vectors are compared.
    k
        Items, at most.
    label
        Of the items to find; by default of any.

    Raises
    ------
    Graph2ImageError
        If there is no such item or label, the item has no image, or the image has no vector of the encoder.
    """
    labels = _labels(store, label)
    item = find_item(store, item_id)
    if item.image_hash is None:
        raise Graph2ImageError(
            f"item {item_id} has no image to compare",
            f'Search by words instead: graph2image search "{(item.title or "…")[:60]}"',
        )
    found = None
    if (neo4j := as_neo4j(store)) is not None:
        from graphstore.neo4j.indexes import similar_in_index

        found = similar_in_index(neo4j, item, encoder, labels, k)
        if found is None:
            log.info("the store's index has no vector of %s for %s: compared with all images instead", encoder, item_id)
    rows = _most_similar(store, data, item, encoder, labels, k) if found is None else found
    items = tuple(SimilarItem(**row) for row in rows)
    return SimilarItems(item_id, item.label, item.title, encoder, found is not None, items)


def find_item(store: GraphStore, item_id: str) -> Item:
    """The item with this id.

    Raises
    ------
    Graph2ImageError
        If there is none, or it is opted out.
    """
    for label in store.labels_of_kind("item"):
        rows = store.read(
            f"MATCH (n:`{label}` {{id: $id}}) WHERE NOT coalesce(n.opted_out, false) "
            "RETURN n.id AS item_id, n.title AS title, n.image_hash AS image_hash",
            {"id": item_id},
        ).to_pylist()
        if rows:
            return Item(label=label, **rows[0])
    raise Graph2ImageError(
        f"there is no item {item_id!r} in the graph, or it was opted out", 'Find ids with `graph2image search "WORDS"`.'
    )


def _labels(store: GraphStore, label: str | None) -> list[str]:
    labels = store.labels_of_kind("item")
    if not labels:
        raise Graph2ImageError("there are no items in the graph yet", "Run `graph2image ingest` first.")
    if label is not None and label not in labels:
        raise Graph2ImageError(f"{label!r} is not a label of items", f"Those are: {', '.join(labels)}.")
    return labels if label is None else [label]


def as_neo4j(store: GraphStore) -> Neo4jStore | None:
    """`store` if it is a Neo4j."""
    if store.url.startswith("ladybug:"):  # nothing of Neo4j is imported then
        return None
    from graphstore.neo4j.store import Neo4jStore

    return store if isinstance(store, Neo4jStore) else None


def indexed_encoder(store: GraphStore) -> str | None:
    """Id of the encoder whose vectors a Neo4j store has; None for another store, and where not all are in yet."""
    if (neo4j := as_neo4j(store)) is None:
        return None
    from graphstore.neo4j.indexes import indexed_encoder as recorded

    return recorded(neo4j)


def _most_similar(
    store: GraphStore, data: DataRoot, item: Item, encoder: str, labels: Sequence[str], k: int
) -> list[dict[str, Any]]:
    """Rows of `SimilarItem`, from the vectors in Parquet; exact."""
    from graphstore.sampling.reranking import Vectors
    from ingest.datasets.node_ids import NodeIndex

    if not data.names(f"embeddings/{encoder}"):
        there = [name.partition("/")[2] for name in data.names("embeddings")]
        raise Graph2ImageError(
            f"there are no image embeddings of encoder {encoder!r} under {data.url}",
            "Run `graph2image embed` first" + (f"; there are those of {', '.join(there)}." if there else "."),
        )
    name = f"embeddings/{encoder}"
    try:
        query = Vectors(data, name, "image_hash", pa.array([item.image_hash]), "pictures").of(np.zeros(1, np.int32))[0]
    except Graph2ImageError as error:
        raise Graph2ImageError(
            f"the image of {item.item_id} has no embedding of {encoder}",
            f"Run `graph2image embed --encoder {encoder}`; unreadable/{encoder} lists images that cannot be read.",
        ) from error

    parts = []
    for label in labels:
        nodes = store.nodes(label, ["id", "image_hash", "opted_out"])
        usable = pc.and_(pc.is_valid(nodes["image_hash"]), pc.invert(pc.fill_null(nodes["opted_out"], False)))
        others = nodes.filter(pc.and_(usable, pc.not_equal(nodes["id"], item.item_id)))
        parts.append(others.select(["id", "image_hash"]).append_column("label", pa.repeat(label, others.num_rows)))
    candidates = pa.concat_tables(parts)
    hashes = candidates["image_hash"].combine_chunks().dictionary_encode()

    codes, cosines = _best_vectors(data, name, NodeIndex(hashes.dictionary), query, k + _MARGIN)
    ranks = np.full(len(hashes.dictionary), np.nan, np.float32)
    ranks[codes] = cosines
    similarity = ranks[hashes.indices.to_numpy()]
    rows = np.flatnonzero(~np.isnan(similarity))
    best = candidates.take(rows).append_column("similarity", pa.array(similarity[rows], pa.float64()))
    best = best.sort_by([("similarity", "descending"), ("id", "ascending")]).slice(0, k)
    titles = _titles(store, best)
    return [
        {"item_id": row["id"], "label": row["label"], "title": titles[row["id"]], "similarity": row["similarity"]}
        for row in best.to_pylist()
    ]


def _best_vectors(
    data: DataRoot, name: str, wanted: Any, query: _Vectors, kept: int
) -> tuple[npt.NDArray[np.int32], _Vectors]:
    """Numbers in the `NodeIndex` `wanted` of the hashes whose vectors are most similar, and the cosines."""
    codes, cosines = np.empty(0, np.int32), np.empty(0, np.float32)
    batches = data.dataset(name).to_batches(
        ["image_hash", "embedding"], batch_size=_BLOCK, batch_readahead=1, fragment_readahead=1
    )
    for batch in batches:
        found = wanted.find(batch["image_hash"])
        there = np.flatnonzero(found >= 0)
        if not len(there):
            continue
        vectors = batch["embedding"].flatten().to_numpy().reshape(batch.num_rows, -1)
        codes = np.concatenate([codes, found[there]])
        cosines = np.concatenate([cosines, (vectors @ query)[there]])
        if len(codes) > kept:
            best = np.argpartition(-cosines, kept - 1)[:kept]
            codes, cosines = codes[best], cosines[best]
    return codes, cosines


def _titles(store: GraphStore, items: pa.Table) -> dict[str, str | None]:
    """Titles of items, which have columns `id` and `label`, by id."""
    titles: dict[str, str | None] = {}
    for label in items["label"].unique().to_pylist():
        ids = items.filter(pc.equal(items["label"], label))["id"].to_pylist()
        rows = store.read(
            f"MATCH (n:`{label}`) WHERE n.id IN $ids RETURN n.id AS id, n.title AS title", {"ids": ids}
        ).to_pylist()
        titles |= {row["id"]: row["title"] for row in rows}
    return titles


# -- by words ----------------------------------------------------------------------------------------------------------


def search(store: GraphStore, text: str, *, k: int = 10, label: str | None = None) -> FoundItems:
    """The items whose titles have any of the words of `text`, those with more and rarer ones first.

    Opted-out items are never among them. Upper and lower case are one, accents count.

    Parameters
    ----------
    k
        Items, at most.
    label
        Of the items to find; by default of any.

    Raises
    ------
    Graph2ImageError
        If there is no such label, or `text` has no word, or very many.
    """
    labels = _labels(store, label)
    words = _distinct_words(text)
    found = None
    if (neo4j := as_neo4j(store)) is not None:
        from graphstore.neo4j.indexes import search_in_index

        found = search_in_index(neo4j, words, labels, k)
        if found is None:
            log.info("the store has no index of all titles: reading them instead; the next `ingest` makes one")
    rows = _best_titles(store, words, labels, k) if found is None else found
    return FoundItems(tuple(words), tuple(FoundItem(**row) for row in rows))


def _distinct_words(text: str) -> list[str]:
    import polars as pl

    words = _words(pl.Series([text], dtype=pl.String))[0].to_list()
    distinct = list({word.lower(): word for word in reversed(words)}.values())[::-1]
    if not distinct:
        raise Graph2ImageError(f"there is no word to search for in {text[:60]!r}", "Give words of a title.")
    if len(distinct) > _MOST_WORDS:
        raise Graph2ImageError(f"{len(distinct):,} words are too many to search for", f"Give at most {_MOST_WORDS}.")
    return distinct


def _words(texts: pl.Series) -> pl.Series:
    """The words of each text, as written."""
    return texts.str.extract_all(_WORD)


def _lower(texts: pl.Series) -> pl.Series:
    """Lower case character by character, as Lucene has it; Unicode's own looks at neighbors, and lengthens İ."""
    return texts.str.replace_many(["İ", "Σ"], ["i", "σ"]).str.to_lowercase()


def _best_titles(store: GraphStore, words: Sequence[str], labels: Sequence[str], k: int) -> list[dict[str, Any]]:
    """Rows of `FoundItem`, from all titles in the store."""
    import polars as pl

    wanted = _lower(pl.Series(words, dtype=pl.String))
    titled, total, hits = 0, 0, []
    for label in store.labels_of_kind("item"):  # how rare a word is does not depend on the label asked for
        nodes = store.nodes(label, ["id", "title", "opted_out"])
        for start in range(0, nodes.num_rows, _TITLES):
            rows = pl.DataFrame(pl.from_arrow(nodes.slice(start, _TITLES))).with_row_index("row")
            of_each = _words(_lower(rows["title"]))
            length = of_each.list.len().fill_null(0)
            titled, total = titled + int((length > 0).sum()), total + int(length.sum())
            # By number: a title may be long, and have a word many times.
            found = (
                pl.DataFrame({"row": rows["row"], "word": of_each, "length": length})
                .explode("word")
                .filter(pl.col("word").is_in(wanted.implode()))
                .group_by("row", "length", "word")
                .agg(times=pl.len())
            )
            hits.append(found.join(rows, on="row").drop("row").with_columns(label=pl.lit(label)))
    if not total:
        return []
    times, norm = pl.col("times"), 1 - _B + _B * pl.col("length") / (total / titled)
    having = pl.len().over("word")
    rarity = ((titled - having + 0.5) / (having + 0.5) + 1).log()
    best = (
        pl.concat(hits)
        .with_columns(score=rarity * times / (times + _K1 * norm))
        .filter(~pl.col("opted_out").fill_null(value=False), pl.col("label").is_in(list(labels)))
        .group_by("id")
        .agg(pl.col("label", "title").first(), pl.col("score").sum())
        .sort(["score", "id"], descending=[True, False])
        .head(k)
    )
    return best.select(pl.col("id").alias("item_id"), "label", "title", "score").to_dicts()
