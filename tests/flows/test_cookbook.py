"""The queries of docs/cypher.md run, and find something, on what the demo leaves."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from flows.demo import DemoReport

COOKBOOK = Path(__file__).parents[2] / "docs" / "cypher.md"
QUERIES = re.findall(r"```cypher\n(.*?)```", COOKBOOK.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("query", QUERIES)
def test_query_of_the_cookbook(demo: DemoReport, graph2image: Callable[..., Result], query: str) -> None:
    result = graph2image("query", query, "--json", data=demo.data)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)


def test_a_query_cannot_write(demo: DemoReport, graph2image: Callable[..., Result]) -> None:
    result = graph2image("query", "MATCH (a:Artist) SET a.name = 'x'", data=demo.data)
    assert result.exit_code == 1
    assert "x" not in {
        row["name"]
        for row in json.loads(
            graph2image("query", "MATCH (a:Artist) RETURN a.name AS name", "--json", data=demo.data).stdout
        )
    }
