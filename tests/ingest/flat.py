"""Batches as plain rows, to compare with what a test expects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingest.batches import Batch
from ingest.records import RejectRecord


def items(batches: Iterable[Batch]) -> dict[str, dict[str, Any]]:
    """Items by id; `edges` of an item are its targets by `(type, label)`, each with weight and role if it has them."""
    found: dict[str, dict[str, Any]] = {}
    for batch in batches:
        rows = batch.items.to_pylist()
        for row in rows:
            row["edges"] = {}
        for edges in batch.edges:
            extras = [column.to_pylist() for column in (edges.weights, edges.roles) if column is not None]
            for item, target, *rest in zip(edges.items.to_pylist(), edges.targets.to_pylist(), *extras, strict=True):
                targets = rows[item]["edges"].setdefault((edges.type, edges.label), [])
                targets.append((target, *rest) if rest else target)
        for row in rows:
            assert row["item_id"] not in found, f"{row['item_id']} comes twice"
            found[row["item_id"]] = row
    return found


def rejects(batches: Iterable[Batch]) -> list[RejectRecord]:
    """All rejects, in order."""
    return [reject for batch in batches for reject in batch.rejects]


def entity_names(batches: Iterable[Batch]) -> dict[tuple[str, str], str]:
    """Declared names by label and key."""
    return {(row["label"], row["key"]): row["name"] for batch in batches for row in batch.entities.to_pylist()}


def entity_relations(batches: Iterable[Batch]) -> set[tuple[str, ...]]:
    """Relations between entities: type, label and key of the one end, label and key of the other."""
    return {tuple(row.values()) for batch in batches for row in batch.entity_relations.to_pylist()}
