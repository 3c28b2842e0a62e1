"""Images and texts to vectors: `embeddings/<encoder>` by image hash, `text-embeddings/<encoder>` by text hash.

Only what has no vector yet is computed, in the order of the hashes, in shards that are appended one by one. A
killed run loses the shard it was at; the next one goes on with the same shards and the same batches in them, so
its vectors are those of an undisturbed run, up to the rounding of another process.

All vectors of one encoder have one precision, which its first run settles and every file records: bf16 and fp16 vectors
have a cosine of at least 0.999 with those of fp32, but are not mixed with them.

An image that could be read when it was ingested and no longer can does not stop the others: it is left out, reported,
and listed in `unreadable/<encoder>` until a later run can read it.

What decides that nothing is to do imports neither torch nor open_clip, so a scheduled run that finds nothing is quick.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import pyarrow as pa
import pyarrow.compute as pc

from ingest.datasets.items import read_items, require_items
from ingest.datasets.root import DataRoot, text_hash
from ingest.encoders.identity import WEIGHTS_FILE, Precision, encoder_id, is_published
from ingest.encoders.mini_config import MiniClipConfig, mini_encoder_id
from ingest.errors import Graph2ImageError
from ingest.images.loading import image_paths, try_images

log = logging.getLogger(__name__)

UNREADABLE_SCHEMA = pa.schema(
    [pa.field("image_hash", pa.string(), nullable=False), pa.field("problem", pa.string(), nullable=False)]
)

#: Weights of at most so many bytes make a small model.
SMALL_MODEL = 64 << 20

#: So many of the images that cannot be read are named in a report; the dataset has them all.
REPORTED_UNREADABLE = 20


@dataclass(frozen=True)
class EmbedReport:
    """What `embed` did.

    `encoder` names the datasets and the checkpoint; `trained` says whether a mini CLIP had to be trained; counts are of
    distinct images and texts; `items_without_image` have a text vector only. `images_unreadable` have no vector:
    `unreadable` says of the first of them what is wrong, the dataset `unreadable/<encoder>` of all.
    """

    encoder: str
    precision: str
    trained: bool
    images_new: int
    images_existing: int
    images_unreadable: int
    texts_new: int
    texts_existing: int
    items_without_image: int
    unreadable: tuple[str, ...]
    seconds: float

    @property
    def changed(self) -> bool:
        return self.trained or self.images_new + self.texts_new > 0


def embed(
    data: DataRoot,
    *,
    encoder: str | MiniClipConfig = "mini",
    sources: Sequence[str] | None = None,
    pad: bool = False,
    device: str | None = None,
    precision: Precision | Literal["auto"] = "auto",
    batch_size: int = 256,
    withdrawn: Collection[str] = (),
) -> EmbedReport:
    """Compute the vectors that images and texts of the items do not have yet.

    Parameters
    ----------
    encoder
        "mini" for the mini CLIP of the current training items (trained now if there is none), or how that is trained;
        an open_clip `MODEL/PRETRAINED`, a checkpoint folder, or the id of an encoder in the data root; see
        `import_encoder`.
    sources
        Item sources to embed, and to train a mini CLIP on; all of them by default.
    pad
        Whether the encoder sees all of an image that is not square, padded with white, instead of its middle.
    device
        A torch device; by default a GPU if there is one.
    precision
        "auto" goes on with the precision that the encoder's vectors have already. For the first ones it is what the
        device is fast in (see `choose_precision`), but fp32 for a small model, which is not what takes the time.
    batch_size
        Images or texts per pass; vectors agree between batch sizes to floating-point rounding.
    withdrawn
        Ids of items that are neither embedded nor trained on.

    Raises
    ------
    Graph2ImageError
        If there are no items, the encoder cannot be had or gives no finite vectors, its vectors have another
        precision than asked for, or more than half of all images cannot be read.
    """
    started = time.perf_counter()
    items = _read_items(data, sources, withdrawn)
    images = sorted(set(items["image_hash"].drop_null().to_pylist()))
    texts = {text_hash(text): text for text in (text or "" for text in items["text"].unique().to_pylist())}

    if device is not None:  # before an encoder is trained, which takes a while
        from ingest.encoders.vectors import choose_device

        choose_device(device)
    wanted = MiniClipConfig() if encoder == "mini" else encoder
    encoder, trained = _obtain_encoder(data, wanted, items, pad=pad)
    recorded = _recorded_precision(data, encoder)
    if recorded is not None and precision not in ("auto", recorded):
        raise Graph2ImageError(
            f"the vectors of {encoder} are in {recorded}, not in {precision}",
            f"Leave out the precision, or remove embeddings/{encoder} and text-embeddings/{encoder}.",
        )
    new_images = _without_vector(data, f"embeddings/{encoder}", "image_hash", images)
    new_texts = _without_vector(data, f"text-embeddings/{encoder}", "text_hash", sorted(texts))
    unreadable = _still_unreadable(data, encoder, new_images)
    readable = [image_hash for image_hash in new_images if image_hash not in unreadable]
    if readable or new_texts:
        from ingest.encoders import vectors
        from ingest.encoders.checkpoint import load_encoder

        target = vectors.choose_device(device)
        if precision == "auto":
            precision = recorded or ("fp32" if _is_small(data, encoder) else vectors.choose_precision(target))
        loaded = load_encoder(data, encoder, target, precision)
        log.info("Computing vectors with %s on %s in %s", encoder, target, precision)
        paths = image_paths(data) if readable else {}
        unreadable |= vectors.append_image_vectors(data, f"embeddings/{encoder}", readable, paths, loaded, batch_size)
        todo = {key: texts[key] for key in new_texts}
        vectors.append_text_vectors(data, f"text-embeddings/{encoder}", todo, loaded, batch_size)
    _record_unreadable(data, encoder, images, unreadable)
    report = EmbedReport(
        encoder,
        precision=recorded or precision,
        trained=trained,
        images_new=len(new_images) - len(unreadable),
        images_existing=len(images) - len(new_images),
        images_unreadable=len(unreadable),
        texts_new=len(new_texts),
        texts_existing=len(texts) - len(new_texts),
        items_without_image=items["image_hash"].null_count,
        unreadable=tuple(unreadable.values())[:REPORTED_UNREADABLE],
        seconds=round(time.perf_counter() - started, 2),
    )
    if report.changed:
        log.info("Embedded %d images and %d texts with %s", report.images_new, report.texts_new, encoder)
    return report


def _read_items(data: DataRoot, sources: Sequence[str] | None, withdrawn: Collection[str]) -> pa.Table:
    require_items(data)
    table = read_items(data, ["item_id", "image_hash", "text", "split", "opted_out"], sources=sources)
    gone = pc.is_in(table["item_id"], value_set=pa.array(list(withdrawn), pa.string()))
    return table.filter(pc.invert(pc.or_(table["opted_out"], gone)))


def _obtain_encoder(data: DataRoot, wanted: str | MiniClipConfig, items: pa.Table, *, pad: bool) -> tuple[str, bool]:
    """The id of the wanted encoder, which is in the data root afterwards, and whether it was trained now."""
    if isinstance(wanted, str):
        encoder = encoder_id(wanted, pad=pad)
        if not is_published(data, encoder):
            from ingest.encoders.checkpoint import import_encoder

            import_encoder(data, wanted, pad=pad)
        return encoder, False
    if pad:
        wanted = wanted.model_copy(update={"resize_mode": "longest"})
    pairs = _training_pairs(items)
    encoder = mini_encoder_id(pairs, wanted)
    if is_published(data, encoder):
        return encoder, False
    from ingest.encoders.mini_clip import train_mini_clip

    train_mini_clip(data, pairs, image_paths(data), wanted)
    return encoder, True


def _training_pairs(items: pa.Table) -> list[tuple[str, str]]:
    rows = zip(*(items[column].to_pylist() for column in ("image_hash", "text", "split")), strict=True)
    return sorted({(image, text) for image, text, split in rows if split == "train" and image and text})


def _without_vector(data: DataRoot, name: str, key: str, keys: Iterable[str]) -> list[str]:
    """Those of `keys` that dataset `name` does not have, in their order."""
    done = set(data.read(name, [key], pa.schema([(key, pa.string())]))[key].to_pylist())
    return [value for value in keys if value not in done]


def _recorded_precision(data: DataRoot, encoder: str) -> Precision | None:
    """Precision of the vectors that `encoder` has made; None if it has made none."""
    for name in (f"embeddings/{encoder}", f"text-embeddings/{encoder}"):
        if data.names(name):
            metadata = data.dataset(name).schema.metadata or {}
            return cast(Precision, metadata.get(b"precision", b"fp32").decode())
    return None


def _is_small(data: DataRoot, encoder: str) -> bool:
    return bool(data.fs.size(data.path("encoders", encoder, WEIGHTS_FILE)) <= SMALL_MODEL)


# -- images that cannot be read ------------------------------------------------------------------------------------


def unreadable_images(data: DataRoot, encoder: str) -> dict[str, str]:
    """What is wrong with the images that have no vector of `encoder`, because they cannot be read, by image hash."""
    table = data.read(f"unreadable/{encoder}", schema=UNREADABLE_SCHEMA)
    return dict(zip(table["image_hash"].to_pylist(), table["problem"].to_pylist(), strict=True))


def _still_unreadable(data: DataRoot, encoder: str, image_hashes: Iterable[str]) -> dict[str, str]:
    """Those that an earlier run could not read, and that still cannot be: known without loading a model."""
    before = unreadable_images(data, encoder)
    suspects = [image_hash for image_hash in image_hashes if image_hash in before]
    if not suspects:
        return {}
    outcomes = try_images(data, image_paths(data), suspects, lambda _: None)
    return {
        image_hash: error.message
        for image_hash, error in zip(suspects, outcomes, strict=True)
        if isinstance(error, Graph2ImageError)
    }


def _record_unreadable(data: DataRoot, encoder: str, images: Sequence[str], unreadable: Mapping[str, str]) -> None:
    """Publish and log what this run found of `images`; what is known of others stays.

    Raises
    ------
    Graph2ImageError
        If more than half of all images cannot be read: then something is wrong that is not theirs.
    """
    before = unreadable_images(data, encoder)
    seen = set(images)
    after = {key: problem for key, problem in before.items() if key not in seen} | dict(unreadable)
    if after != before:
        columns = [pa.array(after.keys(), pa.string()), pa.array(after.values(), pa.string())]
        data.publish(f"unreadable/{encoder}", [pa.table(columns, schema=UNREADABLE_SCHEMA)], UNREADABLE_SCHEMA)
    if 2 * len(unreadable) > len(images):
        raise Graph2ImageError(
            f"{len(unreadable):,} of {len(images):,} images cannot be read, the first: "
            f"{next(iter(unreadable.values()))}",
            f"Is the folder {data.path('images')} there? The others are embedded.",
        )
    for problem in list(unreadable.values())[:REPORTED_UNREADABLE]:
        log.warning("Left out: %s", problem)
    if unreadable:
        log.warning("%d images cannot be read any more: unreadable/%s lists them", len(unreadable), encoder)
