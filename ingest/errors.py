"""The one error that a user is meant to read.

Everything a user can cause or mend (a missing file, a bad spec, a full disk) is raised as a `Graph2ImageError`; the
command line prints it in one or two lines. Any other exception is a defect of ours.

A `TransientError` is one that may be gone at the next try, with nothing changed: schedules retry those, and no others.
"""


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
