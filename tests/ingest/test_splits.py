from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingest.splits import (
    MAX_HASH_DISTANCE,
    Groups,
    SplitFractions,
    final_splits,
    joined_groups,
    near_duplicates,
    split_of,
)


def _distances(hashes: NDArray[np.uint8]) -> NDArray[np.int64]:
    bits = np.unpackbits(hashes, axis=1).astype(np.int64)
    return np.abs(bits[:, None] - bits[None]).sum(axis=2)


def _components(pairs: list[tuple[int, int]], count: int) -> list[int]:
    groups = Groups()
    for one, other in pairs:
        groups.join(one, other)
    return [groups.find(item) for item in range(count)]


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 6))
def test_near_duplicates_are_those_of_all_pairs(seed: int, count: int, clusters: int) -> None:
    rng = np.random.default_rng(seed)
    centers = rng.integers(0, 256, (clusters, 32), np.uint8)
    hashes = centers[rng.integers(0, clusters, count)]
    for row in hashes:
        for bit in rng.integers(0, 256, rng.integers(0, 9)):
            row[bit // 8] ^= 1 << (bit % 8)
    distances = _distances(hashes) if count else np.zeros((0, 0))
    found = list(near_duplicates(hashes))
    assert all(distances[one, other] <= MAX_HASH_DISTANCE for one, other in found)
    close = [(int(a), int(b)) for a, b in np.argwhere(distances <= MAX_HASH_DISTANCE) if a < b]
    assert _components(found, count) == _components(close, count)


def test_many_equal_hashes_are_one_group() -> None:
    hashes = np.zeros((3000, 32), np.uint8)
    hashes[::3, 5] = 255
    assert len(set(_components(list(near_duplicates(hashes)), 3000))) == 1
    hashes[::3, 6] = 255
    assert len(set(_components(list(near_duplicates(hashes)), 3000))) == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))))
def test_groups_are_the_connected_components(pairs: list[tuple[int, int]]) -> None:
    groups = Groups()
    sets = [{item} for item in range(31)]
    for one, other in pairs:
        groups.join(one, other)
        union = sets[one] | sets[other]
        for item in union:
            sets[item] = union
    for item in range(31):
        assert {other for other in range(31) if groups.find(other) == groups.find(item)} == sets[item]
    joined = {item for pair in pairs for item in pair}
    assert sorted(item for members in groups.members().values() for item in members) == sorted(joined)


def _joined(names: list[str | None]) -> dict[int, str]:
    ids = pa.array(["s:e", "s:d", "s:c", "s:b", "s:a"])
    hashes = np.zeros((3, 32), np.uint8)
    hashes[2] = 255
    positions, groups = joined_groups("s", ids, pa.array(names, pa.string()), np.array([0, 2, 4]), hashes)
    return dict(zip(positions.tolist(), groups.to_pylist(), strict=True))


def test_near_duplicates_join_the_groups_of_their_items() -> None:
    # e and c look alike; d and c are editions of one work; the others are alone.
    assert _joined([None] * 5) == {0: "s:c", 2: "s:c"}
    assert _joined([None, "w", "w", "v", None]) == {0: "s/group/w", 1: "s/group/w", 2: "s/group/w"}
    assert _joined(["x", "w", "w", "x", None]) == dict.fromkeys(range(4), "s/group/w")
    assert _joined([None, None, None, "v", "v"]) == {0: "s:c", 2: "s:c"}


@pytest.mark.parametrize(("val", "test"), [(0.1, 0.1), (0.03, 0.1), (0.0, 0.0), (0.5, 0.2)])
def test_split_fractions(val: float, test: float) -> None:
    counts = Counter(split_of(f"s:{i}", SplitFractions(val, test)) for i in range(20_000))
    assert counts["val"] / 20_000 == pytest.approx(val, abs=0.01)
    assert counts["test"] / 20_000 == pytest.approx(test, abs=0.01)


def test_split_is_the_same_on_every_machine_and_larger_fractions_only_add() -> None:
    assert [split_of(f"art500k:{i}", SplitFractions()) for i in range(8)] == [*["train"] * 6, "val", "train"]
    for i in range(1000):
        if split_of(f"s:{i}", SplitFractions(0.1, 0.1)) == "test":
            assert split_of(f"s:{i}", SplitFractions(0.1, 0.2)) == "test"


def test_a_group_has_the_most_held_out_of_the_splits_given_to_it() -> None:
    groups = pa.array(["g", "g", "h", "h", "g", "i", "h"])
    given = pa.array(["train", "val", "test", "val", None, None, "train"])
    alone = split_of("i", SplitFractions())
    assert final_splits(groups, given, SplitFractions()).to_pylist() == [
        "val",
        "val",
        "test",
        "test",
        "val",
        alone,
        "test",
    ]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from(["train", "val", "test"])), max_size=9))
def test_no_group_is_torn_apart(rows: list[tuple[str, str | None]]) -> None:
    groups, given = pa.array([g for g, _ in rows], pa.string()), pa.array([s for _, s in rows], pa.string())
    splits = final_splits(groups, given, SplitFractions(0.3, 0.3)).to_pylist()
    assert len(set(zip(groups.to_pylist(), splits, strict=True))) == len(set(groups.to_pylist()))
