"""Images by HTTP: ours (fetched, decoded, hashed, stored as received) against img2dataset in two ways.

"As received" it stores the bytes without looking at them; "decoding" it decodes every image, as we do to tell that it
is one, and then stores it encoded again, which is what it does unless told otherwise (at their own size here).

A server in a process of its own answers after 20 ms, 2% of the time with status 503. Everybody gets the same list, the
same number of requests at a time and up to four attempts, and starts as a process of its own: `images/s` counts the
whole run, `while fetching` leaves out starting up (of img2dataset, what its own statistics say).
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import describe_machine, peer_python, print_json, print_table
from PIL import Image

IMG2DATASET = "img2dataset==1.47.0"

OURS = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from ingest.datasets.root import DataRoot
from ingest.images.fetch import FetchSettings, HttpImages
from ingest.images.store import ImageStore, StoredImage

urls, out, concurrency = open(sys.argv[1]).read().split(), sys.argv[2], int(sys.argv[3])
start = time.perf_counter()
data = DataRoot(out)
settings = FetchSettings(concurrency=concurrency, per_host=concurrency, allowed_private_hosts=("127.0.0.1",))
with closing(HttpImages(data, settings)) as source, ThreadPoolExecutor(concurrency) as pool:
    store = ImageStore(data, source)
    for image in pool.map(lambda url: store.acquire([url]), urls):
        assert isinstance(image, StoredImage), image
        store.record(image)
    store.flush()
print(time.perf_counter() - start)
"""

PEER = """
import json, sys
from pathlib import Path
from img2dataset import download

if __name__ == "__main__":
    urls, out, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3])
    download(
        url_list=urls, output_folder=out, output_format="files", processes_count=1, thread_count=concurrency,
        retries=3, resize_mode="no", disable_all_reencoding=AS_RECEIVED, extract_exif=False,
        number_sample_per_shard=1_000_000,
    )
    print(json.loads(Path(out, "00000_stats.json").read_text())["duration"])
"""


def make_images(count: int) -> list[bytes]:
    """JPEGs of smooth noise, about 27 KB each, no two alike."""
    images = []
    for seed in range(count):
        noise = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).resize((320, 320), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
        images.append(stream.getvalue())
    return images


class Server(asyncio.Protocol):
    """As little HTTP as the clients need, so that the server costs little beside them."""

    def __init__(self, images: list[bytes], latency: float, failures: float, chance: random.Random) -> None:
        self._images = images
        self._latency = latency
        self._failures = failures
        self._chance = chance
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, self._received = self._received.split(b"\r\n\r\n", 1)
            number = int(head.split(b" ", 2)[1].removeprefix(b"/").removesuffix(b".jpg"))
            last = b"connection: close" in head.lower()
            asyncio.get_running_loop().call_later(self._latency, self._answer, number, last)

    def _answer(self, number: int, last: bool) -> None:
        status, body = b"200 OK", self._images[number]
        if self._chance.random() < self._failures:
            status, body = b"503 Busy", b""
        self._transport.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        if last:
            self._transport.close()


def serve(ports: Any, count: int, latency: float, failures: float) -> None:
    """Serve for ever; puts the port into the queue when ready."""
    images, chance = make_images(count), random.Random(0)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        protocol: Callable[[], Server] = lambda: Server(images, latency, failures, chance)  # noqa: E731
        server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=1024)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def measure(
    python: Path, script: str, urls: Path, out: Path, concurrency: int, environment: dict[str, str]
) -> tuple[float, float]:
    """Run a script; returns the seconds it took in all, and those that it says it spent fetching."""
    program = out.with_suffix(".py")
    program.write_text(script)
    command = [str(python), str(program), str(urls), str(out), str(concurrency)]
    start = time.perf_counter()
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | environment)
    seconds = time.perf_counter() - start
    stored = sum(1 for _ in out.rglob("*.jpg"))
    expected = len(urls.read_text().split())
    if stored < 0.99 * expected:
        raise SystemExit(f"only {stored} of {expected} images were stored")
    return seconds, json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds until the server answers")
    parser.add_argument("--failures", type=float, default=0.02, help="share of the answers with status 503")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn; the fastest counts")
    parser.add_argument("--folder", help="where images are stored for the time; /dev/shm leaves out the disk")
    arguments = parser.parse_args()
    peer = peer_python("img2dataset", [IMG2DATASET])
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    server = context.Process(
        target=serve, args=(ports, arguments.images, arguments.latency, arguments.failures), daemon=True
    )
    server.start()
    port = ports.get()
    quiet = {"NO_ALBUMENTATIONS_UPDATE": "1"}
    contenders = {
        "graph2image": (Path(sys.executable), OURS, {"PYTHONPATH": str(Path(__file__).parents[1])}),
        "img2dataset, as received": (peer, PEER.replace("AS_RECEIVED", "True"), quiet),
        "img2dataset, decoding": (peer, PEER.replace("AS_RECEIVED", "False"), quiet),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    # Removed at the end only: ext4 is slow at making files where many were deleted a moment ago.
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        urls = Path(folder, "urls.txt")
        urls.write_text("".join(f"http://127.0.0.1:{port}/{i}.jpg\n" for i in range(arguments.images)))
        for repeat in range(arguments.repeats):
            for name, (python, script, environment) in contenders.items():
                out = Path(folder, f"{name.replace(', ', '-').replace(' ', '-')}-{repeat}")
                seconds[name].append(measure(python, script, urls, out, arguments.concurrency, environment))
    server.terminate()
    rates = {
        name: {
            "images/s": arguments.images / min(whole for whole, _ in runs),
            "while fetching": arguments.images / min(fetching for _, fetching in runs),
        }
        for name, runs in seconds.items()
    }
    print_table([{"": name} | rate for name, rate in rates.items()])
    ours = rates["graph2image"]
    ratios = {name: {key: ours[key] / rate[key] for key in rate} for name, rate in rates.items() if rate is not ours}
    print_json(
        {"benchmark": "fetch", **vars(arguments), "rates": rates, "ratios": ratios, "machine": describe_machine()}
    )


if __name__ == "__main__":
    main()
