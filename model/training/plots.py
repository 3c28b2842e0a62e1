"""What a training looks like so far, as images: curves of the loss and of the learning rate, and grids of samples."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from ingest.datasets.root import DataRoot
from ingest.images.loading import Fit, load_squares
from model.pipeline import Graph2ImagePipeline
from model.training.arrays import TrainingArrays
from model.training.items import TrainingItems

logger = logging.getLogger(__name__)

#: Items in a grid, and the sampler's steps.
GRID_ITEMS, GRID_STEPS = 6, 20
_CELL, _GAP, _HEADER = 160, 8, 28


def curves_png(losses: npt.NDArray[np.floating[Any]], learning_rates: Sequence[float], title: str) -> bytes:
    """The loss of every step with its running mean, and the learning rate, over the steps, as a PNG."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = np.arange(1, len(losses) + 1)
    width = max(1, min(100, len(losses) // 10))
    left.plot(steps, losses, color="#b8c4d6", linewidth=0.8, label="each step")
    if len(losses):
        mean = np.convolve(losses, np.ones(width) / width, "valid")
        left.plot(steps[width - 1 :], mean, color="#1f4e8c", linewidth=1.6, label=f"mean of {width} steps")
    left.set(xlabel="step", ylabel="loss", title="Loss")
    top = float(np.quantile(losses, 0.995)) if len(losses) else 1.0
    left.set_ylim(0, 1.1 * top or 1.0)
    left.legend(frameon=False)
    right.plot(steps, learning_rates, color="#1f4e8c", linewidth=1.6)
    right.set(xlabel="step", ylabel="learning rate", title="Learning rate")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    figure.suptitle(title, fontsize=10)
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png")
    return content.getvalue()


@dataclass(frozen=True)
class SampleGrid:
    """A few items with images of their neighbors, and what the model makes of them in the course of its training.

    Parameters
    ----------
    indices
        `(n,)` the items, as `TrainingArrays` counts them.
    texts
        Their texts.
    truths
        `(n, size, size, 3)` uint8, their images.
    neighbors
        For each item the images of its neighbors, `(k, size, size, 3)`.
    """

    indices: torch.Tensor
    texts: list[str]
    truths: npt.NDArray[np.uint8]
    neighbors: list[npt.NDArray[np.uint8]]

    @classmethod
    def choose(cls, data: DataRoot, items: TrainingItems, image_size: int, fit: Fit) -> SampleGrid:
        """Items with many neighbors, spread over all: always the same ones."""
        most = np.argsort(-items.neighbor_counts, kind="stable")
        alike = most[: max(GRID_ITEMS, int((items.neighbor_counts == items.neighbor_counts.max()).sum()))]
        chosen = np.sort(alike[np.linspace(0, len(alike) - 1, min(GRID_ITEMS, len(alike))).astype(int)])
        ends = np.cumsum(items.neighbor_counts)
        rows = items.table.take(chosen).to_pydict()
        neighbors = []
        for index in chosen.tolist():
            start, count = int(ends[index] - items.neighbor_counts[index]), int(items.neighbor_counts[index])
            shown = "image_hash" in items.neighbors.column_names
            hashes = items.neighbors["image_hash"].slice(start, count).to_pylist() if shown else []
            empty = np.zeros((0, image_size, image_size, 3), np.uint8)
            neighbors.append(load_squares(data, hashes, image_size, fit) if hashes else empty)
        truths = load_squares(data, rows["image_hash"], image_size, fit)
        return cls(torch.from_numpy(chosen), list(rows["text"]), truths, neighbors)

    def sample(
        self, pipeline: Graph2ImagePipeline, arrays: TrainingArrays, seed: int, guidance_scale: float
    ) -> list[Image.Image]:
        """The model's images for the items; the same seed starts from the same noise."""
        nothing = torch.zeros(len(self.indices), dtype=torch.bool)
        neighbors = arrays.batch(self.indices, nothing, nothing).neighbors
        with torch.no_grad():
            images: list[Image.Image]
            (images,) = pipeline(
                self.texts,
                neighbor_embeds=neighbors.neighbor_embeds,
                neighbor_mask=neighbors.neighbor_mask,
                neighbor_text_embeds=neighbors.neighbor_text_embeds,
                neighbor_weights=neighbors.neighbor_weights,
                neighbor_types=neighbors.neighbor_types,
                neighbor_detail=neighbors.neighbor_detail,
                guidance_scale=guidance_scale,
                num_inference_steps=GRID_STEPS,
                generator=[torch.Generator().manual_seed(seed + row) for row in range(len(self.texts))],
                return_dict=False,
            )
        return images

    def draw(self, images: Sequence[Image.Image]) -> Image.Image:
        """The grid: a row per item, with its image, its neighbors' images, and the model's image of it."""
        columns = max(len(neighbors) for neighbors in self.neighbors)
        heads = {0: "truth", 1: "neighbors", columns + 1: "model"}
        grid = Image.new(
            "RGB",
            ((columns + 2) * (_CELL + _GAP) + 3 * _GAP, len(images) * (_CELL + _GAP) + _HEADER + _GAP),
            "white",
        )
        draw, font = ImageDraw.Draw(grid), ImageFont.load_default(14)

        def left(column: int) -> int:  # the neighbors stand a little apart
            return column * (_CELL + _GAP) + _GAP * (1 + (column > 0) + (column > columns))

        for column, head in heads.items():
            if columns or column != 1 or head == "model":
                draw.text((left(column), 7), head, fill="#333333", font=font)
        for row, (truth, neighbors, made) in enumerate(zip(self.truths, self.neighbors, images, strict=True)):
            cells = {0: Image.fromarray(truth), columns + 1: made}
            cells |= {1 + rank: Image.fromarray(neighbor) for rank, neighbor in enumerate(neighbors)}
            for column, cell in cells.items():
                resized = cell.convert("RGB").resize((_CELL, _CELL), Image.Resampling.BICUBIC)
                grid.paste(resized, (left(column), _HEADER + row * (_CELL + _GAP)))
        return grid


def png(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    content = io.BytesIO()
    image.save(content, "png")
    return content.getvalue()
