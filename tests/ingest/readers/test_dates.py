"""Years from free text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.readers.dates import year_interval

CASES = {
    "1610": (1610, 1610),
    "(1610)": (1610, 1610),
    "1610?": (1610, 1610),
    "ca. 1610-1614": (1610, 1614),
    "c.1885": (1885, 1885),
    "c. 1885 – c. 1890": (1885, 1890),
    "circa 1885": (1885, 1885),
    "between 1503 and 1506": (1503, 1506),
    "1503-06": (1503, 1506),
    "1889/90": (1889, 1890),
    "1889-90; reworked 1895": (1889, 1895),
    "1889-1890": (1889, 1890),
    "1889 - 1890": (1889, 1890),
    "1903-6": (1903, 1906),
    "1890-1889": (1889, 1890),
    "1889-05": (1889, 1889),
    "June 1889": (1889, 1889),
    "June 12th, 1889": (1889, 1889),
    "12 June 1889": (1889, 1889),
    "12.5.1931": (1931, 1931),
    "05/12/1931": (1931, 1931),
    "1903-06-12": (1903, 1903),
    "1610s": (1610, 1619),
    "late 1610's": (1616, 1619),
    "1890s-1900s": (1890, 1909),
    "1600s": (1600, 1699),
    "early 1600s": (1600, 1632),
    "17th century": (1601, 1700),
    "17th c.": (1601, 1700),
    "17th-18th century": (1601, 1800),
    "late 16th - early 17th century": (1567, 1633),
    "late 19th century": (1867, 1900),
    "mid-19th century": (1834, 1866),
    "first half of the 19th century": (1801, 1850),
    "2nd half 19th century": (1851, 1900),
    "last quarter of the 15th century": (1476, 1500),
    "end of the 18th century": (1791, 1800),
    "XVII century": (1601, 1700),
    "XIV-XVth century": (1301, 1500),
    "before 1500": (1490, 1500),
    "by 1660": (1650, 1660),
    "after 1700": (1700, 1710),
    "after 1700, before 1720": (1700, 1720),
    "not before 1700": (1700, 1710),
    "before the 17th century": (1591, 1601),
    "18??": (1800, 1899),
    "189?": (1890, 1899),
    "500 BC": (-500, -500),
    "ca. 50 B.C.": (-50, -50),
    "300-200 BC": (-300, -200),
    "50-30 BCE": (-50, -30),
    "30,000 BC": (-30000, -30000),
    "AD 79": (79, 79),
    "79 AD": (79, 79),
    "850 CE": (850, 850),
    "50 BC - 50 AD": (-50, 50),
    "2nd century BC": (-200, -101),
    "late 2nd century BC": (-134, -101),
    "1st century BC - 1st century AD": (-100, 100),
    "before 5 AD": (-6, 5),
    "1610 (painted in Delft)": (1610, 1610),
    "dated 1610 by a later hand": (1610, 1610),
    "": None,
    "unknown": None,
    "n.d.": None,
    "20th of May": None,
    "twentieth century": None,
    "56 x 47 cm": None,
    "No. 5": None,
    "99999": None,
    "0000": None,
    "²³ ١٦١٠": None,
}


@pytest.mark.parametrize(("text", "interval"), CASES.items())
def test_dates(text: str, interval: tuple[int, int] | None) -> None:
    assert year_interval(text) == interval


WORDS = st.sampled_from([
    " ", "-", "/", ",", ".", "?", "–", "ca.", "early", "late", "mid", "end of", "first half of the", "last third",
    "century", "th", "xvi", "bc", "AD", "CE", "before", "after", "to", "s", "1600", "1610", "03", "6", "19", "0",
])  # fmt: skip


@given(st.one_of(st.text(max_size=40), st.lists(WORDS, max_size=12).map("".join), st.lists(WORDS).map(" ".join)))
def test_any_text_is_an_interval_or_none(text: str) -> None:
    interval = year_interval(text)
    if interval is not None:
        first, last = interval
        assert first <= last
        assert 0 not in interval


@given(st.integers(1, 2100), st.integers(0, 500))
def test_two_years_are_the_interval_between_them(year: int, more: int) -> None:
    first, last = max(year, 100), min(max(year, 100) + more, 2100)
    assert year_interval(f"ca. {first}-{last}") == (first, last)
    assert year_interval(f"{first} to {last} AD") == (first, last)
    assert year_interval(f"{last}-{first} BC") == (-last, -first)


def test_a_page_of_text_takes_no_time_and_says_nothing() -> None:
    assert year_interval("x" * 10_000_000 + " 1610") is None
    assert year_interval("1 - " * 100_000) is None
