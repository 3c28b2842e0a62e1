"""A Neo4j server that dies, comes late, is full, read-only or taken; and what a load and a user are left with."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from neo4j import Driver, GraphDatabase
from neo4j.exceptions import ClientError
from quick_java import QUICK_JAVA
from sources import entity, item, publish, publish_art, relation

from graphstore.bookkeeping import check_complete, loaded_sources
from graphstore.connect import open_store
from graphstore.loading.load import load_source
from graphstore.neo4j import driver as neo4j_driver
from graphstore.neo4j import write_lock as neo4j_lock
from graphstore.neo4j.driver import (
    GdsMissingError,
    MemoryLimitError,
    ReadOnlyError,
    ServerUnreachableError,
    SignInError,
    TimeLimitError,
    WrongDatabaseError,
    explain_errors,
    parse_url,
)
from graphstore.neo4j.server.server import (
    USER,
    start,
    status,
    stop,
)
from graphstore.neo4j.write_lock import WriteLockError
from graphstore.projection.projection import project
from graphstore.store import Access, GraphStore
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

MEMORY = {"db.memory.transaction.max": "16m", "dbms.security.auth_lock_time": "5s"}
READ_ONLY = MEMORY | {"server.databases.default_to_read_only": "true"}

# Small batches, so that a load has many; it says so when the fifth of the relations is written, and waits for its
# standard input to end. argv: seconds of retries, store, data, source.
_LOAD = """
import sys
from graphstore.neo4j import driver, values, write_lock
from graphstore.neo4j.transactions import ServerStore
from graphstore.loading.load import load_source
from graphstore.connect import open_store
from ingest.datasets.root import DataRoot
driver.RETRY_S, write_lock.LOCK_WAIT_S, values.BATCH_ROWS = float(sys.argv[1]), 2.0, 500
write, written = ServerStore._write_batch, 0
def write_batch(store, cypher, *arguments, **options):
    global written
    write(store, cypher, *arguments, **options)
    written += ":`TAGGED`" in cypher
    if ":`TAGGED`" in cypher and written == 5:
        print("relations", flush=True)
        sys.stdin.read()
ServerStore._write_batch = write_batch
try:
    with open_store(sys.argv[2]) as store:
        load_source(store, DataRoot(sys.argv[3]), sys.argv[4])
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
print("loaded")
"""
LONG = "UNWIND range(1, 100000) AS x UNWIND range(1, 1000000) AS y RETURN sum(x * y)"
ITEMS, PER_ITEM = 2_000, 15


class Server:
    """A server of this module's own, which tests kill and start again, with other settings too."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port = home, port
        self.url = f"neo4j://127.0.0.1:{port}"
        self._settings: dict[str, str] = {}

    def up(self, settings: dict[str, str] = MEMORY, *, thread: bool = False) -> None:
        """Run, with these settings."""
        if status(self.home) and self._settings != settings:
            stop(self.home)
        self._settings = settings
        start(
            self.home,
            port=self.port,
            heap="512m",
            page_cache="64m",
            settings=settings,
            java_flags=QUICK_JAVA,
            end_with_parent=not thread,
        )

    def kill(self) -> None:
        process = psutil.Process(status(self.home).pid)
        process.kill()
        process.wait()

    def driver(self) -> Driver:
        return GraphDatabase.driver(self.url, auth=(USER, (self.home / "password").read_text().strip()))


@pytest.fixture(scope="module")
def home_server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("faults"), free_port())
    try:
        server.up()
    except Graph2ImageError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Neo4j: {error}")
    yield server
    stop(server.home)


