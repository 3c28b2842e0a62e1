"""How far apart the textures of images are: what a squared error between them hardly sees.

A squared error is smallest where an autoencoder that cannot say *which* bristle is where gives their mean, which has no
bristles. So images are compared by how strong their details are around each place: the local root-mean-squares of the
levels of a Laplacian pyramid (Burt and Adelson 1983), over all directions and along each axis.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Levels of the pyramid, of half the size each; and the side of the windows in which strengths are measured.
LEVELS, WINDOW = 3, 4
#: Weight of the differences along the axes, which tell stripes from spots.
_AXES_WEIGHT = 0.5


def texture_distance(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of the local strengths of details, one number per image `(n,)`.

    Parameters
    ----------
    images, targets
        `(n, channels, h, w)`; the pyramid of images smaller than 24 pixels has fewer levels.
    """
    total = images.new_zeros(len(images))
    count = len(images)
    for band in _laplacian_pyramid(torch.cat([images, targets])):
        across, down = band.diff(dim=3), band.diff(dim=2)
        for weight, details in ((1.0, band), (_AXES_WEIGHT, across), (_AXES_WEIGHT, down)):
            strength = local_rms(details)
            total = total + weight * (strength[:count] - strength[count:]).abs().mean(dim=(1, 2, 3))
    return total


def local_rms(details: Tensor) -> Tensor:
    """Root-mean-square of `(n, channels, h, w)` in windows of `WINDOW` pixels, which overlap by half."""
    mean_square = F.avg_pool2d(details.square(), WINDOW, stride=WINDOW // 2)
    return (mean_square + 1e-6).sqrt()  # whose slope at zero is finite


def _laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """What is lost at each of `LEVELS` halvings of the size, of those that leave room for windows."""
    bands = []
    for _ in range(LEVELS):
        if min(images.shape[2:]) < WINDOW + 2:
            break
        # Over more pixels than it halves by, so that it matters little whether a detail is at an even or an odd place.
        smaller = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 4, stride=2)
        bands.append(images - F.interpolate(smaller, images.shape[2:], mode="bilinear"))
        images = smaller
    return bands
