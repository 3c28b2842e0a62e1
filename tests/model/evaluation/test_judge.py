"""The judge: it sees texture, is asked what text and graph tell, and judges nothing that it was trained on."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import ENTITY_SCHEMA, IMAGE_SCHEMA, ITEM_SCHEMA, RELATION_SCHEMA
from ingest.errors import Graph2ImageError
from model.evaluation.descriptors import COLORS, describe
from model.evaluation.judge import Judge, TrainingItems, judge_size, read_training_items, train_judge
from model.evaluation.linear import FOLDS, cross_fit, fold_of, folds_of
from model.evaluation.palette import Pixels
from model.evaluation.roles import choose, tell

SIZE, ITEMS = 64, 96
#: Who makes stripes of which width, in pixels; and where in the image the light is.
MAKERS = {"fine": 2, "coarse": 8}
LIGHTS = ("left", "right")


def weave(maker: str, light: str, seed: int) -> Pixels:
    """Gray stripes of equal mean and contrast, on a ground that is lighter on one side, in any direction."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    stripes = 40 * np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / MAKERS[maker] / 1.5 + phase)
    ground = 110 + 40 * ((x < SIZE / 2) == (light == "left"))
    pixels = np.clip(ground + stripes + rng.normal(0, 4, x.shape), 0, 255)
    return np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8)


def makers() -> list[str]:
    return [list(MAKERS)[index % 2] for index in range(ITEMS)]


