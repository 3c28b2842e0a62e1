"""The gallery: ART500K's format to the letter, its defects in known number, images that show artist and subject."""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ingest.errors import Graph2ImageError
from ingest.sampledata import SampleReport, paint_art500k
from ingest.sampledata.artists import ARTISTS, MOVEMENTS, palette_of
from ingest.sampledata.catalog import DEFECTS, FOLDERS, Work, draw_up_catalog
from ingest.sampledata.gallery import LABEL_FILE, paint_work
from ingest.sampledata.palettes import Palette, Role, srgb_to_oklab
from ingest.sampledata.scenes import HOURS, SUBJECTS

ITEMS = 60
BY_NAME = {artist.name: artist for artist in ARTISTS}


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> SampleReport:
    return paint_art500k(tmp_path_factory.mktemp("gallery"), items=ITEMS, seed=3, workers=2)


def rows_of(report: SampleReport) -> list[list[str]]:
    text = (report.folder / LABEL_FILE).read_text("utf-8")
    return [line.split("|") for line in text.splitlines()]


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def images_of(report: SampleReport) -> list[Path]:
    return sorted(report.folder.rglob("*.jpg"))


def decodes(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return False
    return True


def found(report: SampleReport, path: str) -> bool:
    """Whether the file is under the folder in its path, or under another of the top folders."""
    rest = path.split("/", 1)[1]
    return any((report.folder / top / rest).exists() for top in FOLDERS)


def test_columns_are_the_real_ones(gallery: SampleReport) -> None:
    head = (gallery.folder / "head_info.csv").read_text()
    names = ast.literal_eval(head)
    assert len(names) == 26
    assert (names[0], names[1], names[-1]) == ("author_name", "painting_name", "Path")
    if "GRAPH2IMAGE_SHARED" in os.environ:
        real = Path(os.environ["GRAPH2IMAGE_SHARED"], "samples/art500k_head_info.csv").read_text()
        assert names == ast.literal_eval(real)


def test_rows_have_26_fields_but_for_a_pipe_in_the_author(gallery: SampleReport) -> None:
    rows = rows_of(gallery)
    assert len(rows) == gallery.rows
    longer = [row for row in rows if len(row) != 26]
    assert 0 < len(longer) <= gallery.defects["pipe_in_author"] + gallery.defects["duplicate_row"]
    assert all(len(row) == 27 and row[0] == row[1] for row in longer)


def test_every_defect_is_there_as_often_as_reported(gallery: SampleReport) -> None:
    rows = list(dict.fromkeys(map(tuple, rows_of(gallery))))
    paths = [row[-1] if row[-1].endswith(".jpg") else row[-18] for row in rows]
    authors = [row[0] for row in rows]
    counted = {
        "duplicate_row": gallery.rows - len(rows),
        "pipe_in_author": sum(len(row) == 27 for row in rows),
        "swapped_field_and_path": sum(not row[-1].endswith(".jpg") for row in rows),
        "missing_file": sum(not found(gallery, path) for path in paths),
        "wrong_top_folder": sum(found(gallery, p) and not (gallery.folder / p).exists() for p in paths),
        "broken_image": sum(not decodes(path) for path in images_of(gallery)),
        "unknown_author": sum(author in ("", "NoAuthor") for author in authors),
        "attribution": sum(bool(re.match("(after|attributed to|circle of|workshop of) ", a)) for a in authors),
        "other_spelling": sum(any(a in artist.aliases for artist in ARTISTS) for a in authors),
    }
    assert counted == gallery.defects
    assert set(DEFECTS) < set(gallery.defects)
    assert len(rows) == gallery.items == ITEMS
    assert len(images_of(gallery)) == gallery.images == ITEMS - gallery.defects["missing_file"]


def test_pictures_decode_and_suit_a_center_crop(gallery: SampleReport) -> None:
    sound = [path for path in images_of(gallery) if decodes(path)]
    for path in sound:
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert min(image.size) >= 64
            assert min(image.size) / max(image.size) > 0.9
        assert path.stat().st_size > 5_000  # the real data's broken files are smaller
    for path in set(images_of(gallery)) - set(sound):
        assert path.stat().st_size < 5_000


def test_titles_end_in_an_id_and_name_no_artist(gallery: SampleReport) -> None:
    names = [row[2] if len(row) == 27 else row[1] for row in rows_of(gallery)]
    assert all(re.fullmatch(r"[^#|/]+##[A-Za-z0-9]{14}", name) for name in names)
    assert len({name.split("##")[1] for name in names}) == ITEMS
    people = " ".join([name for artist in ARTISTS for name in (artist.name, *artist.aliases)])
    ways = " ".join(f"{m.name} {m.style} {m.school} {' '.join(m.media)}" for m in MOVEMENTS)
    telling = {word.lower() for word in re.findall(r"\w{3,}", f"{people} {ways}")} - {"the", "and", "street"}
    titles = {word.lower() for name in names for word in re.findall(r"\w{3,}", name.split("##")[0])}
    # "Glass bowl" is a thing that every movement paints, not stained glass.
    assert titles & telling <= {"glass"}


def test_a_subject_does_not_tell_the_artist() -> None:
    catalog = draw_up_catalog(1200, 0)
    pairs = Counter((work.subject.key, work.artist.name) for work in catalog.works)
    for subject in SUBJECTS:
        counts = [pairs[subject.key, artist.name] for artist in ARTISTS]
        assert max(counts) / sum(counts) < 0.12
    assert min(Counter(work.artist.name for work in catalog.works).values()) >= 28


def test_label_columns_hold_the_artist_graph(gallery: SampleReport) -> None:
    names = ast.literal_eval((gallery.folder / "head_info.csv").read_text())
    for row in rows_of(gallery):
        values = dict(zip(names, row, strict=False))
        if values["author_name"] not in BY_NAME:
            continue
        artist = BY_NAME[values["author_name"]]
        assert values["Style"] == artist.movement.style
        assert values["Art Movement"] == artist.movement.name
        assert values["Nationality"] == artist.nationality
        assert tuple(filter(None, values["Influenced by"].split(","))) == artist.influences
        assert values["Genre"] in {subject.genre for subject in SUBJECTS}


@pytest.mark.slow
def test_files_depend_on_items_and_seed_only(gallery: SampleReport, tmp_path: Path) -> None:
    again = paint_art500k(tmp_path / "again", items=ITEMS, seed=3, workers=1)
    assert contents(again.folder) == contents(gallery.folder)
    assert draw_up_catalog(ITEMS, 3) == draw_up_catalog(ITEMS, 3)
    assert draw_up_catalog(ITEMS, 3).rows != draw_up_catalog(ITEMS, 4).rows


def test_without_images_the_labels_are_the_same(gallery: SampleReport, tmp_path: Path) -> None:
    report = paint_art500k(tmp_path, items=ITEMS, seed=3, images=False)
    assert contents(tmp_path) == {
        name: digest for name, digest in contents(gallery.folder).items() if not name.endswith(".jpg")
    }
    assert report.images == 0
    assert report.rows == gallery.rows
    assert report.defects.items() < gallery.defects.items()
    assert not report.defects.keys() & {"missing_file", "broken_image", "wrong_top_folder"}
    assert not paint_art500k(tmp_path, items=ITEMS, seed=3, images=False).changed


def test_a_second_run_changes_nothing_and_says_so(tmp_path: Path) -> None:
    first = paint_art500k(tmp_path, items=5, workers=1)
    before = contents(tmp_path)
    assert first.changed
    second = paint_art500k(tmp_path, items=5, workers=1)
    assert not second.changed
    images_of(first)[0].unlink()
    assert paint_art500k(tmp_path, items=5, workers=1).changed
    assert contents(tmp_path) == before


def test_another_label_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / LABEL_FILE).write_text("Rembrandt|The Night Watch##abc\n")
    before = contents(tmp_path)
    with pytest.raises(Graph2ImageError, match="is not this sample data"):
        paint_art500k(tmp_path, items=5, workers=1)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("items", "seed"), [(0, 0), (-1, 0), (5, -1)])
