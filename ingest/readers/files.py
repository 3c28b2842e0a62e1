"""Opening the files that the readers parse, plain or compressed, whole or cut off, with the errors a user can mend.

Whatever the encoding of a file, its content is UTF-8 from here on: UTF-16 and UTF-32 are recognized by their byte order
mark or by the zero bytes of their first characters (as in RFC 4627), and others are declared. What is no text in its
encoding becomes bytes that are no UTF-8, so that the row it is in can be rejected and the rows around it kept.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ingest.errors import Graph2ImageError
from ingest.readers.packing import MAGIC_BYTES, PackingError, kind_of_binary, unpacked

#: Bytes that are read at a time: more would not stay in the processor's cache.
READ_BYTES = 1 << 20

_UNDECODED = re.compile("[\udc80-\udcff]")

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

#: Which of the first bytes are zero in text that begins with ASCII characters.
_ZEROS = {
    "0111" * 4: "utf-32-le",
    "1110" * 4: "utf-32-be",
    "01" * 8: "utf-16-le",
    "10" * 8: "utf-16-be",
}

#: Stands for what could not be decoded; `surrogateescape` makes it the byte FF, which is never UTF-8.
codecs.register_error("ingest.undecoded", lambda error: ("\udcff", getattr(error, "end", 0)))


@contextmanager
def explain_read_errors(path: Path) -> Iterator[None]:
    """Turn what can go wrong while `path` is read into a `Graph2ImageError`."""
    try:
        yield
    except OSError as error:
        raise Graph2ImageError(f"cannot read {path}: {error.strerror or error}") from error


def printable(text: str, characters: int = 60) -> str:
    """What may be shown of a text from a file: on one line, no longer than that, and nothing that steers a terminal."""
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text[:characters])
    return shown if len(text) <= characters else f"{shown}…"


class Content:
    """The bytes of a text file, unpacked and as UTF-8; an archive cut off ends early, and `damage` says so.

    Attributes
    ----------
    at_end
        Whether everything has been read.
    damage
        What is wrong with the archive, or None.
    is_cut
        Whether the damage may be in the middle of the last line.

    Raises
    ------
    Graph2ImageError
        If the file holds no text, such as a zip archive, or if `encoding` is not known.
    """

    def __init__(self, path: Path, read_bytes: int = READ_BYTES, encoding: str = "utf-8") -> None:
        self.at_end = False
        self.damage: str | None = None
        self.is_cut = False
        self._path = path
        self._read_bytes = read_bytes
        self._pieces = unpacked(path, read_bytes)
        self._unpacked_bytes = 0
        self._exhausted = False
        self._start = b""
        while len(self._start) < MAGIC_BYTES and not self._exhausted:
            self._start += self._next()
        if kind := kind_of_binary(self._start):
            raise Graph2ImageError(
                f"{path} is {kind}, not lines of text",
                "Give the text itself, plain or packed with gzip, zstd, bzip2 or xz.",
            )
        mark, encoding = self._encoding(encoding)
        self._start = self._start.removeprefix(mark)
        self._decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("ingest.undecoded")

    def _encoding(self, declared: str) -> tuple[bytes, str]:
        """The byte order mark and the encoding; what the bytes show counts unless another encoding is declared."""
        try:
            codec = codecs.lookup(declared)
            "".encode(declared)
        except (LookupError, ValueError) as error:
            raise Graph2ImageError(f"cannot read {self._path}: {error}") from error
        name = "utf-8" if codec.name == "utf-8-sig" else codec.name
        marked = next(((mark, found) for mark, found in _MARKS if self._start.startswith(mark)), None)
        if marked and name in ("utf-8", "utf-16", "utf-32", marked[1]):
            return marked
        zeros = "".join("1" if byte == 0 else "0" for byte in self._start[:16])
        return b"", _ZEROS.get(zeros, name) if name == "utf-8" else name

    def read(self) -> bytes:
        """The next piece; nothing at the end."""
        while True:
            piece, self._start = self._start or self._next(), b""
            self.at_end = self._exhausted
            if self._decoder is None:
                return piece
            text = self._decoder.decode(piece, final=self.at_end)
            if text or self.at_end:
                return text.encode("utf-8", "surrogateescape")

    def _next(self) -> bytes:
        """The next piece as it is in the file."""
        if self._exhausted:
            return b""
        try:
            piece = next(self._pieces, b"")
        except PackingError as error:
            self.damage = f"the archive is damaged: {error}"
            self.is_cut = not error.whole
            piece = b"" if error.whole else self._readable_rest(error.offset)
        self._exhausted = not piece or self.damage is not None
        self._unpacked_bytes += len(piece)
        return piece

    def _readable_rest(self, offset: int) -> bytes:
        """What there is between the last piece and the damage, somewhere behind `offset` in the file."""
        parts: list[bytes] = []
        left = self._unpacked_bytes
        try:
            for piece in unpacked(self._path, self._read_bytes, careful_from=offset):
                parts.append(piece[left:])
                left = max(left - len(piece), 0)
        except PackingError:
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
        self._pieces.close()


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
        """What is certain to be whole lines; nothing if that is not known yet."""
        piece = self.content.read()
        end = piece.rfind(b"\n") + 1
        if self.content.at_end and not self.content.is_cut:
            end = len(piece)
        whole = b"".join([*self._held, piece[:end]]) if end or self.content.at_end else b""
        if self.content.is_cut and not end:
            whole = whole[: whole.rfind(b"\n") + 1]
        self._held = [piece[end:]] if end else [*self._held, piece]
        return whole

    def close(self) -> None:
        self.content.close()
        super().close()


class TextFile(io.TextIOWrapper):
    """A text file as `open_text` opens it."""

    def __init__(self, path: Path, encoding: str, newline: str) -> None:
        self._content = Content(path, encoding=encoding)
        super().__init__(io.BufferedReader(_WholeLines(self._content)), "utf-8", "surrogateescape", newline)

    @property
    def damage(self) -> str | None:
        """At the end of the file: what is wrong with an archive that is cut off."""
        return self._content.damage


def open_text(path: Path, encoding: str = "utf-8", newline: str = "\n") -> TextFile:
    """Open a text file, plain or compressed, line ends as they are.

    Bytes that are not text in `encoding` become lone surrogates, so that the row they are in can be rejected
    (`is_text`) and the rows around it kept. A byte order mark is skipped.
    """
    return TextFile(path, encoding, newline)


def is_text(text: str) -> bool:
    """Whether what `open_text` read was properly encoded."""
    return text.isascii() or _UNDECODED.search(text) is None