@pytest.fixture
def server(home_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, up and empty."""
    monkeypatch.setenv("GRAPH2IMAGE_NEO4J_PASSWORD_FILE", str(home_server.home / "password"))
    home_server.up()
    with home_server.driver() as driver, driver.session() as session:
        session.run("MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 100 ROWS").consume()
    return home_server


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """A source of 30,000 relations; beside it, tests may publish others."""
    data = DataRoot(str(tmp_path_factory.mktemp("many") / "data"))
    rng = random.Random(0)
    tags = [f"many/Tag/{number}" for number in range(ITEMS // 20)]
    publish(
        data,
        "many",
        [item(f"many:{number}", text="word " * 20) for number in range(ITEMS)],
        [entity(tag) for tag in tags],
        [
            relation("TAGGED", f"many:{number}", tag, rng.random())
            for number in range(ITEMS)
            for tag in rng.sample(tags, PER_ITEM)
        ],
    )
    return data


def content(store: GraphStore) -> Any:
    nodes = store.nodes("Artwork", ["id", "title", "text", "split", "opted_out"]).sort_by("id")
    tagged = store.relations("TAGGED", "Artwork", "Tag", ["weight", "role"])
    return store.version(), nodes.to_pylist(), tagged.sort_by([("from_id", "ascending"), ("to_id", "ascending")])


@pytest.fixture(scope="module")
def undisturbed(many: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What an undisturbed load ends with, by the other store."""
    with open_store(f"ladybug://{tmp_path_factory.mktemp('undisturbed')}/graph.lbug") as store:
        load_source(store, many, "many")
        return content(store)


def start_load(server: Server, data: DataRoot, source: str = "many", retry_s: float = 60.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _LOAD, str(retry_s), server.url, data.url, source]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def wait_for_relations(server: Server, load: subprocess.Popen[str]) -> None:
    """Until a part of the relations is there; the load goes on when `communicate` is called."""
    assert load.stdout is not None
    if load.stdout.readline() != "relations\n":
        raise AssertionError(load.communicate())
    with server.driver() as driver:
        (count,) = driver.execute_query("MATCH ()-[r:TAGGED]->() RETURN count(r)").records[0]
        assert 0 < count < ITEMS * PER_ITEM


def assert_completed_by_the_same_load(server: Server, data: DataRoot, expected: Any) -> None:
    with open_store(server.url, read_only=True) as store, pytest.raises(Graph2ImageError, match="was cut off"):
        project(store)
    with open_store(server.url) as store:
        load_source(store, data, "many")
        assert content(store) == expected
        check_complete(store)
        assert not load_source(store, data, "many").changed


# -- killed in mid-load ------------------------------------------------------------------------------------------------


def test_a_load_goes_on_after_the_server_was_killed_and_started_again(
    server: Server, many: DataRoot, undisturbed: Any
) -> None:
    load = start_load(server, many, retry_s=400)
    wait_for_relations(server, load)
    server.kill()
    server.up()
    assert load.communicate()[0] == "loaded\n"
    with open_store(server.url) as store:
        assert content(store) == undisturbed
        assert not load_source(store, many, "many").changed


def test_a_load_whose_server_stays_away_says_so_and_the_next_waits_for_it(
    server: Server, many: DataRoot, undisturbed: Any
) -> None:
    load = start_load(server, many, retry_s=0.5)
    wait_for_relations(server, load)
    server.kill()
    _, error = load.communicate()
    assert "ServerUnreachableError: neo4j://127.0.0.1:" in error
    with pytest.raises(ServerUnreachableError, match="cannot be reached"):
        open_store(server.url, access=Access(wait_s=0.5))
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_store, server.url, access=Access(wait_s=400))
        server.up()
        opening.result().close()
    assert_completed_by_the_same_load(server, many, undisturbed)


def test_a_killed_load_leaves_no_lock_and_is_completed_by_the_same_load(
    server: Server, many: DataRoot, undisturbed: Any
) -> None:
    load = start_load(server, many)
    wait_for_relations(server, load)
    load.kill()
    load.communicate()
    assert_completed_by_the_same_load(server, many, undisturbed)


# -- two writers -------------------------------------------------------------------------------------------------------


def test_a_second_load_is_refused_in_this_and_in_another_process(
    server: Server, many: DataRoot, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neo4j_lock, "LOCK_WAIT_S", 2.0)
    publish_art(many)
    first = start_load(server, many)
    wait_for_relations(server, first)
    first.send_signal(signal.SIGSTOP)
    try:
        second = start_load(server, many, "art")
        with open_store(server.url) as store:
            with pytest.raises(WriteLockError, match=rf"process {first.pid} on .* is writing to neo4j://127"):
                load_source(store, many, "art")
            with pytest.raises(Graph2ImageError, match="is not finished"):
                project(store)
            assert "WriteLockError" in second.communicate()[1]
            assert list(loaded_sources(store)) == ["many"]
            assert "Artist" not in store.node_labels()
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.communicate() == ("loaded\n", "")
    with open_store(server.url) as store:
        assert content(store) == undisturbed
        assert load_source(store, many, "art").relations == 7


