"""Opt-outs, which must outlive any one store: they are kept in the graph, and in the data root.

The dataset `optouts` is append-only: a row per withdrawal, with its time and reason. Whatever is opened to sample,
train or generate has both united first, so a new store on an old data root has the opt-outs before anything is sampled,
and so has another store that was there before.
"""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.compute as pc

from graphstore.bookkeeping import apply_opt_outs, loaded_sources, record_snapshot
from graphstore.store import GraphStore
from ingest.datasets.names import OPT_OUT
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import OPT_OUT_SCHEMA

log = logging.getLogger(__name__)

OPT_OUTS = "optouts"


def published_opt_outs(data: DataRoot) -> pa.Table:
    """What was opted out, as the data root has it: one row per id, the first withdrawal; in the order of ids."""
    data.check_files(OPT_OUTS)
    rows = data.read(OPT_OUTS, schema=OPT_OUT_SCHEMA).sort_by([("id", "ascending"), ("created_at", "ascending")])
    ids = rows["id"].to_pylist()
    return rows.filter(pa.array([id_ != before for before, id_ in zip([None, *ids], ids, strict=False)], pa.bool_()))


def publish_opt_outs(store: GraphStore, data: DataRoot) -> None:
    """Bring the store's opt-outs to the data root."""
    properties = store.node_labels()[OPT_OUT].names  # a store of an earlier version has no reasons
    rows = store.nodes(OPT_OUT, [name for name in OPT_OUT_SCHEMA.names if name in properties])
    new = rows.filter(pc.invert(pc.is_in(rows["id"], value_set=published_opt_outs(data)["id"])))
    if new.num_rows:
        reason = new["reason"] if "reason" in new.column_names else pa.nulls(new.num_rows, pa.string())
        data.append(OPT_OUTS, pa.table([new["id"], new["created_at"], reason], schema=OPT_OUT_SCHEMA), OPT_OUT_SCHEMA)


def has_all_opt_outs(store: GraphStore, data: DataRoot) -> bool:
    """Whether the store has all opt-outs of the data root."""
    return not len(_missing(store, data))


def take_opt_outs(store: GraphStore, data: DataRoot) -> bool:
    """Bring the data root's opt-outs to the store; those of nodes that it does not have hold once it has them.

    Returns whether there were any that it did not have.
    """
    missing = _missing(store, data)
    if not missing.num_rows:
        return False
    with store.transaction():
        store.upsert_nodes(OPT_OUT, missing)
        apply_opt_outs(store)
        if loaded_sources(store):
            record_snapshot(store)
    log.info("%s has %d opt-outs more, from %s", store.url, missing.num_rows, data.url)
    return True


def _missing(store: GraphStore, data: DataRoot) -> pa.Table:
    published = published_opt_outs(data)
    return published.filter(pc.invert(pc.is_in(published["id"], value_set=store.nodes(OPT_OUT, ["id"])["id"])))
