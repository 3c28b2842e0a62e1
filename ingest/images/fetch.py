"""Images by HTTP: many at a time, few per host, politely, and from public addresses only.

An event loop in a thread of its own makes the requests; `HttpImages.read` waits for one.

What became of a URL is remembered in the dataset `fetches` (`images.fetch_log`), so a second run makes no request.
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version

import httpx
from pydantic import BaseModel, ConfigDict, Field

from ingest.datasets.root import DataRoot
from ingest.images.addresses import UnsafeAddressError, connect
from ingest.images.decoding import FORMATS
from ingest.images.fetch_log import (
    Fetched,
    FetchLog,
    as_datetime,
    now_us,
)
from ingest.images.http import Connection, Response
from ingest.images.sources import MAX_IMAGE_BYTES, ImageProblemError, ImageSource
from ingest.images.store import MAGIC, content_hash, image_path
from ingest.records import RejectReason

#: Seconds until the second attempt, doubled for each further one; half of it is left to chance.
BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 30.0

#: A host that asks for more patience than this is not waited for any longer.
MAX_RETRY_AFTER_SECONDS = 120.0

#: Connections to a host that cannot be made, in a row, until it is given up for the run. What a host does on one that
#: was made says nothing of its other images.
MAX_FAILED_CONNECTIONS = 20

CONNECT_SECONDS = 10.0

#: Of a response that is no image, so much is read to keep the connection.
MAX_OTHER_BYTES = 64 << 10

_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_NO_AI = {"noai", "noimageai"}
_HOST_NAME = re.compile(rb"[\w.:-]+")


class FetchSettings(BaseModel):
    """How images are fetched.

    Attributes
    ----------
    concurrency
        Requests at the same time, to all hosts.
    per_host, per_host_rate
        Requests at the same time, and per second (None: any number), to one host and port.
    timeout_s
        Seconds for one attempt, from connecting to the last byte.
    attempts
        Requests for one image, as long as the failure may pass: no connection, no response, status 429 or 5xx.
    allowed_private_hosts
        Hosts, as `host` or `host:port`, that may have private or loopback addresses.
    refresh
        Ask again for what earlier runs settled: images only if they have changed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    concurrency: int = Field(64, ge=1, le=1_024)
    per_host: int = Field(16, ge=1, le=1_024)
    per_host_rate: float | None = Field(None, ge=0.001, le=10_000)
    timeout_s: float = Field(30.0, gt=0, le=3_600)
    max_redirects: int = Field(5, ge=0, le=100)
    max_bytes: int = Field(MAX_IMAGE_BYTES, ge=1, le=1 << 32)
    attempts: int = Field(4, ge=1, le=100)
    allowed_private_hosts: tuple[str, ...] = ()
    user_agent: str = f"graph2image/{version('graph2image')}"
    refresh: bool = False


class _NotRequestedError(ImageProblemError):
    """An image was not asked for, as its host was given up before."""


@dataclass
class _Host:
    """What is kept of one scheme, host and port; used in the event loop only."""

    name: str
    port: int
    tls: ssl.SSLContext | None
    slots: asyncio.Semaphore
    idle: list[Connection] = field(default_factory=list)
    #: When the next request may start, by the loop's clock.
    next_at: float = 0.0
    #: Connections that could not be made since the last one that could.
    failures: int = 0


