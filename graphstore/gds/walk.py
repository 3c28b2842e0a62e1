"""Personalized PageRank by Neo4j's Graph Data Science library: the walk of `ppr`, on the server that has the graph.

GDS ranks one source at a time on a *projection*, a copy of the graph in the server's memory that has a name. Ours have
the edges of `gds.edges`. What is notable:

- A projection outlives the connection, and the process. So its name says who made it, and whoever makes one drops those
  whose owner is dead, as far as that can be told: on this machine at once, of other machines after a day.
- GDS counts a walk that arrives at a node without edges as one that has its next step still before it, and gives it
  `1 - damping_factor` of what it should have. That is put right here by the nodes' degrees.
- GDS stops after `maxIterations` steps, and no longer spreads what is at most `tolerance` at a node. Both lose a part
  of the walk; `_limits` chooses them so that no score is too low by more than asked for. GDS's own are not enough.
- The server sorts and cuts; more is read than asked for only where scores tie, since ties are cut as in `ppr`.
- GDS checks for itself whether an algorithm fits into memory, but not whether a projection from Cypher does: that is
  estimated first.
"""

from __future__ import annotations

import hashlib
import math
import re
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from uuid import uuid4

import numpy as np
import psutil
import pyarrow as pa

from graphstore.bookkeeping import check_complete
from graphstore.gds.edges import GdsEdges, edges_of, is_present
from graphstore.neo4j.driver import GdsMissingError, MemoryLimitError, ServerUnreachableError
from graphstore.ppr.ranking import tie_order
from graphstore.projection.settings import DEFAULT_WALK, WalkSettings
from graphstore.store import GraphStore
from ingest.datasets.node_ids import hash_ids
from ingest.errors import Graph2ImageError

#: Id of an item or entity; or the ids of several, of which the walk starts at one, in proportion to its weight.
GdsSource: TypeAlias = str | Mapping[str, float]

#: The oldest GDS whose projections from Cypher have all that is used here; the oldest that takes weighted sources.
OLDEST_VERSION = (2, 13)
WEIGHTED_SOURCES_VERSION = (2, 26)
#: A projection of another machine is dropped when it is so old.
_OLD_HOURS = 24
#: Scores that are read beyond those asked for: among them is where most ties end.
_SPARE_ROWS = 1_000
#: Bytes that weights take beyond GDS's estimate: pages that are used in part. Measured: 24 to 40 MB.
_PAGES = 64 << 20
_MIB = 1 << 20


class Ranked(NamedTuple):
    """An item and its score."""

    item_id: str
    score: float


@dataclass(frozen=True)
class GdsGraph:
    """A projection on the server; it is there until the context that made it ends, whatever becomes of the store.

    Attributes
    ----------
    name
        Of the projection in GDS's catalog.
    n_nodes, n_edges
        Of the projection.
    labels
        Of its nodes.
    version
        Of GDS.
    """

    store: GraphStore
    name: str
    n_nodes: int
    n_edges: int
    labels: tuple[str, ...]
    version: tuple[int, ...]


# -- projections -----------------------------------------------------------------------------------------------------


@contextmanager
def gds_projection(
    store: GraphStore,
    walk: WalkSettings = DEFAULT_WALK,
    *,
    unreadable_images: Collection[str] = (),
    memory_limit: int | None = None,
) -> Iterator[GdsGraph]:
    """Project a graph on its server, and drop the projection at the end.

    Parameters
    ----------
    walk
        As for `projection.project`.
    unreadable_images
        Hashes of images that count as none, as for `projection.without_images`.
    memory_limit
        Bytes that may be needed; by default, what the server's heap has left.

    Raises
    ------
    GdsMissingError
        If the server has no GDS, or one that is too old.
    MemoryLimitError
        If the projection and a walk on it need more than `memory_limit`.
    Graph2ImageError
        If the store is none on Neo4j, or as `projection.project`.
    """
    if not store.runs_gds:
        raise Graph2ImageError(
            f"Graph Data Science is a part of Neo4j, and {store.url} is not on Neo4j",
            "Give a store such as neo4j://host:7687, or walk without GDS.",
        )
    system = _system(store)
    version = tuple(map(int, re.findall(r"\d+", system["gdsVersion"])[:2]))
    if version < OLDEST_VERSION:
        raise GdsMissingError(
            f"{store.url} has Graph Data Science {system['gdsVersion']}",
            f"Use {'.'.join(map(str, OLDEST_VERSION))} or later.",
        )
    check_complete(store)
    labels = (*(items := store.labels_of_kind("item")), *store.labels_of_kind("entity"))
    if not items:
        raise Graph2ImageError("there are no items in the graph store", "Run `graph2image ingest` first.")
    sweep(store)
    edges = edges_of(store, walk, unreadable_images=unreadable_images)
    _check_memory(store, labels, edges, int(system["availableHeapInBytes"]) if memory_limit is None else memory_limit)
    name = f"{_owner()}-{uuid4().hex[:8]}"
    try:
        n_nodes, n_edges = _project(store, name, edges)
        yield GdsGraph(store, name, n_nodes, n_edges, labels, version)
    finally:
        # With the server, the projection is gone too.
        with suppress(ServerUnreachableError):
            _drop(store, name)


