"""A web server on this machine that answers as a test tells it to."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import NamedTuple


class Reply(NamedTuple):
    """`delay` seconds before the head, `drip` seconds before each half of the body."""

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    drip: float = 0.0


#: By path: one reply to all requests, or a list of which the last one stays, or a function of the request's headers.
Replies = dict[str, Reply | list[Reply] | Callable[[dict[str, str]], Reply]]


@dataclass
class WebServer:
    """What the server answers, and what it was asked."""

    url: str
    port: int
    replies: Replies = field(default_factory=dict)
    #: How often each path was asked for, with what headers the last time, and when.
    requests: Counter[str] = field(default_factory=Counter)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    connections: int = 0
    busiest: int = 0
    _busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def gaps(self, path: str) -> list[float]:
        """Seconds between the requests for a path."""
        return [later - earlier for earlier, later in pairwise(self.times[path])]

    def answer(self, path: str, headers: dict[str, str]) -> Reply:
        with self._lock:
            number = self.requests[path]
            self.requests[path] += 1
            self.headers[path] = headers
            self.times[path].append(time.monotonic())
            reply = self.replies.get(path, Reply(b"nothing here", 404))
        if isinstance(reply, list):
            return reply[min(number, len(reply) - 1)]
        return reply if isinstance(reply, Reply) else reply(headers)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """A request while it is answered."""
        with self._lock:
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        yield
        with self._lock:
            self._busy -= 1


@contextmanager
def serve() -> Iterator[WebServer]:
    """A server on a free port of the loopback address, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            web.connections += 1

        def do_GET(self) -> None:
            with web.counted():
                reply = web.answer(self.path, {name.lower(): value for name, value in self.headers.items()})
                time.sleep(reply.delay)
                self.send_response(reply.status)
                names = {name.lower() for name, _ in reply.headers}
                for name, value in reply.headers:
                    self.send_header(name, value)
                if "content-length" not in names:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                middle = len(reply.body) // 2
                for part in (reply.body[:middle], reply.body[middle:]):
                    time.sleep(reply.drip)
                    self.wfile.write(part)
                    self.wfile.flush()

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    web = WebServer(f"http://127.0.0.1:{server.server_port}", server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
