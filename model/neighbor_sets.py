"""Sets of neighbors as the pipeline's caller gives them: one or several, each with embeddings for every prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from model.networks.neighbor_tokens import GraphEncoder

#: An argument of the pipeline that has one entry per neighbor set: that of the only set may stand alone.
PerSet = Tensor | Sequence[Tensor] | None

#: Images of one prompt's neighbors, or of each prompt's.
NeighborImages = Sequence[Image.Image] | Sequence[Sequence[Image.Image]]


@dataclass(frozen=True)
class NeighborSet:
    """Neighbors of each prompt, padded to one number; the fields are the arguments of `GraphQFormer.forward`."""

    neighbor_embeds: Tensor | None = None
    neighbor_mask: Tensor | None = None
    neighbor_text_embeds: Tensor | None = None
    neighbor_weights: Tensor | None = None
    neighbor_types: Tensor | None = None
    neighbor_detail: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def best(self, count: int | None) -> NeighborSet:
        """The first `count` neighbors of each prompt; None means all."""
        return replace(self, **{name: value[:, :count] for name, value in self.tensors().items()})

    def repeat(self, times: int) -> NeighborSet:
        """Each prompt's neighbors `times` times, one after the other."""
        return replace(self, **{name: value.repeat_interleave(times, 0) for name, value in self.tensors().items()})

    def to(self, encoder: GraphEncoder, device: torch.device) -> NeighborSet:
        """On `device`; embeddings and detail in the encoder's dtype, weights in their own."""
        return replace(
            self,
            **{
                name: value.to(device, encoder.dtype if name.endswith(("embeds", "detail")) else None)
                for name, value in self.tensors().items()
            },
        )

    def check(self, encoder: GraphEncoder, prompts: int) -> None:
        """Check shapes against the model and the number of prompts.

        Raises
        ------
        ValueError
            If one does not fit.
        """
        given = self.tensors()
        leading = None
        for name, dim in (
            ("neighbor_embeds", encoder.config.neighbor_dim),
            ("neighbor_text_embeds", encoder.config.neighbor_text_dim),
        ):
            if (embeds := given.get(name)) is None:
                if dim is not None:
                    raise ValueError(f"this model needs {name}, which are not given")
                continue
            if dim is None:
                raise ValueError(f"this model takes no {name}")
            if embeds.ndim != 3 or embeds.shape[0] != prompts or embeds.shape[2] != dim:
                raise ValueError(
                    f"{name} are {tuple(embeds.shape)}, expected ({prompts}, neighbors, {dim}): "
                    "one row per prompt, embedded by the encoder that the model was trained with"
                )
            leading = leading or tuple(embeds.shape[:2])
        _check_detail(self.neighbor_detail, encoder, leading)
        for name, value in given.items():
            flat = not name.endswith(("embeds", "detail"))
            if tuple(value.shape[:2]) != leading or (flat and value.ndim != 2):
                raise ValueError(f"{name} is {tuple(value.shape)}, expected {leading}")
        if self.neighbor_types is not None:
            known = len(encoder.config.relation_types)
            if (
                self.neighbor_types.numel()
                and not 0 <= int(self.neighbor_types.min()) <= int(self.neighbor_types.max()) <= known
            ):
                raise ValueError(f"neighbor_types are not all between 0 and {known}, the model's relation types")
        weights = self.neighbor_weights
        if weights is not None and not bool((weights.isfinite() & (weights >= 0)).all()):
            raise ValueError("neighbor_weights has weights that are negative, infinite or NaN")


def _check_detail(detail: Tensor | None, encoder: GraphEncoder, leading: tuple[int, ...] | None) -> None:
    expected = getattr(encoder, "detail_shape", None)
    if detail is None and expected is not None:
        raise ValueError(
            "this model needs neighbor_detail, which is not given: give the neighbors as images, or what the "
            "pipeline's encode_detail makes of them"
        )
    if detail is None:
        return
    if expected is None:
        raise ValueError("this model takes no neighbor_detail")
    if tuple(detail.shape) != (*(leading or ()), *expected):
        raise ValueError(
            f"neighbor_detail is {tuple(detail.shape)}, expected {(*(leading or ()), *expected)}: "
            "of latents of the autoencoder that the model was trained with"
        )


def neighbor_sets(
    embeds: PerSet,
    masks: PerSet,
    text_embeds: PerSet,
    weights: PerSet,
    types: PerSet,
    detail: PerSet,
    scales: float | Sequence[float],
) -> tuple[list[NeighborSet], list[float]]:
    """One `NeighborSet` and one scale per set.

    Raises
    ------
    ValueError
        If the arguments are of different numbers of sets.
    """
    columns = [_per_set(argument) for argument in (embeds, masks, text_embeds, weights, types, detail)]
    count = max((len(column) for column in (columns[0], columns[2]) if column is not None), default=0)
    scale_list = list(scales) if isinstance(scales, Sequence) else [float(scales)] * count
    lengths = {len(column) for column in columns if column is not None} | {len(scale_list), count}
    if lengths != {count}:
        raise ValueError(
            f"{count} neighbor sets and {len(scale_list)} graph guidance scales, with masks, weights, types and detail "
            f"for {sorted({len(column) for column in columns if column is not None})} sets, do not fit together"
        )
    rows = zip(*([None] * count if column is None else column for column in columns), strict=True)
    return [NeighborSet(*row) for row in rows], scale_list


def _per_set(argument: PerSet) -> list[Tensor] | None:
    if argument is None:
        return None
    return [argument] if isinstance(argument, Tensor) else list(argument)


def image_rows(images: Any, prompts: int) -> list[list[Image.Image]]:
    """Each prompt's images of one neighbor set, `NeighborImages`; those of the only prompt may stand alone.

    Raises
    ------
    ValueError
        If they are not images, or of another number of prompts.
    """
    alone = prompts == 1 and _are_images(images)
    rows = [images] if alone else images
    if not isinstance(rows, Sequence) or not all(_are_images(row) for row in rows):
        raise ValueError(
            "neighbors are lists of PIL images, one list per prompt; of several neighbor sets, with a list of "
            "graph_guidance_scale, they are a list of those"
        )
    if len(rows) != prompts:
        raise ValueError(f"neighbors are of {len(rows)} prompts, there are {prompts}")
    return [list(row) for row in rows]


def _are_images(images: Any) -> bool:
    return isinstance(images, Sequence) and all(isinstance(image, Image.Image) for image in images)


def pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows `(neighbors of one prompt, dim)` as `(prompts, most neighbors, dim)`, and their mask; zero where padded."""
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    counts = torch.tensor([len(row) for row in rows], device=padded.device)
    return padded, torch.arange(padded.shape[1], device=padded.device) < counts[:, None]
