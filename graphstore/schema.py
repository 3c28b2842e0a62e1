"""The graph schema: which names and types are allowed, and the tables that graph2image itself keeps in every store.

Items (`Artwork`, `Product`, `Book`, or the label of a table spec) and entities (`Artist`, `Genre`, `Brand` …) get their
labels, relation types and properties from the Parquet datasets when they are loaded. What is fixed here:

- every item has `ITEM_PROPERTIES`, every entity `ENTITY_PROPERTIES`; one label per node;
- every relation has `RELATION_PROPERTIES`: a weight, and a role where its end takes part in a way of its own (an
  artwork may be `CREATED_BY` an artist only in the role of "after");
- lineage: `(:GeneratedImage)-[:CONDITIONED_ON {weight, rank}]->(item)`, `-[:GENERATED_FOR]->(item)`,
  `-[:GENERATED_BY]->(:Model)-[:TRAINED_ON]->(:Snapshot)`, where a `Snapshot`'s id is a graph version;
- the registry of models: `(:Promotion)-[:PROMOTED]->(:Model {status, metrics, stale})-[:REPLACED_BY]->(:Model)`, see
  `graphstore.registry`;
- bookkeeping: one `LoadedSource` per source says what was loaded, one `OptOut` per withdrawn item or entity.

What may be a name is in `ingest.datasets.names`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from ingest.datasets.names import (
    CONDITIONED_ON,
    GENERATED_BY,
    GENERATED_FOR,
    GENERATED_IMAGE,
    LOADED_SOURCE,
    MODEL,
    OPT_OUT,
    PROMOTED,
    PROMOTION,
    REPLACED_BY,
    SNAPSHOT,
    TRAINED_ON,
    check_identifier,
)
from ingest.errors import Graph2ImageError

ITEM_PROPERTIES = pa.schema(
    [
        ("id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("image_hash", pa.string()),
        ("image_ref", pa.string()),
        ("split", pa.string()),
        ("group_id", pa.string()),
        ("opted_out", pa.bool_()),
    ]
)
ENTITY_PROPERTIES = pa.schema([("id", pa.string()), ("name", pa.string()), ("opted_out", pa.bool_())])
RELATION_PROPERTIES = pa.schema([("weight", pa.float64()), ("role", pa.string())])

_TIMESTAMP = pa.timestamp("us")

#: Labels that graph2image keeps for itself, with their properties.
SYSTEM_LABELS: dict[str, pa.Schema] = {
    GENERATED_IMAGE: pa.schema(
        [
            ("id", pa.string()),
            ("variant", pa.string()),
            ("seed", pa.int64()),
            ("settings", pa.string()),
            ("image_path", pa.string()),
            ("stale", pa.bool_()),
        ]
    ),
    MODEL: pa.schema(
        [
            ("id", pa.string()),
            ("preset", pa.string()),
            ("created_at", _TIMESTAMP),
            ("status", pa.string()),
            ("metrics", pa.string()),
            ("stale", pa.bool_()),
        ]
    ),
    PROMOTION: pa.schema(
        [
            ("id", pa.string()),
            ("number", pa.int64()),
            ("action", pa.string()),
            ("reason", pa.string()),
            ("created_at", _TIMESTAMP),
        ]
    ),
    SNAPSHOT: pa.schema(
        [
            ("id", pa.string()),
            ("created_at", _TIMESTAMP),
            ("items", pa.int64()),
            ("entities", pa.int64()),
            ("relations", pa.int64()),
        ]
    ),
    LOADED_SOURCE: pa.schema(
        [
            ("id", pa.string()),
            ("items_digest", pa.string()),
            ("entities_digest", pa.string()),
            ("relations_digest", pa.string()),
            ("gone_digest", pa.string()),
            ("item_labels", pa.list_(pa.string())),
            ("entity_labels", pa.list_(pa.string())),
            ("items", pa.int64()),
            ("entities", pa.int64()),
            ("relations", pa.int64()),
            ("pending", pa.int64()),
            ("rejects", pa.int64()),
            ("items_gone", pa.int64()),
            ("entities_gone", pa.int64()),
            ("loaded_at", _TIMESTAMP),
            ("loading", pa.bool_()),
        ]
    ),
    OPT_OUT: pa.schema([("id", pa.string()), ("created_at", _TIMESTAMP), ("reason", pa.string())]),
}

#: Relations between system labels; `CONDITIONED_ON` and `GENERATED_FOR` lead to items and are made with their labels.
SYSTEM_RELATIONS: dict[str, tuple[str, str]] = {
    GENERATED_BY: (GENERATED_IMAGE, MODEL),
    TRAINED_ON: (MODEL, SNAPSHOT),
    PROMOTED: (PROMOTION, MODEL),
    REPLACED_BY: (MODEL, MODEL),
}
ITEM_LINEAGE_RELATIONS: dict[str, pa.Schema] = {
    CONDITIONED_ON: pa.schema([("weight", pa.float64()), ("rank", pa.int64())]),
    GENERATED_FOR: pa.schema([]),
}
#: Every property that a relation may have.
RELATION_PROPERTY_TYPES: dict[str, pa.DataType] = {"weight": pa.float64(), "role": pa.string(), "rank": pa.int64()}

#: The types that properties have, by the names that both stores' schemas give them.
TYPE_NAMES: dict[pa.DataType, str] = {
    pa.string(): "STRING",
    pa.bool_(): "BOOL",
    pa.int64(): "INT64",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    _TIMESTAMP: "TIMESTAMP",
}
TYPE_NAMES |= {pa.list_(arrow_type): f"{name}[]" for arrow_type, name in TYPE_NAMES.items()}
ARROW_TYPES = {name: arrow_type for arrow_type, name in TYPE_NAMES.items()}


@dataclass(frozen=True)
class LabelInfo:
    """A label: `kind` is `item`, `entity` or `system`; `properties` maps names to `TYPE_NAMES`."""

    name: str
    kind: str
    count: int
    properties: dict[str, str]


@dataclass(frozen=True)
class RelationInfo:
    """The relations of one type between two labels."""

    type: str
    from_label: str
    to_label: str
    count: int


@dataclass(frozen=True)
class GraphSchema:
    """What there is in a store."""

    labels: tuple[LabelInfo, ...]
    relations: tuple[RelationInfo, ...]


def new_properties(label: str, known: pa.Schema, wanted: pa.Schema) -> list[pa.Field]:
    """The fields of `wanted` that a label with the properties `known` does not have yet.

    Raises
    ------
    Graph2ImageError
        If one differs from a known one in upper and lower case alone.
    """
    by_lower_case = {name.lower(): name for name in known.names}
    new = []
    for field in wanted:
        existing = by_lower_case.get(check_identifier(field.name, "property").lower())
        if existing is None:
            new.append(field)
        elif existing != field.name:
            raise Graph2ImageError(
                f"{label} has property {existing!r} already, which {field.name!r} cannot be told from"
            )
    return new


def conform(nodes: pa.Table, properties: pa.Schema, label: str) -> pa.Table:
    """`nodes` in the types that the store has for their columns; no store would check them well itself.

    Raises
    ------
    Graph2ImageError
        If a column has another type, or a number does not fit.
    """
    fields = []
    for field in nodes.schema:
        wanted = properties.field(field.name).type
        numbers = {field.type, wanted} == {pa.int64(), pa.float64()}
        if field.type != wanted and not numbers and not pa.types.is_null(field.type):
            raise Graph2ImageError(
                f"property {label}.{field.name} holds {TYPE_NAMES[wanted]}, but the column now has {field.type}",
                "Give the column another name, or load into a new store.",
            )
        fields.append(pa.field(field.name, wanted))
    try:
        return nodes.cast(pa.schema(fields))
    except pa.ArrowInvalid as error:
        raise Graph2ImageError(f"a value of {label} does not fit its property's type: {error}") from error


def property_type(arrow_type: pa.DataType, name: str) -> pa.DataType:
    """The Arrow type in which a property is stored: string, bool, int64, float64, date32, timestamp[us], list of these.

    Raises
    ------
    Graph2ImageError
        If the type has no such form, e.g. a struct, or a list of lists.
    """
    if pa.types.is_dictionary(arrow_type):
        return property_type(arrow_type.value_type, name)
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        value_type = property_type(arrow_type.value_type, name)
        if not pa.types.is_list(value_type):
            return pa.list_(value_type)
    if pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_null(arrow_type):
        return pa.string()
    if pa.types.is_boolean(arrow_type):
        return pa.bool_()
    if pa.types.is_integer(arrow_type):
        return pa.int64()
    if pa.types.is_floating(arrow_type):
        return pa.float64()
    if pa.types.is_date(arrow_type):
        return pa.date32()
    if pa.types.is_timestamp(arrow_type):
        return _TIMESTAMP
    raise Graph2ImageError(f"column {name!r} has type {arrow_type}, which a graph property cannot have")
