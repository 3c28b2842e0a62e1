"""Personalized PageRank: sources per second and agreement of the best 100 with the exact ones, against peers.

    .venv/bin/python -m benchmarks.ppr [--graphs items art fashion huge] [--peers pyg igraph scipy gds] [--whole]

On each graph, with the same threads:

- ours, for several `epsilon`, refined until proven, with hub vectors, and exact, to an L1 error;
- `bare loop`: the edges that ours visits at 1e-5, visited again by a loop that does nothing else: the limit;
- PyTorch Geometric's `get_ppr` (which knows no weights), igraph's `personalized_pagerank`, a power iteration with
  scipy, and a Neo4j server with its Graph Data Science library, one call per source.

`agreement` is how many of the 100 that are returned have a score that is, within 0.01%, at least the 100th of the exact
ones, the mean over the first sources.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from benchmarks import ppr_graphs
from benchmarks.harness import describe_machine, print_json, print_table
from benchmarks.ppr_peers import gds_server, run_gds, run_peer
from graphstore.ppr import TopK, exact_ppr, implied_edges, top_k_ppr
from graphstore.ppr.hubs import hub_vectors, no_hubs
from graphstore.ppr.push import DEGREE, RESIDUAL, Graph, make_buffers, push
from graphstore.ppr.walks import as_graph
from graphstore.projection.projection import Projection, project
from graphstore.projection.tables import DatasetTables
from ingest.datasets.root import DataRoot

Array = npt.NDArray[Any]
Row = dict[str, Any]

K = 100
#: Sources whose exact scores are computed.
CHECKED = 24
#: Edges per source after which refining gives up.
MAX_WORK = 30_000_000
PEERS = {
    "pyg": ("PyTorch Geometric get_ppr", [(1e-4, 400), (1e-5, 100), (1e-6, 24)]),
    "igraph": ("igraph personalized_pagerank", [(0.0, 24)]),
    "scipy": ("scipy power iteration", [(1e-8, 24)]),
}


class Measured:
    """Rows of one graph; `exact` `(CHECKED, n_nodes)` is what they are compared with."""

    def __init__(self, name: str, projection: Projection, threads: int, seconds: float) -> None:
        self.name, self.projection, self.threads, self.seconds = name, projection, threads, seconds
        rng = np.random.default_rng(1)
        self.sources = rng.permutation(np.flatnonzero(projection.is_neighbor))
        self.exact = exact_ppr(projection, self.sources[:CHECKED], tolerance=1e-10, threads=threads)
        self.rows: list[Row] = []
        for tolerance in (1e-5, 1e-8):
            started = time.perf_counter()
            scores = exact_ppr(projection, self.sources[:CHECKED], tolerance=tolerance, threads=threads)
            best = np.array([self.best(row, own) for row, own in enumerate(scores)])
            self.add("graph2image, exact", f"{tolerance:g}", CHECKED, time.perf_counter() - started, best)

    def best(self, row: int, scores: Array) -> Array:
        """The best nodes by the scores of all nodes, which it changes."""
        scores[~self.projection.is_neighbor] = 0.0
        scores[self.sources[row]] = 0.0
        return np.argpartition(-scores, K)[:K]

    def agreement(self, nodes: Array) -> float:
        shares = []
        for row in range(min(len(nodes), CHECKED)):
            scores = np.where(self.projection.is_neighbor, self.exact[row], 0.0)
            scores[self.sources[row]] = 0.0
            kth = np.partition(scores, -K)[-K]
            found = nodes[row][nodes[row] >= 0]
            shares.append((scores[found] >= max(kth * (1 - 1e-4), 1e-15)).sum() / min(K, (scores > 0).sum()))
        return float(np.mean(shares))

    def add(self, name: str, setting: str, n_sources: int, seconds: float, nodes: Array | None, **more: Any) -> None:
        agreement = 1.0 if nodes is None else self.agreement(nodes[:CHECKED])
        row = {"graph": self.name, "what": name, "setting": setting, "sources/s": n_sources / seconds}
        self.rows.append({**row, "agreement": round(agreement, 3), "proven": None, "edges/source": None, **more})
        print({key: value for key, value in self.rows[-1].items() if value is not None}, file=sys.stderr, flush=True)

    def ours(self, name: str, setting: str, call: Callable[[Array], TopK]) -> None:
        """As many sources as take about `seconds`; the first ones tell how many."""
        call(self.sources[:2])
        started = time.perf_counter()
        top = call(self.sources[:CHECKED])
        spent = time.perf_counter() - started
        n_sources = min(len(self.sources), int(CHECKED * self.seconds / spent))
        if n_sources > 2 * CHECKED:
            started = time.perf_counter()
            top = call(self.sources[:n_sources])
            spent = time.perf_counter() - started
        figures = {"proven": float(top.proven.mean()), "edges/source": int(top.work.mean())}
        self.add(name, setting, len(top.nodes), spent, top.nodes, **figures)


def measure(name: str, projection: Projection, options: argparse.Namespace) -> list[Row]:
    """All rows of one graph."""
    threads = options.threads
    measured = Measured(name, projection, threads, options.seconds)

    def ours(what: str, setting: str, **arguments: Any) -> None:
        measured.ours(what, setting, lambda own: top_k_ppr(projection, own, k=K, threads=threads, **arguments))

    for epsilon in (1e-4, 5e-5, 2e-5, 1e-5, 5e-6, 2e-6, 1e-6, 3e-7):
        ours("graph2image", f"{epsilon:g}", epsilon=epsilon)
    bare_loop(measured, 1e-5)
    ours("graph2image, refined", f"to {MAX_WORK:g} edges", epsilon=1e-5, max_work=MAX_WORK)
    is_bipartite = name in ("art", "fashion")
    if is_bipartite:
        started = time.perf_counter()
        hubs = hub_vectors(projection, min_edges=1_000 if name == "art" else 200, threads=threads)
        made = {"hubs": len(hubs.nodes), "made_in_s": time.perf_counter() - started, "mib": hubs.nbytes / 2**20}
        print(made, file=sys.stderr, flush=True)
        for epsilon in (1e-4, 1e-5):
            ours("graph2image, hub vectors", f"{epsilon:g}", epsilon=epsilon, hubs=hubs)
        measured.rows[-1].update(made)
        ours("graph2image, hub vectors, refined", "till proven", epsilon=1e-5, hubs=hubs, max_work=MAX_WORK)
        implied = sum(implied_edges(projection).values())
        print(f"edges of the expanded graph: {implied:,}", file=sys.stderr)
        # Agreement is with the typed walk, which the expanded one is not.
        ours("graph2image, expanded", f"1e-05, {implied:,} implied edges", epsilon=1e-5, expanded=True)
        measured.rows[-1].update({"agreement": None, "implied_edges": implied})
    for peer in options.peers:
        if peer == "gds":
            with (
                TemporaryDirectory(prefix="graph2image-benchmark-") as folder,
                gds_server(projection, Path(folder)) as driver,
            ):
                for tolerance in (1e-7, 1e-9):
                    own = measured.sources[:CHECKED]
                    run_gds(driver, projection, own[:1], k=K, threads=threads, tolerance=tolerance)
                    spent, nodes = run_gds(driver, projection, own, k=K, threads=threads, tolerance=tolerance)
                    measured.add("GDS pageRank.stream", f"{tolerance:g}", len(own), spent, nodes)
            continue
        peer_name, settings = PEERS[peer]
        for setting, n_sources in settings:
            own = measured.sources[:n_sources]
            spent, nodes = run_peer(peer_name, projection, own, k=K, threads=threads, setting=setting)
            measured.add(peer_name, f"{setting:g}" if setting else "prpack", len(own), spent, nodes)
    return measured.rows


def bare_loop(measured: Measured, epsilon: float) -> None:
    """Visit the edges of all nodes that are pushed, in the order they were first touched, and of the best found.

    As often as `top_k_ppr` does; candidates that are not among the best count as these do.
    """
    graph = as_graph(measured.projection)
    sources = measured.sources[:200]
    top = top_k_ppr(measured.projection, sources, k=K, epsilon=epsilon, threads=measured.threads)
    buffers = make_buffers(graph, no_hubs(len(graph.degrees)))
    visited = []
    for source, best in zip(sources.tolist(), top.nodes, strict=True):
        buffers.state[source, RESIDUAL], buffers.touched[0], buffers.frontiers[0, 0] = 1.0, source, source
        n_touched, _, _ = push(graph, buffers, 1, 1, 0.85, epsilon / graph.mean_weight, 1 << 62)
        touched = buffers.touched[:n_touched]
        visited.append(np.concatenate([touched[buffers.settled[touched] > 0], best[best >= 0]]))
        buffers.state[touched, RESIDUAL] = buffers.settled[touched] = 0.0
        buffers.state[touched, DEGREE] = graph.degrees[touched]
    spent = []
    for _ in range(3):
        once = time.perf_counter()
        edges = sum(_visit(graph, own, buffers.taken) for own in visited)
        spent.append(time.perf_counter() - once)
    seconds = min(spent) * int(top.work.sum()) / edges / measured.threads
    figures = {"edges/source": int(top.work.mean())}
    measured.add("bare loop", f"edges of {epsilon:g}", len(sources), seconds, None, **figures)
    measured.rows[-1]["agreement"] = None


@njit
def _visit(graph: Graph, nodes: Array, values: Array) -> int:
    edges = 0
    for u in nodes:
        for edge in range(graph.offsets[u], graph.offsets[u + 1]):
            values[graph.targets[edge]] += graph.weights[edge]
        edges += graph.offsets[u + 1] - graph.offsets[u]
    return edges


def whole(projection: Projection, threads: int) -> Row:
    """All items as sources: in threads, as `neighbors --all` does it, and in processes."""
    sources = np.flatnonzero(projection.is_neighbor)
    parts = np.split(sources, range(4_096, len(sources), 4_096))
    spent = []
    for processes in (False, True):
        started = time.perf_counter()
        if processes:
            with get_context("fork").Pool(threads, _share, (projection,)) as pool:
                pool.map(_rank, parts, chunksize=1)
        else:
            for part in parts:
                top_k_ppr(projection, part, k=K, threads=threads)
        spent.append(time.perf_counter() - started)
    return {
        "sources": len(sources),
        "seconds": round(spent[0], 1),
        "sources/s": round(len(sources) / spent[0], 1),
        "seconds in processes": round(spent[1], 1),
    }


_shared: list[Projection] = []


def _share(projection: Projection) -> None:
    _shared.append(projection)


def _rank(sources: Array) -> tuple[Array, Array]:
    top = top_k_ppr(_shared[0], sources, k=K, threads=1)
    return top.nodes, top.scores


def huge(folder: Path, threads: int) -> Row:
    """Project the datasets in `folder` and rank for 10,000 sources, in this process; with its peak memory, in GiB."""
    before = _peak()
    started = time.perf_counter()
    projection = project(DatasetTables(DataRoot(str(folder))))
    made = time.perf_counter() - started
    projected = _peak()
    arrays = (projection.offsets, projection.targets, projection.weights, projection.types, projection.degrees)
    csr = sum(array.nbytes for array in arrays) / 2**30
    sources = np.random.default_rng(1).choice(len(projection.degrees), 10_000, replace=False)
    started = time.perf_counter()
    top = top_k_ppr(projection, sources, k=K, threads=threads)
    seconds = time.perf_counter() - started
    return {
        "nodes": len(projection.degrees),
        "edges": len(projection.targets),
        "csr_gib": round(csr, 2),
        "ids_and_items_gib": round((projection.items.nbytes + projection.ids.nbytes) / 2**30, 2),
        "projected_in_s": round(made, 1),
        "projection_peak_gib": round(projected, 2),
        "projection_peak / csr": round((projected - before) / csr, 2),
        "sources": len(sources),
        "sources/s": round(len(sources) / seconds, 1),
        "edges/source": int(top.work.mean()),
        "peak_gib": round(_peak(), 2),
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ratios(rows: list[Row]) -> Row:
    """Our fastest row that agrees at least as well as a peer's row, against it; and the bare loop against ours."""
    result = {}
    for graph in {row["graph"] for row in rows}:
        own = [row for row in rows if row["graph"] == graph]
        ours = [row for row in own if row["what"].startswith("graph2image") and row["agreement"] is not None]
        for row in own:
            if row in ours or row["agreement"] is None:
                continue
            better = [mine["sources/s"] for mine in ours if mine["agreement"] >= row["agreement"]]
            key = f"{graph}: {row['what']} {row['setting']}"
            result[key] = round(max(better) / row["sources/s"], 1) if better else None
        limit = next((row["sources/s"] for row in own if row["what"] == "bare loop"), None)
        same = next(
            (row["sources/s"] for row in own if (row["what"], row["setting"]) == ("graph2image", "1e-05")), None
        )
        if limit and same:
            result[f"{graph}: time of ours to the bare loop's"] = round(limit / same, 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--graphs", nargs="*", choices=["items", "art", "fashion", "huge"], default=["items", "art", "fashion"]
    )
    parser.add_argument("--peers", nargs="*", choices=[*PEERS, "gds"], default=[*PEERS, "gds"])
    parser.add_argument("--whole", action="store_true", help="also all items of the graph `items` as sources")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=5.0, help="about how long each of our rows takes")
    parser.add_argument("--scale", type=float, default=1.0, help="of the generated graphs, for a quick try")
    parser.add_argument("--only-huge", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_huge:
        print_json(huge(options.only_huge, options.threads))
        return
    rows: list[Row] = []
    figures: Row = {}
    with TemporaryDirectory(prefix="graph2image-benchmark-") as folder:
        for name in options.graphs:
            if name == "huge":
                data = DataRoot(str(Path(folder, "huge")))
                ppr_graphs.write_huge(data, int(10_000_000 * options.scale), int(100_000_000 * options.scale))
                command = [sys.executable, "-m", "benchmarks.ppr", "--only-huge", str(Path(folder, "huge"))]
                command += ["--threads", str(options.threads)]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
                figures["huge"] = json.loads(output.splitlines()[-1])
                continue
            if name == "items":
                projection = ppr_graphs.items(int(178_890 * options.scale), int(3_131_949 * options.scale))
            elif name == "art":
                projection = ppr_graphs.art(int(310_000 * options.scale))
            else:
                projection = ppr_graphs.fashion(Path(folder))
                if projection is None:
                    print("no fashion graph: GRAPH2IMAGE_SHARED has none", file=sys.stderr)
                    continue
            figures[name] = {
                "nodes": len(projection.degrees),
                "edges": len(projection.targets),
                "largest_hub": int(np.diff(projection.offsets).max()),
            }
            rows += measure(name, projection, options)
            if name == "items" and options.whole:
                figures["whole"] = whole(projection, options.threads)
                print(figures["whole"], file=sys.stderr, flush=True)
    if rows:
        print_table([{key: row[key] for key in list(rows[0])} for row in rows])
    print_json(
        {
            "benchmark": "ppr",
            "machine": describe_machine(),
            "threads": options.threads,
            "graphs": figures,
            "rows": rows,
            "ratios": ratios(rows),
        }
    )


if __name__ == "__main__":
    main()
