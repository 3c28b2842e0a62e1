"""One writer at a time: who reads, changes and writes datasets of a data root holds their lock from the reading on.

The lock is the operating system's on a file in a local root, so that of a process that was killed is free. Roots
elsewhere have none. What is only appended under names that follow from its content, and what is replaced as a whole
from inputs of its own, needs no lock.
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from fsspec.implementations.local import LocalFileSystem

from ingest.datasets.root import DataRoot, explain_os_errors
from ingest.errors import TransientError

log = logging.getLogger(__name__)

#: How long a writer waits for another one to end, and how often it looks.
WAIT_SECONDS = 600.0
LOOK_SECONDS = 0.2


@contextmanager
def writer_lock(data: DataRoot, work: str, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold a lock of a data root, waiting for it if another process has it.

    Parameters
    ----------
    work
        What is done, such as `ingest`: only the same work excludes itself.

    Raises
    ------
    TransientError
        If that takes longer than `wait_seconds`; it names the process.
    """
    if not isinstance(data.fs, LocalFileSystem):
        yield
        return
    path = Path(data.path(f".{work}.lock"))
    with explain_os_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+")
    with stream:
        _acquire(stream, data.url, wait_seconds)
        with suppress(OSError):  # a full disk: nobody learns who holds the lock, but it is held
            stream.truncate(0)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            stream.write(f"process {os.getpid()} on {platform.node()} ({work}), since {since}")
            stream.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                stream.truncate(0)


def _acquire(stream: IO[str], url: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    told = False
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        stream.seek(0)
        holder = stream.read() or "another process"
        if not told and wait_seconds:
            log.warning("Waiting for %s, which is writing %s", holder, url)
            told = True
        if time.monotonic() >= deadline:
            raise TransientError(
                f"{url} is being written by {holder}", "Wait until it is done, then run the same command again."
            )
        time.sleep(LOOK_SECONDS)
