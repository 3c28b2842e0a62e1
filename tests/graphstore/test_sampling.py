"""Sampling neighbors: the rules that keep the answer out of the question, the four modes, the dataset."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from sources import Row, entity, item, publish, publish_embeddings, relation, vector

from graphstore import samples
from graphstore.lineage import opt_out
from graphstore.load import load_source
from graphstore.samples import sample_all
from graphstore.sampling import SamplerSettings, explain_neighbors
from graphstore.store import GraphStore, open_store
from ingest.datasets import DataRoot, text_hash
from ingest.errors import Graph2ImageError

MODES = ("random", "ppr", "semantic", "semantic-ppr")


def publish_gallery(data: DataRoot, n: int = 60) -> list[Row]:
    """`n` works by six artists in three genres; every fifth is a test item, pairs share a group, one has no picture."""
    rng = random.Random(0)
    splits = ["train", "train", "train", "val", "test"]
    items = [item(f"art:{i:03}", split=splits[i % 5], group_id=f"g{i // 2}") for i in range(n)]
    items[7]["image_hash"] = None
    items.append(item("art:alone"))
    artists, genres = [f"art/Artist/a{i}" for i in range(6)], [f"art/Genre/g{i}" for i in range(3)]
    relations = [relation("CREATED_BY", f"art:{i:03}", artists[i % 6]) for i in range(n)]
    relations += [relation("IN_GENRE", f"art:{i:03}", rng.choice(genres)) for i in range(n)]
    publish(data, "art", items, [entity(id_) for id_ in artists + genres], relations)
    publish_embeddings(data, items)
    return items


@pytest.fixture
def items(store: GraphStore, data: DataRoot) -> list[Row]:
    items = publish_gallery(data)
    load_source(store, data, "art")
    return items


def _sampled(store: GraphStore, data: DataRoot, **settings: Any) -> dict[str, list[Row]]:
    report = sample_all(store, data, SamplerSettings(encoder="test", **settings))
    table = data.read(f"neighbors/{report.digest}")
    return dict(zip(table["item_id"].to_pylist(), table["neighbors"].to_pylist(), strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_an_item_is_never_its_own_neighbor_nor_is_its_group(
    store: GraphStore, data: DataRoot, items: list[Row], mode: str
) -> None:
    groups = {row["item_id"]: row["group_id"] for row in items}
    sampled = _sampled(store, data, mode=mode)
    assert set(sampled) == {row["item_id"] for row in items if row["image_hash"]}
    for item_id, neighbors in sampled.items():
        ids = [neighbor["item_id"] for neighbor in neighbors]
        assert len(ids) == len(set(ids)) == 5
        assert groups[item_id] not in {groups[id_] for id_ in ids}
        assert all(neighbor["image_hash"] for neighbor in neighbors)


@pytest.mark.parametrize("mode", MODES)
def test_only_training_items_are_neighbors_unless_asked(
    store: GraphStore, data: DataRoot, items: list[Row], mode: str
) -> None:
    split_of = {row["item_id"]: row["split"] for row in items}
    sampled = _sampled(store, data, mode=mode)
    assert {split_of[item_id] for item_id in sampled} == {"train", "val", "test"}
    assert {split_of[n["item_id"]] for row in sampled.values() for n in row} == {"train"}
    asked = _sampled(store, data, mode=mode, neighbor_splits=("train", "val", "test"))
    assert {split_of[n["item_id"]] for row in asked.values() for n in row} == {"train", "val", "test"}


@pytest.mark.parametrize("mode", MODES)
def test_opted_out_items_appear_nowhere(store: GraphStore, data: DataRoot, items: list[Row], mode: str) -> None:
    opt_out(store, data, "art:000")
    opt_out(store, data, "art/Artist/a1")
    withdrawn = {"art:000"} | {f"art:{i:03}" for i in range(1, 60, 6)}
    sampled = _sampled(store, data, mode=mode)
    assert not withdrawn & set(sampled)
    assert not withdrawn & {n["item_id"] for row in sampled.values() for n in row}
    assert not any("a1" in n["via"] for row in sampled.values() for n in row)
    with pytest.raises(Graph2ImageError, match="opted out"):
        explain_neighbors(store, data, "art:000", SamplerSettings(encoder="test", mode=mode))


@pytest.mark.parametrize("mode", MODES)
def test_the_items_own_picture_is_never_looked_at(
    store: GraphStore, data: DataRoot, items: list[Row], mode: str
) -> None:
    """Test items are nobody's neighbors, so changing their pictures must change nothing at all."""
    before = _sampled(store, data, mode=mode)
    other = {row["image_hash"]: vector("other" + row["item_id"]) for row in items if row["split"] == "test"}
    publish_embeddings(data, items, other, encoder="changed")
    after = sample_all(store, data, SamplerSettings(encoder="changed", mode=mode))
    table = data.read(f"neighbors/{after.digest}")
    assert dict(zip(table["item_id"].to_pylist(), table["neighbors"].to_pylist(), strict=True)) == before


