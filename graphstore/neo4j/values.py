"""Neo4j's values as Arrow, and Arrow tables as parameters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import neo4j
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
        # What begins with an underscore is the store's own, such as vectors.
        own = {name: item for name, item in value.items() if not name.startswith("_")}
        return {"_LABEL": ":".join(sorted(value.labels)), **_plain(own)}
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


def _typed(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Values of one property, or lists of them, in the type that the schema gives it."""
    if pa.types.is_temporal(type_) or (pa.types.is_list(type_) and pa.types.is_temporal(type_.value_type)):
        values = [_plain(value) for value in values]
    return pa.array(values, type_)


def read_table(transaction: neo4j.Transaction, cypher: str, parameters: dict[str, Any]) -> pa.Table:
    """What a query answers, as `to_table` has it."""
    result = transaction.run(cypher, parameters)
    return to_table(result.keys(), (record.values() for record in result))


def read_chunks(
    transaction: neo4j.Transaction,
    cypher: str,
    parameters: dict[str, Any],
    schema: pa.Schema,
) -> pa.Table:
    """A table of which each record is a part: a list of values per column."""
    parts = [
        pa.record_batch(
            [_typed(values, field.type) for values, field in zip(record, schema, strict=True)], schema=schema
        )
        for record in transaction.run(cypher, parameters)
    ]
    return pa.Table.from_batches(parts, schema)


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
    """Check what Neo4j or its driver cannot take: nulls in lists, years beyond Python's, ids too long for an index.

    Raises
    ------
    Graph2ImageError
        Naming the node.
    """
    for field in nodes.schema:
        column, type_ = nodes[field.name], field.type
        if not pa.types.is_list(type_) and not pa.types.is_temporal(type_):
            continue
        values = column = column.combine_chunks()
        if pa.types.is_list(type_):
            values, type_ = column.flatten(), type_.value_type
            if values.null_count:
                raise Graph2ImageError(
                    f"{label} {_owner(nodes, column, pc.is_null(values))} has an empty place in its list "
                    f"{field.name!r}, which Neo4j cannot store",
                    "Leave such elements out at the source.",
                )
        if pa.types.is_temporal(type_):
            first, last = (pa.scalar(end, type_) for end in (datetime.min, datetime.max))
            outside = pc.fill_null(pc.or_(pc.less(values, first), pc.greater(values, last)), False)
            if pc.any(outside).as_py():
                raise Graph2ImageError(
                    f"{label} {_owner(nodes, column, outside)} has a date in {field.name!r} that is not in the years "
                    "1 to 9999, which cannot be sent to Neo4j",
                    "Leave it out at the source, or give it as text.",
                )
    lengths = pc.binary_length(nodes["id"])
    if nodes.num_rows and pc.max(lengths).as_py() > _LONGEST_ID:
        long = nodes["id"].filter(pc.greater(lengths, _LONGEST_ID))[0].as_py()
        raise Graph2ImageError(f"{label} {long[:80]}… has an id of more than {_LONGEST_ID} bytes")


def _owner(nodes: pa.Table, column: pa.Array, chosen: pa.Array) -> str:
    """Id of the first node of whose values, in `column` or in its lists, one is chosen."""
    rows = pc.list_parent_indices(column) if pa.types.is_list(column.type) else pa.array(range(len(column)))
    owner: str = nodes["id"][rows.filter(chosen)[0].as_py()].as_py()
    return owner
