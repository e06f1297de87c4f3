"""TrivialAugment (Müller & Hutter, 2021, https://arxiv.org/abs/2103.10158), the wide space.

- One operation of fourteen for each image, its magnitude one of 31 steps, both drawn evenly:
  nothing is left to tune.
- Before it the padded crop and the flip that the paper's CIFAR experiments have; the cutout of 16
  pixels that they put after it is left out (``strong`` erases).
- Wide indeed: translations go up to 32 pixels, which leaves nothing of an image of 32.
- Operations, magnitudes and draws are those of torchvision.transforms.v2.TrivialAugmentWide.

Deviations:
- Shears and rotations are interpolated bilinearly, where torchvision's default is the nearest
  pixel. They are the only resampling: crop and flip move whole pixels.
"""

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from leanvit.augment.light import Light
from leanvit.augment.operations import (
    NUM_STEPS,
    draw_operations,
    move,
    recolour,
    signed,
    trivial_augment_magnitudes,
)
from leanvit.values import Share, Whole


class Trivial:
    """Crop from a zero border of ``padding`` pixels, flip with probability ``flip``, then one
    operation at a random magnitude."""

    def __init__(self, padding: Whole = 4, flip: Share = 0.5) -> None:
        self.light = Light(padding, flip)

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
        operation = draw_operations(len(index), generator)
        step = torch.randint(NUM_STEPS, (len(index),), generator=generator, device=index.device)
        magnitude = trivial_augment_magnitudes(index.device)[operation, step]
        magnitude = signed(magnitude, operation, generator)
        return move(recolour(images, operation, magnitude), operation, magnitude)
