"""What `query` prints: every type in every format, and no value lost on the way."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import Result

from graphstore.connect import open_store

Command = Callable[..., Result]

TYPES = (
    "RETURN CAST('2020-01-31' AS DATE) AS day, interval('1 day 2 hours') AS span, blob('\\\\x00\\\\xFF') AS bytes, "
    "CAST(9 AS INT128) AS large, uuid('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11') AS id, NULL AS nothing, [1, NULL] AS list"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    open_store(f"ladybug://{tmp_path}/graph.lbug").close()
    return tmp_path


def test_no_type_is_shown_as_python_writes_it(root: Path, graph2image: Command) -> None:
    outputs = {name: graph2image("query", TYPES, "--format", name, data=root) for name in ("json", "csv", "table")}
    assert {result.exit_code for result in outputs.values()} == {0}, outputs
    [row] = json.loads(outputs["json"].stdout)
    assert row == {
        "day": "2020-01-31",
        "span": "P1DT2H",
        "bytes": "00ff",
        "large": "9",
        "id": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "nothing": None,
        "list": [1, None],
    }
    [read] = csv.DictReader(io.StringIO(outputs["csv"].stdout))
    assert {**read, "nothing": None, "list": json.loads(read["list"])} == row
    for text in ("2020-01-31", "P1DT2H", "00ff"):
        assert text in outputs["table"].stdout


def test_parquet_takes_every_type(root: Path, graph2image: Command) -> None:
    result = graph2image("query", TYPES, "--format", "parquet", data=root)
    assert result.exit_code == 0, result.output
    assert pq.read_table(io.BytesIO(result.stdout_bytes)).num_rows == 1


@pytest.mark.parametrize("output", ["json", "csv", "table", "parquet"])
def test_two_columns_of_one_name_are_refused(root: Path, graph2image: Command, output: str) -> None:
    result = graph2image("query", "RETURN 1 AS x, 2 AS x", "--format", output, data=root)
    assert result.exit_code == 1
    assert "two columns named 'x'" in result.output
