"""What each file of a source amounted to, and which Parquet files hold it.

The datasets of a source are made of *parts*: one per source file, and one more for the rows that an older version of
that file had and the present one has not. A file that is ingested again replaces its part; the others stay as they
are. The list of the parts, `parts/<source>.json`, is written when all they consist of is published: a run that was
killed before starts from the older list, and comes to the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.datasets.integrity import DamagedError
from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import (
    ENTITY_NAME_SCHEMA,
    ITEM_SCHEMA,
    MISSING_IMAGE_SCHEMA,
    REJECT_SCHEMA,
    RELATION_SCHEMA,
)
from ingest.errors import Graph2ImageError
from ingest.ids import IdIndex
from ingest.records import RejectReason

log = logging.getLogger(__name__)

#: Parquet files of a dataset with their numbers of rows.
Shards = list[tuple[str, int]]

#: The datasets that parts consist of, in the order in which they are published.
PART_SCHEMAS = {
    "rejects": REJECT_SCHEMA,
    "missing-images": MISSING_IMAGE_SCHEMA,
    "entity-names": ENTITY_NAME_SCHEMA,
    "relations": RELATION_SCHEMA,
    "items": ITEM_SCHEMA,
}


@dataclass(frozen=True)
class Part:
    """Rows of one source file in the datasets of its source.

    Attributes
    ----------
    fingerprint
        Digest of the file's content and of all else that its rows follow from.
    rows_read, items, duplicates, auxiliary_rows, rejected
        Counts of the run that read the file:
        `rows_read == items + duplicates + auxiliary_rows + sum(rejected.values())`.
    shards
        By dataset: name and number of rows of each Parquet file.
    missing_images
        Items whose row names an image, but which have none, by reason code; of the same run.
    """

    file: str
    fingerprint: str
    rows_read: int
    items: int
    duplicates: int
    auxiliary_rows: int
    rejected: dict[str, int]
    shards: dict[str, Shards]
    missing_images: dict[str, int] = field(default_factory=dict)

    def files(self, dataset: str) -> list[str]:
        return [name for name, _ in self.shards.get(dataset, ())]

    def rows(self, dataset: str) -> int:
        return sum(rows for _, rows in self.shards.get(dataset, ()))


@dataclass(frozen=True)
class SourceFile:
    """The parts of one source file: what it has now, and what only its older versions had."""

    current: Part
    gone: tuple[Part, ...] = ()

    def parts(self) -> tuple[Part, ...]:
        return (self.current, *self.gone)


def read_parts(data: DataRoot, source: str) -> dict[str, SourceFile]:
    """The published parts of a source, by file, in the order in which the files came.

    Raises
    ------
    DamagedError
        If the list is damaged; or missing, of a source that is published.
    Graph2ImageError
        If another version of graph2image wrote it.
    """
    name = f"parts/{source}.json"
    if not data.exists(name):
        if data.is_published(f"items/{source}"):
            raise DamagedError(data.path(name), "is missing")
        return {}
    try:
        return {
            file: SourceFile(_part(value["current"]), tuple(_part(part) for part in value["gone"]))
            for file, value in data.read_json(name).items()
        }
    except (TypeError, KeyError) as error:  # a field that this version does not have, or one that it needs
        raise Graph2ImageError(
            f"{data.path(name)} was written by another version of graph2image", "Ingest into a new data root."
        ) from error


def _part(value: dict[str, object]) -> Part:
    part = Part(**value)  # type: ignore[arg-type]  # as `write_parts` wrote it
    return replace(part, shards={k: [(name, rows) for name, rows in v] for k, v in part.shards.items()})


def write_parts(data: DataRoot, source: str, files: Mapping[str, SourceFile]) -> None:
    """Make `files` what `read_parts` finds."""
    data.write_json(f"parts/{source}.json", {file: asdict(parts) for file, parts in files.items()})


def is_whole(data: DataRoot, source: str, part: Part) -> bool:
    """Whether all Parquet files of a part are there."""
    return all(data.exists(f"{dataset}/{source}/{file}") for dataset in part.shards for file in part.files(dataset))


def item_ids(data: DataRoot, source: str, part: Part) -> Iterator[pa.Array]:
    """The ids of a part's items, Parquet file by Parquet file."""
    for file in part.files("items"):
        yield data.read_file(f"items/{source}", file, ["item_id"])["item_id"].combine_chunks()


def unreachable_images(data: DataRoot, source: str, part: Part) -> Iterator[str]:
    """Where the images of a part are that could not be reached."""
    for file in part.files("missing-images"):
        table = data.read_file(f"missing-images/{source}", file, ["image_ref", "reason"])
        unreachable = pc.equal(table["reason"], RejectReason.IMAGE_UNREACHABLE.value)
        yield from table.filter(unreachable)["image_ref"].to_pylist()


