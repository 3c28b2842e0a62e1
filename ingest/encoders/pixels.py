"""An image as an open_clip model sees it: resized and cropped as its `preprocess_cfg` says, still 8 bits a channel.

The same as open_clip's own transforms, up to two levels of 255 in some pixels, in a quarter of their time: torch
resizes 8-bit pixels with vector instructions, and the normalization is left to the device that the model runs on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

#: Of an image that is longer than this many times its breadth, only the middle is resized; the crop keeps less.
LONGEST_ASPECT = 4


@dataclass(frozen=True)
class PixelGeometry:
    """Size and way of resizing of a model's input.

    `resize_mode` is "shortest" (then the center is cropped), "longest" (then the rest is filled) or "squash".
    """

    height: int
    width: int
    resize_mode: str
    interpolation: str
    fill: int

    @classmethod
    def from_preprocess_cfg(cls, config: dict[str, Any]) -> Self:
        """From open_clip's `preprocess_cfg`, complete."""
        size = config["size"]
        height, width = (size, size) if isinstance(size, int) else size
        interpolation = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
        return cls(height, width, config["resize_mode"], interpolation, config["fill_color"])

    @property
    def smallest_size(self) -> tuple[int, int]:
        """(width, height) of an image that loses nothing by being decoded no larger: twice the model's input."""
        return 2 * self.width, 2 * self.height

    def fit(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """`(3, height, width)` pixels of an RGB image."""
        pixels = np.array(image)
        if self.resize_mode == "shortest":
            pixels = _middle(pixels)
        # Permuted, not copied: the kernel is made for interleaved channels. It runs in the calling thread.
        planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        size = self._resized(*pixels.shape[:2])
        resized = F.interpolate(planes, size, mode=self.interpolation, antialias=True)[0].numpy()
        return self._crop_or_fill(resized)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.resize_mode == "squash":
            return self.height, self.width
        if self.resize_mode == "shortest" and self.height == self.width:
            short = min(height, width)
            return int(self.height * height / short), int(self.width * width / short)
        choose = max if self.resize_mode == "longest" else min
        ratio = choose(height / self.height, width / self.width)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def _crop_or_fill(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        result = np.full((3, self.height, self.width), self.fill, np.uint8)
        rows, rows_of = _overlap(pixels.shape[1], self.height)
        columns, columns_of = _overlap(pixels.shape[2], self.width)
        result[:, rows, columns] = pixels[:, rows_of, columns_of]
        return result


def _middle(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The middle of a very long image, cut equally at both ends, so that its center stays the center."""
    longest = LONGEST_ASPECT * min(pixels.shape[:2])
    rows, columns = (max(0, side - longest) // 2 for side in pixels.shape[:2])
    return pixels[rows : pixels.shape[0] - rows, columns : pixels.shape[1] - columns]


def _overlap(source: int, target: int) -> tuple[slice, slice]:
    """Where `source` pixels, centered, lie in `target` pixels, and which of them do."""
    if source < target:
        start = (target - source) // 2
        return slice(start, start + source), slice(source)
    start = round((source - target) / 2)
    return slice(target), slice(start, start + target)
