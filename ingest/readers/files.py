"""Opening the files that the readers parse, plain or compressed, whole or cut off, with the errors a user can mend."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from isal import igzip, igzip_lib

from ingest.errors import Graph2ImageError

#: Bytes that are read at a time: more would not stay in the processor's cache.
READ_BYTES = 1 << 20

#: What reading a damaged archive raises; Arrow's zstd an OSError without a number.
_DAMAGE: tuple[type[Exception], ...] = (
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    cast(type[Exception], igzip_lib.IsalError),
    OSError,
)

_UNDECODED = re.compile("[\udc80-\udcff]")


@contextmanager
def explain_read_errors(path: Path) -> Iterator[None]:
    """Turn what can go wrong while `path` is read into a `Graph2ImageError`."""
    try:
        yield
    except OSError as error:
        raise Graph2ImageError(f"cannot read {path}: {error.strerror or error}") from error


class Content:
    """The bytes of a file, out of gzip or zstd if need be; an archive cut off ends early, and `damage` says so."""

    def __init__(self, path: Path, read_bytes: int = READ_BYTES) -> None:
        self.at_end = False
        self.damage: str | None = None
        self._path = path
        self._read_bytes = read_bytes
        self._stream = _open(path, igzip.open)
        self._read = 0

    def read(self) -> bytes:
        """The next piece; nothing at the end."""
        try:
            piece = self._stream.read(self._read_bytes)
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            self.damage = f"the archive is damaged: {error}"
            piece = self._readable_rest()
        self.at_end = not piece or self.damage is not None
        self._read += len(piece)
        return piece

    def _readable_rest(self) -> bytes:
        """What there is between the last read and the damage."""
        parts: list[bytes] = []
        try:
            with _open(self._path, gzip.open) as stream:
                left = self._read
                while left:
                    left -= len(stream.read(min(left, READ_BYTES)))
                while part := stream.read1(READ_BYTES):  # unlike `read`, it does not fail for what it lacks
                    parts.append(part)
        except _DAMAGE:
            pass
        return b"".join(parts)

    def skip_line(self) -> bytes:
        """Read to the end of a line; returns what was read of the next one."""
        while content := self.read():
            _, end, rest = content.partition(b"\n")
            if end:
                return rest
        return b""

    def close(self) -> None:
        self._stream.close()


def _open(path: Path, open_gzip: Callable[..., Any]) -> io.BufferedReader:
    """Open a file to read its content; what it is compressed with shows in its first bytes, whatever its name says."""
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic.startswith(b"\x1f\x8b"):
        return cast(io.BufferedReader, open_gzip(path))
    if magic == b"\x28\xb5\x2f\xfd":
        return cast(io.BufferedReader, pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


class _WholeLines(io.RawIOBase):
    """A file's content as a stream of bytes, without the line that the damage is in."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self._held: list[bytes] = []
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self.content.at_end:
            self._ready = memoryview(self._next())
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _next(self) -> bytes:
        """What is certain to be whole lines; nothing if that cannot be told yet."""
        piece = self.content.read()
        end = piece.rfind(b"\n") + 1
        if self.content.at_end and self.content.damage is None:
            end = len(piece)
        whole = b"".join([*self._held, piece[:end]]) if end or self.content.at_end else b""
        if self.content.damage is not None and not end:
            whole = whole[: whole.rfind(b"\n") + 1]
        self._held = [piece[end:]] if end else [*self._held, piece]
        return whole

    def close(self) -> None:
        self.content.close()
        super().close()


class TextFile(io.TextIOWrapper):
    """A text file as `open_text` opens it."""

    def __init__(self, path: Path, encoding: str, newline: str) -> None:
        self._content = Content(path)
        super().__init__(io.BufferedReader(_WholeLines(self._content)), encoding, "surrogateescape", newline)

    @property
    def damage(self) -> str | None:
        """At the end of the file: what is wrong with an archive that is cut off."""
        return self._content.damage


def open_text(path: Path, encoding: str = "utf-8", newline: str = "\n") -> TextFile:
    """Open a text file, plain or compressed, line ends as they are.

    Bytes that are not text in `encoding` become lone surrogates, so that the row they are in can be rejected
    (`is_text`) and the rows around it kept. A UTF-8 byte order mark is skipped.
    """
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    try:
        return TextFile(path, encoding, newline)
    except LookupError as error:
        raise Graph2ImageError(f"cannot read {path}: {error}") from error


def is_text(text: str) -> bool:
    """Whether what `open_text` read was properly encoded."""
    return text.isascii() or _UNDECODED.search(text) is None
