"""Search by words and by image: the same answers from both stores, from their indexes or without them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sources import Row, item, publish, publish_embeddings, vector
from typer.testing import CliRunner

from flows import stages
from flows.cli.app import app
from flows.settings import Settings
from graphstore.connect import open_store
from graphstore.lineage import opt_out
from graphstore.search.images import similar
from graphstore.search.titles import search
from graphstore.store import IndexReport
from ingest.datasets.integrity import DamagedError
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

TITLES = [
    "The Red Boat",
    "Red, red roses",
    "A boat on the river at dawn, seen from the old bridge",
    "Still life",
    "L'Étoile (the star)",
    "富嶽三十六景",
    "Нева",
    "Room 3.14",
]


def titled(titles: Sequence[str | None], label: str = "Artwork", first: int = 1) -> list[Row]:
    return [item(f"art:{first + n}", label, title=title) for n, title in enumerate(titles)]


def load(url: str, data: DataRoot, rows: Sequence[Row]) -> None:
    publish(data, "art", rows)
    stages.load(Settings(data=data.url, store=url), "art")


def index(url: str, data: DataRoot, encoder: str = "test") -> IndexReport | None:
    """What `embed` ends with."""
    with open_store(url) as store:
        return store.indexes and store.indexes.update_vectors(data, encoder)


def found(url: str, text: str, **options: object) -> list[str]:
    with open_store(url, read_only=True) as store:
        return [row.item_id for row in search(store, text, **options).items]  # type: ignore[arg-type]


# -- by words ----------------------------------------------------------------------------------------------------------


def test_titles_are_ranked_by_bm25(store_url: str, data: DataRoot) -> None:
    load(store_url, data, titled(TITLES))
    with open_store(store_url, read_only=True) as store:
        answer = search(store, "RED boat")
    lengths = [3, 3, 12, 2, 3, 6, 1, 2]
    mean = sum(lengths) / len(lengths)

    def score(times: int, having: int, length: int) -> float:
        rarity = math.log(1 + (len(TITLES) - having + 0.5) / (having + 0.5))
        return rarity * times / (times + 1.2 * (0.25 + 0.75 * length / mean))

    assert [row.item_id for row in answer.items] == ["art:1", "art:2", "art:3"]
    assert [row.title for row in answer.items] == TITLES[:3]
    expected = [2 * score(1, 2, 3), score(2, 2, 3), score(1, 2, 12)]
    assert [row.score for row in answer.items] == pytest.approx(expected, rel=1e-5)
    assert found(store_url, "RED boat", k=2) == ["art:1", "art:2"]


def test_words_are_words(store_url: str, data: DataRoot) -> None:
    load(store_url, data, titled([*TITLES, "not or and", None, ""]))
    for text, expected in {
        "NOT life": {"art:4", "art:9"},
        "boat AND": {"art:1", "art:3", "art:9"},
        '"red river"': {"art:1", "art:2", "art:3"},
        "title:river": set(),
        "ro*": set(),
        "life) ~2 ^3 \\ [": {"art:4"},
        "l'étoile": {"art:5"},
        "star": {"art:5"},
        "НЕВА": {"art:7"},
        "三": {"art:6"},
        "3.14": {"art:8"},
        "nothing": set(),
    }.items():
        assert set(found(store_url, text)) == expected, text


def test_search_leaves_out_what_was_opted_out_and_other_labels(store_url: str, data: DataRoot) -> None:
    rows = [*titled(["red", "red"]), *titled(["red", "red"], "Poster", 3)]
    load(store_url, data, rows)
    with open_store(store_url) as store:
        opt_out(store, data, "art:3")
    assert found(store_url, "red") == ["art:1", "art:2", "art:4"]
    assert found(store_url, "red", label="Poster") == ["art:4"]
    assert found(store_url, "red", k=1) == ["art:1"]


def test_new_titles_and_labels_are_found(store_url: str, data: DataRoot) -> None:
    load(store_url, data, titled(["red"]))
    load(store_url, data, [*titled(["blue", "red"]), *titled(["red"], "Poster", 3)])
    assert found(store_url, "red") == ["art:2", "art:3"]
    assert found(store_url, "blue") == ["art:1"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "no word to search for in ''"),
        ("!? …", {}, "no word to search for"),
        ("red", {"label": "Artist"}, "'Artist' is not a label of items"),
        (" ".join(map(str, range(300))), {}, "300 words are too many"),
    ],
)
def test_what_cannot_be_searched_for(
    ladybug_url: str, data: DataRoot, text: str, options: dict[str, str], message: str
) -> None:
    load(ladybug_url, data, titled(["red"]))
    with pytest.raises(Graph2ImageError, match=message):
        found(ladybug_url, text, **options)


def test_monstrous_titles(store_url: str, data: DataRoot) -> None:
    rest = "".join(chr(plane << 16 | 0x0400) for plane in range(15)) + "\U000f0000\U0010fffd\U000e0100"
    titles = [
        "lighthouse " + "wave " * 400_000,
        "x" * 2_000_000 + " lighthouse",
        f"lighthouse {rest} \U00010400\U00020000",
    ]
    load(store_url, data, titled([*titles, "a short title"]))
    assert set(found(store_url, "LIGHTHOUSE")) == {"art:1", "art:2", "art:3"}
    assert found(store_url, "wave") == ["art:1"]
    assert found(store_url, "\U00010428") == ["art:3"]  # the small letter of the one in the title
    assert found(store_url, "\U00020000") == ["art:3"]
    assert found(store_url, "short") == ["art:4"]


CHARACTERS = st.one_of(
    st.characters(max_codepoint=0x24F, exclude_categories=["Cs", "Cc"]),
    st.characters(min_codepoint=0x370, max_codepoint=0x5FF, categories=["L", "Nd", "P"]),
    st.sampled_from("一二三あいアイー한국กขกမြန်🎨🖼𐐀𠀀'’.,-_ ·"),
)


@settings(max_examples=2)
@example(titles=["0\u05f3", "0", "\u05d2\u05f3 0\u05f3a", "0'a", "a\u00b7b", "3.5", "3.a"])
@given(titles=st.lists(st.text(CHARACTERS, min_size=1, max_size=24), min_size=12, max_size=12))
def test_both_stores_find_the_same(ladybug_url: str, neo4j_url: str, data: DataRoot, titles: list[str]) -> None:
    urls = (ladybug_url, neo4j_url)
    for url in urls:
        load(url, data, titled(titles))
    for title in titles:
        answers = []
        for url in urls:
            try:
                answers.append(set(found(url, title, k=100)))
            except Graph2ImageError as error:  # no word in it
                answers.append({error.message})
        assert answers[0] == answers[1], ascii(title)


# -- by image --------------------------------------------------------------------------------------------------------


def test_similar_items_are_those_of_highest_cosine(store_url: str, data: DataRoot) -> None:
    rows = titled([f"title {n}" for n in range(400)])
    rows[7]["image_hash"] = rows[3]["image_hash"]
    rows[8]["image_hash"] = None
    vectors = {row["image_hash"]: vector(row["image_hash"], 32) for row in rows if row["image_hash"]}
    load(store_url, data, rows)
    publish_embeddings(data, rows, vectors)
    index(store_url, data)

    matrix = np.array([vectors.get(row["image_hash"], np.zeros(32)) for row in rows])
    hits = 0
    with open_store(store_url, read_only=True) as store:
        for n in range(0, 40, 3):
            answer = similar(store, data, f"art:{n + 1}", encoder="test", k=10)
            assert answer.indexed == (store.indexes is not None)
            cosines = matrix @ matrix[n]
            cosines[[n, 8]] = -2
            assert [row.similarity for row in answer.items] == pytest.approx(
                [cosines[int(row.item_id[4:]) - 1] for row in answer.items], abs=1e-6
            )
            hits += len({f"art:{m + 1}" for m in np.argsort(-cosines)[:10]} & {row.item_id for row in answer.items})
            assert [row.similarity for row in answer.items] == sorted(
                (row.similarity for row in answer.items), reverse=True
            )
        same = similar(store, data, "art:4", encoder="test", k=1).items[0]
    assert (same.item_id, same.title) == ("art:8", "title 7")
    assert same.similarity == pytest.approx(1, abs=1e-6)
    assert hits >= (140 if store_url.startswith("ladybug") else 136)


def test_similar_leaves_out_what_was_opted_out_and_other_labels(store_url: str, data: DataRoot) -> None:
    rows = [*titled(["a", "b", "c"]), *titled(["d", "e"], "Poster", 4)]
    load(store_url, data, rows)
    publish_embeddings(data, rows)
    index(store_url, data)
    with open_store(store_url) as store:
        opt_out(store, data, "art:2")

    def ids(item_id: str, **options: object) -> set[str]:
        with open_store(store_url, read_only=True) as store:
            return {row.item_id for row in similar(store, data, item_id, encoder="test", **options).items}  # type: ignore[arg-type]

    assert ids("art:1") == {"art:3", "art:4", "art:5"}
    assert ids("art:1", label="Poster") == {"art:4", "art:5"}
    with pytest.raises(Graph2ImageError, match="no item 'art:2'"):
        ids("art:2")


def test_what_cannot_be_compared(store_url: str, data: DataRoot) -> None:
    rows = titled(["a", "b", "c"])
    rows[0]["image_hash"] = None
    load(store_url, data, rows)
    index(store_url, data)
    with open_store(store_url, read_only=True) as store:

        def complaint(item_id: str, **options: str) -> str:
            with pytest.raises(Graph2ImageError) as caught:
                similar(store, data, item_id, **{"encoder": "test", **options})  # type: ignore[arg-type]
            return str(caught.value)

        assert "no item 'art:9'" in complaint("art:9")
        assert "no image" in complaint("art:1")
        assert "graph2image embed" in complaint("art:2")
        publish_embeddings(data, rows[1:2])
        assert "there are those of test" in complaint("art:2", encoder="other")
        assert "the image of art:3 has no embedding of test" in complaint("art:3")
        assert "'Artist' is not a label of items" in complaint("art:2", label="Artist")
        assert similar(store, data, "art:2", encoder="test").items == ()


# -- the index of vectors ----------------------------------------------------------------------------------------------


def test_the_index_follows_the_items(neo4j_url: str, data: DataRoot) -> None:
    rows = titled(["a", "b", "c", "d"])
    load(neo4j_url, data, rows[:3])
    publish_embeddings(data, rows[:3])
    assert index(neo4j_url, data) == IndexReport("test", written=3, removed=0, items=3, missing=0)
    assert index(neo4j_url, data) == IndexReport("test", written=0, removed=0, items=3, missing=0)

    changed = [{**rows[0], "image_hash": "another"}, {**rows[1], "image_hash": None}, rows[2], rows[3]]
    load(neo4j_url, data, changed)
    with open_store(neo4j_url, read_only=True) as store:
        # The old image of art:1 is not compared with, though its vector is still there.
        assert similar(store, data, "art:3", encoder="test").items == ()
    publish_embeddings(data, changed[:1])
    assert index(neo4j_url, data) == IndexReport("test", written=1, removed=2, items=2, missing=1)
    with open_store(neo4j_url) as store:
        assert [row.item_id for row in similar(store, data, "art:3", encoder="test").items] == ["art:1"]
        opt_out(store, data, "art:3")
    assert index(neo4j_url, data) == IndexReport("test", written=0, removed=1, items=1, missing=1)


def test_vectors_of_two_encoders_are_never_compared(neo4j_url: str, data: DataRoot) -> None:
    rows = titled(["a", "b", "c"])
    load(neo4j_url, data, rows)
    publish_embeddings(data, rows)
    other = {row["image_hash"]: vector(row["title"], 16) for row in rows}
    publish_embeddings(data, rows, other, encoder="other")
    index(neo4j_url, data)
    with open_store(neo4j_url, read_only=True) as store:
        exact = similar(store, data, "art:1", encoder="other")
        assert not exact.indexed
    assert index(neo4j_url, data, "other") == IndexReport("other", written=3, removed=3, items=3, missing=0)
    with open_store(neo4j_url, read_only=True) as store:
        answer = similar(store, data, "art:1", encoder="other")
        assert answer.indexed
        assert [row.item_id for row in answer.items] == [row.item_id for row in exact.items]
        assert not similar(store, data, "art:1", encoder="test").indexed
        # Vectors are the store's own affair.
        node = store.query("MATCH (n:Artwork {id: 'art:1'}) RETURN n")["n"][0].as_py()
        assert node["title"] == "a"
        assert not [name for name in node if "embed" in name]


def test_an_index_that_was_cut_off_is_completed(neo4j_url: str, data: DataRoot) -> None:
    rows = titled([f"title {n}" for n in range(20)])
    load(neo4j_url, data, rows)
    publish_embeddings(data, rows[:10])
    publish_embeddings(data, rows[10:])
    *_, last = sorted(Path(data.path("embeddings/test")).glob("*.parquet"))
    content = last.read_bytes()
    # The hashes can be read, the vectors cannot.
    last.write_bytes(content[: len(content) // 3] + bytes(64) + content[len(content) // 3 + 64 :])
    with pytest.raises(DamagedError, match="has changed"):
        index(neo4j_url, data)
    last.write_bytes(content)
    with open_store(neo4j_url, read_only=True) as store:
        before = similar(store, data, "art:1", encoder="test", k=19)
    report = index(neo4j_url, data)
    assert report is not None
    assert (report.written, report.items) == (10, 20)
    with open_store(neo4j_url, read_only=True) as store:
        after = similar(store, data, "art:1", encoder="test", k=19)
    assert (before.indexed, after.indexed) == (False, True)
    assert [row.item_id for row in after.items] == [row.item_id for row in before.items]


# -- commands ----------------------------------------------------------------------------------------------------------


def test_commands(store_url: str, data: DataRoot) -> None:
    rows = titled(TITLES)
    load(store_url, data, rows)
    publish_embeddings(data, rows)
    index(store_url, data)
    places = ["--store", store_url, "--data", data.url]

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, *places])
        assert result.exit_code == 0, result.output
        return result.stdout

    answer = json.loads(run("search", "boat", "--k", "1", "--json"))
    assert [row["item_id"] for row in answer["items"]] == ["art:1"]
    assert "The Red Boat" in run("search", "boat", "--label", "Artwork")
    assert "No title has any of the words: zebra" in run("search", "zebra")
    answer = json.loads(run("similar", "art:1", "--encoder", "test", "--k", "3", "--json"))
    assert len(answer["items"]) == 3
    assert "art:" in run("similar", "art:1", "--encoder", "test")
    assert CliRunner().invoke(app, ["similar", "art:99", "--encoder", "test", *places]).exit_code == 1
