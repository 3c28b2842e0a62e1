"""How long it takes to judge a thousand generated images, by the judge and by each extractor of features.

    .venv/bin/python -m benchmarks.judging [ROOT] [--images 1000] [--size 64] [--seed 0] [--extractor NAME …]

The images are those of a data root, by default of a synthetic gallery that is painted for it, at the size of a model's
images; each is compared with its original, text and five others of its split in place of neighbors. Times are processor
seconds (of all cores) and wall seconds, each of: training the judge; its figures; each extractor's features for the
first time, and again from the cache; FID and KID; the clustered bootstrap of all metrics. Without `--extractor` it is a
CLIP of the size of openai/clip-vit-base-patch32 with random weights, which takes as long as a trained one.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from benchmarks.harness import describe_machine, print_json, print_table
from benchmarks.judge import paint
from ingest.datasets.integrity import sha256
from ingest.datasets.items import item_texts, read_items
from ingest.datasets.root import DataRoot
from ingest.images.loading import load_squares
from model.evaluation.extractors import find_extractor
from model.evaluation.images import Row
from model.evaluation.judge import read_training_items, train_judge
from model.evaluation.roles import item_labels
from model.evaluation.statistics import cluster_halves, clustered_intervals
from model.evaluation.subjects import Item, Subjects
from model.evaluation.views import ExtractorView, JudgeView, View

NEIGHBORS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", help="data root with ingested images; default: a gallery that is painted")
    parser.add_argument("--images", type=int, default=1000, help="how many images to judge")
    parser.add_argument("--size", type=int, default=64, help="side of the generated images, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the painting")
    parser.add_argument("--extractor", nargs="*", default=[], help="CLIPs or DINOv2s, by folder or name on the hub")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = DataRoot(options.root) if options.root else paint(Path(folder), options.images + 20, options.seed)
        extractors = options.extractor or [str(save_random_clip(Path(folder) / "random-clip-vit-base-patch32"))]
        print_json(measure(data, options, extractors))


class Clock:
    """What was timed."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.rows.append(
            {
                "what": what,
                "wall s": round(time.perf_counter() - wall, 2),
                "processor s": round(time.process_time() - processor, 2),
            }
        )


def measure(data: DataRoot, options: argparse.Namespace, extractors: list[str]) -> dict[str, Any]:
    """Prints a table; returns the figures."""
    clock = Clock()
    subjects, rows = find(data, options.images, options.size, clock)
    assert subjects.judge is not None
    halves = cluster_halves([item.cluster for item in subjects.items])
    judge = subjects.judge
    views: list[tuple[str, Callable[[], View]]] = [("judge", lambda: JudgeView(data, subjects, judge))]
    for name in extractors:
        short = Path(name).name
        views.append((short, lambda name=name: ExtractorView(data, subjects, find_extractor(data, name))))  # type: ignore[misc]
        views.append((f"{short}, again", views[-1][1]))
    values = []
    for name, make in views:
        with clock(f"{name}: true images, texts and neighbors"):
            view = make()
        with clock(f"{name}: generated images"):
            found, features = view.values(rows)
        values.append(found)
        if not name.endswith("again"):
            with clock(f"{name}: FID and KID"):
                view.distances(features, halves)
    with clock("bootstrap of all metrics"):
        clustered_intervals(np.concatenate(values, axis=1), [item.cluster for item in subjects.items])
    print_table(clock.rows)
    return {
        "benchmark": "judging",
        "machine": describe_machine(),
        "images": len(rows),
        "size": options.size,
        "clusters": len({item.cluster for item in subjects.items}),
        "rows": clock.rows,
    }


def find(data: DataRoot, count: int, size: int, clock: Clock) -> tuple[Subjects, list[Row]]:
    """The items, and a row of a generated image for each: its own image at the size of a model's."""
    where = pc.field("image_hash").is_valid() & ~pc.field("opted_out")
    there = read_items(data, ["item_id", "image_hash", "group_id"], where=where).to_pylist()[:count]
    ids = [row["item_id"] for row in there]
    training = read_training_items(data)
    with clock("judge: trained"):
        judge = train_judge(data, training, size)
    if judge is None or "style" not in judge.questions:
        raise RuntimeError("these items have no label of entities that images tell and texts do not")
    entities, texts = item_labels(data, ids), item_texts(data, ids)
    style = entities[judge.questions["style"].label]
    squares = load_squares(data, [row["image_hash"] for row in there], size)
    items = tuple(
        Item(
            row["item_id"],
            row["image_hash"],
            row["group_id"],
            texts[row["item_id"]],
            style.get(row["item_id"], (row["group_id"],))[0],
            tuple(there[(index + step) % len(there)]["image_hash"] for step in range(1, NEIGHBORS + 1)),
        )
        for index, row in enumerate(there)
    )
    truth = {row["image_hash"]: pixels for row, pixels in zip(there, squares, strict=True)}
    return Subjects(items, {}, truth, "crop", judge, entities, {}, None, ()), [
        write_image(data, item.item_id, pixels) for item, pixels in zip(items, squares, strict=True)
    ]


def write_image(data: DataRoot, item_id: str, pixels: np.ndarray[Any, Any]) -> Row:
    """Write an image as `generate` would, a little darker than the original; returns what is read of its row."""
    content = io.BytesIO()
    Image.fromarray((pixels * 0.9).astype(np.uint8)).save(content, "png")
    digest = sha256(content.getvalue())
    path = f"generated/benchmark/{digest}.png"
    data.write_bytes(path, content.getvalue())
    return {"generated_id": item_id, "image_path": path, "image_sha256": digest}


def save_random_clip(folder: Path) -> Path:
    """A CLIP with the sizes of openai/clip-vit-base-patch32 and random weights."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    from model.networks.text_encoders import build_tokenizer

    CLIPModel(CLIPConfig()).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    build_tokenizer(77).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
