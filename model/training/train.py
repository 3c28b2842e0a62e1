"""The training stage: from Parquet datasets to a pipeline in `models/<model_id>`.

Everything frozen is computed before the loop (`training.trainer`) starts, into mapped files (`training.arrays`): the
autoencoder's latents, the texts' hidden states, the neighbors' embeddings.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler

from ingest.datasets.root import DataRoot, digest
from ingest.encoders.resuming import Checkpoints
from ingest.errors import Graph2ImageError
from model.generation.requests import OF_PRESETS, GenerationSettings
from model.pipeline import Graph2ImagePipeline
from model.pretrained.parts import ModelParts
from model.record import (
    RECORD_FILE,
    ModelRecord,
    RecordedConfig,
    RecordedSampling,
    has_model,
    read_model_record,
)
from model.storage import exclusive, publish_folder, quiet_libraries, work_folder
from model.training.arrays import TrainingArrays, build_arrays, open_arrays
from model.training.build import (
    build_graph_encoder,
    check_coarse_size,
    choose_trainable,
    load_parts,
    parts_ids,
)
from model.training.config import TrainConfig
from model.training.encoders import load_image_encoder
from model.training.items import TrainingItems, read_training_items
from model.training.latents import compute_latents, latents_dataset
from model.training.model_card import model_card
from model.training.optimization import explain_out_of_memory, make_accelerator
from model.training.plots import SampleGrid, curves_png, png
from model.training.text_arrays import text_arrays_name
from model.training.trainer import Trainer

logger = logging.getLogger(__name__)

#: What changes nothing about the weights.
_INCIDENTAL = {"gradient_checkpointing", "checkpoint_every", "checkpoints_kept", "sample_every", "trackers"}
_CURVES, _SAMPLES = "curves.png", "samples.png"
#: Curves are not drawn more often, which takes half a second: a small model has a checkpoint every few seconds.
_CURVES_SECONDS = 60.0


@dataclass(frozen=True)
class TrainReport:
    """What a training run made.

    Attributes
    ----------
    items, left_out
        Items that it was trained on, and sampled ones that had no readable image or were withdrawn.
    steps, seconds
        Of this call only; 0 when nothing was to do.
    loss
        Mean of the last 50 steps; None if there were none.
    """

    model_id: str
    items: int
    left_out: int
    steps: int
    seconds: float
    loss: float | None
    changed: bool


@dataclass(frozen=True)
class _Run:
    """One training: what it reads, what its results are called."""

    data: DataRoot
    config: TrainConfig
    neighbors: str
    metadata: dict[str, Any]
    encoder: str
    items: TrainingItems
    vae_id: str
    model_id: str
    arrays_id: str
    text_arrays: str

    @property
    def folder(self) -> str:
        """Where checkpoints, curves and samples go while it is trained."""
        return f"training/{self.model_id}"


def train(
    data: DataRoot,
    config: TrainConfig,
    neighbors: str,
    encoder: str | None = None,
    withdrawn: Collection[str] = (),
) -> TrainReport:
    """Train the model that `config` describes, or find it trained already.

    Reads items, images, embeddings and `neighbors/<neighbors>`; writes the autoencoder, the latents and the training
    arrays if they are new, and `models/<model_id>/`: a `Graph2ImagePipeline` with the averaged weights, a model card
    with its images, and `model.json`, the record of what went in. A run that was killed is continued.

    Under `accelerate launch` every process calls this.

    Parameters
    ----------
    neighbors
        Name of the neighbors dataset.
    encoder
        Encoder of the neighbor embeddings and, without a base model, of the texts; by default the one that the
        neighbors were ranked with.
    withdrawn
        Ids of items that take no part, whatever the samples say.

    Raises
    ------
    Graph2ImageError
        If an input is missing, an image cannot be read, memory is short, or the loss is not finite any more.
    """
    started = time.monotonic()
    run = _plan(data, config, neighbors, encoder, withdrawn)
    if has_model(data, run.model_id):
        loss = read_model_record(data, run.model_id).loss
        return TrainReport(run.model_id, len(run.items), run.items.left_out, 0, 0.0, loss, changed=False)
    logs = work_folder(data, f"{run.folder}/logs")
    accelerator = make_accelerator(config.optimization, logs)
    with explain_out_of_memory(config.optimization, config.image_size):
        parts, arrays = _prepare(run, accelerator.device)
        embeddings = None if arrays.embeddings is None else arrays.embeddings[:-1]  # the last one is "no neighbor"
        detail = None if arrays.detail is None else arrays.detail[:-1]
        graph_encoder = build_graph_encoder(config, parts, embeddings, run.items.relation_types, run.encoder, detail)
        choose_trainable(parts.unet, graph_encoder, config)
        trainer = Trainer(parts.unet, graph_encoder, parts.scheduler, config.optimization, config.seed, accelerator)
        logger.info(
            "Training %s on %d items, %.1f M parameters, on %s",
            run.model_id, len(run.items), trainer.parameter_count / 1e6, accelerator.device,
        )  # fmt: skip
        pipeline = _pipeline(run, parts, trainer)
        plots = _Plots(run, trainer, arrays, pipeline)
        accelerator.init_trackers(run.model_id)
        steps = trainer.run(
            arrays,
            Checkpoints(data, run.folder, config.optimization.checkpoints_kept),
            on_checkpoint=plots.write_curves,
            on_sample=plots.write_samples,
        )
    main = accelerator.is_main_process
    accelerator.end_training()  # after which every process takes itself for the main one
    if main:
        _publish(run, trainer, pipeline, plots, logs, started)
    seconds = time.monotonic() - started
    loss = _loss(trainer)
    return TrainReport(run.model_id, len(run.items), run.items.left_out, steps, seconds, loss, changed=True)


def _plan(data: DataRoot, config: TrainConfig, neighbors: str, encoder: str | None, withdrawn: Collection[str]) -> _Run:
    """Read the items, and name what is made of them."""
    snapshot = data.snapshot(f"neighbors/{neighbors}")
    metadata = snapshot.metadata if snapshot else {}
    encoder = encoder or metadata.get("encoder")
    items = read_training_items(data, neighbors, config.graph_encoder, encoder=encoder, withdrawn=withdrawn)
    if not encoder:
        raise Graph2ImageError(f"neighbors/{neighbors} does not say which encoder it was ranked with: name one")
    vae_id, text_id = parts_ids(config, items, encoder)
    seen = items.digest()
    named = {"autoencoder": True, "base_model": True}  # by their ids, wherever they lie
    recipe = config.model_dump(mode="json", exclude={**named, "optimization": _INCIDENTAL})
    return _Run(
        data,
        config,
        neighbors,
        metadata,
        encoder,
        items,
        vae_id,
        model_id=f"{config.preset}-{digest(recipe, seen, encoder, vae_id, text_id)}",
        arrays_id=digest(
            config.graph_encoder.model_dump(), seen, encoder, vae_id, text_id, _latent_sizes(config), config.image_fit
        ),
        text_arrays=text_arrays_name(items, text_id),
    )


def _prepare(run: _Run, device: torch.device) -> tuple[ModelParts, TrainingArrays]:
    """Load the parts, and compute what is frozen unless it is there already; one process of several does it."""
    data, config, items = run.data, run.config, run.items
    folder, text_folder = (work_folder(data, f"training-arrays/{name}") for name in (run.arrays_id, run.text_arrays))
    with exclusive(text_folder):  # which trainings of other arrays share
        parts = load_parts(data, config, items, run.encoder)
        check_coarse_size(config, parts)
        arrays = open_arrays(folder, text_folder)
        if arrays is None:
            _move(parts, device)
            latents = []
            for size in _latent_sizes(config):
                hashes = items.image_hashes
                if size == config.image_size and config.graph_encoder.neighbor_detail != "none":
                    hashes = hashes + items.neighbors["image_hash"].unique().to_pylist()
                compute_latents(data, parts.vae, run.vae_id, hashes, size, config.image_fit)
                latents.append(latents_dataset(run.vae_id, size, config.image_fit))
            arrays = build_arrays(
                folder,
                text_folder,
                data,
                items,
                config.graph_encoder,
                parts.texts,
                encoder=run.encoder,
                latents=latents[0],
                coarse_latents=latents[1] if len(latents) > 1 else None,
            )
            _move(parts, torch.device("cpu"))
    return parts, arrays


def _latent_sizes(config: TrainConfig) -> tuple[int, ...]:
    """Sides of the images whose latents the training sees, the model's first."""
    return (config.image_size, config.image_size // 2) if config.optimization.coarse_steps else (config.image_size,)


def _move(parts: ModelParts, device: torch.device) -> None:
    """Move what is frozen, which need not be where the training is."""
    for part in (parts.vae, parts.texts.encoder, parts.texts.encoder_2):
        if part is not None:
            part.to(device)


def _pipeline(run: _Run, parts: ModelParts, trainer: Trainer) -> Graph2ImagePipeline:
    texts, config, image_encoder = parts.texts, run.config.graph_encoder, None
    if config.images:
        image_encoder = load_image_encoder(run.data, run.encoder)
    pipeline = Graph2ImagePipeline(
        parts.vae,
        texts.encoder,
        texts.tokenizer,
        trainer.network,
        DDIMScheduler.from_config(parts.scheduler.config),
        trainer.graph_encoder,
        texts.encoder_2,
        texts.tokenizer_2,
        image_encoder,
        max_neighbors=config.max_neighbors,
        force_zeros_for_empty_prompt=texts.zero_empty,
        detail_image_size=None if config.neighbor_detail == "none" else run.config.image_size,
        detail_image_fit=run.config.image_fit,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class _Plots:
    """The curves and sample grids of a training, in its folder."""

    def __init__(self, run: _Run, trainer: Trainer, arrays: TrainingArrays, pipeline: Graph2ImagePipeline) -> None:
        self.run, self.trainer, self.arrays, self.pipeline = run, trainer, arrays, pipeline
        self._grid: SampleGrid | None = None
        self._drawn = -math.inf

    def curves(self) -> bytes:
        trainer = self.trainer
        rates = [trainer.learning_rate(step) for step in range(trainer.step)]
        return curves_png(trainer.losses[: trainer.step].cpu().numpy(), rates, self.run.model_id)

    def write_curves(self) -> None:
        if time.monotonic() - self._drawn < _CURVES_SECONDS:
            return
        self._drawn = time.monotonic()
        self.run.data.write_bytes(f"{self.run.folder}/{_CURVES}", self.curves())

    def samples(self) -> bytes:
        """A grid with the averaged weights as they are now."""
        config = self.run.config
        if self._grid is None:
            self._grid = SampleGrid.choose(self.run.data, self.run.items, config.image_size, config.image_fit)
        guidance = GenerationSettings(**OF_PRESETS.get(config.preset, {})).guidance_scale
        with self.trainer.averaged(), self.trainer.accelerator.autocast():
            self.pipeline.to(self.trainer.device)
            images = self._grid.sample(self.pipeline, self.arrays, config.seed, guidance)
        for name in ("vae", "text_encoder", "text_encoder_2", "image_encoder"):  # make room for the training
            if (part := getattr(self.pipeline, name)) is not None:
                part.to("cpu")
        return png(self._grid.draw(images))

    def write_samples(self) -> None:
        self.run.data.write_bytes(f"{self.run.folder}/samples-{self.trainer.step:08}.png", self.samples())


def _publish(
    run: _Run, trainer: Trainer, pipeline: Graph2ImagePipeline, plots: _Plots, logs: Path, started: float
) -> None:
    """Write the model's folder, then remove the training's."""
    data, optimization = run.data, run.config.optimization
    curves = plots.curves()
    samples = plots.samples() if optimization.sample_every else None
    trainer.finish()
    pipeline.to("cpu")
    record = _record(run, trainer, started)

    def write(folder: Path) -> None:
        if optimization.trainable == "lora":
            from model.networks.lora import merge_lora, save_lora

            save_lora(trainer.network, folder / "lora")
            merge_lora(trainer.network)
        with quiet_libraries():
            pipeline.save_pretrained(folder)
        (folder / _CURVES).write_bytes(curves)
        if samples is not None:
            (folder / _SAMPLES).write_bytes(samples)
        if logs.is_dir():
            shutil.copytree(logs, folder / "logs")
        card = model_card(record, curves=_CURVES, samples=_SAMPLES if samples is not None else None)
        (folder / "README.md").write_text(card, encoding="utf-8")
        DataRoot(str(folder)).write_json(RECORD_FILE, record.model_dump(mode="json"))

    publish_folder(data, f"models/{run.model_id}", write, marker=RECORD_FILE)
    if data.exists(run.folder):  # a model that is published as it starts has no checkpoints
        data.fs.rm(data.path(run.folder), recursive=True)
    shutil.rmtree(logs.parent, ignore_errors=True)  # the same, or what lay in the cache


def _record(run: _Run, trainer: Trainer, started: float) -> ModelRecord:
    """What the model was trained on, and how that went."""
    items, optimization, device = run.items, run.config.optimization, trainer.device
    return ModelRecord(
        model_id=run.model_id,
        config=RecordedConfig.model_validate(run.config.model_dump(mode="json")),
        encoder=run.encoder,
        vae_id=run.vae_id,
        neighbors=run.neighbors,
        neighbors_metadata=RecordedSampling.model_validate(run.metadata),
        items=len(items),
        items_digest=items.digest(),
        sources=items.sources,
        left_out=items.left_out,
        withdrawn=items.withdrawn,
        without_neighbors=int((items.neighbor_counts == 0).sum()),
        relation_types=items.relation_types,
        network=type(trainer.network).__name__,
        network_parameters=_count(trainer.network),
        graph_parameters=_count(trainer.graph_encoder),
        trained_parameters=trainer.parameter_count,
        prediction_type=trainer.scheduler.config.prediction_type,
        epochs=optimization.samples_before(optimization.steps) / len(items),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper(),
        precision={"no": "fp32"}.get(trainer.accelerator.mixed_precision, trainer.accelerator.mixed_precision),
        loss=_loss(trainer),
        loss_curve=tuple(trainer.loss_curve()),
        seconds=round(time.monotonic() - started, 1),
    )


def _loss(trainer: Trainer) -> float | None:
    return trainer.recent_loss() if trainer.step else None


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
