"""Rows as Arrow columns: how a block of JSON lines becomes a table, and what readers do to its columns.

Parsing a row and looking at each of its values takes Python longer than any other stage of the ingestion. So a block
whose rows are as upstream writes them is parsed by Arrow, which also lets other threads go on, and is handled a column
at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ingest.batches import Edges, edges_where, first_distinct
from ingest.readers.lines import Lines

_STRING = pa.string()
#: White space in a text other than single blanks.
_LOOSE = r"  |[\x00-\x1f\x{85}]|[^\PZ ]"

# -- lines -----------------------------------------------------------------------------------------------------------


def parsed_rows(lines: Lines, schema: pa.Schema, mend: Callable[[bytes], bytes] = bytes) -> pa.Table | None:
    """The fields in `schema` of lines of JSON, each of which is one object; or None if one is anything else.

    `mend` is applied to the text first.
    """
    content, ends = lines.content, lines.ends
    # No object begins on one line and ends on the next: "}" and "{" with nothing between are in no object. So each line
    # has at least one, and if there are as many as lines, exactly one.
    if not (content.startswith(b"{") and content.endswith(b"}")):
        return None
    characters = np.frombuffer(content, np.uint8)
    if not ((characters[ends - 1] == ord("}")).all() and (characters[ends + 1] == ord("{")).all()):
        return None
    whole = pa.py_buffer(np.array([0, len(content)], np.int32))
    try:
        # The parser does not mind what is not UTF-8.
        pa.StringArray.from_buffers(1, whole, pa.py_buffer(content)).validate(full=True)
        table = json_table(mend(content), schema)
    except pa.ArrowException:
        return None
    return table if len(table) == len(lines) else None


def json_table(content: bytes, schema: pa.Schema) -> pa.Table:
    """The fields in `schema` of a text of objects; an ArrowException if there are none, or if one has another type."""
    return pj.read_json(
        pa.BufferReader(content),
        pj.ReadOptions(use_threads=False, block_size=len(content) + 1),
        pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )


def columns_of(table: pa.Table) -> dict[str, pa.Array]:
    """The columns by name, each in one piece."""
    return {name: _whole(table[name]) for name in table.column_names}


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


# -- columns ---------------------------------------------------------------------------------------------------------


def stripped(values: pa.StringArray) -> pa.StringArray:
    """Without blanks around; null where nothing is left."""
    trimmed = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def squeezed(values: pa.StringArray) -> pa.StringArray:
    """`records.squeeze`, and null where nothing is left."""
    texts = stripped(values)
    is_loose = pc.match_substring_regex(texts, _LOOSE).fill_null(False)
    if not is_loose.true_count:
        return texts
    return pc.replace_with_mask(texts, is_loose, pc.binary_join(pc.utf8_split_whitespace(texts.filter(is_loose)), " "))


def mapped(function: Callable[[str], Any], values: pa.StringArray, type_: pa.DataType = _STRING) -> pa.Array:
    """`function` of each value, called once for each distinct one; it may return None."""
    coded = values.dictionary_encode()
    results = pa.array(map(function, coded.dictionary.to_pylist()), type_)
    return results.take(coded.indices)


def where(mask: pa.BooleanArray, values: pa.Array) -> pa.Array:
    """The values, null where `mask` is not true."""
    return pc.if_else(mask, values, pa.scalar(None, values.type))


def prefixed(prefix: str, values: pa.StringArray) -> pa.StringArray:
    """The values with `prefix` before each; several times as fast as joining the two."""
    return pc.binary_replace_slice(values, 0, 0, prefix)


def has_any(lists: pa.ListArray) -> pa.BooleanArray:
    """Whether a list has elements; a null has none."""
    return pc.greater(pc.list_value_length(lists), 0).fill_null(False)


def flat(lists: pa.ListArray) -> tuple[pa.Int32Array, pa.Array]:
    """The elements of all lists, after the number of the list that each is in."""
    return pc.list_parent_indices(lists).cast(pa.int32()), pc.list_flatten(lists)


# -- relations -------------------------------------------------------------------------------------------------------


def edges(
    type_: str,
    label: str | None,
    items: pa.Int32Array,
    targets: pa.StringArray,
    weights: pa.DoubleArray | None = None,
    roles: pa.StringArray | None = None,
) -> Edges:
    """The edges from `items` to those of `targets` that are not blank, without blanks around."""
    targets = stripped(targets)
    return edges_where(
        Edges(type_, label, items, targets.dictionary_encode(), weights, roles),
        targets.is_valid().to_numpy(zero_copy_only=False),
    )


def links(source: str, type_: str, items: pa.Int32Array, targets: pa.StringArray, ids: pa.StringArray) -> Edges:
    """The edges to other items, without those to the item itself and without repeats.

    `ids` are those of all items of the batch. Like `targets` they are the source's own.
    """
    found = edges(type_, None, items, targets)
    codes, dictionary = found.targets.indices, found.targets.dictionary
    is_own = pc.equal(ids.take(found.items), dictionary.take(codes)).to_numpy(zero_copy_only=False)
    item_ids = prefixed(f"{source}:", dictionary)
    return edges_where(
        replace(found, targets=pa.DictionaryArray.from_arrays(codes, item_ids)),
        ~is_own & first_distinct(found.items.to_numpy(), codes.to_numpy()),
    )
