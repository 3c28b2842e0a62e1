"""How neighbors are sampled: the walk, what the candidates are compared with, and how many are wanted."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from pydantic import Field, model_validator

from graphstore.projection.settings import WalkSettings

#: Where walks are made: `push`, here; or by Graph Data Science on the store's server.
Engine: TypeAlias = Literal["push", "gds"]
Mode: TypeAlias = Literal["random", "ppr", "semantic", "semantic-ppr"]


class SamplerSettings(WalkSettings):
    """How neighbors are sampled. Equal settings on an equal graph give equal neighbors.

    Attributes
    ----------
    encoder
        Whose embeddings are compared. The modes `ppr` and `random` do without: their neighbors have no similarity then,
        and an item from which no walk reaches any has none.
    mode
        `semantic-ppr`: the `pool` best of the walk, re-ranked by similarity; `ppr`: the best of the walk; `semantic`:
        the most similar images, without the graph; `random`.
    query
        What images are compared with: the item's `text`, or its own `image`. Only a training item's own image is
        ever a query; for the others it is the text.
    k
        Neighbors per item, at most.
    pool
        Candidates that the walk hands to the re-ranking. A small pool keeps what the graph says: with 5 neighbors,
        pools of 10 gave better images than pools of 20.
    epsilon
        How exact the walk is, as for `ppr.top_k_ppr`.
    seed
        Of the mode `random`.
    """

    encoder: str | None = None
    mode: Mode = "semantic-ppr"
    query: Literal["text", "image"] = "text"
    k: int = Field(default=5, ge=1, le=1_000)
    pool: int = Field(default=10, ge=1, le=2_000)
    epsilon: float = Field(default=1e-5, ge=1e-12, le=1, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, lt=2**63)

    @property
    def is_walked(self) -> bool:
        """Whether neighbors come from walks."""
        return self.mode in ("ppr", "semantic-ppr")

    @property
    def compares_images(self) -> bool:
        """Whether neighbors are chosen by the similarity of their images."""
        return self.mode in ("semantic", "semantic-ppr")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pool < self.k:
            raise ValueError(f"pool ({self.pool}) must be at least k ({self.k})")
        if self.encoder is None and self.compares_images:
            raise ValueError(f"mode {self.mode} needs an encoder")
        if self.compares_images and not self.image_required:
            raise ValueError(f"mode {self.mode} compares images, so neighbors need one: choose mode ppr or random")
        return self
