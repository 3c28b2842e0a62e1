"""Pretrained models to start from: of each structure, from a folder or the hub's cache, and all that is refused."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from tiny_models import HIDDEN, HIDDEN_2, NEIGHBOR_DIM, STRUCTURES, Structure, save_base_model, text_config, unet
from transformers import CLIPTextModel

from ingest.errors import Graph2ImageError
from model.networks.backbones import cross_attention_dim
from model.pipeline import Graph2ImagePipeline
from model.pretrained.base_models import base_model_id, load_base_model

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[Structure, Path]:
    return {structure: save_base_model(structure, tmp_path_factory.mktemp(structure)) for structure in STRUCTURES}


@pytest.fixture
def folder(saved: dict[Structure, Path], tmp_path: Path) -> Path:
    """A copy of one of Stable Diffusion 1.5's structure, to be spoiled."""
    return Path(shutil.copytree(saved["sd15"], tmp_path / "model"))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_weight_is_loaded(saved: dict[Structure, Path], structure: Structure) -> None:
    base_model = load_base_model(str(saved[structure]))
    network = "transformer" if structure == "pixart" else "unet"
    expected = load_file(saved[structure] / network / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, expected[name]) for name, value in base_model.unet.state_dict().items())
    assert not any(p.requires_grad for part in (base_model.vae, base_model.texts.encoder) for p in part.parameters())
    assert all(p.requires_grad for p in base_model.unet.parameters())
    assert not any(part.training for part in (base_model.vae, base_model.texts.encoder, base_model.unet))
    assert (base_model.texts.encoder_2 is not None) == base_model.texts.zero_empty == (structure == "sdxl")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_pipeline_grows_from_it(saved: dict[Structure, Path], structure: Structure, tmp_path: Path) -> None:
    base_model = load_base_model(str(saved[structure]))
    graph_encoder = base_model.make_graph_encoder(NEIGHBOR_DIM, tokens_per_neighbor=1).eval()
    assert graph_encoder.token_size == cross_attention_dim(base_model.unet) == base_model.texts.hidden_size
    texts = base_model.texts
    pipeline = Graph2ImagePipeline(
        base_model.vae,
        texts.encoder,
        texts.tokenizer,
        base_model.unet,
        base_model.scheduler,
        graph_encoder,
        texts.encoder_2,
        texts.tokenizer_2,
        force_zeros_for_empty_prompt=texts.zero_empty,
    )
    pipeline.set_progress_bar_config(disable=True)
    (image,) = pipeline("a thing", neighbor_embeds=torch.ones(1, 2, NEIGHBOR_DIM), num_inference_steps=2).images
    assert image.size == (32, 32)
    pipeline.save_pretrained(tmp_path)  # what was trained is a base model in its turn
    again = load_base_model(str(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(again.unet.parameters(), base_model.unet.parameters(), strict=True))


def test_texts_are_encoded_as_diffusers_does_it(saved: dict[Structure, Path]) -> None:
    prompts = ["a red thing", "sea"]
    theirs = StableDiffusionPipeline.from_pretrained(saved["sd15"], safety_checker=None)
    expected, _ = theirs.encode_prompt(prompts, "cpu", 1, False)
    encoded = load_base_model(str(saved["sd15"])).texts.encode(prompts)
    torch.testing.assert_close(encoded.hidden, expected)
    assert encoded.pooled is None

    xl = StableDiffusionXLPipeline.from_pretrained(saved["sdxl"], add_watermarker=False)
    hidden, no_text, pooled, no_text_pooled = xl.encode_prompt(prompts, device="cpu")
    encoded = load_base_model(str(saved["sdxl"])).texts.encode([*prompts, ""])
    assert encoded.hidden.shape[-1] == HIDDEN + HIDDEN_2
    assert encoded.pooled is not None
    torch.testing.assert_close(encoded.hidden, torch.cat([hidden, no_text[:1]]))
    torch.testing.assert_close(encoded.pooled, torch.cat([pooled, no_text_pooled[:1]]))


def test_dtype(saved: dict[Structure, Path]) -> None:
    base_model = load_base_model(str(saved["sdxl"]), torch_dtype=torch.bfloat16)
    networks = (base_model.vae, base_model.texts.encoder, base_model.texts.encoder_2, base_model.unet)
    assert {network.dtype for network in networks} == {torch.bfloat16}


def test_a_folder_with_the_fp16_variant_alone(folder: Path) -> None:
    for file in list(folder.rglob("*.safetensors")):
        half = {name: value.half() for name, value in load_file(file).items()}
        save_file(half, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
    full = load_base_model(str(folder))
    for file in folder.rglob("*.safetensors"):
        if ".fp16." not in file.name:
            file.unlink()
    loaded = load_base_model(str(folder))
    assert loaded.unet.dtype == torch.float32
    for ours, original in zip(loaded.unet.parameters(), full.unet.parameters(), strict=True):
        assert torch.equal(ours, original.half().float())


def test_weights_in_shards(folder: Path) -> None:
    network = load_base_model(str(folder)).unet
    shutil.rmtree(folder / "unet")
    network.save_pretrained(folder / "unet", max_shard_size="60KB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    loaded = load_base_model(str(folder)).unet
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))


def test_the_id_is_of_the_contents(saved: dict[Structure, Path], folder: Path) -> None:
    (folder / "README.md").write_text("no part of the model")
    first = base_model_id(str(folder))
    assert first == base_model_id(str(saved["sd15"]))
    assert first != base_model_id(str(saved["sdxl"]))
    weights = load_file(folder / WEIGHTS)
    weights["conv_in.bias"] += 1.0
    save_file(weights, folder / WEIGHTS)
    assert base_model_id(str(folder)) != first


@pytest.fixture
def offline_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub without a network: what lies in its cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_model_of_the_hub(saved: dict[Structure, Path], offline_hub: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    model = offline_hub / "models--someone--tiny-diffusion"
    shutil.copytree(saved["sd15"], model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs/main").write_text(commit)
    expected = load_file(saved["sd15"] / WEIGHTS)
    for source in ("someone/tiny-diffusion", f"someone/tiny-diffusion@{commit}"):
        loaded = load_base_model(source).unet.state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in expected.items())
        assert base_model_id(source) == "someone--tiny-diffusion-0123456789ab"
    with pytest.raises(Graph2ImageError, match="no folder someone/tiny-diffusion@other"):
        load_base_model("someone/tiny-diffusion@other")


@pytest.mark.usefixtures("offline_hub")
@pytest.mark.parametrize("source", ["someone/absent", "absent", "/no/such/folder", "../absent", "a b", ""])
@pytest.mark.parametrize("function", [load_base_model, base_model_id])
def test_no_such_model(function: Callable[[str], Any], source: str) -> None:
    with pytest.raises(Graph2ImageError, match=r"is no folder|is no diffusers model") as error:
        function(source)
    assert error.value.hint


def _index(folder: Path, **changes: Any) -> None:
    file = folder / "model_index.json"
    file.write_bytes(orjson.dumps(orjson.loads(file.read_bytes()) | changes))


def _config(folder: Path, part: str, **changes: Any) -> None:
    file = folder / part / "config.json"
    file.write_bytes(orjson.dumps(orjson.loads(file.read_bytes()) | changes))


def _without_a_weight(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights["conv_in.bias"]
    save_file(weights, folder / WEIGHTS)


def _foreign_text_weights(folder: Path) -> None:
    save_file({"shared.weight": torch.zeros(514, 32)}, folder / "text_encoder/model.safetensors", {"format": "pt"})


def _replace_unet(folder: Path, **settings: Any) -> None:
    unet(**settings).save_pretrained(folder / "unet")


def _replace_text_encoder(folder: Path) -> None:
    CLIPTextModel(text_config(48)).save_pretrained(folder / "text_encoder")


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "model_index.json").unlink(), "no diffusers model: it has no model_index.json"),
    "index not JSON": (lambda f: (f / "model_index.json").write_text("{"), "cannot read .*model_index.json"),
    "index a list": (lambda f: (f / "model_index.json").write_text("[]"), "model_index.json: it is no JSON object"),
    "no text encoder": (lambda f: _index(f, text_encoder=[None, None]), "has no text_encoder, expected CLIPTextModel"),
    "foreign text encoder": (
        lambda f: _index(f, text_encoder=["transformers", "T5EncoderModel"]),
        "has a T5EncoderModel as its text_encoder",
    ),
    "foreign network": (lambda f: _index(f, unet=["diffusers", "UNet3DConditionModel"]), "UNet3DConditionModel"),
    "another network in the folder": (
        lambda f: _config(f, "unet", _class_name="UNet1DModel"),
        "unet holds a UNet1DModel, expected a UNet2DConditionModel",
    ),
    "folder of a part gone": (lambda f: shutil.rmtree(f / "vae"), "vae/config.json: there is no such file"),
    "config not JSON": (lambda f: (f / "unet/config.json").write_text("{,"), "cannot read .*unet/config.json"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "cannot load .*unet: .*diffusion_pytorch_model"),
    "weights cut off": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:5000]), "cannot load .*unet"),
    "a weight is missing": (_without_a_weight, "unet: .* 1 are missing, the first is conv_in.bias"),
    "weights of another text model": (_foreign_text_weights, "text_encoder: these are not the weights"),
    "weights of another shape": (lambda f: _config(f, "unet", block_out_channels=[16, 64]), "cannot load .*unet"),
    "text weights of another shape": (
        lambda f: _config(f, "text_encoder", intermediate_size=8),
        "cannot load .*text_encoder",
    ),
    "network for other texts": (lambda f: _replace_unet(f, cross_attention_dim=40), "size 40, not 32"),
    "another text encoder": (_replace_text_encoder, "size 32, not 48"),
    "inpainting": (lambda f: _replace_unet(f, in_channels=9), "latents of channels 9, not 4"),
    "network of Stable Diffusion XL alone": (
        lambda f: _replace_unet(
            f,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=68,
        ),
        "pooled text embeddings of size 20, not 0",
    ),
    "no tokens": (lambda f: [file.unlink() for file in (f / "tokenizer").iterdir()], "tokenizer"),
    "unknown scheduler": (
        lambda f: (f / "scheduler/scheduler_config.json").write_text('{"_class_name": "UNet2DModel"}'),
        "no scheduler of diffusers",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_does_not_fit(folder: Path, name: str) -> None:
    spoil, message = SPOILED[name]
    spoil(folder)
    with pytest.raises(Graph2ImageError, match=message) as error:
        load_base_model(str(folder))
    assert str(folder) in error.value.message
    assert "\n" not in error.value.message


def test_a_single_file_is_not_enough(folder: Path) -> None:
    with pytest.raises(Graph2ImageError, match="is a file, and a model is a folder"):
        load_base_model(str(folder / WEIGHTS))


class _Program:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize(
    ("part", "file"), [("unet", "diffusion_pytorch_model.bin"), ("text_encoder", "pytorch_model.bin")]
)
def test_pickles_are_refused(folder: Path, tmp_path: Path, part: str, file: str) -> None:
    for weights in (folder / part).glob("*.safetensors"):
        weights.unlink()
    (folder / part / file).write_bytes(pickle.dumps(_Program(tmp_path / "ran")))
    with pytest.raises(Graph2ImageError, match=f"refused: {file} is a pickle"):
        load_base_model(str(folder))
    torch.save(unet().state_dict(), folder / part / file)  # also one that is harmless
    with pytest.raises(Graph2ImageError, match="refused"):
        load_base_model(str(folder))
    assert not (tmp_path / "ran").exists()
