"""The first copy into a local Neo4j server, by Neo4j's importer, which writes store files without transactions.

- The importer works in a scratch home while the server still runs. Then the server stops, the finished store files take
  the place of its own, and it starts again: an import that fails or is killed has not touched the server.
- Only into a database without any data, of a server that `graph2image neo4j` started: what was there is deleted.
- The importer reads Parquet, written from Arrow tables without a loop over rows. Nodes have running numbers, which
  spares it a lookup by text of every relation's ends. It fails on lists, and on nulls among dates and times, and
  takes empty texts for null: these are written afterwards.
- What was imported is marked as a copy that is not finished. `copy_graph` then finds it there, compares digests and
  counts, and finishes it; so does a copy without `--offline` after a kill.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from graphstore.bookkeeping import check_complete, copy_mark
from graphstore.connect import open_store
from graphstore.loading.copying import CopyReport, copy_graph
from graphstore.neo4j.server.server import admin, status, stopped
from graphstore.store import Access, GraphStore
from ingest.datasets.names import GRAPH_SCHEMA, LOADED_SOURCE, WRITE_LOCK
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)

_DATABASE = "neo4j"
_SCRATCH = "graph2image-import-"


def copy_offline(source: GraphStore, home: Path) -> CopyReport:
    """Copy all of `source` into the empty database of the local server of `home`, which is restarted for it.

    Parameters
    ----------
    home
        As of `graph2image neo4j start`; its server runs, and runs with the same settings afterwards.

    Raises
    ------
    Graph2ImageError
        If the server does not run, its database has anything in it, a load into the source is not finished, the
        importer fails, or the copy is not what the source has.
    """
    server = status(home)
    if server is None:
        raise Graph2ImageError(
            f"no Neo4j server runs in {home}", f"Start it first: graph2image neo4j start --home {home}"
        )
    access = Access(password_file=server.password_file)
    check_complete(source)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=home) as name:
        scratch = Path(name)
        with open_store(server.url, access=access) as target, target.exclusive():
            _refuse_data(target)
            _remove_leftovers(home, scratch)
            arguments = _write_files(source, scratch)
            admin(
                scratch,
                *("database", "import", "full", _DATABASE),
                *("--input-type=parquet", "--id-type=actual", "--path-pattern-style=none"),
                *arguments,
            )
        with stopped(home):
            for kind in ("transactions", "databases"):
                (home / "data" / kind / _DATABASE).rename(scratch / f"replaced-{kind}")
                (scratch / "data" / kind / _DATABASE).rename(home / "data" / kind / _DATABASE)
    with open_store(server.url, access=access) as target:
        _write_rest(source, target)
        return copy_graph(source, target)


def _refuse_data(target: GraphStore) -> None:
    own = [GRAPH_SCHEMA, WRITE_LOCK]
    found = target.read(
        "MATCH (n) WHERE none(label IN labels(n) WHERE label IN $own) RETURN count(n) AS count", {"own": own}
    )["count"][0].as_py()
    if found:
        raise Graph2ImageError(
            f"the database at {target.url} has {found} nodes: an import would replace it",
            "Import into an empty database, or copy without --offline to continue a copy.",
        )


def _remove_leftovers(home: Path, scratch: Path) -> None:
    """Remove what imports that were killed have left."""
    for folder in home.glob(f"{_SCRATCH}*"):
        if folder.name != scratch.name:
            shutil.rmtree(folder)


# -- files -------------------------------------------------------------------------------------------------------------


def _write_files(source: GraphStore, folder: Path) -> list[str]:
    """Write a Parquet file per label and per relation type between two labels; the importer's arguments for them."""
    arguments = []
    numbered: dict[str, tuple[pa.Array, int]] = {}
    count = 0
    for label, schema in source.node_labels().items():
        if label == LOADED_SOURCE:
            continue
        table = source.nodes(label, [field.name for field in schema if _is_importable(field.type)])
        ids = pa.concat_arrays([pa.array([], pa.string()), *table["id"].chunks])
        numbered[label] = ids, count
        numbers = pa.array(np.arange(count, count + len(ids)))
        count += len(ids)
        arguments += _write(table.add_column(0, ":ID", numbers), folder, f"--nodes={label}=")
    mark = pa.table({":ID": [count], "id": [copy_mark(source.version())], "loading": [True]})
    arguments += _write(mark, folder, f"--nodes={LOADED_SOURCE}=")
    for type_, from_label, to_label in source.relation_types():
        table = source.relations(type_, from_label, to_label, source.relation_properties(type_).names)
        for index, (column, label) in enumerate(((":START_ID", from_label), (":END_ID", to_label))):
            ids, first = numbered[label]
            numbers = pc.add(pc.index_in(table.column(index), value_set=ids).cast(pa.int64()), first)
            table = table.set_column(index, column, numbers)
        arguments += _write(table, folder, f"--relationships={type_}=")
    return arguments


def _write(table: pa.Table, folder: Path, option: str) -> list[str]:
    if not table.num_rows:
        return []
    # A column without any value would cost the importer as much as one with values.
    table = table.select([name for name in table.column_names if table[name].null_count < table.num_rows])
    name = f"{len(list(folder.iterdir()))}.parquet"
    pq.write_table(table, folder / name, compression="none", use_dictionary=False)
    # Without the folder, in which the importer runs: a comma in its path would end the name.
    return [f"{option}{name}"]


def _write_rest(source: GraphStore, target: GraphStore) -> None:
    """Write the values that the importer cannot read, or reads as null."""
    for label, schema in source.node_labels().items():
        if label == LOADED_SOURCE:
            continue
        with target.bulk_load():
            target.define_label(label, schema)
            for field in schema:
                if pa.types.is_string(field.type) and field.name != "id":
                    table = source.nodes(label, ["id", field.name])
                    target.upsert_nodes(label, table.filter(pc.equal(table[field.name], "")))
                elif not _is_importable(field.type):
                    table = source.nodes(label, ["id", field.name])
                    target.upsert_nodes(label, table.filter(table[field.name].is_valid()))


def _is_importable(type_: pa.DataType) -> bool:
    return not (pa.types.is_list(type_) or pa.types.is_temporal(type_))
