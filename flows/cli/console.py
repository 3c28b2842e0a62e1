"""What every command shares: the common options, how results are printed, and logging that a person wants to read."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from flows.cli.failures import failures_told

if TYPE_CHECKING:
    from flows.settings import Settings

StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="URL", help="Graph store, ladybug:///path or neo4j://host:7687.")
]
DataOption = Annotated[str | None, typer.Option("--data", metavar="ROOT", help="Root of datasets, images and models.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")]


@dataclass(frozen=True)
class Call:
    """One call of a command: its settings, and how to print what came out."""

    settings: Settings
    as_json: bool

    def show(self, result: object, text: str) -> None:
        """Print `result` as one JSON object under `--json`, `text` otherwise."""
        if self.as_json:
            value = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
            sys.stdout.buffer.write(as_line(value))
            sys.stdout.flush()
        else:
            typer.echo(text)

    def show_tree(self, value: dict[str, Any]) -> None:
        """Print nested `value` as JSON under `--json`, as an indented outline otherwise."""
        self.show(value, "\n".join(map(_printable, _outline(value))))


def _is_news(record: logging.LogRecord) -> bool:
    """Not what Prefect says of a failed run: the command itself ends with it."""
    return not (record.name in ("prefect.flow_runs", "prefect.task_runs") and record.levelno >= logging.ERROR)


def as_line(value: object) -> bytes:
    """`value` as JSON on one line; what is no JSON of its own, as its text."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except TypeError:  # integers beyond 64 bits, names of files that are not UTF-8
        return json.dumps(value, default=str).encode() + b"\n"


def _printable(line: str) -> str:
    """The line without what a terminal would obey: names and records can come from anybody."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def _outline(value: dict[str, Any], indent: str = "") -> Iterator[str]:
    for key, part in value.items():
        name = f"{indent}{key.replace('_', ' ')}"
        if isinstance(part, dict):
            yield f"{name}:"
            yield from _outline(part, indent + "  ")
        elif isinstance(part, list | tuple) and part and isinstance(part[0], dict):
            yield f"{name}:"
            for row in part:
                yield f"{indent}  - " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in row.items())
        elif isinstance(part, list | tuple):
            yield f"{name}: {', '.join(map(str, part)) or '-'}"
        else:
            yield f"{name}: {_value(part)}"


def _value(part: object) -> str:
    if part is None:
        return "-"
    if isinstance(part, bool):
        return "yes" if part else "no"
    return f"{part:,}" if isinstance(part, int) else str(part)


def configure_logging(*, debug: bool) -> None:
    """Progress and notes go to standard error, one short line each; libraries speak up only when something is wrong."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s  %(message)s" if not debug else "%(asctime)s %(levelname)s %(name)s  %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )
    if not debug:
        logging.getLogger().handlers[0].addFilter(_is_news)
    for package in ("ingest", "graphstore", "model", "flows"):
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.INFO)
    if not debug:
        warnings.filterwarnings("ignore")
        # Libraries that otherwise print advice for their own developers.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _check(arguments: dict[str, object]) -> None:
    """Refuse what no command takes: numbers that are none, or beyond 64 bits, and bytes that are no text."""
    for name, value in arguments.items():
        option = f"--{name.replace('_', '-')}"
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, float) and not math.isfinite(part):
                raise typer.BadParameter(f"{option} must be a finite number, not {part}")
            if isinstance(part, int) and not -(2**63) <= part < 2**63:
                raise typer.BadParameter(f"{option} must be a number of 64 bits, not {part}")
            if isinstance(part, str) and any("\ud800" <= character <= "\udfff" for character in part):
                shown = part.encode("utf-8", "replace").decode()
                raise typer.BadParameter(f"{option} is no valid text: {shown}")


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function `f(call, …)` as command `name`, with `--store`, `--data`, `--json` and `--debug` added."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*, store: str | None, data: str | None, as_json: bool, debug: bool, **arguments: Any) -> None:
            configure_logging(debug=debug)
            with failures_told(debug=debug):
                from flows.settings import load_settings

                _check({"store": store, "data": data, **arguments})
                function(Call(load_settings(store=store, data=data), as_json), **arguments)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        common = [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for option, default, annotation in (
                ("store", None, StoreOption),
                ("data", None, DataOption),
                ("as_json", False, JsonOption),
                ("debug", False, DebugOption),
            )
        ]
        keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        run.__signature__ = inspect.Signature(keyword + common)  # type: ignore[attr-defined]
        app.command(name)(run)
        return function

    return register
