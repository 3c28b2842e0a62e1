"""Evaluation: figures that can be checked by hand, from images whose artist is a color and whose genre is a shape."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from painted_works import (
    GRAPH_1,
    GRAPH_2,
    MODEL,
    SHUFFLED,
    TEST,
    TESTED,
    add_generated,
    add_variants,
    neighbors_of,
    other,
    request,
    write_data,
)
from PIL import Image

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import (
    ITEM_SCHEMA,
)
from ingest.errors import Graph2ImageError
from model.evaluation.evaluate import EvaluationReport, evaluate
from model.evaluation.metrics import Estimate, Metrics, read_metrics
from model.evaluation.palette import palette_distance
from model.evaluation.record import EvaluationRecord, read_evaluation
from model.generation.variants import SAME_ENTITIES, TEXT, TOP_NEIGHBOR, TRUE, TRUE_DECODED, Variant


@dataclass(frozen=True)
class Evaluated:
    """A data root, and an evaluation of all test items in it."""

    data: DataRoot
    request: EvaluationRecord

    def copy(self, folder: Path) -> Evaluated:
        data = DataRoot(str(folder / "data"))
        self.data.fs.cp(self.data.path(), data.path(), recursive=True)
        return Evaluated(data, self.request)

    def again(self) -> EvaluationReport:
        return evaluate(self.data, self.request)

    @property
    def metrics(self) -> Metrics:
        return read_metrics(self.data, MODEL, self.request.evaluation_id)

    @property
    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        table = pq.read_table(io.BytesIO(self.data.read_bytes(f"{self.request.folder}/items.parquet")))
        return {(row["item_id"], row["variant"]): row for row in table.to_pylist()}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    data = DataRoot(str(tmp_path_factory.mktemp("data")))
    write_data(data)
    images = [image for index, work in enumerate(TESTED) for image in add_variants(data, work, 1_000 + index)]
    report = evaluate(data, request(images))
    assert (report.changed, report.items) == (True, TEST)
    assert report.variants == (
        "text", "graph-1", "graph-2", "shuffled",
        "top-neighbor", "top-neighbor-decoded", "same-entities", "true-decoded", "true",
    )  # fmt: skip
    return Evaluated(data, request(images))


def test_variants_are_ranked_as_they_were_made(evaluated: Evaluated) -> None:
    variants = {row.variant: row for row in evaluated.metrics.variants}
    assert {row.n for row in variants.values()} == {TEST}
    for graph in (GRAPH_1, GRAPH_2, TOP_NEIGHBOR):
        for control in (TEXT, SHUFFLED):
            assert mean(variants[graph].similarity) > mean(variants[control].similarity) + 0.3
            assert mean(variants[graph].palette_distance) < mean(variants[control].palette_distance) - 3


def test_style_is_what_the_graph_tells_and_subject_what_the_text_tells(evaluated: Evaluated) -> None:
    metrics = evaluated.metrics
    assert {role: question.label for role, question in metrics.questions.items()} == {
        "style": "Artist",
        "subject": "Genre",
    }
    text, graph = metrics.of(TEXT), metrics.of(GRAPH_1)
    assert text is not None
    assert graph is not None
    assert mean(text.accuracy["style"]) < 0.1
    assert mean(text.accuracy["subject"]) > 0.9
    assert mean(text.accuracy["both"]) < 0.1  # right in one of them is not enough
    assert mean(graph.accuracy["both"]) > 0.9
    difference = metrics.difference(GRAPH_1, TEXT)
    assert difference is not None
    assert mean(difference.accuracy["both"]) > 0.8


def test_rows_that_explain_the_others(evaluated: Evaluated) -> None:
    metrics = evaluated.metrics
    true, decoded, alike = metrics.of(TRUE), metrics.of(TRUE_DECODED), metrics.of(SAME_ENTITIES)
    assert true is not None
    assert decoded is not None
    assert alike is not None
    assert mean(true.accuracy["both"]) > 0.9
    assert mean(decoded.accuracy["both"]) < 0.7  # an autoencoder that was never trained
    assert (true.similarity.mean, mean(true.palette_distance)) == (None, 0)
    assert mean(alike.accuracy["both"]) > 0.9
    assert 0.5 < mean(alike.similarity) < 1
    assert mean(true.copy_rate) == pytest.approx(
        np.mean([evaluated.rows[work.item_id, "true"]["copy"] for work in TESTED])
    )  # the base rate of copies


def mean(estimate: Estimate) -> float:
    assert estimate.mean is not None
    return estimate.mean


def test_only_copies_of_the_own_neighbors_are_copies(evaluated: Evaluated) -> None:
    variants = {row.variant: row for row in evaluated.metrics.variants}
    assert variants[GRAPH_2].copy_rate.mean == 1.0
    assert variants[TEXT].copy_rate.mean is None  # it had no neighbors to copy
    assert not any(evaluated.rows[work.item_id, "shuffled"]["copy"] for work in TESTED if work.genre == "portrait")


def test_differences_are_paired(evaluated: Evaluated) -> None:
    rows = evaluated.rows
    paired = {(row.variant, row.baseline): row for row in evaluated.metrics.paired}
    assert paired.keys() == {(graph, base) for graph in (GRAPH_1, GRAPH_2) for base in (TEXT, SHUFFLED, TOP_NEIGHBOR)}
    for (graph, base), row in paired.items():
        for measure in ("similarity", "palette_distance"):
            ours, theirs = ([rows[w.item_id, v.label][measure] for w in TESTED] for v in (graph, base))
            differences, estimate = np.subtract(ours, theirs), getattr(row, measure)
            assert row.n == TEST
            assert estimate.mean == pytest.approx(differences.mean())
            assert estimate.se == pytest.approx(differences.std(ddof=1) / TEST**0.5)


def test_the_top_neighbor_is_the_best_neighbors_own_image(evaluated: Evaluated) -> None:
    work = TESTED[0]
    first, true = (np.asarray(Image.open(io.BytesIO(w.content))) for w in (neighbors_of(work)[0], work))
    row = evaluated.rows[work.item_id, "top-neighbor"]
    assert row["palette_distance"] == pytest.approx(palette_distance(first, true))


def test_second_run_changes_nothing(evaluated: Evaluated) -> None:
    data, name = evaluated.data, f"{evaluated.request.folder}/metrics.json"
    before, modified = data.read_bytes(name), data.fs.modified(data.path(name))
    assert evaluated.again().changed is False
    assert (data.read_bytes(name), data.fs.modified(data.path(name))) == (before, modified)


# -- exactly what was asked for ----------------------------------------------------------------------------------------


def test_images_that_are_made_elsewhere_change_nothing(evaluated: Evaluated, tmp_path: Path) -> None:
    copied = evaluated.copy(tmp_path)
    for work in TESTED:  # the true images, which would be the best there are: other steps, neighbors, scales
        add_generated(copied.data, work, TEXT, work.content, [], made_by='{"num_inference_steps": 5}')
        add_generated(copied.data, work, GRAPH_1, work.content, [other(work)], made_by='{"neighbors": "other"}')
    add_generated(copied.data, TESTED[0], Variant("graph", 3.0), TESTED[0].content, neighbors_of(TESTED[0]))
    assert copied.again().changed is False
    assert copied.metrics == evaluated.metrics


def test_two_evaluations_of_a_model_live_side_by_side(evaluated: Evaluated, tmp_path: Path) -> None:
    copied = evaluated.copy(tmp_path)
    few = request(list(copied.request.images[:16]))  # of the first four items
    elsewhere = request(list(copied.request.images), neighbors="others")
    assert len({one.evaluation_id for one in (copied.request, few, elsewhere)}) == 3
    assert evaluate(copied.data, few).items == 4
    assert read_metrics(copied.data, MODEL, few.evaluation_id).n == 4
    assert copied.metrics == evaluated.metrics
    assert read_evaluation(copied.data, MODEL, few.evaluation_id) == few
    with pytest.raises(Graph2ImageError, match="has no evaluation 'nothing'") as error:
        read_evaluation(copied.data, MODEL, "nothing")
    assert few.evaluation_id in str(error.value.hint)


def test_items_without_all_requested_images_are_left_out(evaluated: Evaluated, tmp_path: Path) -> None:
    copied = evaluated.copy(tmp_path)
    copied.data.fs.rm(copied.data.path("generated"), recursive=True)
    images = [image for index, work in enumerate(TESTED[:3]) for image in add_variants(copied.data, work, index)]
    add_generated(copied.data, TESTED[5], TEXT, TESTED[5].content, [])
    report = evaluate(copied.data, copied.request)
    assert (report.items, report.changed) == (3, True)
    assert {image.item_id for image in images} == {item for item, _ in copied.rows}


def test_images_that_cannot_be_read_are_left_out_and_counted(evaluated: Evaluated, tmp_path: Path) -> None:
    copied = evaluated.copy(tmp_path)
    data = copied.data
    paths = {(row["item_id"], row["variant"]): row["image_path"] for row in data.read("generated").to_pylist()}
    data.fs.rm(data.path(paths[TESTED[0].item_id, "text"]))
    data.write_bytes(paths[TESTED[1].item_id, "graph-1"], b"no image")
    true_image = TESTED[2].image_hash
    data.fs.rm(data.path(f"images/files/{true_image[:2]}/{true_image}.png"))
    report = copied.again()
    assert (report.items, report.unreadable) == (TEST - 3, 2)
    assert {item for item, _ in copied.rows} == {work.item_id for work in TESTED[3:]}


def test_items_that_are_gone_are_not_compared(evaluated: Evaluated, tmp_path: Path) -> None:
    copied = evaluated.copy(tmp_path)
    items = [row for row in copied.data.read("items/art").to_pylist() if row["item_id"] != TESTED[0].item_id]
    items = [row | ({"image_hash": None} if row["item_id"] == TESTED[1].item_id else {}) for row in items]
    copied.data.publish("items/art", [pa.Table.from_pylist(items, ITEM_SCHEMA)], ITEM_SCHEMA)
    assert copied.again().items == TEST - 2


def test_what_withdrawn_items_have_a_part_in_is_not_compared(evaluated: Evaluated, tmp_path: Path) -> None:
    copied = evaluated.copy(tmp_path)
    withdrawn = neighbors_of(TESTED[0])[0].item_id
    touched = [
        work for work in TESTED if withdrawn in [source.item_id for source in (*neighbors_of(work), other(work))]
    ]
    assert evaluate(copied.data, copied.request, {withdrawn}).items == TEST - len(touched)


@pytest.mark.parametrize("content", [b"", b'{"n": 12}', b"[]"], ids=["empty", "foreign", "list"])
def test_figures_that_are_damaged_are_made_again(evaluated: Evaluated, tmp_path: Path, content: bytes) -> None:
    copied = evaluated.copy(tmp_path)
    copied.data.write_bytes(f"{copied.request.folder}/metrics.json", content)
    with pytest.raises(Graph2ImageError, match=r"metrics\.json"):
        read_metrics(copied.data, MODEL, copied.request.evaluation_id)
    assert copied.again().changed
    assert copied.metrics == evaluated.metrics


def test_labels_can_be_named(evaluated: Evaluated, tmp_path: Path) -> None:
    copied = evaluated.copy(tmp_path)
    named = copied.request.model_copy(update={"labels": {"subject": "Artist"}})
    evaluate(copied.data, named)
    questions = read_metrics(copied.data, MODEL, named.evaluation_id).questions
    assert {role: question.label for role, question in questions.items()} == {"subject": "Artist"}
    unknown = copied.request.model_copy(update={"labels": {"style": "Brand"}})
    with pytest.raises(Graph2ImageError, match="asked for the style by 'Brand'") as error:
        evaluate(copied.data, unknown)
    assert error.value.hint == "It can be asked for: Artist, Genre."


def test_nothing_to_compare(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path))
    write_data(data)
    with pytest.raises(Graph2ImageError, match="1 items of the evaluation have a true image"):
        evaluate(data, request(add_variants(data, TESTED[0], 0)))


def test_a_model_without_its_autoencoder(evaluated: Evaluated, tmp_path: Path) -> None:
    copied = evaluated.copy(tmp_path)
    copied.data.fs.rm(copied.data.path("models", MODEL, "vae"), recursive=True)
    copied.data.fs.rm(copied.data.path(f"{copied.request.folder}/metrics.json"))
    with pytest.raises(Graph2ImageError, match="cannot load the autoencoder of painter"):
        copied.again()


def test_nothing_to_judge_by_but_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path))
    write_data(data, entities=False)
    images = [image for work in TESTED[:2] for image in add_variants(data, work, 0)]
    with pytest.raises(Graph2ImageError, match="there are no image embeddings"):
        evaluate(data, request(images))
