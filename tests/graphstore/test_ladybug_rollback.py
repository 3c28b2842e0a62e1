"""A bulk load that is rolled back leaves the embedded store as it was, whatever was in the load."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import pyarrow as pa
from graphstore.connect import open_store

before, url = sys.argv[1:]


def upsert(names):
    store.upsert_nodes("Thing", pa.table({"id": names}))


with open_store(url) as store:
    store.define_label("Thing", pa.schema([("id", pa.string())]))
    with store.transaction() if before == "transaction" else store.bulk_load():
        upsert(["a", "b", "c", "d"])
    for _ in range(3):
        try:
            with store.bulk_load():
                store.write("MATCH (n:Thing) WHERE n.id IN ['a', 'b'] DETACH DELETE n")
                upsert(["c", "d", "e", "f"])
                raise KeyError
        except KeyError:
            pass
    assert sorted(store.nodes("Thing", ["id"])["id"].to_pylist()) == ["a", "b", "c", "d"]
    with store.bulk_load():
        upsert(["a", "d", "e", "f"])
    with store.transaction():
        upsert(["a", "e", "g"])
    assert sorted(store.nodes("Thing", ["id"])["id"].to_pylist()) == ["a", "b", "c", "d", "e", "f", "g"]
"""


@pytest.mark.parametrize("before", ["transaction", "bulk load"])
def test_nodes_deleted_and_copied_in_a_load_that_fails(ladybug_url: str, before: str) -> None:
    # In a process of its own: what could go wrong ends the process.
    subprocess.run([sys.executable, "-c", SCRIPT, before, ladybug_url], check=True)
