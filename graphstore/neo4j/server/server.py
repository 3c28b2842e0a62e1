"""A local Neo4j with Graph Data Science: a daemon of this user, on the loopback interface, with a password.

Everything that belongs to one server lies in its *home*: data, logs, configuration, the password (mode 0600) and
`server.json`, which says what runs. A server is recognized by its process id *and* its command line, so that a process
that was given the id of a dead server is neither taken for it nor stopped.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from graphstore.neo4j.server.config import HOST, configuration, write_configuration
from graphstore.neo4j.server.jars import (
    GDS_VERSION,
    NEO4J_VERSION,
    jar_folder,
    java,
)
from graphstore.neo4j.server.log import StartLog
from ingest.errors import Graph2ImageError

DEFAULT_PORT = 7687
USER = "neo4j"

_STATE = "server.json"
_MAIN = "org.neo4j.server.Neo4jCommunity"
_SIZE = re.compile(r"\d+[kmgKMG]")

_JVM_FLAGS = (
    "-XX:+UseG1GC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dlog4j2.disable.jmx=true",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerInfo:
    """A server that runs.

    Attributes
    ----------
    url
        For `--store` and `open_store`.
    home
        Folder of its data, logs and password.
    pid
        Its process.
    password_file
        Holds the password of user `neo4j`.
    version, gds_version
        Of Neo4j, and of Graph Data Science, when it was started.
    """

    url: str
    home: Path
    pid: int
    password_file: Path
    version: str = NEO4J_VERSION
    gds_version: str = GDS_VERSION


def default_home() -> Path:
    """Home of the server that `graph2image neo4j start` starts if no other is given."""
    root = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return root / "graph2image" / "neo4j"


def password_file(home: Path) -> Path:
    """Where the password of a home's server lies; made at its first start."""
    return home / "password"


def default_heap() -> str:
    """A quarter of the machine's memory, at least 1 GiB and at most 8."""
    return f"{_share_of_memory(4, 1024, 8192)}m"


def default_page_cache() -> str:
    """An eighth of the machine's memory, at least 256 MiB and at most 8 GiB."""
    return f"{_share_of_memory(8, 256, 8192)}m"


