"""The queries of docs/cypher.md find something on the sample data, and the same on both stores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from sample_sources import ingest_samples, load_samples, publish_images_made

from graphstore.connect import open_store
from graphstore.lineage import opt_out, record_lineage
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot

COOKBOOK = (Path(__file__).parents[2] / "docs" / "cypher.md").read_text(encoding="utf-8")
#: What each query answers, and the query.
RECIPES = re.findall(r"^([^\n`|]+:)\n\n```cypher\n(.*?)```", COOKBOOK, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def stores(both_urls: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[GraphStore]]:
    """The sample data in both stores, with images made from it, and the works of an artist withdrawn since."""
    folder = tmp_path_factory.mktemp("samples")
    data = DataRoot(str(folder / "data"))
    ingest_samples(data, folder / "files", items=100)
    for number, url in enumerate(both_urls):
        with open_store(url) as store:
            version = load_samples(store, data)
            if number == 0:
                models = publish_images_made(data, version)
            record_lineage(store, data, models)
    # Afterwards: a store that is loaded from a data root with opt-outs has them from the first.
    for url in both_urls:
        with open_store(url) as store:
            used = store.read(
                "MATCH (:GeneratedImage)-[:CONDITIONED_ON]->(:Artwork)-[:CREATED_BY]->(a:Artist) RETURN min(a.id) AS id"
            )
            opt_out(store, data, used["id"][0].as_py(), models)
    opened = [open_store(url, read_only=True) for url in both_urls]
    yield opened
    for store in opened:
        store.close()


def test_every_query_says_what_it_answers() -> None:
    assert len(RECIPES) == COOKBOOK.count("```cypher") >= 22


@pytest.mark.parametrize("query", [pytest.param(query, id=question[:-1]) for question, query in RECIPES])
def test_both_stores_give_the_same_answer(stores: list[GraphStore], query: str) -> None:
    embedded, server = (store.query(query) for store in stores)
    assert embedded.schema.equals(server.schema)
    assert embedded.num_rows
    if "ORDER BY" in query:
        assert embedded.to_pylist() == server.to_pylist()
    else:
        assert _sorted(embedded) == _sorted(server)


def _sorted(table: pa.Table) -> list[dict[str, object]]:
    return table.sort_by([(name, "ascending") for name in table.column_names]).to_pylist()


def test_whole_nodes_have_the_same_properties(stores: list[GraphStore]) -> None:
    query = "MATCH (s:LoadedSource) RETURN s ORDER BY s.id"
    embedded, server = (
        [{name: value for name, value in row.items() if name not in ("_ID", "loaded_at")} for row in rows]
        for rows in (store.query(query)["s"].to_pylist() for store in stores)
    )
    assert embedded == server


def test_nulls_come_last_and_capitals_first(stores: list[GraphStore]) -> None:
    for store in stores:
        query = "UNWIND $texts AS text RETURN text ORDER BY text"
        texts = ["é", None, "z", "畫", "Z", "a"]
        answer = store.query(query, {"texts": texts})["text"].to_pylist()
        assert answer == ["Z", "a", "z", "é", "畫", None]
