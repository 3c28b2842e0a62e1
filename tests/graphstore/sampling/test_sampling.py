"""Sampling neighbors: the rules that keep the answer out of the question, the four modes, the dataset."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sources import Row, entity, item, publish, publish_embeddings, relation, vector

from graphstore.connect import open_store
from graphstore.lineage import opt_out
from graphstore.loading.load import load_source
from graphstore.ppr import exact_ppr, top_k_ppr
from graphstore.ppr.hubs import use_hub_vectors
from graphstore.projection.projection import project
from graphstore.projection.settings import WalkSettings
from graphstore.sampling import dataset as samples
from graphstore.sampling.dataset import sample_all
from graphstore.sampling.explanation import explain_neighbors
from graphstore.sampling.settings import SamplerSettings
from graphstore.schema import SYSTEM_LABELS
from graphstore.store import GraphStore
from ingest.datasets.root import DataRoot, text_hash
from ingest.errors import Graph2ImageError

MODES = ("random", "ppr", "semantic", "semantic-ppr")


def publish_gallery(data: DataRoot, n: int = 60) -> list[Row]:
    """`n` works by six artists in three genres; every fifth is a test item, pairs share a group, one has no image."""
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
def embedded(ladybug_url: str) -> Iterator[GraphStore]:
    """For what does not depend on the store: all that sampling asks of one is compared in a test below."""
    with open_store(ladybug_url) as store:
        yield store


@pytest.fixture
def items(embedded: GraphStore, data: DataRoot) -> list[Row]:
    """The gallery, published and in the embedded store."""
    items = publish_gallery(data)
    load_source(embedded, data, "art")
    return items


def _sampled(store: GraphStore, data: DataRoot, encoder: str | None = "test", **settings: Any) -> dict[str, list[Row]]:
    report = sample_all(store, data, SamplerSettings(encoder=encoder, **settings))
    table = data.read(f"neighbors/{report.digest}")
    return dict(zip(table["item_id"].to_pylist(), table["neighbors"].to_pylist(), strict=True))


def test_the_rules_hold_in_every_mode_and_store(store: GraphStore, data: DataRoot) -> None:
    """Not itself, not of its group, with an image, and of the training split unless asked."""
    items = publish_gallery(data)
    load_source(store, data, "art")
    groups = {row["item_id"]: row["group_id"] for row in items}
    split_of = {row["item_id"]: row["split"] for row in items}
    for mode in MODES:
        sampled = _sampled(store, data, mode=mode)
        assert set(sampled) == {row["item_id"] for row in items}  # also the one without an image
        assert {split_of[item_id] for item_id in sampled} == {"train", "val", "test"}
        for item_id, neighbors in sampled.items():
            ids = [neighbor["item_id"] for neighbor in neighbors]
            assert len(ids) == len(set(ids)) == 5
            assert groups[item_id] not in {groups[id_] for id_ in ids}
            assert {split_of[id_] for id_ in ids} == {"train"}
            assert all(neighbor["image_hash"] for neighbor in neighbors)
        asked = _sampled(store, data, mode=mode, neighbor_splits=("train", "val", "test"))
        assert {split_of[n["item_id"]] for row in asked.values() for n in row} == {"train", "val", "test"}


def test_opted_out_items_appear_nowhere(store: GraphStore, data: DataRoot) -> None:
    publish_gallery(data)
    load_source(store, data, "art")
    for mode in MODES:  # so that there are projections and samples from before
        _sampled(store, data, mode=mode)
    opt_out(store, data, "art:000")
    opt_out(store, data, "art/Artist/a1")
    opted_out = {"art:000"} | {f"art:{i:03}" for i in range(1, 60, 6)}
    for mode in MODES:
        sampled = _sampled(store, data, mode=mode)
        assert not opted_out & set(sampled)
        assert not opted_out & {n["item_id"] for row in sampled.values() for n in row}
        assert not any("a1" in n["via"] for row in sampled.values() for n in row)
        with pytest.raises(Graph2ImageError, match="opted out"):
            explain_neighbors(store, data, "art:000", SamplerSettings(encoder="test", mode=mode))


def test_every_store_gives_the_same_samples(store: GraphStore, data: DataRoot, tmp_path: Path) -> None:
    publish_gallery(data)
    load_source(store, data, "art")
    asked: list[dict[str, Any]] = [{"mode": mode} for mode in MODES]
    asked += [{"query": "image"}, {"via": ("CREATED_BY",), "directions": {"CREATED_BY": "both"}}]
    elsewhere = DataRoot(str(tmp_path / "elsewhere"))
    publish_gallery(elsewhere)
    with open_store(f"ladybug://{tmp_path}/other.lbug") as other:
        load_source(other, elsewhere, "art")
        for settings in asked:
            assert _sampled(store, data, **settings) == _sampled(other, elsewhere, **settings)
        one = explain_neighbors(store, data, "art:004", SamplerSettings(encoder="test"))
        assert one == explain_neighbors(other, elsewhere, "art:004", SamplerSettings(encoder="test"))
        assert one.neighbors[0].title == one.neighbors[0].item_id[4:]


@pytest.mark.parametrize("query", ["text", "image"])
@pytest.mark.parametrize("mode", MODES)
def test_the_image_of_a_held_out_item_is_never_looked_at(
    embedded: GraphStore, data: DataRoot, items: list[Row], mode: str, query: str
) -> None:
    """Held-out items are nobody's neighbors, so changing their images must change nothing at all."""
    before = _sampled(embedded, data, mode=mode, query=query)
    other = {row["image_hash"]: vector("other" + row["item_id"]) for row in items if row["split"] != "train"}
    publish_embeddings(data, items, other, encoder="changed")
    assert _sampled(embedded, data, encoder="changed", mode=mode, query=query) == before


