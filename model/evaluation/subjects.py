"""The items of a comparison: their true images, texts, neighbors and clusters, and who judges them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from ingest.datasets.items import among, item_texts, read_items
from ingest.datasets.root import DataRoot, digest
from ingest.errors import Graph2ImageError
from ingest.images.loading import Fit
from model.evaluation.images import Row, generated_rows, read_generated, readable_squares, source_ids
from model.evaluation.judge import Judge, judge_size, read_training_items, train_judge
from model.evaluation.pairing import Entry
from model.evaluation.palette import Pixels
from model.evaluation.roles import Entities, Question, Role, item_labels
from model.record import ModelRecord, read_model_record

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Item:
    """An item that is compared.

    Parameters
    ----------
    cluster
        Items of one cluster are not independent of each other.
    neighbors
        Hashes of the images of the neighbors that it is conditioned on, best first.
    """

    item_id: str
    image_hash: str
    group_id: str
    text: str
    cluster: str
    neighbors: tuple[str, ...]


@dataclass(frozen=True)
class Subjects:
    """What is compared, and by whom it is judged.

    Parameters
    ----------
    generated
        Rows of the generated images, by id.
    truth
        True images by hash, as the judge takes them.
    fit
        How images become square.
    judge
        None if no entities can be told from images.
    entities
        The items' own entities, by label and item id.
    groups
        Indices of the items of each entity, by label and entity id.
    notes
        What of the request is otherwise than asked for.
    """

    items: tuple[Item, ...]
    generated: Mapping[str, Row] = field(repr=False)
    truth: Mapping[str, Pixels] = field(repr=False)
    fit: Fit
    judge: Judge | None
    entities: Entities = field(repr=False)
    groups: Mapping[str, Mapping[str, Rows]] = field(repr=False)
    cluster_label: str | None
    notes: tuple[str, ...]

    @property
    def questions(self) -> Mapping[Role, Question]:
        """What the judge is asked."""
        return {} if self.judge is None else self.judge.questions

    @property
    def inputs(self) -> str:
        """Digest of all that decides the figures, but for the extractors."""
        images = sorted((name, str(row["image_sha256"])) for name, row in self.generated.items())
        items = [(item.item_id, item.image_hash, item.text, item.cluster, item.neighbors) for item in self.items]
        return digest(images, items, self.fit, None if self.judge is None else self.judge.judge_id)


def find_subjects(
    data: DataRoot, entries: Sequence[Entry], withdrawn: Collection[str] = (), cluster_label: str | None = None
) -> Subjects:
    """The items of which every entry has all images, and what is known of them.

    Raises
    ------
    Graph2ImageError
        If fewer than two items are left, the models do not make their images square in the same way, or there is no
        such label.
    """
    records = [(entry, record) for entry in entries for record in entry.evaluations]
    models = {record.model_id: read_model_record(data, record.model_id) for _, record in records}
    size, fit = _view(models)
    wanted = {name: item for entry, record in records for item, name in entry.images(record).items()}
    rows = generated_rows(data, wanted)
    lost = [
        item
        for name, item in wanted.items()
        if name not in rows or not {*withdrawn}.isdisjoint(source_ids(rows[name])) or not _is_whole(data, rows[name])
    ]
    kept = set(wanted.values()) - {*lost, *withdrawn}
    where = among("item_id", kept) & pc.field("image_hash").is_valid() & ~pc.field("opted_out")
    there = read_items(data, ["item_id", "image_hash", "group_id"], where=where).to_pylist()
    found = {row["item_id"]: row for row in there}
    truth = readable_squares(data, [row["image_hash"] for row in found.values()], size, fit)
    ids = [item for item in entries[0].item_ids if item in found and found[item]["image_hash"] in truth]
    if len(ids) < 2:
        raise Graph2ImageError(
            f"{len(ids)} items have a true image and an image of every entry that can be read; two are needed",
            "Run the same command again: it generates what is missing.",
        )
    training = read_training_items(data, withdrawn)
    judge = train_judge(data, training, size, entries[0].evaluations[0].labels, fit)
    entities = item_labels(data, ids)
    label = _cluster_label(cluster_label, judge, entities)
    clusters = _clusters(ids, {} if label is None else entities[label])
    texts, neighbors = item_texts(data, ids), _neighbors(data, entries, ids, withdrawn)
    items = tuple(
        Item(
            item_id,
            found[item_id]["image_hash"],
            found[item_id]["group_id"],
            texts.get(item_id, ""),
            clusters.get(item_id, f"group {found[item_id]['group_id']}"),
            neighbors.get(item_id, ()),
        )
        for item_id in ids
    )
    labels = {question.label for question in judge.questions.values()} if judge is not None else set()
    labels |= set() if label is None else {label}
    used = {name: row for name, row in rows.items() if wanted[name] in {*ids}}
    notes = (*_left_out(len(entries[0].item_ids) - len(ids)), *_other_settings(entries))
    return Subjects(items, used, truth, fit, judge, entities, _groups(ids, entities, sorted(labels)), label, notes)


def _view(models: Mapping[str, ModelRecord]) -> tuple[int, Fit]:
    """Side at which all images are judged, and how they become square."""
    fits: dict[Fit, str] = {}
    for model_id, record in models.items():
        fits.setdefault(record.config.image_fit, model_id)
    if len(fits) > 1:
        (one, first), (other, second) = list(fits.items())[:2]
        raise Graph2ImageError(
            f"{first} and {second} do not pair: their image_fit is {one!r} and {other!r}, so they show other parts",
            "Compare models that were trained with the same image_fit.",
        )
    return judge_size(min(record.config.image_size for record in models.values())), next(iter(fits))


def _is_whole(data: DataRoot, row: Row) -> bool:
    return read_generated(data, row) is not None


def _cluster_label(wanted: str | None, judge: Judge | None, entities: Entities) -> str | None:
    if wanted is None:
        style = judge.questions.get("style") if judge is not None else None
        return None if style is None or style.label not in entities else style.label
    if wanted not in entities:
        raise Graph2ImageError(
            f"the items have no entities with the label {wanted!r} to cluster them by",
            f"Their labels are: {', '.join(sorted(entities))}." if entities else "They have no entities at all.",
        )
    return wanted


def _clusters(item_ids: Sequence[str], entities: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The cluster of each item that has an entity: of several, the one that most of the items share."""
    counts = Counter(entity for item in item_ids for entity in entities.get(item, ()))
    return {
        item: max(entities[item], key=lambda entity: (counts[entity], entity)) for item in item_ids if item in entities
    }


