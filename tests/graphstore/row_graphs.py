"""Graphs as rows, and the edges that a projection of them has by its definition."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from sources import Row

from graphstore.projection.tables import ITEM_COLUMNS, GraphTables

Edges = dict[tuple[str, str, str], float]


class Rows(GraphTables):
    """A graph given as rows, in the order that they have here and in pieces."""

    def __init__(self, items: list[Row], entities: list[str], relations: list[Row], version: str = "v1") -> None:
        self.rows, self.entities, self.edges, self.name = items, entities, relations, version
        self.reads = 0

    def version(self) -> str:
        return self.name

    def items(self) -> pa.Table:
        self.reads += 1
        return pa.Table.from_pylist(self.rows, ITEM_COLUMNS)

    def entity_ids(self) -> pa.ChunkedArray:
        return pa.chunked_array([pa.array(self.entities, pa.string())])

    def relations(self) -> Iterator[pa.Table]:
        schema = pa.schema([*((name, pa.string()) for name in ("type", "from_id", "to_id")), ("weight", pa.float64())])
        for start in range(0, len(self.edges), 3):
            yield pa.Table.from_pylist(self.edges[start : start + 3], schema)


def expected_edges(
    graph: Rows, exponent: float, factors: dict[str, float], via: set[str], directions: dict[str, str]
) -> Edges:
    """The weights as the module's notes define them, by loops over dictionaries."""
    items = {row["item_id"]: row for row in graph.rows}
    inside = {id_ for id_, row in items.items() if row["split"] == "train"} | set(graph.entities)
    edges: dict[tuple[str, str, str, str], float] = {}
    for row in graph.edges:
        if row["from_id"] != row["to_id"] and row["weight"] > 0:
            for direction, a, b in (
                ("forward", row["from_id"], row["to_id"]),
                ("backward", row["to_id"], row["from_id"]),
            ):
                if b in inside:
                    edges[row["type"], direction, a, b] = row["weight"]
    sizes: dict[tuple[str, str], int] = {}
    for type_, _, a, b in edges:
        if a not in items and b in items:
            sizes[type_, a] = sizes.get((type_, a), 0) + 1
    walked: dict[tuple[str, str, str, str], float] = {}
    for (type_, direction, a, b), weight in edges.items():
        if type_ in via and factors.get(type_, 1.0) > 0 and directions.get(type_, "both") in ("both", direction):
            shared = a if a not in items else b
            size = sizes.get((type_, shared), 1) if (a in items) != (b in items) else 1
            walked[type_, direction, a, b] = weight * size**exponent
    result: Edges = {}
    for type_ in via:
        sums: dict[str, float] = {}
        for (other, _, a, _), weight in walked.items():
            if other == type_ and a in inside:
                sums[a] = sums.get(a, 0.0) + weight
        counted = [total for id_, total in sums.items() if id_ in items] or list(sums.values())
        mean = sum(counted) / len(counted) if counted else 1.0
        for (other, _, a, b), weight in walked.items():
            if other == type_:
                result[a, type_, b] = result.get((a, type_, b), 0.0) + factors.get(type_, 1.0) * weight / mean
    return result
