"""`verify` names every damaged file, and `--repair` makes it again from what is there."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import Result

from flows.demo import DemoReport
from flows.settings import load_settings
from graphstore.optouts import published_opt_outs
from ingest.datasets.root import DataRoot

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from tiny_data import TinyData

Command = Callable[..., Result]


@pytest.fixture
def root(demo: DemoReport, demo_folder: Path, tmp_path: Path) -> Path:
    """A copy of the data root of a small demo."""
    return Path(shutil.copytree(demo_folder / "data", tmp_path / "data"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def shortened(pattern: str) -> Callable[[Path], None]:
    """Half of the kinds of files are cut, the others emptied, each always by the same."""
    return (cut, emptied)[len(pattern) % 2]


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[random.Random(file.name).randrange(len(content) // 4, len(content) // 2)] ^= 4
    file.write_bytes(content)


def deleted(file: Path) -> None:
    file.unlink()


#: One file of every kind, what makes it again, and whether `--repair` does.
KINDS = {
    "items/art500k/*.parquet": ("graph2image ingest", False),
    "entities/art500k/*.parquet": ("graph2image ingest", False),
    "relations/art500k/*.parquet": ("graph2image ingest", False),
    "parts/art500k.json": ("graph2image ingest", False),
    "images/*.parquet": ("made again", True),
    "images/files/*/*.*": ("graph2image ingest", False),
    "embeddings/*/*.parquet": ("made again", True),
    "text-embeddings/*/*.parquet": ("made again", True),
    "neighbors/*/*.parquet": ("made again", True),
    "latents/*/*.parquet": ("graph2image train", True),
    "generated/*.parquet": ("made again", True),
    "encoders/*/model.safetensors": ("embed again", False),
    "encoders/*/encoder.json": ("embed again", False),
    "encoders/*/_files.json": ("embed again", False),
    "autoencoders/*/*.safetensors": ("graph2image train", True),
    "models/*/*/*.safetensors": ("graph2image train CONFIG --neighbors", False),
    "models/*/_files.json": ("graph2image train CONFIG --neighbors", False),
    "models/*/model.json": ("train again", False),
    "classifiers/*/judge.safetensors": ("graph2image evaluate", True),
    "classifiers/*/judge.json": ("graph2image evaluate", True),
}


def test_a_sound_root(root: Path, graph2image: Command) -> None:
    result = graph2image("verify", data=root)
    assert result.exit_code == 0
    assert "All are as they were published." in result.stdout


@pytest.mark.parametrize("pattern", KINDS)
def test_damage_is_named_and_mended(root: Path, graph2image: Command, pattern: str) -> None:
    remedy, repaired = KINDS[pattern]
    file = published(root, pattern)
    for damage in [shortened(pattern), flipped, deleted]:
        content = file.read_bytes()
        damage(file)
        name = file.relative_to(root).as_posix()
        found = graph2image("verify", data=root)
        assert found.exit_code == 1
        assert name in found.stdout
        file.write_bytes(content)
    damage(file)
    result = graph2image("verify", "--repair", data=root)
    assert result.exit_code == (0 if repaired else 1)
    assert remedy in result.stdout
    if repaired:
        assert graph2image("verify", data=root).exit_code == 0


def published(root: Path, pattern: str) -> Path:
    """A file that counts: of a dataset that is replaced as a whole, one that its list has."""
    for file in sorted(root.glob(pattern)):
        snapshot = DataRoot(str(root)).snapshot(file.parent.relative_to(root).as_posix())
        if file.stat().st_size and (snapshot is None or file.name in snapshot.files):
            return file
    raise AssertionError(f"there is no {pattern}")


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        (pattern, damage)
        for pattern in KINDS
        if not pattern.endswith(("_files.json", "judge.json"))
        for damage in (shortened(pattern), flipped, deleted)
    ],
)
def test_commands_name_the_damaged_file_or_do_without_it(
    root: Path, graph2image: Command, pattern: str, damage: Callable[[Path], None]
) -> None:
    file = published(root, pattern)
    damage(file)
    model = next((root / "models").iterdir()).name
    commands = [
        ("status",),
        ("embed",),
        ("neighbors", "--all", "--k", "4"),
        ("generate", "--split", "test", "--limit", "1", "--steps", "1", "--model", model),
    ]
    for command in commands:
        result = graph2image(*command, "--json", data=root)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        if result.exit_code:
            assert file.name in result.output or file.parent.name in result.output
        else:
            orjson.loads(result.stdout)


@pytest.mark.parametrize("pattern", ["encoders/*/model.safetensors", "models/*/unet/*.safetensors"])
def test_what_is_trained_again_must_be_the_same(root: Path, graph2image: Command, pattern: str) -> None:
    file = published(root, pattern)
    published_then = file.read_bytes()
    (deleted if "encoders" in pattern else flipped)(file)
    found = graph2image("verify", "--repair", data=root)
    assert found.exit_code == 1
    assert "`graph2image verify --repair --retrain`, which trains it again (the first time took" in found.stdout
    result = graph2image("verify", "--repair", "--retrain", data=root)
    assert result.exit_code == 0, result.output
    assert file.read_bytes() == published_then

    # One that comes out differently replaces nothing: its list tells other weights than are trained.
    folder = root / Path(*file.relative_to(root).parts[:2])
    data = DataRoot(str(root))
    listed = data.read_json(f"{folder.relative_to(root)}/_files.json")
    listed["files"][file.relative_to(folder).as_posix()] = "0" * 64
    data.write_json(f"{folder.relative_to(root)}/_files.json", listed)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = graph2image("verify", "--repair", "--retrain", data=root)
    assert result.exit_code == 1
    assert "differs from what was published" in result.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not (root / ".damaged").exists()

    # A run that was killed amid the training: the folder is away, and the next call puts it back first.
    aside = root / ".damaged" / folder.relative_to(root)
    aside.parent.mkdir(parents=True)
    folder.rename(aside)
    found = graph2image("verify", data=root)
    assert (found.exit_code, "was moved away by a training that was interrupted" in found.stdout) == (1, True)
    graph2image("verify", "--repair", data=root)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not (root / ".damaged").exists()


def test_generated_rows_come_back_from_the_images(root: Path, graph2image: Command) -> None:
    data = DataRoot(str(root))
    before = data.read("generated").sort_by("generated_id")
    lost = min((root / "generated").glob("*.parquet"))
    paths = DataRoot(str(root)).read_file("generated", lost.name)["image_path"].to_pylist()
    lost.unlink()
    (root / paths[0]).unlink()
    flipped(root / paths[1])
    result = graph2image("verify", "--repair", data=root)
    assert lost.name in result.stdout
    after = data.read("generated").sort_by("generated_id")
    kept = before.filter(pc.invert(pc.is_in(before["image_path"], value_set=pa.array(paths[:2]))))
    assert after.equals(kept)
    assert graph2image("verify", data=root).exit_code == 0


@pytest.mark.parametrize("damage", [deleted, flipped, emptied])
def test_withdrawals_come_back_from_the_graph(root: Path, graph2image: Command, damage: Callable[[Path], None]) -> None:
    data = DataRoot(str(root))
    items = data.read("items/art500k", ["item_id"])["item_id"].to_pylist()
    for item in items[:2]:
        assert graph2image("optout", item, "--reason", "asked", data=root).exit_code == 0
    before = published_opt_outs(data)
    damage(sorted((root / "optouts").glob("*.parquet"))[0])
    refused = graph2image("neighbors", items[3], data=root)
    assert refused.exit_code == 1  # what was withdrawn is not known for sure
    assert "optouts" in refused.output
    assert "verify" in refused.output
    assert graph2image("verify", "--repair", data=root).exit_code == 0
    assert published_opt_outs(data).equals(before)
    # Without the graph it is not known what is lost: that stays an error.
    damage(sorted((root / "optouts").glob("*.parquet"))[0])
    (root / "graph.lbug").rename(root / "graph.away")
    assert graph2image("verify", "--repair", data=root).exit_code == 1
    (root / "graph.away").rename(root / "graph.lbug")
    told = graph2image("verify", data=root)
    assert told.exit_code == 1  # the digest beside it is another file's
    assert "if you have put that file there, remove" in told.output
    (root / "graph.lbug.sha256").unlink()
    assert graph2image("verify", "--repair", data=root).exit_code == 0
    assert published_opt_outs(data).equals(before)


def test_several_lost_datasets_are_made_again_together(root: Path, graph2image: Command) -> None:
    for kind in ("images", "embeddings", "text-embeddings", "neighbors", "generated", "latents"):
        for file in (root / kind).rglob("*.parquet"):
            file.unlink()
    assert graph2image("verify", data=root).exit_code == 1
    result = graph2image("verify", "--repair", data=root)
    assert result.exit_code == 0, result.output
    assert graph2image("verify", data=root).exit_code == 0


def test_a_lost_graph_is_loaded_again_from_the_datasets(root: Path, graph2image: Command) -> None:
    settings = load_settings(data=str(root))
    image = published(root, "generated/*/*.png").stem
    with settings.open_store(read_only=True) as store:
        before = store.version(), store.schema()
    told = graph2image("lineage", image, "--json", data=root).stdout
    (root / "graph.lbug").unlink()
    found = graph2image("verify", data=root)
    assert found.exit_code == 1
    assert "graph.lbug is missing" in found.stdout
    assert graph2image("verify", "--repair", data=root).exit_code == 0
    with settings.open_store(read_only=True) as store:
        assert store.version() == before[0]
        assert {label.name: label.count for label in store.schema().labels if label.kind != "system"} == {
            label.name: label.count for label in before[1].labels if label.kind != "system"
        }
    again = graph2image("lineage", image, "--json", data=root).stdout
    assert orjson.loads(again)["conditioned_on"] == orjson.loads(told)["conditioned_on"]


def test_a_graph_that_has_lost_rows_is_named(root: Path, graph2image: Command) -> None:
    item = DataRoot(str(root)).read("items/art500k", ["item_id"])["item_id"][0].as_py()
    with load_settings(data=str(root)).open_store() as store, store.transaction():
        store.write("MATCH (a:Artwork {id: $id}) DETACH DELETE a", {"id": item})
    found = graph2image("verify", data=root)
    assert found.exit_code == 1
    assert "graph.lbug: has 1" in found.stdout
    assert "items, of" in found.stdout
    assert "relations, of" in found.stdout
    assert "move" in found.stdout


@pytest.mark.parametrize("damage", [emptied, cut])
def test_a_graph_file_that_cannot_be_opened_is_named(
    root: Path, graph2image: Command, damage: Callable[[Path], None]
) -> None:
    damage(root / "graph.lbug")
    found = graph2image("verify", data=root)
    assert found.exit_code == 1
    assert "graph.lbug" in found.stdout


@pytest.mark.slow
def test_a_byte_that_flips_inside_the_graph_file_is_noticed(tiny: TinyData, graph2image: Command) -> None:
    data = tiny.root.path()
    file = Path(data) / "graph.lbug"
    content = file.read_bytes()
    for place in (0, *random.Random(3).sample(range(len(content)), 9), len(content) - 1):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        found = graph2image("verify", data=data)
        assert found.exit_code == 1, place
        assert "graph.lbug: has changed" in found.stdout
        assert "move" in found.stdout
        refused = graph2image("query", "MATCH (n) RETURN count(n) AS n", data=data)
        assert refused.exit_code == 1
        assert "graph.lbug has changed" in refused.stderr
    file.unlink()
    assert graph2image("verify", "--repair", data=data).exit_code == 1  # the models and encoders of this root are stubs
    assert "graph.lbug" not in graph2image("verify", data=data).stdout
    assert graph2image("query", "MATCH (n) RETURN count(n) AS n", data=data).exit_code == 0
