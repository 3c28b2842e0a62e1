"""Who looks at the images of a comparison, and which metrics each of them gives.

The judge says what is right in an image. For each extractor of features, and for the judge's own:

- *image–image*: cosine of the features of the generated and the true image; of CLIP and DINOv2 cut at 0, as InstructG2I
  (Jin et al. 2024) reports it;
- *image–text*: cosine of the features of the generated image and of the item's text;
- *neighbor similarity*: mean cosine with the images of the neighbors that the item is conditioned on;
- *neighbor divergence*: Kullback-Leibler divergence of these similarities of all generated images from those of all
  true images, each taken for normally distributed;
- *FID* and *KID* of all generated images from all true ones, see `model.evaluation.distances`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from ingest.images.loading import Fit, image_paths, open_image, square, try_images
from model.evaluation.distances import LEAST_FOR_KID, fid, kid, least_for_fid
from model.evaluation.features import FeatureExtractor, Features, cosines, image_features, text_features
from model.evaluation.images import Row, read_generated
from model.evaluation.judge import Judge
from model.evaluation.metrics import Aspect, asked
from model.evaluation.palette import Pixels
from model.evaluation.roles import Role
from model.evaluation.statistics import Floats
from model.evaluation.subjects import Rows, Subjects

#: What a metric measures.
Kind = Literal[Aspect, "image", "text", "neighbors", "neighbor_divergence", "fid", "kid"]
_LABELS: Mapping[Kind, str] = {
    "style": "style right",
    "subject": "subject right",
    "both": "style and subject right",
    "image": "image–image",
    "text": "image–text",
    "neighbors": "neighbor similarity",
    "neighbor_divergence": "neighbor divergence",
    "fid": "FID",
    "kid": "KID",
}
#: Those of all images together; of all of them lower is better.
_OF_SETS: tuple[Kind, ...] = ("neighbor_divergence", "fid", "kid")
#: Similarities that vary less than this, as a standard deviation, are taken to vary so much.
_LEAST_DEVIATION = 1e-3


class Metric(BaseModel):
    """A column of a comparison.

    Parameters
    ----------
    key
        Names it, with the extractor and its version.
    label
        For people.
    source
        Whose features it is computed from, for people.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    kind: Kind
    label: str
    source: str
    extractor_id: str

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is better."""
        return not self.of_sets

    @property
    def of_sets(self) -> bool:
        """Whether it is of all images together, and not of each."""
        return self.kind in _OF_SETS


class View(abc.ABC):
    """One way to look at the images of a comparison.

    Parameters
    ----------
    kinds
        The metrics of single images; and those of sets other than FID and KID.
    truth
        Features of the items' true images.

    Attributes
    ----------
    metrics
        Those of `kinds`, then those of sets of images that there are enough images for.
    notes
        Which cannot be had, and why.
    """

    def __init__(self, extractor_id: str, source: str, kinds: Sequence[Kind], truth: Features) -> None:
        self._truth = truth
        n, dim = truth.matrix.shape
        sets: list[Kind] = [kind for kind in kinds if kind in _OF_SETS]
        sets += ["fid"] if n >= least_for_fid(dim) else []
        sets += ["kid"] if n >= LEAST_FOR_KID else []
        self.metrics = tuple(
            Metric(
                key=f"{extractor_id}.{kind}", kind=kind, label=_LABELS[kind], source=source, extractor_id=extractor_id
            )
            for kind in (*(kind for kind in kinds if kind not in _OF_SETS), *sets)
        )
        self.notes: tuple[str, ...] = ()
        if "fid" not in sets:
            self.notes = (
                f"no FID by {source}: its {dim:,} features need {least_for_fid(dim):,} images, there are {n:,}; "
                "KID stands in its place, which is unbiased for few images too",
            )

    @abc.abstractmethod
    def values(self, rows: Sequence[Row]) -> tuple[Floats, Features]:
        """Values `(items, kinds)` of the items' generated images, NaN where there is none; and their features."""

    @property
    @abc.abstractmethod
    def true_values(self) -> Floats:
        """Values `(items, kinds)` of the true images, NaN where that would say nothing."""

    def distances(self, features: Features, parts: Sequence[Rows]) -> dict[str, tuple[float, Floats | None]]:
        """Distances of the generated images from the true ones, by the metrics' keys; and of parts of the items."""
        found: dict[str, tuple[float, Floats | None]] = {}
        for metric in self.metrics:
            if metric.kind == "fid":
                found[metric.key] = fid(features, self._truth), None
            elif metric.kind == "kid":
                found[metric.key] = kid(features, self._truth, parts)
        return found


