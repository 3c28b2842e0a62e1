"""From the parts of a source to its published datasets.

All that depends on more than one row or file is settled here: near-duplicates join groups, groups get their split, and
entities get their name. A Parquet file is only written again if that changes one of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ingest.collect import TABLE_ROWS
from ingest.datasets.root import DataRoot, Snapshot
from ingest.datasets.schemas import ENTITY_SCHEMA, IMAGE_SCHEMA
from ingest.images.store import PERCEPTUAL_HASH_BYTES
from ingest.parts import PART_SCHEMAS, Part, SourceFile, write_parts
from ingest.splits import SplitFractions, final_splits, joined_groups

#: Unrelated items that have one image, from which on it shows none of them: a host's stand-in for no image. That many;
#: or fewer, if they are that share of all items with an image.
MANY_ITEMS = 100
FEW_ITEMS, FEW_ITEMS_SHARE = 10, 0.05


@dataclass(frozen=True)
class Published:
    """Rows of the datasets of a source, and whether any of them is another than before.

    `shared_images` are those that very many unrelated items have, with their number; such items are not grouped.
    """

    shared_images: dict[str, int]
    items: int
    entities: int
    relations: int
    changed: bool


def publish_source(
    data: DataRoot, source: str, files: Mapping[str, SourceFile], item_schema: pa.Schema, fractions: SplitFractions
) -> Published:
    """Publish all datasets of a source; items come last, as what they refer to is there then.

    Parameters
    ----------
    item_schema
        Schema of `items/<source>`, for a source without any items.
    """
    if not data.exists(f"parts/{source}.json"):  # from now on, one that is missing is lost
        write_parts(data, source, {})
    files, shared_images = _settled(data, source, files, fractions)
    parts = [part for file in files.values() for part in file.parts()]
    entities, changed = data.publish(f"entities/{source}", _entity_tables(data, source, parts), ENTITY_SCHEMA)
    published: dict[str, Snapshot] = {}
    for dataset, own_schema in PART_SCHEMAS.items():
        name, schema = f"{dataset}/{source}", item_schema if dataset == "items" else own_schema
        names = [file for part in parts for file in part.files(dataset)]
        published[dataset], anew = data.publish_files(
            name,
            names or [data.write_table(name, schema.empty_table(), schema)],
            sum(part.rows(dataset) for part in parts),
        )
        changed = changed or anew
    write_parts(data, source, files)
    return Published(shared_images, published["items"].rows, entities.rows, published["relations"].rows, changed)


def _settled(
    data: DataRoot, source: str, files: Mapping[str, SourceFile], fractions: SplitFractions
) -> tuple[dict[str, SourceFile], dict[str, int]]:
    """The files with the group and the split of every item as they are among all others; and the shared images."""
    name = f"items/{source}"
    shards = {file: None for parts in files.values() for part in parts.parts() for file in part.files("items")}
    columns = ["item_id", "image_hash", "source_group", "source_split", "group_id", "split"]
    tables = {file: data.read_file(name, file, columns) for file in shards}
    items = pa.concat_tables(tables.values()) if tables else None
    if items is None or (items["image_hash"].null_count == items["source_split"].null_count == items.num_rows):
        return dict(files), {}
    shared = _shared_images(items)
    group_ids = _group_ids(data, source, items, pa.array(shared, pa.string()))
    splits = final_splits(group_ids, items["source_split"].combine_chunks(), fractions)
    start = 0
    renamed: dict[str, str] = {}
    for file, table in tables.items():
        settled = {"group_id": group_ids.slice(start, len(table)), "split": splits.slice(start, len(table))}
        start += len(table)
        if any(not table[column].combine_chunks().equals(values) for column, values in settled.items()):
            whole = data.read_file(name, file)
            for column, values in settled.items():
                whole = whole.set_column(whole.column_names.index(column), whole.schema.field(column), values)
            renamed[file] = data.write_table(name, whole, whole.schema)
    return {
        file: SourceFile(_renamed(parts.current, renamed), tuple(_renamed(part, renamed) for part in parts.gone))
        for file, parts in files.items()
    }, shared


def _shared_images(items: pa.Table) -> dict[str, int]:
    """The images that very many unrelated items have, and how many."""
    groups = pc.coalesce(items["source_group"], items["item_id"])
    rows = pl.DataFrame({"image": items["image_hash"], "group": groups}).drop_nulls("image")
    several = pl.col("groups") > max(FEW_ITEMS - 1, FEW_ITEMS_SHARE * len(rows))
    counts = rows.group_by("image").agg(pl.col("group").n_unique().alias("groups"), pl.len().alias("items"))
    shared = counts.filter((pl.col("groups") >= MANY_ITEMS) | several).sort("items", "image", descending=[True, False])
    return dict(zip(shared["image"].to_list(), shared["items"].to_list(), strict=True))


def _renamed(part: Part, renamed: Mapping[str, str]) -> Part:
    items = [(renamed.get(file, file), rows) for file, rows in part.shards["items"]]
    return replace(part, shards={**part.shards, "items": items})


def _group_ids(data: DataRoot, source: str, items: pa.Table, shared: pa.StringArray) -> pa.StringArray:
    """The group of each item, by the source's word and by near-duplicate images other than the `shared` ones."""
    ids, names = items["item_id"].combine_chunks(), items["source_group"].combine_chunks()
    group_ids = pc.coalesce(pc.binary_join_element_wise(f"{source}/group/", names, ""), ids)
    images = data.read("images", ["image_hash", "perceptual_hash"], IMAGE_SCHEMA)
    hashes = pc.if_else(pc.is_in(items["image_hash"], value_set=shared), None, items["image_hash"])
    found = pc.index_in(hashes, value_set=images["image_hash"].combine_chunks()).combine_chunks()
    pictured = np.flatnonzero(pc.is_valid(found).to_numpy(zero_copy_only=False))
    perceptual = images["perceptual_hash"].combine_chunks().take(found.drop_null()).to_pylist()
    perceptual_hashes = np.frombuffer(bytes.fromhex("".join(perceptual)), np.uint8).reshape(-1, PERCEPTUAL_HASH_BYTES)
    positions, joined = joined_groups(source, ids, names, pictured, perceptual_hashes)
    mask = np.zeros(len(ids), np.bool_)
    mask[positions] = True
    return pc.replace_with_mask(group_ids, pa.array(mask), joined)


def _entity_tables(data: DataRoot, source: str, parts: Sequence[Part]) -> Iterator[pa.Table]:
    """The entities that some relation refers to, in order, each under its name.

    That is the name that was declared most often, or else the most usual spelling; the least of several.
    """
    shards = [data.read_file(f"entity-names/{source}", file) for part in parts for file in part.files("entity-names")]
    if not shards:
        return
    names = pl.DataFrame(pa.concat_tables(shards)).group_by("entity_id", "label", "name").sum()
    entities = (
        names.filter(pl.col("references").sum().over("entity_id") > 0)
        .sort("entity_id", "declarations", "references", "name", descending=[False, True, True, False])
        .unique("entity_id", keep="first", maintain_order=True)
        .select(ENTITY_SCHEMA.names)
    )
    for rows in entities.iter_slices(TABLE_ROWS):
        yield rows.to_arrow()