def test_a_text_query_does_not_look_at_the_items_own_image(
    embedded: GraphStore, data: DataRoot, items: list[Row]
) -> None:
    before = _sampled(embedded, data)
    publish_embeddings(data, items, {"hash of 010": vector("another")}, encoder="changed")
    assert _sampled(embedded, data, encoder="changed")["art:010"] == before["art:010"]


def test_an_image_query_compares_images_with_images(embedded: GraphStore, data: DataRoot, items: list[Row]) -> None:
    by_image = _sampled(embedded, data, mode="semantic", query="image")
    by_text = _sampled(embedded, data, mode="semantic")
    train = [row for row in items if row["split"] == "train" and row["image_hash"]]
    for target in items:
        if target["split"] != "train":
            assert not target["image_hash"] or by_image[target["item_id"]] == by_text[target["item_id"]]
        elif target["image_hash"]:
            own = np.array(vector(target["image_hash"]))
            others = [row for row in train if row["group_id"] != target["group_id"]]
            nearest = max(others, key=lambda row: float(own @ vector(row["image_hash"])))
            best = by_image[target["item_id"]][0]
            assert best["item_id"] == nearest["item_id"]
            assert best["similarity"] == pytest.approx(float(own @ vector(nearest["image_hash"])), abs=1e-6)
    settings = SamplerSettings(encoder="test", query="image")
    note = "art:004 is a test item: the query is its text, its image is not looked at"
    assert explain_neighbors(embedded, data, "art:004", settings).notes == (note,)
    assert explain_neighbors(embedded, data, "art:000", settings).notes == ()
    explained = explain_neighbors(embedded, data, "art:004", settings).neighbors
    assert explained == explain_neighbors(embedded, data, "art:004", SamplerSettings(encoder="test")).neighbors


def test_test_items_change_no_other_items_neighbors(tmp_path: Path, embedded: GraphStore, data: DataRoot) -> None:
    """Nothing about the test split reaches training: not through walks, entity sizes or weights."""
    rows = publish_gallery(data)
    load_source(embedded, data, "art")
    everything = _sampled(embedded, data)
    kept = [row for row in rows if row["split"] != "test"]
    ids = {row["item_id"] for row in kept}
    relations = [row for row in data.read("relations/art").to_pylist() if row["from_id"] in ids]
    publish(data, "art", kept, data.read("entities/art").to_pylist(), relations)
    with open_store(f"ladybug://{tmp_path}/other.lbug") as other:
        load_source(other, data, "art")
        without_test = _sampled(other, data)
    assert without_test == {item_id: row for item_id, row in everything.items() if item_id in ids}


def test_semantic_ppr_reranks_the_pool_by_the_text(embedded: GraphStore, data: DataRoot, items: list[Row]) -> None:
    explained = explain_neighbors(embedded, data, "art:004", SamplerSettings(encoder="test", mode="ppr", k=10))
    pool = {n.item_id: n for n in explained.neighbors}
    best = explain_neighbors(embedded, data, "art:004", SamplerSettings(encoder="test"))
    text = np.array(vector("text of 004"))
    cosines = {id_: float(text @ vector(f"hash of {id_[4:]}")) for id_ in pool}
    assert [n.item_id for n in best.neighbors] == sorted(pool, key=lambda id_: -cosines[id_])[:5]
    for neighbor in best.neighbors:
        assert neighbor.similarity == pytest.approx(cosines[neighbor.item_id], abs=1e-6)
        assert neighbor.ppr == pool[neighbor.item_id].ppr
        assert neighbor.via == pool[neighbor.item_id].via
    assert all(n.via.startswith(("CREATED_BY art/Artist/a4", "IN_GENRE ")) for n in best.neighbors)
    assert (best.title, best.text, best.split, best.label) == ("004", "text of 004", "test", "Artwork")


