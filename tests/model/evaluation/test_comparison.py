"""Comparison: images of painted works, whose figures are known beforehand."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    add_variants,
    neighbors_of,
    other,
    request,
    write_data,
)
from records import model_record, write_record
from tiny_extractors import save_clip, save_dinov2

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.evaluation.comparison import TRUE_IMAGES, Comparison, compare_entries, read_comparison
from model.evaluation.extractors import find_extractor
from model.evaluation.features import FeatureExtractor
from model.evaluation.pairing import Entry, require_pairs
from model.evaluation.record import EvaluationRecord
from model.evaluation.views import Metric, divergence
from model.generation.variants import TEXT, Variant


@dataclass(frozen=True)
class Compared:
    """A data root, and two seeds' evaluations of all test items in it; `models` has a CLIP and a DINOv2."""

    data: DataRoot
    seeds: tuple[EvaluationRecord, EvaluationRecord]
    models: Path

    def copy(self, folder: Path) -> Compared:
        data = DataRoot(str(folder / "data"))
        self.data.fs.cp(self.data.path(), data.path(), recursive=True)
        return replace(self, data=data)

    def entry(self, variant: Variant) -> Entry:
        return Entry(f"painter, {variant.label}", variant, self.seeds)

    @property
    def entries(self) -> list[Entry]:
        return [self.entry(variant) for variant in (GRAPH_1, TEXT, SHUFFLED)]

    @property
    def extractors(self) -> list[FeatureExtractor]:
        return [find_extractor(self.data, str(self.models / name)) for name in ("clip", "dinov2")]

    def compare(self, entries: Sequence[Entry] | None = None, **options: Any) -> tuple[Comparison, bool]:
        return compare_entries(self.data, entries or self.entries, self.extractors, **options)

    def table(self, comparison: Comparison, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(
            io.BytesIO(self.data.read_bytes(f"{comparison.folder}/{name}.parquet"))
        ).to_pylist()
        return rows


def evaluation(data: DataRoot, seed: int) -> EvaluationRecord:
    images = [
        image for i, work in enumerate(TESTED) for image in add_variants(data, work, 1_000 + 20 * seed + i, f"{seed}")
    ]
    return request(images, settings={"seed": seed, "num_inference_steps": 20})


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("compared")
    data = DataRoot(str(folder / "data"))
    write_data(data)
    save_clip(folder / "clip")
    save_dinov2(folder / "dinov2")
    found = Compared(data, (evaluation(data, 0), evaluation(data, 1)), folder)
    assert found.compare()[1]
    return found


@pytest.fixture(scope="module")
def comparison(compared: Compared) -> Comparison:
    return compared.compare()[0]


def metric(comparison: Comparison, kind: str, source: str = "judge") -> Metric:
    return next(one for one in comparison.metrics if one.kind == kind and source in one.source)


def mean(comparison: Comparison, entry: int, kind: str, source: str = "judge") -> float:
    found = comparison.entries[entry].figures[metric(comparison, kind, source).key].mean
    assert found is not None
    return found


GRAPH, TEXT_ONLY, OTHERS, TRUTH = range(4)


def test_figures_are_those_of_the_images(comparison: Comparison) -> None:
    assert [entry.name for entry in comparison.entries] == [
        "painter, graph-1", "painter, text", "painter, shuffled", TRUE_IMAGES,
    ]  # fmt: skip
    assert (comparison.split, comparison.seeds, len(comparison.item_ids)) == ("test", (0, 1), TEST)
    assert mean(comparison, GRAPH, "both") > 0.9
    assert mean(comparison, TEXT_ONLY, "style") < 0.1
    assert mean(comparison, TEXT_ONLY, "subject") > 0.9
    assert mean(comparison, TRUTH, "both") > 0.9
    assert mean(comparison, GRAPH, "image") > mean(comparison, OTHERS, "image") + 0.3
    assert mean(comparison, GRAPH, "kid") < mean(comparison, TEXT_ONLY, "kid")
    [against_text, against_shuffled] = comparison.differences
    assert (against_text.baseline, against_shuffled.baseline) == ("painter, text", "painter, shuffled")
    style = against_text.figures[metric(comparison, "style").key]
    assert style.low is not None
    assert style.low > 0.8


def test_only_what_is_a_clip_or_a_dinov2_is_called_so(comparison: Comparison) -> None:
    sources = list(dict.fromkeys(one.source for one in comparison.metrics))
    assert sources == ["graph2image's judge", "CLIP (clip)", "DINOv2 (dinov2)"]
    assert [one.kind for one in comparison.metrics if one.source == "CLIP (clip)"] == [
        "image", "text", "neighbors", "neighbor_divergence", "fid", "kid",
    ]  # fmt: skip
    assert not [one for one in comparison.metrics if one.kind == "text" and one.source != "CLIP (clip)"]


def test_too_few_images_for_fid_are_said_and_kid_stands_in(comparison: Comparison) -> None:
    kinds = [one.kind for one in comparison.metrics if one.source == "DINOv2 (dinov2)"]
    assert kinds[-1] == "kid"
    assert "fid" not in kinds
    assert any("no FID by DINOv2 (dinov2): its 16 features need 17 images, there are 12" in n for n in comparison.notes)


def test_items_of_an_artist_are_one_cluster(compared: Compared, comparison: Comparison) -> None:
    assert (comparison.cluster_label, comparison.clusters) == ("Artist", 3)
    assert any("the items are of 3 clusters" in note for note in comparison.notes)
    rows = compared.table(comparison, "scores")
    artists = {work.item_id: f"art/Artist/{work.artist}" for work in TESTED}
    assert {row["item_id"]: row["cluster"] for row in rows} == artists
    by_genre, changed = compared.compare(cluster_label="Genre")
    assert changed
    assert (by_genre.clusters, by_genre.comparison_id == comparison.comparison_id) == (2, False)
    with pytest.raises(Graph2ImageError, match="no entities with the label 'Brand'") as error:
        compared.compare(cluster_label="Brand")
    assert error.value.hint == "Their labels are: Artist, Genre."


def test_images_of_several_seeds_count_as_one(compared: Compared, comparison: Comparison) -> None:
    key = metric(comparison, "image", "CLIP").key
    rows = [row for row in compared.table(comparison, "scores") if row["metric"] == key]
    ours = {(row["item_id"], row["seed"]): row["value"] for row in rows if row["entry"] == "painter, graph-1"}
    assert len(ours) == 2 * TEST
    figures = {(row["entry"], row["metric"]): row for row in compared.table(comparison, "figures")}
    found = figures["painter, graph-1", key]
    assert (found["n"], found["clusters"]) == (TEST, 3)
    assert found["mean"] == pytest.approx(np.mean([(ours[w.item_id, 0] + ours[w.item_id, 1]) / 2 for w in TESTED]))
    theirs = {(row["item_id"], row["seed"]): row["value"] for row in rows if row["entry"] == "painter, text"}
    [difference] = [
        row
        for row in compared.table(comparison, "differences")
        if (row["baseline"], row["metric"]) == ("painter, text", key)
    ]
    assert difference["mean"] == pytest.approx(np.mean([ours[one] - theirs[one] for one in ours]))


def test_groups_are_the_entities_that_are_asked_for(compared: Compared, comparison: Comparison) -> None:
    rows = compared.table(comparison, "groups")
    assert {(row["label"], row["group"]) for row in rows} == {
        *(("Artist", name) for name in ("Rosso", "Verde", "Azzurro")),
        *(("Genre", name) for name in ("portrait", "landscape")),
    }
    key = metric(comparison, "style").key
    own = [row for row in rows if (row["label"], row["entry"], row["metric"]) == ("Artist", "painter, graph-1", key)]
    assert sum(row["n"] for row in own) == TEST
    assert all(row["se"] is None for row in own)  # an artist is one cluster


def test_the_same_again_changes_nothing_and_damage_is_made_good(compared: Compared, tmp_path: Path) -> None:
    copied = compared.copy(tmp_path)
    before, changed = copied.compare()
    assert not changed
    assert read_comparison(copied.data, before.comparison_id) == before
    copied.data.write_bytes(f"{before.folder}/scores.parquet", b"")
    assert copied.compare() == (before, True)
    copied.data.write_bytes(f"{before.folder}/comparison.json", b"{}")
    with pytest.raises(Graph2ImageError, match="is of another version"):
        read_comparison(copied.data, before.comparison_id)
    assert copied.compare() == (before, True)
    with pytest.raises(Graph2ImageError, match="there is no comparison 'none'"):
        read_comparison(copied.data, "none")


def test_an_item_that_lacks_an_image_is_left_out_of_all(compared: Compared, tmp_path: Path) -> None:
    copied = compared.copy(tmp_path)
    images = {image.item_id: image for image in compared.seeds[1].images if image.variant == TEXT}
    lost, damaged = (images[work.item_id].generated_id for work in TESTED[:2])
    copied.data.fs.rm(copied.data.path("generated", MODEL, f"{lost}.png"))
    copied.data.write_bytes(f"generated/{MODEL}/{damaged}.png", b"no image")
    withdrawn = neighbors_of(TESTED[2])[0].item_id
    touched = {
        w.item_id for w in TESTED if withdrawn in [source.item_id for source in (*neighbors_of(w), other(w))]
    } | {work.item_id for work in TESTED[:2]}
    found, _ = copied.compare(withdrawn={withdrawn})
    assert set(found.item_ids) == {work.item_id for work in TESTED} - touched
    assert any(f"{len(touched)} items are left out of all entries" in note for note in found.notes)
    assert {entry.figures[metric(found, "subject").key].n for entry in found.entries} == {len(found.item_ids)}


def test_nothing_left_to_compare(compared: Compared) -> None:
    with pytest.raises(Graph2ImageError, match="0 items have a true image and an image of every entry"):
        compared.compare(withdrawn={work.item_id for work in TESTED})
    with pytest.raises(Graph2ImageError, match="an extractor is named twice"):
        compare_entries(compared.data, compared.entries, [*compared.extractors, compared.extractors[0]])


def test_nothing_to_compare_by(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path))
    write_data(data, entities=False)
    record = request([image for work in TESTED[:3] for image in add_variants(data, work, 0)])
    with pytest.raises(Graph2ImageError, match="there is nothing to compare by"):
        compare_entries(data, [Entry("one", TEXT, (record,))], [])


