"""Opening the text files that the readers parse, plain or gzip, with the errors a user can mend."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ingest.errors import Graph2ImageError

_UNDECODED = re.compile("[\udc80-\udcff]")


@contextmanager
def explain_read_errors(path: Path) -> Iterator[None]:
    """Turn what can go wrong while `path` is read into a `Graph2ImageError`."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Graph2ImageError(
            f"{path} is damaged: {error}", "Fetch the file again; nothing of it has been published."
        ) from error
    except OSError as error:
        raise Graph2ImageError(f"cannot read {path}: {error.strerror or error}") from error


def open_text(path: Path, encoding: str = "utf-8", newline: str = "\n") -> IO[str]:
    """Open a text file (gzip when its name ends in `.gz`), line ends as they are.

    Bytes that are not text in `encoding` become lone surrogates, so that the row they are in can be rejected
    (`is_text`) and the rows around it kept. A UTF-8 byte order mark is skipped.
    """
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    try:
        if path.suffix == ".gz":
            binary = gzip.GzipFile(path)
            return io.TextIOWrapper(binary, encoding, "surrogateescape", newline)
        return path.open(encoding=encoding, errors="surrogateescape", newline=newline)
    except LookupError as error:
        raise Graph2ImageError(f"cannot read {path}: {error}") from error


def is_text(text: str) -> bool:
    """Whether what `open_text` read was properly encoded."""
    return text.isascii() or _UNDECODED.search(text) is None
