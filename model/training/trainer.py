"""The training loop: the network, the neighbor projection and the Graph-QFormer learn to denoise latents.

Nothing frozen is run in a step: it gathers rows of `TrainingArrays`. Each step's samples, noise, timesteps and dropout
are a function of the seed and the step's number, whatever the number of processes and however a step is split into
micro-batches. So a run that was killed and started again goes on from its last checkpoint to bit-identical weights (on
a CPU, where micro-batches are computed side by side, with one thread or two, and with the same number of more).

The loss is that of noise or of v-prediction, with min-SNR weights (Hang et al. 2023) if asked for; timesteps are
stratified over a step's samples (Kingma et al. 2021); text and graph are dropped independently, so that all branches of
the guidance formula are learned. The first steps may see images at half the side, as progressive training does.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm.auto import tqdm

from ingest.encoders.resuming import Checkpoints, State, load_optimized, optimized_state
from ingest.encoders.workers import PARTS, Workers, short_attention
from ingest.errors import Graph2ImageError
from model.networks.backbones import Backbone, Condition, predict
from model.networks.neighbor_tokens import GraphEncoder
from model.training.arrays import Batch, TrainingArrays
from model.training.config import OptimizationConfig
from model.training.optimization import (
    build_optimizer,
    learning_rate_factor,
    loss_weights,
    make_accelerator,
)

logger = logging.getLogger(__name__)

#: Points of the loss curve that a model's record keeps.
_CURVE_POINTS = 100
#: Steps between two looks at the losses. On a GPU each look waits until it has computed all it was given.
_LOG_EVERY = 10


class Denoiser(nn.Module):
    """Network and Graph-QFormer as one module, which is what is wrapped for several processes and mixed precision."""

    def __init__(self, network: Backbone, graph_encoder: GraphEncoder) -> None:
        super().__init__()
        self.network, self.graph_encoder = network, graph_encoder

    def forward(self, noisy: Tensor, timesteps: Tensor, batch: Batch) -> Tensor:
        """The network's prediction for noisy latents `(batch, channels, h, w)`."""
        graph = self.graph_encoder(batch.input_ids, **batch.neighbors.tensors())
        tokens = torch.cat([batch.text_hidden, graph], dim=1)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        return predict(self.network, noisy, timesteps, Condition(tokens, batch.text_pooled))


@dataclass(frozen=True)
class MicroBatch:
    """A part of a step that is computed at once: samples, and the noise that is put on their latents."""

    batch: Batch
    timesteps: Tensor
    noise: Tensor


