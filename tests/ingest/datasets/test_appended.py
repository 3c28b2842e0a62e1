"""A deleted file of a dataset that is only appended to is missed, whoever wrote it, and however that run ended."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pytest

from ingest.datasets.integrity import DamagedError
from ingest.datasets.root import DataRoot
from ingest.datasets.verify import find_damage

SCHEMA = pa.schema([pa.field("key", pa.string())])


def rows(*keys: str) -> pa.Table:
    return pa.table({"key": keys}, SCHEMA)


def appended(data: DataRoot, *keys: str) -> list[str]:
    """One file per key."""
    return [data.append("latents/x", rows(key), SCHEMA) for key in keys]


def damage(data: DataRoot) -> list[tuple[str, str]]:
    return [(found.name, found.problem) for found in find_damage(data).damage]


@pytest.fixture(params=["local", "memory"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> DataRoot:
    return DataRoot(str(tmp_path / "data") if request.param == "local" else f"memory://{tmp_path.name}")


@pytest.mark.parametrize("lost", [[0], [2], [0, 1, 2]])
def test_a_deleted_file_is_named_and_nothing_is_read_without_it(data: DataRoot, lost: list[int]) -> None:
    files = appended(data, "a", "b", "c")
    assert damage(data) == []
    assert sorted(data.read("latents/x")["key"].to_pylist()) == ["a", "b", "c"]
    for index in lost:
        data.fs.rm(data.path("latents/x", files[index]))
    for root in (data, DataRoot(data.url)):
        assert damage(root) == sorted((f"latents/x/{files[index]}", "is missing") for index in lost)
        assert root.names() == ["latents/x"]
        with pytest.raises(DamagedError, match="is missing"):
            root.read("latents/x")
    for index in lost:
        data.drop_file("latents/x", files[index])
    assert damage(data) == []
    kept = [key for index, key in enumerate("abc") if index not in lost]
    assert sorted(data.read("latents/x", schema=SCHEMA)["key"].to_pylist()) == kept


def test_a_file_that_comes_back_is_whole_again(data: DataRoot) -> None:
    [file] = appended(data, "a")
    data.fs.rm(data.path("latents/x", file))
    assert DataRoot(data.url).append("latents/x", rows("a"), SCHEMA) == file
    assert damage(data) == []


def test_files_of_versions_before_are_listed_by_the_next_run_that_appends(data: DataRoot) -> None:
    old = [data.write_table("latents/x", rows(key), SCHEMA) for key in "ab"]
    assert sorted(data.read("latents/x")["key"].to_pylist()) == ["a", "b"]
    assert damage(data) == []
    appended(data, "c", "d")
    data.fs.rm(data.path("latents/x", old[1]))
    assert damage(data) == [(f"latents/x/{old[1]}", "is missing")]


def test_an_append_costs_the_same_however_many_files_there_are(data: DataRoot) -> None:
    appended(data, *"abc")
    before = set(data.fs.find(data.path()))
    appended(data, "d")
    new = sorted(set(data.fs.find(data.path())) - before)
    assert len(new) == 2
    assert [data.fs.size(path) for path in new if "_appended" in path] == [0]


def test_writers_at_the_same_time_list_all_that_they_write(tmp_path: Path) -> None:
    url = str(tmp_path / "data")
    shares = [[str(number) for number in range(start, start + 20)] for start in range(0, 80, 20)]
    with ThreadPoolExecutor(4) as pool:
        files = [*chain.from_iterable(pool.map(lambda share: appended(DataRoot(url), *share), shares))]
    for file in files:
        Path(url, "latents/x", file).unlink()
    assert [name for name, _ in damage(DataRoot(url))] == sorted(f"latents/x/{file}" for file in files)


KILLED = """
import os, signal, sys
import pyarrow as pa
from ingest.datasets.root import DataRoot
schema = pa.schema([pa.field("key", pa.string())])
data = DataRoot(sys.argv[1])
data.append("latents/x", pa.table({"key": ["a"]}, schema), schema)
def hook(event, arguments):
    if event == "open" and "_appended" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
data.append("latents/x", pa.table({"key": ["b"]}, schema), schema)
"""


def test_killed_between_a_file_and_its_listing(tmp_path: Path) -> None:
    url = str(tmp_path / "data")
    process = subprocess.run([sys.executable, "-c", KILLED, url], cwd=Path(__file__).parents[3], check=False)
    assert process.returncode == -signal.SIGKILL
    data = DataRoot(url)
    assert damage(data) == []
    assert sorted(data.read("latents/x")["key"].to_pylist()) == ["a", "b"]
    appended(data, "c")
    shutil.rmtree(tmp_path / "data/latents/x/_appended")  # as if it were of a version before
    appended(DataRoot(url), "d")
    for file in (tmp_path / "data/latents/x").glob("*.parquet"):
        file.unlink()
    assert len(damage(data)) == 4


def test_what_is_replaced_as_a_whole_needs_no_such_list(data: DataRoot) -> None:
    for keys in ("ab", "cd", "ef"):
        data.publish("items/x", [rows(key) for key in keys], SCHEMA)
    assert not data.exists("items/x/_appended")
    assert damage(data) == [("parts/x.json", "is missing")]
