"""Options of the form NAME=VALUE."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.errors import Graph2ImageError


def shares(pairs: Sequence[str], form: str) -> dict[str, float]:
    """`["a=0.7", "b=0.3"]` as a dict; `form` is what messages call them."""
    values = {}
    for text in pairs:
        key, value = pair(text, form)
        try:
            values[key] = float(value)
        except ValueError as error:
            raise Graph2ImageError(f"{text!r} is not of the form {form}") from error
    return values


def pair(text: str, form: str) -> tuple[str, str]:
    """`"a=b"` in two; the last `=` separates, since ids may hold one."""
    key, separator, value = text.rpartition("=")
    if not separator:
        raise Graph2ImageError(f"{text!r} is not of the form {form}")
    return key, value
