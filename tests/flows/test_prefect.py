"""The flows in a real Prefect server: they run, show their task runs, and leave the counts as artifacts."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from flows.prepare import prepare
from flows.produce import produce
from ingest.ingestion import Table

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

SPEC = """
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


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 40 products by 4 brands, each brand of its own color."""
    root = tmp_path_factory.mktemp("shop")
    (root / "shop.toml").write_text(SPEC)
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


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


def test_prepare_then_produce(shop: Path, tiny_config: Path, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    ingestion = Table(spec=shop / "shop.toml", root=shop)
    digest = prepare(ingestion, data=data)
    assert (tmp_path / "data" / "neighbors" / digest / "_snapshot.json").exists()
    model_id = produce(tiny_config, limit=4, data=data)
    assert len(list((tmp_path / "data" / "generated" / model_id).glob("*.png"))) == 4

    with get_client(sync_client=True) as client:
        runs = {run.name.rsplit("-", 1)[0]: run for run in client.read_task_runs()}
        artifacts = {artifact.key for artifact in client.read_artifacts()}
    assert {"ingest", "embed", "sample", "train", "generate"} <= set(runs)
    assert all(run.state is not None and run.state.is_completed() for run in runs.values())
    assert {"ingest", "embed", "sample", "train", "generate"} <= artifacts

    assert prepare(ingestion, data=data) == digest
