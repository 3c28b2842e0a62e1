"""Lines of JSON, or of another notation for the same, as rows: an object is a row, anything else is a reject."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from ingest.readers.lines import Block
from ingest.records import RejectReason, RejectRecord


def json_rows(
    block: Block, rejects: list[RejectRecord], decode: Callable[[bytes], Any] = orjson.loads
) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Number, line and object of each row of `block`; lines that hold no object are added to `rejects`.

    `decode` makes a value of a line, or raises a ValueError that says why it cannot.
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
