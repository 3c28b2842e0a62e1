"""The generation stage: pictures for items, from their texts and neighbor sets, with a record of what went in.

Every picture is a function of the model, the request and the settings: its start noise is drawn from the seed and the
item's id, so variants of one item differ only in what they are conditioned on.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from tqdm.auto import tqdm

from ingest.datasets import GENERATED_SCHEMA, DataRoot, digest
from ingest.errors import Graph2ImageError
from model.dataset import read_embeddings
from model.pipeline import Graph2ImagePipeline
from model.storage import local_folder, quiet_libraries

logger = logging.getLogger(__name__)

#: Name of the PNG text chunk that holds a picture's record, as JSON.
PNG_KEY = "graph2image"


@dataclass(frozen=True)
class Neighbor:
    """A neighbor as a source of a picture: its item, its image, and its weight among the neighbors of its set."""

    item_id: str
    image_hash: str
    weight: float = 1.0


@dataclass(frozen=True)
class GenerationRequest:
    """One picture to make.

    Parameters
    ----------
    item_id
        The item that it is for.
    text
        The prompt.
    neighbor_sets
        Sets of neighbors, best first; none means text only.
    graph_guidance_scales
        Graph scale of each set; a set of scale 0 takes no part.
    variant
        A name for this combination, to compare pictures by.
    """

    item_id: str
    text: str
    neighbor_sets: tuple[tuple[Neighbor, ...], ...] = ()
    graph_guidance_scales: tuple[float, ...] = ()
    variant: str = ""


@dataclass(frozen=True)
class GenerationSettings:
    """What all pictures of a call share; `batch_size` decides memory and speed, not the pictures."""

    seed: int = 0
    guidance_scale: float = 2.0
    num_inference_steps: int = 20
    batch_size: int = 32


@dataclass(frozen=True)
class GenerateReport:
    """Ids of the requested pictures, in the order of the requests, and how many were new."""

    generated_ids: tuple[str, ...]
    new: int
    existing: int
    changed: bool


@dataclass(frozen=True)
class _Job:
    """A request without the sets of scale 0, and its picture's id."""

    generated_id: str
    request: GenerationRequest
    sets: tuple[tuple[Neighbor, ...], ...]
    scales: tuple[float, ...]


def generate(
    data: DataRoot, model_id: str, requests: Sequence[GenerationRequest], settings: GenerationSettings
) -> GenerateReport:
    """Make the pictures that are not there yet.

    Writes `generated/<model_id>/<generated_id>.png`, which carry their record, and rows of the `generated` dataset.
    A killed run keeps its finished batches.

    Raises
    ------
    Graph2ImageError
        If there is no such model, a neighbor has no embedding, or a request or setting makes no sense.
    """
    if not data.exists(f"models/{model_id}/model.json"):
        raise Graph2ImageError(
            f"there is no model {model_id!r} under {data.url}", "Run `graph2image train CONFIG` first."
        )
    if settings.num_inference_steps < 1 or settings.batch_size < 1:
        raise Graph2ImageError("the number of inference steps and the batch size must be at least 1")
    jobs = [_job(model_id, request, settings) for request in requests]
    done = set(data.read("generated", ["generated_id"], GENERATED_SCHEMA)["generated_id"].to_pylist())
    pending = {job.generated_id: job for job in jobs if job.generated_id not in done}
    if pending:
        _generate(data, model_id, list(pending.values()), settings)
    ids = tuple(job.generated_id for job in jobs)
    return GenerateReport(ids, len(pending), len(set(ids)) - len(pending), bool(pending))


def _job(model_id: str, request: GenerationRequest, settings: GenerationSettings) -> _Job:
    if len(request.neighbor_sets) != len(request.graph_guidance_scales):
        raise Graph2ImageError(
            f"item {request.item_id}: {len(request.neighbor_sets)} neighbor sets, "
            f"{len(request.graph_guidance_scales)} graph guidance scales"
        )
    used = [
        (neighbors, scale)
        for neighbors, scale in zip(request.neighbor_sets, request.graph_guidance_scales, strict=True)
        if scale != 0.0 and neighbors
    ]
    sets, scales = tuple(neighbors for neighbors, _ in used), tuple(scale for _, scale in used)
    generated_id = digest(
        model_id, request.item_id, request.text, request.variant, sets, scales, _shared_settings(settings)
    )
    return _Job(generated_id, request, sets, scales)


