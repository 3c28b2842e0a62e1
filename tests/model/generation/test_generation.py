from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image
from published import MODEL, publish_model
from tiny_data import TinyData, make_data

from ingest.datasets.integrity import FOLDER_LIST
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.generation.generate import GenerateReport, generate
from model.generation.png import PNG_KEY
from model.generation.requests import (
    FAST,
    SCHEDULERS,
    CopyThresholds,
    GenerationRequest,
    GenerationSettings,
)
from model.generation.variants import TEXT, Variant
from model.neighbors import Neighbor

GRAPH, MIX, EDGE = Variant("graph", 1.5), Variant.mix(1.5, (2, 1)), Variant.mix(1.5, (1, 0))
SETTINGS = GenerationSettings(num_inference_steps=3, batch_size=4, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    data = make_data(tmp_path_factory.mktemp("generation"))
    publish_model(data)
    return data


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """The same model in a data root that has none of the images of `data`."""
    other = make_data(tmp_path_factory.mktemp("other"))
    publish_model(other)
    return other


def neighbors_of(data: TinyData, *places: int) -> tuple[Neighbor, ...]:
    return tuple(Neighbor(data.item_ids[at], data.image_hashes[at], weight=0.5) for at in places)


def requests(data: TinyData) -> list[GenerationRequest]:
    """For two items: text only, with neighbors, with few neighbors, with two sets, with a set of scale 0."""
    first, second = neighbors_of(data, 4, 5, 6), neighbors_of(data, 7, 8)
    made = []
    for item in range(2):
        plain = GenerationRequest(data.item_ids[item], data.texts[item])
        made += [
            plain,
            replace(plain, variant=GRAPH, neighbor_sets=(first,)),
            replace(plain, variant=Variant("shuffled", 1.5), neighbor_sets=(first[item : item + 1],)),
            replace(plain, variant=MIX, neighbor_sets=(first, second)),
            replace(plain, variant=EDGE, neighbor_sets=(first, second)),
        ]
    return made


def images_of(data: TinyData, report: GenerateReport) -> np.ndarray:
    rows = {row["generated_id"]: row["image_path"] for row in data.root.read("generated").to_pylist()}
    files = [data.root.read_bytes(rows[generated_id]) for generated_id in report.generated_ids]
    return np.stack([np.asarray(Image.open(io.BytesIO(file)), dtype=int) for file in files])


def one_image(data: TinyData, request: GenerationRequest, **settings: Any) -> np.ndarray:
    return images_of(data, generate(data.root, MODEL, [request], replace(SETTINGS, **settings)))[0]


def test_only_missing_images_are_made(data: TinyData) -> None:
    settings = replace(SETTINGS, seed=100)
    before = data.root.dataset("generated").count_rows() if data.root.names("generated") else 0
    wanted = requests(data)
    first = generate(data.root, MODEL, wanted[:3], settings)
    assert (first.new, first.existing, first.changed) == (3, 0, True)
    second = generate(data.root, MODEL, wanted, settings)
    assert (second.new, second.existing) == (len(wanted) - 3, 3)
    assert second.generated_ids[:3] == first.generated_ids
    third = generate(data.root, MODEL, [*wanted, wanted[0]], settings)
    assert (third.new, third.existing, third.changed) == (0, len(wanted), False)
    assert third.generated_ids == (*second.generated_ids, second.generated_ids[0])
    assert (third.checked, second.checked) == (len(wanted), len(wanted))
    assert data.root.dataset("generated").count_rows() == before + len(wanted)


def test_a_killed_run_keeps_its_finished_batches(data: TinyData, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, seed=101, batch_size=1)
    wanted = [request for request in requests(data) if request.variant == GRAPH]
    write, written = DataRoot.write_bytes, []

    def killed(self: DataRoot, name: str, content: bytes) -> None:
        if name.endswith(".png"):
            written.append(name)
            if len(written) == 2:
                raise KeyboardInterrupt
        write(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(DataRoot, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            generate(data.root, MODEL, wanted, settings)
    report = generate(data.root, MODEL, wanted, settings)
    assert (report.new, report.existing) == (1, 1)
    assert images_of(data, report).shape == (2, 32, 32, 3)


@pytest.mark.slow
def test_batches_do_not_change_images_of(data: TinyData, other: TinyData) -> None:
    together = images_of(data, generate(data.root, MODEL, requests(data), SETTINGS))
    report = generate(other.root, MODEL, requests(other)[::-1], replace(SETTINGS, batch_size=1))
    single = images_of(other, report)[::-1]
    assert together.shape == (10, 32, 32, 3)
    assert np.abs(together - single).max() <= 1
    assert np.abs(together[0] - together[1]).max() > 1  # what conditions an image does show
    assert np.abs(together[0] - together[5]).max() > 1


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_batches_do_not_change_images_of_any_scheduler(data: TinyData, other: TinyData, scheduler: str) -> None:
    settings = replace(SETTINGS, scheduler=scheduler, guidance_interval=(0.0, 0.5), copy_check=None)
    wanted = [request for request in requests(data) if request.variant == GRAPH]
    together = images_of(data, generate(data.root, MODEL, wanted, settings))
    single = images_of(other, generate(other.root, MODEL, wanted, replace(settings, batch_size=1)))
    assert np.isfinite(together).all()
    assert np.abs(together - single).max() <= 1


def test_rows_and_files_say_what_a_image_was_made_from(data: TinyData) -> None:
    wanted = requests(data)
    report = generate(data.root, MODEL, wanted, SETTINGS)
    rows = {row["generated_id"]: row for row in data.root.read("generated").to_pylist()}
    named = dict(zip([(r.item_id, r.variant) for r in wanted], report.generated_ids, strict=True))
    assert rows[named[data.item_ids[0], TEXT]]["neighbors"] == []
    mix, edge = (rows[named[data.item_ids[0], variant]] for variant in (MIX, EDGE))
    # All neighbors of a set weigh the same: the model does not look at their weights.
    assert [(n["item_id"], n["weight"], n["rank"]) for n in mix["neighbors"]] == [
        *((data.item_ids[at], 1.0, at - 3) for at in range(4, 7)),
        *((data.item_ids[at], 0.5, at - 6) for at in range(7, 9)),
    ]
    assert [(n["item_id"], n["weight"]) for n in edge["neighbors"]] == [(data.item_ids[at], 1.5) for at in (4, 5, 6)]
    settings = orjson.loads(mix["settings"])
    assert settings["graph_guidance_scales"] == [1.0, 0.5]
    assert (settings["text"], settings["guidance_scale"]) == (data.texts[0], SETTINGS.guidance_scale)
    assert Variant.of_row(mix) == MIX
    assert (mix["variant"], edge["variant"]) == ("mix-66.7-33.3", "mix-100-0")
    assert mix["scores"]["nearest_image"] in data.image_hashes[4:]

    image = Image.open(io.BytesIO(data.root.read_bytes(mix["image_path"], mix.pop("image_sha256"))))
    record = orjson.loads(str(image.text[PNG_KEY]))  # type: ignore[attr-defined]
    assert set(record.pop("software")) == {"graph2image", "torch", "diffusers"}
    assert record == mix


def test_neighbors_beyond_those_that_the_model_looks_at_are_not_told_of(data: TinyData) -> None:
    many = GenerationRequest(data.item_ids[0], "x", Variant("graph", 1.0), (neighbors_of(data, 4, 5, 6, 7, 8),))
    few = replace(many, neighbor_sets=(neighbors_of(data, 4, 5, 6),))
    report = generate(data.root, MODEL, [many, few], SETTINGS)
    assert report.generated_ids[0] == report.generated_ids[1]
    rows = {row["generated_id"]: row for row in data.root.read("generated").to_pylist()}
    assert [n["item_id"] for n in rows[report.generated_ids[0]]["neighbors"]] == data.item_ids[4:7]


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"negative_prompt": "a blue thing"},
        {"guidance_scale": 3.0},
        {"guidance_interval": (0.0, 0.4)},
        {"guidance_rescale": 0.7},
        {"scheduler": "euler-a"},
        {"num_inference_steps": 4},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"height": 40, "width": 24},
    ],
    ids=str,
)
@pytest.mark.slow
def test_settings_decide_the_image_and_its_id(data: TinyData, changed: dict[str, Any]) -> None:
    request = requests(data)[1]
    base = one_image(data, request)
    other = one_image(data, request, **changed)
    assert other.shape == ((40, 24, 3) if "height" in changed else (32, 32, 3))
    assert other.shape != base.shape or np.abs(base - other).max() >= 1
    assert (
        len({generate(data.root, MODEL, [request], s).generated_ids for s in (SETTINGS, replace(SETTINGS, **changed))})
        == 2
    )


