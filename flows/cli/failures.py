"""How a command ends when it fails: one or two lines that a person can act on, and an exit code."""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import typer

from flows.cli.streams import is_cut_off, standard_streams
from ingest.errors import Graph2ImageError, first_line


def run(module: str, name: str) -> None:
    """Import the typer application `app` of `module`, and run it as the command `name`."""
    with standard_streams(), failures_told(debug="--debug" in sys.argv):
        import_module(module).app(prog_name=name)


@contextmanager
def failures_told(*, debug: bool) -> Iterator[None]:
    """Turn what is raised inside into lines on standard error and an exit code; with `debug` also show tracebacks."""
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Graph2ImageError as error:
        _fail(error, str(error), debug=debug)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one does not wait for what is tidied up
        typer.echo("interrupted; the same command continues where this one stopped", err=True)
        raise SystemExit(130) from None
    except OSError as error:
        if is_cut_off(error):
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        _fail(error, f"{where}{error.strerror or first_line(error)}", debug=debug)
    except MemoryError as error:
        _fail(error, "there is not enough memory\nGive less at a time, or close other programs.", debug=debug)
    except Exception as error:
        _fail(error, _defect(error), debug=debug)


def _fail(error: BaseException, lines: str, *, debug: bool) -> NoReturn:
    if debug:
        logging.getLogger(__name__).error("failed", exc_info=error)
    for line in lines.splitlines():
        typer.echo(line, err=True)
    raise SystemExit(1)


def _defect(error: Exception) -> str:
    """One line on an error that no code expected; its traceback is in a file."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the Python package {error.name!r} is missing\nRun `graph2image doctor`, then install what it names."
    if type(error).__name__ == "OutOfMemoryError":  # torch's
        return "the device has too little memory for this\nGive a smaller --batch-size, or another --device."
    what = f"{type(error).__name__}: {first_line(error)[:200]}"
    file = _write_traceback(error)
    if file is None:
        return f"unexpected error ({what}): please report it with the traceback that --debug shows"
    return f"unexpected error ({what}): please report it with the traceback in {file}"


def _write_traceback(error: Exception) -> Path | None:
    """Write the traceback where the user keeps such files, or else among the temporary ones; None if neither works."""
    text = f"graph2image {version('graph2image')}, Python {platform.python_version()}, {platform.platform()}\n"
    text += "".join(traceback.format_exception(error))
    for folder in (_state_folder, lambda: Path(tempfile.gettempdir())):
        try:
            place = folder()
            place.mkdir(parents=True, exist_ok=True)
            descriptor, file = tempfile.mkstemp(".txt", "graph2image-traceback-", place, text=True)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
            return Path(file)
        except (OSError, RuntimeError):  # not writable; no home
            continue
    return None


def _state_folder() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "graph2image"
