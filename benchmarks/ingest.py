"""Full-size ingestion: rows per second and peak memory, from each upstream format to Parquet and on to the graph.

Synthetic files in the true formats (`sample-data --no-images`): ART500K with 310,000 rows; Amazon 2014, 2018 and 2023
and Goodreads with 500,000 rows each. Next to ours, on the same file and in the same run:

- `parse`: the file decompressed and parsed line by line, and nothing else: `orjson.loads`, `ast.literal_eval` for 2014,
  `str.split` for ART500K, on one core;
- `polars`: polars' own reader to Parquet, where the format allows, on all cores;
- `dlt`: dlt loading the same rows to Parquet, from the first rows of the file.

Ours runs once with one process that parses and once with one per core. The graph is loaded from the Parquet of Amazon
2018, next to bare `COPY` statements of the same rows.

Every measurement is a process of its own, so that peak memory is its own; the memory of several processes is the sum of
their peaks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from harness import CACHE, describe_machine, peer_python, print_json, print_table

#: What dlt takes minutes for tells its speed in a part of the rows.
DLT_ROWS = 50_000
DLT = ["dlt[parquet]==1.31.0", "orjson"]

#: Peak memory of a process and of those it waited for, in MiB, after the last line that a measurement prints.
_REPORT = """
import json, resource
own, children = (resource.getrusage(w).ru_maxrss / 1024 for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"seconds": seconds, "rows": rows, "own": own, "child": children}))
"""

_PARSE = """
import ast, gzip, sys, time
import orjson
path, parse = sys.argv[1], {"json": orjson.loads, "literal": lambda line: ast.literal_eval(line.decode()),
                            "split": lambda line: line.decode().split("|")}[sys.argv[2]]
start, rows = time.perf_counter(), 0
with (gzip.open(path) if path.endswith(".gz") else open(path, "rb")) as stream:
    for line in stream:
        parse(line)
        rows += 1
seconds = time.perf_counter() - start
"""

_POLARS = """
import sys, time
import polars as pl
path, form, out = sys.argv[1:]
start = time.perf_counter()
if form == "json":
    frame = pl.read_ndjson(path, infer_schema_length=10_000)
else:
    frame = pl.read_csv(path, separator="|", has_header=False, quote_char=None, infer_schema=False,
                        truncate_ragged_lines=True)
frame.write_parquet(out)
rows = len(frame)
seconds = time.perf_counter() - start
"""

_DLT = """
import gzip, itertools, sys, time
import dlt, orjson
path, count, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rows = 0

@dlt.resource(name="rows", max_table_nesting=0)
def lines():
    global rows
    with gzip.open(path) as stream:
        for batch in iter(lambda: list(itertools.islice(stream, 1000)), []):
            wanted = [orjson.loads(line) for line in batch[: count - rows]]
            rows += len(wanted)
            yield wanted
            if rows >= count:
                return

start = time.perf_counter()
pipeline = dlt.pipeline("bench", pipelines_dir=out + "/pipelines",
                        destination=dlt.destinations.filesystem("file://" + out + "/data"), dataset_name="rows")
pipeline.run(lines(), loader_file_format="parquet")
seconds = time.perf_counter() - start
"""

_OURS = """
import sys, time
from ingest.datasets.root import DataRoot
from ingest.ingestion import INGESTIONS
from ingest.sources import ingest_source

if __name__ == "__main__":
    source, path, workers, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    start = time.perf_counter()
    report = ingest_source(DataRoot(out), INGESTIONS[source](files=(path,), workers=workers))
    rows = report.rows_read
    seconds = time.perf_counter() - start
"""

_LOAD = """
import sys, time
from graphstore.loading.load import load_source
from graphstore.connect import open_store
from ingest.datasets.root import DataRoot
start = time.perf_counter()
with open_store("ladybug://" + sys.argv[2]) as store:
    report = load_source(store, DataRoot(sys.argv[1]), "amazon")