def test_fast_settings_work_and_the_precision_can_be_chosen_for_the_device(data: TinyData) -> None:
    request = requests(data)[1]
    assert one_image(data, request, **FAST).shape == (32, 32, 3)
    assert one_image(data, request, precision="auto").shape == (32, 32, 3)


@pytest.mark.parametrize("images", [True, False])
def test_what_the_model_was_trained_to_look_at_is_passed(tmp_path: Path, images: bool) -> None:
    data = make_data(tmp_path)
    publish_model(
        data,
        neighbor_weights=True,
        neighbor_text_dim=32,
        relation_types=("CREATED_BY", "HAS_STYLE"),
        **({} if images else {"neighbor_dim": None}),
    )
    neighbors = tuple(
        replace(neighbor, weight=1.0, relation_type="HAS_STYLE", text=f"the text of {neighbor.item_id}")
        for neighbor in neighbors_of(data, 4, 5)
    )
    request = GenerationRequest(data.item_ids[0], data.texts[0], GRAPH, (neighbors,))
    changes: list[dict[str, Any]] = [
        {},
        {"weight": 0.25},
        {"relation_type": "CREATED_BY"},
        {"text": "another"},
        {"relation_type": "UNKNOWN"},
        {"relation_type": ""},
    ]
    wanted = [replace(request, neighbor_sets=((neighbors[0], replace(neighbors[1], **change)),)) for change in changes]
    made = images_of(data, generate(data.root, MODEL, wanted, SETTINGS))
    for other in made[1:5]:
        assert np.abs(made[0] - other).max() >= 1
    np.testing.assert_array_equal(made[4], made[5])  # unknown to the model is none
    rows = data.root.read("generated").to_pylist()
    assert {0.375, 1.5} == {neighbor["weight"] for row in rows for neighbor in row["neighbors"]}