class Trainer:
    """The training loop's state: weights, their moving average, the optimizer, and the losses so far.

    Parameters
    ----------
    network, graph_encoder
        What is trained of them requires gradients already; see `networks.choose_trainable`.
    scheduler
        The noise schedule and the prediction type.
    accelerator
        Device, precision and processes; by default as the machine and `config.precision` say.
    """

    def __init__(
        self,
        network: Backbone,
        graph_encoder: GraphEncoder,
        scheduler: DDIMScheduler,
        config: OptimizationConfig,
        seed: int,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.accelerator = accelerator or make_accelerator(config)
        self.network = network.to(memory_format=torch.channels_last).train()
        self.graph_encoder = graph_encoder.train()
        self.scheduler = scheduler
        self.config = config
        self.seed = seed
        self.device = self.accelerator.device
        denoiser = Denoiser(network, graph_encoder)
        self._model = self.accelerator.prepare_model(denoiser)
        self.parameters = {name: value for name, value in denoiser.named_parameters() if value.requires_grad}
        self._weights = list(self.parameters.values())
        self.optimizer = build_optimizer(self._weights, config, self.device)
        self.ema: EMAModel | None = None
        if config.ema_decay > 0:
            self.ema = EMAModel(self._weights, decay=config.ema_decay, foreach=True)
        self.loss_weights = loss_weights(
            scheduler.alphas_cumprod, scheduler.config.prediction_type, config.snr_gamma
        ).to(self.device)
        self.losses = torch.full((config.steps,), math.nan, device=self.device)
        self.step = 0
        self._checked = 0
        self._ahead: tuple[int, Future[list[MicroBatch]]] | None = None
        self._loader = ThreadPoolExecutor(1, "batches")
        #: Workers that compute the micro-batches of a step on a processor; those of one of several processes, and of a
        #: GPU, are computed one after the other.
        self.workers: Workers | None = None
        if self.device.type == "cpu" and self.accelerator.num_processes == 1:
            self.workers = Workers(min(PARTS, config.batch_size))

    @property
    def parameter_count(self) -> int:
        """Weights that are trained."""
        return sum(parameter.numel() for parameter in self._weights)

    def run(
        self,
        arrays: TrainingArrays,
        checkpoints: Checkpoints,
        *,
        on_checkpoint: Callable[[], object] | None = None,
        on_sample: Callable[[], object] | None = None,
    ) -> int:
        """Train to the end, from the newest checkpoint if there is one; returns the number of steps run.

        The main process calls `on_checkpoint` after each checkpoint, and `on_sample` every `sample_every` steps but not
        after the last one.

        Raises
        ------
        Graph2ImageError
            If the loss is not finite any more, a checkpoint is not of this training, or memory is short.
        """
        config = self.config
        if (state := checkpoints.load_newest()) is not None:
            self.load_state(state)
            logger.info("Resuming at step %d of %d", self.step, config.steps)
        first, started = self.step, time.monotonic()
        main = self.accelerator.is_main_process
        log_every = 1 if self.device.type == "cpu" else _LOG_EVERY
        progress = tqdm(total=config.steps, initial=first, desc="train", unit="step", disable=None if main else True)
        while self.step < config.steps:
            self.train_step(arrays)
            progress.update()
            last = self.step == config.steps
            saving = last or self.step % config.checkpoint_every == 0
            sampling = config.sample_every > 0 and self.step % config.sample_every == 0 and not last
            if saving or sampling or self.step % log_every == 0:
                self._check_losses(arrays)
                progress.set_postfix(loss=f"{self.recent_loss():.3f}")
            if self.step % _LOG_EVERY == 0 or last:
                self.accelerator.log(
                    {"loss": self.recent_loss(_LOG_EVERY), "learning_rate": self.learning_rate(self.step - 1)},
                    step=self.step,
                )
            if saving and main:
                checkpoints.save(self.step, self.state())
                speed = (self.step - first) / (time.monotonic() - started)
                logger.info(
                    "Step %d of %d: loss %.3f, %.2f steps/s, %.0f s left",
                    self.step, config.steps, self.recent_loss(), speed, (config.steps - self.step) / speed,
                )  # fmt: skip
                if on_checkpoint is not None:
                    on_checkpoint()
            if sampling and main and on_sample is not None:
                on_sample()
        progress.close()
        return self.step - first

    def train_step(self, arrays: TrainingArrays) -> None:
        """One optimizer step; its loss goes to `losses`."""
        micro_batches = self._load(arrays)
        tokens = math.prod(micro_batches[0].noise.shape[-2:])
        with self.workers or nullcontext(), short_attention(self.device, tokens):
            total = self._backward(micro_batches)
            self.accelerator.clip_grad_norm_(self._weights, self.config.max_grad_norm)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate(self.step)
            self.optimizer.step()
            if self.ema is not None:
                self.ema.step(self._weights)
        self.losses[self.step] = self.accelerator.reduce(total, "mean")
        self.step += 1

    def _backward(self, micro_batches: Sequence[MicroBatch]) -> Tensor:
        """Give the weights the gradients of the step's loss, which is returned."""
        if self.workers is not None:
            return self.workers.backward(self._loss, micro_batches, self._weights)
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for number, part in enumerate(micro_batches, start=1):
            last = number == len(micro_batches)
            with nullcontext() if last else self.accelerator.no_sync(self._model):
                loss = self._loss(part)
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _loss(self, part: MicroBatch) -> Tensor:
        """The micro-batch's share of the step's loss, which is the mean over this process's samples."""
        samples = self.config.samples(self.step) / self.accelerator.num_processes
        batch = part.batch.to(self.device)
        noise, timesteps = part.noise.to(self.device, non_blocking=True), part.timesteps.to(self.device)
        noisy = self.scheduler.add_noise(batch.latents, noise, timesteps)
        target = noise
        if self.scheduler.config.prediction_type == "v_prediction":
            target = self.scheduler.get_velocity(batch.latents, noise, timesteps)
        errors = (self._model(noisy, timesteps, batch).float() - target).square().mean(dim=(1, 2, 3))
        loss: Tensor = (errors * self.loss_weights[timesteps]).sum() / samples
        return loss

    # -- data ----------------------------------------------------------------------------------------------------------

    def _load(self, arrays: TrainingArrays) -> list[MicroBatch]:
        """The micro-batches of the current step; on a GPU those of the next one are gathered while it computes."""
        if self.device.type == "cpu":
            return self.micro_batches(arrays, self.step)
        if self._ahead is not None and self._ahead[0] == self.step:
            micro_batches = self._ahead[1].result()
        else:
            micro_batches = self._gather(arrays, self.step)
        self._ahead = self.step + 1, self._loader.submit(self._gather, arrays, self.step + 1)
        return micro_batches

    def _gather(self, arrays: TrainingArrays, step: int) -> list[MicroBatch]:
        micro_batches = self.micro_batches(arrays, step)
        return [
            MicroBatch(part.batch.pin(), part.timesteps.pin_memory(), part.noise.pin_memory()) for part in micro_batches
        ]

    def micro_batches(self, arrays: TrainingArrays, step: int) -> list[MicroBatch]:
        """This process's share of a step, in `gradient_accumulation` parts, of which workers share each."""
        config, count, coarse = self.config, self.config.samples(step), step < self.config.coarse_steps
        random = torch.Generator().manual_seed(step_seed(self.seed, step))
        draw = torch.rand(count, generator=random)
        both, text = config.joint_dropout, config.joint_dropout + config.text_dropout
        drop_text = draw < text
        drop_graph = (draw < both) | ((draw >= text) & (draw < text + config.graph_dropout))
        total = self.scheduler.config.num_train_timesteps
        strata = (torch.arange(count) + torch.rand(count, generator=random)) / count
        timesteps = (strata * total).long().clamp(max=total - 1)
        noise = torch.randn((count, *arrays.latents_of(coarse=coarse).shape[1:]), generator=random)

        indices = arrays.indices(self.seed, config.samples_before(step), count)
        # Strided, so that every part has samples of all strata.
        own = config.gradient_accumulation * (self.workers.parts if self.workers is not None else 1)
        processes = self.accelerator.num_processes
        micro_batches = []
        for number in range(own):
            rows = slice(number * processes + self.accelerator.process_index, None, own * processes)
            batch = arrays.batch(indices[rows], drop_text[rows], drop_graph[rows], coarse=coarse)
            micro_batches.append(MicroBatch(batch, timesteps[rows], noise[rows]))
        return micro_batches

    # -- losses --------------------------------------------------------------------------------------------------------

    def _check_losses(self, arrays: TrainingArrays) -> None:
        wrong = (~torch.isfinite(self.losses[self._checked : self.step])).nonzero()
        if len(wrong):
            step, config = self._checked + int(wrong[0]), self.config
            indices = arrays.indices(self.seed, config.samples_before(step), config.samples(step))
            named = ", ".join(arrays.names(indices))
            raise Graph2ImageError(
                f"the loss is {float(self.losses[step])} at step {step}; its items: {named}",
                "Lower optimization.learning_rate, or look at these items' images. What was trained before is kept.",
            )
        self._checked = self.step

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step."""
        config = self.config
        return config.learning_rate * learning_rate_factor(step, config.warmup_steps, config.steps, config.schedule)

    def recent_loss(self, steps: int = 50) -> float:
        """Mean loss of the last steps; NaN before the first."""
        return float(self.losses[max(0, self.step - steps) : self.step].mean())

    def loss_curve(self) -> list[tuple[int, float]]:
        """At most 100 points `(step, mean loss of the steps since the point before)`."""
        width = max(1, math.ceil(self.step / _CURVE_POINTS))
        losses = self.losses[: self.step].cpu()
        return [
            (min(start + width, self.step), round(float(losses[start : start + width].mean()), 5))
            for start in range(0, self.step, width)
        ]

    # -- state ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which the weights are their moving average, and nothing is trained."""
        self.network.eval()
        self.graph_encoder.eval()
        if self.ema is not None:
            self.ema.store(self._weights)
            self.ema.copy_to(self._weights)
        try:
            yield
        finally:
            if self.ema is not None:
                self.ema.restore(self._weights)
            self.network.train()
            self.graph_encoder.train()

    def finish(self) -> None:
        """Leave the averaged weights in the networks, as they are published."""
        self._loader.shutdown(cancel_futures=True)
        if self.ema is not None:
            self.ema.copy_to(self._weights)
        self.network.eval()
        self.graph_encoder.eval()

    def state(self) -> State:
        """All that the next step depends on."""
        tensors, numbers = {"losses": self.losses}, {"step": float(self.step)}
        averages = self.ema.shadow_params if self.ema is not None else []
        tensors |= {f"ema.{name}": value for name, value in zip(self.parameters, averages, strict=False)}
        optimized = optimized_state(self.parameters, self.optimizer)
        return State({**tensors, **optimized.tensors}, {**numbers, **optimized.numbers})

    def load_state(self, state: State) -> None:
        """Take up what `state` gave.

        Raises
        ------
        Graph2ImageError
            If it is the state of another training.
        """
        try:
            self._load_state(state)
        except (KeyError, RuntimeError) as error:
            raise Graph2ImageError(
                f"the checkpoint is of another training: {error}", "Delete it to start this training again."
            ) from error

    def _load_state(self, state: State) -> None:
        self.losses.copy_(state.tensors["losses"])
        self.step = self._checked = int(state.numbers["step"])
        if self.ema is not None:
            self.ema.optimization_step = self.step
            for name, average in zip(self.parameters, self.ema.shadow_params, strict=True):
                average.copy_(state.tensors[f"ema.{name}"])
        load_optimized(state, self.parameters, self.optimizer)


def step_seed(seed: int, step: int) -> int:
    """Seed of one step's random draws."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
