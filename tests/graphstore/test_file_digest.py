"""Whatever changes an embedded store's file between two writers is noticed, and no writer, killed or not, is damage."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from graphstore import file_digest
from graphstore.connect import open_store
from ingest.datasets.integrity import DamagedError

WRITER = """
import os, signal, sys
import pyarrow as pa
from graphstore.connect import open_store

store = open_store(sys.argv[1])
with store.transaction():
    store.upsert_nodes("Thing", pa.table({"id": ["killed"]}))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    with open_store(f"ladybug://{folder}/graph.lbug") as store:
        store.define_label("Thing", pa.schema([("id", pa.string())]))
        with store.bulk_load():
            store.upsert_nodes("Thing", pa.table({"id": [f"thing {number}" for number in range(1000)]}))
    return folder


@pytest.fixture
def file(written: Path, tmp_path: Path) -> Path:
    """A copy of the store, to change."""
    return Path(shutil.copytree(written, tmp_path / "copy")) / "graph.lbug"


def add(file: Path, name: str) -> None:
    with open_store(f"ladybug://{file}") as store, store.transaction():
        store.upsert_nodes("Thing", pa.table({"id": [name]}))


def count(file: Path) -> int:
    with open_store(f"ladybug://{file}", read_only=True) as store:
        return store.nodes("Thing", ["id"]).num_rows


def flip(file: Path, place: int) -> None:
    """Flip one bit, as a disk does it: nobody has written to the file."""
    status = file.stat()
    with file.open("r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 16]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_bit_that_flips_anywhere_is_noticed(file: Path) -> None:
    assert file_digest.find_problem(str(file)) is None
    places = random.Random(7)
    for place in (0, file.stat().st_size - 1, *(places.randrange(file.stat().st_size) for _ in range(40))):
        flip(file, place)
        assert "has changed" in str(file_digest.find_problem(str(file))), place
        flip(file, place)
    assert file_digest.find_problem(str(file)) is None


def test_writing_and_reading_are_no_damage(file: Path) -> None:
    for name in ("a", "b"):
        add(file, name)
        assert file_digest.read(str(file)) is not None
        assert file_digest.find_problem(str(file)) is None
    before = file.read_bytes()
    assert count(file) == 1002
    with open_store(f"ladybug://{file}"):
        assert file_digest.read(str(file)) is None  # whoever writes takes it away
    assert file_digest.find_problem(str(file)) is None
    assert file.read_bytes() == before  # who writes nothing changes nothing


def test_a_writer_that_writes_nothing_does_not_make_damage_the_truth(file: Path) -> None:
    flip(file, file.stat().st_size // 2 + 77)
    with open_store(f"ladybug://{file}"):
        pass
    assert file_digest.find_problem(str(file)) is not None


def test_a_killed_writer_leaves_no_digest_and_the_next_one_does(file: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", WRITER, f"ladybug://{file}"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert file_digest.read(str(file)) is None
    assert file_digest.find_problem(str(file)) is None
    assert count(file) == 1001
    add(file, "after")
    assert file_digest.find_problem(str(file)) is None
    assert file_digest.read(str(file)) is not None
    assert count(file) == 1002


def test_what_another_program_has_written_is_not_opened(file: Path) -> None:
    content = bytearray(file.read_bytes())
    file.write_bytes(content)  # the same bytes at another time: copied
    assert count(file) == 1000
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    for read_only in (True, False):
        with pytest.raises(DamagedError, match=r"graph\.lbug has changed"):
            open_store(f"ladybug://{file}", read_only=read_only)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"size": 1}', b"\xff"])
def test_a_damaged_digest_is_none(file: Path, content: bytes) -> None:
    Path(f"{file}{file_digest.SUFFIX}").write_bytes(content)
    assert file_digest.find_problem(str(file)) is None
    assert count(file) == 1000
    add(file, "more")
    assert file_digest.read(str(file)) is not None
