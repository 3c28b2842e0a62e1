"""What an image is conditioned on besides its prompt: fields to compare images by, and a label for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Generated = Literal["text", "graph", "shuffled", "mix"]
#: What generated images are compared with.
Reference = Literal["top-neighbor", "top-neighbor-decoded", "same-entities", "true-decoded", "true"]
Kind = Literal[Generated, Reference]

_ORDER = {kind: place for place, kind in enumerate(get_args(Kind))}


@dataclass(frozen=True)
class Variant:
    """One way to make an item's image.

    Parameters
    ----------
    kind
        `text`: from the text only; `graph`: with the item's neighbors; `shuffled`: with another item's neighbors, a
        control; `mix`: with several neighbor sets. Not generated, but what generated ones are compared with:
        `top-neighbor`: the best neighbor's own image; `same-entities`: another work with the same style and subject;
        `true`: the item's own image; `…-decoded`: after a pass through the model's autoencoder.
    graph_guidance_scale
        Guidance scale of the neighbors, of all sets together.
    shares
        Of a mixture: the share of each neighbor set, which add up to 1.

    Raises
    ------
    ValueError
        If the fields do not fit together.
    """

    kind: Kind
    graph_guidance_scale: float = 0.0
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in _ORDER:
            raise ValueError(f"there is no kind of variant {self.kind!r}")
        if not math.isfinite(self.graph_guidance_scale):
            raise ValueError(f"the graph guidance scale is {self.graph_guidance_scale}")
        if (self.kind == "mix") != bool(self.shares):
            raise ValueError(f"a variant of kind {self.kind!r} with {len(self.shares)} shares")
        if self.shares and (min(self.shares) < 0 or not math.isclose(sum(self.shares), 1.0, abs_tol=1e-6)):
            raise ValueError(f"the shares {self.shares} are not parts of 1")

    @classmethod
    def mix(cls, graph_guidance_scale: float, parts: Sequence[float]) -> Variant:
        """A mixture of neighbor sets, in proportion to `parts`.

        Raises
        ------
        ValueError
            If a part is negative or not finite, or all are 0.
        """
        total = sum(parts)
        if not math.isfinite(total) or total <= 0 or min(parts) < 0:
            raise ValueError("parts of a mixture must not be negative, and not all 0")
        return cls("mix", graph_guidance_scale, tuple(part / total for part in parts))

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Variant | None:
        """The variant of a row of the `generated` dataset; None for one of an earlier version, which had no fields."""
        if row["kind"] is None:
            return None
        return cls(row["kind"], row["graph_guidance_scale"], tuple(row["shares"]))

    def columns(self) -> dict[str, Any]:
        """The label and the fields, as columns of the `generated` dataset."""
        return {"variant": self.label, **asdict(self)}

    @property
    def graph_guidance_scales(self) -> tuple[float, ...]:
        """Guidance scale of each neighbor set."""
        if self.kind == "mix":
            return tuple(self.graph_guidance_scale * share for share in self.shares)
        return (self.graph_guidance_scale,) if self.kind in ("graph", "shuffled") else ()

    @property
    def is_reference(self) -> bool:
        """Whether it is an image that there is, and not one to make."""
        return self.kind in get_args(Reference)

    @property
    def label(self) -> str:
        """A name for people: `text`, `graph-1.5`, `mix-70-30` …; the fields are what is compared."""
        if self.kind == "graph":
            return f"graph-{self.graph_guidance_scale:g}"
        if self.kind == "mix":
            return "-".join(["mix", *(f"{100 * share:g}" for share in (round(share, 3) for share in self.shares))])
        return self.kind

    @property
    def sort_key(self) -> tuple[int, float, tuple[float, ...]]:
        """Orders variants by kind, then by scale, mixtures from all of the first set to all of the last."""
        return _ORDER[self.kind], self.graph_guidance_scale, tuple(-share for share in self.shares)


TEXT = Variant("text")
TOP_NEIGHBOR = Variant("top-neighbor")
TOP_NEIGHBOR_DECODED = Variant("top-neighbor-decoded")
SAME_ENTITIES = Variant("same-entities")
TRUE_DECODED = Variant("true-decoded")
TRUE = Variant("true")
