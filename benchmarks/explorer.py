"""How fast the explorer answers: p50 and p95 of its requests, with one user and with twenty at once.

    .venv/bin/python -m benchmarks.explorer [--data ROOT | --items 1000] [--users 1 20] [--requests 40]

Without `--data`, synthetic artworks are ingested first, metadata alone, so that there are as many as wanted; for
images, give a data root of your own. The server runs as a process of its own, as `graph2image explore` starts it. Each
user asks one request after the other, of items and words that are drawn from a fixed seed:

- `first paint`: the page, its style and scripts, and the first 100 items of the wall.
- `search`: a word of some item's title.
- `neighbors`: of an item, with a relation weight that was not asked for before, so that nothing is remembered.

The limit they are compared with is `health`: a request that does nothing.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.harness import describe_machine, print_json, print_table

START_SECONDS = 600.0


def prepare(folder: Path, items: int) -> str:
    """A data root with synthetic artworks, without images."""
    call = [sys.executable, "-m", "flows.cli"]
    sample, root = folder / "sample", folder / "data"
    for arguments in (
        ["sample-data", "art500k", str(sample), "--items", str(items), "--no-images"],
        ["ingest", "art500k", str(sample / "label_list.csv"), "--data", str(root)],
    ):
        subprocess.run([*call, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return str(root)


class Server:
    """`graph2image explore` in a process of its own."""

    def __init__(self, data: str) -> None:
        command = [sys.executable, "-m", "flows.cli", "explore", "--port", "0", "--json", "--data", data]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Server:
        assert self._process.stdout is not None
        self.url = str(httpx.Response(200, text=self._process.stdout.readline()).json()["url"])
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}api/status", timeout=START_SECONDS).status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        raise TimeoutError("the explorer did not start")

    def memory(self) -> float:
        """Resident memory, in MiB."""
        return float(psutil.Process(self._process.pid).memory_info().rss) / 2**20

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)


def measure(url: str, work: Callable[[httpx.Client, random.Random], None], users: int, requests: int) -> list[float]:
    """Seconds of each request of all users."""

    def use(user: int) -> list[float]:
        chosen, seconds = random.Random(user), []
        with httpx.Client(base_url=url, timeout=120) as client:
            work(client, chosen)  # opens the connection
            for _ in range(requests):
                start = time.perf_counter()
                work(client, chosen)
                seconds.append(time.perf_counter() - start)
        return seconds

    with ThreadPoolExecutor(users) as pool:
        return [second for seconds in pool.map(use, range(users)) for second in seconds]


def scenarios(url: str) -> dict[str, Callable[[httpx.Client, random.Random], None]]:
    """What is asked, by name."""
    items = httpx.get(f"{url}api/items?limit=500").json()["items"]
    words = sorted({word for item in items for word in (item["title"] or "").split() if word.isalpha()})
    type_ = post(httpx.Client(base_url=url, timeout=120), items[0]["id"], {})["relation_types"][0]

    def health(client: httpx.Client, _: random.Random) -> None:
        client.get("/healthz").raise_for_status()

    def first_paint(client: httpx.Client, _: random.Random) -> None:
        for path in ("/", "/static/explorer.css", "/static/start.js", "/static/common.js", "/api/items?limit=100"):
            client.get(path).raise_for_status()

    def search(client: httpx.Client, chosen: random.Random) -> None:
        client.get("/api/search", params={"q": chosen.choice(words)}).raise_for_status()

    def neighbors(client: httpx.Client, chosen: random.Random) -> None:
        post(client, chosen.choice(items)["id"], {"relation_weights": {type_: round(chosen.uniform(0.1, 4), 6)}})

    return {
        "health": health,
        "first paint": first_paint,
        "search": search,
        "neighbors": neighbors,
    }


def post(client: httpx.Client, item_id: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The neighbors of an item, by walks alone."""
    body = {"item_id": item_id, "mode": "ppr", "any_item": True, **settings}
    answer = client.post("/api/neighbors", json=body)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="data root to serve")
    parser.add_argument("--items", type=int, default=1000, help="without --data: synthetic items")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--requests", type=int, default=40, help="of each user, for each row")
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = asked.data or prepare(Path(folder), asked.items)
        with Server(data) as server:
            for name, work in scenarios(server.url).items():
                for users in asked.users:
                    milliseconds = 1000 * np.array(measure(server.url, work, users, asked.requests))
                    p50, p95 = np.percentile(milliseconds, [50, 95])
                    rows.append(
                        {"what": name, "users": users, "p50 ms": round(float(p50), 1), "p95 ms": round(float(p95), 1)}
                    )
            memory = server.memory()
    print_table(rows)
    print_json({"machine": describe_machine(), "items": asked.items, "rows": rows, "server MiB": round(memory)})


if __name__ == "__main__":
    main()
