"""Who may ask the explorer, and for how much: an ASGI middleware in front of everything that it serves.

- The `Host` of a request must be one that the server was started for: a page of another name that resolves to this
  machine (DNS rebinding) is refused.
- A browser says where a request comes from (`Origin`, `Sec-Fetch-Site`): from other sites only links to pages are
  followed; nothing is embedded, read or sent.
- With a token, every request needs it: as `Authorization: Bearer`, or as the cookie that the sign-in page sets.
- Bodies are bounded in size and in time, and so is the number of requests of one address.
- Every answer has a strict Content-Security-Policy and the headers that go with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Largest body of a request, and of an upload of an image, in bytes.
MAX_BODY = 64 * 1024
MAX_UPLOAD = 20 * 1024 * 1024
#: Seconds in which a body must have come.
BODY_SECONDS = 30.0
#: Requests of one address: so many at once, and so many a second from then on. A wall of thumbnails takes hundreds.
BURST, PER_SECOND = 600, 120.0
_ADDRESSES = 10_000

#: Where images may be uploaded to.
UPLOADS = "/api/search/image"
#: What is served without a token.
OPEN = ("/signin", "/static/", "/healthz")
COOKIE = "graph2image-explorer"

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes
    ----------
    hosts
        Names by which the server may be called, in lower case; addresses are always taken if there is a token.
    token
        What every request must bring; None asks for nothing, on the loopback interface.
    """

    hosts: frozenset[str]
    token: bytes | None = None

    @classmethod
    def of(cls, host: str, token: bytes | None = None) -> Access:
        """Access to a server that listens on `host`."""
        names = {"localhost", "127.0.0.1", "::1", host.lower()}
        if not is_loopback(host):
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        return cls(frozenset(names), token)

    def knows(self, host: str) -> bool:
        """Whether the `Host` of a request, with or without a port, names this server."""
        name = _without_port(host).lower()
        # No name leads to an address by DNS that is written out; with a token nobody is let in by it alone.
        return name in self.hosts or (self.token is not None and _is_address(name))

    @property
    def cookie(self) -> str:
        """What the sign-in page gives: derived from the token, which the browser does not keep."""
        return hmac.new(self.token or b"", b"graph2image explorer", hashlib.sha256).hexdigest()

    def is_token(self, given: str) -> bool:
        """Compare in constant time."""
        return self.token is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self.token)

    def lets_in(self, headers: Headers) -> bool:
        """Whether a request with these headers brings the token."""
        if self.token is None:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(bearer.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self.cookie.encode())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


class TooMuchError(HTTPException):
    """A body is larger than it may be, or does not come. The application answers it, as it does its own errors."""


class Guard:
    """The middleware; see the module's notes."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no websockets

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._refused(scope)
        if refused is not None:
            await refused(scope, receive, send_guarded)
        else:
            await self._app(scope, self._bounded(scope, receive), send_guarded)

    def _refused(self, scope: Scope) -> Response | None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._access.knows(hosts[0]):
            return refusal(421, "this server is not known by that name", "Call it by the address that it has printed.")
        if not self._may_come_from_there(scope, headers, hosts[0]):
            return refusal(403, "requests from other sites are not answered")
        if not self._has_turn((scope.get("client") or ("",))[0]):
            return refusal(429, "too many requests", "Wait a second.", {"retry-after": "1"})
        if _length(headers) > _limit(path):
            return refusal(413, f"more than {_limit(path):,} bytes are not taken")
        if path.startswith(OPEN) or self._access.lets_in(headers):
            return None
        if method == "GET" and not path.startswith(("/api", "/images")):
            return RedirectResponse("/signin", 303)
        return refusal(
            401, "a token is needed", "Send it as `Authorization: Bearer TOKEN`.", {"www-authenticate": "Bearer"}
        )

    def _may_come_from_there(self, scope: Scope, headers: Headers, host: str) -> bool:
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return False
        if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
            return True
        is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return scope["method"] == "GET" and is_link and not scope["path"].startswith(("/api/", "/images/"))

    def _has_turn(self, address: str) -> bool:
        """A bucket of requests per address, which fills again with time."""
        now = time.monotonic()
        left, then = self._buckets.pop(address, (float(BURST), now))
        left = min(float(BURST), left + (now - then) * PER_SECOND)
        self._buckets[address] = (max(0.0, left - 1.0), now)
        if len(self._buckets) > _ADDRESSES:
            self._buckets.popitem(last=False)
        return left >= 1.0

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        limit, deadline, size = _limit(scope["path"]), time.monotonic() + BODY_SECONDS, 0
        ended = False

        async def receive_bounded() -> Message:
            nonlocal size, ended
            if ended:
                return await receive()  # waits for the client to leave
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                raise TooMuchError(408, "the request did not come in time") from error
            size += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if size > limit:
                raise TooMuchError(413, f"more than {limit:,} bytes are not taken")
            return message

        return receive_bounded


def refusal(status: int, message: str, hint: str | None = None, headers: dict[str, str] | None = None) -> Response:
    """An answer that says what is wrong, in the form of all errors."""
    return JSONResponse({"message": message, "hint": hint}, status, headers)


def _limit(path: str) -> int:
    return MAX_UPLOAD if path == UPLOADS else MAX_BODY


def _length(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() else 0
