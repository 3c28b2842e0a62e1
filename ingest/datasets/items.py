"""The items of all sources as one table, and what they are related to: the only reader of `items/<source>`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import ITEM_SCHEMA
from ingest.errors import Graph2ImageError

#: Texts in 64-bit offsets: those of millions of items exceed two gigabytes.
_LARGE = {"title", "text"}


def read_items(
    data: DataRoot,
    columns: Sequence[str],
    *,
    where: pc.Expression | None = None,
    sources: Sequence[str] | None = None,
) -> pa.Table:
    """Rows of the items of all sources, or of some.

    Parameters
    ----------
    columns
        Columns of `ITEM_SCHEMA`; and `source`, the name of the source.
    where
        Which rows, by columns of `ITEM_SCHEMA`.

    Returns
    -------
    pyarrow.Table
        `title` and `text` are `large_string`, `source` is a dictionary. Without any source it has no rows.

    Raises
    ------
    Graph2ImageError
        If one of `sources` was never ingested.
    """
    stored = [column for column in columns if column != "source"]
    schema = pa.schema([_field(name) for name in stored])
    names = [f"items/{source}" for source in sources] if sources is not None else data.names("items")
    tables = [_empty(schema)]
    for name in names:
        table = data.dataset(name).to_table(columns=stored, filter=where).cast(schema)
        source = pa.DictionaryArray.from_arrays(np.zeros(table.num_rows, np.int32), [name.split("/", 1)[1]])
        tables.append(table.append_column("source", source))
    return pa.concat_tables(tables).unify_dictionaries().select(list(columns))


def require_items(data: DataRoot) -> None:
    """Raise a `Graph2ImageError` if nothing was ingested yet."""
    if not data.names("items"):
        raise Graph2ImageError(f"there are no items under {data.url} yet", "Run `graph2image ingest` first.")


def read_items_by_id(data: DataRoot, item_ids: Iterable[str], columns: Sequence[str]) -> dict[str, dict[str, object]]:
    """Rows of those of the named items that there are, by item id."""
    table = read_items(data, ["item_id", *columns], where=among("item_id", item_ids))
    return {row["item_id"]: row for row in table.to_pylist()}


def item_texts(data: DataRoot, item_ids: Iterable[str]) -> dict[str, str]:
    """Texts of those of the items that there are, by item id; empty for an item without one."""
    table = read_items(data, ["item_id", "text"], where=among("item_id", item_ids))
    return dict(zip(table["item_id"].to_pylist(), pc.fill_null(table["text"], "").to_pylist(), strict=True))


def read_entities(data: DataRoot, *, where: pc.Expression | None = None) -> pa.Table:
    """Columns `entity_id`, `label` and `name` of the entities of all sources; one of several sources is there once."""
    columns = ["entity_id", "label", "name"]
    schema = pa.schema([(column, pa.string()) for column in columns])
    tables = [data.dataset(name).to_table(columns, filter=where).cast(schema) for name in data.names("entities")]
    table = pa.concat_tables([schema.empty_table(), *tables])
    _, first = np.unique(np.asarray(table["entity_id"].to_pylist(), object), return_index=True)
    return table.take(np.sort(first))


def item_entities(data: DataRoot, item_ids: pa.Array, entity_ids: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Relations from items to entities, as places in the two arrays; relations to anything else are left out.

    Returns
    -------
    items, entities
        int32, a pair for each relation, in the order of the datasets.
    """
    schema = pa.schema([("from_id", pa.string()), ("to_id", pa.string())])
    tables = [data.read(name, ["from_id", "to_id"]).cast(schema) for name in data.names("relations")]
    relations = pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
    items = pc.index_in(relations["from_id"], value_set=item_ids)
    entities = pc.index_in(relations["to_id"], value_set=entity_ids)
    both = pc.and_(pc.is_valid(items), pc.is_valid(entities))
    return items.filter(both).combine_chunks(), entities.filter(both).combine_chunks()


def among(column: str, values: Iterable[str]) -> pc.Expression:
    """Filter: `column` is one of `values`, of which there may be none."""
    return pc.field(column).isin(pa.array(list(values), pa.string()))


def _field(name: str) -> pa.Field:
    field = ITEM_SCHEMA.field(name)
    return field.with_type(pa.large_string()) if name in _LARGE else field


def _empty(schema: pa.Schema) -> pa.Table:
    return schema.append(pa.field("source", pa.dictionary(pa.int32(), pa.string()))).empty_table()
