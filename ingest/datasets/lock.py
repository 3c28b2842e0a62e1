"""One writer at a time: who reads, changes and writes the datasets of a data root holds its lock from the reading on.

The lock is the operating system's on the file `.writer` in a local root, so that of a process that was killed is free.
Roots elsewhere have none.
"""

from __future__ import annotations

import fcntl
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from fsspec.implementations.local import LocalFileSystem

from ingest.datasets.root import DataRoot, explain_os_errors
from ingest.errors import TransientError

#: How long a writer waits for another one to end, and how often it looks.
WAIT_SECONDS = 600.0
LOOK_SECONDS = 0.2


@contextmanager
def writer_lock(data: DataRoot, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold the lock of a data root, waiting for it if another process has it.

    Raises
    ------
    TransientError
        If that takes longer than `wait_seconds`; it names the process.
    """
    if not isinstance(data.fs, LocalFileSystem):
        yield
        return
    path = Path(data.path(".writer"))
    with explain_os_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+")
    with stream:
        _acquire(stream, data.url, wait_seconds)
        with suppress(OSError):  # a full disk: nobody learns who holds the lock, but it is held
            stream.truncate(0)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            program = Path(sys.argv[0]).name
            stream.write(f"process {os.getpid()} on {platform.node()} ({program}), since {since}")
            stream.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                stream.truncate(0)


def _acquire(stream: IO[str], url: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() >= deadline:
            stream.seek(0)
            holder = stream.read() or "another process"
            raise TransientError(
                f"{url} is being written by {holder}", "Wait until it is done, then run the same command again."
            )
        time.sleep(LOOK_SECONDS)