def sweep(store: GraphStore) -> list[str]:
    """Drop the projections that processes left behind; returns their names."""
    rows = store.read(
        "CALL gds.graph.list() YIELD graphName, creationTime WHERE graphName STARTS WITH 'graph2image-' "
        "RETURN graphName AS name, creationTime < datetime() - duration({hours: $hours}) AS is_old",
        {"hours": _OLD_HOURS},
    ).to_pylist()
    left = [row["name"] for row in rows if _is_left_behind(row["name"], is_old=row["is_old"])]
    for name in left:
        _drop(store, name)
    return left


def _drop(store: GraphStore, name: str) -> None:
    store.read("CALL gds.graph.drop($name, false) YIELD graphName RETURN count(*) AS count", {"name": name})


def _owner() -> str:
    process = psutil.Process()
    return f"graph2image-{_machine()}-{process.pid}-{round(process.create_time())}"


def _is_left_behind(name: str, *, is_old: bool) -> bool:
    """Whether the owner of a projection is known to be dead, or it is old and of a machine that cannot be asked."""
    parts = re.fullmatch(r"graph2image-(.+)-(\d+)-(\d+)-[0-9a-f]{8}", name)
    if parts is None:
        return False
    if parts[1] != _machine():
        return is_old
    try:
        created = psutil.Process(int(parts[2])).create_time()
    except psutil.NoSuchProcess:
        return True
    return bool(abs(created - int(parts[3])) > 1)


def _machine() -> str:
    """Names what process ids are unique in: a machine since its last start, or a container."""
    unique = b""
    with suppress(OSError):
        unique = Path("/proc/sys/kernel/random/boot_id").read_bytes() + bytes(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()}-{hashlib.sha256(unique).hexdigest()[:8]}"


def _system(store: GraphStore) -> dict[str, Any]:
    """The version and the memory of a server, by GDS."""
    rows = store.read(
        "CALL gds.debug.sysInfo() YIELD key, value WHERE key IN ['gdsVersion', 'availableHeapInBytes'] "
        "RETURN key, toString(value) AS value"
    )
    return {row["key"]: row["value"] for row in rows.to_pylist()}


def _check_memory(store: GraphStore, labels: Collection[str], edges: GdsEdges, limit: int) -> None:
    counts = [f"MATCH (n:`{label}`) RETURN count(n) AS nodes, 0 AS edges" for label in labels]
    # Twice, for both directions; the server keeps these numbers, so nothing is read.
    counts += [f"MATCH ()-[r:`{type_}`]->() RETURN 0 AS nodes, 2 * count(r) AS edges" for type_ in edges.types]
    (row,) = store.read(
        f"CALL () {{ {' UNION ALL '.join(counts)} }} WITH sum(nodes) AS nodes, sum(edges) AS edges "
        "CALL gds.graph.project.estimate('*', '*', {nodeCount: nodes, relationshipCount: edges, "
        "nodeProperties: ['eligible', 'degree'], relationshipProperties: ['weight']}) YIELD bytesMax AS projection "
        # Without edges, since those are in the other estimate.
        "CALL gds.pageRank.stream.estimate({nodeCount: nodes, relationshipCount: 0, nodeProjection: '*', "
        "relationshipProjection: '*'}, {}) YIELD bytesMax AS walk RETURN nodes, edges, projection + walk AS needed"
    ).to_pylist()
    needed = row["needed"] + _PAGES
    if needed > limit:
        raise MemoryLimitError(
            f"GDS needs about {math.ceil(needed / _MIB):,} MiB for {row['nodes']:,} nodes and {row['edges']:,} "
            f"edges, and {limit // _MIB:,} MiB of the server's heap are free",
            "Give the server a larger heap, drop what `CALL gds.graph.list()` shows, name fewer relation types, or "
            "walk without GDS.",
        )


