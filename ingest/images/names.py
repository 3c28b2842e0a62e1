"""The same file name in other spellings: composed or decomposed, and in the character sets that packers write.

Names beyond ASCII come out of archives in many ways. macOS decomposes letters with marks (NFD); zip without its UTF-8
flag means code page 437 by the book, but packers write UTF-8 or the machine's own code page; Info-ZIP writes `#U00fc`
where it has no character, or adds the name in UTF-8 in an extra field. Names are compared exactly first, then by these.
"""

from __future__ import annotations

import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Generic, TypeVar

#: Character sets of names that are not UTF-8, as packers on Windows and DOS write them.
_CODE_PAGES = ("cp1252", "cp850", "cp437")
_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
_ESCAPE = re.compile(r"#U([0-9a-fA-F]{4})|#L([0-9a-fA-F]{6})")

Member = TypeVar("Member")


def composed(name: str) -> str:
    """The form in which names are compared."""
    return unicodedata.normalize("NFC", name)


def zip_spellings(member: zipfile.ZipInfo) -> Iterator[str]:
    """What the name of a member may be meant as, beside its own reading."""
    name = member.filename
    if not member.flag_bits & _UTF8_FLAG and not name.isascii():
        with suppress(UnicodeEncodeError):
            raw = name.encode("cp437")
            yield from _unicode_path(member.extra, raw)
            yield from _decoded(raw)
    yield from spellings(name)


def spellings(name: str) -> Iterator[str]:
    """What a name may be meant as: composed, unescaped, of bytes that are not UTF-8, with the separators of Windows."""
    if "\udc80" <= max(name, default="") <= "\udcff":
        yield from map(composed, _decoded(name.encode("utf-8", "surrogateescape")))
    plain = _ESCAPE.sub(_unescaped, name).replace("\\", "/")
    yield composed(plain)
    for code_page in ("cp437", "cp1252"):  # UTF-8 that was taken for these
        with suppress(UnicodeError):
            yield composed(plain.encode(code_page).decode("utf-8"))


def _decoded(raw: bytes) -> Iterator[str]:
    try:
        yield composed(raw.decode("utf-8"))
    except UnicodeDecodeError:
        for code_page in _CODE_PAGES:
            with suppress(UnicodeDecodeError):
                yield composed(raw.decode(code_page))


def _unescaped(match: re.Match[str]) -> str:
    code = int(match[1] or match[2], 16)
    return chr(code) if 0x80 <= code < 0x110000 else match[0]


def _unicode_path(extra: bytes, raw: bytes) -> Iterator[str]:
    """The name in Info-ZIP's extra field for it, if that is of this name."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and len(field) > 5 and int.from_bytes(field[1:5], "little") == zlib.crc32(raw):
            with suppress(UnicodeDecodeError):
                yield composed(field[5:].decode("utf-8"))


class SpelledNames(Generic[Member]):
    """Members by name: exactly first, then by the other spellings, of which one that fits two members fits none."""

    def __init__(self, members: Mapping[str, Member]) -> None:
        self._members = members
        self._spelled: dict[str, str | None] = {}

    def add(self, name: str, others: Iterator[str]) -> None:
        """Let the member `name` be found by other spellings of it."""
        for other in set(others) - {name}:
            self._spelled[other] = None if other in self._spelled and self._spelled[other] != name else name

    def find(self, name: str) -> str | None:
        """Name of the member that `name` is the same as."""
        if name in self._members:
            return name
        for spelling in spellings(name):
            if spelling in self._members:
                return spelling
            if (found := self._spelled.get(spelling)) is not None:
                return found
        return None
