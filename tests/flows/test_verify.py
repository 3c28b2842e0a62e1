"""`verify` names every damaged file, and `--repair` makes it again from what is there."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from typer.testing import Result

from flows.demo import DemoReport
from ingest.datasets.root import DataRoot

Command = Callable[..., Result]


@pytest.fixture
def root(demo: DemoReport, demo_folder: Path, tmp_path: Path) -> Path:
    """A copy of the data root of a small demo."""
    return Path(shutil.copytree(demo_folder / "data", tmp_path / "data"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


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
    "latents/*/*.parquet": ("made again", True),
    "encoders/*/model.safetensors": ("embed again", False),
    "autoencoders/*/*.safetensors": ("graph2image train", False),
    "models/*/*/*.safetensors": ("train again", False),
    "models/*/model.json": ("train again", False),
    "classifiers/*/model.safetensors": ("made again", True),
}


def test_a_sound_root(root: Path, graph2image: Command) -> None:
    result = graph2image("verify", data=root)
    assert result.exit_code == 0
    assert "All are as they were published." in result.stdout


@pytest.mark.parametrize("pattern", KINDS)
def test_damage_is_named_and_mended(root: Path, graph2image: Command, pattern: str) -> None:
    remedy, repaired = KINDS[pattern]
    # A shard that is only appended is not missed: the next run of its command computes it again.
    appended = pattern.startswith(("embeddings", "text-embeddings", "latents"))
    damages = [cut, emptied, flipped, cut if appended else deleted]
    file = published(root, pattern)
    for damage in [damages[len(pattern) % 4], flipped]:
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


@pytest.mark.parametrize("damage", [cut, emptied, flipped, deleted])
@pytest.mark.parametrize("pattern", KINDS)
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