def test_ppr_prefers_what_shares_the_artist(embedded: GraphStore, data: DataRoot, items: list[Row]) -> None:
    sampled = _sampled(embedded, data, mode="ppr")
    shared = [
        int(n["item_id"][4:]) % 6 == int(item_id[4:]) % 6
        for item_id, row in sampled.items()
        if item_id != "art:alone"
        for n in row
    ]
    assert np.mean(shared) > 0.8
    assert all(row == sorted(row, key=lambda n: -n["ppr"]) for id_, row in sampled.items() if id_ != "art:alone")


def test_semantic_is_the_exact_nearest(embedded: GraphStore, data: DataRoot, items: list[Row]) -> None:
    sampled = _sampled(embedded, data, mode="semantic")
    train = [row for row in items if row["split"] == "train" and row["image_hash"]]
    for target in items[:10]:
        if target["image_hash"]:
            text = np.array(vector(target["text"]))
            others = [row for row in train if row["group_id"] != target["group_id"]]
            nearest = sorted(others, key=lambda row: -float(text @ vector(row["image_hash"])))
            assert [n["item_id"] for n in sampled[target["item_id"]]] == [row["item_id"] for row in nearest[:5]]
            assert {(n["via"], n["ppr"]) for n in sampled[target["item_id"]]} == {("semantic", None)}


def test_an_item_without_relations_falls_back_and_says_so(
    embedded: GraphStore, data: DataRoot, items: list[Row]
) -> None:
    report = sample_all(embedded, data, SamplerSettings(encoder="test"))
    assert (report.fallbacks, report.incomplete, report.without_image, report.items) == (1, 0, 1, 61)
    alone = explain_neighbors(embedded, data, "art:alone", SamplerSettings(encoder="test"))
    semantic = explain_neighbors(embedded, data, "art:alone", SamplerSettings(encoder="test", mode="semantic"))
    assert [n.via for n in alone.neighbors] == ["semantic"] * 5
    assert alone.neighbors == semantic.neighbors
    assert alone.notes == ("no walk from art:alone reaches a neighbor: these are the most similar images instead",)
    assert semantic.notes == ()


def test_fewer_candidates_than_k(embedded: GraphStore, data: DataRoot) -> None:
    rows = [item("art:1"), item("art:2"), item("art:3", split="test")]
    publish(data, "art", rows)
    publish_embeddings(data, rows)
    load_source(embedded, data, "art")
    for mode in MODES:
        sampled = _sampled(embedded, data, mode=mode)
        assert {id_: sorted(n["item_id"] for n in row) for id_, row in sampled.items()} == {
            "art:1": ["art:2"],
            "art:2": ["art:1"],
            "art:3": ["art:1", "art:2"],
        }
    publish(data, "art", [item("art:3", split="test")])
    load_source(embedded, data, "art")
    test_only = SamplerSettings(encoder="test", neighbor_splits=("val",))
    assert sample_all(embedded, data, test_only).incomplete == 3


def test_the_dataset_is_published_once_and_changes_with_graph_and_settings(
    embedded: GraphStore, data: DataRoot, items: list[Row]
) -> None:
    settings = SamplerSettings(encoder="test")
    first = sample_all(embedded, data, settings)
    assert first.changed
    snapshot = data.snapshot(f"neighbors/{first.digest}")
    assert snapshot is not None
    assert snapshot.metadata["encoder"] == "test"
    assert snapshot.metadata["graph_version"] == first.graph_version == embedded.version()
    assert SamplerSettings(**snapshot.metadata["settings"]) == settings
    again = sample_all(embedded, data, settings)
    assert not again.changed
    assert (again.digest, again.neighbors, again.incomplete) == (first.digest, first.neighbors, first.incomplete)
    assert sample_all(embedded, data, SamplerSettings(encoder="test", k=4)).digest != first.digest
    opt_out(embedded, data, "art:001")
    assert sample_all(embedded, data, settings).digest != first.digest


def test_a_killed_run_continues_where_it_was(
    embedded: GraphStore, data: DataRoot, items: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "SHARD_ROWS", 16)
    whole = sample_all(embedded, data, SamplerSettings(encoder="test"))
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
            sample_all(embedded, data, SamplerSettings(encoder="test"))
    assert data.snapshot(f"neighbors/{whole.digest}") is None
    resumed = sample_all(embedded, data, SamplerSettings(encoder="test"))
    assert (resumed.shards_new, resumed.shards_existing, resumed.changed) == (2, 2, True)
    assert data.snapshot(f"neighbors/{whole.digest}") == expected


