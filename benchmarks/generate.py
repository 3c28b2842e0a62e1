"""Images per second of generation: ours, against the reference's way, and what `--fast` gains and costs.

    .venv/bin/python -m benchmarks.generate [--unet tiny medium sd15] [--batch-sizes 1 8] [--steps 20]
    .venv/bin/python -m benchmarks.generate --quality ROOT [--model ID] [--items 64]

Speed needs no data: all weights are random and images have 256 px. In turn, so that all meet the same state of the
machine, for every pair of guidance scales (text, graph):

- `reference's way`: for each image, decode and CLIP-encode its five neighbors, encode the texts, and predict all
  three branches of the guidance formula in every step, whatever the scales; image by image.
- `reference's way, batched`: the same for several images at a time.
- `graph2image`: the pipeline, given the neighbors' embeddings, as `generate` calls it.
- `graph2image, fast`: with the settings of `generate --fast`.

The images of the first three are asserted to be equal within 1e-4 (of values from 0 to 1). At the paper's scales (7.5
and 1.5) all branches have a weight; at equal scales the text's own branch has none.

Quality needs a trained model in a data root: held-out items are generated there in the full and in the fast setting,
and both are compared with the true images and with each other, by the features of `model.evaluation.judge`
(cosine, centered).
"""

from __future__ import annotations

import argparse
import copy
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.harness import describe_machine, print_json, print_table
from benchmarks.train_step import (
    DEFAULT_UNETS,
    FROZEN,
    SIZE,
    UNETS,
    Data,
    Frozen,
    make_data,
    make_frozen,
    make_scheduler,
    make_trainable,
)
from model.generation.requests import FAST, SCHEDULERS, GenerationSettings
from model.pipeline import Graph2ImagePipeline

SCALES = ((7.5, 1.5), (2.0, 2.0))
TOLERANCE = 1e-4

