"""Rows of CSV and TSV files, each with the number of its line; no line of a file is lost on the way.

A quote that is never closed swallows the lines behind it. So when a row turns out wrong, only its first line is a
reject, and the next row is looked for on the line after it. Every line is accounted for: it belongs to a row or to a
reject, is blank, or names the columns; the sum is checked at the end of the file.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ingest.readers.files import is_text, open_text
from ingest.records import RejectReason, RejectRecord

#: A row with more lines or longer fields has a quote too many.
MAX_ROW_LINES = 1000
MAX_FIELD_CHARACTERS = 1 << 24


@dataclass(frozen=True)
class Format:
    """How the file is written.

    Attributes
    ----------
    quoted
        Whether a field may stand in double quotes; if not, a quote is a character like any other.
    """

    delimiter: str
    quoted: bool = True
    encoding: str = "utf-8"


@dataclass(frozen=True)
class DelimitedRow:
    """A row, or a line that is none.

    Attributes
    ----------
    line
        Number of its first line, from 1.
    cells
        The fields; None for a reject.
    raw
        The row as it is in the file.
    """

    line: int
    cells: list[str] | None
    raw: str
    reason: RejectReason = RejectReason.MALFORMED_ROW
    detail: str = ""

    def reject(self, file: str) -> RejectRecord:
        """The line as a reject of that file."""
        return RejectRecord(file, self.line, self.reason, self.detail, self.raw)


class _Lines:
    """The lines of a file; a row that went wrong gives back those that it took by mistake."""

    def __init__(self, path: Path, format_: Format) -> None:
        self.stream = open_text(path, format_.encoding, newline="")
        self.number = 0
        #: Those that the present row has taken.
        self.taken: list[str] = []
        self.read = 0
        self._returned: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) == MAX_ROW_LINES:
            raise csv.Error(f"a quoted field has over {MAX_ROW_LINES} lines")
        if self._returned:
            line = self._returned.popleft()
        else:
            line = self.stream.readline()
            if not line:
                raise StopIteration
            self.read += 1
        self.taken.append(line)
        return line

    def give_back(self) -> None:
        """Only the first line was taken rightly."""
        self._returned.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    def close(self) -> None:
        self.stream.close()


def find_header(
    path: Path, format_: Format, is_header: Callable[[list[str]], bool]
) -> tuple[int, list[str]] | DelimitedRow | None:
    """The line of column names with its number.

    Nearly always it is the first; but lines that are none, such as notes on the file, may stand before it.

    Returns
    -------
    header
        If there is none, the first row of the file for a message, and None for an empty file.
    """
    first: DelimitedRow | None = None
    for row in _rows(path, format_):
        if row.cells is not None and is_header(row.cells):
            return row.line, row.cells
        first = first or row
    return first


def read_delimited(path: Path, format_: Format, header_line: int, header: list[str]) -> Iterator[DelimitedRow]:
    """The rows behind the header, each with as many fields as there are columns, and the lines that are no rows.

    A line that repeats the header, as in files that were joined, is no row either, and no reject.
    """
    for row in _rows(path, format_, len(header)):
        if row.cells is None:
            yield row
        elif row.line < header_line:
            detail = "the line stands before the one of the column names"
            yield DelimitedRow(row.line, None, row.raw, RejectReason.MALFORMED_ROW, detail)
        elif row.cells != header:
            yield row


def _rows(path: Path, format_: Format, width: int | None = None) -> Iterator[DelimitedRow]:
    """All rows that are not blank; with `width` those of another number of fields as rejects."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if format_.quoted else csv.QUOTE_NONE
    with closing(_Lines(path, format_)) as lines:
        reader = csv.reader(lines, delimiter=format_.delimiter, quoting=quoting, strict=True)
        accounted = 0
        while True:
            lines.taken.clear()
            number = accounted + 1
            problem: tuple[RejectReason, str] | None = None
            cells: list[str] = []
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                problem = (RejectReason.MALFORMED_ROW, _explained(error, lines.taken, format_, width))
                lines.give_back()
            else:
                if width is not None and cells:
                    problem = _problem(cells, lines.taken, format_, width)
                    if problem and any(_is_whole(line, format_, width) for line in lines.taken[1:]):
                        lines.give_back()
            accounted += len(lines.taken)
            raw = "".join(lines.taken).rstrip("\r\n")
            if problem is not None:
                yield DelimitedRow(number, None, raw, *problem)
            elif cells:
                yield DelimitedRow(number, cells, raw)
        if accounted != lines.read:
            raise RuntimeError(f"{path.name}: {lines.read} lines were read, and {accounted} became something")
        if lines.stream.damage is not None:
            yield DelimitedRow(accounted + 1, None, "", RejectReason.FILE_DAMAGED, lines.stream.damage)


def _problem(cells: list[str], lines: list[str], format_: Format, width: int) -> tuple[RejectReason, str] | None:
    """Why the cells are no row."""
    if len(cells) != width:
        return RejectReason.MALFORMED_ROW, f"{len(cells)} fields instead of {width}"
    if not all(map(is_text, cells)):
        return RejectReason.BAD_ENCODING, f"the row is not {format_.encoding} text"
    # Tables with tabs are often written without any quoting, and then a quote at the start of one field and one at the
    # end of another, lines below, would make one row of many.
    if len(lines) > 1 and format_.delimiter == "\t" and all(line.count("\t") == width - 1 for line in lines):
        return RejectReason.MALFORMED_ROW, f"a quote takes {len(lines)} lines for one row{_ADVICE}"
    return None


_ADVICE = "; if the table quotes nothing, say so in its spec: quoted = false"


def _explained(error: csv.Error, lines: list[str], format_: Format, width: int | None) -> str:
    """What is wrong with the first of the lines."""
    unquoted = format_.delimiter == "\t" and width is not None and lines[:1] and lines[0].count("\t") == width - 1
    return f"{error}{_ADVICE if unquoted else ''}"


def _is_whole(line: str, format_: Format, width: int) -> bool:
    """Whether a line is a row by itself."""
    try:
        return any(len(cells) == width for cells in csv.reader([line], delimiter=format_.delimiter, strict=True))
    except csv.Error:
        return False
