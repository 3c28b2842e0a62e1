"""What an ingestion refuses before it reads anything, and one that brings nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.settings import Settings
from flows.stages import ingest
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from ingest.ingestion import Amazon, Table

SPEC = """
source = "{source}"
[table]
file = "{source}.csv"
[item]
label = "{label}"
id = "{{id}}"
title = "{{title}}"
[item.columns]
{columns}
[[entity]]
label = "{entity}"
relation = "{relation}"
value = "{{brand}}"
"""


def _ingest(folder: Path, source: str, rows: str = "1,Hat,Kiln,1900\n", **names: str) -> None:
    names = {"label": "Thing", "entity": "Brand", "relation": "BY_BRAND", "columns": 'year = "int"'} | names
    (folder / f"{source}.csv").write_text(f"id,title,brand,year\n{rows}")
    (folder / f"{source}.toml").write_text(SPEC.format(source=source, **names))
    ingest(Settings(data=str(folder / "data")), Table(spec=folder / f"{source}.toml", root=folder))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"entity": "brand"}, "label 'brand' cannot be told from the label 'Brand'"),
        ({"entity": "by_brand"}, "cannot be told from"),
        ({"entity": "Thing", "label": "Item"}, "'Thing' is given to items and to entities"),
        ({"label": "Brand", "entity": "Maker"}, "'Brand' is given to items and to entities"),
        ({"relation": "thing"}, "relation type 'thing' cannot be told from the label 'Thing'"),
        ({"label": "Model"}, "graph2image uses that name itself"),
        ({"columns": 'Year = { type = "int", column = "year" }'}, "'Year' cannot be told from"),
        ({"columns": 'year = "string"'}, "property Thing.year holds INT64"),
    ],
)
def test_names_that_the_graph_cannot_take(tmp_path: Path, names: dict[str, str], message: str) -> None:
    _ingest(tmp_path, "first")
    with pytest.raises(Graph2ImageError, match=message):
        _ingest(tmp_path, "second", **names)
    published = DataRoot(str(tmp_path / "data")).names()
    assert not any("second" in name for name in published)
    _ingest(tmp_path, "second")


def test_what_a_table_took_is_not_there_for_another_source(tmp_path: Path) -> None:
    _ingest(tmp_path, "first", entity="category")
    products = tmp_path / "meta.json"
    products.write_text('{"asin": "B01", "title": "Mug", "category": ["Home"]}\n')
    with pytest.raises(Graph2ImageError, match="'Category' cannot be told from the label 'category'"):
        ingest(Settings(data=str(tmp_path / "data")), Amazon(files=(str(products),)))
    assert "items/amazon" not in DataRoot(str(tmp_path / "data")).names()


def test_a_run_whose_every_row_is_rejected_fails(tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match=r"shop: every row was rejected \(bad_value 2\)"):
        _ingest(tmp_path, "shop", "1,Hat,Kiln,old\n2,Cap,Kiln,new\n")
    assert DataRoot(str(tmp_path / "data")).read("rejects/shop").num_rows == 2
    _ingest(tmp_path, "shop", "1,Hat,Kiln,1900\n2,Cap,Kiln,new\n")


def test_reviews_are_refused(tmp_path: Path) -> None:
    reviews = tmp_path / "Toys.json"
    reviews.write_text('{"reviewerID": "A1", "asin": "B01", "reviewText": "Good.", "overall": 5.0}\n')
    with pytest.raises(Graph2ImageError, match="holds Amazon reviews"):
        ingest(Settings(data=str(tmp_path / "data")), Amazon(files=(str(reviews),)))
    assert DataRoot(str(tmp_path / "data")).names() == []
