"""Options of the form NAME=VALUE, and options that pydantic checks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import typer

from ingest.errors import Graph2ImageError


def shares(pairs: Sequence[str], form: str) -> dict[str, float]:
    """`["a=0.7", "b=0.3"]` as a dict of finite numbers; `form` is what messages call them.

    Raises
    ------
    Graph2ImageError
        If one is not of that form, or a name comes twice.
    """
    values: dict[str, float] = {}
    for text in pairs:
        key, value = pair(text, form)
        try:
            number = float(value)
        except ValueError as error:
            raise Graph2ImageError(f"{text!r} is not of the form {form}") from error
        if not math.isfinite(number):
            raise Graph2ImageError(f"{text!r}: {value} is no number to count with")
        if key in values:
            raise Graph2ImageError(f"{key!r} is given twice")
        values[key] = number
    return values


def pair(text: str, form: str, *, last: bool = True) -> tuple[str, str]:
    """`"a=b"` in two, at the last `=` since ids may hold one, or else at the first."""
    key, separator, value = text.rpartition("=") if last else text.partition("=")
    if not separator or not key:
        raise Graph2ImageError(f"{text!r} is not of the form {form}")
    return key, value


@contextmanager
def options_checked(renamed: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn pydantic's error inside into one of wrong usage, which names each option that is wrong.

    Parameters
    ----------
    renamed
        Options that are not called as their fields are.
    """
    try:
        yield
    except ValueError as error:
        from pydantic import ValidationError  # not needed to tell errors, and slow to import

        if not isinstance(error, ValidationError):
            raise
        problems = []
        for problem in error.errors():
            message = problem["msg"].removeprefix("Value error, ").replace("Input should", "must")
            name, *key = (str(part) for part in problem["loc"] or ("",))
            option = (renamed or {}).get(name) or (f"--{name.replace('_', '-')}" if name else "")
            problems.append(" ".join(filter(None, [option, *key, message])))
        raise typer.BadParameter("; ".join(problems)) from error
