"""Whether the judge of images calls an image wrong that has lost its texture, and how it judges copies.

    .venv/bin/python -m benchmarks.judge [ROOT] [--items 600] [--seed 0] [--autoencoder FOLDER]

The judge (`model.evaluation.judge`) is trained on the training split of a data root, by default a synthetic gallery
of `--items` works that is painted for it. It is asked for style and subject of true images of the other splits: as they
are, and reduced, blurred, noisy, compressed, or passed through an autoencoder (TAEF2's weight files, or a folder in
diffusers' layout). Beside it stands a judge of the same kind that sees colors only, which is what a small network
learns first. The last rows are training images: by the classifiers that have not seen them, as evaluation judges them,
and by others that have.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.compute as pc
from PIL import Image, ImageFilter

from benchmarks.harness import describe_machine, print_json, print_table
from ingest.datasets.items import item_texts, read_items
from ingest.datasets.root import DataRoot
from ingest.images.loading import load_squares
from model.evaluation.descriptors import COLORS, describe
from model.evaluation.judge import Judge, TrainingItems, read_training_items, train_judge
from model.evaluation.linear import FOLDS, CrossFitted, Indices, Matrix
from model.evaluation.palette import Pixels
from model.evaluation.references import decoded
from model.evaluation.roles import Entities, Role, item_labels, tell

Change = Callable[[Image.Image], Image.Image]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", help="data root with ingested images; default: a gallery that is painted")
    parser.add_argument("--items", type=int, default=600, help="works to paint")
    parser.add_argument("--seed", type=int, default=0, help="of the painting")
    parser.add_argument("--size", type=int, default=64, help="in pixels, at which images are judged")
    parser.add_argument("--autoencoder", type=Path, help="folder of an autoencoder to pass the images through")
    options = parser.parse_args()
    if options.root:
        print_json(measure(DataRoot(options.root), options))
        return
    with tempfile.TemporaryDirectory() as folder:
        print_json(measure(paint(Path(folder), options.items, options.seed), options))


def paint(folder: Path, items: int, seed: int) -> DataRoot:
    """A data root with the works of a synthetic gallery."""
    from flows import stages
    from flows.settings import Settings
    from ingest.ingestion import Art500k
    from ingest.sampledata import paint_art500k

    gallery = folder / "gallery"
    paint_art500k(gallery, items=items, seed=seed)
    settings = Settings(data=str(folder / "data"), store=f"ladybug://{folder / 'data' / 'graph.lbug'}")
    stages.ingest(settings, Art500k(files=(str(gallery / "label_list.csv"),), images=gallery))
    return settings.data_root


def measure(data: DataRoot, options: argparse.Namespace) -> dict[str, Any]:
    """Prints a table; returns the figures."""
    items = read_training_items(data)
    judge = train_judge(data, items, options.size)
    if judge is None or len(judge.questions) < 2:
        raise RuntimeError("these items have no two labels of entities that images tell apart")
    held_out = held_out_items(data)
    squares = load_squares(data, list(held_out.image_hashes), options.size)
    training = load_squares(data, list(items.image_hashes), options.size)
    started = time.process_time()
    described = describe(training)
    seconds = time.process_time() - started
    by_color = color_judge(data, items, judge, described[:, -COLORS:])
    rows = []
    for name, change in changes(options.size, options.autoencoder).items():
        changed = describe(change(squares))
        seen = see(judge, judge.classifiers, changed, held_out.folds)
        colors = see(judge, by_color, changed[:, -COLORS:], held_out.folds)
        figures = right(judge, held_out, seen)
        alone = {f"{what}, by color": value for what, value in right(judge, held_out, colors).items()}
        rows.append({"images": name, **figures, **alone})
    for name, shift in (("training images, not seen", 0), ("training images, seen in training", 1)):
        seen = see(judge, judge.classifiers, described, (items.folds + shift) % FOLDS)
        rows.append({"images": name, **right(judge, items, seen)})
    print(*(f"{role}: {q.label}, {len(q.classes)} classes" for role, q in judge.questions.items()), sep="; ")
    print_table(rows)
    return {
        "benchmark": "judge",
        "machine": describe_machine(),
        "size": options.size,
        "training_images": len(items.item_ids),
        "held_out_images": len(held_out.item_ids),
        "describing_cpu_ms_per_image": round(1000 * seconds / len(training), 2),
        "labels": {role: question.label for role, question in judge.questions.items()},
        "rows": rows,
    }


def held_out_items(data: DataRoot) -> TrainingItems:
    """The items of the other splits that have an image."""
    wanted = (pc.field("split") != "train") & pc.field("image_hash").is_valid() & ~pc.field("opted_out")
    rows = read_items(data, ["item_id", "image_hash", "group_id"], where=wanted).to_pylist()
    columns = (tuple(row[name] for row in rows) for name in ("item_id", "image_hash", "group_id"))
    item_ids, hashes, groups = columns
    return TrainingItems(item_ids, hashes, groups, item_labels(data, item_ids))


def color_judge(data: DataRoot, items: TrainingItems, judge: Judge, colors: Matrix) -> dict[Role, CrossFitted]:
    """Classifiers of the judge's own questions that see colors only."""
    texts = item_texts(data, items.item_ids)
    entities: Entities = {question.label: items.entities[question.label] for question in judge.questions.values()}
    told = tell(items.item_ids, entities, [texts[item] for item in items.item_ids], colors, items.folds)
    by_label = {one.label: one.by_image for one in told}
    return {role: by_label[question.label] for role, question in judge.questions.items()}


