"""An ingestion with images that is killed at any moment, and started again, ends as an undisturbed one does."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.settings import Settings
from flows.stages import ingest
from graphstore.connect import open_store
from ingest.datasets.root import DataRoot
from ingest.ingestion import Amazon
from ingest.sampledata import paint_amazon

POINTS = 20

#: Counts what is about to be renamed into place, and may kill itself, as kill -9 would, at the n-th.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from ingest.images import store as images
from ingest.ingestion import Amazon
from flows.settings import Settings
from flows.stages import ingest

folder, data, moment = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
renamed = 0
def hook(event, arguments):
    global renamed
    if event == "shutil.move":
        renamed += 1
        if renamed == moment:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
images.IMAGE_BATCH = 16
print("started", flush=True)
ingest(
    Settings(data=data),
    Amazon(files=(str(folder / "meta_Home_and_Kitchen.json.gz"),), images=folder / "images"),
)
print(renamed)
"""


def _command(folder: Path, data: Path, moment: int) -> list[str]:
    return [sys.executable, "-c", SCRIPT, str(folder), str(data), str(moment)]


def _contents(data: Path) -> dict[str, object]:
    """All rows in Parquet, the bytes of all images, and all of the graph."""
    root = DataRoot(str(data))
    found: dict[str, object] = {name: root.read(name) for name in root.names() if name not in ("images", "fetches")} | {
        name: root.snapshot(name) for name in root.names()
    }
    images = root.read("images", ["image_hash", "path", "width", "height", "format", "perceptual_hash"])
    found["images"] = sorted(map(str, images.to_pylist()))
    found["files"] = {path: root.read_bytes(path) for path in images["path"].to_pylist()}
    with open_store(Settings(data=str(data)).store_url, read_only=True) as store:
        found["schema"] = store.schema()
        found["version"] = store.version()
        for label in (*store.labels_of_kind("item"), *store.labels_of_kind("entity")):
            found[label] = store.read(f"MATCH (n:{label}) RETURN n.* ORDER BY n.id")
        for type_, start, end in store.relation_types():
            ends = f"MATCH (a:{start})-[r:{type_}]->(b:{end}) RETURN a.id AS a, b.id AS b"
            found[f"{type_} {start} {end}"] = sorted(map(str, store.read(ends).to_pylist()))
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    paint_amazon(folder, items=60, seed=3, workers=1)
    return folder


@pytest.mark.slow
def test_killed_at_twenty_moments(shop: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    quiet = subprocess.Popen(_command(shop, tmp_path / "quiet", 0), stdout=subprocess.PIPE, text=True)
    assert quiet.stdout
    assert quiet.stdout.readline() == "started\n"
    begun = time.monotonic()
    renamed = int(quiet.stdout.readline())
    seconds = time.monotonic() - begun
    assert quiet.wait() == 0
    assert renamed > 50
    assert begun > started
    expected = _contents(tmp_path / "quiet")

    again = Amazon(files=(str(shop / "meta_Home_and_Kitchen.json.gz"),), images=shop / "images")
    rng = random.Random(0)
    moments = sorted(rng.sample(range(1, renamed + 1), POINTS // 2))
    for number in range(POINTS):
        data = tmp_path / f"killed-{number}"
        moment = moments[number] if number < len(moments) else 0
        run = subprocess.Popen(_command(shop, data, moment), stdout=subprocess.PIPE, text=True)
        assert run.stdout
        assert run.stdout.readline() == "started\n"
        if not moment:  # at any time, then, also while the graph is loaded
            time.sleep(rng.uniform(0, seconds))
            run.kill()
        run.wait()
        assert run.returncode in (-signal.SIGKILL, 0)
        ingest(Settings(data=str(data)), again)
        assert _contents(data) == expected, (number, moment)
