"""`graph2image query` on what the demo leaves."""

import json
from collections.abc import Callable

from typer.testing import Result

from flows.demo import DemoReport

NAMES = "MATCH (a:Artist) RETURN a.name AS name ORDER BY name"


def test_a_query_cannot_write(demo: DemoReport, graph2image: Callable[..., Result]) -> None:
    before = graph2image("query", NAMES, "--json", data=demo.data)
    assert len(json.loads(before.stdout)) > 1
    result = graph2image("query", "MATCH (a:Artist) SET a.name = 'x'", data=demo.data)
    assert result.exit_code == 1
    assert "only read the graph" in result.output
    assert graph2image("query", NAMES, "--json", data=demo.data).stdout == before.stdout