def see(
    judge: Judge, classifiers: Mapping[Role, CrossFitted], described: Matrix, folds: Indices
) -> dict[Role, list[str]]:
    """By role, the entity that is seen in each image by the classifiers of its fold."""
    return {
        role: [question.classes[index] for index in classifiers[role].predict(described, folds)]
        for role, question in judge.questions.items()
    }


def right(judge: Judge, items: TrainingItems, seen: Mapping[Role, Sequence[str]]) -> dict[str, float]:
    """How often style, subject and both are right, of the items that have classes of both."""
    columns = []
    known = np.ones(len(items.item_ids), bool)
    for role, question in judge.questions.items():
        own = [{*items.entities[question.label].get(item, ())} for item in items.item_ids]
        known &= [not one.isdisjoint(question.classes) for one in own]
        columns.append([entity in one for entity, one in zip(seen[role], own, strict=True)])
    style, subject = (np.array(column)[known] for column in columns)
    return {"style": float(style.mean()), "subject": float(subject.mean()), "both": float((style & subject).mean())}


def changes(size: int, autoencoder: Path | None) -> dict[str, Callable[[Pixels], Pixels]]:
    """What is done to the images, by name."""

    def each(change: Change) -> Callable[[Pixels], Pixels]:
        return lambda pixels: np.stack([np.asarray(change(Image.fromarray(image))) for image in pixels])

    def reduced(side: int) -> Callable[[Pixels], Pixels]:
        return each(
            lambda image: image.resize((side, side), Image.Resampling.LANCZOS).resize(
                image.size, Image.Resampling.BICUBIC
            )
        )

    def noisy(pixels: Pixels) -> Pixels:
        noise = np.random.default_rng(0).normal(0, 8, pixels.shape)
        return (pixels + noise).round().clip(0, 255).astype(np.uint8)

    found = {
        "as they are": each(lambda image: image),
        f"reduced to {size // 2} pixels and back": reduced(size // 2),
        f"reduced to {size // 4} pixels and back": reduced(size // 4),
        f"blurred, by {size / 64:g} pixels": each(lambda image: image.filter(ImageFilter.GaussianBlur(size / 64))),
        f"blurred, by {size / 21:.0f} pixels": each(lambda image: image.filter(ImageFilter.GaussianBlur(size / 21))),
        "with noise of 8 levels": noisy,
        "as JPEG of quality 50": each(as_jpeg),
    }
    if autoencoder is not None:
        vae = load(autoencoder)
        found[f"through {autoencoder.name}"] = lambda pixels: decoded(vae, pixels)
    return found


def load(folder: Path) -> Any:
    """An autoencoder from TAEF2's weight files or a folder in diffusers' layout."""
    from model.networks.autoencoder import AUTOENCODERS
    from model.networks.taef2 import ENCODER_FILE, TAEF2

    if (folder / ENCODER_FILE).exists():
        return TAEF2.from_weight_files(folder).eval()
    name = orjson.loads((folder / "config.json").read_bytes())["_class_name"]
    return AUTOENCODERS[name].from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False).eval()


def as_jpeg(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "jpeg", quality=50)
    return Image.open(content).convert("RGB")


if __name__ == "__main__":
    main()
