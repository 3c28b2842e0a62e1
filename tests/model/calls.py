"""Calls of the tiny pipelines: their arguments, and how many predictions they ask the network for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny_models import NEIGHBOR_DIM
from torch import Tensor

from model.pipeline import Graph2ImagePipeline

PROMPTS = ["a red thing", "sea"]
STEPS = 3


def neighbors(count: int = 3, seed: int = 3, prompts: int = 2) -> Tensor:
    return torch.randn(prompts, count, NEIGHBOR_DIM, generator=torch.Generator().manual_seed(seed))


def noise(images: int = 2) -> Tensor:
    return torch.randn(images, 4, 4, 4, generator=torch.Generator().manual_seed(4))


def sample(pipe: Graph2ImagePipeline, prompt: Any = PROMPTS, **arguments: Any) -> Any:
    count = (1 if isinstance(prompt, str) else len(prompt)) * arguments.get("num_images_per_prompt", 1)
    defaults: dict[str, Any] = {"latents": noise(count), "num_inference_steps": STEPS, "output_type": "latent"}
    return pipe(prompt, **(defaults | arguments)).images


def batch_sizes(pipe: Graph2ImagePipeline, **arguments: Any) -> list[int]:
    """How many predictions each call of the network is asked for, in a call for one image."""
    sizes: list[int] = []
    hook = pipe.unet.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    sample(pipe, "a thing", **arguments)
    hook.remove()
    return sizes


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-3) -> None:
    """Equal but for rounding, which another batch changes and guidance enlarges."""
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def random_images(count: int, seed: int = 0) -> list[Image.Image]:
    random = np.random.default_rng(seed)
    return [Image.fromarray(random.integers(256, size=(40, 30, 3), dtype=np.uint8)) for _ in range(count)]
