"""Neighbors as a model is given them: what there is of each, and what of it a model looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: What `via` says of a neighbor that was not found along relations.
_NO_RELATION = pa.array(["indirect", "semantic", "random"])


@dataclass(frozen=True)
class Neighbor:
    """A neighbor as a source of an image.

    Parameters
    ----------
    item_id, image_hash
        The item, and its image; None for an item without one.
    weight
        Its weight among the neighbors of its set.
    relation_type
        The relation that it is a neighbor by; empty if none is known.
    text
        The item's text.
    """

    item_id: str
    image_hash: str | None
    weight: float = 1.0
    relation_type: str = ""
    text: str = ""


@dataclass(frozen=True)
class NeighborUse:
    """What a model looks at in its neighbors; all else of a `Neighbor` has no effect.

    Parameters
    ----------
    max_neighbors
        How many neighbors of a set it looks at, the first ones.
    images, texts, weights
        Whether it looks at their images, texts and weights.
    relation_types
        Names of the relation types that it was trained with.
    """

    max_neighbors: int
    images: bool
    texts: bool
    weights: bool
    relation_types: tuple[str, ...]

    def seen(self, neighbors: tuple[Neighbor, ...]) -> tuple[Neighbor, ...]:
        """The neighbors as the model sees them, without what it does not look at."""
        shown = [neighbor for neighbor in neighbors if neighbor.image_hash is not None or not self.images]
        return tuple(
            replace(
                neighbor,
                weight=neighbor.weight if self.weights else 1.0,
                relation_type=neighbor.relation_type if neighbor.relation_type in self.relation_types else "",
                text=neighbor.text if self.texts else "",
            )
            for neighbor in shown[: self.max_neighbors]
        )


def neighbor_weights(ppr: npt.NDArray[np.floating[Any]], sets: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
    """Weights of neighbors in their sets: the walk's score, divided by the largest one of the set.

    Where no walk was made the score is NaN, and the weight 1.

    Parameters
    ----------
    ppr
        `(n,)` scores.
    sets
        `(n,)` number of the set that each belongs to.
    """
    scores = np.nan_to_num(ppr, nan=0.0)
    largest = np.zeros(int(sets.max(initial=-1)) + 1, scores.dtype)
    np.maximum.at(largest, sets, scores)
    divided = scores / np.maximum(largest[sets], np.finfo(np.float32).tiny)
    return np.where(divided > 0, divided, 1.0).astype(np.float32)


def first_relations(via: pa.Array) -> pa.Array:
    """Type of the first relation of each path (as `NEIGHBOR_SCHEMA` has it in `via`); null where there is none."""
    first = pc.struct_field(pc.extract_regex(via, r"^(?P<type>\S+)"), "type")
    return pc.if_else(pc.is_in(first, value_set=_NO_RELATION), None, first)


def relation_numbers(relations: pa.Array, relation_types: Sequence[str]) -> npt.NDArray[np.int64]:
    """Places of relations in `relation_types`, counted from 1; 0 for others, as `GraphQFormer.forward` takes them."""
    numbers = pc.index_in(relations, value_set=pa.array(relation_types, pa.string()))
    return np.asarray(pc.add(pc.fill_null(numbers, -1), 1), np.int64)


def neighbor_features(
    neighbors: Sequence[Mapping[str, Any]], relation_types: Sequence[str]
) -> tuple[list[float], list[int]]:
    """Weight and relation type of each neighbor of one set, as models that look at them are trained on them.

    Parameters
    ----------
    neighbors
        Rows of `NEIGHBOR_SCHEMA`'s lists: `ppr` and `via` are read.
    relation_types
        Those of the model's `GraphQFormer`.

    Returns
    -------
    weights, types
        Arguments `neighbor_weights` and `neighbor_types` of `GraphQFormer.forward`, for this set.
    """
    ppr = np.array([np.nan if row["ppr"] is None else row["ppr"] for row in neighbors], np.float32)
    relations = first_relations(pa.array([row["via"] for row in neighbors], pa.string()))
    weights = neighbor_weights(ppr, np.zeros(len(neighbors), np.int64))
    return weights.tolist(), relation_numbers(relations, relation_types).tolist()
