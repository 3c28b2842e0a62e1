"""What a diffusers user expects of the pipeline, for each structure of model that it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate.big_modeling
import diffusers
import numpy as np
import pytest
import torch
from calls import PROMPTS, STEPS, close, neighbors, noise, random_images, sample
from diffusers import AutoencoderKL
from peft import LoraConfig
from PIL import Image
from tiny_data import tiny_clip, tiny_pipeline
from tiny_models import STRUCTURES, Structure, image_encoder, parts, pipeline
from torch import Tensor

from model.networks.image_encoder import OpenClipImageEncoder
from model.pipeline import Graph2ImagePipeline

# -- saving, dtypes and devices ----------------------------------------------------------------------------------------


def test_saved_and_loaded(any_pipe: Graph2ImagePipeline, tmp_path: Path) -> None:
    any_pipe.save_pretrained(tmp_path)
    assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} <= {".json", ".txt", ".safetensors"}
    loaded = Graph2ImagePipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.config.force_zeros_for_empty_prompt == any_pipe.config.force_zeros_for_empty_prompt
    arguments: dict[str, Any] = {"neighbor_embeds": neighbors(), "output_type": "np"}
    np.testing.assert_allclose(sample(loaded, **arguments), sample(any_pipe, **arguments), atol=1e-6)


def test_optional_parts_are_saved_too(pipe: Graph2ImagePipeline, tmp_path: Path) -> None:
    pipe.register_to_config(max_neighbors=2)
    pipe.save_pretrained(tmp_path)
    pipe.register_to_config(max_neighbors=None)
    loaded = Graph2ImagePipeline.from_pretrained(tmp_path)
    assert loaded.config.max_neighbors == 2
    images = random_images(2)
    assert torch.equal(loaded.encode_neighbors(images), pipe.encode_neighbors(images))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_dtype(structure: Structure, dtype: torch.dtype) -> None:
    expected = sample(pipeline(structure), neighbor_embeds=neighbors(), output_type="pt")
    encoder, processor = image_encoder()
    pipe = pipeline(structure, image_encoder=encoder, feature_extractor=processor).to(dtype)
    assert pipe.graph_encoder.dtype == pipe.vae.dtype == dtype
    weights = torch.ones(2, 3)
    images = sample(pipe, neighbor_embeds=neighbors(), neighbor_weights=weights, output_type="pt")
    assert images.dtype == dtype
    close(images.float(), expected, 0.1 if dtype == torch.bfloat16 else 1e-3)
    assert sample(pipe, neighbors=[random_images(2), []]).dtype == dtype


def test_dtype_when_loading(any_pipe: Graph2ImagePipeline, tmp_path: Path) -> None:
    any_pipe.save_pretrained(tmp_path)
    loaded = Graph2ImagePipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert {part.dtype for part in loaded.components.values() if isinstance(part, torch.nn.Module)} == {torch.bfloat16}


@pytest.fixture
def offload_to_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers sends parts to `cpu:0`, which to accelerate is another device than `cpu`."""
    monkeypatch.setattr(
        "accelerate.cpu_offload",
        lambda part, device, **options: accelerate.big_modeling.cpu_offload(part, torch.device(device.type), **options),
    )