def test_nothing_to_paint_is_an_error(tmp_path: Path, items: int, seed: int) -> None:
    with pytest.raises(Graph2ImageError, match="cannot make"):
        paint_art500k(tmp_path, items=items, seed=seed)
    assert not contents(tmp_path)


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Graph2ImageError, match="cannot write sample data"):
        paint_art500k(tmp_path / "file" / "gallery", items=2, workers=1)


@settings(max_examples=15)
@given(
    artist=st.sampled_from(ARTISTS),
    subject=st.sampled_from(SUBJECTS),
    hour=st.sampled_from(HOURS),
    seed=st.integers(0, 2**32),
)
def test_any_artist_can_paint_anything_at_any_hour(artist, subject, hour, seed) -> None:
    for variant in range(len(subject.titles)):
        work = Work((0, 0), artist, palette_of(artist), subject, variant, hour, "")
        color = paint_work(work, np.random.default_rng(seed))
        assert color.shape[2] == 3
        assert np.isfinite(color).all()
        assert color.min() >= 0
        assert color.max() <= 1
        assert color.std() > 0.05  # an image, not a blank


@pytest.mark.slow
def test_colors_tell_the_artist() -> None:
    """Nearest centroid on an OKLab color histogram, on works that were left out."""
    artists, works = ARTISTS[::2], 6
    features, labels = [], []
    for number, artist in enumerate(artists):
        for k in range(works):
            subject = SUBJECTS[(number + 5 * k) % len(SUBJECTS)]
            work = Work((9, k), artist, palette_of(artist), subject, k % 2, HOURS[k % 4], "")
            lab = srgb_to_oklab(paint_work(work, np.random.default_rng((number, k)))[::2, ::2]).reshape(-1, 3)
            counts, _ = np.histogramdd(lab, bins=(5, 8, 8), range=((0, 1), (-0.25, 0.25), (-0.25, 0.25)))
            features.append(np.sqrt(counts / counts.sum()).ravel())
            labels.append(number)
    x, y = np.array(features), np.array(labels)
    held_out = np.arange(len(y)) % works >= works - 2
    centers = np.stack([x[~held_out & (y == number)].mean(0) for number in range(len(artists))])
    guesses = ((x[held_out, None] - centers) ** 2).sum(-1).argmin(1)
    assert (guesses == y[held_out]).mean() > 0.7  # chance is 0.05


def test_palettes_keep_the_subject_apart_from_what_surrounds_it() -> None:
    for artist in ARTISTS:
        lab = palette_of(artist).lab
        assert lab[Role.DARK, 0] < lab[1:, 0].min()
        assert lab[Role.LIGHT, 0] > lab[:5, 0].max() - 0.02
        assert np.linalg.norm(lab[Role.BODY] - lab[Role.AIR]) > 0.08, artist.name
        assert np.linalg.norm(lab[Role.BODY] - lab[Role.EARTH]) > 0.06, artist.name


def test_palettes_of_artists_differ() -> None:
    lab = np.stack([palette_of(artist).lab for artist in ARTISTS])
    distance = np.linalg.norm(lab[:, None] - lab[None, :], axis=-1).mean(-1)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 0.04
    assert np.median(distance.min(1)) > 0.06


def test_influence_brings_palettes_closer() -> None:
    influenced = [artist for artist in ARTISTS if artist.influences]
    assert len(influenced) > 20
    for artist in influenced:
        source = Palette.of(BY_NAME[artist.influences[-1]].colors).lab
        before, after = Palette.of(artist.colors).lab, palette_of(artist).lab
        assert np.linalg.norm(after - source) < np.linalg.norm(before - source)