class ItemImages:
    """The images that the published items of a source have, to fall back on where one cannot be acquired again.

    Also what was wrong with those that they do not have, which stays known in a run that looks for no images. Both are
    read when the first of them is asked for.

    Parameters
    ----------
    is_stored
        Whether the image with a hash is still in the data root.
    """

    def __init__(self, data: DataRoot, source: str, parts: Iterable[Part], is_stored: Callable[[str], bool]) -> None:
        parts = list(parts)
        self._data = data
        self._source = source
        self._files = [file for part in parts for file in part.files("items")]
        self._missing_files = [file for part in parts for file in part.files("missing-images")]
        self._is_stored = is_stored
        self._loaded: tuple[IdIndex, pa.Array, pa.Array] | None = None
        self._problems: dict[tuple[str, str], tuple[str, str | None]] | None = None

    def find(self, ids: pa.StringArray, refs: pa.ListArray) -> list[tuple[str, str] | None]:
        """Hash of the image of each item, and the one of its `refs` that it came from; None for one without an image.

        An image that came from elsewhere than the row now says is another one.
        """
        if not self._files or not len(ids):
            return [None] * len(ids)
        if self._loaded is None:
            self._loaded = self._load()
        index, hashes, places = self._loaded
        rows = index.find(ids)
        return [
            (str(hashes[row]), str(places[row]))
            if row >= 0 and str(places[row]) in (refs[item].as_py() or ()) and self._is_stored(str(hashes[row]))
            else None
            for item, row in enumerate(rows.tolist())
        ]

    def problem(self, item_id: str, ref: str) -> tuple[str, str | None] | None:
        """Reason and detail of why an item does not have its image, which is at `ref`; None if that is not known."""
        if self._problems is None:
            self._problems = {}
            for file in self._missing_files:
                for row in self._data.read_file(f"missing-images/{self._source}", file).to_pylist():
                    self._problems[row["item_id"], row["image_ref"]] = row["reason"], row["detail"]
        return self._problems.get((item_id, ref))

    def _load(self) -> tuple[IdIndex, pa.Array, pa.Array]:
        columns = ["item_id", "image_hash", "image_ref"]
        name = f"items/{self._source}"
        table = pa.concat_tables(self._data.read_file(name, file, columns) for file in self._files)
        table = table.filter(pc.is_valid(table["image_hash"])).combine_chunks()
        index = IdIndex()
        if table.num_rows:
            index.add(table["item_id"].combine_chunks(), np.arange(table.num_rows))
        return index, table["image_hash"].combine_chunks(), table["image_ref"].combine_chunks()


def without(data: DataRoot, source: str, part: Part, ids: IdIndex) -> Part:
    """The part less the items in `ids` and what leads from them; the same object if it has none of those."""
    items = _filtered(data, f"items/{source}", part.shards["items"], "item_id", ids)
    if items == part.shards["items"]:
        return part
    relations = _filtered(data, f"relations/{source}", part.shards["relations"], "from_id", ids)
    shards = {**part.shards, "items": items, "relations": relations}
    shards["entity-names"] = _still_referred_to(data, source, part, relations)
    shards["missing-images"] = _missing_images(data, source, part, ids)
    return replace(part, shards=shards)


def gone_rows(data: DataRoot, source: str, old: Part, ids: IdIndex) -> Part | None:
    """Of an older version of a file, the items that are not in `ids` and the relations from them; None if all are.

    Also None, with a warning, if the older version's rows are damaged: then nobody knows them any more.
    """
    try:
        return _gone_rows(data, source, old, ids)
    except DamagedError as error:
        log.warning("%s: what only an older version of %s had is lost: %s", source, old.file, error.message)
        return None


def _gone_rows(data: DataRoot, source: str, old: Part, ids: IdIndex) -> Part | None:
    items = _filtered(data, f"items/{source}", old.shards["items"], "item_id", ids)
    if not items:
        return None
    relations = []
    for file, _ in _filtered(data, f"relations/{source}", old.shards["relations"], "from_id", ids):
        table = data.read_file(f"relations/{source}", file)
        relations += _written(
            data, f"relations/{source}", table.filter(pc.starts_with(table["from_id"], f"{source}:")), RELATION_SCHEMA
        )
    shards = {"items": items, "relations": relations}
    shards["entity-names"] = _still_referred_to(data, source, old, relations)
    shards["missing-images"] = _missing_images(data, source, old, ids)
    return Part(old.file, old.fingerprint, 0, sum(rows for _, rows in items), 0, 0, {}, shards)


def _missing_images(data: DataRoot, source: str, part: Part, ids: IdIndex) -> Shards:
    """The part's missing images, less those of the items in `ids`."""
    return _filtered(data, f"missing-images/{source}", part.shards.get("missing-images", []), "item_id", ids)


def _filtered(data: DataRoot, name: str, shards: Shards, key: str, ids: IdIndex) -> Shards:
    kept: Shards = []
    for file, rows in shards:
        outside = pa.array(ids.find(data.read_file(name, file, [key])[key].combine_chunks()) < 0)
        if outside.true_count == rows:
            kept.append((file, rows))
        else:
            table = data.read_file(name, file).filter(outside)
            kept += _written(data, name, table, table.schema)
    return kept


def _still_referred_to(data: DataRoot, source: str, part: Part, relations: Shards) -> Shards:
    """The part's entity names for what `relations` lead to or from, and those that were declared."""
    ends = pa.array([], pa.string())
    for file, _ in relations:
        table = data.read_file(f"relations/{source}", file, ["from_id", "to_id"])
        ends = pc.unique(pa.concat_arrays([ends, *table["from_id"].chunks, *table["to_id"].chunks]))
    shards = []
    for file in part.files("entity-names"):
        names = data.read_file(f"entity-names/{source}", file)
        references = pc.if_else(pc.is_in(names["entity_id"], value_set=ends), names["references"], 0)
        names = names.set_column(names.column_names.index("references"), "references", references)
        used = pc.or_(pc.greater(references, 0), pc.greater(names["declarations"], 0))
        shards += _written(data, f"entity-names/{source}", names.filter(used), ENTITY_NAME_SCHEMA)
    return shards


def _written(data: DataRoot, name: str, table: pa.Table, schema: pa.Schema) -> Shards:
    return [(data.write_table(name, table, schema), table.num_rows)] if table.num_rows else []
