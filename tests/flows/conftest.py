"""What tests of several commands start from: one small run of the demo, and a tiny random model on a loaded graph."""

import csv
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from flows.cli.app import app
from flows.demo import DemoReport, run_demo
from flows.settings import Settings
from graphstore.loading.load import load_source
from ingest.datasets.root import DataRoot, text_hash
from ingest.datasets.schemas import (
    ENTITY_NAME_SCHEMA,
    ENTITY_SCHEMA,
    ITEM_SCHEMA,
    NEIGHBOR_SCHEMA,
    RELATION_SCHEMA,
    embedding_schema,
)
from ingest.encoders import embed
from ingest.encoders.mini_config import MiniClipConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from published import publish_model
from tiny_data import DIM, ENCODER, NEIGHBORS, TinyData, make_data

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
    tiny = make_data(tmp_path_factory.mktemp("tiny"))
    data = tiny.root
    rows = data.read("items/toy").to_pylist()
    lonely = {"label": "Thing", "split": "test", "opted_out": False}
    alone, silent = "toy:alone", "toy:silent"
    rows += [{"item_id": alone, "text": "a thing apart", "group_id": alone} | lonely]
    rows += [{"item_id": silent, "text": None, "group_id": silent} | lonely]
    data.publish("items/toy", [pa.Table.from_pylist(rows, ITEM_SCHEMA)], ITEM_SCHEMA)
    maker = {"entity_id": "toy/Maker/one", "label": "Maker", "name": "one"}
    data.publish("entities/toy", [pa.Table.from_pylist([maker], ENTITY_SCHEMA)], ENTITY_SCHEMA)
    name = maker | {"references": len(tiny.item_ids), "declarations": 1}
    data.publish("entity-names/toy", [pa.Table.from_pylist([name], ENTITY_NAME_SCHEMA)], ENTITY_NAME_SCHEMA)
    made = [{"type": "MADE_BY", "from_id": i, "to_id": "toy/Maker/one", "weight": 1.0} for i in tiny.item_ids]
    data.publish("relations/toy", [pa.Table.from_pylist(made, RELATION_SCHEMA)], RELATION_SCHEMA)
    texts = sorted({row["text"] or "" for row in rows})
    vectors = np.random.default_rng(1).normal(size=(len(texts), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    schema = embedding_schema("text_hash", DIM)
    table = pa.table([[text_hash(text) for text in texts], list(vectors)], schema=schema)
    data.append(f"text-embeddings/{ENCODER}", table, schema)
    sampled = [row for row in data.read(f"neighbors/{NEIGHBORS}").to_pylist() if row["item_id"] != "toy:18"]
    table = pa.Table.from_pylist(sampled, NEIGHBOR_SCHEMA)
    data.publish(f"neighbors/{NEIGHBORS}", [table], NEIGHBOR_SCHEMA, {"encoder": ENCODER})
    with Settings(data=data.url).open_store() as store:
        load_source(store, data, "toy")
    publish_model(tiny, sampler={"encoder": ENCODER, "mode": "ppr", "k": 3, "pool": 3})
    return tiny


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
