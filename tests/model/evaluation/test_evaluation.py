"""Evaluation: figures that can be checked by hand, from images whose artist is a color and whose genre is a shape."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from records import model_record, write_record

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import (
    ENTITY_SCHEMA,
    GENERATED_SCHEMA,
    IMAGE_SCHEMA,
    ITEM_SCHEMA,
    NEIGHBOR_SCHEMA,
    RELATION_SCHEMA,
)
from ingest.errors import Graph2ImageError
from model.evaluation import classifier
from model.evaluation.classifier import train_judge
from model.evaluation.evaluate import evaluate
from model.evaluation.metrics import Estimate, Metrics, palette_distance, read_metrics, to_lab
from model.generation.variants import TEXT, TOP_NEIGHBOR, Variant

MODEL, NEIGHBORS = "painter", "sampled"
ARTISTS = {"Rosso": (200, 60, 50), "Verde": (60, 160, 70), "Azzurro": (50, 80, 200)}
GENRES = ("portrait", "landscape")
TRAIN, TEST = 120, 12
GRAPH_1, GRAPH_2, SHUFFLED = Variant("graph", 1.0), Variant("graph", 2.0), Variant("shuffled", 1.5)


@dataclass(frozen=True)
class Work:
    item_id: str
    artist: str
    genre: str
    split: str
    content: bytes
    image_hash: str


def paint(artist: str, genre: str, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (64, 64), (235, 230, 220))
    fill = tuple(int(c + rng.integers(-20, 21)) for c in ARTISTS[artist])
    a, b = (int(v) for v in rng.integers(8, 24, 2))
    if genre == "portrait":
        ImageDraw.Draw(image).ellipse((a, b, a + 28, b + 34), fill)
    else:
        ImageDraw.Draw(image).rectangle((0, 20 + a, 64, 64), fill)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def works() -> list[Work]:
    found = []
    for seed in range(TRAIN + TEST):
        artist, genre = list(ARTISTS)[seed % 3], GENRES[seed // 3 % 2]
        content = paint(artist, genre, seed)
        split = "train" if seed < TRAIN else "test"
        found.append(Work(f"art:{seed}", artist, genre, split, content, hashlib.sha256(content).hexdigest()))
    return found


WORKS = works()
TESTED = [work for work in WORKS if work.split == "test"]


def other(work: Work) -> Work:
    """A training work of the same genre by the next artist."""
    artists = list(ARTISTS)
    artist = artists[(artists.index(work.artist) + 1) % 3]
    return next(w for w in WORKS if w.split == "train" and (w.artist, w.genre) == (artist, work.genre))


def neighbors_of(work: Work) -> list[Work]:
    return [w for w in WORKS if w.split == "train" and (w.artist, w.genre) == (work.artist, work.genre)][:2]


def write_data(data: DataRoot, *, entities: bool = True) -> None:
    items, images, relations = [], [], []
    for work in WORKS:
        path = f"images/files/{work.image_hash[:2]}/{work.image_hash}.png"
        data.write_bytes(path, work.content)
        images.append(
            {
                "image_hash": work.image_hash,
                "path": path,
                "width": 64,
                "height": 64,
                "format": "PNG",
                "perceptual_hash": "",
            }
        )
        items.append(
            {
                "item_id": work.item_id,
                "label": "Artwork",
                "image_hash": work.image_hash,
                "split": work.split,
                "group_id": work.item_id,
                "opted_out": False,
            }
        )
        for kind, name in (("Artist", work.artist), ("Genre", work.genre)):
            relations.append({"type": "HAS", "from_id": work.item_id, "to_id": f"art/{kind}/{name}", "weight": 1.0})
    named = [("Artist", name) for name in ARTISTS] + [("Genre", name) for name in GENRES]
    rows = [{"entity_id": f"art/{kind}/{name}", "label": kind, "name": name} for kind, name in named]
    data.append("images", pa.Table.from_pylist(images, IMAGE_SCHEMA), IMAGE_SCHEMA)
    data.publish("items/art", [pa.Table.from_pylist(items, ITEM_SCHEMA)], ITEM_SCHEMA)
    if entities:
        data.publish("entities/art", [pa.Table.from_pylist(rows, ENTITY_SCHEMA)], ENTITY_SCHEMA)
        data.publish("relations/art", [pa.Table.from_pylist(relations, RELATION_SCHEMA)], RELATION_SCHEMA)
    sampled = [
        {
            "item_id": work.item_id,
            "split": work.split,
            "neighbors": [{"item_id": n.item_id, "image_hash": n.image_hash} for n in neighbors_of(work)],
        }
        for work in WORKS
    ]
    data.publish(f"neighbors/{NEIGHBORS}", [pa.Table.from_pylist(sampled, NEIGHBOR_SCHEMA)], NEIGHBOR_SCHEMA)
    write_record(data, model_record(MODEL, neighbors=NEIGHBORS))


def add_generated(
    data: DataRoot, work: Work, variant: Variant, content: bytes, sources: list[Work], made_by: str = "{}"
) -> None:
    generated_id = hashlib.sha256(f"{work.item_id}{variant.label}{made_by}".encode()).hexdigest()[:16]
    path = f"generated/{MODEL}/{generated_id}.png"
    data.write_bytes(path, content)
    row = {
        "generated_id": generated_id,
        "item_id": work.item_id,
        "model_id": MODEL,
        **variant.columns(),
        "seed": 0,
        "settings": made_by,
        "neighbors": [{"item_id": s.item_id, "weight": 1.0, "rank": rank} for rank, s in enumerate(sources, 1)],
        "image_path": path,
    }
    data.append("generated", pa.Table.from_pylist([row], GENERATED_SCHEMA), GENERATED_SCHEMA)


def add_variants(data: DataRoot, work: Work, seed: int) -> None:
    """Text: right genre, wrong artist. Graph at 1: new work of the right artist; at 2: a copy of a neighbor."""
    near, far = neighbors_of(work), other(work)
    add_generated(data, work, TEXT, paint(far.artist, work.genre, seed), [])
    add_generated(data, work, GRAPH_1, paint(work.artist, work.genre, seed), near)
    add_generated(data, work, GRAPH_2, near[1].content, near)
    add_generated(data, work, SHUFFLED, paint(far.artist, work.genre, seed + 500), [far])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataRoot]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "FEWEST_STEPS", 80)  # colors and shapes need no more
        data = DataRoot(str(tmp_path_factory.mktemp("data")))
        write_data(data)
        for index, work in enumerate(TESTED):
            add_variants(data, work, 1_000 + index)
        report = evaluate(data, MODEL)
        assert (report.changed, report.items) == (True, TEST)
        assert report.variants == ("text", "graph-1", "graph-2", "shuffled", "top-neighbor")
        yield data


def metrics_of(data: DataRoot) -> Metrics:
    return read_metrics(data, MODEL)


def rows_of(data: DataRoot) -> dict[tuple[str, str], dict[str, Any]]:
    table = pq.read_table(io.BytesIO(data.read_bytes(f"evaluations/{MODEL}/items.parquet")))
    return {(row["item_id"], row["variant"]): row for row in table.to_pylist()}


def test_variants_are_ranked_as_they_were_made(evaluated: DataRoot) -> None:
    variants = {row.variant: row for row in metrics_of(evaluated).variants}
    assert {row.n for row in variants.values()} == {TEST}
    for graph in (GRAPH_1, GRAPH_2, TOP_NEIGHBOR):
        for control in (TEXT, SHUFFLED):
            assert mean(variants[graph].similarity) > mean(variants[control].similarity) + 0.3
            assert mean(variants[graph].palette_distance) < mean(variants[control].palette_distance) - 3
    assert mean(variants[GRAPH_1].attribute_accuracy["Artist"]) > 0.9
    assert mean(variants[TEXT].attribute_accuracy["Artist"]) < 0.1
    assert mean(variants[TEXT].attribute_accuracy["Genre"]) > 0.9


def mean(estimate: Estimate) -> float:
    assert estimate.mean is not None
    return estimate.mean


def test_only_copies_of_the_own_neighbors_are_copies(evaluated: DataRoot) -> None:
    variants = {row.variant: row for row in metrics_of(evaluated).variants}
    assert variants[GRAPH_2].copy_rate == 1.0
    assert variants[TEXT].copy_rate is None  # it had no neighbors to copy
    rows = rows_of(evaluated)
    assert not any(rows[work.item_id, "shuffled"]["copy"] for work in TESTED if work.genre == "portrait")


def test_differences_are_paired(evaluated: DataRoot) -> None:
    rows = rows_of(evaluated)
    paired = {(row.variant, row.baseline): row for row in metrics_of(evaluated).paired}
    assert paired.keys() == {(graph, base) for graph in (GRAPH_1, GRAPH_2) for base in (TEXT, SHUFFLED, TOP_NEIGHBOR)}
    for (graph, base), row in paired.items():
        for measure in ("similarity", "palette_distance"):
            ours, theirs = ([rows[w.item_id, v.label][measure] for w in TESTED] for v in (graph, base))
            differences, estimate = np.subtract(ours, theirs), getattr(row, measure)
            assert row.n == TEST
            assert estimate.mean == pytest.approx(differences.mean())
            assert estimate.se == pytest.approx(differences.std(ddof=1) / TEST**0.5)


def test_the_top_neighbor_is_the_best_neighbors_own_image(evaluated: DataRoot) -> None:
    rows = rows_of(evaluated)
    work = TESTED[0]
    first, true = (np.asarray(Image.open(io.BytesIO(w.content))) for w in (neighbors_of(work)[0], work))
    assert rows[work.item_id, "top-neighbor"]["palette_distance"] == pytest.approx(palette_distance(first, true))


def test_second_run_changes_nothing(evaluated: DataRoot) -> None:
    before = evaluated.read_bytes(f"evaluations/{MODEL}/metrics.json")
    modified = evaluated.fs.modified(evaluated.path(f"evaluations/{MODEL}/metrics.json"))
    assert evaluate(evaluated, MODEL).changed is False
    assert evaluated.read_bytes(f"evaluations/{MODEL}/metrics.json") == before
    assert evaluated.fs.modified(evaluated.path(f"evaluations/{MODEL}/metrics.json")) == modified


def test_classifier_tells_entities_and_is_kept(evaluated: DataRoot) -> None:
    judge = train_judge(evaluated)
    assert judge is not None
    assert {head.label: len(head.classes) for head in judge.heads} == {"Artist": 3, "Genre": 2}
    assert min(judge.accuracy.values()) > 0.8
    assert [name.split("/")[-1] for name in evaluated.fs.ls(evaluated.path("classifiers"), detail=False)] == [
        judge.judge_id
    ]
    features, _ = judge.predict(np.stack([np.asarray(Image.open(io.BytesIO(w.content))) for w in TESTED]))
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def judge_id(data: DataRoot) -> str:
    judge = train_judge(data)
    assert judge is not None
    return judge.judge_id


def test_another_recipe_is_another_classifier(evaluated: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = judge_id(evaluated)
    monkeypatch.setattr(classifier, "FEWEST_STEPS", 2)
    monkeypatch.setattr(classifier, "EPOCHS", 0)
    other_id = judge_id(evaluated)
    assert other_id != kept
    evaluated.fs.rm(evaluated.path("classifiers", other_id), recursive=True)


def test_images_by_other_settings_are_not_mixed_in(evaluated: DataRoot, tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path / "data"))
    evaluated.fs.cp(evaluated.path(), data.path(), recursive=True)
    for work in TESTED:  # the true images, which would be the best there are
        add_generated(data, work, TEXT, work.content, [], made_by='{"num_inference_steps": 5}')
    assert evaluate(data, MODEL).items == TEST
    assert metrics_of(data).of(TEXT) == metrics_of(evaluated).of(TEXT)


def test_items_without_all_variants_are_left_out(evaluated: DataRoot, tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path / "data"))
    evaluated.fs.cp(evaluated.path(), data.path(), recursive=True)
    data.fs.rm(data.path("generated"), recursive=True)
    for index, work in enumerate(TESTED[:3]):
        add_variants(data, work, index)
    add_generated(data, TESTED[5], TEXT, TESTED[5].content, [])
    add_generated(data, TESTED[5], Variant.mix(1.5, (0.7, 0.3)), TESTED[5].content, [])
    report = evaluate(data, MODEL)
    assert (report.items, report.changed) == (3, True)


def test_images_that_cannot_be_read_are_left_out_and_counted(evaluated: DataRoot, tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path / "data"))
    evaluated.fs.cp(evaluated.path(), data.path(), recursive=True)
    paths = {(row["item_id"], row["variant"]): row["image_path"] for row in data.read("generated").to_pylist()}
    data.fs.rm(data.path(paths[TESTED[0].item_id, "text"]))
    data.write_bytes(paths[TESTED[1].item_id, "graph-1"], b"no image")
    true_image = TESTED[2].image_hash
    data.fs.rm(data.path(f"images/files/{true_image[:2]}/{true_image}.png"))
    report = evaluate(data, MODEL)
    assert (report.items, report.unreadable) == (TEST - 3, 2)
    assert {item for item, _ in rows_of(data)} == {work.item_id for work in TESTED[3:]}


def test_items_that_are_gone_are_not_compared(evaluated: DataRoot, tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path / "data"))
    evaluated.fs.cp(evaluated.path(), data.path(), recursive=True)
    items = [row for row in data.read("items/art").to_pylist() if row["item_id"] != TESTED[0].item_id]
    items = [row | ({"image_hash": None} if row["item_id"] == TESTED[1].item_id else {}) for row in items]
    data.publish("items/art", [pa.Table.from_pylist(items, ITEM_SCHEMA)], ITEM_SCHEMA)
    assert evaluate(data, MODEL).items == TEST - 2


@pytest.mark.parametrize("content", [b"", b'{"n": 12}', b"[]"], ids=["empty", "foreign", "list"])
def test_figures_that_are_damaged_are_made_again(evaluated: DataRoot, tmp_path: Path, content: bytes) -> None:
    data = DataRoot(str(tmp_path / "data"))
    evaluated.fs.cp(evaluated.path(), data.path(), recursive=True)
    data.write_bytes(f"evaluations/{MODEL}/metrics.json", content)
    with pytest.raises(Graph2ImageError, match=r"metrics\.json"):
        read_metrics(data, MODEL)
    assert evaluate(data, MODEL).changed
    assert metrics_of(data) == metrics_of(evaluated)


def test_nothing_to_compare(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path))
    write_data(data)
    add_variants(data, TESTED[0], 0)
    with pytest.raises(Graph2ImageError, match="has images of 1 test items"):
        evaluate(data, MODEL)


def test_nothing_to_judge_by_but_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path))
    write_data(data, entities=False)
    for work in TESTED[:2]:
        add_variants(data, work, 0)
    with pytest.raises(Graph2ImageError, match="there are no image embeddings"):
        evaluate(data, MODEL)


def test_lab_of_known_colors() -> None:
    colors = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(to_lab(colors), expected, atol=0.1)


IMAGES = st.integers(0, 10_000).map(
    lambda seed: np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
)


@given(IMAGES, IMAGES, IMAGES)
@settings(max_examples=30)
def test_palette_distance_is_a_metric(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> None:
    assert palette_distance(first, second) == pytest.approx(palette_distance(second, first))
    assert palette_distance(first, third) <= palette_distance(first, second) + palette_distance(second, third) + 1e-9
    assert palette_distance(first, np.ascontiguousarray(first[::-1, ::-1])) == pytest.approx(0, abs=1e-9)  # only colors


@given(st.integers(0, 255), st.integers(0, 255))
def test_palette_distance_of_two_grays_is_their_difference_in_lightness(first: int, second: int) -> None:
    grays = [np.full((4, 4, 3), value, np.uint8) for value in (first, second)]
    lightness = [to_lab(gray[0, :1])[0, 0] for gray in grays]
    assert palette_distance(*grays) == pytest.approx(abs(lightness[0] - lightness[1]), rel=0.03, abs=0.05)
