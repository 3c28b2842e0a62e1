"""The command that samples neighbors; see `flows.cli.app`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from flows.cli.console import Call, command
from flows.cli.options import options_checked, pair, shares
from flows.cli.tables import print_rows

neighbors_app = typer.Typer()

#: Options whose names are not those of the settings.
_OPTIONS = {"relation_weights": "--weight", "directions": "--direction"}


@command(neighbors_app, "neighbors")
def neighbors(
    call: Call,
    item: Annotated[str | None, typer.Argument(help="Item id, such as art500k:….")] = None,
    all_items: Annotated[bool, typer.Option("--all", help="Sample every item, to Parquet.")] = False,
    mode: Annotated[
        Literal["semantic-ppr", "ppr", "semantic", "random"],
        typer.Option(
            help="ppr: by walks on the graph; semantic: by similar images; semantic-ppr: by walks, re-ranked by images."
        ),
    ] = "semantic-ppr",
    k: Annotated[int, typer.Option("--k", help="Neighbors per item, at most.")] = 5,
    pool: Annotated[
        int | None, typer.Option(help="Candidates that the walk hands to the re-ranking; by default twice --k.")
    ] = None,
    query: Annotated[
        Literal["text", "image"],
        typer.Option(help="What images are compared with: the item's text, or a training item's own image."),
    ] = "text",
    any_item: Annotated[
        bool,
        typer.Option("--any", help="Let items without an image be neighbors too; for --mode ppr or random."),
    ] = False,
    via: Annotated[
        list[str] | None, typer.Option(metavar="TYPE", help="Walk only these relation types; repeat it.")
    ] = None,
    weight: Annotated[
        list[str] | None, typer.Option(metavar="TYPE=W", help="Weight of a relation type, 1 by default; repeat it.")
    ] = None,
    direction: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE=DIRECTION", help="Walk a relation type only forward, or only backward; repeat it."),
    ] = None,
    epsilon: Annotated[
        float, typer.Option(help="Precision of the walk: the smaller, the more exact and the slower.")
    ] = 1e-5,
    engine: Annotated[
        Literal["push", "gds"],
        typer.Option(help="What walks from the item: push, in this process; gds, Graph Data Science on Neo4j."),
    ] = "push",
    encoder: Annotated[str | None, typer.Option("--encoder", help="Encoder id, by default the newest.")] = None,
) -> None:
    """Sample the neighbors of an item, or of all.

    Those of one item are explained; those of all items are written to Parquet.
    """
    from dataclasses import asdict

    from flows import stages
    from flows.cli import messages as words

    if (item is None) == (not all_items):
        raise typer.BadParameter("give one item, or --all")
    if all_items and engine != "push":
        raise typer.BadParameter("--engine goes with one item: GDS takes seconds for each")
    with options_checked(_OPTIONS):
        settings = stages.sampler_settings(
            call.settings,
            encoder=encoder,
            mode=mode,
            query=query,
            k=k,
            pool=2 * k if pool is None else pool,
            image_required=not any_item,
            via=tuple(via) if via else None,
            relation_weights=shares(weight or [], "TYPE=W"),
            directions=dict(pair(text, "TYPE=DIRECTION") for text in direction or []),
            epsilon=epsilon,
        )
    if item is None:
        call.show(report := stages.sample(call.settings, settings), words.sampled(report))
        return
    explained = stages.explain(call.settings, item, settings, engine)
    call.show(explained, words.explained(explained))
    if not call.as_json:
        rows = [asdict(neighbor) for neighbor in explained.neighbors]
        print_rows([{key: row[key] for key in ("item_id", "title", "ppr", "similarity", "via")} for row in rows])
