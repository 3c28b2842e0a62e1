"""Checkpoints of the reference implementation: its own outputs, other settings, and all that is refused."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import tiny_models
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, PNDMScheduler
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_data import tiny_pipeline
from torch import Tensor
from transformers import CLIPTextModel
from transformers.activations import ACT2FN

from ingest.errors import Graph2ImageError
from model.pipeline import Graph2ImagePipeline
from model.pretrained.reference import load_reference_checkpoint, save_reference_checkpoint

GNN, PROJECTION = "gnn/ckpt.pt", "image_proj_model/ckpt.pt"


# -- the reference implementation's own outputs ------------------------------------------------------------------------

needs_reference = pytest.mark.skipif(
    "GRAPH2IMAGE_SHARED" not in os.environ, reason="needs the reference implementation's outputs"
)


@dataclass(frozen=True)
class Reference:
    folder: Path
    settings: dict[str, Any]
    tensors: dict[str, Tensor]
    pipe: Graph2ImagePipeline

    def close(self, actual: Tensor, name: str) -> None:
        torch.testing.assert_close(actual, self.tensors[name], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def reference() -> Reference:
    shared = Path(os.environ["GRAPH2IMAGE_SHARED"]) / "reference"
    settings = orjson.loads((shared / "reference.json").read_bytes())
    names = ("tokens_per_neighbor", "cross_attention_freq", "neighbor_num")
    pipe = load_reference_checkpoint(shared / "checkpoint", **{name: settings[name] for name in names})
    pipe.set_progress_bar_config(disable=True)
    return Reference(shared / "checkpoint", settings, load_file(shared / "reference.safetensors"), pipe)


@needs_reference
@torch.no_grad()
def test_each_part_is_the_references(reference: Reference) -> None:
    pipe, tensors = reference.pipe, reference.tensors
    texts = pipe.encode_prompt(reference.settings["prompts"])
    assert torch.equal(texts.input_ids, tensors["input_ids"])
    reference.close(texts.hidden, "text_hidden")
    no_text = pipe.encode_prompt(["", ""])
    assert torch.equal(no_text.input_ids, tensors["uncond_ids"])
    reference.close(no_text.hidden, "uncond_hidden")
    for suffix in ("", "_b"):
        embeds, mask = tensors[f"neighbor_embeds{suffix}"], tensors[f"neighbor_mask{suffix}"]
        reference.close(pipe.encode_graph(tensors["input_ids"], embeds, mask), f"graph_tokens{suffix}")
    condition = torch.cat([tensors["text_hidden"], tensors["graph_tokens"]], dim=1)
    reference.close(
        pipe.unet(tensors["latents"], tensors["timesteps"], encoder_hidden_states=condition).sample, "noise_pred"
    )
    reference.close(pipe.image_encoder(tensors["pixel_values"]).image_embeds, "image_embeds")


@needs_reference
def test_guided_loops_are_the_references(reference: Reference) -> None:
    tensors, prompts = reference.tensors, reference.settings["prompts"]
    common: dict[str, Any] = {"latents": tensors["latents"], "output_type": "latent"}
    single = reference.pipe(
        prompts,
        neighbor_embeds=tensors["neighbor_embeds"],
        neighbor_mask=tensors["neighbor_mask"],
        **reference.settings["single"],
        **common,
    )
    reference.close(single.images, "sampled_single")
    settings = dict(reference.settings["multi"])
    multi = reference.pipe(
        prompts,
        neighbor_embeds=[tensors["neighbor_embeds"], tensors["neighbor_embeds_b"]],
        neighbor_mask=[tensors["neighbor_mask"], tensors["neighbor_mask_b"]],
        graph_guidance_scale=settings.pop("graph_guidance_scales"),
        **settings,
        **common,
    )
    reference.close(multi.images, "sampled_multi")


@needs_reference
def test_the_tests_own_graph_qformer_is_the_references(reference: Reference) -> None:
    """What the checkpoints below are compared with."""
    projection, gnn = (torch.load(reference.folder / file, weights_only=True) for file in (PROJECTION, GNN))
    inputs = [reference.tensors[name] for name in ("input_ids", "neighbor_embeds", "neighbor_mask")]
    tokens = graph_tokens(gnn, projection, Settings(heads=reference.settings["text_heads"]), *inputs)
    reference.close(tokens, "graph_tokens")


@needs_reference
def test_its_layout_is_written_as_it_was(reference: Reference, tmp_path: Path) -> None:
    save_reference_checkpoint(reference.pipe, tmp_path)
    for original in (file for file in reference.folder.rglob("*") if file.suffix in (".pt", ".safetensors")):
        before, after = (
            _weights(root / original.relative_to(reference.folder)) for root in (reference.folder, tmp_path)
        )
        assert before.keys() == after.keys(), original
        assert all(torch.equal(before[name], value) for name, value in after.items())
    index, written = (orjson.loads((root / "model_index.json").read_bytes()) for root in (reference.folder, tmp_path))
    assert {**index, "_diffusers_version": ""} == {**written, "_diffusers_version": ""}
    _equal(load_reference_checkpoint(tmp_path), reference.pipe)


# -- checkpoints with other settings -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Of a checkpoint that the tests make."""

    tokens_per_neighbor: int = 4
    cross_attention_freq: int = 2
    neighbor_dim: int = 10
    hidden: int = 32
    heads: int = 2
    layers: int = 3
    activation: str = "quick_gelu"
    prediction_type: str = "epsilon"
    prefix: str = ""
    position_ids: bool = False


