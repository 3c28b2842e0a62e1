"""The neighbors of every item, as a dataset: `neighbors/<digest>`, written by shard.

Walks use the vectors of the graph's hubs where `hubs.use_hub_vectors` says so. That is faster and more exact than
without, as for one item, for which they would cost more than they save; both are within their stated errors of the true
scores.

A killed run loses the shard it was at; the next one finds the others. Threads rather than processes: the walks, the
products of vectors and the reading of Parquet all run outside of Python's lock, on one projection and one set of
vectors.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from graphstore.ppr.hubs import hub_vectors, use_hub_vectors
from graphstore.sampling.sampler import Sampler, prepare_sampler, sample_rows
from graphstore.sampling.settings import SamplerSettings
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot, digest
from ingest.datasets.schemas import NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)

#: Counted up when equal settings on an equal graph come to give other neighbors than before.
FORMAT_VERSION = 3
#: Items per file: what a killed run loses at most.
SHARD_ROWS = 4_096


@dataclass(frozen=True)
class SampleReport:
    """What `sample_all` wrote.

    Attributes
    ----------
    digest
        Names the dataset: `neighbors/<digest>`.
    items, neighbors
        Rows, and neighbors in all of them.
    incomplete
        Items with fewer than `k` neighbors.
    without_image
        Items that have no readable image themselves: images can be generated for them, but none learned from.
    fallbacks
        Items whose neighbors are semantic ones, because no walk reaches any.
    shards_new, shards_existing
        Files that were computed by this run, and by earlier ones.
    changed
        False if the dataset was complete already.
    """

    digest: str
    graph_version: str
    items: int
    neighbors: int
    incomplete: int
    without_image: int
    fallbacks: int
    shards_new: int
    shards_existing: int
    changed: bool


def sample_all(store: GraphStore, data: DataRoot, settings: SamplerSettings) -> SampleReport:
    """Sample the neighbors of every item, of all splits, and publish them as `neighbors/<digest>`.

    A shard that an earlier, killed run has written is kept. The dataset's metadata has the settings, the encoder, the
    graph version and the counts of the report.

    Raises
    ------
    Graph2ImageError
        If the graph is empty or changes while it is read, a setting names an unknown relation type, or embeddings are
        missing.
    """
    version = store.version()
    name = digest(FORMAT_VERSION, settings.model_dump(mode="json"), version)
    dataset = f"neighbors/{name}"
    published = data.snapshot(dataset)
    if published is not None:
        counts = published.metadata["counts"]
        return SampleReport(name, version, **counts, shards_new=0, shards_existing=len(published.files), changed=False)

    sampler = prepare_sampler(store, data, settings)
    if store.version() != version:
        raise Graph2ImageError("the graph was changed while it was read", "Run the same command again.")
    items = sampler.projection.items
    targets = np.arange(items.num_rows, dtype=np.int32)
    existing = {_key(shard["item_id"]) for shard in _shards(data, dataset, ["item_id"])}
    ids = items["item_id"]
    new = 0
    if settings.is_walked and len(existing) * SHARD_ROWS < len(targets):
        sampler = _with_hubs(sampler)
    with tqdm(total=len(targets), desc="sample neighbors", unit="item", disable=None) as progress:
        for part in np.split(targets, range(SHARD_ROWS, len(targets), SHARD_ROWS)):
            if _key(ids.take(part)) not in existing:
                data.write_table(dataset, sample_rows(sampler, part), NEIGHBOR_SCHEMA)
                new += 1
            progress.update(len(part))

    counts = _count(_shards(data, dataset), settings)
    counts["without_image"] = items["image_hash"].null_count
    metadata = {
        "settings": settings.model_dump(mode="json"),
        "encoder": settings.encoder,
        "graph_version": version,
        "counts": counts,
    }
    snapshot, _ = data.publish(dataset, _shards(data, dataset), NEIGHBOR_SCHEMA, metadata)
    log.info("sampled %d neighbors for %d items: %s", counts["neighbors"], counts["items"], dataset)
    return SampleReport(
        name, version, **counts, shards_new=new, shards_existing=len(snapshot.files) - new, changed=True
    )


def _with_hubs(sampler: Sampler) -> Sampler:
    if not use_hub_vectors(sampler.projection):
        return sampler
    hubs = hub_vectors(sampler.projection, damping_factor=sampler.settings.damping_factor)
    log.info("computed the vectors of %d hubs, %d MiB", len(hubs.nodes), hubs.nbytes >> 20)
    return replace(sampler, hubs=hubs)


def _key(item_ids: pa.ChunkedArray) -> bytes:
    """Tells shards apart by the items that they are of."""
    return hashlib.sha256("\n".join(item_ids.to_pylist()).encode()).digest()


def _shards(data: DataRoot, dataset: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The files of a neighbors dataset in the order of their items."""
    files = list(data.dataset(dataset, NEIGHBOR_SCHEMA).by_file())
    firsts = [file.head(1, ["item_id"])["item_id"].to_pylist() for file in files]
    for _, number in sorted((first, number) for number, first in enumerate(firsts) if first):
        yield files[number].to_table(columns)


def _count(shards: Iterator[pa.Table], settings: SamplerSettings) -> dict[str, int]:
    counts = {"items": 0, "neighbors": 0, "incomplete": 0, "fallbacks": 0}
    for shard in shards:
        lengths = pc.list_value_length(shard["neighbors"]).to_numpy()
        counts["items"] += shard.num_rows
        counts["neighbors"] += int(lengths.sum())
        counts["incomplete"] += int((lengths < settings.k).sum())
        if settings.is_walked:
            first = pc.list_element(shard["neighbors"].filter(pa.array(lengths > 0)), 0)
            counts["fallbacks"] += pc.sum(pc.equal(pc.struct_field(first, "via"), "semantic"), min_count=0).as_py()
    return counts
