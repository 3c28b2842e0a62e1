"""What the pipeline makes of prompts, guidance and neighbors, for each structure of model that it serves."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from calls import PROMPTS, STEPS, batch_sizes, close, neighbors, noise, random_images, sample
from PIL import Image
from tiny_data import TinyData, tiny_clip
from tiny_models import NEIGHBOR_DIM, graph_encoder, image_encoder, parts, pipeline
from torch import Tensor

from ingest.encoders.checkpoint import load_encoder
from model.networks.backbones import Condition, predict
from model.networks.image_encoder import OpenClipImageEncoder
from model.pipeline import Graph2ImagePipeline

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


def test_images_are_their_embeddings(pipe: Graph2ImagePipeline) -> None:
    ours, theirs = random_images(3), random_images(1, seed=1)
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
    monet, kandinsky = random_images(3), random_images(2, seed=1)
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
    images, embeds = random_images(4), neighbors(4)
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
    images = [*random_images(3), Image.new("L", (7, 50), 90)]
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
        sample(by_texts, neighbors=[random_images(1), []])

    encoder, processor = image_encoder()
    by_both = pipeline(
        "sd15",
        graph_encoder=graph_encoder(found["text_encoder"], neighbor_text_dim=7),
        image_encoder=encoder,
        feature_extractor=processor,
    )
    images = [random_images(3), random_images(3, seed=1)]
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


# -- arguments that do not fit -----------------------------------------------------------------------------------------

ONE = random_images(1)[0]
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
        pipeline("sd15")("a thing", neighbors=random_images(1), num_inference_steps=1)


def test_scale_zero_needs_no_embeddings_of_the_graph(pipe: Graph2ImagePipeline) -> None:
    sizes = {scale: batch_sizes(pipe, neighbor_embeds=neighbors(prompts=1), **scale_of(scale)) for scale in SCALES}
    assert all(set(sizes[scale]) == {count} for scale, count in SCALES.items())
    assert all(len(one) == len(other) for one, other in pairwise(sizes.values()))


#: Text and graph scale, and how many predictions the formula takes with them.
SCALES = {(0.0, 0.0): 1, (1.0, 0.0): 1, (1.0, 1.0): 1, (7.5, 0.0): 2, (2.0, 2.0): 2, (1.0, 0.5): 2, (7.5, 1.5): 3}


def scale_of(scale: tuple[float, float]) -> dict[str, float]:
    return {"guidance_scale": scale[0], "graph_guidance_scale": scale[1]}
