"""The training loop: UNet, neighbor projection and Graph-QFormer learn to denoise latents.

Each step's batch, noise, timesteps and dropout are a function of the seed and the step's number, so a run that was
killed and started again goes on from its last checkpoint to bit-identical weights (on a CPU, with the same number of
threads).

The recipe: v-prediction on a schedule rescaled to zero terminal SNR (Lin et al. 2024), min-SNR loss weights (Hang et
al. 2023), timesteps stratified over the batch (Kingma et al. 2021), EMA weights; text and graph are dropped
independently, so that all branches of the guidance formula are learned.
"""

from __future__ import annotations

import logging
import math
import time

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from tqdm.auto import tqdm

from ingest.datasets import DataRoot
from ingest.encoders.precision import bf16_autocast
from ingest.errors import Graph2ImageError
from model.config import OptimizationConfig
from model.dataset import TrainingArrays, TrainingItems
from model.graph_qformer import GraphQFormer

logger = logging.getLogger(__name__)

#: Points of the loss curve that a model's record keeps.
_CURVE_POINTS = 100


def loss_weights(alphas_cumprod: Tensor, prediction_type: str, gamma: float) -> Tensor:
    """Min-SNR weight of the squared error at every timestep, for the network's prediction type.

    With SNR = alpha_bar / (1 - alpha_bar): `min(SNR, gamma) / SNR` for noise prediction and, for v-prediction,
    `min(SNR + 1, gamma) / (SNR + 1)`, which is not 0 at zero SNR as `min(SNR, gamma) / (SNR + 1)` would be.
    """
    snr = alphas_cumprod / (1 - alphas_cumprod)
    if prediction_type == "v_prediction":
        snr = snr + 1
    return snr.clamp(max=gamma) / snr


