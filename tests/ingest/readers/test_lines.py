"""Reading files line by line: compressed or not, damaged or not, with bounded memory."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batches import Batch, BatchBuilder
from ingest.errors import Graph2ImageError
from ingest.readers.lines import MAX_LINE_BYTES, Block, first_lines, read_batches, read_blocks
from ingest.records import RejectReason, RejectRecord


def _zstd(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content))


def _lines(path: Path, block_bytes: int = 1 << 20) -> tuple[list[tuple[int, bytes]], list[RejectRecord]]:
    """Numbered lines that are not blank, and rejects."""
    rows, rejects = [], []
    for block in read_blocks(path, block_bytes):
        rows += [(number, line) for number, line in enumerate(block.lines, block.first_row) if line]
        rejects += block.rejects
    return rows, rejects


@pytest.mark.parametrize("pack", [bytes, gzip.compress, _zstd], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("name", ["rows.json", "rows.gz"])
def test_compression_is_told_from_the_content(tmp_path: Path, pack, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(pack(b"a\n\nb\r\nc"))
    assert _lines(path) == ([(1, b"a"), (3, b"b\r"), (4, b"c")], [])


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=400), st.integers(1, 40))
def test_blocks_hold_every_line_once(tmp_path: Path, content: bytes, block_bytes: int) -> None:
    content = b"x" + content.replace(b"\xff", b".")
    path = tmp_path / "any"
    path.write_bytes(content)
    numbered = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line]
    assert _lines(path, block_bytes) == (numbered, [])


def test_several_archives_in_one_file(tmp_path: Path) -> None:
    for name, pack in (("a.gz", gzip.compress), ("a.zst", _zstd)):
        path = tmp_path / name
        path.write_bytes(pack(b"a\nb") + pack(b"c\nd\n"))
        assert _lines(path) == ([(1, b"a"), (2, b"bc"), (3, b"d")], [])


def test_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    assert _lines(path)[0] == [(1, b"a"), (2, b"\xef\xbb\xbfb")]


@pytest.mark.parametrize("pack", [gzip.compress, _zstd], ids=["gzip", "zstd"])
def test_rows_before_the_cut_are_kept(tmp_path: Path, pack) -> None:
    rng = random.Random(0)
    lines = [rng.randbytes(60).hex().encode() for _ in range(50_000)]
    path = tmp_path / "cut"
    path.write_bytes(pack(b"\n".join(lines))[:-400_000])
    rows, rejects = _lines(path)
    assert 10_000 < len(rows) < 50_000
    assert [line for _, line in rows] == lines[: len(rows)]
    (reject,) = rejects
    assert (reject.reason, reject.row) == (RejectReason.FILE_DAMAGED, len(rows) + 1)
    assert reject.detail.startswith("the archive is damaged")
    # What is left of the line that the cut is in.
    assert lines[len(rows)].startswith(bytes(reject.raw))


def test_gzip_gives_all_that_was_readable(tmp_path: Path) -> None:
    """As much as a byte by byte reading gives, not only what came before the last full buffer."""
    lines = [random.Random(n).randbytes(30).hex().encode() for n in range(3000)]
    packed = gzip.compress(b"\n".join(lines))
    path = tmp_path / "cut.gz"
    path.write_bytes(packed[: len(packed) // 2])
    readable = b""
    try:
        with gzip.open(path) as stream:
            while byte := stream.read(1):
                readable += byte
    except EOFError:
        pass
    rows, _ = _lines(path)
    assert len(rows) == readable.count(b"\n")


def test_garbage_after_a_gzip_header(tmp_path: Path) -> None:
    path = tmp_path / "bad.gz"
    path.write_bytes(b"\x1f\x8b" + b"nonsense" * 9)
    rows, rejects = _lines(path)
    assert (rows, [reject.reason for reject in rejects]) == ([], [RejectReason.FILE_DAMAGED])


def test_a_line_that_is_too_long_is_a_reject(tmp_path: Path) -> None:
    """The line of 200 MB is skipped in little memory, and its neighbors are read."""
    path = tmp_path / "long.gz"
    with gzip.open(path, "wb", 1) as stream:
        stream.write(b"first\n")
        for _ in range(200):
            stream.write(b"x" * (1 << 20))
        stream.write(b"\nlast\n")
    script = """
import resource, sys
from pathlib import Path
from ingest.readers.lines import read_blocks
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for block in read_blocks(Path(sys.argv[1])):
    for number, line in enumerate(block.lines, block.first_row):
        if line: print(number, line.decode())
    for reject in block.rejects: print(reject.row, reject.reason, len(reject.raw))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    run = subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True, text=True)
    *found, peak = run.stdout.splitlines()
    assert found == ["1 first", "2 line_too_long 4096", "3 last"]
    assert int(peak) < 120
    assert MAX_LINE_BYTES < 200 << 20


@pytest.mark.slow
def test_a_damaged_archive_in_a_line_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "long.gz"
    packed = gzip.compress(b"a\n" + random.Random(0).randbytes(MAX_LINE_BYTES + (16 << 20)).replace(b"\n", b""), 1)
    path.write_bytes(packed[:-1000])
    rows, rejects = _lines(path)
    assert rows == [(1, b"a")]
    assert [(reject.row, reject.reason) for reject in rejects] == [
        (2, RejectReason.LINE_TOO_LONG),
        (3, RejectReason.FILE_DAMAGED),
    ]


def test_an_empty_file_holds_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b"")
    with pytest.raises(Graph2ImageError, match=f"{path} is empty"):
        list(read_blocks(path))


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match=r"cannot read .*absent: No such file"):
        list(read_blocks(tmp_path / "absent"))
    with pytest.raises(Graph2ImageError, match=r"cannot read .*: Is a directory"):
        list(read_blocks(tmp_path))


def test_a_row_that_a_parser_loses_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"a\n \n\nb\n\x1f\nlost\nc\n")
    with pytest.raises(RuntimeError, match="5 rows from line 1 on, but 4 came out"):
        list(read_batches(path, _parse))


def test_first_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"\n\na\n \nb\nc\n")
    assert first_lines(path, 2) == [b"a", b"b"]
    assert first_lines(path, 9) == [b"a", b"b", b"c"]


def _parse(block: Block) -> Batch:
    batch = BatchBuilder("s", block.file, "Thing", pa.schema([]))
    for number, line in enumerate(block.lines, block.first_row):
        if line == b"crash":
            raise ZeroDivisionError
        if line == b"lost" or not line.strip():
            continue
        batch.rows.append(number)
        batch.ids.append(line.decode())
        batch.raw_rows.append(line)
    return batch.finish()


@pytest.mark.slow
def test_processes_give_the_same_batches_in_the_same_order(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"\n".join(b"%0999d" % number for number in range(30_000)))
    alone = list(read_batches(path, _parse))
    several = list(read_batches(path, _parse, workers=2))
    assert len(alone) >= 3
    assert [batch.items.to_pydict() for batch in several] == [batch.items.to_pydict() for batch in alone]
    path.write_bytes(b"a\ncrash\n")
    with pytest.raises(ZeroDivisionError):
        list(read_batches(path, _parse, workers=2))
