from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from graphstore.store import GraphStore, open_store
from ingest.datasets import DataRoot


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    return DataRoot(str(tmp_path / "data"))


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"ladybug://{tmp_path}/graph.lbug"


@pytest.fixture
def store(store_url: str) -> Iterator[GraphStore]:
    with open_store(store_url) as store:
        yield store
