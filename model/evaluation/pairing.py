"""What a comparison is about: rows of a table, each some evaluations' images of one variant, item by item.

Only what pairs is compared: the same items of the same split, made from the same start noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.errors import Graph2ImageError
from model.evaluation.record import EvaluationRecord
from model.generation.variants import Variant


@dataclass(frozen=True)
class Entry:
    """One row of a comparison.

    Parameters
    ----------
    name
        What the row is called.
    variant
        Which of the evaluations' images it is about.
    evaluations
        One for each seed, of one model or of several that were trained alike: an item's images of all of them count as
        one, by their mean.
    """

    name: str
    variant: Variant
    evaluations: tuple[EvaluationRecord, ...]

    @property
    def model_ids(self) -> tuple[str, ...]:
        """The models that the images are of."""
        return tuple(dict.fromkeys(record.model_id for record in self.evaluations))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the start noise, sorted."""
        return tuple(sorted(int(record.settings.get("seed", 0)) for record in self.evaluations))

    def images(self, record: EvaluationRecord) -> dict[str, str]:
        """Ids of the images of one of the evaluations, by item."""
        return {image.item_id: image.generated_id for image in record.images if image.variant == self.variant}

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The items, in the order of the first evaluation."""
        return tuple(self.images(self.evaluations[0]))


def require_pairs(entries: Sequence[Entry]) -> None:
    """Raise a `Graph2ImageError`, which names the rows, if the images of these entries do not pair."""
    names = [entry.name for entry in entries]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Graph2ImageError(f"two rows of the comparison are called {twice!r}", "Give each a name of its own.")
    if not entries or not all(entry.evaluations for entry in entries):
        raise Graph2ImageError("there is nothing to compare: an entry has no evaluation")
    for entry in entries:
        _require_whole(entry)
    first = entries[0]
    for entry in entries[1:]:
        if (ours := first.evaluations[0].split) != (theirs := entry.evaluations[0].split):
            raise _no_pair(first, entry, f"one is about the {ours} split, the other about the {theirs} split")
        if first.seeds != entry.seeds:
            raise _no_pair(first, entry, f"their seeds are {_listed(first.seeds)} and {_listed(entry.seeds)}")
        if different := set(first.item_ids) ^ set(entry.item_ids):
            raise _no_pair(first, entry, f"{len(different)} items are in one of them only, such as {min(different)}")


def _require_whole(entry: Entry) -> None:
    """The evaluations of an entry are different ones, of the same items."""
    ids = [record.evaluation_id for record in entry.evaluations]
    for record, evaluation_id in zip(entry.evaluations, ids, strict=True):
        if ids.count(evaluation_id) > 1:
            raise Graph2ImageError(f"{entry.name!r} has evaluation {evaluation_id} twice")
        if not entry.images(record):
            there = sorted({image.variant for image in record.images}, key=lambda variant: variant.sort_key)
            raise Graph2ImageError(
                f"{entry.name!r}: evaluation {evaluation_id} of {record.model_id} has no images of the variant "
                f"{entry.variant.label}",
                f"It has: {', '.join(variant.label for variant in there)}.",
            )
        if record.split != entry.evaluations[0].split or set(entry.images(record)) != set(entry.item_ids):
            raise Graph2ImageError(
                f"{entry.name!r}: evaluations {ids[0]} and {evaluation_id} do not pair: they are about other items",
                "Evaluate them with the same --split and --items.",
            )


def _no_pair(first: Entry, second: Entry, why: str) -> Graph2ImageError:
    return Graph2ImageError(
        f"{first.name!r} and {second.name!r} do not pair: {why}",
        "Evaluate them with the same --split, --items and --seed.",
    )


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
