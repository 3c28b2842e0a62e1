"""Personalized PageRank on a `Projection`: the best k of many sources, with a proof.

The walk starts at the source; with probability `damping_factor` it continues, along an edge with probability in
proportion to the edge's weight, and else it stops. A node's score is the probability that the walk stops there; all
scores sum to 1. A node without edges keeps the walk: it stops there. A source may be several nodes with weights: the
walk starts at one of them, in proportion to its weight.

`top_k_ppr` is the forward push of R. Andersen, F. Chung, K. Lang, "Local graph partitioning using PageRank vectors",
FOCS 2006: every node has a score and a residual, at first 1 at the source; pushing a node turns a part
`1 - damping_factor` of its residual into score and spreads the rest over its edges. It ends when every residual
`r[u] < epsilon * d[u]`, `d[u]` being the weight of all edges of `u`, counted in mean edges. What is notable here:

- The work for one source is at most `max(n / d) / (epsilon * (1 - damping_factor))` edge visits, `n` being the number
  of a node's edges, however large the graph: pushing a node costs its edges, and uses up in proportion.
- The result states by how much scores may be wrong (proof in `selection`): by `damping_factor * epsilon * d[v]` where
  weights are symmetric, and by all residuals together if that is less.
- Where weights are symmetric, what is left in residuals is not left out, but estimated: walks that continue for long
  stop in proportion to the degrees. For the best candidates, `candidates` knows it better: it pulls residuals in over
  their own edges. Together they bring as many of the true best as a far smaller `epsilon` would.
- With `max_work`, the push continues to ever smaller residuals until that error is so small that no other item can be
  among the best `k` of the source: the set is proven. Or until the limit; the result says which.
- `hubs.hub_vectors`, computed once for a projection, take the hubs out of the work of a source.
- Nodes are pushed in rounds: all residuals of a round are taken before any is spread. So nodes in the same position
  get the same score, whatever their number. Scores that are equal as float32 are ties, and a hash of the two ids
  orders them: their order favors nobody, and is the same in every run, with any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from graphstore.ppr.hubs import HubVectors, no_hubs
from graphstore.ppr.parallel import share_out
from graphstore.ppr.push import make_buffers
from graphstore.ppr.selection import TopK, top_k
from graphstore.ppr.walks import Source, as_graph, flatten
from graphstore.projection.projection import Projection

#: Sources that a thread takes at a time.
_CHUNK = 16


def top_k_ppr(
    projection: Projection,
    sources: npt.ArrayLike | Sequence[Source],
    *,
    k: int,
    damping_factor: float = 0.85,
    epsilon: float = 1e-5,
    max_work: int | None = None,
    tie_tolerance: float = 1e-3,
    hubs: HubVectors | None = None,
    expanded: bool = False,
    threads: int | None = None,
) -> TopK:
    """The `k` items with the highest personalized PageRank for each of `sources`; the module's notes give the method.

    Only items that may be neighbors are returned, never a source or an item of its group.

    Parameters
    ----------
    sources
        Node numbers, or for each source a mapping from node numbers to weights.
    k
        Items for each source, at most.
    damping_factor
        Probability that the walk continues at each step.
    epsilon
        Residual per edge of mean weight that is left unspread; the smaller, the more exact and the slower. Equal
        graphs but for a factor of all weights have equal results.
    max_work
        If given, `epsilon` is where refining begins, and it ends when the set is proven, or before so many edges have
        been visited for the source.
    tie_tolerance
        Scores tie that are this part of the k-th score apart. Ties need no proof.
    hubs
        Hub vectors of this projection and damping factor, at which pushes end; none by default.
    expanded
        The walk on the expanded graph of `projection`'s notes, step for step: two steps through an entity count as one,
        that is, each continues with probability `sqrt(damping_factor)`, and only items keep a walk that stops. For
        projections with `entity_exponent=1` in which all relations are between an item and an entity.
    threads
        All cores by default. The result does not depend on it.

    Raises
    ------
    ValueError
        If a source is not a node or has no proper weights, `hubs` belong to another walk, or the graph has relations
        that the expanded walk does not.
    """
    graph = as_graph(projection)
    if expanded:
        _check_bipartite(projection)
    step_factor = np.sqrt(damping_factor) if expanded else damping_factor
    level = epsilon / graph.mean_weight
    n_nodes = len(graph.degrees)
    if hubs is not None and (hubs.damping_factor != step_factor or len(hubs.arrays.hub_index) != n_nodes):
        raise ValueError("these hubs are of another projection or damping factor")
    arrays = no_hubs(n_nodes) if hubs is None else hubs.arrays
    seeds, weights, offsets = flatten(sources, n_nodes)
    n_sources = len(offsets) - 1
    top = TopK(
        nodes=np.full((n_sources, k), -1, dtype=np.int32),
        scores=np.zeros((n_sources, k)),
        errors=np.zeros(n_sources),
        proven=np.zeros(n_sources, dtype=bool),
        work=np.zeros(n_sources, dtype=np.int64),
    )

    def make_worker() -> Callable[[slice], None]:
        buffers = make_buffers(graph, arrays)

        def rank(part: slice) -> None:
            own = offsets[part.start : part.stop + 1]
            results = TopK(top.nodes[part], top.scores[part], top.errors[part], top.proven[part], top.work[part])
            top_k(
                graph, arrays, buffers, seeds, weights, own, step_factor, level, max_work or 0, tie_tolerance, results
            )

        return rank

    if k:
        share_out(n_sources, _CHUNK, make_worker, threads=threads)
    if expanded:
        top = top._replace(scores=top.scores * (1.0 + step_factor), errors=top.errors * (1.0 + step_factor))
    return top


def implied_edges(projection: Projection) -> dict[str, int]:
    """Per relation type, the pairs of items that share an entity by it: the edges that the expanded graph would have.

    A pair that shares several entities counts for each. Items that no walk may reach count as well.
    """
    is_item_start, is_item_end = _item_ends(projection)
    shared = is_item_start & ~is_item_end
    counts = {}
    for number, name in enumerate(projection.type_names):
        entities = projection.targets[shared & (projection.types == number)]
        sizes = np.bincount(entities).astype(np.int64)
        counts[name] = int((sizes * (sizes - 1) // 2).sum())
    return counts


def _check_bipartite(projection: Projection) -> None:
    is_item_start, is_item_end = _item_ends(projection)
    if np.any(is_item_start == is_item_end):
        raise ValueError("the expanded walk needs a graph whose relations are all between an item and an entity")


def _item_ends(projection: Projection) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """`(n_edges,)` each: whether an edge starts at an item, and whether it ends at one."""
    is_item = np.arange(len(projection.degrees)) < projection.items.num_rows
    return np.repeat(is_item, np.diff(projection.offsets)), is_item[projection.targets]
