"""What files are packed in and encoded as: every legal form gives the same rows, and others a message."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from backports import zstd

from ingest.errors import Graph2ImageError
from ingest.readers.files import open_text
from ingest.readers.lines import read_blocks
from ingest.records import RejectReason

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": partial(zstd.compress, options={zstd.CompressionParameter.checksum_flag: 1}),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"size"


def _read(path: Path) -> tuple[bytes, list[tuple[int | None, RejectReason]]]:
    """Lines that are not blank, and rejects."""
    lines, rejects = [], []
    for block in read_blocks(path, 1000):
        lines += [line for line in block.lines if line]
        rejects += [(reject.row, reject.reason) for reject in block.rejects]
    return b"\n".join(lines), rejects


@pytest.mark.parametrize("packing", PACKERS)
def test_members_and_padding(tmp_path: Path, packing: str) -> None:
    pack = PACKERS[packing]
    path = tmp_path / "rows.json"
    for content in (
        pack(b"a\nb\nc"),
        pack(b"a\nb") + pack(b"\nc"),
        pack(b"a\n") + pack(b"") + b"\0" * 4 + pack(b"b\nc\n"),
        pack(b"a\nb\nc") + b"\0" * 512,
    ):
        path.write_bytes(content)
        assert _read(path) == (b"a\nb\nc", [])


def test_skippable_frames_of_zstd(tmp_path: Path) -> None:
    path = tmp_path / "rows.zst"
    for variant in range(16):
        skippable = bytes([0x50 + variant]) + SKIPPABLE[1:]
        path.write_bytes(skippable + zstd.compress(b"a\n") + skippable + zstd.compress(b"b") + skippable)
        assert _read(path) == (b"a\nb", [])


@pytest.mark.parametrize("packing", PACKERS)
def test_what_follows_an_archive_and_is_none(tmp_path: Path, packing: str) -> None:
    """All rows are there, the last one without its line end, and the rest is told of."""
    path = tmp_path / "rows"
    path.write_bytes(PACKERS[packing](b"a\nb\nc") + b"--boundary--")
    assert _read(path) == (b"a\nb\nc", [(4, RejectReason.FILE_DAMAGED)])


@pytest.mark.slow
@pytest.mark.parametrize("packing", PACKERS)
def test_rows_before_a_cut_or_a_flipped_byte(tmp_path: Path, packing: str) -> None:
    rng = random.Random(0)
    lines = [rng.randbytes(60).hex().encode() for _ in range(30_000)]
    packed = PACKERS[packing](b"\n".join(lines))
    path = tmp_path / "rows"
    half = len(packed) // 2
    for content in (packed[:half], packed[:half] + bytes([packed[half] ^ 255]) + packed[half + 1 :]):
        path.write_bytes(content)
        read, rejects = _read(path)
        found = read.split(b"\n")
        assert rejects == [(len(found) + 1, RejectReason.FILE_DAMAGED)]
        # A flipped byte may first give some wrong text, of which the check sum tells only later.
        assert 0 < len(found) <= len(lines)
        assert found[: len(found) // 3] == lines[: len(found) // 3]


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("packing", [None, "gzip"])
def test_unicode_in_every_encoding(tmp_path: Path, encoding: str, packing: str | None) -> None:
    """With the mark of its byte order where it has one, or told from its first characters."""
    text = '{"title": "D\u00fcrers Hase \U0001f407"}\n{"title": "\u0a0a"}\n'
    path = tmp_path / "rows"
    content = text.encode(encoding)
    path.write_bytes(PACKERS[packing](content) if packing else content)
    assert _read(path) == (text.rstrip().encode(), [])
    with open_text(path) as stream:
        assert stream.read() == text


def test_half_a_character_is_in_one_row_only(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes("\ufeffone\ntwo".encode("utf-16-le") + b"\x00\xd8" + "\nthree\n".encode("utf-16-le") + b"x")
    assert _read(path)[0] == b"one\ntwo\xff\nthree\n\xff"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("zip", "a zip archive"), ("tar.gz", "a tar archive"), ("parquet", "a Parquet file"), ("lz4", "packed with lz4")],
)
def test_what_holds_no_lines_is_refused_by_name(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"rows.{name}"
    if name == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("rows.json", "{}")
    elif name == "tar.gz":
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(tarfile.TarInfo("rows.json"), io.BytesIO())
    else:
        path.write_bytes({"parquet": b"PAR1\x1b[31m", "lz4": b"\x04\x22\x4d\x18\x1b[31m"}[name])
    with pytest.raises(Graph2ImageError, match=f"is {kind}, not lines of text") as caught:
        list(read_blocks(path))
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["no-such", "base64", "undefined", "a\0b"])
def test_encodings_that_are_none(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"a")
    with pytest.raises(Graph2ImageError, match="cannot read"):
        open_text(path, encoding)
