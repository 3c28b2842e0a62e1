"""Images per second of `embed`, against the bare model and against the loop that people write.

    .venv/bin/python -m benchmarks.embed [--device cuda] [--images 512] [--repeats 3]

An open_clip model with random weights (no hub is needed) embeds JPEGs that the benchmark makes. In turn, so that all
meet the same state of the machine:

- `bare model`: the image tower alone on tensors that are ready on the device, with the batch size, the threads and the
  precision of `embed`. This is the limit.
- `embed`: from stored files to published Parquet, the model being loaded.
- `DataLoader loop`: a `Dataset` that opens a file with PIL and applies open_clip's own transform, as many workers as
  cores, the model in fp32, the vectors kept in memory.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import describe_machine, print_json, print_table
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import IMAGE_SCHEMA, ITEM_SCHEMA
from ingest.encoders.checkpoint import DTYPES, load_encoder, publish_encoder
from ingest.encoders.embed import embed
from ingest.encoders.identity import Precision
from ingest.encoders.vectors import append_image_vectors, choose_device, choose_precision
from ingest.images.loading import image_paths

ENCODER = "benchmark"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--size", type=int, nargs=2, default=(500, 400), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--model", default="ViT-B-32", help="an architecture of open_clip")
    parser.add_argument("--device", help="default: a GPU if there is one")
    parser.add_argument("--precision", choices=["auto", *DTYPES], default="auto")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    device = choose_device(options.device)
    precision: Precision = choose_precision(device) if options.precision == "auto" else options.precision
    with TemporaryDirectory(prefix="graph2image-benchmark-") as folder:
        data = DataRoot(folder)
        write_images(data, options.images, *options.size)
        write_encoder(data, options.model)
        contenders = prepare(data, Path(folder), device, precision, options.batch_size)
        seconds, vectors = run_in_turn(contenders, options.repeats)
        started = time.perf_counter()
        embed(data, encoder=ENCODER, device=str(device), precision=precision, batch_size=options.batch_size)
        whole_call_s = time.perf_counter() - started

    limit = min(seconds["bare model"])
    rows = [
        {
            "what": name,
            "precision": "fp32" if name == "DataLoader loop" else precision,
            "images/s (best)": options.images / min(times),
            "images/s (median)": options.images / statistics.median(times),
            "of the bare model": limit / min(times),
        }
        for name, times in seconds.items()
    ]
    print_table(rows)
    print_json(
        {
            "benchmark": "embed",
            "machine": describe_machine(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": torch.get_num_threads(),
            "model": options.model,
            "images": options.images,
            "size": options.size,
            "batch_size": options.batch_size,
            "precision": precision,
            "seconds": {name: [round(value, 3) for value in times] for name, times in seconds.items()},
            "embed_of_bare": round(limit / min(seconds["embed"]), 3),
            "embed_of_loop": round(min(seconds["DataLoader loop"]) / min(seconds["embed"]), 3),
            "whole_call_s": round(whole_call_s, 2),
            "smallest_cosine_with_loop": round(float((vectors["embed"] * vectors["DataLoader loop"]).sum(1).min()), 5),
        }
    )


def write_images(data: DataRoot, count: int, width: int, height: int) -> None:
    """JPEGs with shapes at every scale, one item each."""
    rng = np.random.default_rng(0)
    images, items = [], []
    for index in range(count):
        pixels = np.zeros((height, width, 3))
        for detail in (4, 16, 64, 256):
            coarse = rng.integers(0, 256, (detail, detail, 3), np.uint8)
            pixels += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) / detail
        stream = io.BytesIO()
        Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
        image_hash = hashlib.sha256(stream.getvalue()).hexdigest()
        path = f"images/files/{image_hash[:2]}/{image_hash}.jpg"
        data.write_bytes(path, stream.getvalue())
        size = {"width": width, "height": height}
        images.append({"image_hash": image_hash, "path": path, "format": "JPEG", "perceptual_hash": "", **size})
        item = {"item_id": f"i:{index}", "label": "Item", "split": "test", "group_id": "", "opted_out": False}
        items.append({**item, "image_hash": image_hash})
    data.publish("images", [pa.Table.from_pylist(images, IMAGE_SCHEMA)], IMAGE_SCHEMA)
    data.publish("items/benchmark", [pa.Table.from_pylist(items, ITEM_SCHEMA)], ITEM_SCHEMA)


def write_encoder(data: DataRoot, architecture: str) -> None:
    """An open_clip model with random weights, published as an encoder."""
    torch.manual_seed(0)
    model = open_clip.create_model(architecture)
    preprocess = dict(open_clip.get_model_preprocess_cfg(model))
    config = {"model_cfg": open_clip.get_model_config(architecture), "preprocess_cfg": preprocess}
    publish_encoder(data, ENCODER, model, config, {"origin": "random"})


def prepare(
    data: DataRoot, folder: Path, device: torch.device, precision: Precision, batch_size: int
) -> dict[str, Callable[[int], Tensor]]:
    """The contenders: functions of the number of the repeat that return all vectors, in the order of the hashes."""
    paths = image_paths(data)
    hashes = sorted(paths)
    checkpoint = f"local-dir:{folder / 'encoders' / ENCODER}"
    bare, transform = open_clip.create_model_from_pretrained(checkpoint, precision=precision, device=device)
    plain, _ = open_clip.create_model_from_pretrained(checkpoint, device=device)
    bare.eval()
    plain.eval()
    encoder = load_encoder(data, ENCODER, device, precision)
    files = [data.path(paths[image_hash]) for image_hash in hashes]
    ready = torch.stack([transform(Image.open(file)) for file in files]).to(device, DTYPES[precision])
    batches = torch.split(ready, batch_size)
    loop = DataLoader(Files(files, transform), batch_size, num_workers=len(os.sched_getaffinity(0)))

    @torch.inference_mode()
    def bare_model(_: int) -> Tensor:
        return torch.cat([F.normalize(bare.encode_image(batch).float(), dim=1) for batch in batches])

    def our_embed(repeat: int) -> Tensor:
        name = f"embeddings/repeat-{repeat}"
        append_image_vectors(data, name, hashes, paths, encoder, batch_size)
        stored = data.read(name).sort_by("image_hash")["embedding"].combine_chunks()
        return torch.from_numpy(stored.flatten().to_numpy().reshape(len(stored), -1).copy())

    @torch.inference_mode()
    def dataloader_loop(_: int) -> Tensor:
        parts = []
        for batch in loop:
            features = plain.encode_image(batch.to(device))
            parts.append((features / features.norm(dim=-1, keepdim=True)).cpu())
        return torch.cat(parts)

    return {"bare model": bare_model, "embed": our_embed, "DataLoader loop": dataloader_loop}


class Files(Dataset[Tensor]):
    """Images by path, as most scripts have them."""

    def __init__(self, files: Sequence[str], transform: Callable[[Image.Image], Tensor]) -> None:
        self.files = files
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.open(self.files[index]))


def run_in_turn(
    contenders: dict[str, Callable[[int], Tensor]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each repeat, after one that is not counted, and the vectors."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    vectors = {}
    for repeat in range(repeats + 1):
        for name, contender in contenders.items():
            started = time.perf_counter()
            vectors[name] = contender(repeat).cpu()  # which waits for a GPU
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return seconds, vectors


if __name__ == "__main__":
    main()
