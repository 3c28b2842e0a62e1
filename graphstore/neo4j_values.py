"""Neo4j's values as Arrow, and Arrow tables as parameters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import neo4j.graph
import neo4j.time
import pyarrow as pa
import pyarrow.compute as pc

from ingest.errors import Graph2ImageError

#: Rows of one statement, and what they may weigh: a few texts of megabytes are a batch of their own.
BATCH_ROWS = 10_000
_BATCH_BYTES = 8 << 20
#: Bytes: what a unique index of Neo4j takes, with room for its own.
_LONGEST_ID = 8_000


def to_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> pa.Table:
    """A query's answer, with types as its values suggest; a node is a struct of its label and its properties."""
    columns = zip(*rows, strict=True)
    arrays = [_to_array([_plain(value) for value in column]) for column in columns]
    return pa.table(arrays or [pa.nulls(0)] * len(names), names=list(names))


def _to_array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        # A column of several types, which a table cannot have.
        return pa.array([value if value is None else json.dumps(value, default=str) for value in values])


def _plain(value: Any) -> Any:
    if isinstance(value, neo4j.graph.Node):
        return {"_LABEL": ":".join(sorted(value.labels)), **_plain(dict(value))}
    if isinstance(value, neo4j.graph.Relationship):
        return {"_LABEL": value.type, **_plain(dict(value))}
    if isinstance(value, neo4j.graph.Path):
        steps = [*value.nodes, *value.relationships]
        steps[::2], steps[1::2] = value.nodes, value.relationships
        return [_plain(step) for step in steps]
    if isinstance(value, neo4j.time.Date | neo4j.time.DateTime | neo4j.time.Time):
        return value.to_native()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def typed(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Values of one property, or lists of them, in the type that the schema gives it."""
    if pa.types.is_temporal(type_) or (pa.types.is_list(type_) and pa.types.is_temporal(type_.value_type)):
        values = [_plain(value) for value in values]
    return pa.array(values, type_)


def batches(rows: pa.Table) -> Iterator[pa.Table]:
    """`rows` in parts of at most `BATCH_ROWS`, and of some megabytes unless a single row has more."""
    if rows.num_rows > BATCH_ROWS:
        for start in range(0, rows.num_rows, BATCH_ROWS):
            yield from batches(rows.slice(start, BATCH_ROWS))
    elif rows.num_rows > 1 and rows.nbytes > _BATCH_BYTES:
        yield from batches(rows.slice(0, rows.num_rows // 2))
        yield from batches(rows.slice(rows.num_rows // 2))
    elif rows.num_rows:
        yield rows


def check_storable(nodes: pa.Table, label: str) -> None:
    """Raise if a list among the properties has a null in it, or an id is too long: Neo4j stores neither.

    Raises
    ------
    Graph2ImageError
        Naming the node.
    """
    for field in nodes.schema:
        if pa.types.is_list(field.type):
            column = nodes[field.name].combine_chunks()
            flat = pc.is_null(column.flatten())
            if pc.any(flat).as_py():
                row = pc.list_parent_indices(column).filter(flat)[0].as_py()
                raise Graph2ImageError(
                    f"{label} {nodes['id'][row]} has an empty place in its list {field.name!r}, "
                    "which Neo4j cannot store",
                    "Leave such elements out at the source.",
                )
    lengths = pc.binary_length(nodes["id"])
    if nodes.num_rows and pc.max(lengths).as_py() > _LONGEST_ID:
        long = nodes["id"].filter(pc.greater(lengths, _LONGEST_ID))[0].as_py()
        raise Graph2ImageError(f"{label} {long[:80]}… has an id of more than {_LONGEST_ID} bytes")