def _share_of_memory(parts: int, least: int, most: int) -> int:
    return int(min(max(psutil.virtual_memory().total // parts >> 20, least), most))


# -- start, stop, status -----------------------------------------------------------------------------------------------


def start(
    home: Path,
    *,
    port: int = DEFAULT_PORT,
    heap: str | None = None,
    page_cache: str | None = None,
    settings: Mapping[str, str] | None = None,
    java_flags: Sequence[str] = (),
    wait_s: float = 180.0,
    end_with_parent: bool = False,
) -> ServerInfo:
    """Start the server of `home`, which is made if need be, and wait until it answers a query.

    A server that runs already is left as it is and returned.

    Parameters
    ----------
    port
        Of Bolt, on the loopback interface.
    heap, page_cache
        Sizes such as `2g` or `512m`; by default `default_heap()` and `default_page_cache()`.
    settings
        Neo4j settings by key, over our own; those that keep the server private are refused.
    java_flags
        More flags for Java.
    wait_s
        Seconds that the server may take.
    end_with_parent
        Let the server end when the thread that called dies, even if killed; where there is util-linux's `setpriv`.

    Raises
    ------
    Graph2ImageError
        If Java or a jar is missing, the port is taken, a setting is refused, or the server does not come up.
    """
    heap = _size("heap", heap or default_heap())
    page_cache = _size("page cache", page_cache or default_page_cache())
    binary, jars = java(), jar_folder()
    home = home.resolve()
    with _locked(home):
        if running := _running(home):
            return running
        settled = configuration(jars, port, page_cache, settings or {})
        command = _command(binary, jars, heap, java_flags)
        if end_with_parent and (launcher := shutil.which("setpriv")):
            command = [launcher, "--pdeathsig", "TERM", *command]
        _refuse_taken_port(port)
        write_configuration(home, settled)
        _set_password(home, binary, jars)
        return _launch(home, command, port, wait_s)


def stop(home: Path, *, wait_s: float = 60.0) -> bool:
    """Stop the server of `home`; a kill follows when it has not ended after `wait_s` seconds.

    Returns
    -------
    bool
        Whether one ran.
    """
    home = home.resolve()
    if not home.is_dir():
        return False
    with _locked(home):
        running = _running(home)
        if running is not None:
            _end(running.pid, wait_s)
        (home / _STATE).unlink(missing_ok=True)
    return running is not None


@contextmanager
def stopped(home: Path, *, wait_s: float = 180.0) -> Iterator[None]:
    """Stop the server of `home`, and start it again afterwards as it ran, with the same heap, port and settings.

    Raises
    ------
    Graph2ImageError
        If no server runs, or it does not come up again.
    """
    home = home.resolve()
    running = _running(home)
    if running is None:
        raise Graph2ImageError(f"no Neo4j server runs in {home}")
    line = psutil.Process(running.pid).cmdline()
    command, port = line[: line.index(_MAIN)], int(running.url.rpartition(":")[2])
    stop(home)
    try:
        yield
    finally:
        with _locked(home):
            _launch(home, command, port, wait_s)


def status(home: Path) -> ServerInfo | None:
    """The server of `home` if it runs; it may still be starting."""
    return _running(home.resolve())


def admin(home: Path, *arguments: str, heap: str | None = None) -> str:
    """Run neo4j-admin on the home of a stopped server.

    Parameters
    ----------
    arguments
        As on its command line, such as `"database", "import", "full", …`.
    heap
        Most memory that Java may take, such as `2g`; by default `default_heap()`.

    Returns
    -------
    str
        What it printed.

    Raises
    ------
    Graph2ImageError
        If the server runs, or the tool fails; with the tool's last lines.
    """
    heap = _size("heap", heap or default_heap())
    binary, jars = java(), jar_folder()
    home = home.resolve()
    with _locked(home):
        if running := _running(home):
            raise Graph2ImageError(
                f"the Neo4j server of {home} runs (process {running.pid})",
                f"Stop it first: graph2image neo4j stop --home {home}",
            )
        if not (home / "conf" / "neo4j.conf").exists():
            write_configuration(home, configuration(jars, DEFAULT_PORT, default_page_cache(), {}))
        return _admin(home, binary, jars, heap, arguments)


def _launch(home: Path, command: Sequence[str], port: int, wait_s: float) -> ServerInfo:
    log = StartLog(home)
    with log.console.open("w") as console:
        server = subprocess.Popen(
            [*command, _MAIN, _home_option(home), f"--config-dir={home / 'conf'}"],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        state = {
            "pid": server.pid,
            "port": port,
            "version": NEO4J_VERSION,
            "gds_version": GDS_VERSION,
        }
        (home / _STATE).write_text(json.dumps(state))
        _wait(server, home, port, wait_s, log)
    except BaseException:
        server.kill()
        server.wait()
        (home / _STATE).unlink(missing_ok=True)
        raise
    return ServerInfo(f"neo4j://{HOST}:{port}", home, server.pid, password_file(home))


def _wait(server: subprocess.Popen[bytes], home: Path, port: int, wait_s: float, log: StartLog) -> None:
    """Until the server answers a query, which is later than its port does."""
    from neo4j import GraphDatabase
    from neo4j.exceptions import AuthError, DriverError, Neo4jError

    deadline = time.monotonic() + wait_s
    with GraphDatabase.driver(
        f"bolt://{HOST}:{port}",
        auth=(USER, password_file(home).read_text().strip()),
        max_transaction_retry_time=0,
    ) as driver:
        while True:
            if server.poll() is not None:
                raise log.failure(f"the Neo4j server of {home} ended while it started (exit code {server.returncode})")
            if log.failed_database():
                raise log.failure(f"a database of the Neo4j server of {home} does not start")
            if time.monotonic() > deadline:
                raise log.failure(f"the Neo4j server of {home} did not answer within {wait_s:.0f} s (--wait)")
            try:
                if _listens(server.pid, port):
                    driver.execute_query("RETURN gds.version()")
                    return
            except AuthError as error:
                raise Graph2ImageError(
                    f"the password in {password_file(home)} is not that of the Neo4j server of {home}",
                    "Write the right one into that file.",
                ) from error
            except (DriverError, Neo4jError) as error:
                _log.debug("not yet: %s", error)
            time.sleep(0.1)


def _listens(pid: int, port: int) -> bool:
    """Whether it is this process that listens: no other is sent the password."""
    with suppress(psutil.NoSuchProcess):
        connections = psutil.Process(pid).net_connections("tcp")
        return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)
    return False


def _end(pid: int, wait_s: float) -> None:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.terminate()
        if not _has_ended(process, wait_s):
            _log.warning(
                "the Neo4j server (process %d) has not ended after %.0f s: killed; the next start recovers its data",
                pid,
                wait_s,
            )
            process.kill()
            _has_ended(process, wait_s)


def _has_ended(process: psutil.Process, wait_s: float) -> bool:
    """Whether it ends in time; one that another process has started may stay behind as a zombie, which has ended."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        with suppress(psutil.TimeoutExpired):
            process.wait(0.05)  # which also takes away our own zombie
            return True
        if is_zombie:
            return True
    return False


# -- which process -----------------------------------------------------------------------------------------------------


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One start, stop or neo4j-admin at a time."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _running(home: Path) -> ServerInfo | None:
    """The server that `server.json` tells of, if it is still that process."""
    try:
        state = json.loads((home / _STATE).read_text())
        process = psutil.Process(state["pid"])
        if process.status() == psutil.STATUS_ZOMBIE or _home_option(home) not in process.cmdline():
            return None
        url = f"neo4j://{HOST}:{state['port']}"
        return ServerInfo(url, home, process.pid, password_file(home), state["version"], state["gds_version"])
    except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return None


def _home_option(home: Path) -> str:
    """The argument by which a server's process is known; its start time is not, since clocks are set."""
    return f"--home-dir={home}"


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Graph2ImageError(
                f"port {port} of {HOST} cannot be used: {os.strerror(error.errno or 0)}{_listener(port)}",
                "Choose another with --port, or stop what listens there.",
            ) from error


def _listener(port: int) -> str:
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f", by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""


# -- Java, configuration, password -------------------------------------------------------------------------------------


def _command(binary: Path, jars: Path, heap: str, java_flags: Sequence[str]) -> list[str]:
    class_path = f"{jars / 'plugins'}/*:{jars / 'lib'}/*"
    return [str(binary), f"-Xmx{heap}", *_JVM_FLAGS, *java_flags, "-cp", class_path]


def _size(what: str, value: str) -> str:
    if not _SIZE.fullmatch(value):
        raise Graph2ImageError(f"{what} {value!r} is not a size", "Such as 2g or 512m.")
    return value


def _set_password(home: Path, binary: Path, jars: Path) -> None:
    """Make the password before the first start, the only time that Neo4j takes one so."""
    file = password_file(home)
    if (home / "data" / "databases" / "system").exists():
        if not file.exists():
            raise Graph2ImageError(
                f"{file}, the password of the Neo4j server of {home}, is gone",
                "Write it there again; without it the data cannot be read.",
            )
        return
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_hex(24))
    # As an argument file: the list of processes does not show the password.
    _admin(home, binary, jars, "256m", ("dbms", "set-initial-password", f"@{file}"))


def _admin(home: Path, binary: Path, jars: Path, heap: str, arguments: Sequence[str]) -> str:
    environment = os.environ | {"NEO4J_HOME": str(home), "NEO4J_CONF": str(home / "conf")}
    done = subprocess.run(
        [*_command(binary, jars, heap, ()), "org.neo4j.cli.AdminTool", *arguments],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise Graph2ImageError(
            f"neo4j-admin {' '.join(arguments[:3])} failed (exit code {done.returncode})",
            "Its last lines:\n" + "\n".join(f"  {line[:300]}" for line in done.stdout.strip().splitlines()[-8:]),
        )
    return done.stdout