seconds = time.perf_counter() - start
rows = report.items + report.entities + report.relations
"""

_COPY = """
import sys, time
import ladybug, pyarrow as pa, pyarrow.compute as pc
from ingest.datasets.root import DataRoot
data = DataRoot(sys.argv[1])
items, entities, relations = (data.read(f"{name}/amazon") for name in ("items", "entities", "relations"))
# What can be loaded at all, found out before the clock starts.
labels = {label: rows["entity_id"] for label in entities["label"].unique().to_pylist()
          for rows in [entities.filter(pc.equal(entities["label"], label))]} | {"Product": items["item_id"]}
tables = {}
for type_ in relations["type"].unique().to_pylist():
    of_type = relations.filter(pc.equal(relations["type"], type_))
    for a, from_ids in labels.items():
        for b, to_ids in labels.items():
            part = of_type.filter(pc.and_(pc.is_in(of_type["from_id"], value_set=from_ids.combine_chunks()),
                                          pc.is_in(of_type["to_id"], value_set=to_ids.combine_chunks())))
            if len(part):
                tables[type_, a, b] = part.select(["from_id", "to_id", "weight", "role"])
connection = ladybug.Connection(ladybug.Database(sys.argv[2]))
start = time.perf_counter()
rows = 0
for label in sorted(labels):
    table = items if label == "Product" else entities.filter(pc.equal(entities["label"], label))
    types = {"string": "STRING", "bool": "BOOL", "double": "DOUBLE", "int64": "INT64"}
    columns = ", ".join(f"`{f.name}` {types[str(f.type)]}" for f in table.schema)
    connection.execute(f"CREATE NODE TABLE `{label}`({columns}, PRIMARY KEY (`{table.schema.names[0]}`))")
    connection.execute(f"COPY `{label}` FROM $rows", {"rows": table})
    rows += len(table)
for (type_, a, b), table in tables.items():
    connection.execute(f"CREATE REL TABLE IF NOT EXISTS `{type_}`(FROM `{a}` TO `{b}`, weight DOUBLE, role STRING)")
    connection.execute(f"ALTER TABLE `{type_}` ADD IF NOT EXISTS FROM `{a}` TO `{b}`")
    connection.execute(f"COPY `{type_}` FROM $rows (from='{a}', to='{b}')", {"rows": table})
    rows += len(table)
connection.execute("CHECKPOINT")
connection.close()
seconds = time.perf_counter() - start
"""


@dataclass(frozen=True)
class Case:
    """One upstream format: how its file is made, ingested, and read by others."""

    name: str
    sample: tuple[str, ...]
    rows: int
    file: str
    source: str
    parser: str
    polars: str | None


CASES = [
    Case("art500k", ("art500k",), 310_000, "label_list.csv", "art500k", "split", "csv"),
    *(
        Case(
            f"amazon-{release}",
            ("amazon", "--release", str(release)),
            500_000,
            f"meta_Home_and_Kitchen.json{'l' if release == 2023 else ''}.gz",
            "amazon",
            "literal" if release == 2014 else "json",
            None if release == 2014 else "json",
        )
        for release in (2014, 2018, 2023)
    ),
    Case("goodreads", ("goodreads",), 500_000, "goodreads_books.json.gz", "goodreads", "json", "json"),
]


def measure(script: str, arguments: Sequence[str], *, python: str = sys.executable, threads: int | None = None) -> Any:
    """Run a measurement in a process of its own; seconds, rows and peak MiB."""
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS") if threads is not None}
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        # In a file, because processes that parse import what started them.
        report = "".join(f"    {line}\n" for line in _REPORT.splitlines()) if "__main__" in script else _REPORT
        file.write(script + report)
        file.flush()
        run = subprocess.run(
            [python, file.name, *arguments], env=os.environ | limits, check=True, stdout=subprocess.PIPE, text=True
        )
    return orjson.loads(run.stdout.splitlines()[-1])


def sample(case: Case, rows: int) -> Path:
    """The case's file, made once."""
    folder = CACHE / "samples" / f"{case.name}-{rows}"
    command = [Path(sys.executable).with_name("graph2image"), "sample-data", *case.sample, folder]
    subprocess.run([*command, "--items", str(rows), "--no-images"], check=True, stdout=sys.stderr)
    return folder / case.file


