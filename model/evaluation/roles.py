"""What the judge is asked of an image: whose style it has, and what it shows.

A graph tells many things of an item, and most follow from a few: who knows a work's artist knows its movement, school
and period. So two labels of entities are chosen, one for each half of the task:

- *subject*: what the text says and an image shows (a tag, a category);
- *style*: what an image shows and the text does not say, which only the graph knows (an artist, a brand, a color).

Both are measured on the training items, each by classifiers that have not seen the item: of a label, how much better
than by guessing its entity is told from the image, and how much from the words of the text. An item that has several
entities of a label is told by the rarest, which says most, and is told right if any of its own is named.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.datasets.items import item_entities, read_entities
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.evaluation.linear import FOLDS, CrossFitted, Indices, Matrix, cross_fit

Role = Literal["style", "subject"]
ROLES: tuple[Role, ...] = get_args(Role)

#: A class needs this many training images, and a label keeps its most frequent classes.
SMALLEST_CLASS = 8
MOST_CLASSES = 256
#: A label is left out if its classes cover less than this share of the training images.
SMALLEST_COVERAGE = 0.3
#: Of the subject, image and text have to tell this much more than a guess; of the style, the image has to tell this
#: much more than the text.
LEAST_SKILL = 0.1
#: Labels that share more than this of what they tell are one question, and not two.
MOST_SHARED = 0.5
#: Index of the class of an item that has none.
NO_CLASS = -1
#: Texts are seen as sets of words, by the remainders of their hashes.
_WORDS = 1024

#: The entities of items, by label and item id.
Entities = Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Question:
    """A label that the judge is asked for, in its role.

    Parameters
    ----------
    classes
        Entity ids, sorted.
    accuracy
        How often the entity is told right from true training images, by classifiers that have not seen them.
    text_accuracy
        The same, from the words of the items' texts.
    chance
        The same, if always the most frequent entity is named.
    """

    role: Role
    label: str
    classes: tuple[str, ...]
    accuracy: float
    text_accuracy: float
    chance: float


@dataclass(frozen=True)
class Told:
    """A label, with what images and texts tell of it; `targets` has the class of each training item."""

    label: str
    classes: tuple[str, ...]
    targets: Indices
    by_image: CrossFitted
    accuracy: float
    text_accuracy: float
    chance: float

    @property
    def bits(self) -> float:
        """Entropy of the classes."""
        shares = np.bincount(self.targets[self.targets != NO_CLASS]) / np.sum(self.targets != NO_CLASS)
        return float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())

    @property
    def image_skill(self) -> float:
        """What the image tells, from 0 (a guess) to 1."""
        return max(0.0, (self.accuracy - self.chance) / max(1 - self.chance, 1e-9))

    @property
    def text_skill(self) -> float:
        """What the text tells, from 0 (a guess) to 1."""
        return max(0.0, (self.text_accuracy - self.chance) / max(1 - self.chance, 1e-9))

    @property
    def style_score(self) -> float:
        """How much of the label images tell and texts do not; 0 if too little."""
        more = self.image_skill - self.text_skill
        return self.bits * more**2 if more >= LEAST_SKILL else 0.0

    @property
    def subject_score(self) -> float:
        """How much of the label both images and texts tell; 0 if too little."""
        both = min(self.image_skill, self.text_skill)
        return self.bits * both**2 if both >= LEAST_SKILL else 0.0

    def question(self, role: Role) -> Question:
        """The label in a role."""
        return Question(role, self.label, self.classes, self.accuracy, self.text_accuracy, self.chance)


def item_labels(data: DataRoot, item_ids: Sequence[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Ids of the items' entities, by label and item id."""
    items, entities = pa.array(item_ids, pa.string()), read_entities(data)
    pairs = item_entities(data, items, entities["entity_id"].combine_chunks())
    rows = entities.take(pairs[1]).to_pydict()
    found: dict[str, dict[str, dict[str, None]]] = {}
    for item, label, entity in zip(items.take(pairs[0]).to_pylist(), rows["label"], rows["entity_id"], strict=True):
        found.setdefault(label, {}).setdefault(item, {})[entity] = None
    return {label: {item: tuple(of_item) for item, of_item in items.items()} for label, items in found.items()}


def tell(
    item_ids: Sequence[str], entities: Entities, texts: Sequence[str], descriptors: Matrix, folds: Indices
) -> list[Told]:
    """What images and texts tell of every label that has classes enough, in the order of the labels' names."""
    labels = {label: _classes(item_ids, entities[label]) for label in sorted(entities)}
    labels = {label: (classes, targets) for label, (classes, targets) in labels.items() if _can_be_told(targets, folds)}
    if not labels:
        return []
    indicators = np.concatenate([_indicators(targets, len(classes)) for classes, targets in labels.values()], axis=1)
    words = _words(texts)
    by_image, by_text = cross_fit(descriptors, indicators, folds), cross_fit(words, indicators, folds)
    found, first = [], 0
    for label, (classes, targets) in labels.items():
        own = [{*entities[label].get(item, ())} for item in item_ids]
        known = targets != NO_CLASS
        frequency = Counter(entity for row in np.flatnonzero(known) for entity in own[row])
        its = slice(first, first := first + len(classes))
        found.append(
            Told(
                label,
                classes,
                targets,
                by_image.of(its),
                _accuracy(by_image.of(its).predict(descriptors, folds), known, classes, own),
                _accuracy(by_text.of(its).predict(words, folds), known, classes, own),
                max(frequency[entity] for entity in classes) / int(known.sum()),
            )
        )
    return found


