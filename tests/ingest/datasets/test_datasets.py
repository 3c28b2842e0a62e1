from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.datasets.root import DataRoot, digest, explain_os_errors, text_hash
from ingest.datasets.schemas import RELATION_SCHEMA, embedding_schema
from ingest.encoders.resuming import Checkpoints, State
from ingest.errors import Graph2ImageError

SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.int64())])


def _table(*rows: tuple[str, int | None]) -> pa.Table:
    return pa.table([[key for key, _ in rows], [value for _, value in rows]], schema=SCHEMA)


def _parquet_files(data: DataRoot, name: str) -> set[str]:
    return {path.name for path in Path(data.path(name)).glob("*.parquet")}


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> DataRoot:
    return DataRoot(str(tmp_path / "data") if request.param == "local" else f"memory://{tmp_path.name}")


def test_publish_replaces_and_says_whether_anything_changed(root: DataRoot) -> None:
    first, changed = root.publish("d", [_table(("a", 1)), _table(("b", None))], SCHEMA, {"why": 1})
    assert changed
    assert (first.rows, len(first.files), first.metadata) == (2, 2, {"why": 1})
    assert root.snapshot("d") == first
    assert root.read("d").equals(_table(("a", 1), ("b", None)))

    assert root.publish("d", [_table(("a", 1)), _table(("b", None))], SCHEMA, {"why": 1}) == (first, False)

    second, changed = root.publish("d", [_table(("a", 2))], SCHEMA)
    assert changed
    assert second.digest != first.digest
    assert root.read("d", ["value"]).to_pydict() == {"value": [2]}


def test_publish_of_nothing_is_an_empty_dataset(root: DataRoot) -> None:
    snapshot, changed = root.publish("d", [], SCHEMA)
    assert changed
    assert snapshot.rows == 0
    assert root.read("d").schema.names == SCHEMA.names


def test_append_of_the_same_rows_is_the_same_file(root: DataRoot) -> None:
    names = [root.append("d", _table(("a", 1)), SCHEMA) for _ in range(2)]
    assert names[0] == names[1]
    root.append("d", _table(("b", 2)), SCHEMA)
    assert sorted(root.read("d")["key"].to_pylist()) == ["a", "b"]


def test_absent_datasets(root: DataRoot) -> None:
    assert root.names() == []
    assert root.snapshot("d") is None
    assert root.read("d", schema=SCHEMA).num_rows == 0
    with pytest.raises(Graph2ImageError, match="no dataset 'd'"):
        root.read("d")


def test_names(root: DataRoot) -> None:
    root.publish("items/a", [], SCHEMA)
    root.append("images", _table(("a", 1)), SCHEMA)
    root.write_bytes("images/files/ab/abc.jpg", b"x")
    root.write_bytes("models/m/model.json", b"{}")
    assert root.names() == ["images", "items/a"]
    assert root.names("items") == ["items/a"]
    assert root.names("nothing") == []


def test_brackets_in_the_path_of_the_root(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path / "a [b] *?"))
    assert data.complete_folders("models", "model.json") == []
    for name in ("m", "n"):
        data.write_bytes(f"models/{name}/model.json", b"{}")
    data.write_bytes("models/unfinished/weights", b"")
    assert data.complete_folders("models", "model.json") == ["m", "n"]
    checkpoints = Checkpoints(data, "training/x", 1)
    for step in (1, 2):
        checkpoints.save(step, State({}, {"step": step}))
    state = checkpoints.load_newest()
    assert state is not None
    assert state.numbers["step"] == 2
    assert len(list(Path(data.path("training/x")).iterdir())) == 1


def test_rows_that_break_the_schema_are_refused(root: DataRoot) -> None:
    with pytest.raises(ValueError, match="key"):
        root.publish("d", [pa.table({"key": [None], "value": [1]})], SCHEMA)
    with pytest.raises(ValueError, match="not match"):
        root.publish("d", [pa.table({"other": [1]})], SCHEMA)
    assert root.snapshot("d") is None


@settings(max_examples=30)
@given(
    st.lists(
        st.lists(st.tuples(st.text(max_size=4), st.none() | st.integers(-(2**63), 2**63 - 1)), max_size=4), max_size=4
    ),
    st.lists(st.lists(st.tuples(st.text(max_size=4), st.none() | st.integers(-5, 5)), max_size=4), max_size=4),
)
def test_digest_stands_for_the_content(tmp_path_factory: pytest.TempPathFactory, one: list, other: list) -> None:
    data = DataRoot(str(tmp_path_factory.mktemp("data")))
    tables = [[_table(*rows) for rows in tables] for tables in (one, other)]
    first, _ = data.publish("d", tables[0], SCHEMA)
    rows = [row for table in one for row in table]
    assert [(row["key"], row["value"]) for row in data.read("d").to_pylist()] == rows
    second, changed = data.publish("d", tables[1], SCHEMA)
    assert changed == (first.digest != second.digest)
    if rows != [row for table in other for row in table]:
        assert changed


