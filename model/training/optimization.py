"""What a training is optimized by: the optimizer, the learning rate's schedule, the loss weights, and where it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from torch import Tensor, nn

from ingest.encoders.precision import cpu_has_fast_bf16
from ingest.errors import Graph2ImageError
from model.training.config import OptimizationConfig


def make_accelerator(config: OptimizationConfig, logs: Path | None = None) -> Accelerator:
    """Device, precision, processes and trackers; `accelerate launch` and its environment variables decide the first.

    Parameters
    ----------
    logs
        Folder that trackers write to; None for no trackers.

    Raises
    ------
    Graph2ImageError
        If a tracker is unknown or not installed, or the batch does not divide among the processes.
    """
    trackers = list(config.trackers) if logs is not None else []
    known = sorted(str(name) for name in LOGGER_TYPE_TO_CLASS)
    for tracker in trackers:
        if tracker not in known:
            raise Graph2ImageError(
                f"optimization.trackers: there is no tracker {tracker!r}",
                f"There are: {', '.join(known)}.",
            )
        if tracker not in [str(name) for name in get_available_trackers()]:
            raise Graph2ImageError(f"optimization.trackers: {tracker} is not installed", "Install it, or leave it out.")
    # What `accelerate` was told about precision cannot be changed, and its device is not known before. It may also have
    # been told by an earlier training of this process.
    AcceleratorState._reset_state()
    half = config.precision == "bf16" and _has_bf16(Accelerator(mixed_precision="no").device)
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision="bf16" if half else "no",
        log_with=trackers or None,
        project_dir=None if logs is None else str(logs),
    )
    if config.batch_size % accelerator.num_processes:
        raise Graph2ImageError(
            f"optimization.batch_size is {config.batch_size}, which {accelerator.num_processes} processes cannot share",
            "Make it a multiple of their number.",
        )
    return accelerator


def _has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 by instructions of its own."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type != "cpu" or cpu_has_fast_bf16()


def build_optimizer(
    parameters: Sequence[nn.Parameter], config: OptimizationConfig, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW, with its state in 32 or in 8 bits.

    Raises
    ------
    Graph2ImageError
        If 8 bits are asked for where they cannot be had.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise Graph2ImageError(
            'optimization.optimizer = "adamw-8bit" needs the package bitsandbytes, which is not installed',
            'Install it (`uv pip install bitsandbytes`), or use "adamw".',
        ) from error
    if device.type == "cpu":
        raise Graph2ImageError('optimization.optimizer = "adamw-8bit" needs a GPU, and there is none', 'Use "adamw".')
    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return optimizer


def learning_rate_factor(
    step: int, warmup_steps: int, steps: int, schedule: Literal["cosine", "constant"] = "cosine"
) -> float:
    """Linear warm-up from 0, then cosine decay to 0 at the end, or 1."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def loss_weights(alphas_cumprod: Tensor, prediction_type: str, gamma: float) -> Tensor:
    """Min-SNR weight of the squared error at every timestep, for the network's prediction type; 1 if `gamma` is 0.

    With SNR = alpha_bar / (1 - alpha_bar): `min(SNR, gamma) / SNR` for noise prediction and, for v-prediction,
    `min(SNR + 1, gamma) / (SNR + 1)`, which is not 0 at zero SNR as `min(SNR, gamma) / (SNR + 1)` would be.
    """
    if gamma == 0:
        return torch.ones_like(alphas_cumprod)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    if prediction_type == "v_prediction":
        snr = snr + 1
    return snr.clamp(max=gamma) / snr


@contextmanager
def explain_out_of_memory(config: OptimizationConfig, image_size: int) -> Iterator[None]:
    """Say what to lower, where memory is short."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        message = str(error).lower()
        short = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not short and not any(words in message for words in ("out of memory", "can't allocate", "alloc failed")):
            raise
        ways = ["lower optimization.batch_size, and raise gradient_accumulation in its place"] * (config.batch_size > 1)
        ways += ["set gradient_checkpointing = true"] * (not config.gradient_checkpointing)
        ways += ['trainable = "lora"'] * (config.trainable == "full")
        ways += ['optimizer = "adamw-8bit"'] * (config.optimizer == "adamw")
        ways += ["ema_decay = 0"] * (config.ema_decay > 0)
        raise Graph2ImageError(
            f"out of memory: {config.batch_size} samples of {image_size} pixels at a time do not fit",
            f"In this order: {', '.join([*ways, 'lower image_size'])}.",
        ) from error
