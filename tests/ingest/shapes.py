"""Images of shapes: the text names the shape, and never the color."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import IMAGE_SCHEMA, ITEM_SCHEMA
from ingest.encoders.mini_config import MiniClipConfig

SHAPES = ("circle", "square", "triangle", "cross")
COLORS = {"red": (205, 60, 50), "green": (60, 170, 70), "blue": (50, 80, 200), "yellow": (230, 200, 60)}

#: Enough to tell shapes apart, in seconds.
TINY = MiniClipConfig(
    image_width=16, text_width=64, text_layers=1, context_length=8, batch_size=64, base_steps=60, warmup_steps=5
)
#: For tests that need a checkpoint, whatever it has learnt.
UNTRAINED = TINY.model_copy(update={"base_steps": 1, "image_width": 8, "max_steps": 1})


@dataclass(frozen=True)
class ShapeItem:
    item_id: str
    shape: str
    color: str
    split: str
    content: bytes

    @property
    def image_hash(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def draw(shape: str, color: tuple[int, int, int], seed: int) -> bytes:
    """A PNG of one shape somewhere on a gray ground."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (64, 64), (int(rng.integers(150, 250)),) * 3)
    brush = ImageDraw.Draw(image)
    radius = int(rng.integers(14, 24))
    x, y = (int(v) for v in rng.integers(radius, 64 - radius, 2))
    fill = tuple(int(np.clip(c + rng.integers(-25, 26), 0, 255)) for c in color)
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        brush.ellipse(box, fill)
    elif shape == "square":
        brush.rectangle(box, fill)
    elif shape == "triangle":
        brush.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill)
    else:
        brush.rectangle((x - radius, y - 4, x + radius, y + 4), fill)
        brush.rectangle((x - 4, y - radius, x + 4, y + radius), fill)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def shape_items(count: int, test: int = 0) -> list[ShapeItem]:
    """`count` items, the last `test` of them in the test split."""
    items = []
    for seed in range(count):
        shape, color = SHAPES[seed % 4], list(COLORS)[seed // 4 % 4]
        split = "train" if seed < count - test else "test"
        items.append(ShapeItem(f"shapes:{seed}", shape, color, split, draw(shape, COLORS[color], seed)))
    return items


def write_items(data: DataRoot, items: Sequence[ShapeItem], source: str = "shapes") -> None:
    """Store the images and publish the items, as an ingestion does."""
    known = set(data.read("images", ["image_hash"], IMAGE_SCHEMA)["image_hash"].to_pylist())
    pictures, rows = [], []
    for item in items:
        path = f"images/files/{item.image_hash[:2]}/{item.image_hash}.png"
        if item.image_hash not in known:
            data.write_bytes(path, item.content)
            pictures.append(
                {
                    "image_hash": item.image_hash,
                    "path": path,
                    "width": 64,
                    "height": 64,
                    "format": "PNG",
                    "perceptual_hash": "",
                }
            )
        rows.append(
            {
                "item_id": item.item_id,
                "label": "Shape",
                "title": item.shape,
                "text": f"one {item.shape}",
                "image_hash": item.image_hash,
                "split": item.split,
                "group_id": item.item_id,
                "opted_out": False,
            }
        )
    data.append("images", pa.Table.from_pylist(pictures, IMAGE_SCHEMA), IMAGE_SCHEMA)
    data.publish(f"items/{source}", [pa.Table.from_pylist(rows, ITEM_SCHEMA)], ITEM_SCHEMA)
