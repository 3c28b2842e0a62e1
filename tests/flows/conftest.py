"""One small run of the demo, shared by the tests that look at what comes out of it."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli.app import app
from flows.demo import DemoReport, run_demo
from ingest.encoders import embed
from ingest.encoders.mini_config import MiniClipConfig

#: Every part of the main job, each as small as it can be.
TINY = """
preset = "mini"
image_size = 32
[autoencoder]
channels = 16
blocks = 1
steps = 8
[unet]
block_out_channels = [32, 32]
attention_heads = 1
[optimization]
steps = 8
warmup_steps = 2
checkpoint_every = 4
"""


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training configuration that takes seconds."""
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(autouse=True, scope="session")
def _quickly_trained() -> Iterator[None]:
    """The mini encoder need not be a good one here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "MiniClipConfig", partial(MiniClipConfig, base_steps=5))
        yield


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="session")
def demo(demo_folder: Path, tiny_config: Path) -> DemoReport:
    """The demo on a gallery of 160 works."""
    return run_demo(demo_folder, items=160, config=tiny_config)


@pytest.fixture(scope="session")
def graph2image() -> Iterator[Callable[..., Result]]:
    """Call the command line in this process: `graph2image("status", data=…)`."""

    def call(*arguments: str, data: str | Path) -> Result:
        try:
            return CliRunner().invoke(app, [*arguments, "--data", str(data)])
        finally:
            # A command logs to the standard error of its call, which is closed by now.
            logging.basicConfig(force=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GRAPH2IMAGE_DATA", raising=False)
        patch.delenv("GRAPH2IMAGE_STORE", raising=False)
        yield call
