"""What a study asks of a comparison beyond its table: any variant less any other one, and trends over a swept key.

Both are computed from the kept scores, so nothing is judged again.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from scipy.stats import rankdata

from ingest.datasets.root import DataRoot
from model.evaluation.comparison import Comparison, Difference
from model.evaluation.statistics import Floats, Interval, clustered_intervals
from model.evaluation.views import Metric


class ItemScores:
    """The scores of a comparison's images by item, of all seeds together.

    Raises
    ------
    Graph2ImageError
        If the comparison's file is damaged.
    """

    def __init__(self, data: DataRoot, comparison: Comparison) -> None:
        self._comparison = comparison
        self._metrics = [metric for metric in comparison.metrics if not metric.of_sets]
        table = pl.read_parquet(io.BytesIO(data.read_bytes(f"{comparison.folder}/scores.parquet")))
        clusters = dict(table.select("item_id", "cluster").unique("item_id").iter_rows())
        self._clusters = [clusters.get(item_id, item_id) for item_id in comparison.item_ids]
        row = {item_id: index for index, item_id in enumerate(comparison.item_ids)}
        column = {metric.key: index for index, metric in enumerate(self._metrics)}
        self._values: dict[str, Floats] = {
            entry.name: np.full((len(row), len(column)), np.nan) for entry in comparison.entries
        }
        means = table.group_by("entry", "item_id", "metric").agg(pl.col("value").mean())
        for entry, item_id, metric, value in means.iter_rows():
            if metric in column:
                self._values[entry][row[item_id], column[metric]] = value

    def difference(self, name: str, baseline: str) -> Difference:
        """The figures of an entry less those of another one, item by item; those of sets as far as they are kept."""
        found = clustered_intervals(self._values[name] - self._values[baseline], self._clusters)
        figures = {metric.key: one for metric, one in zip(self._metrics, found, strict=True) if one.n}
        kept: Mapping[str, Interval] = next(
            (one.figures for one in self._comparison.differences if (one.name, one.baseline) == (name, baseline)), {}
        )
        return Difference(name=name, baseline=baseline, figures={**kept, **figures})

    def trend(self, metric: Metric, names: Sequence[str], values: Sequence[float]) -> Interval:
        """Spearman's rank correlation of a metric with the values of a swept key, item by item, and its mean.

        It is 1 where every item's figure grows with the key, -1 where it falls. An item of which all figures are equal
        has 0.
        """
        column = self._metrics.index(metric)
        scores = np.stack([self._values[name][:, column] for name in names], axis=1)
        ranks = rankdata(scores, axis=1, nan_policy="propagate")
        wanted = rankdata(values)
        ours = ranks - ranks.mean(1, keepdims=True)
        theirs = wanted - wanted.mean()
        spread = np.sqrt((ours**2).sum(1) * (theirs**2).sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.where(spread > 0, (ours @ theirs) / spread, np.where(np.isnan(spread), np.nan, 0.0))
        return clustered_intervals(found[:, None], self._clusters)[0]
