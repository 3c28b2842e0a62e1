"""Graph Data Science on a real server: its projection against ours, its ranks against exact ones, and what is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from row_graphs import Rows, expected_edges
from sources import HOKUSAI, LANDSCAPE, MONET, Row, entity, item, publish, publish_art, publish_embeddings, relation

from graphstore.connect import open_store
from graphstore.gds import walk as gds
from graphstore.gds.walk import (
    GdsGraph,
    GdsSource,
    gds_projection,
    gds_top_k_ppr,
    sweep,
)
from graphstore.lineage import opt_out
from graphstore.loading.load import load_source
from graphstore.neo4j.driver import GdsMissingError, MemoryLimitError
from graphstore.neo4j.store import Neo4jStore
from graphstore.ppr import exact_ppr, top_k_ppr
from graphstore.projection.projection import Projection, project, without_images
from graphstore.projection.settings import WalkSettings
from graphstore.sampling.explanation import explain_neighbors
from graphstore.sampling.settings import SamplerSettings
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from ingest.ingestion import Table
from ingest.sources import ingest_source


@pytest.fixture
def server(neo4j_url: str) -> Iterator[Neo4jStore]:
    with open_store(neo4j_url) as store:
        assert isinstance(store, Neo4jStore)
        yield store


def names(store: Neo4jStore) -> list[str]:
    return store.read("CALL gds.graph.list() YIELD graphName RETURN graphName AS name")["name"].to_pylist()  # type: ignore[no-any-return]


Weights = dict[tuple[str, str], list[float]]


def weights_in_gds(graph: GdsGraph) -> Weights:
    rows = graph.store.read(
        "CALL gds.graph.relationshipProperty.stream($name, 'weight') YIELD sourceNodeId, targetNodeId, propertyValue "
        "RETURN gds.util.asNode(sourceNodeId).id AS a, gds.util.asNode(targetNodeId).id AS b, propertyValue AS weight",
        {"name": graph.name},
    ).to_pylist()
    return collect((row["a"], row["b"], row["weight"]) for row in rows)


def weights_of(projection: Projection) -> Weights:
    ids = projection.ids.to_pylist()
    starts = np.repeat(np.arange(len(ids)), np.diff(projection.offsets)).tolist()
    edges = zip(starts, projection.targets.tolist(), projection.weights.tolist(), strict=True)
    return collect((ids[a], ids[b], weight) for a, b, weight in edges)


def collect(edges: Any) -> Weights:
    """The weights of the edges between the same two nodes, sorted."""
    found: Weights = defaultdict(list)
    for a, b, weight in edges:
        found[a, b].append(weight)
    return {ends: sorted(weights) for ends, weights in found.items()}


def assert_equal(one: Weights, other: Weights, rel: float) -> None:
    assert one.keys() == other.keys()
    for ends, weights in one.items():
        assert weights == pytest.approx(other[ends], rel=rel)


def typed_graph(seed: int, n: int = 200) -> tuple[list[Row], list[Row], list[Row]]:
    """Items of all splits in groups, some without an image; two kinds of entities, one of them shared by most items;
    relations of six types, with weights, also of 0, from nodes to themselves, and between any kinds of nodes.
    """
    rng = random.Random(seed)
    items = [
        item(
            f"art:{i}",
            split=rng.choice(["train"] * 6 + ["val", "test"]),
            group_id=f"g{i // 3}" if i % 4 == 0 else f"art:{i}",
            image_hash=None if i % 17 == 0 else f"hash {i}",
        )
        for i in range(n)
    ]
    genres, artists = [f"art/Genre/{i}" for i in range(4)], [f"art/Artist/{i}" for i in range(15)]
    ids = [row["item_id"] for row in items[: n - n // 10]]  # the others have no relations, but for what follows

    def weight() -> float:
        return rng.choice([0.0, 0.25, 1.0, 1.0, 3.0, rng.random()])

    keys = {("IN_GENRE", id_, genres[0]): 1.0 for id_ in ids}
    for _ in range(3 * n):
        kind = rng.randrange(6)
        type_, from_, to = [
            ("IN_GENRE", rng.choice(ids), rng.choice(genres[1:])),
            ("CREATED_BY", rng.choice(ids), rng.choice(artists)),
            ("SIMILAR_TO", rng.choice(ids), rng.choice(ids)),
            ("INFLUENCED_BY", rng.choice(artists), rng.choice(artists)),
            ("SHOWS", rng.choice(genres), rng.choice(ids)),
            ("SHOWS", rng.choice(artists), rng.choice(genres)),
        ][kind]
        keys[type_, from_, to] = weight()
    guests = [row["item_id"] for row in items if row["split"] != "train"]
    # To be reached from guests only: nodes where a walk ends.
    for i in range(n - n // 10, n):
        keys["SIMILAR_TO", rng.choice(guests), f"art:{i}"] = 1.0
    relations = [relation(*key, value) for key, value in keys.items()]
    return items, [entity(id_) for id_ in [*genres, *artists]], relations


def load_typed(store: Neo4jStore, data: DataRoot, seed: int) -> Rows:
    """Load a `typed_graph` and what is opted out beside it; returns what remains."""
    items, entities, relations = typed_graph(seed)
    gone = [item("art:gone", opted_out=True), item("art:withdrawn"), item("art:made-by-withdrawn")]
    forbidden = [entity("art/Artist/withdrawn")]
    leading = [
        relation("SIMILAR_TO", "art:0", "art:gone"),
        relation("SIMILAR_TO", "art:withdrawn", "art:1"),
        relation("IN_GENRE", "art:withdrawn", "art/Genre/1"),
        relation("CREATED_BY", "art:made-by-withdrawn", "art/Artist/withdrawn"),
        relation("INFLUENCED_BY", "art/Artist/withdrawn", "art/Artist/1"),
    ]
    publish(data, "art", items + gone, entities + forbidden, relations + leading)
    load_source(store, data, "art")
    opt_out(store, data, "art:withdrawn")
    opt_out(store, data, "art/Artist/withdrawn")
    return Rows(items, [row["entity_id"] for row in entities], relations)


WALKS = [
    WalkSettings(),
    WalkSettings(entity_exponent=0.0, relation_weights={"SIMILAR_TO": 2.5, "SHOWS": 0.0}),
    WalkSettings(entity_exponent=-0.5, via=("IN_GENRE", "SHOWS"), directions={"SHOWS": "forward"}),
    WalkSettings(directions={"IN_GENRE": "backward", "SIMILAR_TO": "forward", "INFLUENCED_BY": "backward"}),
    WalkSettings(neighbor_splits=("train", "val"), image_required=False),
]


def test_the_projection_has_the_edges_and_weights_of_ours(server: Neo4jStore, data: DataRoot) -> None:
    graph = load_typed(server, data, 1)
    for walk in WALKS:
        with gds_projection(server, walk) as made:
            weights = weights_in_gds(made)
        ours = project(server, walk)
        assert_equal(weights, weights_of(ours), rel=2e-7)  # ours are float32
        assert (made.n_nodes, made.n_edges) == (len(ours.ids), len(ours.targets))
        if walk.neighbor_splits != ("train",):
            continue
        expected = expected_edges(
            graph, walk.entity_exponent, walk.relation_weights, set(walk.via or ours.type_names), walk.directions
        )
        sums = {ends: sum(values) for ends, values in weights.items()}
        exact: dict[tuple[str, str], float] = defaultdict(float)
        for (a, _, b), weight in expected.items():
            exact[a, b] += weight
        assert sums == pytest.approx(exact, rel=1e-12)


def exact(projection: Projection, source: GdsSource) -> npt.NDArray[np.float64]:
    seed = {source: 1.0} if isinstance(source, str) else source
    return exact_ppr(projection, [{projection.node(id_): weight for id_, weight in seed.items()}])[0]


def assert_is_top_k(
    projection: Projection, graph: GdsGraph, sources: list[GdsSource], k: int, atol: float = 1e-6, **options: Any
) -> None:
    """Every score is the exact one within `atol`, and there is nothing better."""
    places = {id_: place for place, id_ in enumerate(projection.ids.to_pylist())}
    answers = gds_top_k_ppr(graph, sources, k=k, **options)
    assert len(answers) == len(sources)
    for source, ranked in zip(sources, answers, strict=True):
        scores = exact(projection, source)
        allowed = projection.is_neighbor.copy()
        for id_ in [source] if isinstance(source, str) else source:
            node = places[id_]
            allowed[node] = False
            allowed &= (projection.groups != projection.groups[node]) | (projection.groups[node] < 0)
        found = [places[item_id] for item_id, _ in ranked]
        assert allowed[found].all()
        assert len(set(found)) == len(found) == min(k, int((scores[allowed] > 0).sum()))
        assert [score for _, score in ranked] == pytest.approx(scores[found], abs=atol)
        best = np.sort(scores[allowed])[::-1][: len(found)]
        np.testing.assert_allclose(scores[found], best, rtol=0, atol=atol)


def test_the_top_k_is_that_of_exact_scores(server: Neo4jStore, data: DataRoot) -> None:
    load_typed(server, data, 2)
    rng = random.Random(0)
    for walk in (WALKS[0], WALKS[3], WALKS[4]):
        projection = project(server, walk)
        items = projection.items.to_pylist()
        alone = f"art:{len(items) - 3}"  # where some walks end
        guests = [row["item_id"] for row in items if row["split"] != "train"]
        sources: list[GdsSource] = [
            "art:0",
            alone,
            "art/Genre/0",
            *rng.sample([row["item_id"] for row in items], 2),
            *rng.sample(guests, 3),
            {"art:1": 1.0, "art:2": 3.0, guests[0]: 0.5},
            {guests[1]: 2.0, guests[2]: 2.0, "art/Artist/3": 0.0},
        ]
        with gds_projection(server, walk) as graph:
            assert_is_top_k(projection, graph, sources, 400)
            assert_is_top_k(projection, graph, sources[:4], 3)


def test_without_weighted_sources_runs_are_combined(
    server: Neo4jStore, data: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_typed(server, data, 3)
    monkeypatch.setattr(gds, "WEIGHTED_SOURCES_VERSION", (99, 0))
    with gds_projection(server) as graph:
        assert_is_top_k(project(server), graph, [{"art:1": 1.0, "art:2": 3.0}, "art:4"], 20)


def test_the_answers_are_those_of_the_push(server: Neo4jStore, data: DataRoot) -> None:
    """With ties: an artist's works are equally near to each, and both cut them alike."""
    publish_art(data)
    works = [item(f"more:{i}") for i in range(60)]
    publish(data, "more", works, [], [relation("CREATED_BY", row["item_id"], MONET) for row in works])
    for source in ("art", "more"):
        load_source(server, data, source)
    projection = project(server)
    ids = projection.items["item_id"].to_pylist()
    with gds_projection(server) as graph:
        answers = gds_top_k_ppr(graph, ids[:15], k=7)
        again = gds_top_k_ppr(graph, ids[:3], k=7)
    assert [[item_id for item_id, _ in row] for row in answers[:3]] == [
        [item_id for item_id, _ in row] for row in again
    ]
    top = top_k_ppr(projection, np.arange(15), k=7, epsilon=1e-11)
    for ranked, nodes, scores in zip(answers, top.nodes, top.scores, strict=True):
        assert [item_id for item_id, _ in ranked] == [ids[node] for node in nodes if node >= 0]
        assert [score for _, score in ranked] == pytest.approx(scores[nodes >= 0], abs=1e-6)
    assert answers[ids.index("art:5")] == []


