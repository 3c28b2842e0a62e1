"""The format of `SPEC.toml`: how the rows of your table become items, entities and relations.

Everything that a row supplies is written as a template of its columns, such as `"{color} {article_type}"`; one column
is the template `"{color}"`. `{{` and `}}` are literal braces. Nothing else of Python's format language is understood,
so a spec can only ever name columns. `examples/fashion.toml` shows most of it.

All paths are relative to the root folder that is given along with the spec.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    model_validator,
)

from ingest.datasets.names import GraphNames
from ingest.datasets.schemas import ITEM_SCHEMA
from ingest.errors import Graph2ImageError, explain_validation
from ingest.readers.values import cell_text
from ingest.records import RejectReason, squeeze

#: Suffixes that may follow that of a text format.
PACKED = (".gz", ".zst", ".bz2", ".xz")

#: Formats of the table, by file name suffix.
FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}

ColumnType = Literal["string", "int", "float", "bool"]

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class Template:
    """A text with column names in braces.

    Parameters
    ----------
    source
        The template as written.
    parts
        Literal texts (even positions) and column names (odd positions), alternating.
    """

    source: str
    parts: tuple[str, ...]

    @classmethod
    def parse(cls, source: object) -> Template:
        """Raises ValueError when `source` is no text, has an unmatched brace, or names no column."""
        if not isinstance(source, str):
            raise ValueError(f'expected a template such as "{{column}}", not {source!r}')  # noqa: TRY004 (pydantic's)
        parts = [""]
        position = 0
        for match in _PLACEHOLDER.finditer(source):
            parts[-1] += source[position : match.start()]
            position = match.end()
            if match[0] in ("{{", "}}"):
                parts[-1] += match[0][0]
            elif match[1]:
                parts += [match[1], ""]
            else:
                raise ValueError(f"{source!r} has a brace without a column name; write {{{{ or }}}} for a literal one")
        parts[-1] += source[position:]
        if len(parts) == 1:
            raise ValueError(f'{source!r} names no column; did you mean "{{{source}}}"?')
        return cls(source, tuple(parts))

    @property
    def columns(self) -> tuple[str, ...]:
        return self.parts[1::2]

    def render(self, row: Mapping[str, object]) -> str:
        """The text for one row, white space squeezed; an empty or absent value leaves nothing."""
        return squeeze("".join(text_of(row, p) if i % 2 else p for i, p in enumerate(self.parts)))

    def values(
        self, row: Mapping[str, object], separator: str | None = None, clean: Callable[[str], str | None] | None = None
    ) -> Iterator[str]:
        """The row's values: split at `separator`, or the elements of a list column; none if a column is empty.

        `"{color} {article_type}"` of a row without color has no value, rather than half of one. What is split is
        what `clean` makes of it: an entity such as `&amp;` has a separator in it.
        """
        cells = [row.get(column) for column in self.columns]
        if len(cells) == 1 and isinstance(cells[0], list | tuple):
            column = self.columns[0]
            rendered = [self.render({column: element}) for element in cells[0] if _text(column, element).strip()]
        elif all(text_of(row, column).strip() for column in self.columns):
            rendered = [self.render(row)]
        else:
            return
        for text in rendered if clean is None else [clean(text) or "" for text in rendered]:
            for value in text.split(separator) if separator else (text,):
                if value := squeeze(value):
                    yield value


class CellError(Exception):
    """A cell has a value that is no text; `reason` is the code of the reject."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def text_of(row: Mapping[str, object], column: str) -> str:
    """The cell of a column as text; nothing for null. Raises `CellError`."""
    return _text(column, row.get(column))


def _text(column: str, value: object) -> str:
    try:
        return cell_text(value)
    except UnicodeDecodeError:
        raise CellError(RejectReason.BAD_ENCODING, f"{column} holds bytes that are not UTF-8 text") from None
    except TypeError as error:
        raise CellError(RejectReason.BAD_VALUE, f"{column} holds a value of type {error}, which is no text") from None


def _regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    return pattern


