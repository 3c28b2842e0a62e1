"""HTTP/1.1 GET on connections that are used again: h11 reads the protocol, asyncio moves the bytes.

Header lines that are odd but do no harm (blanks before the colon, a line without one) are put right or left out before
h11 sees them, as browsers do; the connection is then not used again, as what follows might be taken for something else.

No more than fetching many small files needs, and that cheaply: one wake-up of the waiting task per response. A general
client costs three times the processor time of a request, and those with a pool more the more connections are open.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import h11

#: Header lines of a response, in bytes altogether.
MAX_HEADER_BYTES = 64 << 10


_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_HEADER_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_INFORMATIONAL = re.compile(rb"HTTP/1\.[01] 1\d\d\b")


class Response(NamedTuple):
    """A response; header names are in lower case. `content` is None if there was more of it than allowed."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    content: bytes | None

    def header(self, name: bytes) -> str | None:
        """The first value of a header."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1").strip()
        return None


class Connection(asyncio.Protocol):
    """A connection to a host, for one request after the other."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._loop = asyncio.get_running_loop()
        self._response: asyncio.Future[Response] | None = None
        self._head: h11.Response | None = None
        self._parts: list[bytes] = []
        self._left = 0
        #: What has come of the head; None once it is complete.
        self._head_bytes: bytes | None = b""
        self._is_reusable = True

    async def get(
        self, target: bytes, headers: list[tuple[bytes, bytes]], max_bytes: Callable[[Response], int]
    ) -> Response:
        """Request `target`, and wait for the whole response.

        Parameters
        ----------
        max_bytes
            Tells from status and headers how much content is read before the connection is closed instead.

        Raises
        ------
        ConnectionError
            If there is no response, or it breaks off or is not HTTP.
        """
        self._response = self._loop.create_future()
        self._max_bytes = max_bytes
        try:
            request = self._http.send(h11.Request(method=b"GET", target=target, headers=headers))
            self._transport.write((request or b"") + (self._http.send(h11.EndOfMessage()) or b""))
            return await self._response
        except h11.LocalProtocolError as error:
            raise ConnectionError(str(error)) from None
        finally:
            self._response = None
            self._head = None
            self._parts = []
            self._head_bytes = b""
            if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE and self._is_reusable:
                self._http.start_next_cycle()
            else:
                self.close()

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    # -- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._response is None or self._response.done():
            self.close()  # nothing was asked: what comes is not to be taken for the next response
            return
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        if self._head_bytes is not None:
            self._head_bytes += data
            end = _HEAD_END.search(self._head_bytes)
            if end is None and data and len(self._head_bytes) <= MAX_HEADER_BYTES:
                return
            data, self._head_bytes = self._head_bytes, None
            if end is not None:
                head = cleaned_head(data[: end.end()])
                self._is_reusable = head == data[: end.end()]
                if _INFORMATIONAL.match(head):  # the head of the response itself follows
                    self._http.receive_data(head)
                    self._read_events()
                    self._head_bytes = b""
                    self._receive(data[end.end() :])
                    return
                data = head + data[end.end() :]
        self._http.receive_data(data)
        self._read_events()

    def eof_received(self) -> None:
        self.data_received(b"")

    def connection_lost(self, error: Exception | None) -> None:
        if self._response is not None and not self._response.done():
            self._response.set_exception(ConnectionError(str(error or "the connection was closed")))

    def _read_events(self) -> None:
        if self._response is None or self._response.done():
            return
        try:
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Data):
                    self._left -= len(event.data)
                    if self._left < 0:
                        self._finish(None)
                        return
                    self._parts.append(bytes(event.data))
                elif isinstance(event, h11.Response):
                    self._head = event
                    response = Response(event.status_code, event.headers, None)
                    self._left = self._max_bytes(response)
                    length = response.header(b"content-length") or ""
                    if length.isdecimal() and int(length) > self._left:
                        self._finish(None)
                        return
                elif isinstance(event, h11.EndOfMessage):
                    if self._http.trailing_data[0]:
                        self.close()
                    self._finish(b"".join(self._parts))
                    return
        except h11.RemoteProtocolError as error:
            self._response.set_exception(ConnectionError(str(error)))

    def _finish(self, content: bytes | None) -> None:
        assert self._response is not None
        assert self._head is not None
        self._response.set_result(Response(self._head.status_code, self._head.headers, content))


def cleaned_head(head: bytes) -> bytes:
    """The head of a response without header lines that are none, and the others as they should be; equal if all are."""
    status, *lines = _LINE_END.split(head)[:-2]
    kept = [status]
    is_kept = False
    for line in lines:
        if line[:1] in (b" ", b"\t"):  # continues the line before
            if is_kept:
                kept[-1] += b" " + _CONTROLS.sub(b"", line.strip())
            continue
        name, colon, value = line.partition(b":")
        name = name.strip()
        is_kept = bool(colon and _HEADER_NAME.fullmatch(name)) and not _is_void(name, value)
        if is_kept:
            kept.append(name + b":" + _CONTROLS.sub(b"", value))
    return b"\r\n".join([*kept, b"", b""])


def _is_void(name: bytes, value: bytes) -> bool:
    """Whether a header says in an outdated way that the content is sent as it is."""
    return name.lower() == b"transfer-encoding" and value.strip().lower() in (b"", b"identity", b"none")