def _project(store: GraphStore, name: str, edges: GdsEdges) -> tuple[int, int]:
    """Make the projection; how many nodes and edges it has."""
    parts = [
        f"CALL () {{ {edges.nodes} }} RETURN source, null AS target, null AS weight, {{eligible: eligible}} AS own"
    ]
    if edges.types:
        parts.append(f"CALL () {{ {edges.edges} }} RETURN source, target, weight, null AS own")
    (row,) = store.read(
        # There is one already if the connection was lost, and this is done again.
        "CALL gds.graph.drop($name, false) YIELD graphName WITH count(*) AS dropped "
        f"CALL () {{ {' UNION ALL '.join(parts)} }} "
        "WITH gds.graph.project($name, source, target, {sourceNodeProperties: own, targetNodeProperties: null, "
        "relationshipProperties: {weight: weight}}, {logProgress: false}) AS made "
        "RETURN made.nodeCount AS nodes, made.relationshipCount AS edges",
        {"name": name, **edges.parameters},
    ).to_pylist()
    store.read(
        "CALL gds.degree.mutate($name, {mutateProperty: 'degree', logProgress: false}) YIELD nodePropertiesWritten "
        "RETURN nodePropertiesWritten",
        {"name": name},
    )
    return row["nodes"], row["edges"]


# -- ranking ---------------------------------------------------------------------------------------------------------


def gds_top_k_ppr(
    graph: GdsGraph, sources: Sequence[GdsSource], *, k: int, damping_factor: float = 0.85, accuracy: float = 1e-6
) -> list[list[Ranked]]:
    """The `k` items with the highest personalized PageRank for each of `sources`, best first.

    Only items that may be neighbors are returned, never a source or an item of its group. Each source is a run over the
    whole graph.

    Parameters
    ----------
    sources
        Ids of nodes; or for each source a mapping from ids to weights.
    damping_factor
        Probability that the walk continues at each step.
    accuracy
        By how much a score may be too low at most; see `_limits`. None is too high.

    Raises
    ------
    Graph2ImageError
        If a source is not in the graph, or has no proper weights.
    """
    seeds = [_normalized(source) for source in sources]
    found = _find(graph, sorted({id_ for seed in seeds for id_ in seed}))
    iterations, tolerance = _limits(graph.n_nodes, damping_factor, accuracy)
    parameters = {"name": graph.name, "damping": damping_factor, "iterations": iterations, "tolerance": tolerance}
    return [_top_k(graph, seed, found, k, parameters) for seed in seeds]


def _limits(n_nodes: int, damping_factor: float, accuracy: float) -> tuple[int, float]:
    """GDS's `maxIterations` and `tolerance` with which all scores together are too low by at most `accuracy`.

    After `n` iterations, `damping_factor ** n` of the walk continues. Of what is at a node in one iteration, GDS counts
    `1 - damping_factor`; if that is at most `tolerance`, the rest of it, `tolerance * damping_factor / (1 -
    damping_factor)` at most, is lost. Each of the two is given half.
    """
    if not (0 < damping_factor < 1 and 0 < accuracy < 1):
        raise ValueError("damping_factor and accuracy must be between 0 and 1")
    iterations = max(1, math.ceil(math.log(accuracy / 2) / math.log(damping_factor)))
    lost_at_once = damping_factor / (1 - damping_factor) * n_nodes * iterations
    return iterations, accuracy / 2 / lost_at_once


def _normalized(source: GdsSource) -> dict[str, float]:
    if isinstance(source, str):
        return {source: 1.0}
    seed = {id_: float(weight) for id_, weight in source.items()}
    total = sum(seed.values())
    if not all(0 <= weight < math.inf for weight in seed.values()) or not 0 < total < math.inf:
        raise Graph2ImageError(f"a source has the weights {dict(source)}", "Weights are numbers, one of them above 0.")
    return {id_: weight / total for id_, weight in seed.items()}


