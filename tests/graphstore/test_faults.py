"""A load that is killed, and loads at the same time, in processes of their own."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sources import entity, item, publish, relation

from graphstore.bookkeeping import loaded_sources
from graphstore.connect import open_store
from graphstore.loading.load import load_source
from graphstore.projection.projection import project
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

#: With argv[4], it dies when it is about to write relations.
_LOAD = """
import os, signal, sys
from graphstore.loading.load import load_source
from graphstore.connect import open_store
from ingest.datasets.root import DataRoot
with open_store(sys.argv[1]) as store:
    if sys.argv[4:]:
        store.upsert_relations = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    print("loading", flush=True)
    load_source(store, DataRoot(sys.argv[2]), sys.argv[3])
print("loaded", flush=True)
"""


def publish_many(data: DataRoot, n: int, title: str = "first") -> None:
    rng = random.Random(0)
    tags = [f"many/Tag/{i}" for i in range(n // 20)]
    publish(
        data,
        "many",
        [item(f"many:{i}", title=f"{title} {i}", text="word " * 20) for i in range(n)],
        [entity(id_) for id_ in tags],
        [relation("TAGGED", f"many:{i}", tag) for i in range(n) for tag in rng.sample(tags, 3)],
    )


def _content(store: GraphStore) -> Any:
    titles = store.read("MATCH (n:Artwork) RETURN n.id AS id, n.title AS title ORDER BY id")
    tagged = store.read(
        "MATCH (n:Artwork)-[r:TAGGED]->(t:Tag) RETURN n.id AS id, t.id AS tag, r.weight AS w ORDER BY id, tag"
    )
    return store.version(), titles.to_pylist(), tagged.to_pylist()


@pytest.mark.slow
@pytest.mark.parametrize("earlier", [False, True], ids=["first load", "update"])
def test_a_killed_load_is_known_and_completed_by_the_same_load(tmp_path: Path, earlier: bool) -> None:
    data = DataRoot(str(tmp_path / "data"))
    url, undisturbed_url = f"ladybug://{tmp_path}/graph.lbug", f"ladybug://{tmp_path}/undisturbed.lbug"
    before = None
    if earlier:
        publish_many(data, 1000, "old")
        for each in (url, undisturbed_url):
            with open_store(each) as store:
                load_source(store, data, "many")
                before = _content(store)
    publish_many(data, 4000)
    with open_store(undisturbed_url) as store:
        started = time.monotonic()
        load_source(store, data, "many")
        seconds = time.monotonic() - started
        expected = _content(store)

    rng = random.Random(earlier)
    command = [sys.executable, "-c", _LOAD, url, data.url, "many"]
    for moment in ("relations", *(rng.uniform(0, seconds) for _ in range(4))):
        if moment == "relations":
            assert subprocess.run([*command, moment], stdout=subprocess.DEVNULL).returncode == -signal.SIGKILL
        else:  # at any time
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            time.sleep(moment)
            process.kill()
            process.wait()
        with open_store(url, read_only=True) as store:
            sources = loaded_sources(store)
            if sources and sources["many"]["loading"]:
                with pytest.raises(Graph2ImageError, match=r"load of source 'many' .* was cut off"):
                    project(store)
            elif sources:
                assert _content(store) in (before, expected)
    with open_store(url) as store:
        load_source(store, data, "many")
        assert _content(store) == expected
        assert not load_source(store, data, "many").changed


@pytest.mark.slow
def test_two_loads_at_once_one_is_refused_and_none_is_lost(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path / "data"))
    publish_many(data, 4000)
    url = f"ladybug://{tmp_path}/graph.lbug"
    command = [sys.executable, "-c", _LOAD, url, data.url, "many"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "loading\n"
    first.send_signal(signal.SIGSTOP)
    second = subprocess.run(command, capture_output=True, text=True)
    first.send_signal(signal.SIGCONT)
    assert "is open for writing in another process (PID" in second.stderr
    assert first.stdout.readline() == "loaded\n"
    assert first.wait() == 0
    with open_store(url) as store:
        assert not load_source(store, data, "many").changed
