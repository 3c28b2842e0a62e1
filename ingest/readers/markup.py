"""Text that was scraped from pages, as a browser shows it: no tags, no scripts, no comments, entities as characters.

What only looks like markup is text: `<3`, `a < b`, and names in angle brackets that no HTML element has, as in
"<Limited Edition> Comb". Source of a page that has lost its tags is recognized where it begins.
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.compute as pc

#: Of a text with markup only so many characters and tags are looked at: no text may take long to parse.
MAX_MARKUP = 1 << 14
MAX_TAGS = 500

#: A text without any of these has no markup and is no source (as a regular expression of Python's and of RE2).
SUSPECT = r"[<&{=]|aPageStart"

_INLINE = frozenset("""
    a abbr acronym b bdi bdo big cite code data dfn em font i ins kbd label mark nobr q rp rt ruby s samp small span
    strike strong sub sup time tt u var wbr del
""".split())  # fmt: skip  # noqa: SIM905
_BLOCK = frozenset("""
    address article aside base basefont blockquote body br button canvas caption center col colgroup datalist dd
    details dialog dir div dl dt fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header
    hgroup hr html img input legend li link main map menu meta meter nav ol optgroup option output p param picture
    pre progress search section select source summary table tbody td tfoot th thead tr track ul
""".split())  # fmt: skip  # noqa: SIM905
#: Elements whose content is not shown, and those that have none.
_HIDDEN = frozenset("""
    applet audio iframe noembed noframes noscript object script style svg template textarea title video
""".split())  # fmt: skip  # noqa: SIM905
_EMPTY = frozenset(("area", "embed"))
_KNOWN = _INLINE | _BLOCK | _HIDDEN | _EMPTY
#: Attributes that need no value; a word that is none of them shows that a tag is none.
_FLAGS = frozenset("""
    allowfullscreen async autofocus autoplay checked compact controls default defer disabled download hidden inert
    ismap itemscope loop multiple muted nohref nomodule noshade novalidate nowrap open playsinline readonly required
    reversed selected
""".split())  # fmt: skip  # noqa: SIM905

#: Comments; sections of XML, whose content is text; and the conditions that pages are full of, on which `HTMLParser`
#: may fail.
_NO_TAG = re.compile(r"<!--.*?(?:-->|$)|<!\[CDATA\[(.*?)(?:\]\]>|$)|<!\[[^>]*(?:>|$)", re.DOTALL)

#: A tag that the text was cut in.
_CUT_TAG = re.compile(r"<[a-zA-Z][a-zA-Z0-9]*\s[^<>]*=[^<>]*$")

#: Where script or style begins that stands in no element; bounded, so that no text takes long.
_SOURCE = re.compile(
    r"""
    \b(?:var|let|const)\ [\w$]{1,99}\ ?=[^=].{0,500}?[;(]
    | \baPageStart\b
    | \(?\bfunction\ ?[\w$]{0,99}\ ?\([^()]{0,200}\)\ ?\{
    | \b(?:window|document)\.\w{1,99}\ ?(?:=|\(|\.|\|\|)
    | (?<!\S)(?:[.\#@][\w-]{1,99}|(?:a|body|div|h[1-6]|html|img|li|p|span|table|td|tr|ul)\b)[^{}<>;"]{0,200}
      \{\ ?[\w-]{1,99}\ ?:[^{}]{1,999}\}
    """,
    re.VERBOSE | re.DOTALL,
)


class _Page(HTMLParser):
    """Collects what a browser would show."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden is not None:
            return
        if tag not in _KNOWN or any(value is None and name not in _FLAGS for name, value in attrs):
            self.parts.append(self.get_starttag_text() or "")
        elif tag in _HIDDEN:
            self._hidden = tag
        elif tag not in _INLINE:
            self.parts.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self._hidden == tag and tag not in ("script", "style"):
            self._hidden = None

    def handle_endtag(self, tag: str) -> None:
        if self._hidden is not None:
            if tag == self._hidden:
                self._hidden = None
        elif tag in ("script", "style"):
            # The text was cut in front: all before is the script.
            self.parts.clear()
        elif tag not in _KNOWN:
            self.parts.append(f"</{tag}>")
        elif tag not in _INLINE:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if self._hidden is None:
            self.parts.append(data)


def visible_text(text: str) -> str | None:
    """`text` as people read it, white space squeezed; None if nothing is left.

    >>> visible_text("&lt;span class=&quot;x&quot;&gt;Dog&lt;/span&gt;<br/>Comb &amp;amp; Brush <3")
    'Dog Comb & Brush <3'
    """
    if "&" in text:
        text = html.unescape(html.unescape(text))
    if "<" in text:
        page = _Page()
        tags = "<".join(text[:MAX_MARKUP].split("<", MAX_TAGS)[:MAX_TAGS])
        page.feed(_CUT_TAG.sub("", _NO_TAG.sub(r"\1", tags)))
        page.close()
        text = "".join(page.parts)
    text = " ".join(text.split())
    if ("{" in text or "=" in text or "aPageStart" in text) and (source := _SOURCE.search(text)) is not None:
        text = text[: source.start()].rstrip()
    return text or None


def visible_texts(texts: pa.StringArray) -> pa.StringArray:
    """`visible_text` of each; white space must be squeezed already where there is no markup."""
    suspect = pc.match_substring_regex(texts, SUSPECT).fill_null(False)
    if not suspect.true_count:
        return texts
    return pc.replace_with_mask(
        texts, suspect, pa.array(map(visible_text, texts.filter(suspect).to_pylist()), pa.string())
    )
