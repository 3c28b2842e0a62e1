"""Every number that a command or a file takes is checked before anything is done with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flows.cli.app import app

#: What stands for the arguments of each command that takes numbers.
ARGUMENTS = {
    "embed": [],
    "neighbors": ["art500k:1"],
    "query": ["MATCH (n) RETURN n"],
    "generate": ["art500k:1"],
    "evaluate": [],
    "compare": ["a-model"],
    "similar": ["art500k:1"],
    "search": ["word"],
    "sample-data art500k": ["folder"],
    "sample-data amazon": ["folder"],
    "sample-data goodreads": ["folder"],
    "ingest amazon": ["file.gz"],
    "ingest goodreads": ["file.gz"],
    "neo4j start": [],
    "neo4j stop": [],
}


def numbers() -> Iterator[tuple[str, str, int]]:
    """Each option that takes a number, or several at once, with how many."""
    root = typer.main.get_command(app)
    for command in ARGUMENTS:
        group = root
        for name in command.split():
            group = group.get_command(typer.Context(group), name)  # type: ignore[attr-defined]
        for parameter in group.params:
            annotation = str(parameter.type_descriptor.annotation)
            if "int" in annotation or "float" in annotation:
                yield command, parameter.opts[0], parameter.nargs


NUMBERS = list(numbers())


def test_the_options_are_found() -> None:
    """As many as these tests can do without."""
    assert len(NUMBERS) > 25
    assert ("generate", "--interval", 2) in NUMBERS
    assert ("neighbors", "--epsilon", 1) in NUMBERS


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1e300", str(2**64), str(-(2**70))])
@pytest.mark.parametrize(("command", "option", "values"), NUMBERS)
def test_a_number_that_makes_no_sense(command: str, option: str, values: int, number: str, tmp_path: Path) -> None:
    call = [*command.split(), *ARGUMENTS[command], option, *([number] * values)]
    result = CliRunner().invoke(app, [*call, "--data", str(tmp_path / "data")])
    assert result.exit_code in (1, 2)
    # Its own end, not one of our own exceptions.
    assert isinstance(result.exception, SystemExit)
    assert option.lstrip("-").split("-")[0] in result.stderr
    assert "unexpected error" not in result.stderr
    assert "there is no graph" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "number"),
    [
        ("--steps", "0"),
        ("--steps", "1001"),
        ("--seed", str(2**63)),
        ("--seed", "-1"),
        ("--width", "0"),
        ("--height", "100000"),
        ("--batch-size", "0"),
        ("--rescale", "1.5"),
        ("--copy-similarity", "2"),
        ("--copy-bits", "257"),
        ("--scale", "-1"),
        ("--graph-scale", "1e9"),
        ("--limit", "0"),
    ],
)
def test_numbers_of_generate_that_are_out_of_range(option: str, number: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["generate", "art500k:1", option, number, "--data", str(tmp_path / "data")])
    assert result.exit_code in (1, 2)
    assert "train" not in result.stderr
    assert len(result.stderr.splitlines()) <= 4