@pytest.mark.usefixtures("offload_to_the_processor")
@pytest.mark.parametrize("offload", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_offload_hooks(structure: Structure, offload: str) -> None:
    """With the processor as the device that the parts are sent to: hooks and all, the images are the same."""
    encoder, processor = image_encoder()
    pipe = pipeline(structure, image_encoder=encoder, feature_extractor=processor)
    arguments: dict[str, Any] = {"neighbors": [random_images(2), random_images(3)], "output_type": "np"}
    expected = sample(pipe, **arguments)
    getattr(pipe, offload)(device="cpu")
    for _ in range(2):
        np.testing.assert_allclose(sample(pipe, **arguments), expected, atol=1e-5)
    if offload == "enable_sequential_cpu_offload":
        assert next(pipe.unet.parameters()).device.type == "meta"


@pytest.mark.usefixtures("offload_to_the_processor")
def test_offload_hooks_of_our_own_parts() -> None:
    """`MiniAutoencoder` and `OpenClipImageEncoder`, whose work is not all done in `forward`."""
    clip, config = tiny_clip()
    pipe = tiny_pipeline()
    pipe.register_modules(image_encoder=OpenClipImageEncoder.from_open_clip(config, clip.state_dict()))
    arguments: dict[str, Any] = {"neighbors": [random_images(2), random_images(3)], "output_type": "np"}
    expected = sample(pipe, **arguments)
    calls = []
    pipe.enable_model_cpu_offload(device="cpu")
    sent = pipe.vae._hf_hook.pre_forward
    pipe.vae._hf_hook.pre_forward = lambda module, *args: (calls.append(module), sent(module, *args))[1]
    np.testing.assert_allclose(sample(pipe, **arguments), expected, atol=1e-5)
    assert calls == [pipe.vae]
    pipe.enable_sequential_cpu_offload(device="cpu")
    np.testing.assert_allclose(sample(pipe, **arguments), expected, atol=1e-5)


def test_small_weights_in_half_precision() -> None:
    pipe = pipeline("sd15")
    pipe.graph_encoder.to(torch.float16)
    ids = pipe.encode_prompt(PROMPTS).input_ids
    tokens = pipe.encode_graph(ids, neighbors(), neighbor_weights=torch.full((2, 3), 1e-9))
    assert tokens.dtype == torch.float16
    close(tokens, pipe.encode_graph(ids, neighbors()), 1e-2)


# -- attention and adapters --------------------------------------------------------------------------------------------


def test_attention_processors(pipe: Graph2ImagePipeline) -> None:
    assert all("2_0" in type(processor).__name__ for processor in pipe.unet.attn_processors.values())
    default = sample(pipe, neighbor_embeds=neighbors())
    pipe.enable_attention_slicing(1)
    close(sample(pipe, neighbor_embeds=neighbors()), default)
    pipe.disable_attention_slicing()
    pipe.unet.set_attn_processor(diffusers.models.attention_processor.AttnProcessor())
    close(sample(pipe, neighbor_embeds=neighbors()), default)
    pipe.unet.set_default_attn_processor()


@pytest.mark.skipif(diffusers.utils.is_xformers_available(), reason="it would be used")
def test_xformers_that_is_not_installed(pipe: Graph2ImagePipeline) -> None:
    with pytest.raises(ModuleNotFoundError, match="xformers"):
        pipe.enable_xformers_memory_efficient_attention()


def test_lora_adapter() -> None:
    pipe = pipeline("sd15")
    plain = sample(pipe, neighbor_embeds=neighbors())
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    assert not torch.allclose(sample(pipe, neighbor_embeds=neighbors()), plain, atol=1e-3)
    pipe.unet.disable_adapters()
    close(sample(pipe, neighbor_embeds=neighbors()), plain)


# -- schedulers, batches and sizes -------------------------------------------------------------------------------------

SCHEDULERS = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "UniPCMultistepScheduler",
    "LCMScheduler",
]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_batch_equals_single_with_any_scheduler(pipe: Graph2ImagePipeline, name: str) -> None:
    before = pipe.scheduler
    pipe.scheduler = getattr(diffusers, name).from_config(before.config)
    embeds, mask = neighbors(), torch.tensor([[1, 1, 1], [1, 0, 0]])

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (5, 6)]

    arguments: dict[str, Any] = {"latents": None, "num_inference_steps": 4}
    batch = sample(pipe, generator=generators(), neighbor_embeds=embeds, neighbor_mask=mask, **arguments)
    for index, generator in enumerate(generators()):
        one = slice(index, index + 1)
        (single,) = sample(
            pipe,
            PROMPTS[index],
            neighbor_embeds=embeds[one],
            neighbor_mask=mask[one],
            generator=generator,
            **arguments,
        )
        close(single / batch[index].std(), batch[index] / batch[index].std(), 5e-3)
    assert pipe.num_timesteps == len(pipe.scheduler.timesteps)
    pipe.scheduler = before