def test_models_that_show_other_parts_of_images(compared: Compared, tmp_path: Path) -> None:
    copied = compared.copy(tmp_path)
    record = model_record("padded")
    padded = record.config.model_copy(update={"image_fit": "pad"})
    write_record(copied.data, record.model_copy(update={"config": padded}))
    theirs = compared.seeds[0].model_copy(update={"model_id": "padded"})
    entries = [Entry("ours", TEXT, compared.seeds[:1]), Entry("theirs", TEXT, (theirs,))]
    with pytest.raises(Graph2ImageError, match="painter and padded do not pair: their image_fit is 'crop' and 'pad'"):
        copied.compare(entries)


def test_other_settings_are_noted(compared: Compared) -> None:
    theirs = compared.seeds[0].model_copy(update={"settings": {"seed": 0, "num_inference_steps": 5}})
    found, _ = compared.compare([Entry("ours", TEXT, compared.seeds[:1]), Entry("theirs", TEXT, (theirs,))])
    assert "ours and theirs were made with other settings: num inference steps 20 and 5" in found.notes
    assert all(interval.mean == 0 for interval in found.differences[0].figures.values())  # the same images


# -- what does not pair ------------------------------------------------------------------------------------------------


def changed(record: EvaluationRecord, **values: Any) -> EvaluationRecord:
    return record.model_copy(update=values)


