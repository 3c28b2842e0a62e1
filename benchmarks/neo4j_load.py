"""Loading a Neo4j server: ours against the documented pattern, and the offline copy against the bare importer.

    .venv/bin/python -m benchmarks.neo4j_load [--scale 0.05] [--heap 2g] [--page-cache 512m]

178,890 nodes and 3,131,949 relations (scale 1): products with titles and texts, brands and categories; what leads to a
product follows a power law. Each contender gets a fresh home of a real server, and a Python process of its own:

- `documented pattern`: the same Parquet files, by the driver alone: a constraint per label, then one `UNWIND`
  transaction of 10,000 rows after another: nodes by `MERGE` on their id and `SET +=`, relations by `MATCH` of both ends
  by id, and `MERGE`.
- `load_source`: ours, counting in the store included; then again with the same data, and with 1% of the rows changed.
- `bare importer`: `neo4j-admin database import full` of CSV files that are ready, the server being down.
- `copy --offline`: from an embedded store; stop, import, start, constraints, counts and digests included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
from neo4j import GraphDatabase

from benchmarks.harness import describe_machine, print_json, print_table
from graphstore.connect import open_store
from graphstore.loading import offline_import as importer
from graphstore.loading.load import load_source
from graphstore.neo4j.server.server import (
    ServerInfo,
    admin,
    start,
    stop,
)
from graphstore.store import Access
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import ENTITY_SCHEMA, ITEM_SCHEMA, RELATION_SCHEMA

SOURCE = "shop"
PRODUCTS, BRANDS, CATEGORIES = 150_000, 24_890, 4_000
RELATIONS = {"CO_VIEWED": 1_500_000, "ALSO_BOUGHT": 1_181_949, "IN_CATEGORY": 300_000, "BY_BRAND": 150_000}
BATCH_ROWS = 10_000
WORDS = 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the nodes and relations")
    parser.add_argument("--heap", default="2g", help="of each server, and of the importer")
    parser.add_argument("--page-cache", default="512m")
    parser.add_argument("--port", type=int, default=7799)
    parser.add_argument("--step", nargs=3, metavar=("NAME", "URL", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(*options.step)
        return
    with TemporaryDirectory(prefix="graph2image-benchmark-") as name:
        rows = compare(Path(name), options)
    by_name = {row["what"]: row for row in rows}

    def ratio(slow: str, fast: str) -> float:
        return round(by_name[slow]["wall s"] / by_name[fast]["wall s"], 2)

    print_table(rows)
    print_json(
        {
            "benchmark": "neo4j_load",
            "machine": describe_machine(),
            "scale": options.scale,
            "heap": options.heap,
            "page_cache": options.page_cache,
            "rows": rows,
            "load_of_documented": ratio("documented pattern", "load_source"),
            "unchanged_of_load": ratio("load_source", "unchanged again"),
            "one_percent_of_load": ratio("load_source", "1% changed"),
            "offline_by_importer": ratio("copy --offline", "bare importer"),
            "its_importer_by_importer": ratio("its importer", "bare importer"),
        }
    )


def compare(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All contenders, one after another; a row of figures each."""
    data = DataRoot(str(folder / "data"))
    nodes, relations = write_data(data, options.scale)
    sizes = {"heap": options.heap, "page_cache": options.page_cache}
    rows: list[dict[str, Any]] = []

    def measure(what: str, step: str, server: ServerInfo) -> None:
        # The server's process is another one after `copy --offline`, whose figures are its own.
        process = psutil.Process(server.pid)
        before = process.cpu_times()
        figures = step_in_a_process(step, server, folder)
        same = process.is_running() and step != "offline"
        after = process.cpu_times() if same else None
        server_cpu_s = after.user + after.system - before.user - before.system if after else None
        rows.append(figures_of(what, figures, nodes + relations, server_cpu_s))
        if "importer_s" in figures:
            rows.append(figures_of("its importer", {"wall_s": figures["importer_s"]}, nodes + relations, None))

    for contender, steps in {
        "documented": {"documented pattern": "documented"},
        "ours": {"load_source": "load", "unchanged again": "load", "1% changed": "load"},
    }.items():
        server = start(folder / contender, port=options.port, **sizes)
        try:
            for what, step in steps.items():
                if what == "1% changed":
                    write_data(data, options.scale, changed=0.01)
                measure(what, step, server)
        finally:
            stop(server.home)

    write_data(data, options.scale)
    with open_store(f"ladybug://{folder}/graph.lbug") as store:
        load_source(store, data, SOURCE)
    arguments = write_csv(data, folder / "csv")
    (folder / "bare").mkdir()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    admin(folder / "bare", "database", "import", "full", "neo4j", *arguments, heap=options.heap)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    rows.append(figures_of("bare importer", {"wall_s": time.perf_counter() - started}, nodes + relations, cpu_s))

    server = start(folder / "offline", port=options.port, **sizes)
    try:
        measure("copy --offline", "offline", server)
    finally:
        stop(server.home)
    return rows


