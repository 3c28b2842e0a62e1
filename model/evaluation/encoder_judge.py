"""The judge of data whose entities cannot be told from images: the encoder's own image embeddings.

It is less independent than `model.evaluation.judge`, since the model was conditioned on embeddings of the same encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from ingest.datasets.items import read_items
from ingest.datasets.root import DataRoot
from ingest.datasets.vectors import Matrix, image_vectors
from ingest.encoders.checkpoint import Encoder, load_encoder
from ingest.encoders.vectors import choose_device
from ingest.errors import Graph2ImageError
from model.evaluation.palette import Pixels
from model.evaluation.roles import Question, Role

#: Training images that the mean embedding is computed from, at most, and images that are encoded at a time.
_CENTER_IMAGES, _BATCH = 10_000, 256


@dataclass(frozen=True)
class EncoderJudge:
    """Compares images as `model.evaluation.judge.Judge` does, and is asked nothing.

    Parameters
    ----------
    size
        Side of the images that it takes, in pixels.
    center
        `(dim,)` mean embedding of training images; embeddings are compared relative to it.
    """

    judge_id: str
    encoder: Encoder
    center: Matrix
    size: int
    questions: Mapping[Role, Question] = field(default_factory=dict)

    def predict(self, pixels: Pixels, groups: Sequence[str | None]) -> tuple[Matrix, dict[Role, list[str]]]:
        """Centered unit embeddings `(n, dim)` of `(n, height, width, 3)` pixels, and no entities.

        `groups` are not looked at: the encoder has seen all training images.
        """
        parts = []
        for start in range(0, len(pixels), _BATCH):
            images = [self.encoder.prepare(Image.fromarray(image)) for image in pixels[start : start + _BATCH]]
            parts.append(self.encoder.encode_images(images).cpu().numpy())
        embeddings = np.concatenate(parts) - self.center
        return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12), {}


def load_encoder_judge(data: DataRoot, encoder: str, size: int) -> EncoderJudge:
    """The judge that compares by embeddings of `encoder`.

    Raises
    ------
    Graph2ImageError
        If the encoder is not in the data root, or has embedded no training image.
    """
    wanted = (pc.field("split") == "train") & pc.field("image_hash").is_valid()
    hashes = pc.unique(read_items(data, ["image_hash"], where=wanted)["image_hash"].combine_chunks())
    vectors = image_vectors(data, encoder, hashes.sort().slice(0, _CENTER_IMAGES))
    if not vectors.found.any():
        raise Graph2ImageError(f"no training image has an embedding of {encoder}", "Run `graph2image embed` first.")
    center = vectors.matrix[vectors.found].mean(axis=0)
    return EncoderJudge(f"encoder-{encoder}", load_encoder(data, encoder, choose_device("cpu")), center, size)
