"""`backup` and `restore`: store and data root together, whole or not at all."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from flows.backup import backup, restore
from flows.settings import Settings
from graphstore.loading.copying import content_digest
from ingest.datasets.root import DataRoot
from ingest.datasets.verify import find_damage
from ingest.errors import Graph2ImageError

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from published import MODEL
from tiny_data import TinyData

Command = Callable[..., Result]


def called(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def graph_digest(data: str | Path) -> str:
    with Settings(data=str(data)).open_store(read_only=True) as store:
        return content_digest(store)


def test_what_is_restored_is_what_was_backed_up(tiny: TinyData, graph2image: Command, tmp_path: Path) -> None:
    url, folder, new = tiny.root.url, tmp_path / "backup", tmp_path / "new"
    for call in (("promote", MODEL), ("optout", "toy:05", "--reason", "by letter")):
        assert graph2image(*call, data=url).exit_code == 0
    made = called(graph2image("backup", str(folder), "--json", data=url))
    brought = called(graph2image("restore", str(folder), "--json", data=new))
    assert brought == made
    assert graph_digest(new) == graph_digest(url)
    before, after = (called(graph2image("models", "--json", data=root)) for root in (url, new))
    assert after["promoted"] == MODEL
    assert [m["stale"] for m in after["models"]] == [m["stale"] for m in before["models"]] == [True]
    assert find_damage(DataRoot(str(new))) == find_damage(tiny.root)  # what the tiny data lacks
    generated = graph2image("generate", "toy:03", "--steps", "1", data=new)
    assert generated.exit_code == 0, generated.output
    assert called(graph2image("backup", str(tmp_path / "again"), "--json", data=url))["digest"] == made["digest"]


def test_a_data_root_by_another_name(tiny: TinyData, tmp_path: Path) -> None:
    """The embedded graph is no file of the data root, whatever the path leads through."""
    (tmp_path / "link").symlink_to(tiny.root.url)
    backup(Settings(data=str(tmp_path / "link")), tmp_path / "backup")
    assert not list((tmp_path / "backup" / "data").glob("graph*"))
    restore(Settings(data=str(tmp_path / "new")), tmp_path / "backup")
    assert graph_digest(tmp_path / "new") == graph_digest(tiny.root.url)


def test_what_is_no_whole_backup_is_not_restored(tiny: TinyData, tmp_path: Path) -> None:
    settings, folder = Settings(data=tiny.root.url), tmp_path / "backup"
    new = Settings(data=str(tmp_path / "new"))
    (folder / "data").mkdir(parents=True)
    with pytest.raises(Graph2ImageError, match="holds no whole backup"):
        restore(new, folder)
    backup(settings, folder)  # continues what was cut off
    with pytest.raises(Graph2ImageError, match="holds a backup already"):
        backup(settings, folder)
    with pytest.raises(Graph2ImageError, match="is not empty"):
        restore(settings, folder)
    file = next((folder / "data" / "images").rglob("*.png"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    with pytest.raises(Graph2ImageError, match=f"{file.name} has changed since it was backed up"):
        restore(new, folder)
    assert not Path(new.data).exists()
    file.unlink()
    with pytest.raises(Graph2ImageError, match=f"{file.name} is missing"):
        restore(new, folder)
    file.write_bytes(content)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(Graph2ImageError, match="has other files in it"):
        backup(settings, other)


def test_a_restore_that_was_cut_off_continues(tiny: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, new = tmp_path / "backup", Settings(data=str(tmp_path / "new"))
    backup(Settings(data=tiny.root.url), folder)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("flows.backup._copy_graph", killed)
        with pytest.raises(KeyboardInterrupt):
            restore(new, folder)
    assert restore(new, folder).changed
    assert graph_digest(new.data) == graph_digest(tiny.root.url)
    assert not DataRoot(new.data).exists(".restoring")