def test_text_only_models_of_nothing_and_empty_texts(data: TinyData) -> None:
    neighbors = neighbors_of(data, 4)
    empty = GenerationRequest(data.item_ids[0], "", GRAPH, (neighbors,))
    assert one_image(data, empty).shape == (32, 32, 3)
    no_neighbors = GenerationRequest(data.item_ids[0], data.texts[0], GRAPH, ((),))
    text_only = GenerationRequest(data.item_ids[0], data.texts[0])
    np.testing.assert_array_equal(one_image(data, no_neighbors), one_image(data, text_only))
    assert generate(data.root, MODEL, [], SETTINGS).generated_ids == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_inference_steps": 0}, "steps is 0, it must be from 1 to 1,000"),
        ({"num_inference_steps": 1001}, "steps is 1001"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"guidance_scale": float("nan")}, "guidance scale is nan"),
        ({"guidance_scale": float("inf")}, "guidance scale is inf"),
        ({"guidance_scale": -1.0}, "guidance scale is -1"),
        ({"copy_check": CopyThresholds(float("nan"), 16)}, "copy similarity is nan"),
        ({"copy_check": CopyThresholds(0.9, 257)}, "copy bits is 257"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"guidance_interval": (0.5, 0.2)}, "guidance interval"),
        ({"guidance_interval": (0.5, 1.2)}, "guidance interval"),
        ({"guidance_rescale": 1.5}, "guidance rescale"),
        ({"scheduler": "nope"}, "no scheduler 'nope'\nSchedulers are: ddim"),
        ({"height": 33, "width": 32}, "height of images is 33, with tiny-1 it must be a multiple of 8"),
        ({"width": -8}, "width is -8"),
        ({"width": 12, "height": 16}, "multiple of 8"),
        ({"device": "nonsense"}, "cannot use the device"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(data: TinyData, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(Graph2ImageError, match=message):
        generate(data.root, MODEL, [replace(requests(data)[1], text="never made")], replace(SETTINGS, **changed))


def test_mistakes(data: TinyData) -> None:
    request = requests(data)[1]
    with pytest.raises(Graph2ImageError, match="no model 'nope'"):
        generate(data.root, "nope", [request], SETTINGS)
    with pytest.raises(Graph2ImageError, match=r"toy:00: 1 neighbor sets, where the variant mix-66.7-33.3 has 2"):
        generate(data.root, MODEL, [replace(request, variant=MIX)], SETTINGS)
    lost = replace(request, neighbor_sets=((Neighbor("toy:x", "f00"),),), text="new")
    with pytest.raises(Graph2ImageError, match="no embedding of tiny, the first is f00"):
        generate(data.root, MODEL, [lost], SETTINGS)


def test_damaged_and_pickled_weights_are_refused(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    publish_model(data)
    folder = Path(data.root.path("models", MODEL, "unet"))
    weights = folder / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    request = GenerationRequest(data.item_ids[0], data.texts[0])
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(Graph2ImageError, match=r"diffusion_pytorch_model\.safetensors has changed"):
        generate(data.root, MODEL, [request], SETTINGS)
    weights.rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(Graph2ImageError, match=r"diffusion_pytorch_model\.safetensors is missing"):
        generate(data.root, MODEL, [request], SETTINGS)
    Path(data.root.path("models", MODEL, FOLDER_LIST)).unlink()  # as of a model that was put there by hand
    with pytest.raises(Graph2ImageError, match="cannot load the model tiny-1"):
        generate(data.root, MODEL, [request], SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["dpm++", "unipc", "euler"])
def test_solvers_come_to_the_same_image(data: TinyData, scheduler: str) -> None:
    """With many steps all of them follow the model's own path: prediction type, zero SNR and spacing are kept."""
    request = GenerationRequest(data.item_ids[0], data.texts[0], Variant("graph", 1.0), (neighbors_of(data, 4, 5),))
    settings: dict[str, Any] = {"num_inference_steps": 60, "guidance_scale": 1.0, "copy_check": None}
    own = one_image(data, request, **settings)
    other = one_image(data, request, **settings, scheduler=scheduler)
    coarse = one_image(data, request, **settings | {"num_inference_steps": 2}, scheduler=scheduler)
    assert np.abs(own - other).mean() < 3
    assert np.abs(own - other).mean() < np.abs(own - coarse).mean()