def _tag(name: str) -> pa.Table:
    return pa.table({"id": [name]})


def _tags(store: GraphStore) -> list[str]:
    return sorted(store.nodes("Tag", ["id"])["id"].to_pylist())


@pytest.fixture
def writer(server: Server) -> Iterator[GraphStore]:
    with open_store(server.url) as store:
        store.define_label("Tag", pa.schema([("id", pa.string())]))
        yield store


def end_lock(server: Server) -> None:
    """End the transaction that holds the lock, as an administrator may."""
    with server.driver() as driver:
        shown = driver.execute_query("SHOW TRANSACTIONS YIELD transactionId AS id, metaData AS of RETURN id, of")
        (id_,) = [record["id"] for record in shown.records if "write lock" in str(record["of"])]
        driver.execute_query("TERMINATE TRANSACTIONS $id", id=id_)


def test_a_writer_that_lost_the_lock_takes_it_again(
    server: Server, writer: GraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neo4j_lock, "LOCK_WAIT_S", 1.0)
    with open_store(server.url) as other, writer.exclusive():
        end_lock(server)
        writer.upsert_nodes("Tag", _tag("a"))
        with pytest.raises(WriteLockError), other.exclusive():
            pass
        writer.upsert_nodes("Tag", _tag("b"))
    assert _tags(writer) == ["a", "b"]


@pytest.mark.parametrize("ended", [False, True], ids=["still there", "gone"])
@pytest.mark.parametrize("context", ["transaction", "bulk_load"])
def test_a_writer_that_lost_the_lock_to_another_stops(
    server: Server, writer: GraphStore, context: str, ended: bool
) -> None:
    def write() -> None:
        with getattr(writer, context)():
            if context == "transaction":
                writer.upsert_nodes("Tag", _tag("in vain"))
            end_lock(server)
            others.enter_context(other.exclusive())
            other.upsert_nodes("Tag", _tag("other's"))
            if ended:
                others.close()
            if context == "bulk_load":
                writer.upsert_nodes("Tag", _tag("in vain"))

    with open_store(server.url) as other, ExitStack() as others:
        with pytest.raises(WriteLockError, match="another process has written to it since"):
            write()
        assert _tags(other) == ["other's"]


def test_stores_that_are_open_outlive_a_restart(server: Server, writer: GraphStore) -> None:
    """One waits for a query's answer, one is idle, one holds the lock."""
    writer.upsert_nodes("Tag", _tag("a"))
    with (
        open_store(server.url, read_only=True) as idle,
        open_store(server.url) as asking,
        ThreadPoolExecutor(1) as pool,
        writer.exclusive(),
    ):
        answer = pool.submit(asking.query, LONG, timeout_s=300)
        with server.driver() as driver:
            while not any(LONG in record["q"] for record in _running(driver)):
                time.sleep(0.05)
        server.kill()
        with pytest.raises(ServerUnreachableError, match="connection was lost"):
            answer.result()
        server.up()
        writer.upsert_nodes("Tag", _tag("b"))
        with writer.transaction():
            writer.upsert_nodes("Tag", _tag("c"))
        assert idle.query("MATCH (t:Tag) RETURN t.id ORDER BY t.id").num_rows == 3
        assert _tags(asking) == ["a", "b", "c"]


def _running(driver: Driver) -> list[Any]:
    shown = driver.execute_query("SHOW TRANSACTIONS YIELD currentQuery AS q RETURN q")
    return shown.records


# -- which server, user and database -----------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_told_in_time(free_port: Callable[[], int], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    access = Access(password_file=tmp_path / "password", wait_s=1)
    with pytest.raises(ServerUnreachableError, match="cannot be reached"):
        open_store(f"neo4j://127.0.0.1:{free_port()}", access=access)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64, "a..b"])
def test_a_wrong_host_name_is_told_at_once(tmp_path: Path, host: str) -> None:
    (tmp_path / "password").write_text("secret")
    with pytest.raises(ServerUnreachableError, match="there is no host named"):
        open_store(f"neo4j://{host}", access=Access(password_file=tmp_path / "password", wait_s=3600))