def graph_tokens(
    gnn: dict[str, Tensor], projection: dict[str, Tensor], settings: Settings, ids: Tensor, embeds: Tensor, mask: Tensor
) -> Tensor:
    """The reference's Graph-QFormer with its own names, by plain matrix products."""
    gnn = {name.removeprefix(settings.prefix): value for name, value in gnn.items()}
    projection = {name.removeprefix(settings.prefix): value for name, value in projection.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], gnn[f"{name}.weight"], gnn[f"{name}.bias"], 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ gnn[f"{name}.weight"].T + gnn[f"{name}.bias"]

    def attention(x: Tensor, context: Tensor, name: str, allowed: Tensor) -> Tensor:
        size = x.shape[-1] // settings.heads
        heads = []
        for head in range(settings.heads):
            one = slice(head * size, (head + 1) * size)
            q, k, v = (
                linear(of, f"{name}.{part}_proj")[..., one] for of, part in ((x, "q"), (context, "k"), (context, "v"))
            )
            scores = (q @ k.transpose(1, 2)) / size**0.5
            heads.append(scores.masked_fill(~allowed, -1e30).softmax(-1) @ v)
        return linear(torch.cat(heads, dim=-1), f"{name}.out_proj")

    size = projection["norm.weight"].shape[0]
    tokens = (embeds @ projection["proj.weight"].T + projection["proj.bias"]).unflatten(-1, (-1, size))
    tokens = F.layer_norm(tokens, (size,), projection["norm.weight"], projection["norm.bias"], 1e-5)
    seen = mask.bool()[:, None, :, None].expand(-1, -1, -1, tokens.shape[2]).flatten(2)
    tokens = tokens.flatten(1, 2)

    embeddings = "text_model.embeddings"
    x = (
        gnn[f"{embeddings}.token_embedding.weight"][ids]
        + gnn[f"{embeddings}.position_embedding.weight"][: ids.shape[1]]
    )
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    index = 0
    while f"text_model.encoder.layers.{index}.mlp.fc1.weight" in gnn:
        layer = f"text_model.encoder.layers.{index}"
        normed = norm(x, f"{layer}.layer_norm1")
        x = x + attention(normed, normed, f"{layer}.self_attn", causal)
        if index % settings.cross_attention_freq == 0:
            x = x + attention(norm(x, f"{layer}.layer_norm3"), tokens, f"{layer}.crossattention", seen)
        inner = ACT2FN[settings.activation](linear(norm(x, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1"))
        x = x + linear(inner, f"{layer}.mlp.fc2")
        index += 1
    return norm(x, "text_model.final_layer_norm")


def make_checkpoint(folder: Path, settings: Settings) -> Path:
    """A random checkpoint in the reference's layout."""
    torch.manual_seed(5)
    found = tiny_models.parts("sd15")
    found["text_encoder"] = CLIPTextModel(
        tiny_models.text_config(
            settings.hidden,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            hidden_act=settings.activation,
        )
    )
    found["unet"] = tiny_models.unet(settings.hidden)
    found["scheduler"] = PNDMScheduler(skip_prk_steps=True, steps_offset=1, prediction_type=settings.prediction_type)
    found["image_encoder"], _ = tiny_models.image_encoder(settings.neighbor_dim)
    for name, part in found.items():
        part.save_pretrained(folder / name)

    hidden = settings.hidden
    gnn = {
        "text_model.embeddings.token_embedding.weight": torch.randn(514, hidden),
        "text_model.embeddings.position_embedding.weight": torch.randn(tiny_models.LENGTH, hidden),
    }

    def add(name: str, outputs: int, inputs: int | None) -> None:
        gnn[f"text_model.{name}.weight"] = torch.randn(outputs, inputs) / 4 if inputs else 1 + torch.randn(outputs) / 4
        gnn[f"text_model.{name}.bias"] = torch.randn(outputs) / 4

    for index in range(settings.layers):
        crossed = index % settings.cross_attention_freq == 0
        for attention in ("self_attn", *(["crossattention"] if crossed else [])):
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                add(f"encoder.layers.{index}.{attention}.{part}", hidden, hidden)
        add(f"encoder.layers.{index}.mlp.fc1", 2 * hidden, hidden)
        add(f"encoder.layers.{index}.mlp.fc2", hidden, 2 * hidden)
        for number in (1, 2, *([3] if crossed else [])):
            add(f"encoder.layers.{index}.layer_norm{number}", hidden, None)
    add("final_layer_norm", hidden, None)
    if settings.position_ids:
        gnn["text_model.embeddings.position_ids"] = torch.arange(tiny_models.LENGTH)[None]
    size = settings.tokens_per_neighbor * hidden
    projection = {
        "proj.weight": torch.randn(size, settings.neighbor_dim),
        "proj.bias": torch.randn(size),
        "norm.weight": 1 + torch.randn(hidden) / 4,
        "norm.bias": torch.randn(hidden),
    }
    for file, weights in ((GNN, gnn), (PROJECTION, projection)):
        (folder / file).parent.mkdir()
        torch.save({settings.prefix + name: value for name, value in weights.items()}, folder / file)
    return folder


VARIED = [
    Settings(tokens_per_neighbor=1),
    Settings(tokens_per_neighbor=2, neighbor_dim=6),
    Settings(tokens_per_neighbor=8),
    Settings(cross_attention_freq=1),
    Settings(cross_attention_freq=3, layers=7),
    Settings(cross_attention_freq=3, layers=3),
    Settings(cross_attention_freq=9, layers=2),
    Settings(hidden=48, heads=6, layers=2),
    Settings(activation="gelu"),
    Settings(prediction_type="v_prediction", prefix="module.", position_ids=True),
]


@pytest.mark.parametrize("told", [True, False], ids=["told", "found"])
@pytest.mark.parametrize("settings", VARIED, ids=str)
def test_other_settings(settings: Settings, told: bool, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, settings)
    options: dict[str, Any] = {}
    if told:
        options = {name: getattr(settings, name) for name in ("tokens_per_neighbor", "cross_attention_freq")}
    pipe = load_reference_checkpoint(folder, **options)
    assert pipe.scheduler.config.prediction_type == settings.prediction_type

    ids = pipe.encode_prompt(["a mountain", "sea"]).input_ids
    embeds, mask = torch.randn(2, 5, settings.neighbor_dim), torch.tensor([[1, 1, 0, 1, 1], [1, 0, 0, 0, 0]])
    gnn, projection = (torch.load(folder / file, weights_only=True) for file in (GNN, PROJECTION))
    expected = graph_tokens(gnn, projection, settings, ids, embeds, mask)
    torch.testing.assert_close(pipe.encode_graph(ids, embeds, mask), expected, atol=1e-4, rtol=1e-4)

    save_reference_checkpoint(pipe, tmp_path / "again")
    written = torch.load(tmp_path / "again" / GNN, weights_only=True)
    assert written.keys() == {name.removeprefix(settings.prefix) for name in gnn if "position_ids" not in name}
    _equal(load_reference_checkpoint(tmp_path / "again", **options), pipe)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("made"), Settings())


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "checkpoint"))


