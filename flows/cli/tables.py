"""Query results for people and for programs."""

from __future__ import annotations

import sys
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson
from pydantic_core import to_jsonable_python

if TYPE_CHECKING:
    import pyarrow as pa

#: More characters than a line of any table has.
_ENDLESS = 1_000_000


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
        stream.write(orjson.dumps(rows.to_pylist(), default=_plain, option=orjson.OPT_APPEND_NEWLINE))
    elif output is TableFormat.CSV:
        import pyarrow.csv as pacsv

        pacsv.write_csv(_flat(rows), stream)
    else:
        import pyarrow.parquet as pq

        pq.write_table(rows, stream)
    sys.stdout.flush()


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print `rows`, which have the same keys, as a table for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for name, value in (rows[0] if rows else {}).items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left", overflow="fold")
    for row in rows:
        # Text, not markup: a title such as "[red]" is printed as it is.
        table.add_row(*(Text("" if value is None else _cell(value)) for value in row.values()))
    console = Console()
    if not console.is_terminal:  # a file or a program has no width: each column is as wide as what is in it
        console = Console(width=_ENDLESS)
    with console.capture() as printed:  # rich would end the process if it cannot write
        console.print(table)
        console.print(f"{len(rows):,} row{'' if len(rows) == 1 else 's'}", highlight=False)
    sys.stdout.write(printed.get())
    sys.stdout.flush()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(_plain(value) if isinstance(value, bytes | timedelta) else value)


def _plain(value: object) -> Any:
    """What JSON has no type for, as text: bytes in hex, durations as ISO 8601 writes them."""
    return value.hex() if isinstance(value, bytes) else to_jsonable_python(value)


def _flat(rows: pa.Table) -> pa.Table:
    """What Arrow writes no CSV of (nested values, bytes, durations, decimals) becomes text; nested values, JSON."""
    import pyarrow as pa
    from pyarrow import types

    def is_written(kind: pa.DataType) -> bool:
        return any(
            is_one(kind)
            for is_one in (types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_string,
                           types.is_large_string, types.is_date, types.is_time, types.is_timestamp)
        )  # fmt: skip

    def text(value: Any) -> str:
        value = value if isinstance(value, list | dict) else _plain(value)
        return value if isinstance(value, str) else orjson.dumps(value, default=_plain).decode()

    for index, field in enumerate(rows.schema):
        if not is_written(field.type):
            texts = [None if value is None else text(value) for value in rows[index].to_pylist()]
            rows = rows.set_column(index, field.name, pa.array(texts, pa.string()))
    return rows