def test_a_wrong_password_is_told_and_appears_nowhere(server: Server, tmp_path: Path) -> None:
    open_store(server.url).close()  # so that there are connections with the right one
    (tmp_path / "password").write_text("not-the-password")
    access = Access(password_file=tmp_path / "password")
    for _ in range(3):
        with pytest.raises(SignInError, match="does not take this user and password") as error:
            open_store(server.url, access=access)
        assert "not-the-password" not in repr((error.value, error.value.__cause__, error.value.hint))
    with pytest.raises(SignInError, match="after several wrong ones") as error:
        open_store(server.url, access=access)
    assert error.value.hint
    with server.driver() as driver:
        while True:  # until the server lets this user in again
            try:
                driver.verify_connectivity()
                break
            except ClientError as refused:
                if "RateLimit" not in refused.code:
                    raise
                time.sleep(0.2)


def test_no_password(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GRAPH2IMAGE_NEO4J_PASSWORD_FILE")
    monkeypatch.delenv("GRAPH2IMAGE_NEO4J_PASSWORD", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(SignInError, match="there is no password for neo4j://127"):
        open_store(server.url)
    with pytest.raises(SignInError, match=r"cannot read the password file .*: No such file"):
        open_store(server.url, access=Access(password_file=tmp_path / "none"))


@pytest.mark.parametrize("scheme", ["neo4j", "bolt"])
def test_a_wrong_database_is_told(server: Server, scheme: str) -> None:
    with pytest.raises(WrongDatabaseError, match="has no database 'nothing'"):
        open_store(f"{scheme}://127.0.0.1:{server.port}/nothing")


@pytest.mark.parametrize("cypher", ["CALL gds.nothing.stream('x')", "RETURN gds.nothing() AS x"])
def test_a_missing_procedure_of_gds_is_told(server: Server, cypher: str) -> None:
    with (
        server.driver() as driver,
        pytest.raises(GdsMissingError, match="no Graph Data Science library, or an old one"),
        explain_errors(parse_url(server.url)),
    ):
        driver.execute_query(cypher)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_batches_over_the_memory_limit_are_halved(
    server: Server, data: DataRoot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "graphstore")
    numbers = range(8_000)
    publish(data, "big", [item(f"big:{number}", text="word " * 150) for number in numbers], [entity("big/Tag/1")])
    with open_store(server.url) as store:
        report = load_source(store, data, "big")
        assert report.items == len(numbers)
        assert sorted(store.nodes("Artwork", ["id"])["id"].to_pylist()) == sorted(f"big:{n}" for n in numbers)
    assert "too little memory for a batch" in caplog.text


def test_a_query_over_the_memory_limit_is_told(writer: GraphStore) -> None:
    with pytest.raises(MemoryLimitError, match="too little memory") as error:
        writer.query("UNWIND range(1, 10000000) AS x RETURN collect(x) AS xs")
    assert "db.memory.transaction.max" in (error.value.hint or "")
    assert writer.query("RETURN 1 AS x")["x"].to_pylist() == [1]


def test_a_query_over_the_time_limit_is_told(writer: GraphStore) -> None:
    with pytest.raises(TimeLimitError, match="time limit"):
        writer.query(LONG, timeout_s=0.5)


# -- read-only; last, since the server is started again for it ---------------------------------------------------------


def test_a_read_only_database_can_be_read(server: Server, data: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neo4j_driver, "RETRY_S", 3600.0)  # it is not tried again
    publish_art(data)
    with open_store(server.url) as store:
        load_source(store, data, "art")
    publish(data, "more", [item("more:1")])
    server.up(READ_ONLY)
    with open_store(server.url) as store:
        assert store.query("MATCH (a:Artwork) RETURN a.id").num_rows == 5
        with pytest.raises(ReadOnlyError, match="is read-only") as error:
            load_source(store, data, "more")
        assert "writable" in (error.value.hint or "")
        with pytest.raises(ReadOnlyError, match="is read-only"):
            store.define_label("Tag", pa.schema([("id", pa.string())]))
        check_complete(store)
    with open_store(server.url, read_only=True) as store:
        assert store.nodes("Artist", ["name"]).num_rows == 2