def _shared_settings(settings: GenerationSettings) -> dict[str, Any]:
    return {
        "seed": settings.seed,
        "guidance_scale": settings.guidance_scale,
        "num_inference_steps": settings.num_inference_steps,
    }


def _generate(data: DataRoot, model_id: str, jobs: list[_Job], settings: GenerationSettings) -> None:
    encoder = data.read_json(f"models/{model_id}/model.json")["encoder"]
    hashes = [neighbor.image_hash for job in jobs for neighbors in job.sets for neighbor in neighbors]
    rows, embeddings = read_embeddings(data, encoder, hashes)
    with local_folder(data, f"models/{model_id}") as folder, quiet_libraries():
        pipeline = Graph2ImagePipeline.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.to(memory_format=torch.channels_last)
    progress = tqdm(total=len(jobs), desc="generate", unit="picture", disable=None)
    for batch in _batches(jobs, settings.batch_size):
        sets = [_stack([job.sets[index] for job in batch], rows, embeddings) for index in range(len(batch[0].scales))]
        images = pipeline(
            prompt=[job.request.text for job in batch],
            neighbor_embeds=[embeds for embeds, _ in sets],
            neighbor_mask=[mask for _, mask in sets],
            graph_guidance_scale=batch[0].scales,
            guidance_scale=settings.guidance_scale,
            num_inference_steps=settings.num_inference_steps,
            generator=[_generator(settings.seed, job.request.item_id) for job in batch],
        ).images
        _publish(data, model_id, batch, images, settings)
        progress.update(len(batch))
    progress.close()
    logger.info("Generated %d pictures with %s", len(jobs), model_id)


def _batches(jobs: list[_Job], batch_size: int) -> Iterator[list[_Job]]:
    """Jobs that one pipeline call can make together: they have the same graph scales."""
    groups: dict[tuple[float, ...], list[_Job]] = {}
    for job in jobs:
        groups.setdefault(job.scales, []).append(job)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _stack(sets: list[tuple[Neighbor, ...]], rows: dict[str, int], embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """One neighbor set per job, padded: embeddings `(jobs, neighbors, dim)` and mask `(jobs, neighbors)`."""
    longest = max(len(neighbors) for neighbors in sets)
    embeds = torch.zeros(len(sets), longest, embeddings.shape[1])
    mask = torch.zeros(len(sets), longest, dtype=torch.bool)
    for index, neighbors in enumerate(sets):
        embeds[index, : len(neighbors)] = embeddings[[rows[neighbor.image_hash] for neighbor in neighbors]]
        mask[index, : len(neighbors)] = True
    return embeds, mask


def _generator(seed: int, item_id: str) -> torch.Generator:
    """Source of an item's start noise, the same in all its variants."""
    state = hashlib.sha256(f"{seed}:{item_id}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(state, "big") >> 1)


def _publish(
    data: DataRoot, model_id: str, batch: list[_Job], images: list[Image.Image], settings: GenerationSettings
) -> None:
    """Write the pictures, then their rows: a row means that its picture is there."""
    records = []
    for job, image in zip(batch, images, strict=True):
        path = f"generated/{model_id}/{job.generated_id}.png"
        record = {
            "generated_id": job.generated_id,
            "item_id": job.request.item_id,
            "model_id": model_id,
            "variant": job.request.variant,
            "seed": settings.seed,
            "settings": orjson.dumps(
                {**_shared_settings(settings), "text": job.request.text, "graph_guidance_scales": job.scales}
            ).decode(),
            # What a neighbor weighs: its share in its set, times the guidance scale of the set.
            "neighbors": [
                {"item_id": neighbor.item_id, "weight": neighbor.weight * scale, "rank": rank}
                for neighbors, scale in zip(job.sets, job.scales, strict=True)
                for rank, neighbor in enumerate(neighbors, start=1)
            ],
            "image_path": path,
        }
        info = PngInfo()
        info.add_itxt(PNG_KEY, orjson.dumps(record).decode())
        content = io.BytesIO()
        image.save(content, "png", pnginfo=info)
        data.write_bytes(path, content.getvalue())
        records.append(record)
    data.append("generated", pa.Table.from_pylist(records, GENERATED_SCHEMA), GENERATED_SCHEMA)
