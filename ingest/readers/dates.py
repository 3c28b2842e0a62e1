"""Years from the dates that catalogs give in words.

An interval spans every year and period that a text names: `1889-1890, reworked 1895` is 1889 to 1895, and so is
`1889; 1895`. Years BC are negative, and there is no year 0.

- `ca.`, `probably` and question marks do not widen an interval.
- A century is 1601 to 1700; `early`, `mid` and `late` are its thirds, and halves and quarters what they say.
- `1610s` is 1610 to 1619, `1600s` on its own 1600 to 1699, and beside another decade 1600 to 1609.
- `before` or `after` a single year or period is the `OPEN_YEARS` years up to it or from it on.
- A number without an era takes that of the next one that has it: `300-200 BC`.
"""

from __future__ import annotations

import re
from functools import lru_cache

#: How many years `before 1500` and `after 1500` reach.
OPEN_YEARS = 10

#: A later year is no date of a work.
LAST_YEAR = 2100

#: Characters that are looked at: a date is short, and a column that was mixed up may hold a page.
MAX_LENGTH = 200

_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−", "-"))

_ERA = r"(?:\s*(?P<{0}>b\.?\s?c\.?(?:\s?e\.?)?|a\.?\s?d\.?|c\.?\s?e\.?)(?![a-z]))?"
_CENT = r"[\s-]*c(?:\.|ent(?:ury|uries|\.)?)?(?![a-z])"
_PART = (
    r"(?:(?P<part>early|mid(?:dle)?|late|beginning|end|turn|(?:first|1st|second|2nd|third|3rd|fourth|4th|last)\s+(?:half|"
    r"third|quarter))(?:\s+of)?(?:\s+the)?[\s-]+)?"
)
#: What names a year or a period, the more special before the more general.
_PERIODS = (
    # 1931-05-12, and 12.5.1931 with day and month in either order
    r"(?P<iso>[0-9]{4})-[0-9]{2}-[0-9]{2}(?![0-9])",
    r"[0-9]{1,2}[./-][0-9]{1,2}[./-](?P<dmy>[0-9]{4})(?![0-9])",
    # 17th century, and the 16th of `16th-17th century`
    rf"(?P<ordinal>[0-9]{{1,2}})(?:st|nd|rd|th)(?:{_CENT})?{_ERA.format('ordinal_era')}",
    # XVII century, and the XVI of `XVI-XVII century`
    rf"(?P<roman>[xvi]+)(?:th)?(?=\s*(?:(?:[/-]|and|to|or)\s*[xvi]+(?:th)?)?{_CENT})",
    # 1610s
    rf"(?P<decade>[0-9]{{2,3}}0)'?s(?![a-z]){_ERA.format('decade_era')}",
    # 189? and 18??
    r"(?P<of_decade>[0-9]{3})-?\?",
    r"(?P<of_century>[0-9]{2})(?:\?\?|--)",
    # 1503-06, 1889/90
    r"(?P<start>[0-9]{3,4})\s?[/-]\s?(?P<tail>[0-9]{1,2})(?![0-9]|\s*(?:b\.?\s?c|st|nd|rd|th))",
    # AD 79, 1610, 50 BC
    r"a\.?d\.?\s*(?P<ad>[0-9]{1,4})(?![0-9])",
    rf"(?P<year>(?<![0-9])[0-9]{{1,5}})(?![0-9]){_ERA.format('year_era')}",
)
_PERIOD = re.compile(f"{_PART}(?:{'|'.join(_PERIODS)})")
_BEFORE = re.compile(
    r"\b(?:before|until|till|prior to|ante|(?:no|not) later than)\b|\bby (?:c\.?|ca\.?|circa)?\s*[0-9]"
)
_AFTER = re.compile(r"\b(?:after|since|post|(?:not|no) (?:before|earlier than))\b|[0-9]\s+onwards?\b")
_ANY_ERA = re.compile(r"\b(?:b\.?\s?c(?:\.?\s?e)?|a\.?\s?d|c\.?\s?e)\b")
_CENTURY = re.compile(r"[0-9xvi](?:st|nd|rd|th)?[\s-]*c(?:\.|ent|$|\s)")
_DECADE = re.compile(r"[0-9]0'?s\b")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")

