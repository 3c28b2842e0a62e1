"""Python literals as data, as the Amazon rows of 2014 are written."""

from __future__ import annotations

import ast
import re
import unicodedata
from typing import Any

import orjson

from ingest.readers.jsonrows import whole_characters

#: A longer line is no row, and more than this many brackets in each other, or signs, are in none.
MAX_LITERAL_BYTES = 1 << 20
MAX_NESTING = 64

#: A string, which may lack its end (else a search for it would begin at each quote), a bracket or a sign.
_LITERAL_TOKEN = re.compile(rb"""'[^'\\]*(?:\\.[^'\\]*)*'?|"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\](){}]|[-+~]""", re.DOTALL)

_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U([0-9a-fA-F]{8})|N\{([^{}]*)\}|([xuUN])|.)", re.DOTALL)


def parse_literal(line: bytes) -> Any:
    """The value of a Python literal that JSON can express too; ValueError if it is none, or is not safe to parse.

    A pair of escaped surrogates is one character; half of one, and an escape of a character that there is not, are
    U+FFFD. An escape that is not whole stays as it is written.
    """
    if len(line) > MAX_LITERAL_BYTES:
        raise ValueError(f"the literal is over {MAX_LITERAL_BYTES} bytes")
    if not _is_shallow(line):
        raise ValueError("the literal is nested too deeply")
    text = line.decode()
    try:
        try:
            value = ast.literal_eval(text)
        except SyntaxError:
            if (mended := _ESCAPE.sub(_as_python, text)) == text:
                raise
            value = ast.literal_eval(mended)
        if "\\ud" in text or "\\uD" in text or "\\U0000" in text:
            value = whole_characters(value)
        # Refuses what no file may contain: sets, bytes, complex numbers, keys that are not text.
        orjson.dumps(value)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a Python literal: {error}") from error
    return value


def _as_python(escape: re.Match[str]) -> str:
    if escape[3]:
        return f"\\\\{escape[3]}"
    if (escape[1] and int(escape[1], 16) > 0x10FFFF) or (escape[2] is not None and not _is_name(escape[2])):
        return "\ufffd"
    return escape[0]


def _is_name(name: str) -> bool:
    try:
        unicodedata.lookup(name)
    except KeyError:
        return False
    return True


def _is_shallow(line: bytes) -> bool:
    """Whether a literal can be parsed without fear for the stack."""
    # Few brackets and signs altogether: in nearly all rows, even with those in the texts.
    if len(line) - len(line.translate(None, b"[{(-+~")) <= MAX_NESTING:
        return True
    depth = signs = 0
    for match in _LITERAL_TOKEN.finditer(line):
        token = match[0]
        if token in b"[{(":
            depth += 1
        elif token in b"]})":
            depth -= 1
        elif token in b"-+~":
            signs += 1
        if depth > MAX_NESTING or signs > MAX_NESTING:
            return False
    return True
