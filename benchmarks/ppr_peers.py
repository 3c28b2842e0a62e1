"""The peers of `ppr.py`. Each gets the same arrays as files and gives back the best 100 items of the first sources.

All use as many threads or processes as we do. What they do for 100 best items out of all scores is counted, reading the
graph is not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from benchmarks.harness import peer_python
from graphstore.projection.projection import Projection

Array = npt.NDArray[Any]

PYG = ["torch-geometric==2.8.1", "torch==2.15.0", "numba==0.68.1"]
IGRAPH = ["igraph==1.0.0", "numpy==2.4.6"]

_READ = """
import json, os, sys, time
import numpy as np
folder, threads, k, setting = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
offsets, targets, weights, is_neighbor, sources = (
    np.load(f"{folder}/{name}.npy") for name in ("offsets", "targets", "weights", "is_neighbor", "sources")
)
n = len(offsets) - 1
starts = np.repeat(np.arange(n, dtype=np.int32), np.diff(offsets))

def best(source, scores):
    scores = np.where(is_neighbor, scores, 0.0)
    scores[source] = 0.0
    top = np.argpartition(-scores, k)[:k]
    return top[np.argsort(-scores[top])]
"""

_POOL = """
from multiprocessing import get_context
with get_context("fork").Pool(threads) as pool:
    pool.map(rank, sources[:threads])
    started = time.perf_counter()
    nodes = pool.map(rank, sources)
    seconds = time.perf_counter() - started
np.save(f"{folder}/nodes.npy", np.array(nodes))
print(json.dumps(seconds))
"""

SCRIPTS = {
    "PyTorch Geometric get_ppr": _READ
    + """
import torch
from torch_geometric.utils import get_ppr
edges = torch.stack([torch.from_numpy(starts).long(), torch.from_numpy(targets).long()])
ask = lambda which: get_ppr(edges, alpha=0.15, eps=setting, target=torch.from_numpy(which), num_nodes=n)
ask(sources[:2].astype(np.int64))
started = time.perf_counter()
(rows, columns), scores = ask(sources.astype(np.int64))
seconds = time.perf_counter() - started
found = np.full((len(sources), k), -1)
for row, source in enumerate(sources):
    # Rows are numbered by source, or by its place among them, as the version has it.
    own = rows == (source if int(rows.max()) >= len(sources) else row)
    node, score = columns[own].numpy(), scores[own].numpy()
    kept = is_neighbor[node] & (node != source)
    node, score = node[kept], score[kept]
    node = node[np.argsort(-score, kind="stable")][:k]
    found[row, : len(node)] = node
np.save(f"{folder}/nodes.npy", found)
print(json.dumps(seconds))
""",
    "igraph personalized_pagerank": _READ
    + """
import igraph
graph = igraph.Graph(n=n, edges=np.stack([starts, targets], axis=1), directed=True)
graph.es["weight"] = weights.tolist()  # it takes the numbers of numpy for ones

def rank(source):
    scores = graph.personalized_pagerank(damping=0.85, reset_vertices=[int(source)], weights="weight")
    return best(source, np.array(scores))
"""
    + _POOL,
    "scipy power iteration": _READ
    + """
import scipy.sparse as sp
degrees = np.bincount(starts, weights, n)
walk = sp.csr_array((0.85 * weights / degrees[starts], (targets, starts)), (n, n))

def rank(source):
    scores = start = np.zeros(n)
    start[source] = 0.15
    while True:
        following = walk @ scores + start
        if np.abs(following - scores).sum() < setting:
            return best(source, following)
        scores = following
"""
    + _POOL,
}


def run_peer(
    name: str, projection: Projection, sources: Array, *, k: int, threads: int, setting: float = 0.0
) -> tuple[float, Array]:
    """Seconds for all `sources`, and the nodes `(n_sources, k)`, filled up with -1."""
    python = {
        "PyTorch Geometric get_ppr": lambda: peer_python("pyg", PYG),
        "igraph personalized_pagerank": lambda: peer_python("igraph", IGRAPH),
        "scipy power iteration": lambda: Path(sys.executable),
    }[name]()
    with tempfile.TemporaryDirectory(prefix="graph2image-benchmark-") as folder:
        for what in ("offsets", "targets", "weights", "is_neighbor"):
            np.save(Path(folder, what), getattr(projection, what))
        np.save(Path(folder, "sources"), sources)
        environment = os.environ | {"NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": "1"}
        command = [str(python), "-c", SCRIPTS[name], folder, str(threads), str(k), str(setting)]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
        return json.loads(result.stdout.splitlines()[-1]), np.load(Path(folder, "nodes.npy"))


_RANK = """
MATCH (source:N {number: $source})
CALL gds.pageRank.stream('g', {
    sourceNodes: [source], dampingFactor: 0.85, maxIterations: 200, tolerance: $tolerance,
    relationshipWeightProperty: 'weight', concurrency: $threads
}) YIELD nodeId, score
WITH source, nodeId, score ORDER BY score DESC LIMIT $limit
WITH source, gds.util.asNode(nodeId) AS node, score
WHERE node.item AND node <> source
RETURN node.number AS number ORDER BY score DESC LIMIT $k
"""


@contextmanager
def gds_server(projection: Projection, folder: Path, port: int = 7699) -> Iterator[Any]:
    """A driver to a Neo4j server of `folder` that has the graph in the catalog of its Graph Data Science library."""
    import neo4j

    from graphstore.neo4j.server import server as neo4j_server

    numbers = np.arange(len(projection.degrees))
    starts = np.repeat(numbers, np.diff(projection.offsets))
    nodes = pa.table([numbers, projection.is_neighbor, numbers], names=[":ID", "item:boolean", "number:int"])
    edges = pa.table({":START_ID": starts, ":END_ID": projection.targets, "weight:double": projection.weights})
    csv.write_csv(nodes, folder / "nodes.csv")
    csv.write_csv(edges, folder / "edges.csv")
    home = folder / "neo4j"
    files = (f"--nodes=N={folder / 'nodes.csv'}", f"--relationships=R={folder / 'edges.csv'}")
    neo4j_server.admin(home, "database", "import", "full", "neo4j", "--overwrite-destination", *files)
    server = neo4j_server.start(home, port=port, end_with_parent=True)
    try:
        secret = server.password_file.read_text().strip()
        with neo4j.GraphDatabase.driver(server.url, auth=("neo4j", secret)) as driver:
            driver.execute_query("CREATE CONSTRAINT FOR (n:N) REQUIRE n.number IS UNIQUE")
            driver.execute_query("CALL db.awaitIndexes(300)")
            driver.execute_query("CALL gds.graph.project('g', 'N', {R: {properties: 'weight'}})")
            yield driver
    finally:
        neo4j_server.stop(home)


def run_gds(
    driver: Any, projection: Projection, sources: Array, *, k: int, threads: int, tolerance: float
) -> tuple[float, Array]:
    """As `run_peer`, with one call per source."""
    entities = len(projection.degrees) - int(projection.is_neighbor.sum())
    found = np.full((len(sources), k), -1)
    started = time.perf_counter()
    for row, source in enumerate(sources.tolist()):
        limits = {"k": k, "limit": k + 1 + min(entities, 5_000), "tolerance": tolerance, "threads": threads}
        records = driver.execute_query(_RANK, {"source": source, **limits}).records
        found[row, : len(records)] = [record["number"] for record in records]
    return time.perf_counter() - started, found
