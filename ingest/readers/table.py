"""Reader of your table, as a spec (`ingest.readers.tablespec`) describes it: CSV, TSV, JSON lines or Parquet.

Text cells are text: no value is taken for a null, a number or a date unless the spec says so. Only titles and texts,
which people and the model read, are what a browser would show of them (`ingest.readers.markup`). Cells of other types
are text as a person would write them (`ingest.readers.values`).
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.errors import Graph2ImageError
from ingest.readers.delimited import DelimitedRow, Format, find_header, read_delimited
from ingest.readers.files import TextFile, explain_read_errors, is_text, open_text, printable
from ingest.readers.jsonrows import decode_json
from ingest.readers.markup import visible_text
from ingest.readers.tablespec import (
    CellError,
    ColumnSpec,
    EntitySpec,
    TableSpec,
    text_of,
)
from ingest.readers.values import has_text
from ingest.records import ColumnValue, EntityLink, ItemLink, ItemRecord, Record, RejectReason, RejectRecord, squeeze

ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}

_SPLIT_NAMES = {name: name for name in ("train", "val", "test")} | dict.fromkeys(("validation", "valid", "dev"), "val")

_Row = Mapping[str, object]


@dataclass(frozen=True)
class _BadRow:
    """A line that is no row."""

    reason: RejectReason
    detail: str
    raw: str


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
            if isinstance(row, _BadRow):
                yield RejectRecord(spec.table.file, number, row.reason, row.detail, row.raw)
                continue
            try:
                yield to_item(number, row)
            except CellError as error:
                yield RejectRecord(spec.table.file, number, error.reason, str(error), row)


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
            f"Columns of {path.name}: {printable(', '.join(columns), 500)}",
        )


def _csv_rows(path: Path, spec: TableSpec) -> Iterator[tuple[int, _Row | _BadRow]]:
    return _delimited_rows(path, spec, ",")


def _tsv_rows(path: Path, spec: TableSpec) -> Iterator[tuple[int, _Row | _BadRow]]:
    return _delimited_rows(path, spec, "\t")


def _delimited_rows(path: Path, spec: TableSpec, delimiter: str) -> Iterator[tuple[int, _Row | _BadRow]]:
    format_ = Format(delimiter, spec.table.quoted, spec.table.encoding)
    used = spec.columns_used().keys()
    found = find_header(path, format_, lambda cells: used <= set(map(squeeze, cells)))
    if found is None:
        raise Graph2ImageError(f"{path} is empty: it has no line of column names")
    if isinstance(found, DelimitedRow):
        if found.cells is None:
            raise Graph2ImageError(f"{path}: cannot parse the line of column names: {found.detail}")
        _check_columns(spec, list(map(squeeze, found.cells)), path)
        return
    header = list(map(squeeze, found[1]))
    twice = {name for name in header if header.count(name) > 1}
    if twice & used:
        raise Graph2ImageError(f"{path} has two columns named {sorted(twice & used)[0]!r}")
    for row in read_delimited(path, format_, *found):
        if row.cells is None:
            yield row.line, _BadRow(row.reason, row.detail, row.raw)
        else:
            yield row.line, dict(zip(header, row.cells, strict=True))


def _json_rows(path: Path, spec: TableSpec) -> Iterator[tuple[int, _Row | _BadRow]]:
    # Any key may be absent from any row: the file is read until each column that is used has been seen.
    seen: dict[str, None] = {}
    with open_text(path, spec.table.encoding) as stream:
        for _, row in _json_lines(stream):
            if not isinstance(row, _BadRow):
                seen |= dict.fromkeys(row)
                if spec.columns_used().keys() <= seen.keys():
                    break
    if not seen:
        raise Graph2ImageError(f"{path} has no JSON object in any line")
    _check_columns(spec, list(seen), path)
    with open_text(path, spec.table.encoding) as stream:
        yield from _json_lines(stream)


def _json_lines(stream: TextFile) -> Iterator[tuple[int, _Row | _BadRow]]:
    number = 0
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield number, _json_row(line)
    if stream.damage is not None:
        yield number + 1, _BadRow(RejectReason.FILE_DAMAGED, stream.damage, "")


def _json_row(line: str) -> _Row | _BadRow:
    if not is_text(line):
        return _BadRow(RejectReason.BAD_ENCODING, "the row is not text in the declared encoding", line)
    try:
        row = decode_json(line.encode())
    except ValueError as error:
        return _BadRow(RejectReason.MALFORMED_ROW, f"no JSON: {error}", line)
    if not isinstance(row, dict):
        return _BadRow(RejectReason.MALFORMED_ROW, "the line is no JSON object", line)
    return row


def _parquet_rows(path: Path, spec: TableSpec) -> Iterator[tuple[int, _Row | _BadRow]]:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check_columns(spec, schema.names, path)
            for column, key in spec.columns_used().items():
                if not has_text(type_ := schema.field(column).type):
                    raise Graph2ImageError(
                        f"the spec does not fit {path.name}: {key} uses column {column!r}, of type {type_}, which is "
                        "no text",
                        "Use another column, or write this one as text, numbers, dates, or lists of those.",
                    )
            number = itertools.count(1)
            for batch in file.iter_batches(batch_size=8192, columns=list(spec.columns_used())):
                for row in pa.table([_readable(column) for column in batch], names=batch.schema.names).to_pylist():
                    yield next(number), row
    except pa.ArrowException as error:
        raise Graph2ImageError(f"{path} is no readable Parquet file: {error}") from error


def _readable(column: pa.Array) -> pa.Array:
    """A column whose values Python can hold: it has no nanoseconds."""
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    if isinstance(column, pa.ExtensionArray) and not isinstance(column.type, pa.UuidType):
        column = column.storage
    if pa.types.is_timestamp(column.type) or pa.types.is_time64(column.type):
        unit = pa.timestamp("us", column.type.tz) if pa.types.is_timestamp(column.type) else pa.time64("us")
        return column.cast(unit, safe=False)
    return column


# -- from a row to an item ---------------------------------------------------------------------------------------------


def _item_maker(spec: TableSpec) -> Callable[[int, _Row], ItemRecord]:
    item = spec.item
    text_template = item.text or item.title
    patterns = [re.compile(entity.pattern) if entity.pattern else None for entity in spec.entity]

    def make(number: int, row: _Row) -> ItemRecord:
        identifier = item.id.render(row)
        if not all(text_of(row, column).strip() for column in item.id.columns):
            raise CellError(RejectReason.MISSING_ID, f"no value for the id {item.id.source!r}")
        image_refs: tuple[str, ...] = ()
        if spec.image is not None:
            image_refs = tuple(itertools.islice(spec.image.path.values(row), 1))
            if not image_refs:
                raise CellError(RejectReason.IMAGE_MISSING, f"no value for the path {spec.image.path.source!r}")
        group = next(item.group.values(row), None) if item.group is not None else None
        return ItemRecord(
            row=number,
            file=spec.table.file,
            item_id=f"{spec.source}:{identifier}",
            label=item.label,
            title=visible_text(item.title.render(row)),
            text=remove_words(
                visible_text(text_template.render(row)) or "",
                [visible_text(text_of(row, column)) or "" for column in item.remove_from_text],
            )
            or None,
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
    if pattern is None:
        yield from entity.value.values(row, entity.separator, visible_text)
        return
    for value in entity.value.values(row, entity.separator):  # a pattern may look for markup
        if (found := pattern.search(value)) and (name := visible_text(found[1 if pattern.groups else 0] or "")):
            yield name


def _split(column: str | None, row: _Row) -> str | None:
    if column is None:
        return None
    value = text_of(row, column).strip()
    if value.lower() not in _SPLIT_NAMES:
        raise CellError(RejectReason.BAD_VALUE, f"{column}: {value!r} is no split (train, val or test)")
    return _SPLIT_NAMES[value.lower()]


def _convert(name: str, spec: ColumnSpec, row: _Row) -> ColumnValue:
    source = spec.column or name
    value = text_of(row, source)
    text = value.strip()
    if spec.type == "string":
        return value if row.get(source) is not None else None
    if not text or text.lower() == "nan":
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
        raise CellError(RejectReason.BAD_VALUE, f"{source}: {text[:200]!r} is no {spec.type}") from None


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
