"""Copies between stores: complete, continued, refused; and the digest that says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from sources import MONET, entity, item, publish, relation
from test_lineage import append_generated, generated, publish_model, trained

from graphstore.bookkeeping import check_complete, loaded_sources
from graphstore.connect import open_store
from graphstore.lineage import lineage, opt_out, record_lineage
from graphstore.loading.copying import content_digest, copy_graph
from graphstore.loading.load import load_source
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

_TITLES = [
    "\N{GRINNING FACE} \N{CJK UNIFIED IDEOGRAPH-20000} \U000e0001 \U0010fffd",
    "a \"quoted\", 'quoted'; \\backslash\\ and\nlines\r\n\tand more",
    "",
    " spaces ",
    "e\u0301 \u00e9 \u200f \ufeff \u2028",
    "title " * 350_000,  # 2 MB
]
_COLUMNS = pa.schema(
    [
        ("tags", pa.list_(pa.string())),
        ("years", pa.list_(pa.int64())),
        ("made", pa.date32()),
        ("seen", pa.timestamp("us")),
        ("price", pa.float64()),
        ("pages", pa.int64()),
        ("signed", pa.bool_()),
        ("never", pa.string()),
    ]
)
_VALUES = [
    {"tags": ["a;b", 'c,"d"', "\U0001f3a8"], "years": [1, -(2**60)], "made": date(1503, 1, 2), "signed": True},
    {"tags": [], "years": None, "seen": datetime(1969, 12, 31, 23, 59, 59, 999999), "price": 0.1, "pages": 2**53 + 1},
    {"tags": [""], "years": [], "made": date(2024, 2, 29), "price": -1e-300, "pages": -1, "signed": False},
]


def publish_rich(data: DataRoot, extra_works: int = 0) -> None:
    """Works with every type of property and all sorts of titles; relations with and without a role."""
    works = [item(f"rich:{n}", title=title, **_VALUES[n % len(_VALUES)]) for n, title in enumerate(_TITLES)] + [
        item(f"rich:more{n}") for n in range(extra_works)
    ]
    people = [entity(f"rich/Artist/\N{CAT FACE}{n}", name=None if n else "\N{CAT FACE}") for n in range(3)]
    names = [row["entity_id"] for row in people]
    relations = [
        relation("CREATED_BY", row["item_id"], names[n % 3], 0.1 * n) | {"role": "after" if n == 1 else None}
        for n, row in enumerate(works)
    ]
    relations += [relation("SIMILAR_TO", works[0]["item_id"], row["item_id"]) for row in works]
    relations += [relation("INFLUENCED_BY", names[0], names[1], 1e9)]
    publish(data, "rich", works, people, relations, extra=_COLUMNS)


def fill(store: GraphStore, data: DataRoot) -> None:
    """Two sources, lineage, a withdrawal."""
    publish_rich(data)
    load_source(store, data, "rich")
    publish(
        data,
        "art",
        [item(f"art:{n}") for n in range(1, 4)],
        [entity(MONET)],
        [relation("CREATED_BY", f"art:{n}", MONET) for n in range(1, 4)],
    )
    version = load_source(store, data, "art").version
    publish_model(data, "mini-1", version, {"art:1": ["art:2"]})
    append_generated(data, generated("g1", "art:1", [("art:2", 0.5), ("rich:0", 0.25)]))
    record_lineage(store, data, trained(data))
    opt_out(store, data, "rich:1", trained(data))


@pytest.fixture
def other_url(store_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """An empty store of the other kind than `store`."""
    if store_url.startswith("ladybug"):
        url: str = request.getfixturevalue("neo4j_url")
        return url
    return f"ladybug://{tmp_path}/other.lbug"


@pytest.fixture
def other(other_url: str) -> Iterator[GraphStore]:
    with open_store(other_url) as other:
        yield other


def test_a_copy_is_the_same_graph(store: GraphStore, other: GraphStore, data: DataRoot, tmp_path: Path) -> None:
    fill(store, data)
    report = copy_graph(store, other)
    assert report.digest == content_digest(store) == content_digest(other)
    assert report.version == store.version() == other.version()
    assert other.schema() == store.schema()
    assert (report.nodes, report.relations) == (
        sum(label.count for label in store.schema().labels),
        sum(relation.count for relation in store.schema().relations),
    )
    assert report.parts_there == 0
    works = [s.nodes("Artwork", s.node_labels()["Artwork"].names).sort_by("id").to_pylist() for s in (store, other)]
    assert [{**work} for work in works[0]] == works[1]
    assert {work["title"] for work in works[1]} > set(_TITLES)
    assert lineage(other, "g1") == lineage(store, "g1")
    assert loaded_sources(other) == loaded_sources(store)
    check_complete(other)
    # What comes next finds what it needs: nothing is loaded again.
    assert not load_source(other, data, "rich").changed
    with open_store(f"ladybug://{tmp_path}/third.lbug") as third:
        assert copy_graph(other, third).digest == report.digest


def test_the_digest_tells_every_difference(store: GraphStore, data: DataRoot) -> None:
    fill(store, data)
    digests = [content_digest(store)]
    for change in (
        "MATCH (n:Artwork {id: 'rich:0'}) SET n.title = 'x'",
        "MATCH (n:Artwork {id: 'rich:2'}) SET n.title = NULL",  # was empty
        "MATCH (n:Artwork {id: 'rich:1'}) SET n.tags = NULL",  # was an empty list
        "MATCH (n:Artwork {id: 'rich:0'}) SET n.tags = ['a', ';b', 'c,\"d\"\U0001f3a8']",
        "MATCH (n:Artwork {id: 'rich:1'}) SET n.pages = 9007199254740992",
        "MATCH (:Artwork {id: 'rich:0'})-[r:CREATED_BY]->() SET r.weight = 0.7",
        "MATCH (:Artwork {id: 'rich:1'})-[r:CREATED_BY]->() SET r.role = NULL",
        "MATCH (:GeneratedImage)-[r:CONDITIONED_ON]->(:Artwork {id: 'art:2'}) SET r.rank = 3",
        "MATCH (:Artwork {id: 'rich:0'})-[r:SIMILAR_TO]->(:Artwork {id: 'rich:2'}) DELETE r",
        "CREATE (:Artist {id: 'rich/Artist/new'})",
    ):
        store.write(change)
        digests.append(content_digest(store))
    assert len(set(digests)) == len(digests)


_COPY_AND_DIE = """
import os, signal, sys
from graphstore.loading.copying import copy_graph
from graphstore.connect import open_store
with open_store(sys.argv[1], read_only=True) as source, open_store(sys.argv[2]) as target:
    writes = 0
    def counted(write):
        def call(*arguments, **more):
            global writes
            writes += 1
            result = write(*arguments, **more)
            if writes == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call
    target.upsert_nodes = counted(target.upsert_nodes)
    target.upsert_relations = counted(target.upsert_relations)
    copy_graph(source, target)