def _groups(item_ids: Sequence[str], entities: Entities, labels: Sequence[str]) -> dict[str, dict[str, Rows]]:
    groups: dict[str, dict[str, list[int]]] = {}
    for label in labels:
        of_label = groups.setdefault(label, {})
        for row, item in enumerate(item_ids):
            for entity in entities.get(label, {}).get(item, ()):
                of_label.setdefault(entity, []).append(row)
    return {
        label: {entity: np.array(rows, np.int64) for entity, rows in sorted(found.items())}
        for label, found in groups.items()
    }


def _neighbors(
    data: DataRoot, entries: Sequence[Entry], item_ids: Sequence[str], withdrawn: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Hashes of the images of each item's own neighbors: those of its first image from text and graph."""
    images: dict[str, str] = {}
    for record in (record for entry in entries for record in entry.evaluations):
        for image in record.images:
            if image.variant.kind == "graph":
                images.setdefault(image.item_id, image.generated_id)
    rows = generated_rows(data, images.values())
    sources = {
        item: [source for source in source_ids(rows[images[item]]) if source not in withdrawn]
        for item in item_ids
        if images.get(item) in rows
    }
    where = among("item_id", {source for found in sources.values() for source in found})
    known = read_items(data, ["item_id", "image_hash"], where=where & pc.field("image_hash").is_valid())
    hashes = dict(zip(known["item_id"].to_pylist(), known["image_hash"].to_pylist(), strict=True))
    return {item: tuple(hashes[source] for source in found if source in hashes) for item, found in sources.items()}


def _left_out(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    return (f"{count} items are left out of all entries: an image of them is missing, damaged or withdrawn",)


def _other_settings(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Settings, other than the seed, in which the entries differ."""
    first, notes = entries[0], []
    ours = first.evaluations[0]
    for entry in entries[1:]:
        theirs = entry.evaluations[0]
        names = sorted({*ours.settings, *theirs.settings} - {"seed"})
        different = [
            f"{name.replace('_', ' ')} {ours.settings.get(name)} and {theirs.settings.get(name)}"
            for name in names
            if ours.settings.get(name) != theirs.settings.get(name)
        ]
        if ours.neighbors != theirs.neighbors:
            different.append(f"neighbors {ours.neighbors or 'live'} and {theirs.neighbors or 'live'}")
        if different:
            notes.append(f"{first.name} and {entry.name} were made with other settings: {'; '.join(different)}")
    return tuple(notes)