class HttpImages(ImageSource):
    """Images that the items name by URL.

    Parameters
    ----------
    data
        Holds the dataset `fetches`, and the images that earlier runs stored.
    """

    def __init__(self, data: DataRoot, settings: FetchSettings = FetchSettings()) -> None:  # noqa: B008 (frozen)
        self.concurrency = settings.concurrency
        self._data = data
        self._settings = settings
        self._log = FetchLog(data, refresh=settings.refresh)
        #: The requests whose outcome is not settled yet, by URL.
        self._under_way: dict[str, Future[Response]] = {}
        self._closed = False
        self._lock = threading.Lock()
        self._allowed = {host.lower() for host in settings.allowed_private_hosts}
        self._tls = httpx.create_ssl_context()
        self._hosts: dict[tuple[str, bytes], _Host] = {}
        #: All idle connections, the one idle for longest first.
        self._idle: OrderedDict[Connection, _Host] = OrderedDict()
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetch", daemon=True)
        self._thread.start()

    # -- the source, used by many threads ----------------------------------------------------------------------------

    def known(self, ref: str) -> str | None:
        fetched = self._log.final(self.url(ref))
        if fetched is None:
            return None
        if fetched.reason is not None:
            raise ImageProblemError(fetched.reason, fetched.detail or "")
        return fetched.image_hash

    def read(self, ref: str) -> bytes:
        url = self.url(ref)
        earlier = self._log.image(url)
        stored = self._stored(earlier) if earlier else None
        if stored is not None and not self._settings.refresh:
            # Fetched by a run that was killed before it had entered the image in the dataset.
            return stored
        try:
            response = self._response(url, earlier if stored is not None else None)
            return _content(response, stored)
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

    def looked_for(self, ref: str) -> str:
        return self.url(ref)

    def was_requested(self, ref: str) -> bool:
        return self._log.has(self.url(ref))

    def learn(self, ref: str, outcome: str | ImageProblemError) -> None:
        url = self.url(ref)
        with self._lock:
            future = self._under_way.pop(url, None)
        if future is None or isinstance(outcome, _NotRequestedError):
            return  # nothing was requested, or another thread has entered it
        image_hash, reason, detail, response = None, None, None, None
        if isinstance(outcome, str):
            image_hash = outcome
        else:
            reason, detail = outcome.reason, outcome.detail
        if not future.cancelled() and future.exception() is None:
            response = future.result()
        etag, modified = (response.header(b"etag"), response.header(b"last-modified")) if response else (None, None)
        self._log.record(url, Fetched(image_hash, reason, detail, etag, modified, now_us()))

    def fetched_at(self, ref: str) -> datetime | None:
        fetched = self._log.image(self.url(ref))
        return as_datetime(fetched.fetched_at) if fetched else None

    def close(self) -> None:
        """Break off what is under way (`read` then raises CancelledError), and write down what was settled."""
        with self._lock:
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._log.flush()

    def _stored(self, fetched: Fetched) -> bytes | None:
        """The bytes of an image that was fetched before, if they are still there."""
        assert fetched.image_hash is not None
        for suffix in FORMATS.values():
            path = image_path(fetched.image_hash, suffix)
            if self._data.exists(path):
                content = self._data.read_bytes(path)
                return content if content_hash(content) == fetched.image_hash else None
        return None

    def _response(self, url: str, earlier: Fetched | None) -> Response:
        """The response to one request for a URL, however many threads want it."""
        with self._lock:
            future = self._under_way.get(url)
            if self._closed:
                raise CancelledError
            if future is None:
                future = self._under_way[url] = asyncio.run_coroutine_threadsafe(self._fetch(url, earlier), self._loop)
        return future.result()

    # -- requests, in the event loop ---------------------------------------------------------------------------------

    async def _fetch(self, url: str, earlier: Fetched | None) -> Response:
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
            response = await self._request(target, headers)
            location = response.header(b"location")
            if response.status not in _REDIRECTS or location is None:
                return response
            target = _checked(location, target)
        detail = f"more than {self._settings.max_redirects} redirects"
        raise ImageProblemError(RejectReason.IMAGE_REFUSED, detail)

    async def _request(self, url: httpx.URL, headers: list[tuple[bytes, bytes]]) -> Response:
        """Request one address, several times if need be."""
        host = self._host(url)
        target = url.raw_path
        headers = [(b"Host", url.netloc), *headers]
        for attempt in range(self._settings.attempts):
            wait = None
            try:
                async with host.slots:
                    await self._turn(host)
                    if host.failures >= MAX_FAILED_CONNECTIONS:
                        raise _given_up(host, requested=attempt > 0)
                    async with self._slots, asyncio.timeout(self._settings.timeout_s):
                        response = await self._exchange(host, target, headers)
                if response.status not in _RETRIED:
                    return response
                trouble = f"{host.name} answered with status {response.status}"
                wait = _retry_after(response)
            except UnsafeAddressError as error:
                raise ImageProblemError(RejectReason.IMAGE_UNSAFE_ADDRESS, str(error)) from None
            except OSError as error:  # TimeoutError is one
                trouble = f"no response from {host.name}: {str(error) or 'not in time'}"
            if wait is not None:
                # All requests to the host wait, this one too.
                host.next_at = max(host.next_at, self._loop.time() + wait)
            elif attempt + 1 < self._settings.attempts:
                pause = min(BACKOFF_SECONDS * 2**attempt, MAX_BACKOFF_SECONDS)
                await asyncio.sleep(pause * random.uniform(0.5, 1))
        raise ImageProblemError(RejectReason.IMAGE_UNREACHABLE, trouble)

    def _host(self, url: httpx.URL) -> _Host:
        host = self._hosts.get((url.scheme, url.netloc))
        if host is None:
            tls = self._tls if url.scheme == "https" else None
            port = url.port or (443 if tls else 80)
            slots = asyncio.Semaphore(self._settings.per_host)
            host = self._hosts[url.scheme, url.netloc] = _Host(url.raw_host.decode("ascii"), port, tls, slots)
        return host

    async def _turn(self, host: _Host) -> None:
        """Wait until the rate, or what the host asked for, lets the next request start."""
        now = self._loop.time()
        start = max(now, host.next_at)
        if self._settings.per_host_rate is not None:
            host.next_at = start + 1 / self._settings.per_host_rate
        if start > now:
            await asyncio.sleep(start - now)

    async def _exchange(self, host: _Host, target: bytes, headers: list[tuple[bytes, bytes]]) -> Response:
        """One request and its response, on a connection of its own for that time."""
        connection = await self._connection(host)
        response = await connection.get(target, headers, self._max_bytes)
        if connection.is_open:
            host.idle.append(connection)
            self._idle[connection] = host
            if len(self._idle) > self._settings.concurrency:
                oldest, its_host = self._idle.popitem(last=False)
                its_host.idle.remove(oldest)
                oldest.close()
        if response.content is None and _is_wanted(response):
            raise ImageProblemError(RejectReason.IMAGE_TOO_LARGE, f"it has more than {self._settings.max_bytes} bytes")
        return response

    async def _connection(self, host: _Host) -> Connection:
        while host.idle:
            connection = host.idle.pop()
            del self._idle[connection]
            if connection.is_open:
                return connection
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await connect(host.name, host.port, Connection, tls=host.tls, allowed=self._allowed)
        except (OSError, asyncio.CancelledError):  # cancelled: the time for the whole attempt is over
            host.failures += 1
            raise
        host.failures = 0
        return connection

    def _max_bytes(self, response: Response) -> int:
        return self._settings.max_bytes if _is_wanted(response) else MAX_OTHER_BYTES

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self._idle:
            connection.close()


