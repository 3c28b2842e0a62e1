"""The report, built from a small data root with painted images and read by a real browser."""

from __future__ import annotations

import hashlib
import io
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from chromium import chromium
from PIL import Image

from flows.report import build_report
from flows.report.figures import nice_ticks, size_bins
from flows.report.wording import claim, main_differences, plural, via_words
from flows.timing import StageTiming
from graphstore.schema import GraphSchema, LabelInfo, RelationInfo
from ingest.datasets.root import DataRoot, digest
from ingest.datasets.schemas import (
    ENTITY_SCHEMA,
    GENERATED_SCHEMA,
    IMAGE_SCHEMA,
    ITEM_SCHEMA,
    NEIGHBOR_SCHEMA,
    RELATION_SCHEMA,
)
from ingest.errors import Graph2ImageError
from model.evaluation.metrics import Metrics, metrics_file
from model.evaluation.record import EvaluationRecord, RequestedImage
from model.generation.variants import TEXT, TOP_NEIGHBOR, TRUE, Variant

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from records import model_record, write_record

GRAPH_1, GRAPH, SHUFFLED = Variant("graph", 1.0), Variant("graph", 1.5), Variant("shuffled", 1.5)
MODEL, STORE = "mini-0123456789abcdef", "ladybug:///srv/my graphs/graph.lbug"
SCHEMA = GraphSchema(
    (LabelInfo("Artwork", "item", 12, {}), LabelInfo("Artist", "entity", 2, {}), LabelInfo("Model", "system", 1, {})),
    (
        RelationInfo("CREATED_BY", "Artwork", "Artist", 12),
        RelationInfo("CONDITIONED_ON", "GeneratedImage", "Artwork", 5),
    ),
)
TIMINGS = (StageTiming("ingest", 2.5, 210), StageTiming("train", 131.25, 1480))
TITLES = {f"toy:{number}": f"Boat {number} & <moon>" for number in range(12)}
TEST, TRAIN = [f"toy:{number}" for number in range(3)], [f"toy:{number}" for number in range(3, 12)]
ARTISTS = {item: f"toy/Artist/{'anna' if number % 2 else 'bert'}" for number, item in enumerate(TITLES)}


