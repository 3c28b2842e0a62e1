"""Each source from its files to a report, lineage and an opt-out, by the commands that README and docs show.

The commands are read out of the pages; only paths, ids, sizes and the label to mix are put in, and each has to be shown
somewhere. What is trained is as small as it can be.
"""

from __future__ import annotations

import csv
import logging
import shlex
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from flows import stages
from flows.cli.app import app
from flows.settings import load_settings
from ingest.datasets.root import DataRoot
from ingest.sampledata.amazon import MAIN_FILES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ITEMS = 60


def _shown() -> Iterator[list[str]]:
    """The arguments of each command in a console block."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for line in page.read_text().splitlines():
            if line.startswith("$ "):
                for part in line.removeprefix("$ ").split(" && "):
                    if part.startswith("graph2image "):
                        yield shlex.split(part, comments=True)[1:]


SHOWN = list(_shown())


def shown(start: str, **instead: str | list[str]) -> list[str]:
    """The first command of the pages that starts with `start`; each word of `instead`'s has to be in it."""
    words = next(words for words in SHOWN if " ".join(words).startswith(start))
    for word, others in instead.items():
        index = words.index(word)
        words = [*words[:index], *([others] if isinstance(others, str) else others), *words[index + 1 :]]
    return words


Files = Callable[[Path, "Console"], list[str]]