def figures_of(what: str, figures: dict[str, float], count: int, server_cpu_s: float | None) -> dict[str, Any]:
    """A row of the table."""
    return {
        "what": what,
        "wall s": round(figures["wall_s"], 2),
        "rows/s": round(count / figures["wall_s"]),
        "Java CPU s": None if server_cpu_s is None else round(server_cpu_s, 1),
        "Python CPU s": round(figures["cpu_s"], 1) if "cpu_s" in figures else None,
        "Python peak MiB": round(figures["peak_mib"]) if "peak_mib" in figures else None,
    }


# -- steps, each in a process of its own -------------------------------------------------------------------------------


def step_in_a_process(step: str, server: ServerInfo, folder: Path) -> dict[str, float]:
    """Run a step; its wall time without the start of Python, its processor time and its peak memory."""
    command = [sys.executable, "-m", "benchmarks.neo4j_load", "--step", step, server.url, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = orjson.loads(done.stdout.splitlines()[-1])
    return figures


def run_step(step: str, url: str, name: str) -> None:
    folder = Path(name)
    data = DataRoot(str(folder / "data"))
    steps: dict[str, Callable[[], dict[str, float] | None]] = {
        "documented": lambda: load_as_documented(url, folder / "documented" / "password", data),
        "load": lambda: load_ours(url, folder / "ours" / "password", data),
        "offline": lambda: copy_ours(folder),
    }
    before = time.process_time()
    started = time.perf_counter()
    more = steps[step]()
    figures = (more or {}) | {
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - before,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(orjson.dumps(figures).decode())


def load_as_documented(url: str, password_file: Path, data: DataRoot) -> None:
    """As the driver's manual and the guide to Cypher imports show it."""
    tables = {
        **_by_label(data.read(f"items/{SOURCE}").rename_columns({"item_id": "id"})),
        **_by_label(data.read(f"entities/{SOURCE}").rename_columns({"entity_id": "id"})),
    }
    labels = {"CO_VIEWED": "Product", "ALSO_BOUGHT": "Product", "IN_CATEGORY": "Category", "BY_BRAND": "Brand"}
    relations = data.read(f"relations/{SOURCE}")
    with GraphDatabase.driver(url, auth=("neo4j", password_file.read_text().strip())) as driver:
        for label in tables:
            driver.execute_query(f"CREATE CONSTRAINT FOR (n:{label}) REQUIRE n.id IS UNIQUE")
        for label, table in tables.items():
            for start_ in range(0, table.num_rows, BATCH_ROWS):
                rows = table.slice(start_, BATCH_ROWS).to_pylist()
                driver.execute_query(f"UNWIND $rows AS row MERGE (n:{label} {{id: row.id}}) SET n += row", rows=rows)
        for type_, label in labels.items():
            table = relations.filter(pc.equal(relations["type"], type_))
            for start_ in range(0, table.num_rows, BATCH_ROWS):
                driver.execute_query(
                    "UNWIND $rows AS row MATCH (a:Product {id: row.from_id}) "
                    f"MATCH (b:{label} {{id: row.to_id}}) MERGE (a)-[r:{type_}]->(b) SET r.weight = row.weight",
                    rows=table.slice(start_, BATCH_ROWS).select(["from_id", "to_id", "weight"]).to_pylist(),
                )


def load_ours(url: str, password_file: Path, data: DataRoot) -> None:
    with open_store(url, access=Access(password_file=password_file)) as store:
        print(orjson.dumps(asdict(load_source(store, data, SOURCE))).decode(), file=sys.stderr)


def copy_ours(folder: Path) -> dict[str, float]:
    """Also how long the importer ran, of all that."""
    seconds = 0.0

    def timed(*arguments: Any, **more: Any) -> str:
        nonlocal seconds
        started = time.perf_counter()
        output = admin(*arguments, **more)
        seconds = time.perf_counter() - started
        return output

    importer.admin = timed
    with open_store(f"ladybug://{folder}/graph.lbug", read_only=True) as source:
        print(orjson.dumps(asdict(importer.copy_offline(source, folder / "offline"))).decode(), file=sys.stderr)
    return {"importer_s": seconds}


def write_csv(data: DataRoot, folder: Path) -> list[str]:
    """Files with text ids, as an export of tables gives them; the importer's arguments for them."""
    folder.mkdir(parents=True)
    arguments = []
    for kind in ("item", "entity"):
        table = data.read(f"{'items' if kind == 'item' else 'entities'}/{SOURCE}")
        for label, rows in _by_label(table.rename_columns({f"{kind}_id": "id:ID"})).items():
            names = {"opted_out": "opted_out:boolean"} if kind == "item" else {}
            path = folder / f"{label}.csv"
            pcsv.write_csv(rows.rename_columns(names), path)
            arguments.append(f"--nodes={label}={path}")
    relations = data.read(f"relations/{SOURCE}")
    names = {"from_id": ":START_ID", "to_id": ":END_ID", "weight": "weight:double"}
    for type_ in RELATIONS:
        rows = relations.filter(pc.equal(relations["type"], type_)).select(list(names)).rename_columns(names)
        path = folder / f"{type_}.csv"
        pcsv.write_csv(rows, path)
        arguments.append(f"--relationships={type_}={path}")
    return arguments


def _by_label(table: pa.Table) -> dict[str, pa.Table]:
    labels = table["label"].unique().to_pylist()
    return {label: table.filter(pc.equal(table["label"], label)).drop_columns("label") for label in labels}


# -- data --------------------------------------------------------------------------------------------------------------


def write_data(data: DataRoot, scale: float, changed: float = 0.0) -> tuple[int, int]:
    """Publish the source; of `changed` of the rows, the text or the weight is another one. The counts of both kinds."""
    rng = np.random.default_rng(0)
    products, brands, categories = (max(20, round(n * scale)) for n in (PRODUCTS, BRANDS, CATEGORIES))
    words = pa.array(["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(2, 11))) for _ in range(WORDS)])

    def phrases(count: int, length: int) -> pa.Array:
        columns = (words.take(pa.array(rng.integers(0, WORDS, count))) for _ in range(length))
        return pc.binary_join_element_wise(*columns, " ")

    ids = {
        "Product": pc.binary_join_element_wise(f"{SOURCE}:B", pa.array(_codes(products)), ""),
        "Brand": pc.binary_join_element_wise(f"{SOURCE}/Brand/", phrases(brands, 2), pa.array(_codes(brands)), " "),
        "Category": pc.binary_join_element_wise(
            f"{SOURCE}/Category/", phrases(categories, 3), pa.array(_codes(categories)), " "
        ),
    }
    texts = phrases(products, 25)
    texts = pc.if_else(
        pa.array(rng.random(products) < changed), pc.binary_join_element_wise(texts, "changed", " "), texts
    )
    items = {
        "item_id": ids["Product"],
        "label": pa.repeat("Product", products),
        "title": phrases(products, 10),
        "text": texts,
        "image_hash": pa.array([f"{n:064x}" for n in range(products)]),
        "image_ref": pa.nulls(products, pa.string()),
        "split": pa.repeat("train", products),
        "group_id": ids["Product"],
        "opted_out": pa.repeat(False, products),
    }
    data.publish(f"items/{SOURCE}", [_table(items, ITEM_SCHEMA)], ITEM_SCHEMA)
    entities = {
        "entity_id": pa.concat_arrays([ids["Brand"], ids["Category"]]),
        "label": pa.concat_arrays([pa.repeat("Brand", brands), pa.repeat("Category", categories)]),
    }
    entities["name"] = entities["entity_id"]
    data.publish(f"entities/{SOURCE}", [_table(entities, ENTITY_SCHEMA)], ENTITY_SCHEMA)

    tables = []
    for type_, target in zip(RELATIONS, ("Product", "Product", "Category", "Brand"), strict=True):
        count = min(round(RELATIONS[type_] * scale), products * len(ids[target]) // 4)
        # Distinct pairs, in no order; low numbers are met more often, and lie anywhere.
        pairs = np.empty(0, np.int64)
        while len(pairs) < count:
            targets = (len(ids[target]) * rng.random(2 * count) ** 2.5).astype(np.int64)
            pairs = np.unique(np.r_[pairs, rng.integers(0, products, 2 * count) * len(ids[target]) + targets])
        starts, ends = np.divmod(rng.permutation(pairs)[:count], len(ids[target]))
        weights = np.where(rng.random(count) < changed, 2.0, np.round(rng.random(count), 3))
        relations = {
            "type": pa.repeat(type_, count),
            "from_id": ids["Product"].take(pa.array(starts)),
            "to_id": ids[target].take(pa.array(rng.permutation(len(ids[target]))[ends])),
            "weight": pa.array(weights),
        }
        tables.append(_table(relations, RELATION_SCHEMA))
    data.publish(f"relations/{SOURCE}", tables, RELATION_SCHEMA)
    return products + brands + categories, sum(table.num_rows for table in tables)


def _codes(count: int) -> list[str]:
    return [f"{n * 2654435761 % 2**32:08X}" for n in range(count)]


def _table(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    """The columns in the order and the types of `schema`; null where one is not given."""
    count = len(next(iter(columns.values())))
    arrays = [columns.get(field.name, pa.nulls(count)).cast(field.type) for field in schema]
    return pa.table(arrays, schema=schema)


if __name__ == "__main__":
    main()
