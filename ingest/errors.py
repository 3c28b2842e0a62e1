"""The one error that a user is meant to read.

Everything a user can cause or mend (a missing file, a bad spec, a full disk) is raised as a `Graph2ImageError`; the
command line prints it in one or two lines. Any other exception is a defect of ours.

A `TransientError` is one that may be gone at the next try, with nothing changed: schedules retry those, and no others.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

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


#: Answers by which a host says that it may do better later.
_BUSY = {408, 425, 429, 500, 502, 503, 504}


def caused_error(message: str, error: BaseException, hint: str | None = None) -> Graph2ImageError:
    """The error about what failed because of `error`.

    It is a `TransientError` if `error`, or one that it came from, says that a host was not reached or was busy.
    """
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ == "OfflineModeIsEnabled":  # asked for by the user
            break
        status = getattr(getattr(cause, "response", None), "status_code", getattr(cause, "code", None))
        if (
            status in _BUSY
            or isinstance(cause, ConnectionError | TimeoutError | socket.gaierror)
            or _is_transport(cause)
        ):
            return TransientError(message, hint)
        cause = cause.__cause__ or cause.__context__
    return Graph2ImageError(message, hint)


def _is_transport(error: BaseException) -> bool:
    """Whether it is one of httpx's errors of connections, which derive from nothing of Python's."""
    return any(
        kind.__module__.startswith("httpx") and kind.__name__ == "TransportError" for kind in type(error).__mro__
    )


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
    except ValueError as error:
        from pydantic import ValidationError  # not needed to tell errors, and slow to import

        if not isinstance(error, ValidationError):
            raise
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
