"""The columns of the Parquet datasets."""

import pyarrow as pa

SPLITS = ("train", "val", "test")

#: Columns that every item has; a source adds its own after them. `group_id` and `split` follow from the group and the
#: split that the source gives, if any, and from the near-duplicates among all images.
ITEM_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
        pa.field("image_hash", pa.string()),
        pa.field("image_ref", pa.string()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group_id", pa.string(), nullable=False),
        pa.field("opted_out", pa.bool_(), nullable=False),
        pa.field("source_group", pa.string()),
        pa.field("source_split", pa.string()),
    ]
)

#: Columns that every entity has; a source adds its own after them.
ENTITY_SCHEMA = pa.schema(
    [
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("name", pa.string()),
    ]
)

RELATION_SCHEMA = pa.schema(
    [
        pa.field("type", pa.string(), nullable=False),
        pa.field("from_id", pa.string(), nullable=False),
        pa.field("to_id", pa.string(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("role", pa.string()),
    ]
)

#: How entities are spelled and declared to be called, and how many relations refer to each spelling: what
#: `entities/<source>` is made from.
ENTITY_NAME_SCHEMA = pa.schema(
    [
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("references", pa.int64(), nullable=False),
        pa.field("declarations", pa.int64(), nullable=False),
    ]
)

REJECT_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("raw", pa.string()),
    ]
)

#: Items whose row names an image, but which have none, and why (a `RejectReason`). `image_ref` is the first path or URL
#: that the row names.
MISSING_IMAGE_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64()),
        pa.field("image_ref", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
    ]
)

IMAGE_SCHEMA = pa.schema(
    [
        pa.field("image_hash", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("format", pa.string(), nullable=False),
        pa.field("perceptual_hash", pa.string(), nullable=False),
        pa.field("source_url", pa.string()),
        pa.field("fetched_at", pa.timestamp("us", tz="UTC")),
    ]
)

#: What a model was trained on, frozen: digests of each item's text and image, and of its neighbors.
FROZEN_ITEM_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("content", pa.string(), nullable=False),
        pa.field("neighbors", pa.string(), nullable=False),
    ]
)

#: What every stage of a scheduled run took and did; `counts` is JSON.
RUN_SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("started_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("peak_mib", pa.float64(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("problem", pa.string()),
        pa.field("counts", pa.string(), nullable=False),
        pa.field("digest", pa.string()),
    ]
)

#: What became of every request for an image; the latest row of a URL counts.
FETCH_SCHEMA = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("image_hash", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("etag", pa.string()),
        pa.field("last_modified", pa.string()),
        pa.field("fetched_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)

NEIGHBOR_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field(
            "neighbors",
            pa.list_(
                pa.struct(
                    [
                        pa.field("item_id", pa.string()),
                        pa.field("image_hash", pa.string()),
                        pa.field("ppr", pa.float32()),
                        pa.field("similarity", pa.float32()),
                        pa.field("via", pa.string()),
                    ]
                )
            ),
            nullable=False,
        ),
    ]
)

GENERATED_SCHEMA = pa.schema(
    [
        pa.field("generated_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("model_id", pa.string(), nullable=False),
        # A label for people; the fields behind it, those of `model.generation.variants.Variant`, are what is compared.
        # They are null in rows of versions that had the label only.
        pa.field("variant", pa.string(), nullable=False),
        pa.field("kind", pa.string()),
        pa.field("graph_guidance_scale", pa.float64()),
        pa.field("shares", pa.list_(pa.float64())),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("settings", pa.string(), nullable=False),
        pa.field(
            "neighbors",
            pa.list_(
                pa.struct(
                    [pa.field("item_id", pa.string()), pa.field("weight", pa.float32()), pa.field("rank", pa.int32())]
                )
            ),
            nullable=False,
        ),
        pa.field("image_path", pa.string(), nullable=False),
        # SHA-256 of the file; null in rows of versions that did not record it.
        pa.field("image_sha256", pa.string()),
        # What the copy check found; null if there was none.
        pa.field(
            "scores",
            pa.struct(
                [
                    pa.field("neighbor_similarity", pa.float32()),
                    pa.field("neighbor_bits", pa.int32()),
                    pa.field("training_similarity", pa.float32()),
                    pa.field("training_bits", pa.int32()),
                    pa.field("nearest_image", pa.string()),
                    pa.field("flagged", pa.bool_()),
                ]
            ),
        ),
    ]
)


def embedding_schema(key: str, dim: int) -> pa.Schema:
    """Schema of an embeddings dataset: unit-length float32 vectors, keyed by `image_hash` or `text_hash`."""
    return pa.schema(
        [pa.field(key, pa.string(), nullable=False), pa.field("embedding", pa.list_(pa.float32(), dim), nullable=False)]
    )


#: One row per withdrawal of an item or entity; the time is UTC.
OPT_OUT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("created_at", pa.timestamp("us"), nullable=False),
        pa.field("reason", pa.string()),
    ]
)