def test_test_items_change_no_other_items_neighbors(tmp_path: Any, store: GraphStore, data: DataRoot) -> None:
    """Nothing about the test split reaches training: not through walks, entity sizes or weights."""
    rows = publish_gallery(data)
    load_source(store, data, "art")
    everything = _sampled(store, data)
    kept = [row for row in rows if row["split"] != "test"]
    ids = {row["item_id"] for row in kept}
    relations = [row for row in data.read("relations/art").to_pylist() if row["from_id"] in ids]
    publish(data, "art", kept, data.read("entities/art").to_pylist(), relations)
    with open_store(f"ladybug://{tmp_path}/other.lbug") as other:
        load_source(other, data, "art")
        without_test = _sampled(other, data)
    assert without_test == {item_id: row for item_id, row in everything.items() if item_id in ids}


def test_semantic_ppr_reranks_the_pool_by_the_text(store: GraphStore, data: DataRoot, items: list[Row]) -> None:
    explained = explain_neighbors(store, data, "art:004", SamplerSettings(encoder="test", mode="ppr", k=10))
    pool = {n.item_id: n for n in explained.neighbors}
    best = explain_neighbors(store, data, "art:004", SamplerSettings(encoder="test"))
    text = np.array(vector("text of 004"))
    cosines = {id_: float(text @ vector(f"hash of {id_[4:]}")) for id_ in pool}
    assert [n.item_id for n in best.neighbors] == sorted(pool, key=lambda id_: -cosines[id_])[:5]
    for neighbor in best.neighbors:
        assert neighbor.similarity == pytest.approx(cosines[neighbor.item_id], abs=1e-6)
        assert neighbor.ppr == pool[neighbor.item_id].ppr
        assert neighbor.via == pool[neighbor.item_id].via
    assert all(n.via.startswith(("CREATED_BY art/Artist/a4", "IN_GENRE ")) for n in best.neighbors)
    assert (best.title, best.text, best.split, best.label) == ("004", "text of 004", "test", "Artwork")


def test_ppr_prefers_what_shares_the_artist(store: GraphStore, data: DataRoot, items: list[Row]) -> None:
    sampled = _sampled(store, data, mode="ppr")
    shared = [
        int(n["item_id"][4:]) % 6 == int(item_id[4:]) % 6
        for item_id, row in sampled.items()
        if item_id != "art:alone"
        for n in row
    ]
    assert np.mean(shared) > 0.8
    assert all(row == sorted(row, key=lambda n: -n["ppr"]) for id_, row in sampled.items() if id_ != "art:alone")


def test_semantic_is_the_exact_nearest(store: GraphStore, data: DataRoot, items: list[Row]) -> None:
    sampled = _sampled(store, data, mode="semantic")
    train = [row for row in items if row["split"] == "train" and row["image_hash"]]
    for target in items[:10]:
        if target["image_hash"]:
            text = np.array(vector(target["text"]))
            others = [row for row in train if row["group_id"] != target["group_id"]]
            nearest = sorted(others, key=lambda row: -float(text @ vector(row["image_hash"])))
            assert [n["item_id"] for n in sampled[target["item_id"]]] == [row["item_id"] for row in nearest[:5]]
            assert {(n["via"], n["ppr"]) for n in sampled[target["item_id"]]} == {("semantic", None)}


def test_an_item_without_relations_falls_back_and_says_so(store: GraphStore, data: DataRoot, items: list[Row]) -> None:
    report = sample_all(store, data, SamplerSettings(encoder="test"))
    assert (report.fallbacks, report.incomplete, report.items) == (1, 0, 60)
    alone = explain_neighbors(store, data, "art:alone", SamplerSettings(encoder="test"))
    semantic = explain_neighbors(store, data, "art:alone", SamplerSettings(encoder="test", mode="semantic"))
    assert [n.via for n in alone.neighbors] == ["semantic"] * 5
    assert alone.neighbors == semantic.neighbors
    assert alone.notes == ("no walk from art:alone reaches a neighbor: these are the most similar pictures instead",)
    assert semantic.notes == ()


def test_fewer_candidates_than_k(store: GraphStore, data: DataRoot) -> None:
    rows = [item("art:1"), item("art:2"), item("art:3", split="test")]
    publish(data, "art", rows)
    publish_embeddings(data, rows)
    load_source(store, data, "art")
    for mode in MODES:
        sampled = _sampled(store, data, mode=mode)
        assert {id_: sorted(n["item_id"] for n in row) for id_, row in sampled.items()} == {
            "art:1": ["art:2"],
            "art:2": ["art:1"],
            "art:3": ["art:1", "art:2"],
        }
    publish(data, "art", [item("art:3", split="test")])
    load_source(store, data, "art")
    test_only = SamplerSettings(encoder="test", neighbor_splits=("val",))
    assert sample_all(store, data, test_only).incomplete == 3


