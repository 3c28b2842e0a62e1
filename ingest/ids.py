"""Which ids have been seen, for millions of them in little memory."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

_Hashes = npt.NDArray[np.uint64]
_Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Run:
    """Entries sorted by `one`."""

    one: _Hashes
    two: _Hashes
    places: _Places


class IdIndex:
    """A set of ids with a number for each, in 24 bytes an id.

    Ids are known by two 64-bit hashes with seeds drawn again by each process, so that no file can be made to collide;
    among a billion ids two agree in both with a probability below 1e-20. The entries are kept as sorted
    runs of growing length (a log-structured merge), so adding costs no more than sorting.
    """

    def __init__(self) -> None:
        self._seeds = [secrets.randbits(63) for _ in range(2)]
        self._runs: list[_Run] = []

    def add(self, ids: pa.Array, places: _Places) -> _Places:
        """Add the ids that are new, each with its place (not negative).

        Returns
        -------
        places
            For each of `ids`, the place where it was seen first, earlier in `ids` maybe; -1 if it is new.
        """
        one, two = self._hashes(ids)
        found = self._find(one, two)
        order = np.argsort(one, kind="stable")
        sorted_one, sorted_two = one[order], two[order]
        again = np.zeros(len(order), np.bool_)
        again[1:] = (sorted_one[1:] == sorted_one[:-1]) & (sorted_two[1:] == sorted_two[:-1])
        if again.any():
            first = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))
            repeats = order[again]
            seen_here = found[repeats] < 0
            found[repeats[seen_here]] = places[order[first[again]]][seen_here]
        new = found[order] < 0
        if new.any():
            self._runs.append(_Run(sorted_one[new], sorted_two[new], places[order[new]]))
            while len(self._runs) > 1 and len(self._runs[-2].one) < 2 * len(self._runs[-1].one):
                self._runs[-2:] = [_merged(*self._runs[-2:])]
        return found

    def find(self, ids: pa.Array) -> _Places:
        """The place of each of `ids`, -1 for those that were never added."""
        return self._find(*self._hashes(ids))

    def _hashes(self, ids: pa.Array) -> tuple[_Hashes, _Hashes]:
        series = pl.Series(ids)
        return series.hash(self._seeds[0]).to_numpy(), series.hash(self._seeds[1]).to_numpy()

    def _find(self, one: _Hashes, two: _Hashes) -> _Places:
        found = np.full(len(one), -1, np.int64)
        for run in self._runs:
            position = np.minimum(np.searchsorted(run.one, one), len(run.one) - 1)
            hit = (run.one[position] == one) & (run.two[position] == two)
            found[hit] = run.places[position[hit]]
        return found


def _merged(one: _Run, other: _Run) -> _Run:
    keys = np.concatenate([one.one, other.one])
    order = np.argsort(keys, kind="stable")  # two sorted halves: this merges them
    return _Run(
        keys[order],
        np.concatenate([one.two, other.two])[order],
        np.concatenate([one.places, other.places])[order],
    )
