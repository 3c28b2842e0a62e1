"""How commands end, and what they import: exit codes, one or two lines, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from flows.cli.console import Call, command
from flows.settings import load_settings
from ingest.errors import Graph2ImageError

Command = Callable[..., Result]

#: A command line whose commands fail in ways that no command should.
FAILING = """
import sys, typer
from flows.cli.console import Call, command
from flows.cli.failures import run

app = typer.Typer(rich_markup_mode=None)

@command(app, "bug")
def bug(call: Call) -> None:
    [][1]

@command(app, "rows")
def rows(call: Call, count: int) -> None:
    from flows.cli.tables import print_rows
    print_rows([{f"column {at}": f"value {at} é \\u6f22" for at in range(12)}] * count)

run("__main__", "failing")
"""


#: `graph2image query` that gets an interrupt when it imports a module.
INTERRUPTED = """
import os, signal, sys
from flows.cli.__main__ import main

class Interrupt:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

module = sys.argv[1]
sys.meta_path.insert(0, Interrupt)
sys.argv[1:] = ["query", "RETURN 1", "--data", "nothing"]
main()
"""


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=cwd,
        env=_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )


def failing(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", FAILING, *arguments]
    return subprocess.run(command, env=_environment(**environment), capture_output=True, check=False)


def _environment(**changes: str) -> dict[str, str]:
    # The code is not installed in every environment that tests it; `-m` and `-c` look in the working directory.
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | changes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("query", "MATCH (n) RETURN n"), "graph.lbug"),
        (("embed",), "ingest"),
        (("train", "mini"), "neighbors --all"),
        (("train", "nothing.toml"), "nothing.toml"),
        (("generate", "art500k:1"), "train"),
        (("ingest", "table", "nothing.toml"), "nothing.toml"),
        (("ingest", "amazon", "a**b"), "a**b"),
        (("optout", "art500k:1"), "ingest"),
    ],
)
def test_a_users_mistake_is_two_lines_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph2image: Command, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = graph2image(*arguments, data="data")
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "data").exists()


def test_a_users_mistake_is_the_same_in_a_process_of_its_own(tmp_path: Path) -> None:
    result = run("optout", "art500k:1", "--data", "data", cwd=tmp_path)
    assert result.returncode == 1
    assert "ingest" in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize("arguments", [("no-such-command",), ("neighbors",), ("generate",), ("query",)])
def test_wrong_usage_is_exit_code_2(graph2image: Command, arguments: tuple[str, ...]) -> None:
    assert graph2image(*arguments, data="data").exit_code == 2


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in run("embed", "--data", "data", "--debug", cwd=tmp_path).stderr


# -- unexpected errors ------------------------------------------------------------------------------------------------


def test_a_defect_is_one_line_that_names_the_file_of_its_traceback(tmp_path: Path) -> None:
    result = failing("bug", XDG_STATE_HOME=str(tmp_path))
    assert result.returncode == 1
    (line,) = result.stderr.decode().splitlines()
    (file,) = (tmp_path / "graph2image").iterdir()
    assert line.startswith("unexpected error (IndexError: list index out of range): please report it")
    assert line.endswith(str(file))
    text = file.read_text()
    assert "Traceback" in text
    assert "in bug" in text
    assert text.startswith("graph2image ")
    assert file.stat().st_mode & 0o077 == 0


def test_a_traceback_that_cannot_be_kept_goes_to_the_temporary_files(tmp_path: Path) -> None:
    result = failing("bug", XDG_STATE_HOME="/dev/null", TMPDIR=str(tmp_path))
    (file,) = tmp_path.glob("graph2image-traceback-*")
    assert str(file) in result.stderr.decode()
    result = failing("bug", XDG_STATE_HOME="/dev/null", HOME="/dev/null", TMPDIR="/dev/null", PATH="/dev/null")
    assert len(result.stderr.splitlines()) == 1


def test_a_defect_with_debug_is_shown_too(tmp_path: Path) -> None:
    result = failing("bug", "--debug", XDG_STATE_HOME=str(tmp_path))
    assert b"Traceback" in result.stderr
    assert result.returncode == 1


# -- output -----------------------------------------------------------------------------------------------------------


def test_rows_that_are_piped_have_their_natural_width() -> None:
    result = failing("rows", "2", COLUMNS="40")
    lines = result.stdout.decode().splitlines()
    assert [line.count("value 11") for line in lines].count(1) == 2
    assert "2 rows" in lines[-1]


def test_a_terminal_that_is_not_utf8_gets_question_marks() -> None:
    result = failing("rows", "1", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert result.returncode == 0, result.stderr
    assert b"value 3 ? ?" in result.stdout


@pytest.mark.parametrize("arguments", [("rows", "500"), ("--help",)])
def test_a_reader_that_has_enough_ends_the_command_silently(arguments: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAILING, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_output_that_cannot_be_written_is_told() -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-c", FAILING, "rows", "1"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=_environment(), check=False)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["\udcff", "a\udcffb"])
def test_bytes_that_are_no_text_are_refused(text: str) -> None:
    app = typer.Typer()
    given = []

    @command(app, "take")
    def take(call: Call, words: list[str]) -> None:
        given.append(words)

    assert CliRunner().invoke(app, [text]).exit_code == 2
    assert CliRunner().invoke(app, ["good"]).exit_code == 0
    assert given == [["good"]]


# -- starting ---------------------------------------------------------------------------------------------------------


def test_light_commands_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from flows.cli import app; "
        "from flows import stages, upkeep; "
        "heavy = 'torch diffusers prefect numba open_clip matplotlib pyarrow numpy fsspec rich pydantic httpx neo4j'; "
        "print([m for m in heavy.split() if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_interrupt_while_modules_are_imported_shows_no_traceback(tmp_path: Path) -> None:
    """The signal comes at each of the imports in turn."""
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    for module in ("flows.cli.failures", "typer", "flows.cli.app", "pydantic", "pydantic_settings", "graphstore.store"):
        command = [sys.executable, str(script), module]
        done = subprocess.run(command, cwd=tmp_path, env=_environment(), capture_output=True, text=True, check=False)
        assert done.returncode in (130, -signal.SIGINT), (module, done)
        assert "Traceback" not in done.stderr


# -- settings ---------------------------------------------------------------------------------------------------------


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


def test_a_url_that_is_none_is_no_traceback() -> None:
    with pytest.raises(Graph2ImageError, match="is none: Invalid IPv6 URL"):
        _ = load_settings(store="neo4j://[::1").store_url


def test_a_kind_of_storage_that_is_not_there() -> None:
    with pytest.raises(Graph2ImageError, match="cannot use the data root"):
        _ = load_settings(data="nothing://x").data_root


def test_a_remote_data_root_needs_a_named_store() -> None:
    with pytest.raises(Graph2ImageError, match="remote"):
        _ = load_settings(data="memory://root").store_url
