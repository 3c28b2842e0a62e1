"""CSV and TSV: no line is lost, whatever its quotes are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.readers.delimited import MAX_ROW_LINES, DelimitedRow, Format, find_header, read_delimited

HEADER = ["id", "title", "color"]
CSV, TSV = Format(","), Format("\t")


def _read(path: Path, content: str, format_: Format) -> tuple[dict[int, list[str]], list[int]]:
    """Rows by line, and the lines of the rejects."""
    path.write_text(content, newline="")
    header = find_header(path, format_, lambda cells: cells == HEADER)
    assert isinstance(header, tuple)
    rows: dict[int, list[str]] = {}
    rejects = []
    for row in read_delimited(path, format_, *header):
        if row.cells is None:
            rejects.append(row.line)
            assert row.raw
        else:
            rows[row.line] = row.cells
    return rows, rejects


def test_captions_that_begin_with_a_quote(tmp_path: Path) -> None:
    """Of a table that quotes nothing: the two rows are rejects, all others are there."""
    lines = ["\t".join(HEADER), *(f"{n}\that {n}\tred" for n in range(2, 11))]
    lines[3] = '4\t"A fine" hat\tred'
    lines[6] = '7\t"Another hat\tred'
    rows, rejects = _read(tmp_path / "t.tsv", "\n".join(lines), TSV)
    assert (list(rows), rejects) == ([2, 3, 5, 6, 8, 9, 10], [4, 7])


def test_quotes_that_would_make_one_row_of_many(tmp_path: Path) -> None:
    content = 'id\ttitle\tcolor\n2\t"A hat\tred\n3\tB hat\tblue\n4\tC "hat"\tred\n5\tD hat"\tred\n'
    rows, rejects = _read(tmp_path / "t.tsv", content, TSV)
    assert (list(rows), rejects) == ([3, 4, 5], [2])


def test_nothing_is_quoted_if_the_spec_says_so(tmp_path: Path) -> None:
    content = 'id\ttitle\tcolor\n2\t"A" hat\tred\n3\t"B hat\tblue\n4\tC hat"\t""\n'
    rows, rejects = _read(tmp_path / "t.tsv", content, Format("\t", quoted=False))
    assert rejects == []
    assert rows == {2: ["2", '"A" hat', "red"], 3: ["3", '"B hat', "blue"], 4: ["4", 'C hat"', '""']}


@pytest.mark.parametrize("quote_all", [True, False])
def test_one_closing_quote_is_missing(tmp_path: Path, quote_all: bool) -> None:
    """Only its own row is a reject, and the reject shows it."""
    rows = [f'"{n}","hat {n}","red"' if quote_all else f"{n},hat {n},red" for n in range(2, 22)]
    rows[5] = '7,"hat 7,red'
    path = tmp_path / "t.csv"
    found, rejects = _read(path, "id,title,color\n" + "\n".join(rows), CSV)
    assert rejects == [7]
    assert list(found) == [n for n in range(2, 22) if n != 7]
    (reject,) = [row for row in read_delimited(path, CSV, 1, HEADER) if row.cells is None]
    assert reject.raw == '7,"hat 7,red'


def test_a_cell_may_have_many_lines(tmp_path: Path) -> None:
    cell = "\n".join(f"line, {n}" for n in range(MAX_ROW_LINES // 2))
    content = f'id,title,color\r\n\r\n2,"{cell}",red\r\n3,hat,"a\r\nb"\r\n'
    rows, rejects = _read(tmp_path / "t.csv", content, CSV)
    assert rejects == []
    assert list(rows.values()) == [["2", cell, "red"], ["3", "hat", "a\r\nb"]]


def test_line_ends_of_every_kind(tmp_path: Path) -> None:
    for end in ("\n", "\r\n", "\r"):
        rows, _ = _read(tmp_path / "t.csv", end.join(["id,title,color", "1,hat,red", "2,cap,blue"]), CSV)
        assert rows == {2: ["1", "hat", "red"], 3: ["2", "cap", "blue"]}


def test_the_header_need_not_be_the_first_line(tmp_path: Path) -> None:
    content = "# exported today\n\nid,title,color\n1,hat,red\nid,title,color\n2,cap,blue\n"
    rows, rejects = _read(tmp_path / "t.csv", content, CSV)
    assert (list(rows), rejects) == ([4, 6], [1])


def test_what_there_is_instead_of_a_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n\n")
    assert find_header(path, CSV, lambda cells: True) is None
    path.write_text("a,b\n1,2\n")
    found = find_header(path, CSV, lambda cells: "id" in cells)
    assert isinstance(found, DelimitedRow)
    assert (found.line, found.cells) == (1, ["a", "b"])


@given(st.lists(st.text(st.sampled_from('ab",\t\r'), max_size=8), max_size=12), st.booleans())
@example(['"', "a", '"'], False)
@example(['a,"b', 'a,"b', 'a"'], False)
def test_every_line_is_accounted_for(tmp_path: Path, lines: list[str], quoted: bool) -> None:
    """The reader checks the sum itself; and no row begins where another still goes on."""
    rows, rejects = _read(tmp_path / "t.csv", "id,title,color\n" + "\n".join(lines), Format(",", quoted=quoted))
    starts = sorted([*rows, *rejects])
    assert starts == sorted(set(starts))