"""


def test_a_copy_that_was_killed_is_refused_by_sampling_and_goes_on(
    store: GraphStore, store_url: str, other_url: str, data: DataRoot
) -> None:
    fill(store, data)
    digest = content_digest(store)
    store.close()
    there = []
    for writes in (2, 4, 6):  # the first of each writes the mark
        killed = subprocess.run([sys.executable, "-c", _COPY_AND_DIE, store_url, other_url, str(writes)])
        assert killed.returncode == -9
        with open_store(other_url, read_only=True) as other:
            with pytest.raises(Graph2ImageError, match="the copy into the graph store is not finished"):
                check_complete(other)
            there.append(sum(label.count for label in other.schema().labels))
    assert there == sorted(there)
    with open_store(store_url, read_only=True) as source, open_store(other_url) as other:
        report = copy_graph(source, other)
        assert report.digest == content_digest(other) == digest
        assert report.parts_there >= 6
        check_complete(other)


_COPY_AND_DIE_EMBEDDED = """
import os, signal, sys, ladybug
from graphstore.connect import open_store
from graphstore.loading.copying import copy_graph
execute, calls = ladybug.Connection.execute, 0
def counted(connection, *arguments):
    global calls
    if connection.database.read_only:
        return execute(connection, *arguments)
    calls += 1
    if calls == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(connection, *arguments)
