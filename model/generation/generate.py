"""The generation stage: images for items, from their texts and neighbor sets, with a record of what went in.

Every image is a function of the model, the request and the settings: its start noise is drawn from the seed and the
item's id, so variants of one item differ only in what they are conditioned on. In fp32 the batch that an image is made
in changes its pixels by rounding at most (one of 255 levels).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import diffusers
import orjson
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ingest.datasets.integrity import sha256
from ingest.datasets.items import among
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import GENERATED_SCHEMA
from ingest.datasets.vectors import image_vectors, missing_embeddings
from ingest.encoders.checkpoint import DTYPES
from ingest.encoders.vectors import choose_device, choose_precision
from ingest.errors import Graph2ImageError
from ingest.images.loading import load_squares
from model.generation.copycheck import CopyCheck, CopyScores
from model.generation.png import encode_image
from model.generation.requests import SCHEDULERS, GenerationRequest, GenerationSettings, Job, make_job
from model.generation.watermark import add_watermark, check_watermark
from model.neighbor_sets import pad
from model.neighbors import Neighbor
from model.pipeline import Graph2ImagePipeline
from model.record import ModelRecord, read_model_record
from model.storage import local_folder, quiet_libraries

logger = logging.getLogger(__name__)

#: Neighbors' images whose detail is computed at a time.
_IMAGES_AT_A_TIME = 256

#: Gives a published model, ready to sample with some settings.
PipelineLoader: TypeAlias = Callable[[DataRoot, str, GenerationSettings], Graph2ImagePipeline]


@dataclass(frozen=True)
class GenerateReport:
    """What became of the requests.

    Attributes
    ----------
    generated_ids
        Of the requested images, in the order of the requests.
    new, existing
        How many were made by this call, and by earlier ones.
    checked
        How many of them the copy check has seen.
    flagged
        Those of them that it takes for copies.
    unmarked
        How many of the new ones have a watermark that cannot be read back.
    """

    generated_ids: tuple[str, ...]
    new: int
    existing: int
    checked: int
    flagged: tuple[str, ...]
    unmarked: int
    changed: bool


@dataclass(frozen=True)
class Step:
    """How far the batch is that is being made.

    Attributes
    ----------
    first, images
        Which of the images to make is the first of the batch, counted from 0; and how many there are to make in all.
    number, steps
        The denoising step that has ended, counted from 1, of so many.
    preview
        Decodes the batch's images as they are.
    """

    first: int
    images: int
    number: int
    steps: int
    preview: Callable[[], list[Image.Image]]


def generate(
    data: DataRoot,
    model_id: str,
    requests: Sequence[GenerationRequest],
    settings: GenerationSettings,
    *,
    on_step: Callable[[Step], None] | None = None,
    load: PipelineLoader | None = None,
) -> GenerateReport:
    """Make the images that are not there yet.

    Writes `generated/<model_id>/<generated_id>.png`, which carry their record, and rows of the `generated` dataset.
    A killed run keeps its finished batches.

    Parameters
    ----------
    on_step
        Called after each denoising step. What it raises ends the call, which keeps its finished batches.
    load
        Gives the pipeline, by default `load_pipeline`; a `LoadedPipeline` keeps it for the next call.

    Raises
    ------
    Graph2ImageError
        If there is no such model, a neighbor has no embedding, a request or setting makes no sense, or a batch does not
        fit into the device's memory.
    """
    record = read_model_record(data, model_id)
    settings.check()
    if settings.precision == "auto":
        settings = replace(settings, precision=choose_precision(choose_device(settings.device)))
    if settings.watermark is not None:
        check_watermark(settings.watermark)
    jobs = [make_job(model_id, request, settings, record.neighbor_use) for request in requests]
    ids = tuple(job.generated_id for job in jobs)
    done = {row["generated_id"] for row in _made(data, ids) if data.exists(row["image_path"])}
    pending = {job.generated_id: job for job in jobs if job.generated_id not in done}
    unmarked = 0
    if pending:
        unmarked = _Run(data, record, list(pending.values()), settings, load or load_pipeline).make(on_step)
    scores = {row["generated_id"]: row["scores"] for row in _made(data, ids) if row["scores"]}
    return GenerateReport(
        ids,
        len(pending),
        len(set(ids)) - len(pending),
        len(scores),
        tuple(name for name in dict.fromkeys(ids) if name in scores and scores[name]["flagged"]),
        unmarked,
        bool(pending),
    )


def _made(data: DataRoot, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Ids, files and scores of those of the images that were made before."""
    columns = ["generated_id", "image_path", "scores"]
    table = data.dataset("generated", GENERATED_SCHEMA).to_table(columns, filter=among("generated_id", ids))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