class JudgeView(View):
    """The product's own judge: what is right, and its own features."""

    def __init__(self, data: DataRoot, subjects: Subjects, judge: Judge) -> None:
        self._data, self._subjects, self._judge = data, subjects, judge
        pixels = np.stack([subjects.truth[item.image_hash] for item in subjects.items])
        matrix, self._true_entities = judge.predict(pixels, [item.group_id for item in subjects.items])
        truth = Features(judge.judge_id, matrix)
        super().__init__(judge.judge_id, "graph2image's judge", (*asked(judge.questions), "image"), truth)

    def values(self, rows: Sequence[Row]) -> tuple[Floats, Features]:
        pixels = np.stack([_pixels(_generated(self._data, row), self._judge.size) for row in rows])
        matrix, entities = self._judge.predict(pixels, [None] * len(rows))
        features = Features(self._judge.judge_id, matrix)
        return np.column_stack([*self._right(entities), cosines(features, self._truth)]), features

    @property
    def true_values(self) -> Floats:
        return np.column_stack([*self._right(self._true_entities), np.full(len(self._subjects.items), np.nan)])

    def _right(self, entities: Mapping[Role, Sequence[str]]) -> list[Floats]:
        """Whether each image is right in a role, and in both; NaN for an item without an entity that is asked for."""
        found = []
        for role, question in self._judge.questions.items():
            own = [{*self._subjects.entities.get(question.label, {}).get(i.item_id, ())} for i in self._subjects.items]
            right = [
                np.nan if mine.isdisjoint(question.classes) else float(seen in mine)
                for seen, mine in zip(entities[role], own, strict=True)
            ]
            found.append(np.array(right, np.float64))
        return [*found, found[0] * found[1]] if len(found) > 1 else found


