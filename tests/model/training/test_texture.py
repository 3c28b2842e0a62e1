"""The distance of textures: what it sees that a squared error does not, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.training.texture import texture_distance


def stripes(period: int, *, across: bool = False, shift: int = 0) -> Tensor:
    """A 64-pixel image of stripes, (1, 3, 64, 64) in [-1, 1]."""
    wave = torch.where((torch.arange(64) + shift) % period < period / 2, 0.5, -0.5)
    image = wave[None, :].expand(64, 64) if across else wave[:, None].expand(64, 64)
    return image.expand(1, 3, 64, 64).clone()


def test_equal_images_have_none() -> None:
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert texture_distance(image, image).tolist() == [0.0, 0.0]


def test_the_mean_of_all_places_is_far_from_each() -> None:
    """A blank image has half the squared error of stripes at the wrong place, and far more of this."""
    target, blank, shifted = stripes(4), torch.zeros(1, 3, 64, 64), stripes(4, shift=2)
    assert (blank - target).square().mean() < (shifted - target).square().mean()
    assert texture_distance(blank, target).item() > 20 * texture_distance(shifted, target).item()


def test_the_direction_and_the_period_are_seen() -> None:
    target = stripes(4)
    nearly = texture_distance(stripes(4, shift=1), target).item()
    assert texture_distance(stripes(4, across=True), target).item() > 10 * nearly
    assert texture_distance(stripes(8), target).item() > 10 * nearly


@pytest.mark.parametrize("size", [16, 24, 40])
def test_gradients_are_finite_where_there_is_no_detail(size: int) -> None:
    image = torch.zeros(1, 3, size, size, requires_grad=True)
    texture_distance(image, torch.zeros(1, 3, size, size)).sum().backward()
    assert image.grad is not None
    assert bool(image.grad.isfinite().all())