@pytest.mark.parametrize("count", [1, 3, 5, None])
def test_only_so_many_neighbors_are_looked_at(made: Path, count: int | None) -> None:
    pipe = load_reference_checkpoint(made, neighbor_num=count)
    pipe.set_progress_bar_config(disable=True)
    images = [Image.new("RGB", (40, 30), (40 * index, 9, 200)) for index in range(6)]
    arguments: dict[str, Any] = {
        "num_inference_steps": 2,
        "latents": torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0)),
        "output_type": "latent",
    }
    expected = pipe("sea", neighbor_embeds=pipe.encode_neighbors(images[:count])[None], **arguments).images
    torch.testing.assert_close(pipe("sea", neighbors=images, **arguments).images, expected, atol=1e-4, rtol=1e-4)
    if count is not None:
        pipe.register_to_config(max_neighbors=None)
        all_seen = pipe("sea", neighbors=images, **arguments).images
        assert not torch.allclose(all_seen, expected, atol=1e-4)


def test_weights_in_half_precision_and_the_dtype_asked_for(folder: Path) -> None:
    full = load_reference_checkpoint(folder)
    for file in list(folder.rglob("*.safetensors")):
        half = {name: value.half() for name, value in load_file(file).items()}
        save_file(half, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
        file.unlink()
    for file in (GNN, PROJECTION):
        torch.save({name: value.half() for name, value in _weights(folder / file).items()}, folder / file)
    for dtype in (torch.float32, torch.bfloat16):
        pipe = load_reference_checkpoint(folder, torch_dtype=dtype)
        networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
        assert {network.dtype for network in networks} == {dtype}
        for name, value in pipe.graph_encoder.state_dict().items():
            assert torch.equal(value, full.graph_encoder.state_dict()[name].half().to(dtype))
        assert torch.equal(pipe.unet.conv_in.weight, full.unet.conv_in.weight.half().to(dtype))


def test_other_parts_may_be_pickled_weights(folder: Path) -> None:
    expected = load_reference_checkpoint(folder)
    for file in list(folder.rglob("*.safetensors")):
        name = "pytorch_model.bin" if file.name == "model.safetensors" else "diffusion_pytorch_model.bin"
        torch.save(load_file(file), file.with_name(name))
        file.unlink()
    _equal(load_reference_checkpoint(folder), expected)


def test_saving_leaves_the_pipeline_and_its_scheduler_as_they_are(made: Path, tmp_path: Path) -> None:
    pipe = load_reference_checkpoint(made)
    pipe.scheduler = DDIMScheduler(steps_offset=0, clip_sample=True)
    before = {name: value for name, value in pipe.scheduler.config.items() if not name.startswith("_")}
    save_reference_checkpoint(pipe, tmp_path)
    loaded = load_reference_checkpoint(tmp_path).scheduler
    assert type(loaded) is DDIMScheduler
    for scheduler in (pipe.scheduler, loaded):
        assert {name: scheduler.config[name] for name in before} == before


def test_another_scheduler_survives(made: Path, tmp_path: Path) -> None:
    pipe = load_reference_checkpoint(made)
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    save_reference_checkpoint(pipe, tmp_path)
    assert isinstance(load_reference_checkpoint(tmp_path).scheduler, EulerAncestralDiscreteScheduler)


def test_images_are_prepared_as_the_checkpoint_says(folder: Path, tmp_path: Path) -> None:
    processor = load_reference_checkpoint(folder).feature_extractor
    assert processor.crop_size["height"] == 16
    processor.image_mean = [0.1, 0.2, 0.3]
    processor.save_pretrained(folder / "feature_extractor")
    pipe = load_reference_checkpoint(folder)
    assert list(pipe.feature_extractor.image_mean) == [0.1, 0.2, 0.3]
    save_reference_checkpoint(pipe, tmp_path / "again")
    assert list(load_reference_checkpoint(tmp_path / "again").feature_extractor.image_mean) == [0.1, 0.2, 0.3]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens_per_neighbor": 2}, "tokens_per_neighbor is 2, the checkpoint's weights make 4"),
        ({"tokens_per_neighbor": 0}, "tokens_per_neighbor is 0"),
        ({"cross_attention_freq": 1}, r"cross_attention_freq is 1, but of 3 layers .* are \[0, 2\]"),
        ({"cross_attention_freq": 3}, "cross_attention_freq is 3"),
        ({"cross_attention_freq": 0}, "cross_attention_freq is 0"),
        ({"cross_attention_freq": -1}, "cross_attention_freq is -1"),
        ({"neighbor_num": 0}, "neighbor_num is 0"),
        ({"neighbor_num": -2}, "neighbor_num is -2"),
    ],
)
def test_settings_that_contradict_the_weights(made: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(Graph2ImageError, match=message):
        load_reference_checkpoint(made, **options)


def _cut(file: str) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:900])


