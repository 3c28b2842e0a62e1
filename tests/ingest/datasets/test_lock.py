"""The lock of a data root, between real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from ingest.datasets.lock import writer_lock
from ingest.datasets.root import DataRoot
from ingest.errors import TransientError

HOLD = """
import sys
from ingest.datasets.lock import writer_lock
from ingest.datasets.root import DataRoot
with writer_lock(DataRoot(sys.argv[1]), "ingest"):
    print("held", flush=True)
    sys.stdin.read()
"""

INGEST = """
import sys
from ingest.datasets.root import DataRoot
from ingest.ingestion import Amazon
from ingest.sources import ingest_source
ingest_source(DataRoot(sys.argv[1]), Amazon(files=(sys.argv[2],)))
"""


def test_the_holder_is_named_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path / "data"))
    pipe = subprocess.PIPE
    holder = subprocess.Popen([sys.executable, "-c", HOLD, data.url], stdin=pipe, stdout=pipe, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(TransientError, match=f"is being written by process {holder.pid} on "),
        writer_lock(data, "ingest", wait_seconds=0),
    ):
        pass
    holder.kill()
    holder.wait()
    with writer_lock(data, "ingest", wait_seconds=300), writer_lock(data, "embed", wait_seconds=0):
        pass


@pytest.mark.slow
def test_two_files_ingested_at_once_are_both_there(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path / "data"))
    runs = []
    for number in range(4):
        file = tmp_path / f"{number}.json"
        rows = [{"asin": f"{number}-{row}", "title": "t"} for row in range(500)]
        file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
        runs.append(subprocess.Popen([sys.executable, "-c", INGEST, data.url, str(file)]))
    assert [run.wait() for run in runs] == [0] * 4
    assert data.dataset("items/amazon").count_rows() == 2000