def lights() -> list[str]:
    return [LIGHTS[index // 2 % 2] for index in range(ITEMS)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """Training items: the text tells the light, and only the graph the maker; `Guild` follows from the maker."""
    root = DataRoot(str(tmp_path_factory.mktemp("data")))
    images, items, relations = [], [], []
    for index, (maker, light) in enumerate(zip(makers(), lights(), strict=True)):
        stream = io.BytesIO()
        Image.fromarray(weave(maker, light, index)).save(stream, "PNG")
        image_hash = hashlib.sha256(stream.getvalue()).hexdigest()
        path = f"images/files/{image_hash[:2]}/{image_hash}.png"
        root.write_bytes(path, stream.getvalue())
        images.append(
            {"image_hash": image_hash, "path": path, "width": SIZE, "height": SIZE, "format": "PNG"}
            | {"perceptual_hash": ""}
        )
        items.append(
            {"item_id": f"w:{index}", "label": "Cloth", "text": f"Cloth lit from the {light}", "image_hash": image_hash}
            | {"split": "train", "group_id": f"g:{index}", "opted_out": False}
        )
        named = (("Maker", maker), ("Guild", "old" if maker == "fine" else "new"), ("Light", light), ("Light", "day"))
        relations += [
            {"type": "HAS", "from_id": f"w:{index}", "to_id": f"w/{kind}/{name}", "weight": 1.0} for kind, name in named
        ]
    names = [("Maker", name) for name in MAKERS] + [("Guild", "old"), ("Guild", "new")]
    names += [("Light", name) for name in (*LIGHTS, "day")]
    entities = [{"entity_id": f"w/{kind}/{name}", "label": kind, "name": name} for kind, name in names]
    root.append("images", pa.Table.from_pylist(images, IMAGE_SCHEMA), IMAGE_SCHEMA)
    root.publish("items/w", [pa.Table.from_pylist(items, ITEM_SCHEMA)], ITEM_SCHEMA)
    root.publish("entities/w", [pa.Table.from_pylist(entities, ENTITY_SCHEMA)], ENTITY_SCHEMA)
    root.publish("relations/w", [pa.Table.from_pylist(relations, RELATION_SCHEMA)], RELATION_SCHEMA)
    return root


@pytest.fixture(scope="module")
def items(data: DataRoot) -> TrainingItems:
    return read_training_items(data)


@pytest.fixture(scope="module")
def judge(data: DataRoot, items: TrainingItems) -> Judge:
    trained = train_judge(data, items, SIZE)
    assert trained is not None
    return trained


def test_style_is_what_only_the_graph_tells(judge: Judge) -> None:
    """Of two labels that follow from each other one is asked; of an item's two lights, the one that tells it apart."""
    labels = {role: question.label for role, question in judge.questions.items()}
    assert labels in ({"style": "Maker", "subject": "Light"}, {"style": "Guild", "subject": "Light"})
    assert judge.questions["subject"].classes == ("w/Light/left", "w/Light/right")
    for question in judge.questions.values():
        assert question.accuracy > 0.9
        assert question.chance == pytest.approx(0.5, abs=0.05)
    assert judge.questions["style"].text_accuracy < 0.7 < judge.questions["subject"].text_accuracy


def test_who_made_an_image_cannot_be_told_when_its_texture_is_lost(judge: Judge) -> None:
    """Its colors and its subject are still there."""
    pixels = np.stack([weave(maker, "left", 1_000 + seed) for maker in MAKERS for seed in range(8)])
    smooth = np.stack(
        [np.asarray(Image.fromarray(p).resize((4, 4), Image.Resampling.BOX).resize((SIZE, SIZE))) for p in pixels]
    )
    groups = [f"held-out {index}" for index in range(16)]
    _, before = judge.predict(pixels, groups)
    _, after = judge.predict(smooth, groups)
    fine, coarse = before["style"][0], before["style"][-1]
    truth = np.repeat([fine, coarse], 8)
    assert fine != coarse
    assert np.sum(truth == before["style"]) >= 15
    assert np.sum(truth == after["style"]) <= 11
    assert after["subject"].count("w/Light/left") >= 15


def test_a_copy_is_judged_by_who_has_not_seen_it(judge: Judge, items: TrainingItems) -> None:
    """Whether it is known of what the image is a copy, or found by its looks."""
    pixels = np.stack([weave(maker, light, i) for i, (maker, light) in enumerate(zip(makers(), lights(), strict=True))])
    groups = dict(zip(items.item_ids, items.group_ids, strict=True))
    known, _ = judge.predict(pixels, [groups[f"w:{index}"] for index in range(ITEMS)])
    found, _ = judge.predict(pixels, [None] * ITEMS)
    np.testing.assert_array_equal(known, found)
    np.testing.assert_allclose(np.linalg.norm(known, axis=1), 1, atol=1e-5)


@given(st.integers(0, 1_000))
@settings(max_examples=10, deadline=None)
def test_nothing_is_judged_by_who_trained_on_it_nor_is_its_copy(seed: int) -> None:
    """Noise with labels by chance: who has seen it knows it by heart, who has not can only guess."""
    rng = np.random.default_rng(seed)
    originals, labels = rng.normal(size=(60, 400)).astype(np.float32), rng.integers(0, 2, 60)
    features, targets = np.concatenate([originals, originals]), np.concatenate([labels, labels])  # each has a copy
    indicators = (targets[:, None] == np.arange(2)).astype(np.float32)
    grouped = folds_of([f"{seed}:{index}" for index in range(60)] * 2)
    fitted = cross_fit(features, indicators, grouped)
    assert np.mean(fitted.predict(features, grouped) == targets) < 0.75
    assert np.mean(fitted.predict(features, (grouped + 1) % FOLDS) == targets) > 0.95


def test_folds_follow_from_the_groups_alone() -> None:
    folds = folds_of([f"group {index}" for index in range(1_000)])
    assert np.bincount(folds, minlength=FOLDS).min() > 140
    assert fold_of("group 7") == folds[7]


def test_withdrawn_items_take_no_part(data: DataRoot, judge: Judge) -> None:
    items = read_training_items(data, {"w:3"})
    assert len(items.item_ids) == ITEMS - 1
    trained = train_judge(data, items, SIZE)
    assert trained is not None
    assert trained.judge_id != judge.judge_id
    assert len(trained.hashes) == ITEMS - 1


def test_a_judge_is_kept_and_damage_to_it_is_said(data: DataRoot, items: TrainingItems, judge: Judge) -> None:
    name = f"classifiers/{judge.judge_id}/judge.json"
    modified, content = data.fs.modified(data.path(name)), data.read_bytes(name)
    again = train_judge(data, items, SIZE)
    assert again is not None
    assert again.questions == judge.questions
    assert data.fs.modified(data.path(name)) == modified
    data.write_bytes(name, b'{"questions": [{"role": "taste"}]}')
    with pytest.raises(Graph2ImageError, match=r"judge\.json"):
        train_judge(data, items, SIZE)
    data.write_bytes(name, content)


def test_nothing_to_be_asked() -> None:
    """Texts and images that tell nothing, labels with one class, no items at all."""
    rng, folds = np.random.default_rng(0), folds_of(map(str, range(80)))
    ids = [str(index) for index in range(80)]
    noise = rng.normal(size=(80, 12)).astype(np.float32)
    entities = {
        "Coin": {item: (f"coin/{rng.integers(2)}",) for item in ids},
        "Only": dict.fromkeys(ids, ("only/one",)),
        "Own": {item: (f"own/{item}",) for item in ids},
    }
    told = tell(ids, entities, [""] * 80, noise, folds)
    assert [one.label for one in told] == ["Coin"]
    assert choose(told, {}) == {}
    assert tell([], {}, [], np.zeros((0, 0), np.float32), folds[:0]) == []


def test_descriptors_keep_the_band_of_brushstrokes() -> None:
    """Images of equal color are told apart by stripes that a reduction to half of the size takes away."""
    fine, flat = (np.stack([image] * 2) for image in (weave("fine", "left", 5), weave("coarse", "left", 5)))
    difference = np.abs(describe(fine) - describe(flat))[0]
    assert difference[:-COLORS].max() > 10 * difference[-COLORS:].max()
    assert np.isfinite(describe(np.zeros((1, SIZE, SIZE, 3), np.uint8))).all()


@pytest.mark.parametrize(("image_size", "judged"), [(32, 64), (64, 64), (96, 96), (256, 128)])
def test_size(image_size: int, judged: int) -> None:
    assert judge_size(image_size) == judged
    assert describe(np.zeros((1, judged, judged, 3), np.uint8)).shape[0] == 1


def test_an_image_that_cannot_be_read_takes_no_part(data: DataRoot, tmp_path: Path) -> None:
    copied = DataRoot(str(tmp_path / "data"))
    data.fs.cp(data.path(), copied.path(), recursive=True)
    items = read_training_items(copied)
    copied.fs.rm(copied.path("images/files", items.image_hashes[0][:2], f"{items.image_hashes[0]}.png"))
    copied.fs.rm(copied.path("classifiers"), recursive=True)
    trained = train_judge(copied, items, SIZE)
    assert trained is not None
    assert len(trained.hashes) == ITEMS - 1
