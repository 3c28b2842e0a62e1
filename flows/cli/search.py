"""The commands that find items: by image, by words; see `flows.cli.app`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.console import Call, command
from flows.cli.tables import print_rows

search_app = typer.Typer()

CountOption = Annotated[int, typer.Option("--k", min=1, max=10_000, help="Items to find, at most.")]
LabelOption = Annotated[str | None, typer.Option("--label", help="Find items of this label only, such as Artwork.")]


@command(search_app, "similar")
def similar(
    call: Call,
    item: Annotated[str, typer.Argument(help="Item id, such as art500k:….")],
    k: CountOption = 10,
    label: LabelOption = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="Encoder id, by default that of the store's index, else the newest."),
    ] = None,
) -> None:
    """Find the items with the most similar images."""
    from flows import stages
    from flows.cli import messages as words

    report = stages.similar(call.settings, item, encoder, k, label)
    call.show(report, words.similar(report))
    if report.items and not call.as_json:
        print_rows(
            [
                {"item_id": found.item_id, "title": words.shortened(found.title), "similarity": found.similarity}
                for found in report.items
            ]
        )


@command(search_app, "search")
def search(
    call: Call,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Words of titles; any of them will do.")],
    k: CountOption = 10,
    label: LabelOption = None,
) -> None:
    """Find items by the words of their titles."""
    from flows import stages
    from flows.cli import messages as words

    report = stages.search(call.settings, text, k, label)
    call.show(report, words.found(report))
    if report.items and not call.as_json:
        print_rows(
            [
                {"item_id": found.item_id, "title": words.shortened(found.title), "score": found.score}
                for found in report.items
            ]
        )
