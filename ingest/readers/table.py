"""Reader of anybody's table, as a spec (`ingest.readers.tablespec`) describes it: CSV, TSV, JSON lines or Parquet.

Text cells are text. Nothing is guessed: no value is taken for a null, a number or a date unless the spec says so.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.errors import Graph2ImageError
from ingest.readers.files import TextFile, explain_read_errors, is_text, open_text
from ingest.readers.tablespec import (
    ColumnSpec,
    EntitySpec,
    TableSpec,
    as_text,
)
from ingest.records import ColumnValue, EntityLink, ItemLink, ItemRecord, Record, RejectReason, RejectRecord, squeeze

#: Rows of a JSON-lines file that are looked at to learn its columns, since any key may be absent from any row.
HEAD_ROWS = 1000

#: A longer field of a CSV is a missing quote, not a field.
MAX_FIELD_CHARACTERS = 1 << 24

ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}

_SPLIT_NAMES = {name: name for name in ("train", "val", "test")} | dict.fromkeys(("validation", "valid", "dev"), "val")

_Row = Mapping[str, object]


class _BadRowError(Exception):
    def __init__(self, reason: RejectReason, detail: str, raw: str | _Row | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.raw = raw


def column_schema(spec: TableSpec) -> pa.Schema:
    """Arrow schema of the columns that the spec keeps, in its order."""
    return pa.schema([pa.field(name, ARROW_TYPES[c.type]) for name, c in spec.item.columns.items()])


def read_table(spec: TableSpec, root: Path) -> Iterator[Record]:
    """Yield one record per row of the spec's table.

    Raises
    ------
    Graph2ImageError
        If the file is missing, or the spec names a column that it does not have.
    """
    path = root / spec.table.file
    rows = {"csv": _csv_rows, "tsv": _tsv_rows, "jsonl": _json_rows, "parquet": _parquet_rows}[
        spec.table.resolved_format()
    ]
    to_item = _item_maker(spec)
    with explain_read_errors(path):
        for number, row in rows(path, spec):
            try:
                if isinstance(row, _BadRowError):
                    raise row
                yield to_item(number, row)
            except _BadRowError as bad:
                raw = bad.raw if bad.raw is not None else row
                assert not isinstance(raw, _BadRowError)
                yield RejectRecord(spec.table.file, number, bad.reason, bad.detail, raw)


# -- rows of a file ----------------------------------------------------------------------------------------------------


def _check_columns(spec: TableSpec, columns: list[str], path: Path) -> None:
    present = set(columns)
    problems = []
    for column, key in spec.columns_used().items():
        if column not in present:
            close = difflib.get_close_matches(column, columns, 1, 0.5)
            problems.append(f"{key} uses column {column!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    if problems:
        raise Graph2ImageError(
            f"the spec does not fit {path.name}: {'; '.join(problems)}",
            f"Columns of {path.name}: {', '.join(columns)}",
        )


def _csv_rows(path: Path, spec: TableSpec) -> Iterator[tuple[int, _Row | _BadRowError]]:
    with open_text(path, spec.table.encoding, newline="") as stream:
        yield from _delimited_rows(stream, ",", path, spec)


def _tsv_rows(path: Path, spec: TableSpec) -> Iterator[tuple[int, _Row | _BadRowError]]:
    with open_text(path, spec.table.encoding, newline="") as stream:
        yield from _delimited_rows(stream, "\t", path, spec)


def _delimited_rows(
    stream: TextFile, delimiter: str, path: Path, spec: TableSpec
) -> Iterator[tuple[int, _Row | _BadRowError]]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    try:
        header = [squeeze(name) for name in next(reader)]
    except StopIteration:
        raise Graph2ImageError(f"{path} is empty: it has no line of column names") from None
    except csv.Error as error:
        raise Graph2ImageError(f"{path}: cannot parse the line of column names: {error}") from error
    twice = {name for name in header if header.count(name) > 1}
    if twice & set(spec.columns_used()):
        raise Graph2ImageError(f"{path} has two columns named {sorted(twice)[0]!r}")
    _check_columns(spec, header, path)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            if stream.damage is not None:
                yield line, _BadRowError(RejectReason.FILE_DAMAGED, stream.damage, "")
            return
        except csv.Error as error:
            yield line, _BadRowError(RejectReason.MALFORMED_ROW, str(error), "")
            continue
        if not cells:  # a blank line
            continue
        if len(cells) != len(header):
            detail = f"{len(cells)} fields instead of {len(header)}"
            yield line, _BadRowError(RejectReason.MALFORMED_ROW, detail, delimiter.join(cells))
        elif not all(map(is_text, cells)):
            detail = f"the row is not {spec.table.encoding} text"
            yield line, _BadRowError(RejectReason.BAD_ENCODING, detail, delimiter.join(cells))
        else:
            yield line, dict(zip(header, cells, strict=True))


def _json_rows(path: Path, spec: TableSpec) -> Iterator[tuple[int, _Row | _BadRowError]]:
    with open_text(path, spec.table.encoding) as stream:
        rows = _json_lines(stream)
        head = list(itertools.islice(rows, HEAD_ROWS))
        seen = {column: None for _, row in head if not isinstance(row, _BadRowError) for column in row}
        if not seen:
            raise Graph2ImageError(f"{path} has no JSON object in its first {HEAD_ROWS} lines")
        _check_columns(spec, list(seen), path)
        yield from itertools.chain(head, rows)


def _json_lines(stream: TextFile) -> Iterator[tuple[int, _Row | _BadRowError]]:
    number = 0
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield number, _json_row(line)
    if stream.damage is not None:
        yield number + 1, _BadRowError(RejectReason.FILE_DAMAGED, stream.damage, "")


def _json_row(line: str) -> _Row | _BadRowError:
    if not is_text(line):
        return _BadRowError(RejectReason.BAD_ENCODING, "the row is not text in the declared encoding", line)
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return _BadRowError(RejectReason.MALFORMED_ROW, f"no JSON: {error}", line)
    if not isinstance(row, dict):
        return _BadRowError(RejectReason.MALFORMED_ROW, "the line is no JSON object", line)
    return row


def _parquet_rows(path: Path, spec: TableSpec) -> Iterator[tuple[int, _Row | _BadRowError]]:
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(spec, file.schema_arrow.names, path)
            number = itertools.count(1)
            for batch in file.iter_batches(batch_size=8192, columns=list(spec.columns_used())):
                for row in batch.to_pylist():
                    yield next(number), row
    except pa.ArrowInvalid as error:
        raise Graph2ImageError(f"{path} is no readable Parquet file: {error}") from error


# -- from a row to an item ---------------------------------------------------------------------------------------------


def _item_maker(spec: TableSpec) -> Callable[[int, _Row], ItemRecord]:
    item = spec.item
    text_template = item.text or item.title
    patterns = [re.compile(entity.pattern) if entity.pattern else None for entity in spec.entity]

    def make(number: int, row: _Row) -> ItemRecord:
        identifier = item.id.render(row)
        if not all(as_text(row.get(column)).strip() for column in item.id.columns):
            raise _BadRowError(RejectReason.MISSING_ID, f"no value for the id {item.id.source!r}")
        image_refs: tuple[str, ...] = ()
        if spec.image is not None:
            image_refs = tuple(itertools.islice(spec.image.path.values(row), 1))
            if not image_refs:
                raise _BadRowError(RejectReason.IMAGE_MISSING, f"no value for the path {spec.image.path.source!r}")
        group = next(item.group.values(row), None) if item.group is not None else None
        return ItemRecord(
            row=number,
            file=spec.table.file,
            item_id=f"{spec.source}:{identifier}",
            label=item.label,
            title=item.title.render(row) or None,
            text=remove_words(text_template.render(row), [as_text(row.get(c)) for c in item.remove_from_text]) or None,
            raw=row,
            image_refs=image_refs,
            entities=tuple(
                EntityLink(entity.label, name, entity.relation)
                for entity, pattern in zip(spec.entity, patterns, strict=True)
                for name in _entity_names(entity, pattern, row)
            ),
            links=tuple(
                ItemLink(link.relation, f"{spec.source}:{target}")
                for link in spec.link
                for target in link.target.values(row, link.separator)
            ),
            columns={name: _convert(name, column, row) for name, column in item.columns.items()},
            group=group,
            split=_split(spec.split.column, row),
        )

    return make


def _entity_names(entity: EntitySpec, pattern: re.Pattern[str] | None, row: _Row) -> Iterator[str]:
    for value in entity.value.values(row, entity.separator):
        if pattern is None:
            yield value
        elif (found := pattern.search(value)) and (name := squeeze(found[1 if pattern.groups else 0] or "")):
            yield name


def _split(column: str | None, row: _Row) -> str | None:
    if column is None:
        return None
    value = as_text(row.get(column)).strip()
    if value.lower() not in _SPLIT_NAMES:
        raise _BadRowError(RejectReason.BAD_VALUE, f"{column}: {value!r} is no split (train, val or test)")
    return _SPLIT_NAMES[value.lower()]


def _convert(name: str, spec: ColumnSpec, row: _Row) -> ColumnValue:
    source = spec.column or name
    value = row.get(source)
    text = as_text(value).strip()
    if spec.type == "string":
        return as_text(value) if value is not None else None
    if not text:
        return None
    try:
        match spec.type:
            case "int":
                return _whole_number(text)
            case "float":
                return float(text)
            case "bool":
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
    except (ValueError, KeyError, OverflowError):
        raise _BadRowError(RejectReason.BAD_VALUE, f"{source}: {text[:200]!r} is no {spec.type}") from None


def _whole_number(text: str) -> int:
    """`"1928"`, and the `"1928.0"` that a spreadsheet makes of it; must fit 64 bits."""
    number = int(text) if text.lstrip("+-").isdecimal() else float(text)
    if number != int(number) or not -(2**63) <= number < 2**63:
        raise ValueError(text)
    return int(number)


def remove_words(text: str, phrases: list[str]) -> str:
    """`text` without the phrases, and then without each of their words, in any case; whole words only.

    >>> remove_words("Nike Men Navy T-shirt with blue-ish Navy Blue print", ["Navy Blue"])
    'Nike Men T-shirt with blue-ish print'
    """
    wanted = [re.escape(squeeze(phrase)) for phrase in phrases if phrase.strip()]
    wanted += [re.escape(word) for phrase in phrases for word in phrase.split()]
    if not wanted:
        return text
    return squeeze(re.sub(rf"(?<![\w-])(?:{'|'.join(wanted)})(?![\w-])", "", text, flags=re.IGNORECASE))
