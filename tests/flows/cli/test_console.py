"""How commands fail: exit codes, one or two lines, no traceback; and how fast the light ones start."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from flows.settings import load_settings
from ingest.errors import Graph2ImageError

Command = Callable[..., Result]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = "from flows.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("query", "MATCH (n) RETURN n"), "graph.lbug"),
        (("embed",), "ingest"),
        (("train", "mini"), "neighbors --all"),
        (("train", "nothing.toml"), "nothing.toml"),
        (("generate", "art500k:1"), "train"),
        (("ingest", "table", "nothing.toml"), "nothing.toml"),
    ],
)
def test_a_users_mistake_is_two_lines_and_exit_code_1(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments, "--data", "data", cwd=tmp_path)
    assert result.returncode == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize("arguments", [("no-such-command",), ("neighbors",), ("generate",), ("query",)])
def test_wrong_usage_is_exit_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(*arguments, cwd=tmp_path).returncode == 2


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in run("embed", "--data", "data", "--debug", cwd=tmp_path).stderr


def test_light_commands_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from flows import cli; import graphstore.ladybug; "
        "print([m for m in ('torch', 'diffusers', 'prefect', 'numba', 'open_clip', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_options_beat_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph2image.toml").write_text('data = "from-file"\nstore = "ladybug:///file"\n')
    monkeypatch.setenv("GRAPH2IMAGE_DATA", "from-environment")
    settings = load_settings(data=None, store=None)
    assert (settings.data, settings.store_url) == ("from-environment", "ladybug:///file")
    assert load_settings(data="from-option").data == "from-option"


def test_an_unknown_setting_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph2image.toml").write_text('sotre = "ladybug:///file"\n')
    with pytest.raises(Graph2ImageError, match="sotre"):
        load_settings()


def test_a_password_in_the_url_is_refused_before_anything_shows_it() -> None:
    with pytest.raises(Graph2ImageError, match="holds a user or a password") as error:
        _ = load_settings(store="neo4j://me:secret@host").store_url
    assert "secret" not in str(error.value)


def test_a_remote_data_root_needs_a_named_store() -> None:
    with pytest.raises(Graph2ImageError, match="remote"):
        _ = load_settings(data="memory://root").store_url
