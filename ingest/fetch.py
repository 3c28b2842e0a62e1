"""Pictures by HTTP: many at a time, few per host, politely, and from public addresses only.

An event loop in a thread of its own makes the requests; `HttpImages.read` waits for one. Connections are httpcore's,
kept alive in a plain list per host: the pool that comes with it (and with httpx) looks at all connections for every
request, which at 64 of them takes twenty times as long as the request itself.

What became of a URL is remembered in the dataset `fetches` (`ingest.fetchledger`), so a second run makes no request.
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections import OrderedDict
from collections.abc import AsyncIterable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any, NamedTuple, cast

import httpcore
import httpx
from pydantic import BaseModel, ConfigDict, Field

from ingest.addresses import PublicNetwork, UnsafeAddressError
from ingest.datasets import DataRoot
from ingest.fetchledger import Fetched, FetchLedger, as_datetime, now_us
from ingest.images import FORMATS, content_hash, image_path
from ingest.imagesources import MAX_IMAGE_BYTES, ImageProblemError, ImageSource
from ingest.records import RejectReason

#: Seconds until the second attempt, doubled for each further one; half of it is left to chance.
BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 30.0

#: A host that asks for more patience than this is not waited for any longer.
MAX_RETRY_AFTER_SECONDS = 120.0

#: Connections to a host that fail in a row until it is given up for the run.
MAX_FAILED_CONNECTIONS = 20

CONNECT_SECONDS = 10.0
KEEPALIVE_SECONDS = 30.0

#: Of an answer that is no picture, so much is read to keep the connection.
MAX_OTHER_BYTES = 64 << 10

_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_NO_AI = {"noai", "noimageai"}
_HOST_NAME = re.compile(rb"[\w.:-]+")


class FetchSettings(BaseModel):
    """How pictures are fetched.

    Attributes
    ----------
    concurrency
        Requests at the same time, to all hosts.
    per_host, per_host_rate
        Requests at the same time, and per second (None: any number), to one host and port.
    timeout_s
        Seconds for one attempt, from connecting to the last byte.
    attempts
        Requests for one picture, as long as the failure may pass: no connection, no answer, status 429 or 5xx.
    allowed_private_hosts
        Hosts, as `host` or `host:port`, that may have private or loopback addresses.
    refresh
        Ask again for what earlier runs settled: pictures only if they have changed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: int = Field(64, ge=1)
    per_host: int = Field(16, ge=1)
    per_host_rate: float | None = Field(None, gt=0)
    timeout_s: float = Field(30.0, gt=0)
    max_redirects: int = Field(5, ge=0)
    max_bytes: int = Field(MAX_IMAGE_BYTES, ge=1)
    attempts: int = Field(4, ge=1)
    allowed_private_hosts: tuple[str, ...] = ()
    user_agent: str = f"graph2image/{version('graph2image')}"
    refresh: bool = False


class _Answer(NamedTuple):
    """A response. `content` is None if it was not read to the end."""

    status: int
    headers: dict[bytes, list[bytes]]
    content: bytes | None

    def header(self, name: bytes) -> str | None:
        values = self.headers.get(name)
        return values[0].decode("latin-1").strip() if values else None


@dataclass
class _Host:
    """What is kept of one scheme, host and port; used in the event loop only."""

    slots: asyncio.Semaphore
    idle: list[httpcore.AsyncHTTPConnection]
    #: When the next request may start, by the loop's clock.
    next_at: float = 0.0
    failures: int = 0