def _find(graph: GdsGraph, ids: Sequence[str]) -> dict[str, tuple[int, str | None]]:
    """Internal id, and group if it is an item, of each node."""
    matches = [
        f"UNWIND $ids AS id MATCH (n:`{label}` {{id: id}}) WHERE {is_present('n')} "
        "RETURN id, id(n) AS internal_id, n.group_id AS group"
        for label in graph.labels
    ]
    rows = graph.store.read(
        f"CALL () {{ {' UNION ALL '.join(matches)} }} RETURN id, internal_id, group", {"ids": list(ids)}
    ).to_pylist()
    found = {row["id"]: (row["internal_id"], row["group"]) for row in rows}
    for id_ in ids:
        if id_ not in found:
            raise Graph2ImageError(
                f"there is no item or entity {id_!r} in the graph, or it was opted out",
                'Find ids with `graph2image query "MATCH (n:LABEL) RETURN n.id, n.title LIMIT 10"`.',
            )
    return found


def _top_k(
    graph: GdsGraph,
    seed: Mapping[str, float],
    found: Mapping[str, tuple[int, str | None]],
    k: int,
    parameters: Mapping[str, Any],
) -> list[Ranked]:
    if graph.n_edges == 0 or k == 0:
        return []
    configuration = (
        "relationshipWeightProperty: 'weight', dampingFactor: $damping, maxIterations: $iterations, "
        "tolerance: $tolerance, logProgress: false"
    )
    starts = [[found[id_][0], weight] for id_, weight in seed.items() if weight > 0]
    if graph.version >= WEIGHTED_SOURCES_VERSION:
        walk = f"CALL gds.pageRank.stream($name, {{sourceNodes: $starts, {configuration}}}) YIELD nodeId, score"
    else:
        # PageRank is linear in where it starts.
        walk = (
            f"UNWIND $starts AS start CALL gds.pageRank.stream($name, {{sourceNodes: [start[0]], {configuration}}}) "
            "YIELD nodeId, score WITH nodeId, sum(start[1] * score) AS score"
        )
    cypher = (
        f"{walk} WITH nodeId, score WHERE score > 0 AND gds.util.nodeProperty($name, nodeId, 'eligible') = 1 "
        "WITH nodeId, CASE gds.util.nodeProperty($name, nodeId, 'degree') WHEN 0 THEN score / (1 - $damping) "
        "ELSE score END AS score WHERE score >= $floor ORDER BY score DESC "
        # Of the best only, since this reads the store.
        "WITH gds.util.asNode(nodeId) AS n, score "
        "WHERE NOT n.id IN $ids AND NOT coalesce(n.group_id IN $groups, false) "
        "RETURN n.id AS id, score LIMIT $rows"
    )
    values = {
        **parameters,
        "starts": starts,
        "ids": list(seed),
        "groups": [group for id_ in seed for _, group in [found[id_]] if group is not None],
    }
    limit = k + _SPARE_ROWS
    rows = graph.store.read(cypher, {**values, "floor": 0.0, "rows": limit}).to_pylist()
    if len(rows) == limit and _is_tie(rows[-1]["score"], rows[k - 1]["score"]):
        floor = float(np.nextafter(np.float32(rows[k - 1]["score"]), np.float32(0)))
        rows = graph.store.read(cypher, {**values, "floor": floor, "rows": 2**31}).to_pylist()
    return _ranked(rows, seed)[:k]


def _is_tie(a: float, b: float) -> bool:
    return bool(np.float32(a) == np.float32(b))


def _ranked(rows: Sequence[dict[str, Any]], seed: Mapping[str, float]) -> list[Ranked]:
    """In the order of `ppr`: by scores as float32, ties by a hash of the ids."""
    source_hash = np.bitwise_xor.reduce(hash_ids(pa.array(list(seed), pa.string())))
    hashes = hash_ids(pa.array([row["id"] for row in rows], pa.string()))
    keys = [
        (-np.float32(row["score"]), tie_order(source_hash, node_hash))
        for row, node_hash in zip(rows, hashes, strict=True)
    ]
    order = sorted(range(len(rows)), key=keys.__getitem__)
    return [Ranked(rows[index]["id"], rows[index]["score"]) for index in order]
