"""The one error that a user is meant to read.

Everything a user can cause or mend (a missing file, a bad spec, a full disk) is raised as a `Graph2ImageError`; the
command line prints it in one or two lines. Any other exception is a defect of ours.

A `TransientError` is one that may be gone at the next try, with nothing changed: schedules retry those, and no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

#: Plainer words than pydantic's, by the type of its error.
_PLAINER = {"extra_forbidden": "unknown key", "missing": "is missing"}


class Graph2ImageError(Exception):
    """What went wrong, and what to do about it.

    Parameters
    ----------
    message
        What happened, naming the file, row or item concerned.
    hint
        What the user can do; printed on a second line.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class TransientError(Graph2ImageError):
    """Something that may work at the next try with nothing changed: a server that is busy, a lock that is held."""


@contextmanager
def explain_validation(what: str, hint: str | None = None) -> Iterator[None]:
    """Turn pydantic's error into a `Graph2ImageError` of one line, which names every wrong key and says why.

    Parameters
    ----------
    what
        What was checked, such as a file; the line begins with it.
    """
    try:
        yield
    except ValidationError as error:
        problems = [
            f"{_key(problem['loc'])}{_PLAINER.get(problem['type'], problem['msg'].removeprefix('Value error, '))}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise Graph2ImageError(f"{what}: {'; '.join(problems)}", hint) from error


def _key(location: tuple[int | str, ...]) -> str:
    """A pydantic location as one would look for it in a file; entries of an array are counted from 1."""
    key = ""
    for part in location:
        if isinstance(part, int):
            key += f" {part + 1}"
        else:
            key += f".{part}" if key else part
    return f"{key}: " if key else ""


def first_line(error: BaseException | str) -> str:
    """The first line of an error's message; its type, if it has none."""
    return next(iter(str(error).strip().splitlines()), "" if isinstance(error, str) else type(error).__name__)
