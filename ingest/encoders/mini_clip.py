"""A mini CLIP, trained from scratch on the images and texts of the training split: minutes on a CPU.

A small residual network (32 px) and a two-layer text transformer, both open_clip's, trained contrastively (Radford et
al. 2021). Two things differ from CLIP, as the data are small, and their texts say *what* an image shows but not *how*:

- Items with equal texts are all positives of each other: the loss is the cross-entropy with a uniform distribution over
  them.
- Each image is seen in two views, which are contrasted with each other too, as in SimCLR (Chen et al. 2020). Matching
  texts alone would let the network forget what texts never mention, such as a palette, a brush or a product's
  color; telling images apart keeps it. So that color survives, the views are crops and mirror images only.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import numpy as np
import numpy.typing as npt
import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor
from tqdm.auto import tqdm

from ingest.datasets.root import DataRoot, digest
from ingest.encoders.checkpoint import publish_encoder
from ingest.encoders.mini_config import MEAN, PADDING, STD, MiniClipConfig, mini_encoder_id
from ingest.encoders.pixels import PixelGeometry
from ingest.encoders.precision import bf16_autocast
from ingest.encoders.resuming import Checkpoints, State, load_optimized, optimized_state
from ingest.encoders.workers import Workers, average_buffers, replicas, short_attention
from ingest.errors import Graph2ImageError
from ingest.images.loading import try_images

log = logging.getLogger(__name__)

#: Where the state of an encoder's training is kept until it is published.
TRAINING = "training/encoders"


def train_mini_clip(
    data: DataRoot, pairs: Sequence[tuple[str, str]], paths: Mapping[str, str], config: MiniClipConfig
) -> str:
    """Train a mini CLIP on `pairs` and publish it; returns its id under `encoders/`.

    Pairs whose image cannot be read are left out; the checkpoint's record says how many.

    Parameters
    ----------
    pairs
        (image hash, text) of the training items, sorted and without repeats.
    paths
        Path of each image, by image hash.

    Raises
    ------
    Graph2ImageError
        If there are fewer than two different texts and images.
    """
    encoder = mini_encoder_id(pairs, config)
    started = time.perf_counter()
    sampled = pairs[:: math.ceil(len(pairs) / config.max_pairs)] if pairs else []
    used, pixels = _load_pixels(data, sampled, paths, config)
    if min(len({text for _, text in used}), len({image_hash for image_hash, _ in used})) < 2:
        raise Graph2ImageError(
            "training an encoder needs at least two training items with different images and texts",
            "Ingest more items, or name a ready encoder with --encoder.",
        )
    # Of the pairs that can be read: their number decides the steps, and each one's place the batches.
    checkpoints = Checkpoints(data, f"{TRAINING}/{encoder}-{digest(used)[:8]}", kept=1)
    model, losses = train_on_pixels(pixels, [text for _, text in used], config, checkpoints)
    seconds = time.perf_counter() - started
    log.info("Trained %s on %d pairs in %.0f s (loss %.2f -> %.2f)", encoder, len(used), seconds, losses[0], losses[-1])
    record = {
        "origin": "mini CLIP, trained here",
        "config": config.model_dump(),
        "training_pairs": len(used),
        "training_pairs_digest": digest(list(pairs)),
        "unreadable_pairs": len(sampled) - len(used),
        "steps": config.steps(len(used)),
        "seconds": round(seconds, 1),
        "losses": losses,
    }
    publish_encoder(data, encoder, model, config.checkpoint_config(), record)
    with suppress(FileNotFoundError):  # what is there of other pairs is of a run that nobody will continue
        data.fs.rm(data.path(TRAINING), recursive=True)
    return encoder


def _load_pixels(
    data: DataRoot, pairs: Sequence[tuple[str, str]], paths: Mapping[str, str], config: MiniClipConfig
) -> tuple[list[tuple[str, str]], npt.NDArray[np.uint8]]:
    """The pairs whose image can be read, and their `(pairs, 3, size, size)` pixels, as the encoder will see them."""
    size = config.image_size
    geometry = PixelGeometry(size, size, config.resize_mode, "bicubic", PADDING)
    pixels = np.empty((len(pairs), 3, size, size), np.uint8)
    used: list[tuple[str, str]] = []
    hashes = (image_hash for image_hash, _ in pairs)
    loaded = try_images(data, paths, hashes, geometry.fit, smallest_size=geometry.smallest_size)
    for pair, image in zip(pairs, tqdm(loaded, "read images", len(pairs), unit="image", disable=None), strict=True):
        if isinstance(image, Graph2ImageError):
            log.warning("Not trained on: %s", image.message)
        else:
            pixels[len(used)] = image
            used.append(pair)
    return used, pixels[: len(used)]


def train_on_pixels(
    pixels: npt.NDArray[np.uint8], texts: list[str], config: MiniClipConfig, checkpoints: Checkpoints | None = None
) -> tuple[CLIP, list[float]]:
    """The model trained on `(pairs, 3, size, size)` uint8 images and their texts; its loss at about fifty steps.

    It goes on from the newest of the `checkpoints`, to the same weights (on a CPU, with the same number of threads).
    """
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = CLIP(**config.checkpoint_config()["model_cfg"]).to(memory_format=torch.channels_last)
    images = torch.from_numpy(pixels)
    distinct_texts, inverse = np.unique(texts, return_inverse=True)
    distinct_tokens = open_clip.SimpleTokenizer(context_length=config.context_length)(distinct_texts.tolist())
    text_ids = torch.from_numpy(inverse)

    optimized = dict(model.named_parameters())
    weights = list(optimized.values())
    optimizer = torch.optim.AdamW(
        [
            {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    steps, batch_size = config.steps(len(texts)), min(config.batch_size, len(texts))
    order = torch.empty(0, dtype=torch.int64)
    losses: list[float] = []
    views = replicas(model, 2)
    buffers = {f"buffer.{view}.{name}": buffer for view in (0, 1) for name, buffer in views[view].named_buffers()}

    def state() -> State:
        """What the next step depends on."""
        kept = optimized_state(optimized, optimizer)
        random = {"generator": generator.get_state(), "order": order}
        recorded = {"losses": torch.tensor(losses, dtype=torch.float64)}
        return State({**kept.tensors, **buffers, **random, **recorded}, {**kept.numbers, "step": step + 1})

    first_step = 0
    if checkpoints is not None and (resumed := _newest(checkpoints)) is not None:
        load_optimized(resumed, optimized, optimizer)
        for name, buffer in buffers.items():
            buffer.copy_(resumed.tensors[name])
        generator.set_state(resumed.tensors["generator"])
        order, losses = resumed.tensors["order"], resumed.tensors["losses"].tolist()
        first_step = int(resumed.numbers["step"])
        log.info("The training of the encoder continues at step %d of %d", first_step, steps)
    progress = tqdm(range(first_step, steps), "mini CLIP", initial=first_step, total=steps, unit="step", disable=None)
    with Workers() as workers, short_attention(images.device, config.context_length):
        for step in progress:
            if len(order) < batch_size:
                order = torch.randperm(len(texts), generator=generator)
            batch, order = order[:batch_size], order[batch_size:]
            # A text that several items of the batch have is encoded once.
            distinct, index = torch.unique(text_ids[batch], return_inverse=True)
            encode: list[Callable[[], Tensor]] = [
                partial(_encode, view.encode_image, _random_view(images[batch], config.smallest_crop, generator))
                for view in views
            ]
            encode.append(partial(_encode, model.encode_text, distinct_tokens[distinct]))
            features = list(workers.map(lambda tower: tower(), encode))
            # The loss is of the whole batch, so it is computed of the features; then each part goes on backward.
            first, second, words = (part.detach().requires_grad_() for part in features)
            unit_first, unit_second = F.normalize(first, dim=1), F.normalize(second, dim=1)
            same_text = text_ids[batch][:, None] == text_ids[batch][None, :]
            logits = model.logit_scale.exp() * unit_first @ F.normalize(words[index], dim=1).T
            same_image = torch.eye(batch_size, dtype=torch.bool)
            view_logits = unit_first @ unit_second.T / config.view_temperature
            loss = _contrast(logits, same_text) + config.view_weight * _contrast(view_logits, same_image)
            *outer, of_scale = torch.autograd.grad(loss, (first, second, words, model.logit_scale))
            parts = list(zip(features, outer, strict=True))
            workers.backward(lambda part: (part[0] * part[1]).sum(), parts, weights)
            model.logit_scale.grad = of_scale
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * _learning_rate_factor(step, steps, config.warmup_steps)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(100))  # as in CLIP
            if step % max(1, steps // 50) == 0 or step == steps - 1:
                losses.append(round(loss.item(), 4))
                progress.set_postfix(loss=losses[-1])
            if checkpoints is not None:
                checkpoints.save_if_due(step + 1, state)
    average_buffers(views)
    return model.eval(), losses


def _learning_rate_factor(step: int, steps: int, warmup_steps: int) -> float:
    """What the learning rate is multiplied with: up in the first steps, and down along a cosine."""
    return min(1.0, (step + 1) / warmup_steps) * (1 + math.cos(math.pi * step / steps)) / 2


def _newest(checkpoints: Checkpoints) -> State | None:
    """The state to continue from; one that is damaged costs time only."""
    try:
        return checkpoints.load_newest()
    except Graph2ImageError as error:
        log.warning("The training of the encoder begins anew: %s", error.message)
        checkpoints.remove()
        return None


def _encode(tower: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Features `(n, dim)` float32 of normalized images or tokens."""
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    with bf16_autocast():
        features = tower(inputs)
    return features.float()


def _random_view(images: Tensor, smallest_crop: float, generator: torch.Generator) -> Tensor:
    """A random crop of each uint8 image, scaled back to full size, half of them mirrored; normalized float32."""
    count = len(images)
    scale = 1 - (1 - smallest_crop) * torch.rand(count, generator=generator)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    transform = torch.zeros(count, 2, 3)
    transform[:, 0, 0], transform[:, 1, 1] = scale * mirror, scale
    transform[:, :, 2] = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - scale)[:, None]
    grid = F.affine_grid(transform, list(images.shape), align_corners=False)
    views = F.grid_sample(images.float() / 255, grid, padding_mode="border", align_corners=False)
    return (views - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def _contrast(logits: Tensor, positive: Tensor) -> Tensor:
    """Symmetric cross-entropy of `(n, n)` logits with the uniform distribution over each row's (column's) positives."""
    target = positive.float() / positive.sum(1, keepdim=True)  # `positive` is symmetric
    rows = -(target * F.log_softmax(logits, 1)).sum(1).mean()
    columns = -(target * F.log_softmax(logits.T, 1)).sum(1).mean()
    return (rows + columns) / 2