def _change(file: str, change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        weights = _weights(folder / file)
        change(weights)
        torch.save(weights, folder / file) if file.endswith(".pt") else save_file(weights, folder / file)

    return spoil


def _swap(folder: Path) -> None:
    one, other = folder / GNN, folder / PROJECTION
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])


UNET = "unet/diffusion_pytorch_model.safetensors"
LAYER = "text_model.encoder.layers.1"
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler", "image_encoder", "image_proj_model", "gnn")
SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    **{f"no {part}": (lambda f, part=part: shutil.rmtree(f / part), f"it has no {part}") for part in PARTS},
    "no Graph-QFormer's file": (lambda f: (f / GNN).unlink(), "there is no file .*gnn/ckpt.pt"),
    "no projection's file": (lambda f: (f / PROJECTION).unlink(), "there is no file .*image_proj_model/ckpt.pt"),
    "no weights": (lambda f: (f / UNET).unlink(), "cannot load .*unet"),
    "no scheduler's file": (
        lambda f: (f / "scheduler/scheduler_config.json").unlink(),
        "scheduler_config.json: there is no",
    ),
    "no such scheduler": (
        lambda f: (f / "scheduler/scheduler_config.json").write_text('{"_class_name": "os"}'),
        "names 'os', which is no scheduler",
    ),
    "config not JSON": (lambda f: (f / "vae/config.json").write_text("{"), "cannot read .*vae/config.json"),
    "Graph-QFormer cut off": (_cut(GNN), "gnn/ckpt.pt"),
    "projection empty": (lambda f: (f / PROJECTION).write_bytes(b""), "image_proj_model/ckpt.pt"),
    "projection is text": (lambda f: (f / PROJECTION).write_text("weights"), "image_proj_model/ckpt.pt"),
    "network cut off": (_cut(UNET), "cannot load .*unet"),
    "a weight of the network is missing": (
        _change(UNET, lambda w: w.pop("conv_in.bias")),
        "unet: .* 1 are missing, the first is conv_in.bias",
    ),
    "a weight of the Graph-QFormer is missing": (
        _change(GNN, lambda w: w.pop(f"{LAYER}.mlp.fc2.bias")),
        "not the weights of a Graph-QFormer: .*layers.1.mlp.fc2.bias",
    ),
    "a weight too many": (_change(GNN, lambda w: w.update(extra=torch.ones(1))), "Graph-QFormer: .*extra"),
    "a layer of another size": (
        _change(GNN, lambda w: w.update({f"{LAYER}.mlp.fc1.weight": torch.ones(5, 32)})),
        "Graph-QFormer: .*fc1",
    ),
    "no cross-attention": (
        _change(GNN, lambda w: [w.pop(name) for name in list(w) if "crossattention" in name]),
        r"those with cross-attention are \[\]",
    ),
    "no layers": (_change(GNN, lambda w: [w.pop(name) for name in list(w) if "layers" in name]), "of 0 layers"),
    "a list of weights": (lambda f: torch.save([torch.ones(1)], f / GNN), "gnn/ckpt.pt is no state dict"),
    "weights and a number": (lambda f: torch.save({"step": 3}, f / GNN), "gnn/ckpt.pt is no state dict"),
    "files swapped": (_swap, "not the weights of a Graph-QFormer: there is no weight"),
    "projection and norm swapped": (
        _change(PROJECTION, lambda w: w.update({"proj.weight": w["norm.weight"], "norm.weight": w["proj.weight"]})),
        "not the weights of a Graph-QFormer",
    ),
    "projection of other embeddings": (
        _change(PROJECTION, lambda w: w.update({"proj.weight": torch.ones(128, 7)})),
        "makes 10 numbers per image, the neighbor projection takes 7",
    ),
    "projection turned": (
        _change(PROJECTION, lambda w: w.update({"proj.weight": w["proj.weight"].T.contiguous()})),
        "not the weights of a Graph-QFormer",
    ),
    "network for other tokens": (
        lambda f: tiny_models.unet(40).save_pretrained(f / "unet"),
        "different sizes: the UNet 40, the text encoder 32, the Graph-QFormer 32",
    ),
    "another text encoder": (
        lambda f: CLIPTextModel(tiny_models.text_config(48)).save_pretrained(f / "text_encoder"),
        "different sizes: the UNet 32, the text encoder 48",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_does_not_fit(folder: Path, name: str) -> None:
    spoil, message = SPOILED[name]
    spoil(folder)
    with pytest.raises(Graph2ImageError, match=message) as error:
        load_reference_checkpoint(folder)
    assert str(folder) in error.value.message
    assert "\n" not in error.value.message


class _Program:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("save", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value))])
@pytest.mark.parametrize(
    "file",
    [
        GNN,
        PROJECTION,
        "unet/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.bin",
        "text_encoder/pytorch_model.bin",
        "image_encoder/pytorch_model.bin",
    ],
)
def test_programs_in_pickles_are_not_run(folder: Path, tmp_path: Path, file: str, save: Any) -> None:
    for weights in (folder / file).parent.glob("*.safetensors"):
        weights.unlink()
    save({"proj.weight": torch.ones(1), "program": _Program(tmp_path / "ran")}, folder / file)
    with pytest.raises(Graph2ImageError, match=file.split("/", maxsplit=1)[0]):
        load_reference_checkpoint(folder)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(_Program(tmp_path / "ran")))  # it would have
    assert (tmp_path / "ran").exists()


