"""The course's policy: random resized crop, flip, RandAugment, jittered brightness and contrast.

RandAugment (Cubuk et al., 2019, https://arxiv.org/abs/1909.13719): some operations out of
fourteen, one after the other, all at one magnitude.

- The operations and what a magnitude means are those of torchvision.transforms.v2.RandAugment.
- Crop, flip, shears, translations and rotations of an image are one bilinear resampling.

Deviations from the same steps in torchvision:
- Colours come first, in the order drawn, then crop, flip and geometry, in the order drawn: equalize
  and contrast see the whole image, and black corners stay black.
- One resampling: what an operation moves out, a later one can move back.
- Bilinear throughout; torchvision's RandAugment takes the nearest pixel.
- Brightness and contrast are jittered in this order; torchvision draws the order.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from leanvit.augment.as_bytes import as_bytes
from leanvit.augment.boxes import Areas, Ratios
from leanvit.augment.colour import jitter
from leanvit.augment.geometry import mirror, resample, then
from leanvit.augment.operations import (
    NUM_STEPS,
    draw_operations,
    matrices,
    rand_augment_magnitudes,
    recolour,
    signed,
)
from leanvit.augment.resized_crop import ResizedCrop
from leanvit.values import Share, Whole


class Course:
    """Crop ``scale`` of the area at an aspect ``ratio``, flip, RandAugment, jitter.

    Args:
        flip: probability of the mirror image.
        num_ops: operations of RandAugment for each image; they may repeat.
        magnitude: of all of them.
        brightness, contrast: each image's factor is drawn evenly from 1 minus to 1 plus this.

    Raises:
        LeanvitError: ``scale`` or ``ratio`` ends below its beginning.
    """

    def __init__(
        self,
        scale: Areas = (0.8, 1.0),
        ratio: Ratios = (0.9, 1.1),
        flip: Share = 0.5,
        num_ops: Whole = 2,
        magnitude: Annotated[int, Ge(0), Le(NUM_STEPS - 1)] = 9,
        brightness: Share = 0.2,
        contrast: Share = 0.2,
    ) -> None:
        self.crop, self.flip = ResizedCrop(scale, ratio, flip), flip
        self.num_ops, self.magnitude = num_ops, magnitude
        self.brightness, self.contrast = brightness, contrast

    def prepare(
        self, images: UInt8[Tensor, "n 3 height width"]
    ) -> UInt8[Tensor, "n height width 3"]:
        """The images in the memory order that gathers fastest: one contiguous block each."""
        return images.permute(0, 2, 3, 1).contiguous()

    def __call__(
        self,
        prepared: UInt8[Tensor, "n height width 3"],
        index: Int64[Tensor, " batch"],
        generator: torch.Generator,
    ) -> UInt8[Tensor, "batch 3 height width"]:
        images = prepared.index_select(0, index).permute(0, 3, 1, 2)
        batch, _, height, width = images.shape
        boxes = self.crop.boxes(batch, height, width, generator)
        matrix = mirror(torch.rand(batch, generator=generator, device=index.device) < self.flip)
        magnitudes = rand_augment_magnitudes(height, width, index.device)[:, self.magnitude]
        for _ in range(self.num_ops):
            operation = draw_operations(batch, generator)
            magnitude = signed(magnitudes[operation], operation, generator)
            images = recolour(images, operation, magnitude)
            matrix = then(matrix, matrices(operation, magnitude, (height, width)))
        values = jitter(images.contiguous(), *self.factors(batch, generator))
        return as_bytes(resample(values, matrix, boxes).round_())

    def factors(self, batch: int, generator: torch.Generator) -> Float32[Tensor, "2 batch"]:
        """Of brightness and contrast."""
        draws = torch.rand(2, batch, generator=generator, device=generator.device)
        widths = (self.brightness, self.contrast)
        return torch.stack([1 + w * (2 * d - 1) for w, d in zip(widths, draws, strict=True)])
