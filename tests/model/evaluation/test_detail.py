"""What is kept of an image's detail, by band of frequency."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from model.evaluation.detail import energy_kept, psnr

IMAGES = np.random.default_rng(0).integers(256, size=(3, 64, 64, 3), dtype=np.uint8)


def test_all_of_an_image_is_all_of_its_energy() -> None:
    assert energy_kept(IMAGES, IMAGES) == pytest.approx([1.0, 1.0, 1.0])
    assert psnr(IMAGES, IMAGES) > 100


def test_blur_takes_the_finest_first_and_noise_adds_it() -> None:
    blurred = np.stack([np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1))) for image in IMAGES])
    coarse, middle, fine = energy_kept(IMAGES, blurred)
    assert 1 > coarse > middle > fine
    assert coarse > 0.7
    assert fine < 0.1
    assert psnr(IMAGES, blurred) < psnr(IMAGES, (IMAGES // 2 + blurred // 2))
    assert energy_kept(blurred, IMAGES)[2] > 10
