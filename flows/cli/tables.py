"""Query results for people and for programs."""

import sys
from enum import StrEnum
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text


class TableFormat(StrEnum):
    """How `query` prints its rows."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


def write_table(rows: pa.Table, output: TableFormat) -> None:
    """Write `rows` to standard output."""
    stream = sys.stdout.buffer
    if output is TableFormat.TABLE:
        print_rows(rows.to_pylist())
    elif output is TableFormat.JSON:
        stream.write(orjson.dumps(rows.to_pylist(), default=str, option=orjson.OPT_APPEND_NEWLINE))
    elif output is TableFormat.CSV:
        pacsv.write_csv(_flat(rows), stream)
    else:
        pq.write_table(rows, stream)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print `rows`, which have the same keys, as a table for people."""
    table = Table(header_style="bold")
    for name, value in (rows[0] if rows else {}).items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left", overflow="fold")
    for row in rows:
        # Text, not markup: a title such as "[red]" is printed as it is.
        table.add_row(*(Text("" if value is None else _cell(value)) for value in row.values()))
    console = Console()
    console.print(table)
    console.print(f"{len(rows):,} row{'' if len(rows) == 1 else 's'}", highlight=False)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flat(rows: pa.Table) -> pa.Table:
    """CSV has no nested values: they become JSON text."""
    for index, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type):
            texts = [None if v is None else orjson.dumps(v, default=str).decode() for v in rows[index].to_pylist()]
            rows = rows.set_column(index, field.name, pa.array(texts, pa.string()))
    return rows
