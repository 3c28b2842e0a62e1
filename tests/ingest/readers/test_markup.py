"""Scraped text as a browser shows it, and text that only looks like markup as it is."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.readers.markup import visible_text, visible_texts
from ingest.records import squeeze


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Dog <span class='a'>Comb</span>", "Dog Comb"),
        ("Dog<br/>Comb", "Dog Comb"),
        ("<b>Red</b>dish", "Reddish"),
        ("<p>Dog</p><p>Comb</p>", "Dog Comb"),
        ("Dog <SCRIPT type='x'>var a = '<b>';</SCRIPT>Comb", "Dog Comb"),
        ("Dog <style>.a { color: red }</style>Comb", "Dog Comb"),
        ("var a = 1;</script> Dog Comb", "Dog Comb"),
        ("Dog Comb <script>var a", "Dog Comb"),
        ("Dog <!-- <b> -->Comb", "Dog Comb"),
        ("Dog Comb <!-- cut", "Dog Comb"),
        ('Dog Comb <span class="a-size', "Dog Comb"),
        ("<![CDATA[Dog Comb]]>", "Dog Comb"),
        ("<!--[if IE]><p>old</p><![endif]-->Dog Comb", "Dog Comb"),
        ("<!DOCTYPE html><html><head><title>Shop</title></head><body>Dog Comb</body></html>", "Dog Comb"),
        ("Dog &lt;b&gt;Comb&lt;/b&gt;", "Dog Comb"),
        ("&amp;lt;br&amp;gt;Dog Comb", "Dog Comb"),
        ("Dog&nbsp;Comb &amp; Brush &amp;amp; Bowl", "Dog Comb & Brush & Bowl"),
        ("Caf&eacute; &#8212; &#x1F600;", "Café — \U0001f600"),
        ("var aPageStart = (new Date()).getTime();", None),
        ("Dog Comb var aPageStart = (new Date()).getTime(); more()", "Dog Comb"),
        ("Dog Comb (function(w, d) { w.x = 1; })", "Dog Comb"),
        ("Dog Comb window.ue_ihb = (window.ue_ihb || 0) + 1;", "Dog Comb"),
        ("Dog Comb .a-box, .a-row { margin: 0; color: red }", "Dog Comb"),
        ("<img src='a.png' alt='Dog Comb'/>", None),
        ("", None),
    ],
)
def test_markup_is_not_shown(text: str, shown: str | None) -> None:
    assert visible_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "<Limited Edition> Comb",
        "I <3 dogs",
        "a < b",
        "a < b > c",
        "a <b and c> d",
        "5<6>4",
        "<Map of Paris>",
        "C++ <iostream>",
        "AT&T, R&D",
        "The set {a: b}",
        "E = mc2",
        "JavaScript: function and var (window on the code)",
        "<",
        "&",
    ],
)
def test_text_that_looks_like_markup_stays(text: str) -> None:
    assert visible_text(text) == text


@given(st.text(st.sampled_from("<>!-[]/&;#x= abp'\"{}(?\n"), max_size=60))
def test_any_text_has_one(text: str) -> None:
    """Nothing raises, and a column gives the same as one text after the other."""
    shown = visible_text(text)
    assert shown is None or (shown == squeeze(shown) and shown)
    assert visible_texts(pa.array([squeeze(text) or None, None], pa.string())).to_pylist() == [shown, None]


@pytest.mark.parametrize(
    "part", ["<a ", "<a b='", "<!--", "</", "&lt;", "<a x=1 ", "var x =", "a.b ", "{", "<![a", "<script>"]
)
def test_no_text_takes_long(part: str) -> None:
    """A megabyte of what is never closed; a parser that looks for the end from each of them would need hours."""
    visible_text(part * (1_000_000 // len(part)))
