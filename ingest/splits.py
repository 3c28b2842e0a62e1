"""Groups that must not be torn apart, and the split that each group is in.

A group holds the items that share an image, near-duplicate images, or a group name given by the source. A group is
in one split, so no image of the test split has a twin in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest.datasets.schemas import SPLITS

#: Bits (of 256) in which the hashes of near-duplicates differ at most. Of product photos saved again at another quality
#: or size, 99% differed in 8 or fewer; the same shot of another variant starts at 10, different things are far above.
MAX_HASH_DISTANCE = 8

#: Images whose hashes agree in one band are compared with this many of their neighbors in hash order. It only
#: matters for a degenerate collection, where comparing all pairs would never end.
MAX_COMPARISONS = 256


@dataclass(frozen=True)
class SplitFractions:
    """Shares of the groups that are held out; the rest is for training."""

    val: float = 0.1
    test: float = 0.1


def split_of(group_id: str, fractions: SplitFractions) -> str:
    """The split of a group, by hash of its id: it does not depend on which other groups there are."""
    position = int.from_bytes(hashlib.sha256(group_id.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64
    if position < fractions.test:
        return "test"
    return "val" if position < fractions.test + fractions.val else "train"


def near_duplicates(hashes: NDArray[np.uint8], max_distance: int = MAX_HASH_DISTANCE) -> Iterator[tuple[int, int]]:
    """Pairs of rows of `hashes` that differ in at most `max_distance` bits, enough of them to connect each such pair.

    Hashes that differ in at most d bits agree in at least one of d+1 bands of bits (pigeonhole), so only rows that
    agree in a band are compared.

    Parameters
    ----------
    hashes
        One perceptual hash per row, as bytes; shape (n, 32).
    """
    if len(hashes) == 0:
        return
    words = np.ascontiguousarray(hashes).view(np.uint64)
    order = np.lexsort(words.T)
    same = np.all(words[order[1:]] == words[order[:-1]], axis=1)
    yield from zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True)

    distinct = order[np.concatenate([[True], ~same])]
    words = words[distinct]
    for band in range(max_distance + 1):
        # Strided, because neighboring frequencies go together.
        mask = np.zeros(hashes.shape[1] * 8, np.uint8)
        mask[band :: max_distance + 1] = 1
        keys = words & np.packbits(mask).view(np.uint64)
        order = np.lexsort(keys.T)
        left = np.arange(len(order))
        for offset in range(1, MAX_COMPARISONS + 1):
            left = left[left + offset < len(order)]
            one, other = order[left], order[left + offset]
            agree = np.all(keys[one] == keys[other], axis=1)
            left, one, other = left[agree], one[agree], other[agree]
            if len(left) == 0:
                break
            close = np.bitwise_count(words[one] ^ words[other]).sum(axis=1) <= max_distance
            yield from zip(distinct[one[close]].tolist(), distinct[other[close]].tolist(), strict=True)


class Groups:
    """Disjoint sets of items, by position. Items that were never joined take no memory."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def find(self, item: int) -> int:
        root = item
        while (parent := self._parent.get(root, root)) != root:
            root = parent
        while item != root:
            self._parent[item], item = root, self._parent.get(item, item)
        return root

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low
        self._parent.setdefault(low, low)

    def members(self) -> dict[int, list[int]]:
        """The joined items by root, each list in order."""
        members: dict[int, list[int]] = {}
        for item in sorted(self._parent):
            members.setdefault(self.find(item), []).append(item)
        return members


def joined_groups(
    source: str,
    item_ids: pa.StringArray,
    names: pa.StringArray,
    pictured: NDArray[np.int64],
    hashes: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], pa.StringArray]:
    """Items whose group is another one than their own for near-duplicate images, and the id of that group.

    By itself an item is in the group that the source names, `<source>/group/<name>`, or else in one of its own with its
    id. Joined groups have the least id of the named ones among them, or else the least of all.

    Parameters
    ----------
    item_ids, names
        All items of the source, in order, and the group name of those to which the source gives one.
    pictured, hashes
        Positions of the items with an image, and their perceptual hashes; shapes (n,) and (n, 32).

    Returns
    -------
    positions, group_ids
        Items of joined groups only; shapes (m,).
    """
    first = _first_of_group(names)
    groups = Groups()
    for one, other in near_duplicates(hashes):
        groups.join(int(first[pictured[one]]), int(first[pictured[other]]))
    joined = groups.members()
    root = np.full(len(first), -1, np.int64)
    for members in joined.values():
        root[members] = members[0]
    positions = np.flatnonzero(root[first] >= 0)
    if len(positions) == 0:
        return positions, pa.array([], pa.string())
    roots = root[first[positions]]
    named = pc.binary_join_element_wise(f"{source}/group/", names.take(pa.array(positions)), "")
    rows = pl.DataFrame({"root": roots, "named": named, "item": item_ids.take(pa.array(positions))})
    least = pl.coalesce(pl.col("named").min(), pl.col("item").min()).over("root")
    return positions, rows.select(least.alias("group")).to_arrow()["group"].combine_chunks().cast(pa.string())


def _first_of_group(names: pa.StringArray) -> NDArray[np.int64]:
    """Position of the first item with the same name; its own for one without a name."""
    positions = np.arange(len(names))
    codes = pc.fill_null(names.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False)
    distinct, first = np.unique(codes, return_index=True)
    return np.where(codes >= 0, first[np.searchsorted(distinct, codes)], positions)


def final_splits(group_ids: pa.StringArray, given: pa.StringArray, fractions: SplitFractions) -> pa.StringArray:
    """The split of each item: that of its group, so that none is torn apart.

    It is the most held out of those that the source gives to items of the group, or else follows from its id.
    """
    ranks = {split: rank for rank, split in enumerate(SPLITS)}
    rank = pl.col("given").replace_strict(ranks, return_dtype=pl.Int8)
    rows = pl.DataFrame({"group": group_ids, "given": given.cast(pa.string())}).select(
        "group", rank.max().over("group").alias("rank")
    )
    return pa.array(
        [split_of(group, fractions) if rank is None else SPLITS[rank] for group, rank in rows.iter_rows()], pa.string()
    )