class Trainer:
    """The training loop's state: weights, their EMA, the optimizer, and the losses so far."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        graph_encoder: GraphQFormer,
        scheduler: DDIMScheduler,
        config: OptimizationConfig,
        snr_gamma: float,
        seed: int,
    ) -> None:
        self.unet = unet.to(memory_format=torch.channels_last).train()
        self.graph_encoder = graph_encoder.train()
        # The token table is the text encoder's own; most of its rows would only decay.
        graph_encoder.token_embedding.requires_grad_(False)
        self.scheduler = scheduler
        self.config = config
        self.seed = seed
        self.parameters = [
            parameter for model in (unet, graph_encoder) for parameter in model.parameters() if parameter.requires_grad
        ]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.ema = EMAModel(self.parameters, decay=config.ema_decay, foreach=True)
        self.loss_weights = loss_weights(scheduler.alphas_cumprod, scheduler.config.prediction_type, snr_gamma)
        self.losses = torch.full((config.steps,), math.nan)
        self.step = 0

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)

    def run(self, data: DataRoot, checkpoint: str, arrays: TrainingArrays, items: TrainingItems) -> int:
        """Train to the end, from `checkpoint` if there is one; returns the number of steps run."""
        if data.exists(checkpoint):
            self.load_checkpoint(data, checkpoint)
            logger.info("Resuming at step %d of %d", self.step, self.config.steps)
        first, started = self.step, time.monotonic()
        progress = tqdm(total=self.config.steps, initial=first, desc="train", unit="step", disable=None)
        while self.step < self.config.steps:
            indices = arrays.indices(self.seed, self.step, self.config.batch_size)
            loss = self.train_step(arrays, indices)
            if not math.isfinite(loss):
                named = ", ".join(items.item_ids[index] for index in indices.tolist())
                raise Graph2ImageError(
                    f"the loss is {loss} at step {self.step}; the batch's items: {named}",
                    "Lower optimization.learning_rate, or look at these items' images.",
                )
            progress.update()
            progress.set_postfix(loss=f"{self.recent_loss():.3f}")
            if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                self.save_checkpoint(data, checkpoint)
                speed = (self.step - first) / (time.monotonic() - started)
                left = (self.config.steps - self.step) / speed
                logger.info(
                    "Step %d of %d: loss %.3f, %.2f steps/s, %.0f s left",
                    self.step, self.config.steps, self.recent_loss(), speed, left,
                )  # fmt: skip
        progress.close()
        return self.step - first

    def train_step(self, arrays: TrainingArrays, indices: Tensor) -> float:
        """One optimizer step; returns the loss, and leaves the weights alone if it is not finite."""
        config, count = self.config, len(indices)
        random = torch.Generator().manual_seed(step_seed(self.seed, self.step))
        fate = torch.rand(count, generator=random)
        both, text = config.joint_dropout, config.joint_dropout + config.text_dropout
        drop_text = fate < text
        drop_graph = (fate < both) | ((fate >= text) & (fate < text + config.graph_dropout))
        batch = arrays.batch(indices, drop_text, drop_graph)

        total = self.scheduler.config.num_train_timesteps
        strata = (torch.arange(count) + torch.rand(count, generator=random)) / count
        timesteps = (strata * total).long().clamp(max=total - 1)
        noise = torch.randn(batch.latents.shape, generator=random)
        noisy = self.scheduler.add_noise(batch.latents, noise, timesteps)
        v_prediction = self.scheduler.config.prediction_type == "v_prediction"
        target = self.scheduler.get_velocity(batch.latents, noise, timesteps) if v_prediction else noise

        with bf16_autocast(enabled=config.precision == "bf16"):
            graph = self.graph_encoder(batch.input_ids, batch.neighbor_embeds, batch.neighbor_mask)
            condition = torch.cat([batch.text_hidden, graph], dim=1)
            noisy = noisy.contiguous(memory_format=torch.channels_last)
            prediction = self.unet(noisy, timesteps, encoder_hidden_states=condition).sample
        errors = (prediction.float() - target).square().mean(dim=(1, 2, 3))
        loss = (errors * self.loss_weights[timesteps]).mean()
        value = float(loss.item())
        if not math.isfinite(value):
            return value

        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, config.max_grad_norm)
        self.optimizer.param_groups[0]["lr"] = config.learning_rate * learning_rate_factor(
            self.step, config.warmup_steps, config.steps
        )
        self.optimizer.step()
        self.ema.step(self.parameters)
        self.losses[self.step] = value
        self.step += 1
        return value

    def recent_loss(self) -> float:
        """Mean loss of the last 50 steps."""
        return float(self.losses[max(0, self.step - 50) : self.step].mean())

    def loss_curve(self) -> list[tuple[int, float]]:
        """At most 100 points `(step, mean loss of the steps since the point before)`."""
        width = max(1, math.ceil(self.step / _CURVE_POINTS))
        return [
            (min(start + width, self.step), round(float(self.losses[start : min(start + width, self.step)].mean()), 5))
            for start in range(0, self.step, width)
        ]

    def save_checkpoint(self, data: DataRoot, name: str) -> None:
        """Write all that the next step depends on as one safetensors file, atomically."""
        tensors = {"losses": self.losses}
        for index, parameter in enumerate(self.parameters):
            tensors[f"{index}.weight"] = parameter.detach()
            tensors[f"{index}.ema"] = self.ema.shadow_params[index]
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"{index}.{key}"] = value
        contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
        data.write_bytes(name, save_safetensors(contiguous, {"step": str(self.step)}))

    def load_checkpoint(self, data: DataRoot, name: str) -> None:
        """Take up the state that `save_checkpoint` wrote.

        Raises
        ------
        Graph2ImageError
            If the file is not such a checkpoint.
        """
        content = data.read_bytes(name)
        try:
            tensors = load_safetensors(content)
            self.losses.copy_(tensors["losses"])
            self.step = self.ema.optimization_step = int(torch.isfinite(self.losses).sum())
            with torch.no_grad():
                for index, parameter in enumerate(self.parameters):
                    parameter.copy_(tensors[f"{index}.weight"])
                    self.ema.shadow_params[index].copy_(tensors[f"{index}.ema"])
                    self.optimizer.state[parameter] = {
                        "step": tensors[f"{index}.step"],
                        # In the parameter's memory format: the fused kernel walks both in memory order.
                        **{
                            key: torch.empty_like(parameter).copy_(tensors[f"{index}.{key}"])
                            for key in ("exp_avg", "exp_avg_sq")
                        },
                    }
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise Graph2ImageError(
                f"cannot resume from {data.path(name)}: {error}", "Delete the file to start this training again."
            ) from error


def step_seed(seed: int, step: int) -> int:
    """Seed of one step's random draws."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)


def learning_rate_factor(step: int, warmup_steps: int, steps: int) -> float:
    """Linear warm-up from 0, then cosine decay to 0 at the end."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))