class _Run:
    """Images that are to be made, with all that they are made from in memory."""

    def __init__(
        self,
        data: DataRoot,
        record: ModelRecord,
        jobs: list[Job],
        settings: GenerationSettings,
        load: PipelineLoader,
    ) -> None:
        self._data, self._model_id, self._jobs, self._settings = data, record.model_id, jobs, settings
        self._use = use = record.neighbor_use
        neighbors = [neighbor for job in jobs for neighbors in job.sets for neighbor in neighbors]
        images = list(dict.fromkeys(neighbor.image_hash for neighbor in neighbors if neighbor.image_hash))
        self._rows = {image_hash: row for row, image_hash in enumerate(images)}
        if use.images:
            self._embeddings = _embeddings(data, record.encoder, images)
        self._pipeline = load(data, record.model_id, settings)
        self._detail = _detail(data, self._pipeline, images)
        texts = list(dict.fromkeys(neighbor.text for neighbor in neighbors)) if use.texts else []
        self._texts = dict(zip(texts, self._pipeline.encode_prompt(texts).summary.cpu(), strict=True)) if texts else {}
        self._check = None
        if settings.copy_check is not None:
            self._check = CopyCheck(data, record.encoder, images, settings.copy_check, settings.device)

    def make(self, on_step: Callable[[Step], None] | None) -> int:
        """Make and publish all, batch by batch; returns how many watermarks cannot be read back."""
        unmarked, made = 0, 0
        with tqdm(total=len(self._jobs), desc="generate", unit="image", disable=None) as progress:
            for batch in _batches(self._jobs, self._settings.batch_size):
                images = self._call(batch, self._step_callback(made, on_step))
                if self._settings.watermark is not None:
                    marked = [add_watermark(image, self._settings.watermark) for image in images]
                    images = [image for image, _ in marked]
                    unmarked += sum(not readable for _, readable in marked)
                self._publish(batch, images)
                progress.update(len(batch))
                made += len(batch)
        logger.info("Generated %d images with %s", len(self._jobs), self._model_id)
        return unmarked

    def _step_callback(
        self, first: int, on_step: Callable[[Step], None] | None
    ) -> Callable[[Any, int, int, dict[str, Any]], dict[str, Any]] | None:
        if on_step is None:
            return None

        def report(pipeline: Graph2ImagePipeline, index: int, _: int, tensors: dict[str, Any]) -> dict[str, Any]:
            steps = len(pipeline.scheduler.timesteps)
            on_step(Step(first, len(self._jobs), index + 1, steps, lambda: pipeline.decode(tensors["latents"])))
            return tensors

        return report

    def _call(self, batch: list[Job], callback: Any) -> list[Image.Image]:
        settings = self._settings
        sets = [self._conditions([job.sets[index] for job in batch]) for index in range(len(batch[0].scales))]
        conditions: dict[str, Any] = {name: [arguments[name] for arguments in sets] for name in (sets or [{}])[0]}
        try:
            images: list[Image.Image]
            (images,) = self._pipeline(
                prompt=[job.request.text for job in batch],
                **conditions,
                graph_guidance_scale=batch[0].scales,
                guidance_scale=settings.guidance_scale,
                negative_prompt=settings.negative_prompt,
                guidance_interval=settings.guidance_interval,
                guidance_rescale=settings.guidance_rescale,
                height=settings.height,
                width=settings.width,
                num_inference_steps=settings.num_inference_steps,
                generator=[_generator(settings.seed, job.request.item_id) for job in batch],
                return_dict=False,
                callback_on_step_end=callback,
            )
        except torch.OutOfMemoryError as error:
            raise Graph2ImageError(
                f"a batch of {len(batch)} images does not fit into the memory of the GPU",
                "Use a smaller --batch-size, or --precision bf16.",
            ) from error
        return images

    def _conditions(self, sets: list[tuple[Neighbor, ...]]) -> dict[str, Tensor]:
        """One neighbor set per job as the pipeline takes it: the arguments that the model was trained with."""
        use = self._use
        weights, mask = pad([torch.tensor([neighbor.weight for neighbor in neighbors]) for neighbors in sets])
        arguments = {"neighbor_mask": mask}
        if use.images:
            arguments["neighbor_embeds"], _ = pad(
                [
                    self._embeddings[[self._rows[str(neighbor.image_hash)] for neighbor in neighbors]]
                    for neighbors in sets
                ]
            )
            if self._detail is not None:
                arguments["neighbor_detail"], _ = pad(
                    [
                        self._detail[[self._rows[str(neighbor.image_hash)] for neighbor in neighbors]]
                        for neighbors in sets
                    ]
                )
        if use.texts:
            arguments["neighbor_text_embeds"], _ = pad(
                [torch.stack([self._texts[neighbor.text] for neighbor in neighbors]) for neighbors in sets]
            )
        if use.weights:
            arguments["neighbor_weights"] = weights
        if use.relation_types:
            place = {name: index for index, name in enumerate(("", *use.relation_types))}
            arguments["neighbor_types"], _ = pad(
                [torch.tensor([place[neighbor.relation_type] for neighbor in neighbors]) for neighbors in sets]
            )
        return arguments

    def _publish(self, batch: list[Job], images: list[Image.Image]) -> None:
        """Write the images, then their rows: a row means that its image is there."""
        scores: Sequence[CopyScores | None] = [None] * len(batch)
        if self._check is not None:
            sources = [
                [neighbor.image_hash for neighbors in job.sets for neighbor in neighbors if neighbor.image_hash]
                for job in batch
            ]
            scores = self._check.score(images, sources)
        rows = pa.Table.from_pylist(
            [self._row(job, score) for job, score in zip(batch, scores, strict=True)], GENERATED_SCHEMA
        ).to_pylist()
        for row, image in zip(rows, images, strict=True):
            del row["image_sha256"]  # of the file that holds this very record
            content = encode_image(image, row)
            self._data.write_bytes(row["image_path"], content)
            row["image_sha256"] = sha256(content)
        self._data.append("generated", pa.Table.from_pylist(rows, GENERATED_SCHEMA), GENERATED_SCHEMA)

    def _row(self, job: Job, scores: CopyScores | None) -> dict[str, Any]:
        settings = {
            **self._settings.recorded(),
            "text": job.request.text,
            "graph_guidance_scales": job.scales,
        }
        return {
            "generated_id": job.generated_id,
            "item_id": job.request.item_id,
            "model_id": self._model_id,
            **job.request.variant.columns(),
            "seed": self._settings.seed,
            "settings": orjson.dumps(settings).decode(),
            # What a neighbor weighs: its weight in its set, times the guidance scale of the set.
            "neighbors": [
                {"item_id": neighbor.item_id, "weight": neighbor.weight * scale, "rank": rank}
                for neighbors, scale in zip(job.sets, job.scales, strict=True)
                for rank, neighbor in enumerate(neighbors, start=1)
            ],
            "image_path": f"generated/{self._model_id}/{job.generated_id}.png",
            "scores": None if scores is None else asdict(scores),
        }


