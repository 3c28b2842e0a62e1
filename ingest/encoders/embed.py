"""Pictures and texts to vectors: `embeddings/<encoder>` by image hash, `text-embeddings/<encoder>` by text hash.

Only what has no vector yet is computed, in the order of the hashes, in shards of `SHARD_ROWS` that are appended one by
one. A killed run loses at most the shard it was at; the next one goes on with the same shards and the same
batches in them, so its vectors are those of an undisturbed run, up to the rounding of another process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from ingest.datasets import ITEM_SCHEMA, DataRoot, embedding_schema, text_hash
from ingest.encoders.checkpoint import import_encoder, load_encoder
from ingest.encoders.mini_clip import MiniClipConfig, train_mini_clip
from ingest.encoders.pictures import image_paths, load_pictures
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)

SHARD_ROWS = 1_024


@dataclass(frozen=True)
class EmbedReport:
    """What `embed` did.

    `encoder` names the datasets and the checkpoint; `trained` says whether a mini CLIP had to be trained; counts are of
    distinct pictures and texts; `items_without_image` have a text vector only.
    """

    encoder: str
    trained: bool
    images_new: int
    images_existing: int
    texts_new: int
    texts_existing: int
    items_without_image: int
    seconds: float

    @property
    def changed(self) -> bool:
        return self.trained or self.images_new + self.texts_new > 0


def embed(
    data: DataRoot,
    *,
    encoder: str = "mini",
    sources: Sequence[str] | None = None,
    mini: MiniClipConfig | None = None,
    device: str | None = None,
    batch_size: int = 256,
    withdrawn: Collection[str] = (),
) -> EmbedReport:
    """Compute the vectors that pictures and texts of the items do not have yet.

    Parameters
    ----------
    encoder
        "mini" for the mini CLIP of the current training items (trained now if there is none), an open_clip
        `MODEL/PRETRAINED`, or a checkpoint folder; see `import_encoder`.
    sources
        Item sources to embed, and to train a mini CLIP on; all of them by default.
    mini
        How a mini CLIP is trained.
    device
        A torch device; by default a GPU if there is one.
    batch_size
        Pictures or texts per pass; vectors agree between batch sizes to floating-point rounding.
    withdrawn
        Ids of items that are neither embedded nor trained on.

    Raises
    ------
    Graph2ImageError
        If there are no items, a picture cannot be read, or the encoder cannot be had or gives no finite vectors.
    """
    started = time.perf_counter()
    items = _read_items(data, sources, withdrawn)
    images = sorted(set(items["image_hash"].drop_null().to_pylist()))
    texts = {text_hash(text): text for text in (text or "" for text in items["text"].unique().to_pylist())}
    paths = image_paths(data)

    trained = False
    if encoder == "mini":
        encoder, trained = train_mini_clip(data, _training_pairs(items), paths, mini or MiniClipConfig())
    else:
        encoder = import_encoder(data, encoder)

    new_images = _without_vector(data, f"embeddings/{encoder}", "image_hash", images)
    new_texts = _without_vector(data, f"text-embeddings/{encoder}", "text_hash", sorted(texts))
    if new_images or new_texts:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        loaded = load_encoder(data, encoder, device)

        def embed_images(hashes: Sequence[str]) -> Tensor:
            pixels = torch.stack(list(load_pictures(data, paths, hashes, loaded.preprocess)))
            return torch.cat([loaded.encode_image(batch.to(device)) for batch in torch.split(pixels, batch_size)])

        def embed_texts(hashes: Sequence[str]) -> Tensor:
            tokens = loaded.tokenize([texts[key] for key in hashes])
            return torch.cat([loaded.encode_text(batch.to(device)) for batch in torch.split(tokens, batch_size)])

        _append_vectors(data, f"embeddings/{encoder}", "image_hash", new_images, embed_images)
        _append_vectors(data, f"text-embeddings/{encoder}", "text_hash", new_texts, embed_texts)
    report = EmbedReport(
        encoder,
        trained,
        images_new=len(new_images),
        images_existing=len(images) - len(new_images),
        texts_new=len(new_texts),
        texts_existing=len(texts) - len(new_texts),
        items_without_image=items["image_hash"].null_count,
        seconds=round(time.perf_counter() - started, 2),
    )
    log.info("Embedded %d pictures and %d texts with %s", report.images_new, report.texts_new, encoder)
    return report


def _read_items(data: DataRoot, sources: Sequence[str] | None, withdrawn: Collection[str]) -> pa.Table:
    names = [f"items/{source}" for source in sources] if sources is not None else data.names("items")
    if not names:
        raise Graph2ImageError(f"there are no items under {data.url} yet", "Run `graph2image ingest` first.")
    columns = ["item_id", "image_hash", "text", "split", "opted_out"]
    schema = pa.schema([ITEM_SCHEMA.field(column) for column in columns])
    table = pa.concat_tables([data.read(name, columns).cast(schema) for name in names])
    gone = pc.is_in(table["item_id"], value_set=pa.array(list(withdrawn), pa.string()))
    return table.filter(pc.invert(pc.or_(table["opted_out"], gone)))


def _training_pairs(items: pa.Table) -> list[tuple[str, str]]:
    rows = zip(*(items[column].to_pylist() for column in ("image_hash", "text", "split")), strict=True)
    return sorted({(image, text) for image, text, split in rows if split == "train" and image and text})


def _without_vector(data: DataRoot, name: str, key: str, keys: Iterable[str]) -> list[str]:
    """Those of `keys` that dataset `name` does not have, in their order."""
    done = set(data.read(name, [key], pa.schema([(key, pa.string())]))[key].to_pylist())
    return [value for value in keys if value not in done]


def _append_vectors(
    data: DataRoot, name: str, key: str, keys: Sequence[str], compute: Callable[[Sequence[str]], Tensor]
) -> None:
    with torch.inference_mode(), tqdm(total=len(keys), desc=name, unit="row", disable=None) as progress:
        for start in range(0, len(keys), SHARD_ROWS):
            shard = keys[start : start + SHARD_ROWS]
            vectors = F.normalize(compute(shard).float(), dim=1).cpu().numpy()
            if not np.isfinite(vectors).all():
                raise Graph2ImageError(f"the encoder gives vectors that are not finite, among them one for {shard[0]}")
            data.append(name, _vector_table(key, shard, vectors), embedding_schema(key, vectors.shape[1]))
            progress.update(len(shard))


def _vector_table(key: str, keys: Sequence[str], vectors: npt.NDArray[np.float32]) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    return pa.table(
        [pa.array(keys, pa.string()), pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])],
        schema=embedding_schema(key, vectors.shape[1]),
    )
