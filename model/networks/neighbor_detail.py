"""What a neighbor's latents say of it that its embedding does not: tokens of numbers for the Graph-QFormer.

An image-text embedding is trained to tell what an image shows, and is nearly blind to texture and palette. The latents
of the model's own autoencoder have both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Side of the grid that latents are pooled to.
_GRID = 4
#: What a neighbor's detail can be.
DETAILS = ("statistics", "latents")


def detail_shape(kind: str, channels: int) -> tuple[int, int]:
    """Tokens of a neighbor, and numbers of each, for latents of so many channels.

    Raises
    ------
    ValueError
        If there is no such kind of detail.
    """
    if kind not in DETAILS:
        raise ValueError(f"neighbor_detail is {kind!r}, expected one of {', '.join(DETAILS)}")
    return (1, 2 * channels) if kind == "statistics" else (_GRID * _GRID, channels)


def latent_detail(kind: str, latents: Tensor) -> Tensor:
    """Detail `(n, tokens, numbers)` float32 of normalized latents `(n, channels, h, w)`.

    Parameters
    ----------
    kind
        `"statistics"`: mean and standard deviation of each channel, as one token (the style of Huang and Belongie
        2017); `"latents"`: the means of the cells of a 4x4 grid, row by row, a token for each.
    """
    latents = latents.float()
    if kind == "statistics":
        flat = latents.flatten(2)
        return torch.cat([flat.mean(dim=2), flat.std(dim=2, correction=0)], dim=1)[:, None]
    return F.adaptive_avg_pool2d(latents, _GRID).flatten(2).transpose(1, 2)
