from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import DIM, tiny_pipeline
from torch import Tensor

from model.guidance import guidance_weights
from model.pipeline import Graph2ImagePipeline

PROMPTS = ["a red thing", "something blue"]
MASKS = torch.tensor([[1, 1, 1], [1, 0, 0]]), torch.tensor([[1, 1], [1, 1]])
STEPS = 4


@pytest.fixture(scope="module")
def pipeline() -> Graph2ImagePipeline:
    return tiny_pipeline()


def neighbor_sets() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, DIM, generator=generator), torch.randn(2, 2, DIM, generator=generator)


def noise() -> Tensor:
    return torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(4))


def sample(pipeline: Graph2ImagePipeline, **arguments: Any) -> Tensor:
    defaults: dict[str, Any] = {"latents": noise(), "num_inference_steps": STEPS, "output_type": "latent"}
    images: Tensor = pipeline(PROMPTS, **(defaults | arguments)).images
    return images


def guided_by_the_formula(
    pipeline: Graph2ImagePipeline, text_scale: float, sets: list[tuple[Tensor, Tensor, float]]
) -> Tensor:
    """The formula written out, one UNet call per term."""
    encoded = pipeline.encode_prompt(PROMPTS)
    ids, text = encoded.input_ids, encoded.hidden
    empty = pipeline.encode_prompt(["", ""]).hidden
    no_graph = torch.zeros_like(text)
    latents = noise()
    pipeline.scheduler.set_timesteps(STEPS)
    with torch.no_grad():
        for t in pipeline.scheduler.timesteps:

            def e(graph: Tensor, prompt: Tensor) -> Tensor:
                condition = torch.cat([prompt, graph], dim=1)
                out: Tensor = pipeline.unet(latents, t, encoder_hidden_states=condition).sample  # noqa: B023
                return out

            base = e(no_graph, text)
            prediction = e(no_graph, empty) + text_scale * (base - e(no_graph, empty))
            for embeds, mask, scale in sets:
                prediction = prediction + scale * (e(pipeline.encode_graph(ids, embeds, mask), text) - base)
            latents = pipeline.scheduler.step(prediction, t, latents).prev_sample
    return latents


@given(st.floats(0, 10), st.lists(st.floats(0, 4), max_size=3))
def test_branch_weights_sum_to_one(text_scale: float, graph_scales: list[float]) -> None:
    weights = guidance_weights(text_scale, graph_scales)
    assert sum(weights.values()) == pytest.approx(1.0)
    assert all(weights.values())


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
@pytest.mark.parametrize("scales", [(2.0, [1.5]), (5.0, [3.0, 0.7]), (0.5, [0.3]), (2.0, [])])
def test_guidance_is_the_formula(prediction_type: str, scales: tuple[float, list[float]]) -> None:
    pipeline = tiny_pipeline(prediction_type)
    text_scale, graph_scales = scales
    count = len(graph_scales)
    latents = sample(
        pipeline,
        neighbor_embeds=list(neighbor_sets()[:count]),
        neighbor_mask=list(MASKS[:count]),
        guidance_scale=text_scale,
        graph_guidance_scale=graph_scales,
    )
    expected = guided_by_the_formula(
        pipeline, text_scale, list(zip(neighbor_sets()[:count], MASKS[:count], graph_scales, strict=True))
    )
    # Batched otherwise, and guidance enlarges rounding.
    torch.testing.assert_close(latents, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("text_scale", "graph_scale", "branches"),
    [(2.0, 1.5, 3), (2.0, 2.0, 2), (1.0, 1.0, 1), (2.0, 0.0, 2), (0.0, 0.0, 1)],
)
def test_only_branches_with_a_weight_are_computed(
    pipeline: Graph2ImagePipeline, text_scale: float, graph_scale: float, branches: int
) -> None:
    sizes = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    sample(pipeline, neighbor_embeds=neighbor_sets()[0], guidance_scale=text_scale, graph_guidance_scale=graph_scale)
    hook.remove()
    assert sizes == [branches * len(PROMPTS)] * STEPS


def test_scale_zero_and_no_neighbors_are_text_only(pipeline: Graph2ImagePipeline) -> None:
    text_only = sample(pipeline)
    embeds = neighbor_sets()[0]
    torch.testing.assert_close(sample(pipeline, neighbor_embeds=embeds, graph_guidance_scale=0.0), text_only)
    absent = torch.zeros(2, 3, dtype=torch.bool)
    masked = sample(pipeline, neighbor_embeds=embeds, neighbor_mask=absent, graph_guidance_scale=1.5)
    torch.testing.assert_close(masked, text_only, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(sample(pipeline, neighbor_embeds=embeds), text_only, atol=1e-2)


@pytest.mark.parametrize(
    "scheduler", [DPMSolverMultistepScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler]
)
def test_other_schedulers_and_batch_equals_single(scheduler: Any) -> None:
    pipeline = tiny_pipeline("epsilon")
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    embeds, mask = neighbor_sets()[0], MASKS[0]

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (5, 6)]

    batch = sample(pipeline, latents=None, generator=generators(), neighbor_embeds=embeds, neighbor_mask=mask)
    for index, generator in enumerate(generators()):
        one = slice(index, index + 1)
        single = pipeline(
            PROMPTS[index],
            neighbor_embeds=embeds[one],
            neighbor_mask=mask[one],
            num_inference_steps=STEPS,
            generator=generator,
            output_type="latent",
        ).images
        torch.testing.assert_close(single[0], batch[index], atol=2e-3, rtol=2e-3)


def test_save_and_load_give_the_same_image(pipeline: Graph2ImagePipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    loaded = Graph2ImagePipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = {"neighbor_embeds": neighbor_sets()[0], "output_type": "np"}
    np.testing.assert_allclose(sample(loaded, **arguments), sample(pipeline, **arguments), atol=1e-5)


def test_outputs(pipeline: Graph2ImagePipeline) -> None:
    (image,) = pipeline("a thing", num_inference_steps=1).images
    assert image.size == (32, 32)
    (image,) = pipeline("a thing", num_inference_steps=1, height=16, width=48, return_dict=False)[0]
    assert image.size == (48, 16)


def test_callback_sees_and_changes_latents(pipeline: Graph2ImagePipeline) -> None:
    seen = []

    def callback(_pipeline: Any, step: int, _timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(step)
        return {"latents": torch.zeros_like(tensors["latents"])}

    assert not sample(pipeline, callback_on_step_end=callback).any()
    assert seen == list(range(STEPS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neighbor_embeds": torch.zeros(2, 3, DIM + 1)}, "embedded by the encoder"),
        ({"neighbor_embeds": torch.zeros(1, 3, DIM)}, r"expected \(2, neighbors"),
        ({"neighbor_embeds": torch.zeros(2, 3, DIM), "neighbor_mask": torch.ones(2, 4)}, "neighbor_mask"),
        ({"neighbor_embeds": [torch.zeros(2, 3, DIM)], "graph_guidance_scale": [1.0, 2.0]}, "do not fit together"),
        ({"num_inference_steps": 0}, "at least 1"),
        ({"latents": torch.zeros(2, 4, 5, 5)}, "latents are"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "callbacks get"),
    ],
)
def test_arguments_that_do_not_fit(pipeline: Graph2ImagePipeline, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(pipeline, **arguments)
