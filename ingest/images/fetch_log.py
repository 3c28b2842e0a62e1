"""What became of every image that was requested, so that a later run need not ask again.

Kept in the dataset `fetches`, one row per request that ended, appended now and then. A run that is killed loses
the last rows only; the images they tell of are stored by then.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import FETCH_SCHEMA
from ingest.records import RejectReason

#: Reasons that may be gone at the next run, or depend on its settings.
TRANSIENT_REASONS = frozenset({RejectReason.IMAGE_UNREACHABLE, RejectReason.IMAGE_UNSAFE_ADDRESS})

#: Rows are appended when there are so many, or the first of them is so many seconds old.
FLUSH_ROWS = 2000
FLUSH_SECONDS = 10.0


class Fetched(NamedTuple):
    """How the latest request for a URL ended: with an image, or with a reason.

    `fetched_at` is in microseconds since 1970.
    """

    image_hash: str | None
    reason: RejectReason | None
    detail: str | None
    etag: str | None
    last_modified: str | None
    fetched_at: int


class FetchLog:
    """The `fetches` dataset. May be used from several threads.

    It may be about millions of URLs: in memory, one that gave an image is some 200 bytes.

    Parameters
    ----------
    refresh
        Take nothing that earlier runs found for final.
    """

    def __init__(self, data: DataRoot, *, refresh: bool) -> None:
        self._data = data
        self._lock = threading.Lock()
        self._rows: list[tuple[str, Fetched]] = []
        self._first_row_at = 0.0
        #: By URL: content hash and time of the images (`_packed`), all of the rest.
        self._images: dict[bytes, bytes] = {}
        self._problems: dict[bytes, Fetched] = {}
        #: URLs whose request failed in a way that may pass.
        self._tried: set[bytes] = set()
        self._load()
        #: What earlier runs got and this one asks for again, and what it needs for that.
        self._earlier: dict[bytes, bytes] = {}
        self._validators: dict[bytes, tuple[str | None, str | None]] = {}
        if refresh:
            self._tried |= self._problems.keys()
            self._earlier, self._images, self._problems = self._images, {}, {}
            self._load_validators()

    def final(self, url: str) -> Fetched | None:
        """What is known of a URL and holds for this run."""
        key = _key(url)
        packed = self._images.get(key)
        return self._problems.get(key) if packed is None else _unpacked(packed)

    def has(self, url: str) -> bool:
        """Whether the URL was ever requested."""
        key = _key(url)
        return any(key in known for known in (self._images, self._problems, self._earlier, self._tried))

    def image(self, url: str) -> Fetched | None:
        """The image that a URL gave last time."""
        key = _key(url)
        packed = self._images.get(key) or self._earlier.get(key)
        return None if packed is None else _unpacked(packed, self._validators.get(key, (None, None)))

    def record(self, url: str, fetched: Fetched) -> None:
        """Enter how the request for a URL ended."""
        with self._lock:
            self._enter(_key(url), fetched)
            if not self._rows:
                self._first_row_at = time.monotonic()
            self._rows.append((url, fetched))
            due = len(self._rows) >= FLUSH_ROWS or time.monotonic() - self._first_row_at > FLUSH_SECONDS
        if due:
            self.flush()

    def flush(self) -> None:
        """Append the rows entered since the last flush."""
        with self._lock:
            rows, self._rows = self._rows, []
        if rows:
            columns = [[url for url, _ in rows], *map(list, zip(*(fetched for _, fetched in rows), strict=True))]
            self._data.append("fetches", pa.table(columns, schema=FETCH_SCHEMA), FETCH_SCHEMA)

    def _enter(self, key: bytes, fetched: Fetched) -> None:
        """Take note of a row, unless there is a later one for the URL."""
        packed, problem = self._images.get(key), self._problems.get(key)
        known_at = _unpacked(packed).fetched_at if packed else problem.fetched_at if problem else 0
        if fetched.fetched_at < known_at:
            return
        if fetched.image_hash is not None:
            self._images[key] = _packed(fetched)
            self._problems.pop(key, None)
        else:
            self._problems[key] = fetched
            self._images.pop(key, None)

    def _load(self) -> None:
        columns = ["url", "image_hash", "reason", "detail", "fetched_at"]
        for batch in self._data.dataset("fetches", FETCH_SCHEMA).to_batches(columns=columns):
            times = batch["fetched_at"].cast(pa.int64()).to_pylist()
            lists = (batch[name].to_pylist() for name in columns[:-1])
            for url, image_hash, reason, detail, at in zip(*lists, times, strict=True):
                self._enter(
                    _key(url),
                    Fetched(image_hash, reason and RejectReason(reason), detail and sys.intern(detail), None, None, at),
                )
        self._tried = {key for key, fetched in self._problems.items() if fetched.reason in TRANSIENT_REASONS}
        for key in self._tried:
            del self._problems[key]

    def _load_validators(self) -> None:
        columns = ["url", "image_hash", "etag", "last_modified"]
        for batch in self._data.dataset("fetches", FETCH_SCHEMA).to_batches(columns=columns):
            for url, image_hash, *validators in zip(*(batch[name].to_pylist() for name in columns), strict=True):
                key = _key(url)
                # Of rows with the same image, any one's validators do.
                if key in self._earlier and _unpacked(self._earlier[key]).image_hash == image_hash:
                    self._validators[key] = (validators[0], validators[1])


def _key(url: str) -> bytes:
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _packed(fetched: Fetched) -> bytes:
    assert fetched.image_hash is not None
    return bytes.fromhex(fetched.image_hash) + fetched.fetched_at.to_bytes(8, "big")


def _unpacked(packed: bytes, validators: tuple[str | None, str | None] = (None, None)) -> Fetched:
    return Fetched(packed[:32].hex(), None, None, *validators, int.from_bytes(packed[32:], "big"))


def now_us() -> int:
    """The time, in microseconds since 1970."""
    return time.time_ns() // 1000


def as_datetime(microseconds: int) -> datetime:
    """A time of `Fetched` as the datasets hold it."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC)