#: (which, of how many) equal parts of a period.
_PARTS = {
    "early": (0, 3),
    "mid": (1, 3),
    "middle": (1, 3),
    "late": (2, 3),
    "beginning": (0, 10),
    "turn": (0, 10),
    "end": (9, 10),
}
_ORDINALS = {"first": 0, "1st": 0, "second": 1, "2nd": 1, "third": 2, "3rd": 2, "fourth": 3, "4th": 3, "last": -1}
_FRACTIONS = {"half": 2, "third": 3, "quarter": 4}
_ROMANS = {"i": 1, "v": 5, "x": 10}


@lru_cache(maxsize=1 << 16)
def year_interval(text: str) -> tuple[int, int] | None:
    """First and last year of a date in free text; None if it names no year.

    >>> year_interval("ca. 1610-1614"), year_interval("late 19th century"), year_interval("500 BC")
    ((1610, 1614), (1867, 1900), (-500, -500))
    """
    text = " ".join(text[:MAX_LENGTH].translate(_DASHES).lower().split())
    if not any("0" <= character <= "9" for character in text) and "cent" not in text:
        return None
    has_era = _ANY_ERA.search(text) is not None
    if has_era:
        text = _THOUSANDS.sub("", text)
    by_century = _CENTURY.search(text) is not None
    lone_decade = len(_DECADE.findall(text)) < 2
    periods: list[tuple[int, int]] = []
    era: str | None = None
    # From the end, for an era holds for what stands before it.
    for found in reversed(list(_PERIOD.finditer(text))):
        era = _era(found) or era
        period = _period(found, by_century, has_era, lone_decade)
        if period is None:
            continue
        if era == "b":
            period = -period[1], -period[0]
        if found["part"]:
            period = _part_of(period, found["part"])
        periods.append(period)
    if not periods:
        return None
    first, last = min(start for start, _ in periods), max(end for _, end in periods)
    if len(periods) == 1:
        if _AFTER.search(text):
            return last, _shifted(last, OPEN_YEARS)
        if _BEFORE.search(text):
            return _shifted(first, -OPEN_YEARS), first
    return first, last


def _era(found: re.Match[str]) -> str | None:
    """`b` for BC, `a` for AD, None where it is not said."""
    if found["ad"]:
        return "a"
    era = found["ordinal_era"] or found["decade_era"] or found["year_era"]
    return None if era is None else "b" if era.startswith("b") else "a"


def _period(found: re.Match[str], by_century: bool, has_era: bool, lone_decade: bool) -> tuple[int, int] | None:
    """Years from 1 on, whatever the era."""
    if ordinal := found["ordinal"] or found["roman"]:
        number = int(ordinal) if ordinal.isdigit() else _roman(ordinal)
        # Without a century in the text it is the day of a month.
        return _valid(100 * number - 99, 100 * number) if by_century else None
    if found["decade"]:
        start = int(found["decade"])
        return _valid(start, start + (99 if start % 100 == 0 and lone_decade else 9))
    if decade := found["of_decade"]:
        return _valid(10 * int(decade), 10 * int(decade) + 9)
    if century := found["of_century"]:
        return _valid(100 * int(century), 100 * int(century) + 99)
    if found["start"]:
        start, tail = int(found["start"]), found["tail"]
        end = int(found["start"][: -len(tail)] + tail)
        # 1889-05 is a month.
        return _valid(start, end if end >= start else start)
    year = found["iso"] or found["dmy"] or found["ad"] or found["year"]
    if found["year"] and len(year) < 3 and not has_era:
        return None
    return _valid(int(year), int(year), LAST_YEAR if not has_era else 99_999)


def _valid(start: int, end: int, last_year: int = LAST_YEAR) -> tuple[int, int] | None:
    return (max(start, 1), end) if end >= 1 and start <= last_year else None


def _part_of(period: tuple[int, int], part: str) -> tuple[int, int]:
    """`early`, `first half` … of the years of `period`."""
    if part in _PARTS:
        which, count = _PARTS[part]
    else:
        ordinal, fraction = part.split()
        count = _FRACTIONS[fraction]
        which = _ORDINALS[ordinal] % count
    start, end = period
    years = end - start + 1
    return (start + which * years // count, start + max((which + 1) * years // count - 1, which * years // count))


def _shifted(year: int, years: int) -> int:
    """`year` and `years` more; there is no year 0."""
    # As astronomers count, 1 BC is 0.
    astronomical = year + (year < 0) + years
    return astronomical - (astronomical <= 0)


def _roman(number: str) -> int:
    values = [_ROMANS[letter] for letter in number]
    return sum(
        -value if value < following else value for value, following in zip(values, [*values[1:], 0], strict=True)
    )
