"""Which labels a search looks through."""

from __future__ import annotations

from graphstore.store import GraphStore
from ingest.errors import Graph2ImageError


def searched_labels(store: GraphStore, label: str | None) -> list[str]:
    """`label`, or the labels of all items.

    Raises
    ------
    Graph2ImageError
        If there are no items, or `label` is none of theirs.
    """
    labels = store.labels_of_kind("item")
    if not labels:
        raise Graph2ImageError("there are no items in the graph yet", "Run `graph2image ingest` first.")
    if label is not None and label not in labels:
        raise Graph2ImageError(f"{label!r} is not a label of items", f"Those are: {', '.join(labels)}.")
    return labels if label is None else [label]
