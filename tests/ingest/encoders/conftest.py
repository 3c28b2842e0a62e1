from __future__ import annotations

from pathlib import Path

import pytest

from ingest.datasets.root import DataRoot


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    return DataRoot(str(tmp_path / "data"))