@pytest.mark.parametrize("case", ["split", "seeds", "items", "names", "variant", "twice", "inside", "none"])
def test_what_does_not_pair_is_refused_by_name(compared: Compared, case: str) -> None:
    zero, one = compared.seeds
    fewer = changed(zero, images=zero.images[8:])
    entries, message = {
        "split": ([("a", TEXT, [zero]), ("b", TEXT, [changed(zero, split="val")])], "'a' and 'b' do not pair: .* val"),
        "seeds": ([("a", TEXT, [zero]), ("b", TEXT, [one])], "'a' and 'b' do not pair: their seeds are 0 and 1"),
        "items": ([("a", TEXT, [zero]), ("b", TEXT, [fewer])], "'a' and 'b' do not pair: 2 items are in one of them"),
        "names": ([("a", TEXT, [zero]), ("a", GRAPH_2, [zero])], "two rows of the comparison are called 'a'"),
        "variant": ([("a", Variant("graph", 3.0), [zero])], "has no images of the variant graph-3"),
        "twice": ([("a", TEXT, [zero, zero])], "'a' has evaluation .* twice"),
        "inside": ([("a", TEXT, [one, fewer])], "'a': evaluations .* do not pair: they are about other items"),
        "none": ([("a", TEXT, [])], "there is nothing to compare"),
    }[case]
    with pytest.raises(Graph2ImageError, match=message):
        require_pairs([Entry(name, variant, tuple(records)) for name, variant, records in entries])


def test_divergence_is_that_of_normal_distributions() -> None:
    generator = np.random.default_rng(0)
    true, same, far = (generator.normal(mean, 0.2, 5_000) for mean in (0.3, 0.3, 0.5))
    assert divergence(true, true) == pytest.approx(0)
    assert divergence(true, same) == pytest.approx(0, abs=0.01)
    assert divergence(true, far) == pytest.approx(0.5, abs=0.05)  # half of the squared distance in deviations
    holed = np.where(np.arange(5_000) % 2, true, np.nan)
    assert divergence(holed, true) == pytest.approx(0, abs=0.01)
    assert np.isnan(divergence(true[:1], far[:1]))


def test_rows_of_parquet_have_their_types(compared: Compared, comparison: Comparison) -> None:
    schema = pq.read_schema(io.BytesIO(compared.data.read_bytes(f"{comparison.folder}/figures.parquet")))
    assert schema.field("mean").type == pa.float64()
    assert schema.field("n").type == pa.int64()
