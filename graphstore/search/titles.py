"""Items that have words in their titles.

A store with an index of titles answers from it; `ingest` keeps that current. Otherwise all titles are read, for the
same answer. They are ranked as Lucene ranks them: BM25 (S. Robertson, H. Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009) without the constant factor k1 + 1, over words as Unicode's UAX #29 finds them,
lower-cased. Words are words: nothing in the text is an operator.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
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
    return [FoundItem(*row) for row in best.select("id", "label", "title", "score").iter_rows()]
