"""Standard output that may be closed, full, cut off by `| head`, or unable to show a character."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def standard_streams() -> Iterator[None]:
    """What a terminal cannot show is a `?` inside; when the reader of the output has gone, the end is silent."""
    if sys.stdout is None:  # closed by the caller
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        raise SystemExit(0) from None
    except SystemExit as end:
        cut_off = type(sys.stdout).__name__ == "PacifyFlushWrapper"  # so typer notes it, with exit code 1
        if cut_off or _reader_gone():
            _drop_output()
        if cut_off:
            raise SystemExit(0) from None
        try:
            sys.stdout.flush()
        except OSError as error:
            _drop_output()
            sys.stderr.write(f"cannot write the output: {error.strerror}\n")
            raise SystemExit(end.code or 1) from None
        raise


def is_cut_off(error: OSError) -> bool:
    """Whether `error` says that the reader of standard output has gone."""
    return isinstance(error, BrokenPipeError) and _reader_gone()


def _reader_gone() -> bool:
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(events & select.POLLERR for _, events in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no such call here; no file; closed
        return False


def _drop_output() -> None:
    """Nothing that is still buffered can fail at the end of the interpreter."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
