"""Lines of JSON, or of another notation for the same, as rows: an object is a row, anything else is a reject.

One bad character must not cost a row. So what strict parsers refuse and others write is mended: halves of a character
that was written as two escapes, escapes that JSON does not have, control characters, NaN.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from ingest.readers.lines import Block
from ingest.records import RejectReason, RejectRecord

_ESCAPE = re.compile(r'\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]|x([0-9a-fA-F]{2})|(.))', re.DOTALL)


def json_rows(
    block: Block, rejects: list[RejectRecord], decode: Callable[[bytes], Any]
) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Number, line and object of each row of `block`; lines that hold no object are added to `rejects`.

    `decode` makes a value of a line (`decode_json`), or raises a ValueError that says why it cannot.
    """
    for number, line in enumerate(block.lines, block.first_row):
        try:
            row = decode(line)
        except ValueError as error:
            if line.strip():
                rejects.append(RejectRecord(block.file, number, *_problem(line, error), line))
            continue
        if type(row) is dict:
            yield number, line, row
        else:
            detail = "the line holds no object"
            rejects.append(RejectRecord(block.file, number, RejectReason.MALFORMED_ROW, detail, line))


def _problem(line: bytes, error: ValueError) -> tuple[RejectReason, str]:
    try:
        line.decode()
    except UnicodeDecodeError:
        return RejectReason.BAD_ENCODING, "the row is not UTF-8 text"
    detail = f"the line is not JSON: {error}" if isinstance(error, orjson.JSONDecodeError) else str(error)
    return RejectReason.MALFORMED_ROW, detail


def decode_json(line: bytes) -> Any:
    """The value of a line of JSON.

    A pair of escaped surrogates is one character, half of one is U+FFFD; NaN and infinity are null. An escape that JSON
    does not have stays as it is written, but for `\\x41` and `\\'`.

    Raises
    ------
    orjson.JSONDecodeError
        If it is none all the same.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            text = _ESCAPE.sub(_as_json, line.decode().removeprefix("\ufeff"))
            value = json.loads(text, strict=False, parse_int=_integer, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            raise error from None
        return whole_characters(value)


def _as_json(escape: re.Match[str]) -> str:
    if escape[1]:
        return f"\\u00{escape[1]}"
    if escape[2]:
        return "'" if escape[2] == "'" else f"\\\\{escape[2]}"
    return escape[0]


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)


def whole_characters(value: Any) -> Any:
    """A value whose texts have no surrogates: a pair is the character that it stands for, any other U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [whole_characters(element) for element in value]
    if isinstance(value, tuple):
        return tuple(whole_characters(element) for element in value)
    if isinstance(value, dict):
        return {whole_characters(key): whole_characters(element) for key, element in value.items()}
    return value