def _given_up(host: _Host, *, requested: bool) -> ImageProblemError:
    kind = ImageProblemError if requested else _NotRequestedError
    detail = f"{host.name} was given up after {host.failures} failed connections in a row"
    return kind(RejectReason.IMAGE_UNREACHABLE, detail)


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


def _content(response: Response, stored: bytes | None) -> bytes:
    """The bytes that a response brought; `stored` if it says that they are still the same."""
    status = response.status
    unchanged = status == 304 and stored is not None
    if status in (404, 410):
        raise ImageProblemError(RejectReason.IMAGE_MISSING, f"status {status}")
    if status // 100 != 2 and not unchanged:
        raise ImageProblemError(RejectReason.IMAGE_REFUSED, f"status {status}")
    if _opted_out(response):
        raise ImageProblemError(RejectReason.IMAGE_OPTED_OUT, "its X-Robots-Tag is noai or noimageai")
    if unchanged:
        assert stored is not None
        return stored
    assert response.content is not None
    encoding = (response.header(b"content-encoding") or "identity").lower()
    if encoding != "identity" and not _looks_like_an_image(response.content):
        raise ImageProblemError(RejectReason.IMAGE_REFUSED, f"sent as {encoding}, which was not asked for")
    return response.content


def _looks_like_an_image(content: bytes) -> bool:
    """Whether the bytes are those of an image as it is, whatever the header says they are packed in."""
    return content.startswith(MAGIC) or content[4:8] == b"ftyp"  # AVIF


def _is_wanted(response: Response) -> bool:
    """Whether the content is an image that may be kept, as far as the head of the response tells."""
    return response.status // 100 == 2 and not _opted_out(response)


def _opted_out(response: Response) -> bool:
    """Whether the host keeps the image from machine learning, by whatever bot's name."""
    for name, value in response.headers:
        if name == b"x-robots-tag" and not _NO_AI.isdisjoint(re.split(r"[,:;\s]+", value.decode("latin-1").lower())):
            return True
    return False


def _retry_after(response: Response) -> float | None:
    """Seconds that the host asks to wait, in moderation."""
    value = response.header(b"retry-after")
    if value is None:
        return None
    try:
        seconds = (
            float(value) if value.isdigit() else (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        )
    except (ValueError, TypeError):  # TypeError: a date without a time zone
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
