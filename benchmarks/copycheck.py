"""How many copies the copy check flags, and how many images that are none, at its default thresholds.

    .venv/bin/python -m benchmarks.copycheck ROOT [--images 300] [--size 64] [--similarity 0.99] [--bits 16]

`ROOT` is a data root with images that are embedded. Copies are training images at the size that a model makes, as
they are or changed; images that are none are those of held-out items, of which near-duplicates of training images
are no part (`ingest.splits` keeps them in one split).
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageFilter, ImageOps

from benchmarks.harness import describe_machine, print_json, print_table
from flows.stages import newest
from ingest.datasets.root import DataRoot
from ingest.images.loading import image_paths, load_images, square
from model.generation.copycheck import CopyCheck
from model.generation.requests import COPY_THRESHOLDS, CopyThresholds

Change = Callable[[Image.Image], Image.Image]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--images", type=int, default=300, help="of each kind, at most")
    parser.add_argument("--size", type=int, default=64, help="in pixels, of the copies")
    parser.add_argument("--encoder", help="default: the newest")
    parser.add_argument("--similarity", type=float, default=COPY_THRESHOLDS.similarity)
    parser.add_argument("--bits", type=int, default=COPY_THRESHOLDS.bits)
    options = parser.parse_args()

    data = DataRoot(options.root)
    encoder = options.encoder or newest(data, "encoders")
    thresholds = CopyThresholds(options.similarity, options.bits)
    check = CopyCheck(data, encoder, [], thresholds)
    rng = np.random.default_rng(0)
    training, held_out = (sample(data, kind, options.images, rng) for kind in ("train", "test"))

    def noise(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image, float)
        return Image.fromarray((pixels + rng.normal(0, 12, pixels.shape)).clip(0, 255).astype(np.uint8))

    margin = max(1, options.size // 32)
    inside = (margin, margin, options.size - margin, options.size - margin)
    changes: dict[str, tuple[list[str], Change]] = {
        "no copies: held-out images": (held_out, lambda image: image),
        "copies": (training, lambda image: image),
        "copies, blurred": (training, lambda image: image.filter(ImageFilter.GaussianBlur(options.size / 64))),
        "copies, noisy": (training, noise),
        "copies, as JPEG of quality 60": (training, as_jpeg),
        "copies, colors exchanged": (training, lambda p: Image.fromarray(np.asarray(p)[:, :, [1, 2, 0]])),
        "copies, 1/16 cut off": (training, lambda p: p.crop(inside).resize(p.size)),
        "copies, mirrored": (training, ImageOps.mirror),
    }
    rows = []
    for kind, (hashes, change) in changes.items():
        images = [change(image) for image in read(data, hashes, options.size)]
        scores = check.score(images, [[] for _ in images])
        similarity = [score.training_similarity for score in scores if score.training_similarity is not None]
        bits = [score.training_bits for score in scores if score.training_bits is not None]
        rows.append(
            {
                "images": kind,
                "n": len(scores),
                "flagged": sum(score.flagged for score in scores) / len(scores),
                "by similarity": sum(value >= thresholds.similarity for value in similarity) / len(scores),
                "by bits": sum(value <= thresholds.bits for value in bits) / len(scores),
                "median similarity": float(np.median(similarity)),
                "median bits": float(np.median(bits)),
            }
        )
    print_table(rows)
    print_json(
        {
            "benchmark": "copycheck",
            "machine": describe_machine(),
            "encoder": encoder,
            "size": options.size,
            "similarity": thresholds.similarity,
            "bits": thresholds.bits,
            "rows": rows,
        }
    )


def sample(data: DataRoot, split: str, count: int, rng: np.random.Generator) -> list[str]:
    """Hashes of some of a split's images."""
    of_split = (pc.field("split") == split) & pc.field("image_hash").is_valid()
    tables = [data.dataset(name).to_table(["image_hash"], filter=of_split) for name in data.names("items")]
    hashes = sorted(set(pa.concat_tables(tables)["image_hash"].to_pylist()))
    return [str(name) for name in rng.permutation(hashes)[:count]]


def read(data: DataRoot, hashes: list[str], size: int) -> list[Image.Image]:
    return list(load_images(data, image_paths(data), hashes, lambda image: square(image, size)))


def as_jpeg(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "jpeg", quality=60)
    return Image.open(content)


if __name__ == "__main__":
    main()
