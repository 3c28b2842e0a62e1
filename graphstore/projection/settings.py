"""The settings of a walk, one object from the command line to the projection, here or on a server."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

#: Along which of its two directions a relation type is walked.
Direction: TypeAlias = Literal["both", "forward", "backward"]
Split: TypeAlias = Literal["train", "val", "test"]


def _check_weight(weight: float) -> float:
    # Weights of edges are float32 and are multiplied: within these bounds none overflows, and none becomes 0.
    if weight != 0 and not 1e-6 <= weight <= 1e6:  # which no NaN passes
        raise ValueError(f"must be 0, or a number from 0.000001 to 1,000,000, not {weight:g}")
    return weight


RelationWeight: TypeAlias = Annotated[float, AfterValidator(_check_weight)]


class WalkSettings(BaseModel):
    """Which graph is walked, and how far. `projection.project` says what becomes of a graph under these settings.

    Attributes
    ----------
    relation_weights
        Weight of a relation type beside the others: 1 for a type that is not named; 0 leaves a type out.
    via
        The relation types that walks may use; all by default.
    directions
        Whether walks use a relation type in both directions (the default), or only `forward`, from the relation's start
        to its end, or `backward`.
    entity_exponent
        How the weight of an entity's relations grows with the number of items that share it.
    neighbor_splits
        Splits of the items that may be neighbors, and that walks may pass through.
    image_required
        Whether only items with an image may be neighbors. Walks pass through items without one in any case.
    damping_factor
        Probability that the walk continues at each step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    relation_weights: dict[str, RelationWeight] = {}
    via: tuple[str, ...] | None = Field(default=None, min_length=1)
    directions: dict[str, Direction] = {}
    entity_exponent: float = Field(default=1.0, ge=-2, le=2, allow_inf_nan=False)
    neighbor_splits: tuple[Split, ...] = Field(default=("train",), min_length=1)
    image_required: bool = True
    damping_factor: float = Field(default=0.85, ge=0.01, le=0.99, allow_inf_nan=False)


#: All relation types, in both directions, with equal weights.
DEFAULT_WALK = WalkSettings()