def test_eta_reaches_the_scheduler(pipe: Graph2ImagePipeline) -> None:
    plain = sample(pipe)
    noisy = [sample(pipe, eta=1.0, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.allclose(noisy[0], noisy[2], atol=1e-2)
    assert not torch.allclose(noisy[0], plain, atol=1e-2)


def test_images_of_a_prompt_follow_each_other(any_pipe: Graph2ImagePipeline) -> None:
    start, embeds = noise(4), neighbors()
    images = sample(any_pipe, neighbor_embeds=embeds, num_images_per_prompt=2, latents=start)
    twice = sample(any_pipe, [PROMPTS[0]] * 2 + [PROMPTS[1]] * 2, neighbor_embeds=embeds[[0, 0, 1, 1]], latents=start)
    close(images, twice)


def test_sizes_and_kinds_of_output(any_pipe: Graph2ImagePipeline) -> None:
    def call(**arguments: Any) -> Any:
        return any_pipe("a thing", num_inference_steps=1, **arguments)

    (image,) = call().images
    assert isinstance(image, Image.Image)
    assert image.size == (32, 32)
    assert call(height=16, width=48, output_type="np").images.shape == (1, 16, 48, 3)
    assert call(output_type="pt").images.shape == (1, 3, 32, 32)
    assert call(width=64, output_type="latent", return_dict=False)[0].shape == (1, 4, 4, 8)


def test_a_network_of_another_height_than_width(pipe: Graph2ImagePipeline) -> None:
    before = pipe.unet.config.sample_size
    pipe.unet.register_to_config(sample_size=(4, 6))
    assert pipe("a thing", num_inference_steps=1, output_type="latent").images.shape == (1, 4, 4, 6)
    pipe.unet.register_to_config(sample_size=None)
    with pytest.raises(ValueError, match="give height and width"):
        pipe("a thing", num_inference_steps=1)
    pipe.unet.register_to_config(sample_size=before)


def test_an_autoencoder_too_large_for_float16_is_upcast_for_the_time() -> None:
    seen = []
    vae = parts("sd15")["vae"].to(torch.float16)
    assert isinstance(vae, AutoencoderKL)
    vae.decoder.register_forward_pre_hook(lambda module, _inputs: seen.append(module.conv_in.weight.dtype))
    pipe = pipeline("sd15", vae=vae)
    assert pipe("a thing", num_inference_steps=1, output_type="pt").images.isfinite().all()
    assert seen == [torch.float32]
    assert vae.dtype == torch.float16


# -- callbacks ---------------------------------------------------------------------------------------------------------


def test_a_callback_interrupts(pipe: Graph2ImagePipeline) -> None:
    seen = []

    def stop_after_two(of: Graph2ImagePipeline, step: int, _timestep: Tensor, tensors: dict[str, Tensor]) -> Any:
        seen.append(tensors["latents"])
        assert of.num_timesteps == 5
        of._interrupt = step == 1
        return {}

    images = sample(pipe, callback_on_step_end=stop_after_two, num_inference_steps=5)
    assert len(seen) == 2
    assert torch.equal(images, seen[-1])
    assert not pipe("x", num_inference_steps=1, output_type="latent").images.equal(images[:1])
    assert not pipe.interrupt  # of the call before


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = pipeline("sd15")
    sample(pipe)
    assert not capsys.readouterr().err
    pipe.set_progress_bar_config(disable=False)
    sample(pipe)
    assert f"{STEPS}/{STEPS}" in capsys.readouterr().err
