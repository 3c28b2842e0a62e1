"""Items that have words in their titles.

A store with an index of titles answers from it; `ingest` keeps that current. Otherwise all titles are read, for the
same answer. They are ranked as Lucene ranks them: BM25 (S. Robertson, H. Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009) without the constant factor k1 + 1, over words as Unicode's UAX #29 finds them,
lower-cased. Words are words: nothing in the text is an operator.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphstore.search.labels import searched_labels
from graphstore.store import FoundItem, GraphStore
from ingest.errors import Graph2ImageError

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

#: Lucene's parameters of BM25.
_K1, _B = 1.2, 0.75
#: Lucene takes 1,024.
_MOST_WORDS = 256
#: Titles that are taken apart at once.
_TITLES = 50_000

# Word boundaries of UAX #29, as Lucene's StandardTokenizer has them. Rust's `regex` knows the property Word_Break (wb).
# Every character may be followed by those that extend it.
_EXTEND = r"[\p{wb=Extend}\p{wb=Format}\p{wb=ZWJ}]*"
#: Ideographs and Hiragana are words each; a run of a script without spaces is one (Line_Break=Complex_Context).
_IDEOGRAPH = r"[\p{Han}\p{Hiragana}]"
_UNSPACED = (
    r"[[\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}\p{Tai_Viet}\p{Ahom}&&[\p{L}\p{M}]]"
    r"\x{109E}\x{109F}\x{19DE}\x{19DF}\x{1AA0}-\x{1AAD}\x{AA77}-\x{AA79}\x{1173A}\x{1173B}\x{1173F}]"
)
_HEBREW = rf"\p{{wb=Hebrew_Letter}}{_EXTEND}"
_LETTER = (
    rf"(?:\p{{wb=ALetter}}{_EXTEND}"
    rf"|{_HEBREW}(?:\p{{wb=Double_Quote}}{_EXTEND}{_HEBREW})*(?:\p{{wb=Single_Quote}}{_EXTEND})?)"
)
_DIGIT = rf"[\p{{wb=Numeric}}\x{{FF10}}-\x{{FF19}}]{_EXTEND}"
_KATAKANA = rf"\p{{wb=Katakana}}{_EXTEND}"
#: Joins what is on both sides of it, such as `_`.
_JOIN = rf"(?:\p{{wb=ExtendNumLet}}{_EXTEND})"
_MID = r"\p{wb=MidNumLet}\p{wb=Single_Quote}"
_LETTERS = rf"{_LETTER}(?:(?:{_JOIN}*|[\p{{wb=MidLetter}}{_MID}]{_EXTEND}){_LETTER})*"
_DIGITS = rf"{_DIGIT}(?:(?:{_JOIN}*|[\p{{wb=MidNum}}{_MID}]{_EXTEND}){_DIGIT})*"
_CORE = rf"(?:{_KATAKANA}(?:{_JOIN}*{_KATAKANA})*|(?:{_LETTERS}|{_DIGITS})+)"
_EMOJI = (
    rf"[#*0-9]\x{{FE0F}}?\x{{20E3}}{_EXTEND}|\p{{Regional_Indicator}}{_EXTEND}\p{{Regional_Indicator}}{_EXTEND}"
    r"|[\p{Extended_Pictographic}\p{Emoji_Modifier}](?:\p{Emoji_Modifier}|\x{200D}\p{Extended_Pictographic}"
    rf"|[\p{{wb=Extend}}\p{{wb=Format}}\p{{wb=ZWJ}}])*"
)
_WORD = (
    rf"{_JOIN}*{_CORE}(?:{_JOIN}+{_CORE})*{_JOIN}*|{_EMOJI}|{_IDEOGRAPH}{_EXTEND}"
    rf"|{_UNSPACED}(?:{_UNSPACED}|[\p{{wb=Extend}}\p{{wb=Format}}\p{{wb=ZWJ}}])*"
)


@dataclass(frozen=True)
class FoundItems:
    """The items that fit best, best first; `words` are those that were searched for."""

    words: tuple[str, ...]
    items: tuple[FoundItem, ...]


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
    labels = searched_labels(store, label)
    words = _distinct_words(text)
    found = None
    if store.indexes is not None:
        found = store.indexes.find_titles(words, labels, k)
        if found is None:
            log.info("the store has no index of all titles: reading them instead; the next `ingest` makes one")
    return FoundItems(tuple(words), tuple(_best_titles(store, words, labels, k) if found is None else found))


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


def _best_titles(store: GraphStore, words: Sequence[str], labels: Sequence[str], k: int) -> list[FoundItem]:
    """The best items, from all titles in the store."""
    import polars as pl

    wanted = _lower(pl.Series(words, dtype=pl.String))
    counts, hits = _Counts(), []
    for rows, postings in _postings(store, counts):
        hits.append(postings.filter(pl.col("word").is_in(wanted.implode())).join(rows, on="row").drop("row"))
    if not hits:
        return []
    best = _ranked(pl.concat(hits), counts)
    best = best.filter(pl.col("label").is_in(list(labels))).head(k)
    return [FoundItem(*row) for row in best.iter_rows()]


class TitleIndex:
    """The words of all titles of a graph in memory, for many searches in the graph as it was.

    The answers are those of `search`.
    """

    def __init__(self, store: GraphStore) -> None:
        import polars as pl

        self._counts = _Counts()
        rows, postings = [], []
        for some_rows, some_postings in _postings(store, self._counts):
            rows.append(some_rows)
            postings.append(some_postings)
        self._rows = pl.concat(rows) if rows else None
        if self._rows is not None:
            by_word = pl.concat(postings).sort("word", "row")
            words = by_word.group_by("word", maintain_order=True).len()
            self._words = words["word"]
            self._ends = words["len"].cum_sum().to_numpy()
            self._postings = by_word.drop("word")

    def find(self, text: str) -> pl.DataFrame:
        """Columns `id`, `label`, `title` and `score` of all items whose titles have a word of `text`, best first.

        Raises
        ------
        Graph2ImageError
            If `text` has no word, or very many.
        """
        import polars as pl

        wanted = _lower(pl.Series(_distinct_words(text), dtype=pl.String)).unique(maintain_order=True)
        if self._rows is None:
            return _ranked(_no_hits(), self._counts)
        parts = [_no_hits()]
        for word in wanted:
            place = int(self._words.search_sorted(word))
            if place < len(self._words) and self._words[place] == word:
                start = int(self._ends[place - 1]) if place else 0
                postings = self._postings.slice(start, int(self._ends[place]) - start).with_columns(word=pl.lit(word))
                rows = self._rows[postings["row"]].drop("row")
                parts.append(pl.concat([postings.drop("row"), rows], how="horizontal").select(parts[0].columns))
        return _ranked(pl.concat(parts), self._counts)


@dataclass
class _Counts:
    """Titles that have words, and words of all of them."""

    titles: int = 0
    words: int = 0


def _postings(store: GraphStore, counts: _Counts) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Some titles at a time, numbered by `row`; and which words each has, how often, among how many of its title.

    `counts` is that of all titles when the last have come: how rare a word is does not depend on the label asked for.
    """
    import polars as pl

    first = 0
    for label in store.labels_of_kind("item"):
        nodes = store.nodes(label, ["id", "title", "opted_out"])
        for start in range(0, nodes.num_rows, _TITLES):
            rows = pl.DataFrame(pl.from_arrow(nodes.slice(start, _TITLES))).with_row_index("row", first)
            first += rows.height
            of_each = _words(_lower(rows["title"]))
            length = of_each.list.len().fill_null(0)
            counts.titles, counts.words = counts.titles + int((length > 0).sum()), counts.words + int(length.sum())
            # By number: a title may be long, and have a word many times.
            postings = (
                pl.DataFrame({"row": rows["row"], "word": of_each, "length": length})
                .explode("word")
                .filter(pl.col("word").is_not_null())
                .group_by("row", "length", "word")
                .agg(times=pl.len())
            )
            yield rows.with_columns(label=pl.lit(label)), postings


def _no_hits() -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(
        schema={
            **{"length": pl.UInt32, "word": pl.String, "times": pl.UInt32},
            **{"id": pl.String, "title": pl.String, "opted_out": pl.Boolean, "label": pl.String},
        }
    )


def _ranked(hits: pl.DataFrame, counts: _Counts) -> pl.DataFrame:
    """The items of all `hits` with their scores, best first, without those that are opted out."""
    import polars as pl

    times, titled = pl.col("times"), counts.titles
    norm = 1 - _B + _B * pl.col("length") / (counts.words / titled if titled else 1.0)
    having = pl.len().over("word")
    rarity = ((titled - having + 0.5) / (having + 0.5) + 1).log()
    return (
        hits.with_columns(score=rarity * times / (times + _K1 * norm))
        .filter(~pl.col("opted_out").fill_null(value=False))
        .group_by("id")
        .agg(pl.col("label", "title").first(), pl.col("score").sum())
        .sort(["score", "id"], descending=[True, False])
        .select("id", "label", "title", "score")
    )
