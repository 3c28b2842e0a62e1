"""The words of titles: Unicode's word boundaries, as the server's analyzer has them; a table, on both stores."""

from __future__ import annotations

import pytest
from sources import item, publish

from graphstore.connect import open_store
from graphstore.loading.load import load_source
from graphstore.search.titles import search
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

#: A title and its words, lower-cased.
WORDS = {
    # letters joined by one sign in the middle, digits by one of their own; not letters with digits
    "ab'cd": ["ab'cd"],
    "ab’cd": ["ab’cd"],
    "l'été": ["l'été"],
    "ab.cd": ["ab.cd"],
    "ab..cd": ["ab", "cd"],
    "ab:cd": ["ab:cd"],
    "ab·cd": ["ab·cd"],
    "ab'12": ["ab", "12"],
    "ab,cd": ["ab", "cd"],
    "12,34.5": ["12,34.5"],
    "12;34": ["12;34"],
    "12:34": ["12", "34"],
    "foo-bar": ["foo", "bar"],
    "o'": ["o"],
    "a1b2": ["a1b2"],
    # what joins everything
    "a_b": ["a_b"],
    "_a__1_": ["_a__1_"],
    "__": [],
    "a‿b": ["a‿b"],
    # marks and format characters belong to what they follow
    "e\u0301te\u0301": ["e\u0301te\u0301"],
    "a\u00adb": ["a\u00adb"],
    "می\u200cخواهم": ["می\u200cخواهم"],
    "हिन्दी": ["हिन्दी"],
    # Hebrew: geresh is a letter, gershayim and quotes join
    "0׳": ["0׳"],
    "צה״ל": ["צה״ל"],
    'אב"גד': ['אב"גד'],
    'ab"cd': ["ab", "cd"],
    # Japanese, Chinese, Korean
    "カタカナ": ["カタカナ"],
    "アa": ["ア", "a"],
    "ア_a": ["ア_a"],
    "ひら": ["ひ", "ら"],
    "一二a": ["一", "二", "a"],
    "\U00020000a": ["\U00020000", "a"],
    "人々": ["人", "々"],
    "々a": ["々a"],
    "한국어": ["한국어"],
    # scripts without spaces
    "ภาษาไทย": ["ภาษาไทย"],
    "ไทยabc": ["ไทย", "abc"],
    "๑๒": ["๑๒"],
    "ລາວ": ["ລາວ"],
    "မြန်မာ": ["မြန်မာ"],
    "ខ្មែរ": ["ខ្មែរ"],
    # digits of other scripts
    "١٢": ["١٢"],
    "１２": ["１２"],
    # emoji, flags
    "🎨🖼": ["🎨", "🖼"],
    "👍🏽": ["👍🏽"],
    "👩‍🚀": ["👩‍🚀"],
    "🇩🇪🇫🇷": ["🇩🇪", "🇫🇷"],
    "a🎨b": ["a", "🎨", "b"],
    "©": ["©"],
    "🏽": ["🏽"],
}


@pytest.fixture
def loaded(store_url: str, data: DataRoot) -> str:
    """A store with these titles and its index of them, if it has one."""
    publish(data, "art", [item(f"art:{n}", title=title) for n, title in enumerate(WORDS)])
    with open_store(store_url) as store:
        load_source(store, data, "art")
        if store.indexes is not None:
            store.indexes.update_titles()
    return store_url


@pytest.mark.slow
def test_titles_are_found_by_their_words_and_no_others(loaded: str) -> None:
    titles = list(WORDS)
    with open_store(loaded, read_only=True) as store:
        for word in sorted({word for words in WORDS.values() for word in words}):
            found = {titles[int(row.item_id.removeprefix("art:"))] for row in search(store, word, k=100).items}
            assert found == {title for title, words in WORDS.items() if word in words}, ascii(word)


def test_a_text_is_searched_for_by_its_words(ladybug_url: str, data: DataRoot) -> None:
    publish(data, "art", [item("art:1")])
    with open_store(ladybug_url) as store:
        load_source(store, data, "art")
        for text, words in WORDS.items():
            if words:
                assert list(search(store, text).words) == list(dict.fromkeys(words)), ascii(text)
            else:
                with pytest.raises(Graph2ImageError, match="no word to search for"):
                    search(store, text)