def png(seed: int, size: tuple[int, int] = (48, 40)) -> bytes:
    pixels = np.random.default_rng(seed).integers(256, size=(*size, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def estimates(mean: float, error: float | None = 0.01) -> dict[str, float | None]:
    return {"mean": mean, "se": error}


def figures(variant: Variant, similarity: float, palette: float, accuracy: float = 0.5) -> dict[str, Any]:
    return {
        "variant": asdict(variant),
        "n": 3,
        "similarity": estimates(similarity),
        "palette_distance": estimates(palette, 0.5),
        "accuracy": accuracies(accuracy),
        "copy_rate": estimates(0.25),
    }


def accuracies(both: float) -> dict[str, Any]:
    return {"style": estimates(both + 0.05), "subject": estimates(both + 0.1), "both": estimates(both, 0.02)}


def difference(baseline: Variant, similarity: float, palette: float, both: float = 0.3) -> dict[str, Any]:
    return {
        "variant": asdict(GRAPH),
        "baseline": asdict(baseline),
        "n": 3,
        "similarity": estimates(similarity),
        "palette_distance": estimates(palette, 0.5),
        "accuracy": accuracies(both),
        "copy_rate": estimates(0.0),
    }


def question(role: str, label: str) -> dict[str, Any]:
    told = {"classes": ["a", "b"], "accuracy": 0.9, "text_accuracy": 0.1, "chance": 0.5}
    return {"role": role, "label": label, **told}


METRICS: dict[str, Any] = {
    "inputs": "i",
    "n": 3,
    "judge_id": "judge-1",
    "questions": {"style": question("style", "Artist"), "subject": question("subject", "Tag")},
    "variants": [
        figures(TEXT, 0.4, 20, 0.1),
        figures(GRAPH_1, 0.6, 12),
        figures(GRAPH, 0.65, 11),
        figures(SHUFFLED, 0.38, 21),
        figures(TOP_NEIGHBOR, 0.7, 10, 0.4),
        figures(TRUE, 1.0, 0, 0.8),
    ],
    "paired": [difference(TEXT, 0.25, -9), difference(SHUFFLED, 0.27, -10), difference(TOP_NEIGHBOR, -0.05, 1)],
}


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    root = DataRoot(str(tmp_path / "data"))
    images, items = [], []
    for number, (item, title) in enumerate(TITLES.items()):
        content = png(number)
        image_hash = hashlib.sha256(content).hexdigest()
        path = f"images/files/{image_hash[:2]}/{image_hash}.png"
        root.write_bytes(path, content)
        images.append(
            {"image_hash": image_hash, "path": path, "width": 40, "height": 48, "format": "PNG", "perceptual_hash": "0"}
        )
        split = "test" if item in TEST else "train"
        items.append(
            {"item_id": item, "label": "Artwork", "title": title, "text": f"a painting of boat {number}"}
            | {"image_hash": image_hash, "split": split, "group_id": item, "opted_out": False}
        )
    root.append("images", pa.Table.from_pylist(images, IMAGE_SCHEMA), IMAGE_SCHEMA)
    entities = [{"entity_id": a, "label": "Artist", "name": a.split("/")[-1].title()} for a in set(ARTISTS.values())]
    relations = [{"type": "CREATED_BY", "from_id": i, "to_id": a, "weight": 1.0} for i, a in ARTISTS.items()]
    neighbors = [
        {
            "item_id": item,
            "split": "test" if item in TEST else "train",
            "neighbors": [
                {
                    "item_id": other,
                    "image_hash": "",
                    "ppr": 0.1,
                    "similarity": 0.2,
                    "via": f"CREATED_BY {ARTISTS[item]}",
                }
                for other in TRAIN[:3]
            ]
            + [{"item_id": TRAIN[3], "image_hash": "", "ppr": None, "similarity": 0.1, "via": "semantic"}],
        }
        for item in (*TEST, TRAIN[-1])
    ]
    for name, rows, schema in (
        ("items/toy", items, ITEM_SCHEMA),
        ("entities/toy", entities, ENTITY_SCHEMA),
        ("relations/toy", relations, RELATION_SCHEMA),
        ("neighbors/abc", neighbors, NEIGHBOR_SCHEMA),
    ):
        root.publish(name, [pa.Table.from_pylist(rows, schema)], schema)
    write_record(root, model_record(MODEL, encoder="mini-e", neighbors_metadata={"graph_version": "f00d"}))
    return root


def generate(
    data: DataRoot, item: str, variant: Variant, works: list[tuple[str, float]], seed: int = 0
) -> RequestedImage:
    """Add a row as the generation stage does, with its image."""
    generated_id = digest(item, variant, works, seed)
    path = f"generated/{MODEL}/{generated_id}.png"
    data.write_bytes(path, png(int(generated_id, 16), (32, 32)))
    settings = {"seed": seed, "guidance_scale": 2.0, "num_inference_steps": 20, "text": item}
    row = {
        "generated_id": generated_id,
        "item_id": item,
        "model_id": MODEL,
        **variant.columns(),
        "seed": seed,
        "settings": orjson.dumps(settings).decode(),
        "neighbors": [{"item_id": w, "weight": x, "rank": rank} for rank, (w, x) in enumerate(works, 1)],
        "image_path": path,
    }
    data.append("generated", pa.Table.from_pylist([row], GENERATED_SCHEMA), GENERATED_SCHEMA)
    return RequestedImage(generated_id=generated_id, item_id=item, variant=variant)


def generate_all(data: DataRoot) -> EvaluationRecord:
    """All that an evaluation requests, and its figures."""
    images, mixtures = [], []
    for item in TEST:
        images.append(generate(data, item, TEXT, []))
        for variant in (GRAPH_1, GRAPH):
            works = [(work, variant.graph_guidance_scale) for work in TRAIN[:4]]
            images.append(generate(data, item, variant, works))
        images.append(generate(data, item, SHUFFLED, [(work, 1.5) for work in TRAIN[3:6]]))
    anna, bert = ([work for work in TRAIN if ARTISTS[work].endswith(name)] for name in ("anna", "bert"))
    for share in (100, 50, 0):
        sets = ((anna, share), (bert, 100 - share))
        works = [(work, 1.5 * part / 100) for own, part in sets for work in own if part]
        mixtures.append(generate(data, TEST[0], Variant.mix(1.5, (share, 100 - share)), works))
    return evaluate(data, images, mixtures)


def evaluate(
    data: DataRoot, images: list[RequestedImage], mixtures: Sequence[RequestedImage] = (), **metrics: Any
) -> EvaluationRecord:
    record = EvaluationRecord(
        model_id=MODEL, split="test", neighbors="abc", settings={}, images=tuple(images), mixtures=tuple(mixtures)
    )
    data.write_json(metrics_file(MODEL, record.evaluation_id), METRICS | metrics)
    return record


def build(data: DataRoot, evaluation: EvaluationRecord, out: Path, **extra: Any) -> tuple[str, str]:
    """The headline and the page."""
    headline = build_report(data, SCHEMA, evaluation, out, TIMINGS, title="Toys & boats", store_url=STORE, **extra)
    return headline, out.read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a page refers to, its images' alt texts, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.alts: list[str | None] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.text += " "
        values = dict(attrs)
        self.references += [values[name] or "" for name in ("src", "href", "srcset", "action") if name in values]
        if tag == "img":
            self.alts.append(values.get("alt"))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_says_what_happened(data: DataRoot, tmp_path: Path) -> None:
    headline, source = build(data, generate_all(data), tmp_path / "new folder" / "report.html")
    page = Page(source)
    text = " ".join(page.text.split()).replace("\xa0", " ")
    assert headline.startswith("The graph helps: style and subject are both right in 50 ± 2% of the images")
    for figure in ("3 held-out artworks", "+30 ± 2", "copying the top neighbor 40 ± 2%", "true images 80 ± 2%"):
        assert figure in headline
        assert figure in text
    assert "−9.00 ± 0.50" in text
    assert "shared artist Anna" in text  # the reason of a neighbor, in words
    assert "fits the text; no path in the graph" in text
    assert "text + graph × 1.5 3 50 ± 2% 60 ± 1% 55 ± 1% 0.650 ± 0.010 11.00 ± 0.50 25 ± 1%" in text
    assert "Style: the artist, one of 2. Of true images the judge tells 90% right" in text
    assert "Of the true images, 25 ± 1% are as near to a neighbor of their own" in text  # the base rate of copies
    assert "Copying is a strong baseline" in text
    assert "100 / 0" in text
    assert "train 131.2 1,480" in text
    assert "Boat 0 & <moon>" in text  # escaped, whatever a title holds
    assert "<moon>" not in source
    for fact in (MODEL, "f00d", "abc", "mini-e"):
        assert fact in text
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["report.html"]


def test_lineage_command_and_its_answer(data: DataRoot, tmp_path: Path) -> None:
    _, source = build(data, generate_all(data), tmp_path / "report.html")
    text = " ".join(Page(source).text.split())
    command = re.search(r"graph2image query \"MATCH \(g:GeneratedImage \{id: '(\w{16})'\}\).*? --store '(.*?)'", text)
    assert command is not None
    assert command[2] == STORE  # quoted for the shell
    rows = {row["generated_id"]: row for row in data.read("generated").to_pylist()}
    assert rows[command[1]]["variant"] == "graph-1.5"
    answer = text[command.end() :]
    for neighbor in rows[command[1]]["neighbors"]:
        assert f"{neighbor['item_id']} {TITLES[neighbor['item_id']]} 1.5 {neighbor['rank']}" in answer


def test_page_needs_nothing_but_itself(data: DataRoot, tmp_path: Path) -> None:
    _, source = build(data, generate_all(data), tmp_path / "report.html")
    page = Page(source)
    assert all(reference.startswith(("data:image/", "#")) for reference in page.references)
    assert not page.tags & {"script", "link", "iframe", "object", "base"}
    assert "url(" not in source
    assert "@import" not in source
    assert page.alts
    assert all(page.alts)


def test_withdrawn_works_are_not_shown(data: DataRoot, tmp_path: Path) -> None:
    evaluation, gone = generate_all(data), TRAIN[0]
    _, source = build(data, evaluation, tmp_path / "report.html", withdrawn={gone, TEST[1]})
    text = Page(source).text
    assert f"Boat {gone.split(':')[1]} " not in text
    assert TEST[1] not in text
    assert digest(TEST[0], GRAPH, [(work, 1.5) for work in TRAIN[:4]], 0) not in text


def test_exactly_the_images_of_the_evaluation_are_shown(data: DataRoot, tmp_path: Path) -> None:
    evaluation = generate_all(data)
    _, before = build(data, evaluation, tmp_path / "before.html")
    for item in TEST:  # of other noise, other neighbors, in other variants, and of other items
        generate(data, item, GRAPH, [(work, 1.5) for work in TRAIN[:4]], seed=1)
        generate(data, item, GRAPH, [(work, 1.5) for work in TRAIN[4:6]])
        generate(data, item, Variant("graph", 3.0), [(work, 3.0) for work in TRAIN[:4]])
    generate(data, TRAIN[-1], TEXT, [])
    _, after = build(data, evaluation, tmp_path / "after.html")
    shown = re.compile(r'src="(data:[^"]+)"')
    assert shown.findall(after) == shown.findall(before)
    some = evaluate(data, list(evaluation.images[:4]), n=1)  # of the first item
    _, page = build(data, some, tmp_path / "some.html")
    assert TEST[0] in Page(page).text
    assert TEST[1] not in Page(page).text


def test_neighbors_that_were_sampled_from_the_graph(data: DataRoot, tmp_path: Path) -> None:
    """Then there is no dataset that has their scores and reasons: they are shown as the images' rows name them."""
    images = generate_all(data).images
    live = EvaluationRecord(model_id=MODEL, split="test", neighbors=None, settings={}, images=images)
    data.write_json(metrics_file(MODEL, live.evaluation_id), METRICS)
    _, source = build(data, live, tmp_path / "report.html")
    text = " ".join(Page(source).text.split())
    assert "sampled from the graph as it was" in text
    assert TITLES[TRAIN[0]] in text
    assert "linked directly" not in text
    assert "Through what the neighbors were found" not in text


def test_what_is_missing_is_said(data: DataRoot, tmp_path: Path) -> None:
    evaluation = generate_all(data)
    lost = RequestedImage(generated_id="0" * 16, item_id=TEST[0], variant=TEXT)
    with pytest.raises(Graph2ImageError, match=r"the images of evaluation .* are gone"):
        build(data, evaluate(data, [lost]), tmp_path / "report.html")
    data.fs.rm(data.path(metrics_file(MODEL, evaluation.evaluation_id)))
    with pytest.raises(Graph2ImageError, match="there is no evaluation"):
        build(data, evaluation, tmp_path / "report.html")
    data.fs.rm(data.path(f"models/{MODEL}/model.json"))
    with pytest.raises(Graph2ImageError, match="there is no model"):
        build(data, evaluation, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_images_that_are_missing_or_damaged_are_left_blank(data: DataRoot, tmp_path: Path) -> None:
    evaluation = generate_all(data)
    rows = {(row["item_id"], row["variant"]): row for row in data.read("generated").to_pylist()}
    data.fs.rm(data.path(rows[TEST[0], "text"]["image_path"]))
    data.write_bytes(rows[TEST[1], "graph-1"]["image_path"], b"no image")
    items = {row["item_id"]: row["image_hash"] for row in data.read("items/toy").to_pylist()}
    path = f"images/files/{items[TEST[2]][:2]}/{items[TEST[2]]}.png"
    data.fs.rm(data.path(path))
    _, source = build(data, evaluation, tmp_path / "report.html")
    assert source.count('<span class="no-image">no image</span>') >= 3


def test_little_to_show(data: DataRoot, tmp_path: Path) -> None:
    """One item, no mixtures, nothing shuffled, nothing that a judge could tell, no timings: still a page."""
    images = [generate(data, TEST[0], TEXT, []), generate(data, TEST[0], GRAPH, [(TRAIN[0], 1.5)])]
    lone = {"n": 1, "similarity": estimates(0.4, None), "palette_distance": estimates(20, None)}
    lone |= {"accuracy": {}, "copy_rate": {"mean": None, "se": None}}
    evaluation = evaluate(
        data,
        images,
        n=1,
        questions={},
        variants=[{"variant": asdict(variant), **lone} for variant in (TEXT, GRAPH, TOP_NEIGHBOR)],
        paired=[{"variant": asdict(GRAPH), "baseline": asdict(TEXT), **lone}],
    )
    out = tmp_path / "report.html"
    headline = build_report(data, SCHEMA, evaluation, out, (), title="One", store_url=STORE)
    assert headline.startswith(
        "The graph does not measurably help: similarity to the true images of 1 held-out artwork"
    )
    assert "not measured" in out.read_text()


@pytest.mark.parametrize(
    ("text", "shuffled", "said"),
    [
        (0.3, 0.2, "The graph helps"),
        (0.3, 0.03, "The graph helps only in part"),
        (0.01, -0.03, "The graph does not measurably help"),
        (-0.3, 0.0, "The graph makes it worse"),
    ],
)
def test_claim_follows_style_and_subject_both_right(text: float, shuffled: float, said: str) -> None:
    """Whatever similarity and palette say."""
    paired = [difference(TEXT, -0.5, 9, text), difference(SHUFFLED, 0.5, -9, shuffled)]
    assert claim(main_differences(Metrics.model_validate(METRICS | {"paired": paired}))) == said


def test_words() -> None:
    between = {"toy/Artist/anna": "shared artist Anna"}
    assert via_words("CREATED_BY toy/Artist/anna", between) == "shared artist Anna"
    assert via_words("CO_VIEWED", between) == "linked directly: co viewed"
    assert via_words("indirect", between) == "several steps away"
    assert [plural(noun) for noun in ("artwork", "category", "dress", "toy")] == [
        "artworks", "categories", "dresses", "toys"
    ]  # fmt: skip


def test_bins_and_ticks() -> None:
    assert size_bins([3, 4, 4]) == [("3", 1), ("4", 2)]
    assert size_bins([1, 2, 3, 9, 100]) == [
        ("1", 1), ("2–3", 2), ("4–7", 0), ("8–15", 1), ("16–31", 0), ("32–63", 0), ("64–127", 1)
    ]  # fmt: skip
    assert nice_ticks(1188) == [0, 500, 1000]
    assert nice_ticks(0) == [0]


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.slow
def test_page_in_a_browser(data: DataRoot, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    _, source = build(data, generate_all(data), out)
    shown = len(Page(source).alts)
    with chromium(tmp_path / "profile") as browser:
        browser.call("Network.enable")
        for width in (1280, 400):
            browser.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
            )
            browser.call("Page.navigate", url=out.as_uri())
            deadline = time.monotonic() + 300
            while not browser.evaluate("location.protocol === 'file:' && document.readyState === 'complete'"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            decoded = "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth > 0)))"
            assert browser.evaluate(decoded) == [True] * shown
            assert browser.evaluate("document.documentElement.scrollWidth") <= width  # nothing sticks out
        background = "getComputedStyle(document.body).backgroundColor"
        colors = set()
        for scheme in ("light", "dark"):
            browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            colors.add(browser.evaluate(background))
        assert len(colors) == 2
        assert browser.requests
        assert {url for url in browser.requests if not url.startswith("data:image/")} == {out.as_uri()}