class ExtractorView(View):
    """An extractor of features."""

    def __init__(self, data: DataRoot, subjects: Subjects, extractor: FeatureExtractor) -> None:
        self._data, self._subjects, self._extractor = data, subjects, extractor
        self._is_published = extractor.family in ("clip", "dinov2")
        items = subjects.items
        paths = image_paths(data)
        hashes = list(dict.fromkeys([*(i.image_hash for i in items), *(n for i in items for n in i.neighbors)]))
        readable = _readable(data, paths, hashes)
        stored = self._features(
            [f"{one}:{subjects.fit}" for one in readable],
            [partial(_stored, data, paths[one], subjects.fit) for one in readable],
        )
        index = {one: row for row, one in enumerate(readable)}
        self._neighbors = [
            stored.rows(np.array([index[one] for one in item.neighbors if one in index], np.int64)) for item in items
        ]
        truth = stored.rows(np.array([index[item.image_hash] for item in items], np.int64))
        self._with_text = np.array([bool(item.text.strip()) for item in items])
        self._texts = self._text_features() if extractor.has_texts and self._with_text.any() else None
        kinds: list[Kind] = ["image"]
        kinds += ["text"] if self._texts is not None else []
        if sum(len(one.matrix) > 0 for one in self._neighbors) > 1:
            kinds += ["neighbors", "neighbor_divergence"]
        super().__init__(extractor.extractor_id, _source(extractor), kinds, truth)
        self._with_neighbors = "neighbors" in kinds

    def values(self, rows: Sequence[Row]) -> tuple[Floats, Features]:
        features = self._features(
            [row["image_sha256"] or row["generated_id"] for row in rows],
            [partial(_generated, self._data, row) for row in rows],
        )
        return self._columns(features), features

    @property
    def true_values(self) -> Floats:
        found = self._columns(self._truth)
        found[:, 0] = np.nan  # the similarity with itself
        return found

    def distances(self, features: Features, parts: Sequence[Rows]) -> dict[str, tuple[float, Floats | None]]:
        found = super().distances(features, parts)
        for metric in self.metrics:
            if metric.kind == "neighbor_divergence":
                true, ours = self._neighbor_similarities(self._truth), self._neighbor_similarities(features)
                of_parts = np.array([divergence(true[part], ours[part]) for part in parts])
                found[metric.key] = divergence(true, ours), of_parts if len(parts) else None
        return found

    def _columns(self, features: Features) -> Floats:
        columns = [self._score(cosines(features, self._truth))]
        if self._texts is not None:
            of_texts = np.full(len(features.matrix), np.nan)
            rows = np.flatnonzero(self._with_text)
            of_texts[rows] = self._score(cosines(features.rows(rows), self._texts))
            columns.append(of_texts)
        if self._with_neighbors:
            columns.append(self._neighbor_similarities(features))
        return np.column_stack(columns)

    def _score(self, found: Floats) -> Floats:
        return np.maximum(found, 0.0) if self._is_published else found

    def _neighbor_similarities(self, features: Features) -> Floats:
        """`(items,)`: mean cosine of an item's image with the images of its neighbors, NaN for one without any."""
        return np.array(
            [
                float((near.unit @ own).mean()) if len(near.matrix) else np.nan
                for near, own in zip(self._neighbors, features.unit, strict=True)
            ],
            np.float64,
        )

    def _features(self, keys: Sequence[str], images: Sequence[Callable[[], Image.Image]]) -> Features:
        """Features of images, of which some may be equal."""
        distinct = dict(zip(keys, images, strict=True))
        index = {key: row for row, key in enumerate(distinct)}
        found = image_features(self._data, self._extractor, distinct)
        return found.rows(np.array([index[key] for key in keys], np.int64))

    def _text_features(self) -> Features:
        texts = [item.text for item in self._subjects.items if item.text.strip()]
        distinct = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        found = text_features(self._data, self._extractor, list(distinct))
        return found.rows(np.array([distinct[text] for text in texts], np.int64))


def divergence(true: Floats, generated: Floats) -> float:
    """Kullback-Leibler divergence, in nats, of the values of generated images from those of true ones.

    Both are taken for samples of normal distributions, of which it is that of the true from the generated one.

    Parameters
    ----------
    true, generated
        `(items,)`; NaN where an item has no value.

    Returns
    -------
    float
        NaN if fewer than two items have values.
    """
    known = ~(np.isnan(true) | np.isnan(generated))
    if known.sum() < 2:
        return np.nan
    one, other = true[known], generated[known]
    spread, other_spread = max(one.std(ddof=1), _LEAST_DEVIATION), max(other.std(ddof=1), _LEAST_DEVIATION)
    squared = spread**2 + (one.mean() - other.mean()) ** 2
    return float(np.log(other_spread / spread) + squared / (2 * other_spread**2) - 0.5)


def _source(extractor: FeatureExtractor) -> str:
    """Whose features these are. Only what is a CLIP or a DINOv2 is called so."""
    titles = {"clip": "CLIP", "dinov2": "DINOv2", "encoder": "graph2image's encoder", "judge": "graph2image's judge"}
    return f"{titles[extractor.family]} ({extractor.name})"


def _readable(data: DataRoot, paths: Mapping[str, str], hashes: Sequence[str]) -> list[str]:
    found = try_images(data, paths, hashes, lambda _: None)
    return [one for one, image in zip(hashes, found, strict=True) if not isinstance(image, Graph2ImageError)]


def _stored(data: DataRoot, path: str, fit: Fit) -> Image.Image:
    """A stored image as a square: its middle, or all of it, at its own resolution."""
    image = open_image(data, path)
    return square(image, (max if fit == "pad" else min)(image.size), fit)


def _generated(data: DataRoot, row: Row) -> Image.Image:
    image = read_generated(data, row)
    if image is None:  # it could be read a moment ago
        raise Graph2ImageError(f"cannot read the generated image {data.path(row['image_path'])}", "Compare again.")
    return image


def _pixels(image: Image.Image, size: int) -> Pixels:
    return np.asarray(square(image, size))
