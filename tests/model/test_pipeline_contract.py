"""What a diffusers user expects of the pipeline, for each structure of model that it serves."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import accelerate.big_modeling
import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from peft import LoraConfig
from PIL import Image
from tiny_data import TinyData, tiny_clip, tiny_pipeline
from tiny_models import NEIGHBOR_DIM, STRUCTURES, Structure, graph_encoder, image_encoder, parts, pipeline
from torch import Tensor

from ingest.encoders.checkpoint import load_encoder
from model.backbones import Condition, predict
from model.image_encoder import OpenClipImageEncoder
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


@pytest.fixture(scope="module", params=STRUCTURES)
def any_pipe(request: pytest.FixtureRequest) -> Graph2ImagePipeline:
    return pipeline(request.param)


@pytest.fixture(scope="module")
def pipe() -> Graph2ImagePipeline:
    encoder, processor = image_encoder()
    return pipeline("sd15", image_encoder=encoder, feature_extractor=processor)


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
    images = pictures(2)
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
    assert sample(pipe, neighbors=[pictures(2), []]).dtype == dtype


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
    """With the processor as the device that the parts are sent to: hooks and all, the pictures are the same."""
    encoder, processor = image_encoder()
    pipe = pipeline(structure, image_encoder=encoder, feature_extractor=processor)
    arguments: dict[str, Any] = {"neighbors": [pictures(2), pictures(3)], "output_type": "np"}
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
    arguments: dict[str, Any] = {"neighbors": [pictures(2), pictures(3)], "output_type": "np"}
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

    (picture,) = call().images
    assert isinstance(picture, Image.Image)
    assert picture.size == (32, 32)
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


# -- prompts and guidance ----------------------------------------------------------------------------------------------


def by_the_formula(
    pipe: Graph2ImagePipeline,
    negatives: list[str],
    text_scale: float,
    sets: list[tuple[Tensor, float]],
    rescaled: float = 0.0,
) -> Tensor:
    """The guided loop written out, one call of the network per term."""
    text, no_text = pipe.encode_prompt(PROMPTS), pipe.encode_prompt(negatives)
    no_graph = torch.zeros_like(text.hidden)
    latents = noise()
    pipe.scheduler.set_timesteps(STEPS)
    latents = latents * pipe.scheduler.init_noise_sigma
    with torch.no_grad():
        graphs = [pipe.encode_graph(text.input_ids, embeds) for embeds, _ in sets]
        for t in pipe.scheduler.timesteps:

            def e(graph: Tensor, seen: Any) -> Tensor:
                condition = Condition(torch.cat([seen.hidden, graph], dim=1), seen.pooled)
                return predict(pipe.unet, pipe.scheduler.scale_model_input(latents, t), t, condition)  # noqa: B023

            base = e(no_graph, text)
            guided = e(no_graph, no_text) + text_scale * (base - e(no_graph, no_text))
            conditioned = base
            for graph, (_, scale) in zip(graphs, sets, strict=True):
                difference = e(graph, text) - base
                guided = guided + scale * difference
                conditioned = conditioned + difference * scale / max(1.0, sum(one for _, one in sets))
            # Equations 15 and 16 of Lin et al.
            ratio = conditioned.std(dim=(1, 2, 3), keepdim=True) / guided.std(dim=(1, 2, 3), keepdim=True)
            guided = rescaled * (guided * ratio) + (1 - rescaled) * guided
            latents = pipe.scheduler.step(guided, t, latents).prev_sample
    return latents


@pytest.mark.parametrize("negative", [None, "blurred", ["blurred", "dull"]])
def test_negative_prompts(any_pipe: Graph2ImagePipeline, negative: Any) -> None:
    arguments: dict[str, Any] = {"guidance_scale": 4.0, "graph_guidance_scale": 1.5, "neighbor_embeds": neighbors()}
    negatives = negative if isinstance(negative, list) else [negative or ""] * 2
    expected = by_the_formula(any_pipe, negatives, 4.0, [(neighbors(), 1.5)])
    close(sample(any_pipe, negative_prompt=negative, **arguments), expected)
    if negative:
        assert not torch.allclose(sample(any_pipe, **arguments), expected, atol=1e-2)


@pytest.mark.parametrize("scales", [[2.0], [2.0, 0.5], [0.4, 0.3]])
def test_rescaled_guidance(any_pipe: Graph2ImagePipeline, scales: list[float]) -> None:
    sets = [neighbors(seed=seed) for seed in range(len(scales))]
    expected = by_the_formula(any_pipe, [""] * 2, 6.0, list(zip(sets, scales, strict=True)), rescaled=0.7)
    arguments: dict[str, Any] = {"neighbor_embeds": sets, "graph_guidance_scale": scales, "guidance_scale": 6.0}
    close(sample(any_pipe, guidance_rescale=0.7, **arguments), expected)
    assert not torch.allclose(sample(any_pipe, **arguments), expected, atol=1e-2)


def test_stable_diffusion_xl_sees_what_diffusers_shows_it() -> None:
    ours = pipeline("sdxl")
    found = parts("sdxl")
    theirs = diffusers.StableDiffusionXLPipeline(**(found | {"unet": ours.unet}), add_watermarker=False)
    theirs.set_progress_bar_config(disable=True)
    seen: list[dict[str, Tensor]] = []
    hook = ours.unet.register_forward_pre_hook(
        lambda _module, _inputs, named: seen.append(
            named["added_cond_kwargs"] | {"tokens": named["encoder_hidden_states"]}
        ),
        with_kwargs=True,
    )
    arguments: dict[str, Any] = {"height": 48, "num_inference_steps": 1, "output_type": "latent"}
    for pipe in (ours, theirs):
        pipe(PROMPTS, **arguments)
    hook.remove()
    for name in ("time_ids", "text_embeds"):
        torch.testing.assert_close(seen[0][name], seen[1][name])
    torch.testing.assert_close(seen[0]["tokens"][:, : seen[1]["tokens"].shape[1]], seen[1]["tokens"])
    assert not seen[0]["tokens"][:, seen[1]["tokens"].shape[1] :].any()


def test_pixart_is_told_the_size_if_it_was_trained_so() -> None:
    torch.manual_seed(0)
    network = diffusers.PixArtTransformer2DModel(
        sample_size=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=6,
        use_additional_conditions=True,
    ).eval()
    latents, tokens = torch.randn(2, 4, 4, 6), torch.randn(2, 5, 6)
    sizes = torch.tensor([[32.0, 48.0]] * 2)
    with torch.no_grad():
        expected = network(
            latents,
            tokens,
            timestep=torch.tensor([9, 9]),
            added_cond_kwargs={"resolution": sizes, "aspect_ratio": torch.tensor([[32 / 48]] * 2)},
        ).sample
        actual = predict(network, latents, torch.tensor(9), Condition(tokens))
    torch.testing.assert_close(actual, expected[:, :4])


def test_an_empty_prompt_is_no_text_at_all(any_pipe: Graph2ImagePipeline) -> None:
    close(sample(any_pipe, ["", ""], guidance_scale=9.0), sample(any_pipe, ["", ""], guidance_scale=0.0))


def test_guidance_in_an_interval(pipe: Graph2ImagePipeline) -> None:
    arguments: dict[str, Any] = {"neighbor_embeds": neighbors(prompts=1), "num_inference_steps": 10}
    assert batch_sizes(pipe, **arguments) == [3] * 10
    assert batch_sizes(pipe, guidance_interval=(0.2, 0.7), **arguments) == [1] * 2 + [3] * 5 + [1] * 3
    assert batch_sizes(pipe, guidance_interval=(0.5, 0.5), **arguments) == [1] * 10
    assert batch_sizes(pipe, guidance_interval=(0.0, 0.5), guidance_rescale=0.5, **arguments) == [3] * 5 + [1] * 5


def test_guidance_in_an_interval_with_several_sets(pipe: Graph2ImagePipeline) -> None:
    sets = [neighbors(prompts=1), neighbors(2, seed=5, prompts=1)]
    arguments: dict[str, Any] = {"neighbor_embeds": sets, "graph_guidance_scale": [1.4, 0.6]}
    interval: dict[str, Any] = {"guidance_interval": (0.0, 0.3), "num_inference_steps": 4}
    # 70% of one, 30% of the other: neither text alone nor nothing is looked at.
    assert batch_sizes(pipe, **arguments, **interval) == [4] + [2] * 3


def test_the_whole_interval_is_no_interval(pipe: Graph2ImagePipeline) -> None:
    arguments: dict[str, Any] = {"neighbor_embeds": neighbors()}
    assert torch.equal(sample(pipe, guidance_interval=(0.0, 1.0), **arguments), sample(pipe, **arguments))
    nothing_amplified = sample(pipe, guidance_scale=1.0, graph_guidance_scale=1.0, **arguments)
    close(sample(pipe, guidance_interval=(0.0, 0.0), **arguments), nothing_amplified)


# -- neighbors ---------------------------------------------------------------------------------------------------------


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    random = np.random.default_rng(seed)
    return [Image.fromarray(random.integers(256, size=(40, 30, 3), dtype=np.uint8)) for _ in range(count)]


def test_images_are_their_embeddings(pipe: Graph2ImagePipeline) -> None:
    ours, theirs = pictures(3), pictures(1, seed=1)
    pixels = pipe.feature_extractor(ours, return_tensors="pt").pixel_values
    torch.testing.assert_close(pipe.encode_neighbors(ours), pipe.image_encoder(pixels).image_embeds)
    embeds = torch.stack([pipe.encode_neighbors(ours), torch.zeros(3, NEIGHBOR_DIM)])
    embeds[1, :1] = pipe.encode_neighbors(theirs)
    expected = sample(pipe, neighbor_embeds=embeds, neighbor_mask=torch.tensor([[1, 1, 1], [1, 0, 0]]))
    close(sample(pipe, neighbors=[ours, theirs]), expected)
    for one_prompt in ("a red thing", ["a red thing"]):
        single = sample(pipe, one_prompt, neighbor_embeds=embeds[:1], latents=noise()[:1])
        close(sample(pipe, one_prompt, neighbors=[ours], latents=noise()[:1]), single)
        close(sample(pipe, one_prompt, neighbors=ours, latents=noise()[:1]), single)


def test_several_sets_of_images(pipe: Graph2ImagePipeline) -> None:
    monet, kandinsky = pictures(3), pictures(2, seed=1)
    scales = [0.7 * 1.5, 0.3 * 1.5]
    sets = [pipe.encode_neighbors(images)[None] for images in (monet, kandinsky)]
    expected = sample(pipe, "a garden", neighbor_embeds=sets, graph_guidance_scale=scales)
    close(sample(pipe, "a garden", neighbors=[monet, kandinsky], graph_guidance_scale=scales), expected)
    two = sample(pipe, neighbors=[[monet, kandinsky], [kandinsky, []]], graph_guidance_scale=scales, latents=noise(2))
    (first,) = sample(pipe, PROMPTS[0], neighbors=[monet, kandinsky], graph_guidance_scale=scales, latents=noise(2)[:1])
    (second,) = sample(pipe, PROMPTS[1], neighbors=[kandinsky, []], graph_guidance_scale=scales, latents=noise(2)[1:])
    close(two, torch.stack([first, second]))


def test_no_neighbors_are_text_only(any_pipe: Graph2ImagePipeline) -> None:
    text_only = sample(any_pipe)
    close(sample(any_pipe, neighbor_embeds=torch.zeros(2, 0, NEIGHBOR_DIM)), text_only)
    close(sample(any_pipe, neighbor_embeds=neighbors(), neighbor_mask=torch.zeros(2, 3)), text_only)
    close(sample(any_pipe, neighbors=[[], []]), text_only)
    close(sample(any_pipe, PROMPTS[0], neighbors=[], latents=noise()[:1]), text_only[:1])


def test_of_too_many_neighbors_the_first_are_seen(pipe: Graph2ImagePipeline) -> None:
    images, embeds = pictures(4), neighbors(4)
    two: dict[str, Any] = {"neighbor_embeds": embeds[:, :2], "neighbor_weights": torch.tensor([[1.0, 0.5]] * 2)}
    expected = sample(pipe, **two), sample(pipe, "x", neighbors=images[:2], neighbor_weights=torch.tensor([[1.0, 0.5]]))
    pipe.register_to_config(max_neighbors=2)
    four = torch.tensor([[1.0, 0.5, 2.0, 3.0]])
    close(sample(pipe, neighbor_embeds=embeds, neighbor_weights=four.expand(2, -1)), expected[0])
    encoded: list[int] = []
    hook = pipe.image_encoder.register_forward_pre_hook(lambda _module, inputs: encoded.append(len(inputs[0])))
    close(sample(pipe, "x", neighbors=images, neighbor_weights=four), expected[1])
    hook.remove()
    assert encoded == [2]
    pipe.register_to_config(max_neighbors=None)
    with pytest.raises(ValueError, match="max_neighbors"):
        pipeline("sd15", max_neighbors=-1)


def test_an_open_clip_tower_is_the_encoder_it_comes_from(shared_tiny: TinyData, tmp_path: Path) -> None:
    clip, config = tiny_clip()
    tower = OpenClipImageEncoder.from_open_clip(config, clip.state_dict())
    tower.save_pretrained(tmp_path)
    encoder = load_encoder(shared_tiny.root, "tiny")
    images = [*pictures(3), Image.new("L", (7, 50), 90)]
    expected = encoder.encode_images([encoder.prepare(image.convert("RGB")) for image in images])
    for tower_ in (tower, OpenClipImageEncoder.from_pretrained(tmp_path)):
        torch.testing.assert_close(tower_(tower_.preprocess(images)).image_embeds, expected, atol=1e-5, rtol=1e-5)


def test_neighbors_by_texts_or_both() -> None:
    found = parts("sd15")
    texts = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(8))
    by_texts = pipeline("sd15", graph_encoder=graph_encoder(found["text_encoder"], None, neighbor_text_dim=7))
    text_only = sample(by_texts)
    changed = sample(by_texts, neighbor_text_embeds=texts)
    assert not torch.allclose(changed, text_only, atol=1e-2)
    with pytest.raises(ValueError, match="takes no neighbor_embeds"):
        sample(by_texts, neighbor_embeds=neighbors(), neighbor_text_embeds=texts)
    with pytest.raises(ValueError, match="does not look at neighbors' images"):
        sample(by_texts, neighbors=[pictures(1), []])

    encoder, processor = image_encoder()
    by_both = pipeline(
        "sd15",
        graph_encoder=graph_encoder(found["text_encoder"], neighbor_text_dim=7),
        image_encoder=encoder,
        feature_extractor=processor,
    )
    images = [pictures(3), pictures(3, seed=1)]
    embeds = torch.stack([by_both.encode_neighbors(row) for row in images])
    expected = sample(by_both, neighbor_embeds=embeds, neighbor_text_embeds=texts)
    close(sample(by_both, neighbors=images, neighbor_text_embeds=texts), expected)
    assert not torch.allclose(sample(by_both, neighbor_embeds=embeds, neighbor_text_embeds=-texts), expected, atol=1e-2)
    with pytest.raises(ValueError, match="needs neighbor_text_embeds"):
        sample(by_both, neighbor_embeds=embeds)


def test_relation_types() -> None:
    encoder = graph_encoder(parts("sd15")["text_encoder"], relation_types=["CREATED_BY", "IN_GENRE"])
    pipe = pipeline("sd15", graph_encoder=encoder)
    types = torch.tensor([[1, 2, 0], [2, 2, 2]])
    untyped = sample(pipe, neighbor_embeds=neighbors())
    close(sample(pipe, neighbor_embeds=neighbors(), neighbor_types=types), untyped)
    torch.nn.init.normal_(encoder.relation_embedding.weight[1:])
    typed = sample(pipe, neighbor_embeds=neighbors(), neighbor_types=types)
    assert not torch.allclose(typed, untyped, atol=1e-2)
    close(sample(pipe, neighbor_embeds=neighbors(), neighbor_types=torch.zeros_like(types)), untyped)
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match="not all between 0 and 2"):
            sample(pipe, neighbor_embeds=neighbors(), neighbor_types=torch.full((2, 3), wrong))


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


# -- arguments that do not fit -----------------------------------------------------------------------------------------

ONE = pictures(1)[0]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompt": []}, "one at least"),
    ({"prompt": [None]}, "are texts"),
    ({"negative_prompt": ["a", "b", "c"]}, "3 negative prompts for 2 prompts"),
    ({"output_type": "png"}, "output_type is 'png'"),
    ({"num_inference_steps": 0}, "num_inference_steps is 0"),
    ({"num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
    ({"guidance_interval": (0.6, 0.4)}, "guidance_interval"),
    ({"guidance_interval": (0.0, 1.2)}, "guidance_interval"),
    ({"guidance_rescale": 1.5}, "guidance_rescale"),
    ({"height": 12}, "height is 12, it must be a multiple of 8"),
    ({"latents": torch.zeros(1, 4, 4, 4)}, r"latents are \(1, 4, 4, 4\), expected \(2,"),
    ({"generator": [torch.Generator()], "latents": None}, "1 generators for 2 images"),
    ({"generator": [torch.Generator()] * 3, "latents": None}, "3 generators for 2 images"),
    ({"neighbors": ONE}, "lists of PIL images"),
    ({"neighbors": [ONE, ONE]}, "lists of PIL images"),
    ({"neighbors": [[np.zeros((4, 4, 3))], []]}, "lists of PIL images"),
    ({"neighbors": [[ONE]]}, "neighbors are of 1 prompts, there are 2"),
    ({"neighbors": []}, "neighbors are of 0 prompts"),
    ({"neighbors": [[ONE], [ONE]], "neighbor_embeds": neighbors()}, "not both"),
    ({"neighbors": [[[ONE], []], [[], []]]}, "list of graph_guidance_scale"),
    ({"neighbors": [[[ONE], []]], "graph_guidance_scale": [1.0, 2.0]}, "do not fit together"),
    ({"neighbor_embeds": torch.zeros(2, 3, NEIGHBOR_DIM + 1)}, "embedded by the encoder"),
    ({"neighbor_embeds": torch.zeros(2, NEIGHBOR_DIM)}, "neighbor_embeds are"),
    ({"neighbor_embeds": neighbors(), "neighbor_mask": torch.ones(2, 4)}, "neighbor_mask"),
    ({"neighbor_mask": torch.ones(2, 4)}, "do not fit together"),
    ({"neighbor_embeds": neighbors(), "neighbor_weights": torch.tensor([[1.0, -1.0, 0.0]] * 2)}, "negative"),
    ({"neighbor_embeds": neighbors(), "neighbor_weights": torch.tensor([[1.0, torch.inf, 0.0]] * 2)}, "infinite"),
    ({"neighbor_embeds": neighbors(), "neighbor_weights": torch.ones(2, 3, 1)}, "neighbor_weights"),
    ({"neighbor_embeds": neighbors(), "neighbor_types": torch.ones(2, 3, dtype=torch.int64)}, "neighbor_types"),
    ({"neighbor_embeds": neighbors(), "neighbor_text_embeds": torch.zeros(2, 3, 7)}, "takes no neighbor_text_embeds"),
    ({"callback_on_step_end_tensor_inputs": ["noise"]}, "callbacks get"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_arguments_that_do_not_fit(pipe: Graph2ImagePipeline, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe(**({"prompt": PROMPTS, "num_inference_steps": 1} | arguments))


def test_images_without_an_image_encoder() -> None:
    with pytest.raises(ValueError, match="no image encoder: give neighbor_embeds"):
        pipeline("sd15")("a thing", neighbors=pictures(1), num_inference_steps=1)


def test_scale_zero_needs_no_embeddings_of_the_graph(pipe: Graph2ImagePipeline) -> None:
    sizes = {scale: batch_sizes(pipe, neighbor_embeds=neighbors(prompts=1), **scale_of(scale)) for scale in SCALES}
    assert all(set(sizes[scale]) == {count} for scale, count in SCALES.items())
    assert all(len(one) == len(other) for one, other in pairwise(sizes.values()))


#: Text and graph scale, and how many predictions the formula takes with them.
SCALES = {(0.0, 0.0): 1, (1.0, 0.0): 1, (1.0, 1.0): 1, (7.5, 0.0): 2, (2.0, 2.0): 2, (1.0, 0.5): 2, (7.5, 1.5): 3}


def scale_of(scale: tuple[float, float]) -> dict[str, float]:
    return {"guidance_scale": scale[0], "graph_guidance_scale": scale[1]}