def test_the_dataset_is_published_once_and_changes_with_graph_and_settings(
    store: GraphStore, data: DataRoot, items: list[Row]
) -> None:
    settings = SamplerSettings(encoder="test")
    first = sample_all(store, data, settings)
    assert first.changed
    snapshot = data.snapshot(f"neighbors/{first.digest}")
    assert snapshot is not None
    assert snapshot.metadata["encoder"] == "test"
    assert snapshot.metadata["graph_version"] == first.graph_version == store.version()
    assert SamplerSettings(**snapshot.metadata["settings"]) == settings
    again = sample_all(store, data, settings)
    assert not again.changed
    assert (again.digest, again.neighbors, again.incomplete) == (first.digest, first.neighbors, first.incomplete)
    assert sample_all(store, data, SamplerSettings(encoder="test", k=4)).digest != first.digest
    opt_out(store, data, "art:001")
    assert sample_all(store, data, settings).digest != first.digest


def test_a_killed_run_goes_on_where_it_was(
    store: GraphStore, data: DataRoot, items: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "SHARD_ROWS", 16)
    whole = sample_all(store, data, SamplerSettings(encoder="test"))
    expected = data.snapshot(f"neighbors/{whole.digest}")
    assert whole.shards_new == 4
    data.fs.rm(data.path(f"neighbors/{whole.digest}"), recursive=True)

    rows = samples.sample_rows
    calls = []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return rows(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(samples, "sample_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            sample_all(store, data, SamplerSettings(encoder="test"))
    assert data.snapshot(f"neighbors/{whole.digest}") is None
    resumed = sample_all(store, data, SamplerSettings(encoder="test"))
    assert (resumed.shards_new, resumed.shards_existing, resumed.changed) == (2, 2, True)
    assert data.snapshot(f"neighbors/{whole.digest}") == expected


def test_missing_embeddings_are_told(store: GraphStore, data: DataRoot, items: list[Row]) -> None:
    with pytest.raises(Graph2ImageError, match="graph2image embed"):
        sample_all(store, data, SamplerSettings(encoder="nothing"))
    publish_embeddings(data, items[:5], encoder="some")
    with pytest.raises(Graph2ImageError, match="55 pictures have no embedding"):
        sample_all(store, data, SamplerSettings(encoder="some"))
    images = data.read("embeddings/test")
    data.append("embeddings/texts", images, images.schema)
    texts = data.read("text-embeddings/test")
    mask = [key != text_hash("text of 003") for key in texts["text_hash"].to_pylist()]
    data.append("text-embeddings/texts", texts.filter(mask), texts.schema)
    with pytest.raises(Graph2ImageError, match="1 texts have no embedding"):
        sample_all(store, data, SamplerSettings(encoder="texts"))


def test_a_picture_that_cannot_be_read_is_in_no_sample(store: GraphStore, data: DataRoot, items: list[Row]) -> None:
    without = [row | {"image_hash": None} if row["item_id"] == "art:012" else row for row in items]
    publish_embeddings(data, without, encoder="some")
    lost = pa.table({"image_hash": ["hash of 012"], "problem": ["cut off"]})
    data.publish("unreadable/some", [lost], lost.schema)
    report = sample_all(store, data, SamplerSettings(encoder="some", mode="random"))
    table = data.read(f"neighbors/{report.digest}")
    assert report.items == len(items) - 2
    assert "art:012" not in table["item_id"].to_pylist()
    assert all(neighbor["item_id"] != "art:012" for row in table["neighbors"].to_pylist() for neighbor in row)


def test_unknown_items_types_and_settings(store: GraphStore, data: DataRoot, items: list[Row]) -> None:
    for item_id in ("art:nothing", "art/Artist/a1"):
        with pytest.raises(Graph2ImageError, match="there is no item"):
            explain_neighbors(store, data, item_id, SamplerSettings(encoder="test"))
    with pytest.raises(Graph2ImageError, match="no relation type 'NOTHING'"):
        sample_all(store, data, SamplerSettings(encoder="test", relation_weights={"NOTHING": 1.0}))
    for wrong in (
        {"k": 0},
        {"pool": 3},
        {"mode": "best"},
        {"damping_factor": 1.0},
        {"epsilon": 0.0},
        {"relation_weights": {"CREATED_BY": float("nan")}},
        {"relation_weights": {"CREATED_BY": -1.0}},
        {"neighbor_splits": ("training",)},
        {"unknown": 1},
    ):
        with pytest.raises(ValidationError):
            SamplerSettings(encoder="test", **wrong)


def test_no_item_with_an_image(store: GraphStore, data: DataRoot) -> None:
    rows = [item("art:1", image_hash=None, text=None)]
    publish(data, "art", rows)
    load_source(store, data, "art")
    with pytest.raises(Graph2ImageError, match="graph2image embed"):
        sample_all(store, data, SamplerSettings(encoder="test"))
    publish_embeddings(data, [*rows, item("art:2")])
    with pytest.raises(Graph2ImageError, match="no item in the graph has an image"):
        sample_all(store, data, SamplerSettings(encoder="test"))