@dataclass(frozen=True)
class Console:
    """A terminal in a folder of its own, with a data root of its own."""

    folder: Path

    def __call__(self, words: list[str]) -> Result:
        result = CliRunner().invoke(app, words)
        said = f"graph2image {shlex.join(words)}\n{result.output}"
        assert result.exception is None or isinstance(result.exception, SystemExit), said
        assert result.exit_code == 0, said
        assert "Traceback" not in result.output, said
        return result


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    monkeypatch.setenv("GRAPH2IMAGE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("GRAPH2IMAGE_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    yield Console(tmp_path)
    # A command logs to the standard error of its call, which is closed by now.
    logging.basicConfig(force=True)


# -- the files of each source, and the command that ingests them -------------------------------------------------------


def art500k(folder: Path, console: Console) -> list[str]:
    console(["sample-data", "art500k", str(folder), "--items", str(ITEMS)])
    palette = folder / "PainterPalette.csv"
    palette.write_text(
        "artist,Nationality,movement,PaintingSchool,Influencedby,Influencedon,Pupils,Teachers,FriendsandCoworkers\n"
        "Vincent van Gogh,Dutch,Post-Impressionism,,,,,,\n"
    )
    return shown(
        "ingest art500k",
        **{
            "label_list.csv": str(folder / "label_list.csv"),
            "ART500K/": str(folder),
            "PainterPalette.csv": str(palette),
        },
    )


def amazon(folder: Path, console: Console, release: int) -> list[str]:
    console(["sample-data", "amazon", str(folder), "--items", str(ITEMS), "--release", str(release)])
    files = str(folder / MAIN_FILES[release]).replace("meta_Home_and_Kitchen", "meta_*")
    return shown("ingest amazon", **{"meta_*.json.gz": files, "--fetch": ["--images", str(folder / "images")]})


def goodreads(folder: Path, console: Console) -> list[str]:
    console(["sample-data", "goodreads", str(folder), "--items", str(ITEMS)])
    with zipfile.ZipFile(folder / "covers.zip", "w") as covers:
        for cover in sorted((folder / "images").iterdir()):
            covers.write(cover, cover.name)
    names = {"goodreads_books_poetry.json.gz": "goodreads_books.json.gz", "covers.zip": "covers.zip"}
    authors = "goodreads_book_authors.json.gz"
    others = ["goodreads_book_works.json.gz", "goodreads_book_series.json.gz"]
    return shown(
        "ingest goodreads",
        **{word: str(folder / name) for word, name in names.items()},
        **{authors: [str(folder / name) for name in (authors, *others)]},
    )


def instructg2i(folder: Path, console: Console) -> list[str]:
    other = ["--data", str(folder / "other")]
    console([*art500k(folder / "art", console), *other])
    console([*shown("embed"), *other])
    console([*shown("neighbors --all"), *other])
    console(["export", "instructg2i", str(folder / "released"), *other])
    return shown("ingest instructg2i", **{"ART500K-released/": str(folder / "released")})


def table(folder: Path, console: Console) -> list[str]:
    """Products for the spec of `examples/`."""
    colors = ("red", "green", "blue", "gold")
    columns = ("id", "title", "gender", "category", "subcategory", "article_type", "color", "season", "usage", "year")
    folder.mkdir()
    with (folder / "products.csv").open("w", newline="") as file, tarfile.open(folder / "images.tar", "w") as images:
        rows = csv.writer(file)
        rows.writerow(columns)
        for number in range(ITEMS):
            color, kind = colors[number % 4], ("cup", "plate", "bowl")[number % 3]
            what = ("Unisex", "Home", "Kitchen", kind, color, "Summer", "Casual", 2010 + number % 5)
            rows.writerow((number, f"Brand{number % 5} {color} {kind}", *what))
            noise = Image.effect_noise((48, 48), 40 + number).convert("RGB")
            Image.blend(noise, Image.new("RGB", noise.size, color), 0.5).save(folder / "image.png")
            images.add(folder / "image.png", f"images/{number}.jpg")
    return shown("ingest table examples/fashion.toml", **{
        "examples/fashion.toml": str(ROOT / "examples/fashion.toml"), "FOLDER": str(folder),
    })  # fmt: skip


# -- the lines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "label"),
    [
        pytest.param(art500k, "Artist", id="art500k"),
        *(pytest.param(partial(amazon, release=release), "Brand", id=f"amazon-{release}") for release in MAIN_FILES),
        pytest.param(goodreads, "Author", id="goodreads"),
        pytest.param(instructg2i, None, id="instructg2i"),  # it has no entities to mix
        pytest.param(table, "Color", id="table"),
    ],
)
def test_from_files_to_an_opt_out(console: Console, tiny_config: Path, files: Files, label: str | None) -> None:
    console(files(console.folder / "files", console))
    console(shown("embed"))
    console(shown("neighbors --all"))
    console(shown("train", **{"examples/fashion-train.toml": str(tiny_config)}))
    console(shown("generate --split", **{"64": "2"}))
    console(shown("evaluate", **({"Brand": label} if label else {"--mix-label": [], "Brand": []})))
    report = (console.folder / "report.html").read_text()
    assert "<svg" in report
    assert "g.id" in console(shown("query")).stdout

    data = DataRoot(str(console.folder / "data"))
    rows = data.read("generated").to_pylist()
    image = next(row for row in rows if row["neighbors"])
    neighbor = image["neighbors"][0]["item_id"]
    told = console(shown("lineage", **{"FILE.png": data.path(image["image_path"])})).stdout
    assert image["item_id"] in told
    assert neighbor in told
    assert neighbor in console(["lineage", image["generated_id"]]).stdout
    item = image["item_id"]
    assert "item_id" in console(shown("neighbors art500k", **{"art500k:000a1f…": item})).stdout
    console(shown("generate art500k", **{"art500k:12": item, "art500k:99": neighbor}))
    console(shown("similar", ITEM=item))
    title = next(row["title"] for row in data.read(data.names("items")[0]).to_pylist() if row["title"])
    console(shown("search", TEXT=title))

    touched = console(["optout", neighbor]).stdout
    assert neighbor in touched
    assert image["generated_id"] in touched
    console(shown("neighbors --all"))
    sampled = data.read(f"neighbors/{stages.newest(load_settings(), 'neighbors')}").to_pylist()
    assert not any(near["item_id"] == neighbor for row in sampled for near in row["neighbors"])
    console(["status"])
    console(["doctor"])
