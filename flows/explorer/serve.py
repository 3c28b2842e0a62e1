"""`graph2image explore`: the explorer's server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from flows.explorer.app import make_app
from flows.explorer.guard import Access, is_loopback
from flows.settings import Settings
from ingest.errors import Graph2ImageError

#: A shorter token could be guessed.
MIN_TOKEN = 16
#: Connections at a time.
_CONNECTIONS = 500


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    token_file: Path | None,
    allows_optout: bool,
    started: Callable[[str], None],
) -> None:
    """Serve until interrupted.

    Parameters
    ----------
    port
        0 takes one that is free.
    started
        Called with the URL when the server listens.

    Raises
    ------
    Graph2ImageError
        If the address cannot be listened on; is not the loopback interface's, and there is no token; or the token
        cannot be read.
    """
    token = None if token_file is None else read_token(token_file)
    if token is None and not is_loopback(host):
        raise Graph2ImageError(
            f"{host} can be reached from other machines, so the explorer needs a token there",
            "Write one to a file and give it: --token-file FILE. For this machine alone, leave out --host.",
        )
    server = make_server(settings, Access.of(host, token), allows_optout=allows_optout)
    listener = listen(host, port)
    name = f"[{host}]" if ":" in host else host
    started(f"http://{name}:{listener.getsockname()[1]}/")
    server.run(sockets=[listener])


def make_server(settings: Settings, access: Access, *, allows_optout: bool = False) -> uvicorn.Server:
    """The server, to run on a socket that listens."""
    config = uvicorn.Config(
        make_app(settings, access, allows_optout=allows_optout),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=32 * 1024,
    )
    return uvicorn.Server(config)


def read_token(file: Path) -> bytes:
    """The token in a file.

    Raises
    ------
    Graph2ImageError
        If the file cannot be read, or the token is short.
    """
    try:
        token = file.read_bytes().strip()
    except OSError as error:
        raise Graph2ImageError(f"cannot read the token: {file}: {error.strerror}") from error
    if len(token) < MIN_TOKEN or b"\n" in token:
        raise Graph2ImageError(
            f"the token in {file} is no line of at least {MIN_TOKEN} characters",
            "Make one with `openssl rand -hex 32`.",
        )
    return token


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise Graph2ImageError(
            f"cannot listen on {host}, port {port}: {error.strerror}", "Give another one with --port."
        ) from error
    return listener
