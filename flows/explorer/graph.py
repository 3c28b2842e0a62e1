"""The graph store as the explorer holds it: opened read-only, shared by requests, and opened anew when it has changed.

An embedded store that another process writes to, or replaces, shows the old state to whoever has it open. So its files
are looked at before each use. What the explorer itself writes, it writes while none of its requests reads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.settings import Settings
from graphstore.connect import embedded_file
from graphstore.store import GraphStore
from ingest.errors import TransientError

#: Seconds that a request waits for the store: while it is written to by this process, or opened anew.
WAIT_SECONDS = 15.0
#: Seconds for which the version of a server's graph is taken to be the same.
VERSION_SECONDS = 2.0

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Graph:
    """The stores that requests borrow; each is used by one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = embedded_file(settings.store_url)
        self._changed = threading.Condition()
        self._idle: list[GraphStore] = []
        self._busy = 0
        self._is_written = False
        self._stamp: _Stamp | None = None
        self._version: tuple[str, float] | None = None

    @contextmanager
    def reading(self) -> Iterator[GraphStore]:
        """A store to read from.

        Raises
        ------
        NoGraphError
            If there is none.
        Graph2ImageError
            If it cannot be opened, or not in time.
        """
        store = self._borrow()
        try:
            yield store
        except BaseException:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()
                store.close()  # whatever state it is in
            raise
        with self._changed:
            self._busy -= 1
            self._idle.append(store)
            self._changed.notify_all()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Nobody of this process has the store open: for who writes to it."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._busy == 0 and not self._is_written, WAIT_SECONDS):
                raise TransientError("the graph store is being read", "Try again.")
            self._close_idle()
            self._is_written = True
        try:
            yield
        finally:
            with self._changed:
                self._is_written = False
                self._version = None
                self._changed.notify_all()

    def version(self) -> str:
        """The graph version, as `GraphStore.version`."""
        with self._changed:
            known, stamp = self._version, self._stamp
        now = time.monotonic()
        is_current = stamp == self._now() if self._file else known is not None and now - known[1] < VERSION_SECONDS
        if known is not None and is_current:
            return known[0]
        with self.reading() as store:
            version = store.version()
        with self._changed:
            self._version = (version, now)
        return version

    def close(self) -> None:
        """Close what is not in use."""
        with self._changed:
            self._close_idle()

    def _borrow(self) -> GraphStore:
        with self._changed:
            if not self._changed.wait_for(lambda: not self._is_written, WAIT_SECONDS):
                raise TransientError("the graph store is being written", "Try again in a moment.")
            stamp = self._now()
            if stamp != self._stamp:
                # Stores of one file share a database within a process: all must be closed to see another state.
                if not self._changed.wait_for(lambda: self._busy == 0 and not self._is_written, WAIT_SECONDS):
                    raise TransientError(
                        "the graph store has changed and is still being read", "Try again in a moment."
                    )
                self._close_idle()
                self._version = None
                stamp = self._now()
                self._idle.append(self._settings.open_graph(read_only=True))
                self._stamp = stamp
            store = self._idle.pop() if self._idle else self._settings.open_store(read_only=True)
            self._busy += 1
            return store

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
        self._stamp = None

    def _now(self) -> _Stamp:
        """What the files of an embedded store look like."""
        if self._file is None:
            return ()
        return tuple(_look_at(Path(self._file + suffix)) for suffix in ("", ".wal"))


def _look_at(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
