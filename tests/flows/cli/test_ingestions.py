"""The commands of the sources: each option of a class is an option of its command, in both entry points."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from flows.cli.console import Call
from flows.cli.ingestions import ingestion_commands
from ingest.ingestion import INGESTIONS, Amazon, Art500k, Goodreads, Ingestion, InstructG2I, Table


@pytest.fixture
def given() -> list[Ingestion]:
    return []


@pytest.fixture
def app(given: list[Ingestion]) -> typer.Typer:
    """Commands that only note what they were given."""

    def note(call: Call, ingestion: Ingestion) -> None:
        given.append(ingestion)

    app = typer.Typer(rich_markup_mode=None)
    ingestion_commands(app, note)
    return app


@pytest.mark.parametrize(
    ("arguments", "ingestion"),
    [
        ("art500k a.csv b.csv --painters p --painters q", Art500k(files=("a.csv", "b.csv"), painters=("p", "q"))),
        ("amazon a.gz --fetch --refresh --prune", Amazon(files=("a.gz",), fetch=True, refresh=True, prune=True)),
        ("amazon a.gz --images x.zip --workers 3", Amazon(files=("a.gz",), images="x.zip", workers=3)),
        ("goodreads a.gz --min-shelf-count 1", Goodreads(files=("a.gz",), min_shelf_count=1)),
        ("instructg2i x --text-key caption --strict", InstructG2I(folder="x", text_key="caption", strict=True)),
        ("table a.toml --root data", Table(spec="a.toml", root="data")),
        ("table a.toml", Table(spec="a.toml")),
    ],
)
def test_options_become_an_ingestion(
    app: typer.Typer, given: list[Ingestion], arguments: str, ingestion: Ingestion
) -> None:
    result = CliRunner().invoke(app, arguments.split())
    assert result.exit_code == 0, result.output
    assert given == [ingestion]


@pytest.mark.parametrize("source", INGESTIONS)
def test_every_field_is_in_the_help(app: typer.Typer, source: str) -> None:
    text = " ".join(CliRunner().invoke(app, [source, "--help"]).output.split())
    for name, field in INGESTIONS[source].model_fields.items():
        if name != "source":
            assert field.description
            assert field.description in text
            assert field.is_required() or f"--{name.replace('_', '-')}" in text


@pytest.mark.parametrize(
    "arguments",
    [
        "amazon",
        "amazon a.gz --workers 0",
        "amazon a.gz --workers x",
        "goodreads a.gz --min-shelf-count 0",
        "art500k a.csv --fetch",
        "table a.toml b.toml",
        "amazon a.gz --images x --fetch",
        "instructg2i x --text-key=",
    ],
)
def test_what_is_refused(app: typer.Typer, given: list[Ingestion], arguments: str) -> None:
    result = CliRunner().invoke(app, arguments.split())
    assert result.exit_code == 2
    assert given == []
