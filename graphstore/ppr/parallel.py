"""Work shared out among threads: the kernels run outside of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def count_threads(threads: int | None) -> int:
    """`threads`, or by default as many as this process may use cores."""
    return threads or len(os.sched_getaffinity(0))


def share_out(
    n: int, chunk: int, make_worker: Callable[[], Callable[[slice], None]], *, threads: int | None = None
) -> None:
    """Have workers, one per thread, work off `n` things in slices of `chunk`.

    A worker takes the next slice when it is done with one: some sources cost a thousand times what others do.

    Parameters
    ----------
    make_worker
        Called once by each thread, for the buffers that a worker has for itself.
    threads
        All cores by default.
    """
    starts = iter(range(0, n, chunk))

    def run(_: int) -> None:
        work = make_worker()
        for start in starts:
            work(slice(start, min(start + chunk, n)))

    workers = min(count_threads(threads), -(-n // chunk))
    if workers:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, range(workers)))