def _embeddings(data: DataRoot, encoder: str, image_hashes: Sequence[str]) -> Tensor:
    """Embeddings of the neighbors' images, `(n, dim)` float32."""
    vectors = image_vectors(data, encoder, pa.array(image_hashes, pa.string()))
    if missing := vectors.missing():
        raise missing_embeddings(encoder, missing)
    return torch.from_numpy(vectors.matrix)


def _detail(data: DataRoot, pipeline: Graph2ImagePipeline, image_hashes: Sequence[str]) -> Tensor | None:
    """Detail of the neighbors' images, `(n, tokens, numbers)`; None for a model that looks at none."""
    shape = getattr(pipeline.graph_encoder, "detail_shape", None)
    if shape is None:
        return None
    size, fit = pipeline.config.detail_image_size, pipeline.config.detail_image_fit
    parts = [torch.zeros(0, *shape)]
    for start in range(0, len(image_hashes), _IMAGES_AT_A_TIME):
        squares = load_squares(data, image_hashes[start : start + _IMAGES_AT_A_TIME], size, fit)
        parts.append(pipeline.encode_detail([Image.fromarray(pixels) for pixels in squares]))
    return torch.cat(parts)


def load_pipeline(data: DataRoot, model_id: str, settings: GenerationSettings) -> Graph2ImagePipeline:
    """A published model, ready to sample with these settings.

    Raises
    ------
    Graph2ImageError
        If there is no such device, the model makes no images of this size, or its files are damaged.
    """
    return _prepared(_load(data, model_id, settings), model_id, settings)


