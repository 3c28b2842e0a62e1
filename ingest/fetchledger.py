"""What became of every picture that was requested, so that a later run need not ask again.

Kept in the dataset `fetches`, one row per request that was settled, appended now and then. A run that is killed loses
the last rows only; the pictures they tell of are stored by then.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa

from ingest.datasets import FETCH_SCHEMA, DataRoot
from ingest.records import RejectReason

#: Reasons that may be gone at the next run, or depend on its settings.
TRANSIENT_REASONS = frozenset({RejectReason.IMAGE_UNREACHABLE, RejectReason.IMAGE_UNSAFE_ADDRESS})

#: Rows are appended when there are so many, or the first of them is so many seconds old.
FLUSH_ROWS = 2000
FLUSH_SECONDS = 10.0


class Fetched(NamedTuple):
    """How the latest request for a URL ended: with a picture, or with a reason.

    `fetched_at` is in microseconds since 1970.
    """

    image_hash: str | None
    reason: RejectReason | None
    detail: str | None
    etag: str | None
    last_modified: str | None
    fetched_at: int


class FetchLedger:
    """The `fetches` dataset. May be used from several threads.

    Parameters
    ----------
    refresh
        Take nothing that earlier runs found for settled.
    """

    def __init__(self, data: DataRoot, *, refresh: bool) -> None:
        self._data = data
        self._lock = threading.Lock()
        self._rows: list[tuple[str, Fetched]] = []
        self._first_row_at = 0.0
        latest = _latest(data, with_validators=refresh)
        #: By URL: what holds for this run, and what is to be asked for again.
        self._settled: dict[str, Fetched] = {}
        self._earlier = {url: fetched for url, fetched in latest.items() if refresh and fetched.image_hash is not None}
        if not refresh:
            self._settled = {url: f for url, f in latest.items() if f.reason not in TRANSIENT_REASONS}

    def settled(self, url: str) -> Fetched | None:
        """What is known of a URL and holds for this run."""
        return self._settled.get(url)

    def picture(self, url: str) -> Fetched | None:
        """The picture that a URL gave last time."""
        return self._settled.get(url) or self._earlier.get(url)

    def settle(self, url: str, fetched: Fetched) -> None:
        """Enter how the request for a URL ended."""
        with self._lock:
            self._settled[url] = fetched
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


def now_us() -> int:
    """The time, in microseconds since 1970."""
    return time.time_ns() // 1000


def as_datetime(microseconds: int) -> datetime:
    """A time of `Fetched` as the datasets hold it."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def _latest(data: DataRoot, *, with_validators: bool) -> dict[str, Fetched]:
    columns = ["url", "image_hash", "reason", "detail"]
    validators = ["etag", "last_modified"] if with_validators else []
    table = data.read("fetches", [*columns, *validators, "fetched_at"], FETCH_SCHEMA).sort_by("fetched_at")
    latest: dict[str, Fetched] = {}
    for batch in table.to_batches(max_chunksize=50_000):
        lists = {name: batch[name].to_pylist() for name in (*columns, *validators)}
        empty = [None] * len(batch)
        for url, image_hash, reason, detail, etag, modified, at in zip(
            *(lists[name] for name in columns),
            *(lists.get(name, empty) for name in ("etag", "last_modified")),
            batch["fetched_at"].cast(pa.int64()).to_pylist(),
            strict=True,
        ):
            latest[url] = Fetched(image_hash, reason and RejectReason(reason), detail, etag, modified, at)
    return latest
