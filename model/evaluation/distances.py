"""Distances between a set of generated images and the set of the true ones: FID and KID, by torchmetrics.

The library is given features, and loads no network: torchmetrics' own would fetch Inception's weights by itself. So the
figures are Fréchet and kernel distances *of the features they are computed from*, and comparable with others of the
same extractor alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ingest.errors import Graph2ImageError
from model.evaluation.features import Features, require_same
from model.evaluation.statistics import Floats

#: KID needs two images on each side.
LEAST_FOR_KID = 2


def least_for_fid(dim: int) -> int:
    """How many images FID of `dim` features needs on each side: with fewer, a covariance has no full rank."""
    return dim + 1


def fid(generated: Features, true: Features) -> float:
    """Fréchet distance of two sets of features (Heusel et al. 2017).

    Raises
    ------
    Graph2ImageError
        If there are fewer images than `least_for_fid`, or the features are of two extractors.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # takes seconds to import

    require_same(generated, true)
    dim, least = true.matrix.shape[1], least_for_fid(true.matrix.shape[1])
    if (fewest := min(len(generated.matrix), len(true.matrix))) < least:
        raise Graph2ImageError(
            f"FID of {true.extractor_id} needs {least:,} images, one more than it has features; there are {fewest:,}",
            "KID can be had of fewer.",
        )
    identity = nn.Identity()
    identity.num_features = dim
    metric = FrechetInceptionDistance(feature=identity).set_dtype(torch.float64)
    for features, real in ((true, True), (generated, False)):
        metric.update(torch.from_numpy(features.matrix.astype(np.float64)), real=real)
    return max(0.0, float(metric.compute()))


def kid(generated: Features, true: Features, parts: Sequence[npt.NDArray[np.int64]] = ()) -> tuple[float, Floats]:
    """Kernel distance of two sets of features of equal size (Bińkowski et al. 2018), unbiased, however few there are.

    Parameters
    ----------
    parts
        Rows of parts of the items, such as `model.evaluation.statistics.cluster_halves`.

    Returns
    -------
    distance, of_parts
        Squared maximum mean discrepancy with a cubic kernel; and that of each part, NaN for one of a single image.

    Raises
    ------
    Graph2ImageError
        If there are fewer than two images, or the features are of two extractors.
    """
    from torchmetrics.image.kid import poly_mmd  # takes seconds to import

    require_same(generated, true)
    if len(generated.matrix) != len(true.matrix):
        raise ValueError(f"{len(generated.matrix)} generated and {len(true.matrix)} true images")
    if len(true.matrix) < LEAST_FOR_KID:
        raise Graph2ImageError(f"KID needs {LEAST_FOR_KID} images, there are {len(true.matrix)}")
    ours, theirs = (torch.from_numpy(features.matrix.astype(np.float64)) for features in (generated, true))
    of_parts = [float(poly_mmd(theirs[part], ours[part])) if len(part) >= LEAST_FOR_KID else np.nan for part in parts]
    return float(poly_mmd(theirs, ours)), np.array(of_parts)
