"""What the bytes of a file are packed in: gzip, zstd, bzip2 or xz, recognized by the first bytes, whatever the name.

Archives may have several members one after the other, skippable frames (as pzstd writes), and padding of zero bytes
behind them. What follows the last member and is none is damage, though all before it is whole.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol, cast

from backports import zstd
from isal import igzip_lib

#: Compressed bytes that are read at a time, and where a damage is, to get at all that is readable before it.
INPUT_BYTES = 1 << 17
CAREFUL_BYTES = 32

#: Bytes that show what a file is.
MAGIC_BYTES = 300

#: Containers and formats that hold no lines of text, by their first bytes.
_NO_TEXT = (
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"\x04\x22\x4d\x18", "packed with lz4"),
    (b"\x1f\x9d", "packed with compress"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"ORC", "an ORC file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"%PDF-", "a PDF"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a spreadsheet or another Office file"),
    (b"\x89PNG\r\n", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"\x93NUMPY", "a NumPy array"),
)


#: What the four libraries raise for a damaged archive.
_DAMAGE: tuple[type[Exception], ...] = (
    zlib.error,
    OSError,
    EOFError,
    lzma.LZMAError,
    zstd.ZstdError,
    cast(type[Exception], igzip_lib.IsalError),
)


class PackingError(Exception):
    """The archive is damaged.

    Parameters
    ----------
    offset
        Where in the file the bytes begin that could not be unpacked.
    whole
        Whether everything before `offset` was unpacked to its end, so that only what follows is bad.
    """

    def __init__(self, message: str, offset: int, *, whole: bool = False) -> None:
        super().__init__(message)
        self.offset = offset
        self.whole = whole


class _Decompressor(Protocol):
    """One member of an archive; the four libraries agree on this."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _gzip() -> _Decompressor:
    member: _Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return member


def _packing(start: bytes) -> Callable[[], _Decompressor] | None:
    """What unpacks a file that begins so."""
    if start.startswith(b"\x1f\x8b"):
        return _gzip
    if start.startswith(b"\x28\xb5\x2f\xfd") or (start[1:4] == b"\x2a\x4d\x18" and 0x50 <= start[0] <= 0x5F):
        return zstd.ZstdDecompressor
    if start.startswith(b"BZh") and start[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return bz2.BZ2Decompressor
    if start.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor
    return None


def kind_of_binary(start: bytes) -> str | None:
    """What a file is that begins so and holds no text."""
    if start[257:262] == b"ustar":
        return "a tar archive"
    return next((kind for magic, kind in _NO_TEXT if start.startswith(magic)), None)


def unpacked(path: Path, piece_bytes: int, careful_from: int | None = None) -> Generator[bytes]:
    """The content of a file in pieces of at most `piece_bytes` bytes.

    Parameters
    ----------
    careful_from
        Offset in the file from which little is unpacked at a time, so that what a damage is right behind is not lost
        with it.

    Raises
    ------
    PackingError
        If an archive is damaged, or cut off.
    """
    with path.open("rb", buffering=0) as file:
        start = file.read(MAGIC_BYTES)
        packing = _packing(start)
        file.seek(0)
        if packing is None:
            while piece := file.read(piece_bytes):
                yield piece
            return
        data, at = b"", 0
        while True:
            member = packing()
            began = at
            while not member.eof:
                if member.needs_input and not data:
                    careful = careful_from is not None and file.tell() >= careful_from
                    at = file.tell()
                    data = file.read(CAREFUL_BYTES if careful else INPUT_BYTES)
                    if not data:
                        raise PackingError("it ends too early", began)
                try:
                    piece = member.decompress(data, piece_bytes)
                except _DAMAGE as error:
                    raise PackingError(str(error), at) from error
                data = b""
                if piece:
                    yield piece
            data = member.unused_data.lstrip(b"\0")
            while len(data) < MAGIC_BYTES and (more := file.read(INPUT_BYTES)):
                data = (data + more).lstrip(b"\0")
            if not data:
                return
            at = file.tell() - len(data)
            if _packing(data[:MAGIC_BYTES]) is not packing:
                raise PackingError("what follows its end is no part of it", at, whole=True)
