"""Cutout (DeVries & Taylor, 2017, https://arxiv.org/abs/1708.04552).

- Padded crop and flip, then a square hole in every image.
- The centre of the hole is any pixel of the image, so that a part of the hole may lie outside: the
  paper found it important that some images stay nearly whole.
- The hole has a mean colour, which normalisation makes (nearly) zero.
"""

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from leanvit.augment.erase import Colour, erase
from leanvit.augment.light import Light
from leanvit.values import Share, Whole


class Cutout:
    """Crop from a zero border of ``padding`` pixels, flip with probability ``flip``, cut a hole.

    Args:
        size: side of the hole in pixels; the paper's is 16 for CIFAR-10, 8 for CIFAR-100, 20 for
            SVHN; 0 cuts nothing.
        fill: colour of the hole.
    """

    def __init__(
        self,
        padding: Whole = 4,
        flip: Share = 0.5,
        size: Whole = 16,
        fill: Colour = (125, 123, 114),
    ) -> None:
        self.light, self.size, self.fill = Light(padding, flip), size, fill

    def prepare(
        self, images: UInt8[Tensor, "n 3 height width"]
    ) -> UInt8[Tensor, "n rows columns 3"]:
        """The images as the crop wants them."""
        return self.light.prepare(images)

    def __call__(
        self,
        prepared: UInt8[Tensor, "n rows columns 3"],
        index: Int64[Tensor, " batch"],
        generator: torch.Generator,
    ) -> UInt8[Tensor, "batch 3 height width"]:
        images = self.light(prepared, index, generator)
        height, width = images.shape[-2:]
        place = torch.rand(2, len(index), generator=generator, device=index.device)
        top = (place[0] * height).long() - self.size // 2
        left = (place[1] * width).long() - self.size // 2
        side = torch.full_like(top, self.size)
        return erase(images, torch.stack([top, left, side, side], 1), self.fill)
