"""What the judge sees of an image: its colors, and the energy of its texture by scale, direction and place.

The filters are fixed. A small network that is trained on a thousand images learns color first, since that tells most of
them apart, and then calls an image right whose brushwork is lost. Here the band of 16 to 32 cycles across 64 pixels,
where brushwork is, is a third of what is seen. Gabor filters in quadrature give the energy of each channel in eight
directions, octave by octave; the same filters again, on the energies of the lightness, give how the texture itself
varies, as in the scattering transform (Bruna and Mallat 2013). The logarithms of their means are the descriptors.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from model.evaluation.palette import Pixels

Descriptors = npt.NDArray[np.float32]

DIRECTIONS = 8
#: Of a filter: its side in pixels, its frequency in cycles per pixel, and the width of its envelope.
_SIDE, _FREQUENCY, _WIDTH = 7, 0.25, 1.6
#: Parts of the image, per side, that have energies of their own; and of which the mean color is seen.
_PLACES, _COLOR_PLACES = 3, 8
#: How many of the descriptors, the last ones, are of the colors alone.
COLORS = 3 * (_COLOR_PLACES**2 + 2)
#: Octaves of the energies' energies, and the least side of what is filtered for them.
_SECOND_OCTAVES, _SMALLEST = 2, 8
#: What is added before the logarithm: a flat image has no energy.
_FLOOR = 2e-3
_BATCH = 128

#: Lightness, blue less yellow, red less green (BT.601).
_OPPONENT = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


def octaves(size: int) -> int:
    """How many octaves are seen of images of `size` pixels a side: down to one of 4 to 8 cycles an image."""
    return max(1, int(math.log2(size)) - 3)


@torch.no_grad()
def describe(pixels: Pixels) -> Descriptors:
    """Descriptors `(n, d)` of `(n, size, size, 3)` uint8 images; `d` depends on the size only."""
    parts = [_describe(torch.from_numpy(pixels[first : first + _BATCH])) for first in range(0, len(pixels), _BATCH)]
    return np.concatenate(parts)


def _describe(pixels: Tensor) -> Descriptors:
    image = torch.einsum("nhwc,dc->ndhw", pixels.float() / 255, torch.tensor(_OPPONENT))
    colors = [F.adaptive_avg_pool2d(image, _COLOR_PLACES), image.mean((2, 3)), image.std((2, 3))]
    energies: list[Tensor] = []
    for octave in range(octaves(image.shape[-1])):
        if octave:
            image = F.avg_pool2d(image, 2)
        energy = _energy(image)
        maps = energy.flatten(1, 2)
        energies += [maps.mean((2, 3)), F.adaptive_avg_pool2d(maps, _PLACES), maps.square().mean((2, 3)).sqrt()]
        of_lightness = F.avg_pool2d(energy[:, 0], 2)
        for _ in range(_SECOND_OCTAVES):
            if of_lightness.shape[-1] < _SMALLEST:
                break
            energies.append(_energy(of_lightness).mean((3, 4)))
            of_lightness = F.avg_pool2d(of_lightness, 2)
    seen = [
        (torch.cat([part.flatten(1) for part in energies], 1) + _FLOOR).log(),
        *(part.flatten(1) for part in colors),
    ]
    described: Descriptors = torch.cat(seen, 1).numpy()
    return described


def _energy(channels: Tensor) -> Tensor:
    """Local energy `(n, channels, directions, h, w)` of `(n, channels, h, w)`."""
    n, count, height, width = channels.shape
    margin = _SIDE // 2
    padded = F.pad(channels.reshape(n * count, 1, height, width), (margin,) * 4, mode="reflect")
    pairs = F.conv2d(padded, _filters()).reshape(n, count, DIRECTIONS, 2, height, width)
    energy: Tensor = (pairs.square().sum(3) + 1e-6).sqrt()
    return energy


@cache
def _filters() -> Tensor:
    """Even and odd Gabor filters of each direction, `(2 * directions, 1, side, side)`, blind to a constant."""
    place = torch.arange(_SIDE) - _SIDE // 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    envelope = torch.exp(-(x * x + y * y) / (2 * _WIDTH**2))
    envelope = envelope / envelope.sum()
    filters = []
    for direction in range(DIRECTIONS):
        angle = math.pi * direction / DIRECTIONS
        phase = 2 * math.pi * _FREQUENCY * (x * math.cos(angle) + y * math.sin(angle))
        even = torch.cos(phase)
        filters += [envelope * (even - (even * envelope).sum()), envelope * torch.sin(phase)]
    bank = torch.stack(filters)
    return F.normalize(bank.flatten(1), dim=1).reshape(-1, 1, _SIDE, _SIDE)