def best(repeats: int, script: str, arguments: Sequence[str], out: Path | None = None, **options: Any) -> Any:
    """The fastest of several measurements; what is written to `out` is removed before each."""
    results = []
    for _ in range(repeats):
        if out is not None:
            shutil.rmtree(out, ignore_errors=True)
            out.unlink(missing_ok=True)
        results.append(measure(script, arguments, **options))
    return min(results, key=lambda result: result["seconds"])


def run_case(case: Case, rows: int, scratch: Path, repeats: int) -> list[dict[str, Any]]:
    """Ours and the peers on one file."""
    path = sample(case, rows)
    cores = len(os.sched_getaffinity(0))
    out = scratch / "data"
    results = {"parse": best(repeats, _PARSE, [str(path), case.parser], threads=1)}
    for workers in sorted({1, cores}):
        arguments = [case.source, str(path), str(workers), str(out)]
        name = "ours, 1 process" if workers == 1 else f"ours, {workers} processes"
        results[name] = best(repeats, _OURS, arguments, out, threads=1)
        results[name]["own"] += (workers > 1) * workers * results[name]["child"]
    if case.polars:
        results["polars"] = best(repeats, _POLARS, [str(path), case.polars, str(scratch / "polars.parquet")])
    if case.polars == "json":
        python = str(peer_python("dlt", DLT))
        results["dlt"] = best(1, _DLT, [str(path), str(DLT_ROWS), str(scratch / "dlt")], scratch / "dlt", python=python)
    base = results["parse"]["rows"] / results["parse"]["seconds"]
    return [
        {
            "data": case.name,
            "what": what,
            "rows": int(result["rows"]),
            "seconds": result["seconds"],
            "rows/s": result["rows"] / result["seconds"],
            "of parse": result["rows"] / result["seconds"] / base,
            "peak MiB": round(result["own"]),
        }
        for what, result in results.items()
    ]


def run_load(scratch: Path, rows: int, repeats: int) -> list[dict[str, Any]]:
    """The graph of Amazon 2018, ours and bare."""
    case = next(case for case in CASES if case.name == "amazon-2018")
    data, graph = scratch / "graph-data", scratch / "graph.lbug"
    measure(_OURS, [case.source, str(sample(case, rows)), str(len(os.sched_getaffinity(0))), str(data)])
    table = []
    for what, script in (("bare COPY", _COPY), ("ours", _LOAD)):
        result = best(repeats, script, [str(data), str(graph)], graph)
        table.append(
            {
                "what": f"{what}, Parquet to graph",
                "nodes and relations": int(result["rows"]),
                "seconds": result["seconds"],
                "per s": result["rows"] / result["seconds"],
                "peak MiB": round(result["own"]),
            }
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="cases, by default all: " + " ".join(c.name for c in CASES) + " load")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--repeats", type=int, default=3, help="measurements, of which the fastest counts")
    options = parser.parse_args()
    wanted = options.only or [*(case.name for case in CASES), "load"]
    table: list[dict[str, Any]] = []
    load: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if case.name in wanted:
                table += run_case(case, int(case.rows * options.scale), Path(folder), options.repeats)
        if "load" in wanted:
            load = run_load(Path(folder), int(500_000 * options.scale), options.repeats)
    for rows in (table, load):
        if rows:
            print_table(rows)
            print()
    print_json({"machine": describe_machine(), "scale": options.scale, "ingest": table, "load": load})


if __name__ == "__main__":
    main()