def test_more_ties_than_are_read_at_first(server: Neo4jStore, data: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    works = [item(f"art:{i}") for i in range(80)]
    publish(data, "art", works, [entity(MONET)], [relation("CREATED_BY", row["item_id"], MONET) for row in works])
    load_source(server, data, "art")
    with gds_projection(server) as graph:
        whole = gds_top_k_ppr(graph, ["art:3"], k=5)
        monkeypatch.setattr(gds, "_SPARE_ROWS", 10)
        assert gds_top_k_ppr(graph, ["art:3"], k=5) == whole


def test_pictures_that_are_lost_are_nobodys(server: Neo4jStore, data: DataRoot) -> None:
    publish_art(data)
    load_source(server, data, "art")
    projection = project(server)
    lost = projection.items["image_hash"].slice(1, 1)
    with gds_projection(server, unreadable_images=lost.to_pylist()) as graph:
        assert_is_top_k(without_images(projection, lost), graph, ["art:1", HOKUSAI], 5)
        assert "art:2" not in {row.item_id for row in gds_top_k_ppr(graph, ["art:1"], k=5)[0]}


def test_neighbors_are_the_same_by_both_engines(server: Neo4jStore, data: DataRoot) -> None:
    load_typed(server, data, 5)
    items, _, _ = typed_graph(5)
    publish_embeddings(data, items)
    ids = random.Random(0).sample([row["item_id"] for row in items], 3)
    common: dict[str, Any] = {"k": 4, "pool": 15, "via": ("IN_GENRE", "SIMILAR_TO"), "epsilon": 1e-9}
    for settings in (SamplerSettings(mode="ppr", **common), SamplerSettings(encoder="test", **common)):
        for id_ in ids:
            here, there = (
                explain_neighbors(server, data, id_, settings, engine=engine).neighbors for engine in ("push", "gds")
            )
            assert [(n.item_id, n.via) for n in here] == [(n.item_id, n.via) for n in there]
            assert [n.ppr for n in here] == pytest.approx([n.ppr for n in there], abs=2e-6)
    assert names(server) == []


@pytest.mark.parametrize("accuracy", [1e-2, 1e-4, 1e-8])
def test_scores_are_as_accurate_as_asked_for(server: Neo4jStore, data: DataRoot, accuracy: float) -> None:
    load_typed(server, data, 4)
    walk = WalkSettings(directions={"SIMILAR_TO": "forward"})
    projection = project(server, walk)
    with gds_projection(server, walk) as graph:
        for damping_factor in (0.5, 0.95):
            ranked = gds_top_k_ppr(graph, ["art:7"], k=400, damping_factor=damping_factor, accuracy=accuracy)[0]
            scores = exact_ppr(projection, [projection.node("art:7")], damping_factor=damping_factor)[0]
            lacking = np.array([scores[projection.node(item_id)] - score for item_id, score in ranked])
            assert lacking.max() <= accuracy
            assert lacking.min() >= -1e-7  # the weights here are float32


def test_without_any_edge_there_is_nobody(server: Neo4jStore, data: DataRoot) -> None:
    publish(data, "art", [item("art:1"), item("art:2")])
    load_source(server, data, "art")
    with gds_projection(server) as graph:
        assert gds_top_k_ppr(graph, ["art:1", {"art:1": 1, "art:2": 2}], k=3) == [[], []]


def test_projections_are_dropped(server: Neo4jStore, data: DataRoot) -> None:
    publish_art(data)
    load_source(server, data, "art")
    with gds_projection(server) as graph, gds_projection(server, WalkSettings(via=("IN_GENRE",))) as other:
        assert sorted(names(server)) == sorted([graph.name, other.name])
        assert sweep(server) == []  # they are in use
    with pytest.raises(ZeroDivisionError), gds_projection(server):
        raise ZeroDivisionError
    assert names(server) == []


_HOLD = """
import sys
from graphstore.gds.walk import gds_projection
from graphstore.connect import open_store
with open_store(sys.argv[1], read_only=True) as store, gds_projection(store) as graph:
    print(graph.name, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_swept(server: Neo4jStore, data: DataRoot) -> None:
    publish_art(data)
    load_source(server, data, "art")
    command = [sys.executable, "-c", _HOLD, server.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        name = holder.stdout.readline().strip()
        with gds_projection(server) as graph:
            assert sorted(names(server)) == sorted([name, graph.name])
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert names(server) == [name]
    with gds_projection(server) as graph:
        assert names(server) == [graph.name]


def test_projections_of_others_stay(server: Neo4jStore) -> None:
    """Those of another machine until they are old, and those that are not ours."""
    server.read("CREATE (:Artwork {id: 'x'}) RETURN 1 AS one")
    theirs = ["graph2image-elsewhere-0123abcd-17-1700000000-0123abcd", "graph2image", "graph2image-report"]
    for name in theirs:
        server.read("MATCH (n) WITH gds.graph.project($name, n, null) AS g RETURN g.nodeCount AS count", {"name": name})
    try:
        assert sweep(server) == []
        assert sorted(names(server)) == sorted(theirs)
        assert gds._is_left_behind(theirs[0], is_old=True)
        assert not gds._is_left_behind(theirs[2], is_old=True)
    finally:
        for name in theirs:
            server.read("CALL gds.graph.drop($name) YIELD graphName RETURN graphName", {"name": name})


def test_a_graph_that_does_not_fit_is_refused(server: Neo4jStore, data: DataRoot) -> None:
    publish_art(data)
    load_source(server, data, "art")
    message = r"needs about \d+ MiB for 8 nodes and 14 edges, and 0 MiB"
    with pytest.raises(MemoryLimitError, match=message) as raised, gds_projection(server, memory_limit=100_000):
        pass
    assert "larger heap" in str(raised.value)
    assert names(server) == []


def test_what_cannot_be_walked(
    server: Neo4jStore, ladybug_url: str, data: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Graph2ImageError, match="no items in the graph store"), gds_projection(server):
        pass
    publish_art(data)
    load_source(server, data, "art")
    opt_out(server, data, "art:4")
    unknown = WalkSettings(via=("PAINTED",))
    with pytest.raises(Graph2ImageError, match="no relation type 'PAINTED'"), gds_projection(server, unknown):
        pass
    with gds_projection(server) as graph:
        for source in ("art:4", "art:99", LANDSCAPE.lower()):
            with pytest.raises(Graph2ImageError, match=f"no item or entity '{source}'"):
                gds_top_k_ppr(graph, ["art:1", source], k=2)
        for weights in ({}, {"art:1": 0.0}, {"art:1": -1.0, "art:2": 2.0}, {"art:1": float("nan")}):
            with pytest.raises(Graph2ImageError, match="a source has the weights"):
                gds_top_k_ppr(graph, [weights], k=2)
    with (
        open_store(ladybug_url) as embedded,
        pytest.raises(Graph2ImageError, match=r"not on Neo4j\n.*neo4j://"),
        gds_projection(embedded),
    ):
        pass
    monkeypatch.setattr(gds, "OLDEST_VERSION", (99, 0))
    with pytest.raises(GdsMissingError, match="has Graph Data Science 2"), gds_projection(server):
        pass


@pytest.mark.skipif(
    "GRAPH2IMAGE_SHARED" not in os.environ, reason="GRAPH2IMAGE_SHARED does not name the folder of the data"
)
def test_on_a_slice_of_the_fashion_data(server: Neo4jStore, data: DataRoot, tmp_path: Path) -> None:
    folder = Path(os.environ["GRAPH2IMAGE_SHARED"]) / "data/fashion"
    with (folder / "products.csv").open() as lines:
        (tmp_path / "products.csv").write_text("".join(islice(lines, 401)))
    with tarfile.open(folder / "images.tar") as pictures, tarfile.open(tmp_path / "images.tar", "w") as few:
        for member in islice((member for member in pictures if member.isfile()), 400):
            few.addfile(member, pictures.extractfile(member))
    ingest_source(data, Table(spec=Path(__file__).parents[3] / "examples/fashion.toml", root=tmp_path))
    load_source(server, data, "fashion")
    projection = project(server)
    assert projection.is_neighbor.sum() > 200
    with gds_projection(server) as graph:
        assert_equal(weights_in_gds(graph), weights_of(projection), rel=2e-7)
        ids = projection.items["item_id"].to_pylist()
        assert_is_top_k(projection, graph, [*ids[:4], {ids[5]: 1.0, ids[6]: 2.0}], 100)