ladybug.Connection.execute = counted
with open_store(sys.argv[1], read_only=True) as source, open_store(sys.argv[2]) as target:
    copy_graph(source, target)
print(calls)
"""


@pytest.mark.slow
def test_a_copy_into_an_embedded_store_is_continued_wherever_it_was_killed(
    ladybug_url: str, data: DataRoot, tmp_path: Path
) -> None:
    """Between any two statements of the target's; also when all are done, before it is closed."""
    with open_store(ladybug_url) as store:
        fill(store, data)
        digest = content_digest(store)

    def run(url: str, calls: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _COPY_AND_DIE_EMBEDDED, ladybug_url, url, str(calls)]
        return subprocess.run(command, capture_output=True, text=True)

    total = int(run(f"ladybug://{tmp_path}/whole.lbug", 0).stdout)
    points = sorted({*range(1, total, total // 6), total - 2, total - 1, total})
    for point in points:
        url = f"ladybug://{tmp_path}/killed-{point}.lbug"
        assert run(url, point).returncode == -9
        with open_store(ladybug_url, read_only=True) as source, open_store(url) as target:
            assert copy_graph(source, target).digest == content_digest(target) == digest
            check_complete(target)


def test_a_whole_copy_is_found_to_be_one(store: GraphStore, other: GraphStore, data: DataRoot) -> None:
    fill(store, data)
    first = copy_graph(store, other)
    again = copy_graph(store, other)
    assert (again.digest, again.nodes, again.relations) == (first.digest, first.nodes, first.relations)
    assert again.parts_there == again.parts == first.parts
    other.write("MATCH (n:Artwork {id: 'rich:0'}) SET n.title = 'x'")
    with pytest.raises(Graph2ImageError, match=r"the same sources as .*, but other content in Artwork"):
        copy_graph(store, other)


def test_what_does_not_arrive_is_told(store: GraphStore, other: GraphStore, data: DataRoot) -> None:
    fill(store, data)
    upsert = other.upsert_relations

    def lose_one(type_: str, from_label: str, to_label: str, relations: pa.Table) -> None:
        upsert(type_, from_label, to_label, relations.slice(1) if type_ == "SIMILAR_TO" else relations)

    other.upsert_relations = lose_one  # type: ignore[method-assign]
    with pytest.raises(Graph2ImageError, match="SIMILAR_TO Artwork Artwork is not what the source has: 5 instead of 6"):
        copy_graph(store, other)
    with pytest.raises(Graph2ImageError, match="the copy into the graph store is not finished"):
        check_complete(other)
    with pytest.raises(Graph2ImageError, match="the copy into the graph store is not finished"):
        copy_graph(other, store)


def test_only_an_empty_store_or_the_same_copy_is_a_target(store: GraphStore, other: GraphStore, data: DataRoot) -> None:
    fill(store, data)
    with pytest.raises(Graph2ImageError, match="cannot be copied into itself"):
        copy_graph(store, store)
    load_source(other, data, "art")
    with pytest.raises(Graph2ImageError, match=r"is not empty: 3 Artwork, 1 Artist, 1 LoadedSource …"):
        copy_graph(store, other)
    before = content_digest(other)
    with pytest.raises(Graph2ImageError, match="is not empty"):
        copy_graph(other, store)
    assert content_digest(other) == before


def test_a_copy_of_another_version_does_not_go_on(
    store: GraphStore, store_url: str, other_url: str, data: DataRoot
) -> None:
    fill(store, data)
    store.close()
    subprocess.run([sys.executable, "-c", _COPY_AND_DIE, store_url, other_url, "4"])
    with open_store(store_url) as source, open_store(other_url) as other:
        publish_rich(data, extra_works=1)
        load_source(source, data, "rich")
        with pytest.raises(Graph2ImageError, match="part of a copy of another graph, or the source has changed since"):
            copy_graph(source, other)
