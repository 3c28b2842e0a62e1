"""Lines of JSON as rows: what is an object is a row, what is not is a reject."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from ingest.readers.lines import Block
from ingest.records import RejectReason, RejectRecord


def json_rows(block: Block, rejects: list[RejectRecord]) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Number, line and object of each row of `block`; lines that hold no object are added to `rejects`."""
    loads = orjson.loads
    for number, line in enumerate(block.lines, block.first_row):
        try:
            row = loads(line)
        except orjson.JSONDecodeError as error:
            if line.strip():
                rejects.append(RejectRecord(block.file, number, *_problem(line, error), line))
            continue
        if type(row) is dict:
            yield number, line, row
        else:
            detail = "the line holds no JSON object"
            rejects.append(RejectRecord(block.file, number, RejectReason.MALFORMED_ROW, detail, line))


def _problem(line: bytes, error: orjson.JSONDecodeError) -> tuple[RejectReason, str]:
    try:
        line.decode()
    except UnicodeDecodeError:
        return RejectReason.BAD_ENCODING, "the row is not UTF-8 text"
    return RejectReason.MALFORMED_ROW, f"the line is not JSON: {error}"
