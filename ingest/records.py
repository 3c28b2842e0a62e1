"""Rows one by one: each is either an item or a reject with its reason.

Readers that have millions of rows to get through make no records but fill columns: see `ingest.batches`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

#: A value of an item's own column; its Arrow type is declared by the reader.
ColumnValue = str | int | float | bool | None

#: A row as read, for the rejects.
Raw = bytes | str | Mapping[str, object]


class RejectReason(StrEnum):
    """Why a row is no item; `image_…`: why an item has no image.

    The codes are stored in `rejects/<source>` and `missing-images/<source>` and are not renamed.
    """

    MALFORMED_ROW = "malformed_row"
    BAD_ENCODING = "bad_encoding"
    BAD_VALUE = "bad_value"
    MISSING_ID = "missing_id"
    DUPLICATE_ID = "duplicate_id"
    WRONG_KIND = "wrong_kind"
    LINE_TOO_LONG = "line_too_long"
    FILE_DAMAGED = "file_damaged"
    IMAGE_MISSING = "image_missing"
    IMAGE_UNSAFE_PATH = "image_unsafe_path"
    IMAGE_EMPTY = "image_empty"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_TOO_SMALL = "image_too_small"
    IMAGE_NOT_AN_IMAGE = "image_not_an_image"
    IMAGE_TRUNCATED = "image_truncated"
    IMAGE_CORRUPT = "image_corrupt"
    IMAGE_REFUSED = "image_refused"
    IMAGE_OPTED_OUT = "image_opted_out"
    IMAGE_UNSAFE_ADDRESS = "image_unsafe_address"
    IMAGE_UNREACHABLE = "image_unreachable"


@dataclass(frozen=True, slots=True)
class EntityLink:
    """The item has an entity: `(item)-[:relation {role}]->(:label {name})`.

    `role` says how the entity takes part, such as `after` where an artwork is only attributed.
    """

    label: str
    name: str
    relation: str
    role: str | None = None


@dataclass(frozen=True, slots=True)
class EntityRelation:
    """Two entities are related: `(:from_label {from_name})-[:relation]->(:to_label {to_name})`."""

    relation: str
    from_label: str
    from_name: str
    to_label: str
    to_name: str


@dataclass(frozen=True, slots=True)
class ItemLink:
    """The item points at another item, which may be in a later row, in a later file, or nowhere."""

    relation: str
    target_item_id: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One item as its row describes it.

    Parameters
    ----------
    row
        Where the row is in `file`: the line it starts on (text formats) or its number from 1 (Parquet).
    item_id
        `<source>:<id>`.
    text
        The model's prompt; `title` is what people read.
    image_refs
        Where the image may be, most likely place first; the first that exists counts. Empty for a source without
        images.
    group
        Name of a group that must stay in one split (editions of one work); near-duplicate images join on their own.
    split
        One of `ingest.datasets.schemas.SPLITS` when the source says so, else None.
    raw
        The row as read, for the rejects.
    """

    row: int
    file: str
    item_id: str
    label: str
    title: str | None
    text: str | None
    raw: Raw
    image_refs: tuple[str, ...] = ()
    entities: tuple[EntityLink, ...] = ()
    entity_relations: tuple[EntityRelation, ...] = ()
    links: tuple[ItemLink, ...] = ()
    columns: Mapping[str, ColumnValue] = field(default_factory=dict)
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class RejectRecord:
    """A row that is no item, and why."""

    file: str
    row: int | None
    reason: RejectReason
    detail: str
    raw: Raw


Record = ItemRecord | RejectRecord


def squeeze(text: str) -> str:
    """`text` with every run of white space made one blank, and none at the ends."""
    return " ".join(text.split())


def canonical_name(name: str) -> str:
    """The form under which spellings of one entity name are the same: NFKC, case folded, blanks made hyphens.

    >>> canonical_name("  Claude  MONET ")
    'claude-monet'
    """
    return "-".join(unicodedata.normalize("NFKC", name).casefold().split())


def entity_id(source: str, label: str, name: str) -> str:
    """`<source>/<Label>/<canonical name>`."""
    return f"{source}/{label}/{canonical_name(name)}"