class HttpImages(ImageSource):
    """Pictures that the items name by URL.

    Parameters
    ----------
    data
        Holds the dataset `fetches`, and the pictures that earlier runs stored.
    """

    def __init__(self, data: DataRoot, settings: FetchSettings = FetchSettings()) -> None:  # noqa: B008 (frozen)
        self.concurrency = settings.concurrency
        self._data = data
        self._settings = settings
        self._ledger = FetchLedger(data, refresh=settings.refresh)
        #: The requests whose outcome is not settled yet, by URL.
        self._under_way: dict[str, Future[_Answer]] = {}
        self._closed = False
        self._lock = threading.Lock()
        self._network = PublicNetwork(settings.allowed_private_hosts)
        self._tls = httpx.create_ssl_context()
        self._hosts: dict[tuple[str, bytes], _Host] = {}
        #: All idle connections, the one idle for longest first.
        self._idle: OrderedDict[httpcore.AsyncHTTPConnection, _Host] = OrderedDict()
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetch", daemon=True)
        self._thread.start()

    # -- the source, used by many threads ----------------------------------------------------------------------------

    def known(self, ref: str) -> str | None:
        fetched = self._ledger.settled(self.url(ref))
        if fetched is None:
            return None
        if fetched.reason is not None:
            raise ImageProblemError(fetched.reason, fetched.detail or "")
        return fetched.image_hash

    def read(self, ref: str) -> bytes:
        url = self.url(ref)
        earlier = self._ledger.picture(url)
        stored = self._stored(earlier) if earlier else None
        if stored is not None and not self._settings.refresh:
            # Fetched by a run that was killed before it had entered the picture in the dataset.
            return stored
        try:
            answer = self._answer(url, earlier if stored is not None else None)
            return _picture(answer, stored)
        except ImageProblemError as problem:
            if stored is not None and problem.reason == RejectReason.IMAGE_UNREACHABLE:
                return stored
            self.learn(ref, problem)
            raise

    def url(self, ref: str) -> str:
        """`ref` without credentials and fragment; neither is ever sent, stored or logged."""
        if "@" not in ref and "#" not in ref:
            return ref.strip()
        with suppress(httpx.InvalidURL):
            return str(_without_secrets(httpx.URL(ref.strip())))
        return re.sub(r"//[^/]*@", "//", ref.strip())

    def learn(self, ref: str, outcome: str | ImageProblemError) -> None:
        url = self.url(ref)
        with self._lock:
            future = self._under_way.pop(url, None)
        if future is None:
            return  # nothing was requested, or another thread has entered it
        image_hash, reason, detail, answer = None, None, None, None
        if isinstance(outcome, str):
            image_hash = outcome
        else:
            reason, detail = outcome.reason, outcome.detail
        if not future.cancelled() and future.exception() is None:
            answer = future.result()
        etag, modified = (answer.header(b"etag"), answer.header(b"last-modified")) if answer else (None, None)
        self._ledger.settle(url, Fetched(image_hash, reason, detail, etag, modified, now_us()))

    def fetched_at(self, ref: str) -> datetime | None:
        fetched = self._ledger.picture(self.url(ref))
        return as_datetime(fetched.fetched_at) if fetched else None

    def close(self) -> None:
        """Break off what is under way (`read` then raises CancelledError), and write down what was settled."""
        with self._lock:
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._ledger.flush()

    def _stored(self, fetched: Fetched) -> bytes | None:
        """The bytes of a picture that was fetched before, if they are still there."""
        assert fetched.image_hash is not None
        for suffix in FORMATS.values():
            path = image_path(fetched.image_hash, suffix)
            if self._data.exists(path):
                content = self._data.read_bytes(path)
                return content if content_hash(content) == fetched.image_hash else None
        return None

    def _answer(self, url: str, earlier: Fetched | None) -> _Answer:
        """The answer to one request for a URL, however many threads want it."""
        with self._lock:
            future = self._under_way.get(url)
            if self._closed:
                raise CancelledError
            if future is None:
                future = self._under_way[url] = asyncio.run_coroutine_threadsafe(self._fetch(url, earlier), self._loop)
        return future.result()

    # -- requests, in the event loop ---------------------------------------------------------------------------------

    async def _fetch(self, url: str, earlier: Fetched | None) -> _Answer:
        """Request a URL and follow where it leads."""
        headers = [
            (b"User-Agent", self._settings.user_agent.encode()),
            (b"Accept", b"image/*"),
            (b"Accept-Encoding", b"identity"),
        ]
        if earlier is not None and earlier.etag:
            headers.append((b"If-None-Match", earlier.etag.encode("latin-1", "replace")))
        if earlier is not None and earlier.last_modified:
            headers.append((b"If-Modified-Since", earlier.last_modified.encode("latin-1", "replace")))
        target = _checked(url)
        for _ in range(self._settings.max_redirects + 1):
            answer = await self._request(target, headers)
            location = answer.header(b"location")
            if answer.status not in _REDIRECTS or location is None:
                return answer
            target = _checked(location, target)
        detail = f"more than {self._settings.max_redirects} redirects"
        raise ImageProblemError(RejectReason.IMAGE_REFUSED, detail)

    async def _request(self, url: httpx.URL, headers: list[tuple[bytes, bytes]]) -> _Answer:
        """Request one address, several times if need be."""
        request = httpcore.Request(
            "GET",
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=[(b"Host", url.netloc), *headers],
            extensions={"timeout": {"connect": min(CONNECT_SECONDS, self._settings.timeout_s)}},
        )
        host = self._hosts.get((url.scheme, url.netloc))
        if host is None:
            host = self._hosts[url.scheme, url.netloc] = _Host(asyncio.Semaphore(self._settings.per_host), [])
        name = url.raw_host.decode("ascii")
        for attempt in range(self._settings.attempts):
            wait = None
            try:
                async with host.slots:
                    await self._turn(host)
                    if host.failures >= MAX_FAILED_CONNECTIONS:
                        trouble = f"{name} was given up after {host.failures} failed connections in a row"
                        break
                    async with self._slots, asyncio.timeout(self._settings.timeout_s):
                        answer = await self._exchange(host, request)
                host.failures = 0
                if answer.status not in _RETRIED:
                    return answer
                trouble = f"{name} answered with status {answer.status}"
                wait = _retry_after(answer)
            except UnsafeAddressError as error:
                raise ImageProblemError(RejectReason.IMAGE_UNSAFE_ADDRESS, str(error)) from None
            except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, TimeoutError) as error:
                host.failures += 1
                trouble = f"no answer from {name}: {str(error) or f'not within {self._settings.timeout_s} s'}"
            if wait is not None:
                # All requests to the host wait, this one too.
                host.next_at = max(host.next_at, self._loop.time() + wait)
            elif attempt + 1 < self._settings.attempts:
                pause = min(BACKOFF_SECONDS * 2**attempt, MAX_BACKOFF_SECONDS)
                await asyncio.sleep(pause * random.uniform(0.5, 1))
        raise ImageProblemError(RejectReason.IMAGE_UNREACHABLE, trouble)

    async def _turn(self, host: _Host) -> None:
        """Wait until the rate, or what the host asked for, lets the next request start."""
        now = self._loop.time()
        start = max(now, host.next_at)
        if self._settings.per_host_rate is not None:
            host.next_at = start + 1 / self._settings.per_host_rate
        if start > now:
            await asyncio.sleep(start - now)

    async def _exchange(self, host: _Host, request: httpcore.Request) -> _Answer:
        """One request and its answer, on a connection of its own for that time."""
        connection = await self._connection(host, request.url.origin)
        try:
            response = await connection.handle_async_request(request)
            headers: dict[bytes, list[bytes]] = {}
            for name, value in response.headers:
                headers.setdefault(name.lower(), []).append(value)
            answer = _Answer(response.status, headers, None)
            accepted = response.status // 100 == 2 and not _opted_out(answer)
            limit = self._settings.max_bytes if accepted else MAX_OTHER_BYTES
            content = await _read(response, answer, limit)
        finally:
            await self._put_back(connection, host)
        if accepted and content is None:
            raise ImageProblemError(RejectReason.IMAGE_TOO_LARGE, f"it has more than {limit} bytes")
        return answer._replace(content=content)

    async def _connection(self, host: _Host, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        while host.idle:
            connection = host.idle.pop()
            del self._idle[connection]
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return httpcore.AsyncHTTPConnection(
            origin, ssl_context=self._tls, keepalive_expiry=KEEPALIVE_SECONDS, network_backend=self._network
        )

    async def _put_back(self, connection: httpcore.AsyncHTTPConnection, host: _Host) -> None:
        """Keep a connection for the next request, unless it was left in the middle of an answer."""
        if not connection.is_idle() or connection.is_closed():
            await connection.aclose()
            return
        host.idle.append(connection)
        self._idle[connection] = host
        if len(self._idle) > self._settings.concurrency:
            oldest, its_host = self._idle.popitem(last=False)
            its_host.idle.remove(oldest)
            await oldest.aclose()

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self._idle:
            await connection.aclose()


def _checked(address: str, base: httpx.URL | None = None) -> httpx.URL:
    """The URL of an HTTP request, relative to `base` if given; raises ImageProblemError if it is none."""
    try:
        url = httpx.URL(address) if base is None else base.join(address)
    except (httpx.InvalidURL, ValueError):
        # Without the URL, which may have a password in it.
        raise ImageProblemError(RejectReason.IMAGE_UNSAFE_ADDRESS, "not a valid address") from None
    valid = _HOST_NAME.fullmatch(url.raw_host) and 0 < (url.port or 80) < 65536
    if url.scheme not in ("http", "https") or not valid:
        raise ImageProblemError(RejectReason.IMAGE_UNSAFE_ADDRESS, "not the address of an http or https host")
    return _without_secrets(url)


def _without_secrets(url: httpx.URL) -> httpx.URL:
    return url.copy_with(username=None, password=None, fragment=None) if url.userinfo or url.fragment else url


async def _read(response: httpcore.Response, answer: _Answer, limit: int) -> bytes | None:
    """The content of a response; None, and the rest left unread, if it has more than `limit` bytes."""
    stream = cast(Any, response.stream)
    try:
        declared = answer.header(b"content-length") or ""
        if declared.isdecimal() and int(declared) > limit:
            return None
        parts = []
        size = 0
        async for part in cast(AsyncIterable[bytes], stream):
            parts.append(part)
            size += len(part)
            if size > limit:
                return None
        return b"".join(parts)
    finally:
        await stream.aclose()


def _picture(answer: _Answer, stored: bytes | None) -> bytes:
    """The bytes that an answer brought; `stored` if it says that they are still the same."""
    status = answer.status
    unchanged = status == 304 and stored is not None
    if status in (404, 410):
        raise ImageProblemError(RejectReason.IMAGE_MISSING, f"status {status}")
    if status // 100 != 2 and not unchanged:
        raise ImageProblemError(RejectReason.IMAGE_REFUSED, f"status {status}")
    if _opted_out(answer):
        raise ImageProblemError(RejectReason.IMAGE_OPTED_OUT, "its X-Robots-Tag is noai or noimageai")
    if unchanged:
        assert stored is not None
        return stored
    assert answer.content is not None
    encoding = (answer.header(b"content-encoding") or "identity").lower()
    if encoding != "identity":
        raise ImageProblemError(RejectReason.IMAGE_REFUSED, f"sent as {encoding}, which was not asked for")
    return answer.content


def _opted_out(answer: _Answer) -> bool:
    """Whether the host keeps the picture from machine learning, by whatever bot's name."""
    values = b",".join(answer.headers.get(b"x-robots-tag", ())).decode("latin-1").lower()
    return not _NO_AI.isdisjoint(re.split(r"[,:;\s]+", values)) if values else False


def _retry_after(answer: _Answer) -> float | None:
    """Seconds that the host asks to wait, in moderation."""
    value = answer.header(b"retry-after")
    if value is None:
        return None
    try:
        seconds = (
            float(value) if value.isdigit() else (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        )
    except (ValueError, TypeError):  # TypeError: a date without a time zone
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
