"""Means over items with their uncertainty, where items that share a look are not independent.

All items of an artist are as easy or as hard as the artist is, so forty artists with twenty works each are nearer to
forty observations than to eight hundred. The bootstrap therefore draws whole clusters with replacement (Davison and
Hinkley 1997, section 3.8); a plain standard error would be too small. Draws have a fixed seed and depend on the names
of the clusters only, so equal figures have equal errors, and paired ones are drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.evaluation.metrics import Estimate

Floats = npt.NDArray[np.float64]

#: Draws of the bootstrap, and the seed of its generator.
DRAWS, SEED = 2_000, 0
#: Halves of the clusters that a distance between sets is computed on, for its standard error.
HALVES = 100
#: Share of the draws that an interval holds.
LEVEL = 0.95


class Interval(Estimate):
    """A mean with its standard error and its 95% interval, by the clustered bootstrap.

    Parameters
    ----------
    mean
        None if there are no values.
    se, low, high
        None if all values are of one cluster, or none can be given.
    n, clusters
        How many items, and of how many clusters, it is about.
    """

    se: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    clusters: int = 0


def clustered_intervals(values: Floats, clusters: Sequence[str]) -> list[Interval]:
    """Mean and interval of each column.

    Parameters
    ----------
    values
        `(items, columns)`; NaN where an item has no value. For paired differences, the differences.
    clusters
        `(items,)`: the cluster of each item.
    """
    names, index = np.unique(np.asarray(clusters, str), return_inverse=True)
    known = ~np.isnan(values)
    sums, counts = np.zeros((len(names), values.shape[1])), np.zeros((len(names), values.shape[1]))
    np.add.at(sums, index, np.where(known, values, 0.0))
    np.add.at(counts, index, known)
    times = np.random.default_rng(SEED).multinomial(len(names), np.full(len(names), 1 / max(len(names), 1)), DRAWS)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums.sum(0) / counts.sum(0)
        drawn = (times @ sums) / (times @ counts)
    found = []
    for column in range(values.shape[1]):
        n, with_values = int(counts[:, column].sum()), int((counts[:, column] > 0).sum())
        if with_values < 2:
            found.append(Interval(mean=float(means[column]) if n else None, n=n, clusters=with_values))
            continue
        draws = drawn[~np.isnan(drawn[:, column]), column]
        low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found.append(
            Interval(
                mean=float(means[column]),
                se=float(draws.std(ddof=1)),
                low=float(low),
                high=float(high),
                n=n,
                clusters=with_values,
            )
        )
    return found


def cluster_halves(clusters: Sequence[str]) -> list[npt.NDArray[np.int64]]:
    """Rows of `HALVES` random halves of the clusters; none if there are fewer than two clusters.

    The spread of a statistic over halves drawn without replacement is that of the whole, since a half has twice the
    variance, and the halves of one whole differ by half of that (the delete-d jackknife with d = n / 2, Shao and Wu
    1989).
    """
    names, index = np.unique(np.asarray(clusters, str), return_inverse=True)
    if len(names) < 2:
        return []
    generator = np.random.default_rng(SEED)
    chosen = (generator.permutation(len(names))[: len(names) // 2] for _ in range(HALVES))
    return [np.flatnonzero(np.isin(index, half)) for half in chosen]
