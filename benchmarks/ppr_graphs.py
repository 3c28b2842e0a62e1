"""The graphs of `ppr.py`: as arrays, in the form that `projection.project` gives them, or as datasets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from graphstore.connect import open_store
from graphstore.projection.projection import Projection, project
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import ITEM_SCHEMA, RELATION_SCHEMA

Array = npt.NDArray[Any]


def items(n: int = 178_890, n_relations: int = 3_131_949, seed: int = 0) -> Projection:
    """Items with relations among them, as of products bought together.

    The popularity of items is a power law, so their degrees are; 7 of 10 relations stay within a community of about 150
    items. Without communities the walk would be everywhere after three steps, and all but the first few ranks noise.
    """
    rng = np.random.default_rng(seed)
    community = np.sort(rng.integers(0, n // 150, n))
    first = np.searchsorted(community, np.arange(n // 150 + 1))
    total = np.concatenate([[0.0], np.cumsum((rng.permutation(n) + 10.0) ** -0.6)])

    def draw(low: Array, high: Array) -> Array:
        at = total[low] + rng.random(len(low)) * (total[high] - total[low])
        return (np.searchsorted(total, at, side="right") - 1).clip(0, n - 1)

    drawn = int(1.5 * n_relations)
    a = draw(np.zeros(drawn, int), np.full(drawn, n))
    inside = rng.random(drawn) < 0.7
    b = draw(np.where(inside, first[community[a]], 0), np.where(inside, first[community[a] + 1], n))
    pairs = np.unique(np.minimum(a, b) * n + np.maximum(a, b))
    pairs = pairs[pairs // n != pairs % n]
    pairs = rng.permutation(pairs)[:n_relations]
    return _projection(n, n, pairs // n, pairs % n, np.ones(len(pairs), np.float32), seed)


def art(n: int = 310_000, seed: int = 0) -> Projection:
    """Artworks and their entities, the numbers and sizes much as in ART500K: hubs of up to 60,000 works.

    An artist, a genre, a style and a medium each, and two tags; sizes by Zipf's law; weights as `project` gives them
    with `entity_exponent=1`.
    """
    rng = np.random.default_rng(seed)
    parts, first = [], n
    for entities, exponent, links in ((35_000, 0.9, 1), (60, 0.95, 1), (180, 1.0, 1), (18, 1.0, 1), (9_000, 1.0, 2)):
        popularity = (np.arange(entities) + 2.0) ** -exponent
        drawn = rng.choice(entities, n * links, p=popularity / popularity.sum())
        pairs = np.unique(np.repeat(np.arange(n), links) * entities + drawn)
        item, entity = pairs // entities, pairs % entities
        weights = np.bincount(entity)[entity].astype(float)
        weights /= weights.sum() / len(np.unique(item))
        parts.append((item, entity + first, weights))
        first += entities
    from_, to, weights = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return _projection(first, n, from_, to, weights.astype(np.float32), seed)


def write_huge(data: DataRoot, n: int = 10_000_000, n_relations: int = 100_000_000, seed: int = 0) -> None:
    """Publish items and relations among near ones (within 1,000 numbers, 7 of 10) and popular ones, shard by shard."""
    numbers = pa.array(np.arange(n))
    ids = pc.binary_join_element_wise("huge:", pc.utf8_lpad(numbers.cast(pa.string()), 8, "0"), "")

    def items() -> Iterator[pa.Table]:
        for start in range(0, n, 1 << 20):
            own = ids.slice(start, 1 << 20)
            constants = {"label": "Item", "split": "train", "opted_out": False}
            columns = {name: pa.repeat(pa.scalar(value), len(own)) for name, value in constants.items()}
            columns |= {"item_id": own, "group_id": own, "image_hash": pc.utf8_lpad(own, 64, "0")}
            filled = [columns.get(field.name, pa.nulls(len(own), field.type)) for field in ITEM_SCHEMA]
            yield pa.table(filled, ITEM_SCHEMA)

    def relations() -> Iterator[pa.Table]:
        rng = np.random.default_rng(seed)
        for start in range(0, n_relations, 1 << 22):
            size = min(1 << 22, n_relations - start)
            from_ = rng.integers(0, n, size)
            popular = (n * rng.random(size) ** 2).astype(np.int64)
            to = np.where(rng.random(size) < 0.7, from_ + rng.integers(1, 1_000, size), popular) % n
            columns = [pa.repeat("LINKED_TO", size), ids.take(pa.array(from_)), ids.take(pa.array(to))]
            columns += [pa.repeat(1.0, size), pa.nulls(size, pa.string())]
            yield pa.table(columns, RELATION_SCHEMA)

    data.publish("items/huge", items(), ITEM_SCHEMA)
    data.publish("relations/huge", relations(), RELATION_SCHEMA)


def fashion(folder: Path) -> Projection | None:
    """9,583 products of the shared data, ingested to `folder` as docs/results.md does; None where they are not."""
    shared = os.environ.get("GRAPH2IMAGE_SHARED")
    if not shared or not Path(shared, "data/fashion/products.csv").exists():
        return None
    command = Path(sys.executable).with_name("graph2image")
    spec = Path(__file__).parents[1] / "examples" / "fashion.toml"
    where = ["--store", f"ladybug:///{folder / 'graph.lbug'}", "--data", str(folder / "data")]
    root = str(Path(shared, "data/fashion"))
    subprocess.run([command, "ingest", "table", spec, "--root", root, *where], check=True, stdout=subprocess.DEVNULL)
    with open_store(where[1], read_only=True) as store:
        return project(store)


def _projection(n: int, n_items: int, from_: Array, to: Array, weights: Array, seed: int) -> Projection:
    """Both directions of the relations as CSR, without sorting the relations."""
    degrees = np.zeros(n)
    offsets = np.zeros(n + 1, np.int64)
    targets, both_weights = np.empty(2 * len(from_), np.int32), np.empty(2 * len(from_), np.float32)
    _fill(from_, to, weights, offsets, targets, both_weights, degrees)
    is_item = np.arange(n) < n_items
    return Projection(
        items=pa.table({"number": np.arange(n_items, dtype=np.int32)}),
        ids=pa.nulls(n, pa.string()),
        id_hashes=np.random.default_rng(seed).integers(0, 1 << 32, n, dtype=np.uint32),
        is_neighbor=is_item,
        groups=np.where(is_item, np.arange(n), -1).astype(np.int32),
        offsets=offsets,
        targets=targets,
        weights=both_weights,
        types=np.zeros(len(targets), np.int8),
        type_names=("R",),
        degrees=degrees,
        is_symmetric=True,
    )


@njit
def _fill(
    from_: Array, to: Array, weights: Array, offsets: Array, targets: Array, both_weights: Array, degrees: Array
) -> None:
    for i in range(len(from_)):
        offsets[from_[i] + 1] += 1
        offsets[to[i] + 1] += 1
        degrees[from_[i]] += weights[i]
        degrees[to[i]] += weights[i]
    for u in range(len(degrees)):
        offsets[u + 1] += offsets[u]
    ends = offsets[:-1].copy()
    for i in range(len(from_)):
        for u, v in ((from_[i], to[i]), (to[i], from_[i])):
            targets[ends[u]] = v
            both_weights[ends[u]] = weights[i]
            ends[u] += 1
