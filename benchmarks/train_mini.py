"""The mini preset's four training loops on a processor: seconds a step, alone and beside a busy process.

    .venv/bin/python -m benchmarks.train_mini [--busy] [--profile] [--steps 6] [--only "diffusion model"]

Data are random, of the demo's shapes and sizes. `torch's threads` is the diffusion model's step as torch runs it by
itself, every operation split among all threads; the other rows are computed as they are trained, by
`ingest.encoders.workers`. Of the diffusion model's steps the fastest counts, of the other loops the mean. With `--busy`
each is measured again beside one process that counts as fast as it can. With `--profile`, the operations that take the
most time in a step of the diffusion model, on one thread.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.harness import describe_machine, print_json, print_table
from ingest.encoders import mini_clip
from ingest.encoders.mini_config import MiniClipConfig
from ingest.encoders.precision import cpu_has_fast_bf16
from model.networks.autoencoder import MiniAutoencoder
from model.networks.graph_qformer import GraphQFormer
from model.training.arrays import TrainingArrays
from model.training.autoencoder import train_autoencoder
from model.training.build import build_network, build_scheduler, choose_trainable
from model.training.config import load_train_config
from model.training.trainer import Trainer

ITEMS, TEXTS, LENGTH, WIDTH = 256, 60, 24, 128

#: A loop, as the function that gives the seconds of a step of so many.
Loop = Callable[[int], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="measure again beside a busy process")
    parser.add_argument("--profile", action="store_true", help="print where a step's time goes")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of each loop")
    parser.add_argument("--only", choices=list(LOOPS), help="one loop")
    options = parser.parse_args()

    loops = {name: make() for name, make in LOOPS.items() if options.only in (None, name)}
    for loop in loops.values():
        loop(1)
    quiet = {name: loop(options.steps) for name, loop in loops.items()}
    busy = {}
    if options.busy:
        with busy_process():
            busy = {name: loop(options.steps) for name, loop in loops.items()}
    rows = [
        {"loop": name, "s a step": seconds, "busy": busy.get(name), "slower": busy[name] / seconds if busy else None}
        for name, seconds in quiet.items()
    ]
    print_table(rows)
    figures = {
        "benchmark": "train_mini",
        "machine": describe_machine(),
        "threads": torch.get_num_threads(),
        "bf16": cpu_has_fast_bf16(),
        "rows": rows,
    }
    if options.profile:
        figures["profile"] = print_profile()
    print_json(figures)


@contextmanager
def busy_process() -> Iterator[None]:
    """One process that keeps a core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def make_trainer(*, workers: bool = True) -> tuple[Trainer, TrainingArrays]:
    """The mini preset's training, of random weights and data."""
    torch.manual_seed(0)
    config = load_train_config("mini")
    if config.diffusion is None or config.autoencoder is None:
        raise ValueError("the preset has no diffusion or autoencoder")
    auto = config.autoencoder
    vae = MiniAutoencoder(
        auto.channels, auto.latent_channels, auto.blocks, auto.patch_size, spatial_factor=2 * auto.patch_size
    )
    text_config = CLIPTextConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
    )
    graph = config.graph_encoder
    graph_encoder = GraphQFormer.from_text_encoder(
        CLIPTextModel(text_config),
        WIDTH,
        tokens_per_neighbor=graph.tokens_per_neighbor,
        cross_attention_freq=graph.cross_attention_freq,
    )
    network = build_network(config, vae, WIDTH)
    choose_trainable(network, graph_encoder, config)
    trainer = Trainer(network, graph_encoder, build_scheduler(config.diffusion), config.optimization, seed=0)
    if not workers:
        trainer.workers = None
    draw = torch.Generator().manual_seed(0)
    side = config.image_size // 8
    arrays = TrainingArrays(
        item_ids=np.array([f"i:{index}".encode() for index in range(ITEMS)]),
        latents=torch.randn(ITEMS, config.autoencoder.latent_channels, side, side, generator=draw).half(),
        latent_index=torch.arange(ITEMS),
        text_index=torch.arange(ITEMS) % TEXTS + 1,
        input_ids=torch.randint(49_406, (TEXTS + 1, LENGTH), generator=draw),
        text_hidden=torch.randn(TEXTS + 1, LENGTH, WIDTH, generator=draw).half(),
        text_pooled=None,
        neighbor_counts=torch.full((ITEMS,), graph.max_neighbors),
        neighbor_index=torch.randint(ITEMS, (ITEMS, graph.max_neighbors), generator=draw),
        embeddings=torch.cat([torch.randn(ITEMS, WIDTH, generator=draw), torch.zeros(1, WIDTH)]),
        neighbor_text_index=None,
        text_summary=None,
        neighbor_weights=None,
        neighbor_types=None,
    )
    return trainer, arrays


def diffusion_model(*, workers: bool = True) -> Loop:
    trainer, arrays = make_trainer(workers=workers)

    def loop(steps: int) -> float:
        seconds = []
        for _ in range(steps):
            started = time.perf_counter()
            trainer.train_step(arrays)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    return loop


def autoencoder() -> Loop:
    config = load_train_config("mini").autoencoder
    if config is None:
        raise ValueError("the preset has no autoencoder")
    squares = np.random.default_rng(0).integers(0, 256, (ITEMS, 64, 64, 3), np.uint8)
    return per_step(lambda steps: train_autoencoder(squares, config.model_copy(update={"steps": steps}), seed=0))


def encoder() -> Loop:
    config = MiniClipConfig()
    pixels = np.random.default_rng(0).integers(0, 256, (4 * ITEMS, 3, 32, 32), np.uint8)
    texts = [f"a thing of kind {index % TEXTS}" for index in range(len(pixels))]

    def train(steps: int) -> object:
        changes = {"base_steps": steps, "max_steps": steps}
        return mini_clip.train_on_pixels(pixels, texts, config.model_copy(update=changes))

    return per_step(train)


def per_step(train: Callable[[int], object]) -> Loop:
    """Seconds of a step of a training that is timed as a whole: what two lengths of it differ by."""

    def loop(steps: int) -> float:
        started = time.perf_counter()
        train(1)
        short = time.perf_counter()
        train(steps + 1)
        return (time.perf_counter() - short - (short - started)) / steps

    return loop


LOOPS: dict[str, Callable[[], Loop]] = {
    "diffusion model": diffusion_model,
    "torch's threads": lambda: diffusion_model(workers=False),
    "autoencoder": autoencoder,
    "encoder": encoder,
}


def print_profile(steps: int = 3, lines: int = 12) -> list[dict[str, float | str]]:
    """The operations that take the most of a diffusion model's step, on one thread."""
    trainer, arrays = make_trainer()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trainer.train_step(arrays)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(steps):
            trainer.train_step(arrays)
    torch.set_num_threads(threads)
    events = sorted(recorded.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    rows: list[dict[str, float | str]] = [
        {
            "operation": event.key,
            "ms a step": event.self_cpu_time_total / steps / 1e3,
            "share": event.self_cpu_time_total / total,
            "calls a step": event.count / steps,
        }
        for event in events[:lines]
    ]
    print_table(rows)
    return rows


if __name__ == "__main__":
    main()
