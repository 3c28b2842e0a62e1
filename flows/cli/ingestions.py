"""One command per source, made of the fields of its class in `ingest.ingestion`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_origin

import typer
from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from flows.cli.console import Call, command
from flows.cli.options import options_checked
from ingest.ingestion import INGESTIONS, Ingestion


def ingestion_commands(app: typer.Typer, run: Callable[..., None]) -> None:
    """Register a command per source, which calls `run(call, ingestion, …)`.

    What else `run` takes are options too; their annotations are objects, not text.
    """
    for source, kind in INGESTIONS.items():
        command(app, source)(_for_source(kind, run))


def _for_source(kind: type[Ingestion], run: Callable[..., None]) -> Callable[..., None]:
    options = {name: field for name, field in _own_first(kind) if name != "source"}

    def call_with_ingestion(call: Call, **arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in options}
        with options_checked():
            ingestion = kind.model_validate({name: value for name, value in given.items() if value is not None})
        run(call, ingestion, **arguments)

    call, _, *others = inspect.signature(run).parameters.values()
    parameters = [call, *(_parameter(name, field) for name, field in options.items()), *others]
    call_with_ingestion.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    call_with_ingestion.__doc__ = kind.__doc__
    return call_with_ingestion


def _own_first(kind: type[Ingestion]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a class, its own before those that it shares with others."""
    names = (name for base in kind.__mro__ for name in inspect.get_annotations(base))
    return ((name, kind.model_fields[name]) for name in dict.fromkeys(names) if name in kind.model_fields)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """An argument for a field without a default, an option for any other."""
    bounds: dict[str, Any] = {}
    for limit in field.metadata:
        match limit:
            case Ge(least):
                bounds["min"] = least
            case Le(most):
                bounds["max"] = most
    several = get_origin(field.annotation) is tuple
    type_: Any = list[str] if several else field.annotation
    default: Any = inspect.Parameter.empty
    if field.is_required():
        info: Any = typer.Argument(help=field.description, **bounds)
    else:
        info = typer.Option(f"--{name.replace('_', '-')}", help=field.description, **bounds)
        default = None if several else field.default
        type_ = type_ | None if several else type_
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[type_, info])