def test_a_model_of_ours_is_no_such_checkpoint(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path)
    with pytest.raises(Graph2ImageError, match="it has no image_encoder, image_proj_model, gnn") as error:
        load_reference_checkpoint(tmp_path)
    assert "Graph2ImagePipeline.from_pretrained" in str(error.value.hint)
    with pytest.raises(Graph2ImageError, match="no checkpoint"):
        load_reference_checkpoint(tmp_path / "absent")


def test_what_its_layout_cannot_hold(tmp_path: Path) -> None:
    encoder, processor = tiny_models.image_encoder()
    images = {"image_encoder": encoder, "feature_extractor": processor}
    text_encoder = tiny_models.parts("sd15")["text_encoder"]
    models = {
        "a second text encoder": tiny_models.pipeline("sdxl", **images),
        "a network of type PixArtTransformer2DModel": tiny_models.pipeline("pixart", **images),
        "an autoencoder of type MiniAutoencoder": tiny_pipeline(),
        "an image encoder that is not": tiny_models.pipeline("sd15"),
        "neighbors by their texts": _with_graph_encoder(images, text_encoder, neighbor_text_dim=7),
        "relation types": _with_graph_encoder(images, text_encoder, relation_types=["CREATED_BY"]),
        "fewer layers": _with_graph_encoder(images, text_encoder, num_hidden_layers=2),
    }
    for message, pipe in models.items():
        with pytest.raises(Graph2ImageError, match=f"layout cannot hold .*{message}"):
            save_reference_checkpoint(pipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _with_graph_encoder(images: dict[str, Any], text_encoder: CLIPTextModel, **options: Any) -> Graph2ImagePipeline:
    return tiny_models.pipeline("sd15", **images, graph_encoder=tiny_models.graph_encoder(text_encoder, **options))


def _weights(file: Path) -> dict[str, Tensor]:
    return load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)


def _equal(actual: Graph2ImagePipeline, expected: Graph2ImagePipeline) -> None:
    """Whether two pipelines have the same weights, bit for bit."""
    for name, part in expected.components.items():
        if isinstance(part, torch.nn.Module):
            weights = actual.components[name].state_dict()
            assert weights.keys() == part.state_dict().keys()
            assert all(torch.equal(weights[key], value) for key, value in part.state_dict().items()), name
    frequencies = [pipe.graph_encoder.config.cross_attention_freq for pipe in (actual, expected)]
    layers = expected.graph_encoder.config.num_hidden_layers
    assert len({min(frequency, layers) for frequency in frequencies}) == 1