def choose(told: Sequence[Told], wanted: Mapping[Role, str]) -> dict[Role, Told]:
    """The labels for the roles, by role; a role that no label can play is left out.

    Parameters
    ----------
    wanted
        Labels that are named by the user, whatever the figures say.

    Raises
    ------
    Graph2ImageError
        If a wanted label has no classes that could be told.
    """
    by_label = {one.label: one for one in told}
    chosen: dict[Role, Told] = {}
    for role, label in wanted.items():
        if label not in by_label:
            raise Graph2ImageError(
                f"the judge cannot be asked for the {role} by {label!r}: too few training items share entities of it",
                f"It can be asked for: {', '.join(by_label)}." if by_label else "There are no such entities at all.",
            )
        chosen[role] = by_label[label]
    for role in ROLES:
        if role in chosen:
            continue
        scores = {
            one.label: one.style_score if role == "style" else one.subject_score
            for one in told
            if all(_shared(one.targets, other.targets) <= MOST_SHARED for other in chosen.values())
        }
        best = max(scores, key=lambda label: (scores[label], label), default=None)
        if best is not None and scores[best] > 0:
            chosen[role] = by_label[best]
    return {role: chosen[role] for role in ROLES if role in chosen}


def _classes(item_ids: Sequence[str], entities: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], Indices]:
    """The classes of a label, and the class of each item; no classes if they cover too few items."""
    counts = Counter(entity for item in item_ids for entity in entities.get(item, ()))
    kept = {entity for entity, count in counts.most_common(MOST_CLASSES) if count >= SMALLEST_CLASS}

    def rarest(item: str) -> str | None:
        return min((e for e in entities.get(item, ()) if e in kept), key=lambda e: (counts[e], e), default=None)

    # A class that is nobody's rarest one has nothing to learn from.
    told = Counter(rarest(item) for item in item_ids)
    kept = {entity for entity in kept if told[entity] >= SMALLEST_CLASS}
    classes = tuple(sorted(kept))
    place = {entity: index for index, entity in enumerate(classes)}
    targets = np.array([place.get(rarest(item) or "", NO_CLASS) for item in item_ids], np.int64)
    if np.mean(targets != NO_CLASS) < SMALLEST_COVERAGE:
        return (), np.full(len(item_ids), NO_CLASS)
    return classes, targets


def _indicators(targets: Indices, count: int) -> Matrix:
    """1 for the class of each item, `(n, count)`."""
    indicators: Matrix = (targets[:, None] == np.arange(count)).astype(np.float32)
    return indicators


def _accuracy(
    predicted: Indices, known: npt.NDArray[np.bool_], classes: Sequence[str], own: Sequence[set[str]]
) -> float:
    """How often one of the item's own entities is named, where it has any that is a class."""
    return float(np.mean([classes[predicted[row]] in own[row] for row in np.flatnonzero(known).tolist()]))


def _can_be_told(targets: Indices, folds: Indices) -> bool:
    """Whether the classifier of every fold sees two classes at least."""
    known = targets != NO_CLASS
    return all(len(np.unique(targets[known & (folds != fold)])) > 1 for fold in range(FOLDS))


def _shared(first: Indices, second: Indices) -> float:
    """Which share of what the less telling of two labels tells is told by the other too, corrected for chance."""
    known = (first != NO_CLASS) & (second != NO_CLASS)
    one, other = first[known], second[known]
    if len(one) == 0:
        return 0.0
    generator = np.random.default_rng(0)
    by_chance = float(np.mean([_information(one, generator.permutation(other)) for _ in range(5)]))
    most = min(_information(one, one), _information(other, other))
    return (_information(one, other) - by_chance) / max(most - by_chance, 1e-9)


def _information(first: Indices, second: Indices) -> float:
    """Mutual information in bits."""
    joint = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(joint, (first, second), 1 / len(first))
    expected = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log2(joint[there] / expected[there])).sum())


def _words(texts: Sequence[str]) -> Matrix:
    """Which words each text has, `(n, _WORDS)`."""
    found = np.zeros((len(texts), _WORDS), np.float32)
    for row, text in enumerate(texts):
        for word in re.findall(r"\w+", text.casefold()):
            found[row, zlib.crc32(word.encode()) % _WORDS] = 1
    return found