TemplateField = Annotated[
    Template, PlainValidator(Template.parse), PlainSerializer(attrgetter("source"), return_type=str)
]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Separator = Annotated[str, StringConstraints(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TableFile(_Section):
    """`[table]`: the file. `format` is taken from its suffix unless given. Text cells stay text: "NA" is no null.

    With `quoted = false` a double quote in a CSV or TSV is a character like any other.
    """

    file: str
    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = None
    encoding: str = "utf-8"
    quoted: bool = True

    def resolved_format(self) -> str:
        """The format given, or the one that the suffix stands for."""
        if self.format:
            return self.format
        path = Path(self.file)
        suffix = (path.with_suffix("") if path.suffix.lower() in PACKED else path).suffix.lower()
        if suffix not in FORMATS:
            raise Graph2ImageError(
                f"table.file: cannot tell the format of {self.file!r} from its name",
                'Set table.format to "csv", "tsv", "jsonl" or "parquet".',
            )
        return FORMATS[suffix]


class ColumnSpec(_Section):
    """A column to keep: its type, and its name in the table where that differs from the name it is kept under.

    The type alone may be written for it: `year = "int"` is `year = { type = "int" }`.
    """

    type: ColumnType
    column: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_type(cls, value: object) -> object:
        return {"type": value} if isinstance(value, str) else value


class ItemSpec(_Section):
    """`[item]`: one item per row.

    `remove_from_text` names columns whose own values are removed from the row's text as whole words, in any case, so
    that the graph has something to supply. `group` keeps rows together in one split.
    """

    label: Identifier
    id: TemplateField
    title: TemplateField
    text: TemplateField | None = None
    remove_from_text: list[str] = Field(default_factory=list)
    group: TemplateField | None = None
    columns: dict[Identifier, ColumnSpec] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_names(self) -> ItemSpec:
        # Graph stores compare property names without case, and every node has an id.
        taken = {name.lower() for name in ITEM_SCHEMA.names} | {"id"}
        for name in self.columns:
            if name.lower() in taken:
                raise ValueError(f"the name {name!r} is taken in [item.columns]; keep the column under another one")
            taken.add(name.lower())
        return self


class ImageSpec(_Section):
    """`[image]`: a row's image is the file `path` in `folder`, or the member `path` of `archive` (tar or zip)."""

    path: TemplateField
    folder: str | None = None
    archive: str | None = None

    @model_validator(mode="after")
    def _check_place(self) -> ImageSpec:
        if (self.folder is None) == (self.archive is None):
            raise ValueError('name either a "folder" or an "archive" to find the images in')
        return self


class EntitySpec(_Section):
    """`[[entity]]`: `(item)-[:relation]->(:label {name: value})`.

    `separator` splits a value into several; `pattern` then keeps what the regular expression finds (its first group,
    if it has one), and values it does not find are no entity.
    """

    label: Identifier
    relation: Identifier
    value: TemplateField
    separator: Separator | None = None
    pattern: Annotated[str, AfterValidator(_regex)] | None = None


class LinkSpec(_Section):
    """`[[link]]`: `(item)-[:relation]->(item)`, the target named by its id as the `id` template would give it."""

    relation: Identifier
    target: TemplateField
    separator: Separator | None = None


class SplitSpec(_Section):
    """`[split]`: a column that says train, val or test, or the fractions that val and test get by hash of the group."""

    column: str | None = None
    val: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _check_rule(self) -> SplitSpec:
        if self.val + self.test >= 1:
            raise ValueError("val and test together leave nothing to train on")
        if self.column is not None and self.model_fields_set & {"val", "test"}:
            raise ValueError('either a "column" or fractions, not both')
        return self


class TableSpec(_Section):
    """A whole spec file."""

    source: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
    table: TableFile
    item: ItemSpec
    image: ImageSpec | None = None
    entity: list[EntitySpec] = Field(default_factory=list)
    link: list[LinkSpec] = Field(default_factory=list)
    split: SplitSpec = SplitSpec()

    @model_validator(mode="after")
    def _check_names(self) -> TableSpec:
        try:
            self.names().check()
        except Graph2ImageError as error:
            raise ValueError(error.message) from None
        return self

    def names(self) -> GraphNames:
        """What the table brings to the graph."""
        relations = [*(entity.relation for entity in self.entity), *(link.relation for link in self.link)]
        return GraphNames(
            frozenset([self.item.label]), frozenset(entity.label for entity in self.entity), frozenset(relations)
        )

    def columns_used(self) -> dict[str, str]:
        """The table's columns that the spec refers to, each with the key of the spec that names it first."""
        used: dict[str, str] = {}

        def use(key: str, *columns: str | None) -> None:
            for column in columns:
                if column is not None:
                    used.setdefault(column, key)

        item = self.item
        for key, template in (("id", item.id), ("title", item.title), ("text", item.text), ("group", item.group)):
            if template is not None:
                use(f"item.{key}", *template.columns)
        use("item.remove_from_text", *item.remove_from_text)
        for name, spec in item.columns.items():
            use(f"item.columns.{name}", spec.column or name)
        if self.image is not None:
            use("image.path", *self.image.path.columns)
        for number, entity in enumerate(self.entity, 1):
            use(f"entity {number} ({entity.label}).value", *entity.value.columns)
        for number, link in enumerate(self.link, 1):
            use(f"link {number} ({link.relation}).target", *link.target.columns)
        use("split.column", self.split.column)
        return used


def load_spec(path: Path) -> TableSpec:
    """Read and check a spec file.

    Raises
    ------
    Graph2ImageError
        If the file cannot be read, is no TOML, or breaks the format; the message names the file and the key.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Graph2ImageError(f"cannot read the spec {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Graph2ImageError(f"the spec {path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise Graph2ImageError(f"the spec {path} is not valid TOML: {error}") from error
    with explain_validation(f"the spec {path} is wrong"):
        return TableSpec.model_validate(values)