Contender = Callable[[], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unet", nargs="+", choices=list(UNETS), default=DEFAULT_UNETS)
    parser.add_argument("--frozen", choices=list(FROZEN), default="sd15")
    parser.add_argument(
        "--scales", type=float, nargs=2, action="append", metavar=("TEXT", "GRAPH"), help="by default both"
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of the full setting")
    parser.add_argument("--repeats", type=int, default=2, help="timed repeats of each, after one that is not")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quality", metavar="ROOT", help="instead: a data root with a trained model")
    parser.add_argument("--model", metavar="ID", help="with --quality: by default the newest")
    parser.add_argument("--items", type=int, default=64, help="with --quality: held-out items")
    parser.add_argument("--fast-steps", type=int, help="instead of those of `generate --fast`; likewise:")
    parser.add_argument("--fast-scheduler", choices=list(SCHEDULERS))
    parser.add_argument("--fast-interval", type=float, nargs=2, metavar=("FROM", "TO"))
    options = parser.parse_args()
    result = measure_quality(options) if options.quality else measure_speed(options)
    print_json(
        {
            "benchmark": "generate",
            "machine": describe_machine(),
            "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device,
            "threads": torch.get_num_threads(),
            "fast": fast_settings(options),
            **result,
        }
    )


def fast_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of `generate --fast`, with what is asked for in their place."""
    asked = {
        "num_inference_steps": options.fast_steps,
        "scheduler": options.fast_scheduler,
        "guidance_interval": options.fast_interval and tuple(options.fast_interval),
    }
    return {**FAST, **{name: value for name, value in asked.items() if value is not None}}


# -- speed -------------------------------------------------------------------------------------------------------------


def measure_speed(options: argparse.Namespace) -> dict[str, Any]:
    """Images per second of every contender, and ours by theirs."""
    if options.device.startswith("cuda"):  # as the pipeline's promises are of fp32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    frozen, data = make_frozen(options.frozen, options.device), make_data()
    rows, ratios = [], {}
    for unet in options.unet:
        pipeline = make_pipeline(unet, frozen, options.device)
        for count in options.batch_sizes:
            for scales in options.scales or SCALES:
                contenders = prepare(pipeline, frozen, data, count, scales, options)
                seconds, images = run_in_turn(contenders, options)
                difference = check_equal(images)
                setting = f"{unet}, {count} at a time, scales {scales[0]:g} and {scales[1]:g}"
                speeds = {name: count / value for name, value in seconds.items()}
                rows += [
                    {
                        "UNet, batch, scales": setting,
                        "what": name,
                        "images/s": speed,
                        "largest difference": difference,
                    }
                    for name, speed in speeds.items()
                ]
                ours = speeds["graph2image"]
                ratios[setting] = {
                    **{f"ours by {name}": round(ours / speed, 2) for name, speed in speeds.items() if "way" in name},
                    "fast by ours": round(speeds["graph2image, fast"] / ours, 2),
                    "fast by reference's way": round(speeds["graph2image, fast"] / speeds["reference's way"], 2),
                }
    print_table(rows)
    return {"frozen": options.frozen, "steps": options.steps, "rows": rows, "ratios": ratios}


def make_pipeline(unet: str, frozen: Frozen, device: str) -> Graph2ImagePipeline:
    """A model with random weights, laid out in memory as `generate` does it."""
    network, graph_encoder = make_trainable(unet, frozen, device)
    pipeline = Graph2ImagePipeline(
        copy.deepcopy(frozen.vae).to(memory_format=torch.channels_last),
        frozen.texts.encoder,
        frozen.texts.tokenizer,
        network.requires_grad_(False).eval().to(memory_format=torch.channels_last),
        make_scheduler(),
        graph_encoder.requires_grad_(False).eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def prepare(
    pipeline: Graph2ImagePipeline,
    frozen: Frozen,
    data: Data,
    count: int,
    scales: tuple[float, float],
    options: argparse.Namespace,
) -> dict[str, Contender]:
    """The contenders: functions that return `count` images `(count, 3, height, width)` of values from 0 to 1."""
    items = range(count)
    shape = (count, 4, SIZE // 8, SIZE // 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(options.device)
    embeds = torch.stack(
        [frozen.embeddings([data.images[neighbor] for neighbor in data.neighbors[item]]) for item in items]
    )
    own = pipeline.scheduler
    fast = fast_settings(options)
    fast_scheduler = getattr(diffusers, SCHEDULERS[fast.pop("scheduler")]).from_config(own.config)

    def reference(chosen: Sequence[int]) -> Tensor:
        return the_references_way(pipeline, frozen, data, chosen, noise[list(chosen)], scales, options.steps)

    def ours(scheduler: Any, **settings: Any) -> Tensor:
        pipeline.scheduler = scheduler
        try:
            (images,) = pipeline(
                [data.texts[item] for item in items],
                neighbor_embeds=embeds,
                guidance_scale=scales[0],
                graph_guidance_scale=scales[1],
                latents=noise,
                output_type="pt",
                return_dict=False,
                **settings,
            )
        finally:
            pipeline.scheduler = own
        return torch.as_tensor(images)

    contenders: dict[str, Contender] = {
        "reference's way": lambda: torch.cat([reference([item]) for item in items]),
        "graph2image": lambda: ours(own, num_inference_steps=options.steps),
        "graph2image, fast": lambda: ours(fast_scheduler, **fast),
    }
    if count > 1:
        contenders["reference's way, batched"] = lambda: reference(items)
    return contenders


@torch.no_grad()
def the_references_way(
    pipeline: Graph2ImagePipeline,
    frozen: Frozen,
    data: Data,
    items: Sequence[int],
    latents: Tensor,
    scales: tuple[float, float],
    steps: int,
) -> Tensor:
    """Images of `items` from noise: everything is computed in the call, and all branches in every step."""
    text_scale, graph_scale = scales
    neighbors = [data.images[neighbor] for item in items for neighbor in data.neighbors[item]]
    embeds = frozen.embeddings(neighbors).unflatten(0, (len(items), -1))
    text = frozen.texts.encode([data.texts[item] for item in items])
    empty = frozen.texts.encode([""] * len(items)).hidden
    graph = pipeline.graph_encoder(text.input_ids, embeds)
    absent = torch.zeros_like(graph)
    tokens = torch.cat(
        [torch.cat(pair, dim=1) for pair in ((empty, absent), (text.hidden, absent), (text.hidden, graph))]
    )
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps, device=latents.device)
    for timestep in scheduler.timesteps:
        model_input = scheduler.scale_model_input(torch.cat([latents] * 3), timestep)
        nothing, texts, both = pipeline.unet(model_input, timestep, encoder_hidden_states=tokens).sample.chunk(3)
        guided = nothing + text_scale * (texts - nothing) + graph_scale * (both - texts)
        latents = scheduler.step(guided, timestep, latents).prev_sample
    decoded = frozen.vae.decode(latents / frozen.vae.config.scaling_factor).sample
    images: Tensor = (decoded / 2 + 0.5).clamp(0, 1)
    return images


def run_in_turn(
    contenders: dict[str, Contender], options: argparse.Namespace
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Seconds of each contender's fastest repeat, after one that is not counted, and its images."""
    fastest = dict.fromkeys(contenders, float("inf"))
    images = {}
    for repeat in range(options.repeats + 1):
        for name, contender in contenders.items():
            started = time.perf_counter()
            images[name] = contender().cpu()  # which waits for a GPU
            if repeat:
                fastest[name] = min(fastest[name], time.perf_counter() - started)
    return fastest, images


def check_equal(images: dict[str, Tensor]) -> float:
    """Largest difference between the images of the full setting; raises if it is too large."""
    full = [value for name, value in images.items() if "fast" not in name]
    difference = max(float((value - full[0]).abs().max()) for value in full)
    if not difference <= TOLERANCE:
        raise RuntimeError(f"the contenders' images differ by {difference}, which is more than {TOLERANCE}")
    return difference


# -- quality -----------------------------------------------------------------------------------------------------------


def measure_quality(options: argparse.Namespace) -> dict[str, Any]:
    """What the fast setting's images lose: similarity to the truth of either setting, and between the two."""
    from flows import requests, stages
    from flows.settings import Settings
    from ingest.datasets.root import DataRoot
    from ingest.images.loading import load_squares, square
    from model.evaluation.judge import judge_size, read_training_items, train_judge
    from model.generation.generate import generate
    from model.record import read_model_record

    data = DataRoot(options.quality)
    model_id = options.model or stages.default_model(Settings(data=options.quality))
    wanted = requests.for_split(Settings(data=options.quality), model_id, "test", options.items).requests
    full = GenerationSettings(num_inference_steps=options.steps, device=options.device, copy_check=None)
    size = judge_size(read_model_record(data, model_id).config.image_size)
    judge = train_judge(data, read_training_items(data), size)
    if judge is None:
        raise RuntimeError("these items have no entities that can be told from images")
    pixels = {}
    for name, settings in {"full": full, "fast": replace(full, **fast_settings(options))}.items():
        report = generate(data, model_id, wanted, settings)
        files = [data.read_bytes(f"generated/{model_id}/{name}.png") for name in report.generated_ids]
        pixels[name] = np.stack(
            [np.asarray(square(Image.open(io.BytesIO(file)).convert("RGB"), size)) for file in files]
        )
    images = {
        row["item_id"]: row["image_hash"]
        for source in data.names("items")
        for row in data.read(source, ["item_id", "image_hash"]).to_pylist()
    }
    true_pixels = load_squares(data, [images[request.item_id] for request in wanted], size)
    groups = [request.item_id for request in wanted]  # held out: no classifier has seen them
    truth, _ = judge.predict(true_pixels, groups)
    features = {name: judge.predict(value, groups)[0] for name, value in pixels.items()}
    lost = ((features["full"] - features["fast"]) * truth).sum(axis=1)
    rows = [
        {
            "setting": name,
            "similarity to the true image": float((value * truth).sum(axis=1).mean()),
            "similarity to the full setting's": float((value * features["full"]).sum(axis=1).mean()),
        }
        for name, value in features.items()
    ]
    print_table(rows)
    error = float(lost.std(ddof=1) / np.sqrt(len(lost)))
    return {
        "model": model_id,
        "items": len(wanted),
        "steps": options.steps,
        "rows": rows,
        "lost_similarity": {"mean": float(lost.mean()), "se": error},
    }


if __name__ == "__main__":
    main()