def test_all_items_are_sampled_with_hub_vectors_where_hubs_are_large(
    embedded: GraphStore, data: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A genre of 1,100 works: for `neighbors --all` its works are ranked all the same; and a killed run continues."""
    n = 1_100
    items = [item(f"art:{i:04}") for i in range(n)]
    artists, genre = [f"art/Artist/a{i}" for i in range(n // 4)], "art/Genre/g"
    relations = [relation("CREATED_BY", f"art:{i:04}", artists[i // 4]) for i in range(n)]
    relations += [relation("IN_GENRE", f"art:{i:04}", genre, 1.0 + i % 7) for i in range(n)]
    publish(data, "art", items, [entity(id_) for id_ in [*artists, genre]], relations)
    load_source(embedded, data, "art")
    projection = project(embedded)
    assert use_hub_vectors(projection)
    assert not use_hub_vectors(project(embedded, WalkSettings(relation_weights={"IN_GENRE": 0.05})))
    assert not use_hub_vectors(project(embedded, WalkSettings(via=("CREATED_BY",))))

    monkeypatch.setattr(samples, "SHARD_ROWS", 512)
    settings = {"mode": "ppr", "k": 10, "pool": 10, "epsilon": 1e-4}
    sampled = _sampled(embedded, data, encoder=None, **settings)
    exact = exact_ppr(projection, range(20))
    rough = top_k_ppr(projection, np.arange(20), k=10, epsilon=1e-4)
    for node in range(20):
        neighbors = sampled[f"art:{node:04}"]
        found = [projection.node(neighbor["item_id"]) for neighbor in neighbors]
        np.testing.assert_allclose([neighbor["ppr"] for neighbor in neighbors], exact[node][found], rtol=1e-2)
        exact[node][node] = 0.0
        assert exact[node][found].min() >= np.sort(exact[node][:n])[-10] * 0.99
        assert set(found[:3]) == set(rough.nodes[node, :3].tolist())

    digest = sample_all(embedded, data, SamplerSettings(**settings)).digest
    expected = data.snapshot(f"neighbors/{digest}")
    first = data.read_file(f"neighbors/{digest}", expected.files[0])
    data.fs.rm(data.path(f"neighbors/{digest}"), recursive=True)
    data.append(f"neighbors/{digest}", first, first.schema)
    assert sample_all(embedded, data, SamplerSettings(**settings)).shards_existing == 1
    assert data.snapshot(f"neighbors/{digest}") == expected


def test_missing_embeddings_are_told(embedded: GraphStore, data: DataRoot, items: list[Row]) -> None:
    with pytest.raises(Graph2ImageError, match="graph2image embed"):
        sample_all(embedded, data, SamplerSettings(encoder="nothing"))
    publish_embeddings(data, items[:5], encoder="some")
    with pytest.raises(Graph2ImageError, match="55 images have no embedding"):
        sample_all(embedded, data, SamplerSettings(encoder="some"))
    images = data.read("embeddings/test")
    data.append("embeddings/texts", images, images.schema)
    texts = data.read("text-embeddings/test")
    mask = [key != text_hash("text of 003") for key in texts["text_hash"].to_pylist()]
    data.append("text-embeddings/texts", texts.filter(mask), texts.schema)
    with pytest.raises(Graph2ImageError, match="1 texts have no embedding"):
        sample_all(embedded, data, SamplerSettings(encoder="texts"))


def test_an_item_whose_image_cannot_be_read_is_nobodys_neighbor(
    embedded: GraphStore, data: DataRoot, items: list[Row]
) -> None:
    without = [row | {"image_hash": None} if row["item_id"] == "art:012" else row for row in items]
    publish_embeddings(data, without, encoder="some")
    lost = pa.table({"image_hash": ["hash of 012"], "problem": ["cut off"]})
    data.publish("unreadable/some", [lost], lost.schema)
    report = sample_all(embedded, data, SamplerSettings(encoder="some", mode="random"))
    table = data.read(f"neighbors/{report.digest}")
    assert (report.items, report.without_image) == (len(items), 2)
    assert all(neighbor["item_id"] != "art:012" for row in table["neighbors"].to_pylist() for neighbor in row)


def test_unknown_items_and_types(embedded: GraphStore, data: DataRoot, items: list[Row]) -> None:
    for item_id in ("art:nothing", "art/Artist/a1"):
        with pytest.raises(Graph2ImageError, match="there is no item"):
            explain_neighbors(embedded, data, item_id, SamplerSettings(encoder="test"))
    with pytest.raises(Graph2ImageError, match="no relation type 'NOTHING'"):
        sample_all(embedded, data, SamplerSettings(encoder="test", relation_weights={"NOTHING": 1.0}))


def test_walks_use_the_types_and_directions_that_are_asked_for(
    embedded: GraphStore, data: DataRoot, items: list[Row]
) -> None:
    artist = _sampled(embedded, data, mode="ppr", via=("CREATED_BY",))
    assert {n["via"].split()[0] for row in artist.values() for n in row} == {"CREATED_BY", "semantic"}
    assert artist == _sampled(embedded, data, mode="ppr", relation_weights={"IN_GENRE": 0.0})
    # No work can be left by an artist that no step leads to.
    none = sample_all(
        embedded, data, SamplerSettings(encoder="test", via=("CREATED_BY",), directions={"CREATED_BY": "backward"})
    )
    assert none.fallbacks == none.items
    for wrong in ({"via": ("PAINTED",)}, {"directions": {"PAINTED": "forward"}}):
        with pytest.raises(Graph2ImageError, match="no relation type 'PAINTED'"):
            sample_all(embedded, data, SamplerSettings(encoder="test", **wrong))


def test_a_graph_that_has_not_changed_is_read_once(
    embedded: GraphStore, data: DataRoot, items: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = explain_neighbors(embedded, data, "art:004", SamplerSettings(encoder="test"))

    nodes = embedded.nodes

    def only_bookkeeping(label: str, properties: Sequence[str]) -> pa.Table:
        assert label in SYSTEM_LABELS, "read again"
        return nodes(label, properties)

    def no_relations(*arguments: object) -> None:
        raise AssertionError(f"read again: {arguments}")

    monkeypatch.setattr(embedded, "nodes", only_bookkeeping)
    monkeypatch.setattr(embedded, "relations", no_relations)
    assert explain_neighbors(embedded, data, "art:004", SamplerSettings(encoder="test")) == first
    other = SamplerSettings(encoder="test", mode="ppr", via=("IN_GENRE",), relation_weights={"IN_GENRE": 3.0})
    assert explain_neighbors(embedded, data, "art:004", other).neighbors[0].via.startswith("IN_GENRE")


def test_without_embeddings_there_are_walks_and_chance(embedded: GraphStore, data: DataRoot) -> None:
    publish(data, "art", [item(f"art:{n}") for n in range(4)], [entity("art/Artist/a")], [
        relation("CREATED_BY", f"art:{n}", "art/Artist/a") for n in range(3)
    ])  # fmt: skip
    load_source(embedded, data, "art")
    walked = _sampled(embedded, data, encoder=None, mode="ppr")
    assert sorted(n["item_id"] for n in walked["art:0"]) == ["art:1", "art:2"]
    assert {n["similarity"] for row in walked.values() for n in row} == {None}
    assert walked["art:3"] == []
    assert len(_sampled(embedded, data, encoder=None, mode="random")["art:3"]) == 3
    alone = explain_neighbors(embedded, data, "art:3", SamplerSettings(mode="ppr"))
    assert (alone.neighbors, alone.notes) == ((), ("no walk from art:3 reaches a neighbor",))
    for mode in ("semantic", "semantic-ppr"):
        with pytest.raises(Graph2ImageError, match="graph2image embed"):
            explain_neighbors(embedded, data, "art:0", SamplerSettings(encoder="nothing", mode=mode))


def test_a_load_that_was_cut_off_is_not_sampled(store: GraphStore, data: DataRoot) -> None:
    publish_gallery(data, n=10)
    load_source(store, data, "art")
    with store.transaction():
        store.write("MATCH (s:LoadedSource) SET s.loading = true")
    with pytest.raises(Graph2ImageError, match="load of source 'art' into the graph store is not finished"):
        explain_neighbors(store, data, "art:000", SamplerSettings(encoder="test"))


def test_a_graph_that_changes_while_it_is_read_is_not_sampled(
    embedded: GraphStore, data: DataRoot, items: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = embedded.nodes

    def nodes(*arguments: Any) -> pa.Table:
        with monkeypatch.context() as patch:  # somebody else opts an item out meanwhile
            patch.setattr(embedded, "nodes", read)
            opt_out(embedded, data, "art:000")
        return read(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "nodes", nodes)
        with pytest.raises(Graph2ImageError, match="changed while it was read"):
            sample_all(embedded, data, SamplerSettings(encoder="test"))
    assert "art:000" not in _sampled(embedded, data)