def test_an_open_reader_keeps_its_rows_through_a_publish(data: DataRoot) -> None:
    data.publish("d", [_table(("a", 1))], SCHEMA)
    opened = data.dataset("d")
    data.publish("d", [_table(("b", 2))], SCHEMA)
    assert opened.to_table()["key"].to_pylist() == ["a"]


def test_only_old_leftovers_are_swept(data: DataRoot) -> None:
    contents = [[_table((key, 1))] for key in "abcd"]
    for tables in contents[:3]:
        data.publish("d", tables, SCHEMA)
    leftover = Path(data.path("d", ".dead.tmp"))
    leftover.write_bytes(b"half")
    kept = data.snapshot("d")
    assert kept is not None
    assert len(_parquet_files(data, "d")) == 3  # young: another run may be about to publish them
    two_days_ago = time.time() - 2 * 86400
    for path in Path(data.path("d")).iterdir():
        os.utime(path, (two_days_ago, two_days_ago))
    newest, _ = data.publish("d", contents[3], SCHEMA)
    assert _parquet_files(data, "d") == {*kept.files, *newest.files}
    assert not leftover.exists()


PUBLISH = """
import os, signal, sys
import pyarrow as pa
from ingest.datasets.root import DataRoot

root, key, moment = sys.argv[1], sys.argv[2], int(sys.argv[3])
def hook(event, arguments):
    global moment
    moment -= event == "shutil.move"
    if event == "shutil.move" and moment == 0:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
schema = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.int64())])
for round in range(1 if moment > 0 else 30):
    tables = [pa.table([[f"{key}{i}"], [round]], schema=schema) for i in range(3)]
    DataRoot(root).publish("d", tables, schema)
"""


def _start(data: DataRoot, key: str, moment: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PUBLISH, data.url, key, str(moment)])


def test_killed_publish_leaves_what_was_there(data: DataRoot) -> None:
    before, _ = data.publish("d", [_table(("old", 1))], SCHEMA)
    for moment in (1, 3, 4):
        assert _start(data, f"new{moment}-", moment).wait() == -signal.SIGKILL
        assert data.snapshot("d") == before
        assert data.read("d").equals(_table(("old", 1)))
    assert _start(data, "new", 5).wait() == 0
    assert data.read("d")["key"].to_pylist() == ["new0", "new1", "new2"]


@pytest.mark.slow
def test_readers_and_writers_at_once_see_whole_snapshots(data: DataRoot) -> None:
    data.publish("d", [_table(("x0", 0), ("x1", 0), ("x2", 0))], SCHEMA)
    writers = [_start(data, key, 0) for key in "ab"]
    while any(writer.poll() is None for writer in writers):
        rows = data.read("d").to_pylist()
        assert len(rows) == 3
        assert len({(row["key"][0], row["value"]) for row in rows}) == 1
    assert [writer.wait() for writer in writers] == [0, 0]
    assert data.read("d").num_rows == 3


def test_write_errors_are_explained(tmp_path: Path) -> None:
    for code, message in ((errno.ENOSPC, "no space left while writing x"), (errno.EIO, "cannot write x: Input/output")):
        with pytest.raises(Graph2ImageError, match=message), explain_os_errors("x"):
            raise OSError(code, os.strerror(code))
    (tmp_path / "file").write_text("")
    with pytest.raises(Graph2ImageError, match="cannot write"):
        DataRoot(str(tmp_path / "file")).write_bytes("a/b", b"")


def test_failed_write_leaves_no_temporary_file(data: DataRoot) -> None:
    with pytest.raises(TypeError):
        data.write_bytes("d/target", "no bytes")  # type: ignore[arg-type]
    assert list(Path(data.path("d")).iterdir()) == []


def test_json_and_hashes(data: DataRoot) -> None:
    data.write_json("a/b.json", {"b": [1, None], "a": "ü"})
    assert data.read_json("a/b.json") == {"a": "ü", "b": [1, None]}
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1}) != digest({"a": 1, "b": 2})
    assert text_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert embedding_schema("image_hash", 8).field("embedding").type.list_size == 8
    assert RELATION_SCHEMA.field("weight").type == pa.float64()
