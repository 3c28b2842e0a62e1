from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import orjson
import pytest
from PIL import Image
from tiny_data import NEIGHBORS, TinyData, make_data

from ingest.errors import Graph2ImageError
from model.generate import PNG_KEY, GenerateReport, GenerationRequest, GenerationSettings, Neighbor, generate
from model.train import train

SETTINGS = GenerationSettings(num_inference_steps=3, batch_size=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyData, str]:
    data = make_data(tmp_path_factory.mktemp("trained"))
    return data, train(data.root, data.config, NEIGHBORS).model_id


def requests(data: TinyData) -> list[GenerationRequest]:
    """For two items: text only, with neighbors, with few neighbors, with two sets, with a set of scale 0."""
    neighbors = tuple(Neighbor(data.item_ids[at], data.image_hashes[at], weight=0.5) for at in range(4, 10))
    made = []
    for item in range(2):
        plain = GenerationRequest(data.item_ids[item], data.texts[item], variant="text")
        made += [
            plain,
            replace(plain, neighbor_sets=(neighbors[:3],), graph_guidance_scales=(1.5,), variant="graph"),
            replace(plain, neighbor_sets=(neighbors[item : item + 1],), graph_guidance_scales=(1.5,), variant="one"),
            replace(
                plain, neighbor_sets=(neighbors[:2], neighbors[2:]), graph_guidance_scales=(1.0, 0.5), variant="mix"
            ),
            replace(
                plain, neighbor_sets=(neighbors[:2], neighbors[2:]), graph_guidance_scales=(1.5, 0), variant="edge"
            ),
        ]
    return made


def pictures(data: TinyData, report: GenerateReport) -> np.ndarray:
    rows = {row["generated_id"]: row["image_path"] for row in data.root.read("generated").to_pylist()}
    files = [data.root.read_bytes(rows[generated_id]) for generated_id in report.generated_ids]
    return np.stack([np.asarray(Image.open(io.BytesIO(file)), dtype=int) for file in files])


def test_only_missing_pictures_are_made(trained: tuple[TinyData, str]) -> None:
    data, model_id = trained
    wanted = requests(data)
    first = generate(data.root, model_id, wanted[:3], SETTINGS)
    assert (first.new, first.existing, first.changed) == (3, 0, True)
    second = generate(data.root, model_id, wanted, SETTINGS)
    assert (second.new, second.existing) == (len(wanted) - 3, 3)
    assert second.generated_ids[:3] == first.generated_ids
    third = generate(data.root, model_id, [*wanted, wanted[0]], SETTINGS)
    assert (third.new, third.existing, third.changed) == (0, len(wanted), False)
    assert third.generated_ids == (*second.generated_ids, second.generated_ids[0])
    assert data.root.read("generated").num_rows == len(wanted)


def test_batches_do_not_change_pictures(
    trained: tuple[TinyData, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data, model_id = trained
    together = pictures(data, generate(data.root, model_id, requests(data), SETTINGS))
    other = make_data(tmp_path_factory.mktemp("other"))
    assert train(other.root, other.config, NEIGHBORS).model_id == model_id
    reversed_singles = generate(other.root, model_id, requests(other)[::-1], replace(SETTINGS, batch_size=1))
    single = pictures(other, reversed_singles)[::-1]
    assert together.shape == (10, 32, 32, 3)
    assert np.abs(together - single).max() <= 1
    assert np.abs(together[0] - together[1]).max() > 1  # what conditions a picture does show
    assert np.abs(together[0] - together[5]).max() > 1


def test_rows_and_files_say_what_a_picture_was_made_from(trained: tuple[TinyData, str]) -> None:
    data, model_id = trained
    wanted = requests(data)
    report = generate(data.root, model_id, wanted, SETTINGS)
    rows = {row["generated_id"]: row for row in data.root.read("generated").to_pylist()}
    named = dict(zip([(r.item_id, r.variant) for r in wanted], report.generated_ids, strict=True))
    assert rows[named[data.item_ids[0], "text"]]["neighbors"] == []
    mix, edge = (rows[named[data.item_ids[0], variant]] for variant in ("mix", "edge"))
    assert [(n["item_id"], n["weight"], n["rank"]) for n in mix["neighbors"]] == [
        (data.item_ids[4], 0.5, 1),
        (data.item_ids[5], 0.5, 2),
        *((data.item_ids[at], 0.25, at - 5) for at in range(6, 10)),
    ]
    assert [(n["item_id"], n["weight"]) for n in edge["neighbors"]] == [(data.item_ids[at], 0.75) for at in (4, 5)]
    settings = orjson.loads(mix["settings"])
    assert settings["graph_guidance_scales"] == [1.0, 0.5]
    assert (settings["text"], settings["guidance_scale"]) == (data.texts[0], SETTINGS.guidance_scale)

    image = Image.open(io.BytesIO(data.root.read_bytes(mix["image_path"])))
    assert orjson.loads(str(image.text[PNG_KEY])) == mix  # type: ignore[attr-defined]


def test_seed_decides(trained: tuple[TinyData, str]) -> None:
    data, model_id = trained
    one = requests(data)[:1]
    base = pictures(data, generate(data.root, model_id, one, SETTINGS))
    other = pictures(data, generate(data.root, model_id, one, replace(SETTINGS, seed=1)))
    assert np.abs(base - other).max() > 1


def test_mistakes(trained: tuple[TinyData, str]) -> None:
    data, model_id = trained
    request = requests(data)[1]
    with pytest.raises(Graph2ImageError, match="no model 'nope'"):
        generate(data.root, "nope", [request], SETTINGS)
    with pytest.raises(Graph2ImageError, match="at least 1"):
        generate(data.root, model_id, [request], replace(SETTINGS, num_inference_steps=0))
    with pytest.raises(Graph2ImageError, match=r"toy:00: 1 neighbor sets, 2 graph"):
        generate(data.root, model_id, [replace(request, graph_guidance_scales=(1.0, 2.0))], SETTINGS)
    lost = replace(request, neighbor_sets=((Neighbor("toy:x", "f00"),),), text="new")
    with pytest.raises(Graph2ImageError, match="no embedding of tiny, the first is f00"):
        generate(data.root, model_id, [lost], SETTINGS)
