"""Values of any type as text: what is in a cell of Parquet, or under a key of JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

import pyarrow as pa


def scalar_text(value: object) -> str | None:
    """The text of a value as a person would write it; None for null and for what is no number.

    A float that is whole is an integer: `101.0` is what became of the id 101 in a column that also has nulls.

    Raises
    ------
    TypeError
        If it has no text: an object, a list, a duration.
    UnicodeDecodeError
        If it is bytes that are not UTF-8.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | UUID):
        return str(value)
    if isinstance(value, float | Decimal):
        if math.isnan(value):
            return None
        if math.isfinite(value) and value == int(value) and abs(int(value)) < 1 << 63:
            return str(int(value))
        return format(value, "f") if isinstance(value, Decimal) else str(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def json_text(value: object) -> str | None:
    """The text of a value in JSON, blanks around it removed; None for what has none, and for a blank one."""
    if isinstance(value, dict | list):
        return None
    text = scalar_text(value)
    return text.strip() or None if text is not None else None


def cell_text(value: object) -> str:
    """A cell as text: nothing for null, the elements of a list separated by commas; raises as `scalar_text`."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(text for element in value if (text := scalar_text(element) or ""))
    return scalar_text(value) or ""


def has_text(type_: pa.DataType) -> bool:
    """Whether `cell_text` can make text of the values of an Arrow type."""
    types = pa.types
    if types.is_dictionary(type_):
        return has_text(type_.value_type)
    if isinstance(type_, pa.BaseExtensionType):
        return has_text(type_.storage_type)
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        return has_text(type_.value_type) and not types.is_list(type_.value_type)
    return not (types.is_nested(type_) or types.is_duration(type_) or types.is_interval(type_))
