"""Personalized PageRank on a `Projection`: the best items of many sources, exact scores, and what leads to an item."""

from graphstore.ppr.paths import best_paths
from graphstore.ppr.selection import TopK
from graphstore.ppr.topk import implied_edges, top_k_ppr
from graphstore.ppr.walks import Source, exact_ppr

__all__ = ["Source", "TopK", "best_paths", "exact_ppr", "implied_edges", "top_k_ppr"]
