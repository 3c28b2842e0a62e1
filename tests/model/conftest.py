from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_data import TinyData, make_data
from tiny_models import STRUCTURES, image_encoder, pipeline

from model.pipeline import Graph2ImagePipeline


@pytest.fixture
def tiny(tmp_path: Path) -> TinyData:
    return make_data(tmp_path)


@pytest.fixture(scope="session")
def shared_tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """One for tests that only read it."""
    return make_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tiny models are slower on several threads, and the number of threads can change the last bits of a sum."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=STRUCTURES)
def any_pipe(request: pytest.FixtureRequest) -> Graph2ImagePipeline:
    return pipeline(request.param)


@pytest.fixture(scope="module")
def pipe() -> Graph2ImagePipeline:
    encoder, processor = image_encoder()
    return pipeline("sd15", image_encoder=encoder, feature_extractor=processor)