def _load(data: DataRoot, model_id: str, settings: GenerationSettings) -> Graph2ImagePipeline:
    """A published model on its device."""
    device = choose_device(settings.device)
    with local_folder(data, f"models/{model_id}") as folder, quiet_libraries():
        # Neighbors come as embeddings.
        absent = {"image_encoder": None, "feature_extractor": None}
        try:
            pipeline: Graph2ImagePipeline = Graph2ImagePipeline.from_pretrained(
                folder, use_safetensors=True, dtype=_dtype(settings), **absent
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise Graph2ImageError(f"cannot load the model {model_id}: {reason}", "Train or fetch it again.") from error
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae):  # convolutions are faster so
        part.to(memory_format=torch.channels_last)
    pipeline.to(device)
    return pipeline


def _prepared(pipeline: Graph2ImagePipeline, model_id: str, settings: GenerationSettings) -> Graph2ImagePipeline:
    """The pipeline, which has its own scheduler, with that of `settings`."""
    factor = pipeline.image_processor.config.vae_scale_factor
    for name, side in (("height", settings.height), ("width", settings.width)):
        if side is not None and (side < factor or side % factor):
            raise Graph2ImageError(f"the {name} of images is {side}, with {model_id} it must be a multiple of {factor}")
    if settings.scheduler is not None:
        scheduler = getattr(diffusers, SCHEDULERS[settings.scheduler])
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    return pipeline


class LoadedPipeline:
    """`load_pipeline` that keeps the pipeline which it loaded last, for calls that follow each other."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._pipeline: Graph2ImagePipeline | None = None
        self._scheduler: Any = None

    def __call__(self, data: DataRoot, model_id: str, settings: GenerationSettings) -> Graph2ImagePipeline:
        key = data.url, model_id, choose_device(settings.device), _dtype(settings)
        if self._pipeline is None or key != self._key:
            self.release()
            self._pipeline = _load(data, model_id, settings)
            self._key, self._scheduler = key, self._pipeline.scheduler
        self._pipeline.scheduler = type(self._scheduler).from_config(self._scheduler.config)
        return _prepared(self._pipeline, model_id, settings)

    def release(self) -> None:
        """Let go of the pipeline, and of the memory that it takes."""
        self._key = self._pipeline = self._scheduler = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _dtype(settings: GenerationSettings) -> torch.dtype:
    device = choose_device(settings.device)
    return DTYPES[choose_precision(device) if settings.precision == "auto" else settings.precision]


def _batches(jobs: list[Job], batch_size: int) -> Iterator[list[Job]]:
    """Jobs that one pipeline call can make together: they have the same graph scales."""
    groups: dict[tuple[float, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.scales, []).append(job)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _generator(seed: int, item_id: str) -> torch.Generator:
    """Source of an item's noise, the same in all its variants and on every device."""
    state = hashlib.sha256(f"{seed}:{item_id}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(state, "big") >> 1)
