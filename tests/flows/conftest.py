"""What tests of several commands start from: one small run of the demo, and a tiny random model on a loaded graph."""

import csv
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from flows.cli.app import app
from flows.demo import DemoReport, run_demo
from ingest.datasets.root import DataRoot
from ingest.encoders import embed
from ingest.encoders.mini_config import MiniClipConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from tiny_data import TinyData
from tiny_graph import load_tiny

SHOP_SPEC = """
source = "shop"
[table]
file = "shop.csv"
[image]
folder = "."
path = "{id}.png"
[item]
label = "Product"
id = "{id}"
title = "{title}"
[[entity]]
label = "Brand"
relation = "BY_BRAND"
value = "{brand}"
[split]
column = "split"
"""

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


@pytest.fixture(scope="module")
def shared_tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """A data root, loaded into a graph: all items but two are related to one entity. For tests that change nothing."""
    return load_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(shared_tiny: TinyData, tmp_path: Path) -> TinyData:
    """A copy of the same, to change."""
    shutil.copytree(shared_tiny.root.path(), tmp_path / "data")
    return replace(shared_tiny, root=DataRoot(str(tmp_path / "data")))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 40 products by 4 brands, each brand of its own color."""
    root = tmp_path_factory.mktemp("shop")
    (root / "shop.toml").write_text(SHOP_SPEC)
    with (root / "shop.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "title", "brand", "split"])
        for index in range(40):
            brand, kind = index % 4, ("cup", "plate", "bowl")[index % 3]
            table.writerow([index, f"A {kind}", f"brand {brand}", "test" if index >= 36 else "train"])
            picture = Image.effect_noise((48, 48), 40 + index).convert("RGB")
            tint = Image.new("RGB", picture.size, ("red", "green", "blue", "gold")[brand])
            Image.blend(picture, tint, 0.5).save(root / f"{index}.png")
    return root


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness  # seconds, which other tests need not wait for

    with prefect_test_harness(server_startup_timeout=600):
        yield
