"""CLIP and DINOv2 from folders, and the features that are kept of images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_data import ENCODER, TinyData
from tiny_extractors import DIM, save_clip, save_dinov2
from transformers import AutoImageProcessor, CLIPModel, Dinov2Model

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.evaluation.extractors import find_extractor
from model.evaluation.features import image_features, text_features


@pytest.fixture(scope="module")
def saved_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("saved") / "clip")


@pytest.fixture
def clip(saved_clip: Path, tmp_path: Path) -> Path:
    """A copy, to change."""
    return Path(shutil.copytree(saved_clip, tmp_path / "clip"))


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    return DataRoot(str(tmp_path / "data"))


def images(count: int) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (48, 48, 3), dtype=np.uint8)) for _ in range(count)]


def loaders(count: int) -> dict[str, Callable[[], Image.Image]]:
    return {f"image {index}": lambda image=image: image for index, image in enumerate(images(count))}  # type: ignore[misc]


def test_features_are_those_of_the_model(data: DataRoot, clip: Path, tmp_path: Path) -> None:
    dinov2 = save_dinov2(tmp_path / "dinov2")
    of_clip, of_dinov2 = find_extractor(data, str(clip)), find_extractor(data, str(dinov2))
    assert [(one.family, one.has_texts) for one in (of_clip, of_dinov2)] == [("clip", True), ("dinov2", False)]

    def pixels(folder: Path) -> torch.Tensor:
        processor = AutoImageProcessor.from_pretrained(folder)
        return processor(images=images(3), return_tensors="pt")["pixel_values"]  # type: ignore[no-any-return]

    with torch.inference_mode():
        expected = CLIPModel.from_pretrained(clip).eval().get_image_features(pixel_values=pixels(clip)).pooler_output
        pooled = Dinov2Model.from_pretrained(dinov2).eval()(pixel_values=pixels(dinov2)).pooler_output
    np.testing.assert_allclose(of_clip.images(images(3)), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_dinov2.images(images(3)), pooled, rtol=1e-4, atol=1e-4)


def test_a_texts_features_do_not_depend_on_the_others(data: DataRoot, clip: Path) -> None:
    extractor = find_extractor(data, str(clip))
    texts = ["a cat", "a dog on a long table beside many other things that are cut off", ""]
    together = extractor.texts(texts)
    assert together.shape == (3, DIM)
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(extractor.texts([text])[0], row, rtol=1e-4, atol=1e-4)


def test_an_id_names_the_weights_and_not_the_folder(data: DataRoot, clip: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(clip, tmp_path / "elsewhere")
    others = save_clip(tmp_path / "others", seed=1)
    prepared = Path(shutil.copytree(clip, tmp_path / "prepared"))
    settings = json.loads((prepared / "preprocessor_config.json").read_text())
    (prepared / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.5, 0.5, 0.5]}))
    first, same, *different = (find_extractor(data, str(f)).extractor_id for f in (clip, moved, others, prepared))
    assert first == same
    assert len({first, *different}) == 3


def test_features_are_kept_and_each_version_has_its_own(data: DataRoot, clip: Path, tmp_path: Path) -> None:
    extractor = find_extractor(data, str(clip))
    first = image_features(data, extractor, loaders(3))
    of_texts = text_features(data, extractor, ["a cat", "a dog"])
    again = find_extractor(data, str(clip))
    (clip / "model.safetensors").unlink()  # what is kept needs no network
    assert np.array_equal(image_features(data, again, loaders(2)).matrix, first.matrix[:2])
    assert np.array_equal(text_features(data, again, ["a dog"]).matrix, of_texts.matrix[1:])
    with pytest.raises(Graph2ImageError, match="cannot load"):
        image_features(data, again, loaders(4))
    other = find_extractor(data, str(save_clip(tmp_path / "other", seed=1)))
    found = image_features(data, other, loaders(3))
    assert found.extractor_id != first.extractor_id
    assert not np.allclose(found.matrix, first.matrix)


def test_the_encoder_of_a_data_root(shared_tiny: TinyData) -> None:
    extractor = find_extractor(shared_tiny.root, ENCODER)
    assert (extractor.family, extractor.name) == ("encoder", ENCODER)
    assert extractor.extractor_id.startswith(f"encoder-{ENCODER}-")
    assert extractor.images(images(2)).shape == extractor.texts(["a", "b"]).shape


def spoil_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def spoil_kind(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


def spoil_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def spoil_code(folder: Path) -> None:
    settings = {"image_processor_type": "Mine", "auto_map": {"AutoImageProcessor": "mine.Mine"}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "mine.py").write_text("raise SystemExit('this was run')")


def spoil_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"projection_dim": 5}))


def spoil_key(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def spoil_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"] *= float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def spoil_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_pickle, r"no weights in safetensors: pytorch_model\.bin is refused"),
        (spoil_kind, "is a model of type 'bert'"),
        (spoil_processor, r"preprocessor_config\.json: there is no such file"),
        (spoil_code, "cannot load"),
        (spoil_size, "cannot load"),
        (spoil_key, "cannot load .*1 are missing, the first is visual_projection"),
        (spoil_numbers, "gives features of image 0 that are not finite numbers"),
        (spoil_tokenizer, "the tokenizer in|cannot load"),
    ],
)
def test_folders_that_are_no_whole_model(
    data: DataRoot, clip: Path, spoil: Callable[[Path], None], message: str
) -> None:
    def use() -> None:
        extractor = find_extractor(data, str(clip))
        image_features(data, extractor, loaders(2))
        text_features(data, extractor, ["a cat"])

    spoil(clip)
    with pytest.raises(Graph2ImageError, match=message):
        use()


@pytest.mark.parametrize("name", ["no such extractor", "../../etc/passwd", "a/b/c", ""])
def test_what_is_no_extractor(data: DataRoot, name: str) -> None:
    with pytest.raises(Graph2ImageError, match="there is no extractor"):
        find_extractor(data, name)


def test_a_hub_that_is_not_reached(data: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Graph2ImageError, match="no such model comes from the hub") as error:
        find_extractor(data, "nobody/no-such-clip-model")
    assert "without any, the data root's own encoder" in str(error.value.hint)
