"""Opt-outs outlive a store: they are in the data root as well, and every store on it has them before it is sampled."""

from __future__ import annotations

from pathlib import Path

import pytest
from sources import MONET, entity, item, publish, relation

from flows.settings import Settings
from flows.stages import load, withdrawn_items
from graphstore.connect import open_store
from graphstore.lineage import opt_out
from graphstore.loading.copying import copy_graph
from graphstore.loading.load import load_source
from graphstore.optouts import published_opt_outs
from graphstore.projection.tables import StoreTables
from graphstore.store import GraphStore
from ingest.datasets.integrity import DamagedError
from ingest.datasets.root import DataRoot


def publish_works(data: DataRoot, works: int = 4) -> None:
    """Works of which the first two are by one artist."""
    publish(
        data,
        "art",
        [item(f"art:{n}") for n in range(1, works + 1)],
        [entity(MONET)],
        [relation("CREATED_BY", f"art:{n}", MONET) for n in (1, 2)],
    )


def present(store: GraphStore) -> set[str]:
    """The items that may be sampled."""
    return set(StoreTables(store).items()["item_id"].to_pylist())


def remove_store(url: str) -> None:
    path = Path(url.removeprefix("ladybug://"))
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def test_an_opt_out_is_in_the_data_root_with_time_and_reason(store: GraphStore, data: DataRoot) -> None:
    publish_works(data)
    load_source(store, data, "art")
    report = opt_out(store, data, MONET, reason="the artist's wish")
    assert report.changed
    assert not opt_out(store, data, MONET).changed
    opt_out(store, data, "art:3")
    rows = published_opt_outs(data).to_pylist()
    assert [(row["id"], row["reason"]) for row in rows] == [(MONET, "the artist's wish"), ("art:3", None)]
    assert [row["created_at"] for row in rows] == [
        row["created_at"] for row in store.nodes("OptOut", ["id", "created_at"]).sort_by("id").to_pylist()
    ]
    assert data.read("optouts").num_rows == 2


def test_a_store_that_was_lost_and_is_made_again_has_them(data: DataRoot, ladybug_url: str) -> None:
    settings = Settings(data=data.url, store=ladybug_url)
    publish_works(data)
    load(settings, "art")
    with open_store(ladybug_url) as store:
        opt_out(store, data, MONET)
        opt_out(store, data, "art:3")
        version = store.version()
    remove_store(ladybug_url)
    load(settings, "art")
    with open_store(ladybug_url, read_only=True) as store:
        assert present(store) == {"art:4"}
        assert store.version() == version
    assert withdrawn_items(settings) == {"art:1", "art:2", "art:3"}


def test_another_store_on_the_data_root_has_them_when_it_is_opened(
    data: DataRoot, store_url: str, tmp_path: Path
) -> None:
    other = f"ladybug://{tmp_path}/other.lbug"
    publish_works(data)
    for url in (store_url, other):
        load(Settings(data=data.url, store=url), "art")
    with open_store(other) as store:
        opt_out(store, data, MONET)
    with open_store(store_url, read_only=True) as store:
        assert present(store) == {f"art:{n}" for n in (1, 2, 3, 4)}  # opened past the settings
    settings = Settings(data=data.url, store=store_url)
    assert withdrawn_items(settings) == {"art:1", "art:2"}
    with settings.open_graph(read_only=True) as store, open_store(other, read_only=True) as there:
        assert present(store) == {"art:3", "art:4"}
        assert store.version() == there.version()


def test_those_of_a_store_come_to_a_data_root_without(data: DataRoot, store_url: str) -> None:
    publish_works(data)
    settings = Settings(data=data.url, store=store_url)
    load(settings, "art")
    with open_store(store_url) as store:
        opt_out(store, data, "art:1", reason="by letter")
    data.fs.rm(data.path("optouts"), recursive=True)
    assert published_opt_outs(data).num_rows == 0
    assert withdrawn_items(settings) == {"art:1"}
    assert published_opt_outs(data).select(["id", "reason"]).to_pylist() == [{"id": "art:1", "reason": "by letter"}]


def test_an_item_that_was_pruned_and_comes_again_is_still_opted_out(store: GraphStore, data: DataRoot) -> None:
    publish_works(data)
    load_source(store, data, "art")
    opt_out(store, data, "art:4")
    publish_works(data, works=3)
    assert load_source(store, data, "art", prune=True).nodes_pruned == 1
    publish_works(data)
    load_source(store, data, "art")
    assert present(store) == {"art:1", "art:2", "art:3"}


def test_an_opt_out_holds_for_what_comes_later(store: GraphStore, data: DataRoot, tmp_path: Path) -> None:
    """A new store has the opt-outs of sources that it does not have yet."""
    publish_works(data)
    load_source(store, data, "art")
    opt_out(store, data, MONET)
    publish(data, "shop", [item("shop:1", "Product")])
    with open_store(f"ladybug://{tmp_path}/new.lbug") as new:
        load_source(new, data, "shop")
        assert new.nodes("OptOut", ["id"])["id"].to_pylist() == [MONET]
        load_source(new, data, "art")
        assert present(new) == {"shop:1", "art:3", "art:4"}


def test_a_copy_carries_them_to_another_data_root(store: GraphStore, data: DataRoot, tmp_path: Path) -> None:
    publish_works(data)
    load_source(store, data, "art")
    opt_out(store, data, MONET, reason="the artist's wish")
    url = f"ladybug://{tmp_path}/copy.lbug"
    with open_store(url) as target:
        copy_graph(store, target)
    elsewhere = DataRoot(str(tmp_path / "elsewhere"))
    with Settings(data=elsewhere.url, store=url).open_graph(read_only=True) as copy:
        assert present(copy) == {"art:3", "art:4"}
    assert published_opt_outs(elsewhere).to_pylist() == published_opt_outs(data).to_pylist()


def test_a_change_anywhere_in_the_file_is_noticed(data: DataRoot, tmp_path: Path) -> None:
    """Also where no page checksum covers it: what was withdrawn must be known for sure."""
    publish_works(data)
    with open_store(f"ladybug://{tmp_path}/graph.lbug") as store:
        load_source(store, data, "art")
        opt_out(store, data, "art:1", reason="by letter")
    (file,) = Path(data.path("optouts")).glob("*.parquet")
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(DamagedError, match=r"optouts/.* has changed"):
            published_opt_outs(data)
    file.write_bytes(content)
    assert published_opt_outs(data)["id"].to_pylist() == ["art:1"]
