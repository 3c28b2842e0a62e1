"""Invented casts: disjoint from the usual ones, drawn by seed, and as good to paint with."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from ingest.ingestion import Amazon, Art500k, Goodreads
from ingest.sampledata import paint_amazon, paint_art500k, paint_goodreads
from ingest.sampledata.artists import ARTISTS, MOVEMENTS, palette_of
from ingest.sampledata.casts import APART, APART_FROM_USUAL, invent_artists, invent_authors, invent_brands
from ingest.sampledata.covers import LOOKS
from ingest.sampledata.gallery import LABEL_FILE
from ingest.sampledata.goodreads import AUTHORS
from ingest.sampledata.palettes import Floats, Palette, Role
from ingest.sampledata.products import BRANDS, PATTERNS
from ingest.sources import ingest_source

INVENT = {"artists": invent_artists, "brands": invent_brands, "authors": invent_authors}
PAINT: dict[str, Any] = {"artists": paint_art500k, "brands": paint_amazon, "authors": paint_goodreads}
USUAL: dict[str, tuple[Any, ...]] = {"artists": ARTISTS, "brands": BRANDS, "authors": AUTHORS}
KINDS = pytest.mark.parametrize("kind", list(INVENT))


def nearest(palettes: Floats, others: Floats) -> Floats:
    """Of each palette the mean OKLab distance to the nearest of the others that is not itself."""
    distance = np.linalg.norm(palettes[:, None] - others[None], axis=-1).mean(-1)
    return np.where(distance == 0, np.inf, distance).min(1)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def titles(folder: Path) -> list[str]:
    """Titles of the items in the folder, whatever its format."""
    if (folder / LABEL_FILE).exists():
        return [line.split("|")[1] for line in (folder / LABEL_FILE).read_text("utf-8").splitlines()]
    (main,) = [*folder.glob("meta_*"), *folder.glob("goodreads_books.*")]
    with gzip.open(main, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["title"] for line in lines]


@KINDS
def test_the_seed_decides_the_cast(kind: str) -> None:
    one, other = INVENT[kind](24, 5), INVENT[kind](24, 6)
    assert one == INVENT[kind](24, 5)
    assert INVENT[kind](12, 5) == one[:12]
    assert not {member.name for member in one} & {member.name for member in other}


@KINDS
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_names_are_new_and_differ(kind: str, seed: int) -> None:
    names = [member.name for member in INVENT[kind](40, seed)]
    assert len(set(names)) == 40
    usual = {word for cast in USUAL.values() for member in cast for word in member.name.casefold().split()}
    assert not {word for name in names for word in name.casefold().split()} & (usual - {"&"})
    assert all(len(name) < 40 and not set(name) & set("|,/#()") for name in names)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_palettes_keep_apart_from_the_usual_ones_and_each_other(seed: int) -> None:
    artists = invent_artists(40, seed)
    palettes = np.stack([palette_of(artist, artists).lab for artist in artists])
    assert nearest(palettes, np.stack([palette_of(artist).lab for artist in ARTISTS])).min() > APART_FROM_USUAL
    assert nearest(palettes, palettes).min() > 0.8 * APART
    covers = np.stack([Palette.of(author.look.colors).lab for author in invent_authors(40, seed)])
    assert nearest(covers, np.stack([Palette.of(look.colors).lab for look in LOOKS])).min() > APART_FROM_USUAL
    seen = [Role.BODY, Role.ACCENT]
    brands = np.stack([Palette.of(brand.colors).lab[seen] for brand in invent_brands(40, seed)])
    assert nearest(brands, np.stack([Palette.of(brand.colors).lab[seen] for brand in BRANDS])).min() > APART_FROM_USUAL


def test_palettes_are_as_wide_as_the_usual_ones() -> None:
    artists = invent_artists(200, 0)
    new = np.stack([palette_of(artist, artists).lab for artist in artists])
    usual = np.stack([palette_of(artist).lab for artist in ARTISTS])
    for quantity in (lambda lab: lab[..., 0], lambda lab: np.hypot(lab[..., 1], lab[..., 2])):
        low, high = np.percentile(quantity(usual), (10, 90), axis=0)
        assert (np.percentile(quantity(new), 2, axis=0) <= low + 0.01).all()
        assert (np.percentile(quantity(new), 98, axis=0) >= high - 0.01).all()
    assert np.median(nearest(new, new)) > 0.06
    assert (new[:, Role.DARK, 0] < new[:, 1:, 0].min(1)).all()
    assert (np.linalg.norm(new[:, Role.BODY] - new[:, Role.AIR], axis=-1) > 0.08).all()


def test_every_movement_pattern_and_brush_comes_equally_often() -> None:
    artists = invent_artists(40, 1)
    assert set(Counter(artist.movement.name for artist in artists).values()) == {4}
    assert {artist.movement for artist in artists} == set(MOVEMENTS)
    assert set(Counter(brand.pattern for brand in invent_brands(24, 1)).values()) == {24 // len(PATTERNS)}
    assert set(Counter(author.look.brush for author in invent_authors(20, 1)).values()) == {2}
    names = {artist.name for artist in artists}
    assert any(artist.influences for artist in artists)
    assert all(set(artist.influences) < names - {artist.name} for artist in artists)


@KINDS
@pytest.mark.parametrize(("count", "seed"), [(0, 0), (-3, 0), (1, -1)])
def test_a_cast_of_nobody_is_an_error(kind: str, count: int, seed: int) -> None:
    with pytest.raises(Graph2ImageError, match="cannot invent a cast"):
        INVENT[kind](count, seed)


@KINDS
def test_casts_are_told_apart(kind: str, tmp_path: Path) -> None:
    paint, one, other = PAINT[kind], INVENT[kind](20, 1), INVENT[kind](20, 2)
    first = paint(tmp_path, items=6, workers=1, **{kind: one})
    assert first.changed
    assert not paint(tmp_path, items=6, workers=1, **{kind: list(one)}).changed
    for cast in (other, USUAL[kind], one[:19]):
        with pytest.raises(Graph2ImageError, match="is not this sample data"):
            paint(tmp_path, items=6, workers=1, **{kind: cast})


@KINDS
def test_two_casts_ingest_into_one_data_set(kind: str, tmp_path: Path) -> None:
    """The same seed of painting twice: neither items nor members of the casts are taken for each other."""
    casts = [INVENT[kind](10, seed) for seed in (1, 2)]
    painted = [
        PAINT[kind](tmp_path / str(number), items=30, workers=1, words_of_style=0.5, images=number == 0, **{kind: cast})
        for number, cast in enumerate(casts)
    ]
    found, label = {
        "artists": (LABEL_FILE, "Artist"),
        "brands": ("meta_*.json.gz", "Brand"),
        "authors": ("goodreads_*.json.gz", "Author"),
    }[kind]
    files = []
    for report in painted:  # no two files of one ingestion have the same name
        for file in report.folder.glob(found):
            files.append(str(file.rename(file.with_name(f"{report.folder.name}_{file.name}"))))
    images = painted[0].folder if kind == "artists" else painted[0].folder / "images"
    source = {"artists": Art500k, "brands": Amazon, "authors": Goodreads}[kind](files=tuple(files), images=images)
    data = DataRoot(str(tmp_path / "data"))
    report = ingest_source(data, source)
    assert report.items == 60
    assert sum(report.rejected.values()) == 0
    entities = data.read(f"entities/{source.source}").to_pylist()
    names = {entity["name"] for entity in entities if entity["label"] == label}
    for cast in casts:
        assert len(names & {member.name for member in cast}) > 5


@KINDS
def test_the_usual_cast_is_the_default(kind: str, tmp_path: Path) -> None:
    for name, cast in (("said", {kind: list(USUAL[kind])}), ("default", {})):
        PAINT[kind](tmp_path / name, items=4, workers=1, **cast)
    assert contents(tmp_path / "said") == contents(tmp_path / "default")


@KINDS
def test_bad_requests_are_errors(kind: str, tmp_path: Path) -> None:
    cast = INVENT[kind](2, 0)
    for bad, message in (
        ({kind: ()}, "without artists, brands or authors"),
        ({kind: (cast[0], cast[0])}, f"are called {cast[0].name}"),
        ({"words_of_style": 1.5}, "words of style in 1.5"),
    ):
        with pytest.raises(Graph2ImageError, match=message):
            PAINT[kind](tmp_path, items=2, **bad)
    assert not contents(tmp_path)


def test_influences_outside_the_cast_are_an_error(tmp_path: Path) -> None:
    follower = next(artist for artist in ARTISTS if artist.influences)
    with pytest.raises(Graph2ImageError, match=f"influenced by {follower.influences[0]}, who is not among"):
        paint_art500k(tmp_path, items=2, artists=[follower])


@KINDS
def test_words_of_style_change_titles_and_nothing_in_the_images(kind: str, tmp_path: Path) -> None:
    cast = INVENT[kind](10, 3)
    folders = []
    for share in (0.0, 1.0):
        folders.append(tmp_path / str(share))
        PAINT[kind](folders[-1], items=12, workers=1, words_of_style=share, **{kind: cast})
    without, told = (titles(folder) for folder in folders)
    images = [Counter(v for name, v in contents(folder).items() if name.endswith("jpg")) for folder in folders]
    assert images[0] == images[1]
    plain, long = ([title.split("##")[0].lower() for title in each] for each in (without, told))
    pairs = [(short, full) for short, full in zip(plain, long, strict=True) if "var apagestart" not in short]
    assert all(short in full and short != full for short, full in pairs)
    assert all(len(full.split()) <= 24 for _, full in pairs)
    # Some say by whom it is, as it is spelled in the graph.
    named = sum(any(f"by {member.name.lower().replace('&', '&amp;')}" in full for member in cast) for _, full in pairs)
    assert 0 < named < len(pairs)


def test_a_share_of_the_titles_has_words_of_style(tmp_path: Path) -> None:
    for share in (0.0, 0.3):
        paint_art500k(tmp_path / str(share), items=400, images=False, words_of_style=share)
    without, told = (titles(tmp_path / str(share)) for share in (0.0, 0.3))
    assert 0.22 < np.mean([one != other for one, other in zip(without, told, strict=True)]) < 0.38
