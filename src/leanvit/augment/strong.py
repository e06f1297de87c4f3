"""Crop, flip, TrivialAugment and random erasing: as much as small image sets usually bear.

- Crop, flip and TrivialAugment are those of ``trivial``.
- Random erasing (Zhong et al., 2017, https://arxiv.org/abs/1708.04896) paints a box of each image
  over, with torchvision's area, ratio and probability.

Deviations:
- The colour is a mean that normalisation makes (nearly) zero, as in torchvision's recipes, which
  erase what is normalised already; the paper prefers noise.
- A box is at least one pixel; torchvision's may round to none in images of a few pixels.
"""

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from leanvit.augment.boxes import Areas, Ratios, check_ascending, draw_boxes
from leanvit.augment.erase import Colour, erase
from leanvit.augment.trivial import Trivial
from leanvit.values import Share, Whole


class Strong(Trivial):
    """``Trivial``, then a box of some images in one colour.

    Args:
        padding, flip: as in ``Trivial``.
        erase: probability that an image loses a box.
        scale: least and greatest share of the area that is erased.
        ratio: least and greatest height divided by width.
        fill: the colour.

    Raises:
        LeanvitError: ``scale`` or ``ratio`` ends below its beginning.
    """

    def __init__(
        self,
        padding: Whole = 4,
        flip: Share = 0.5,
        erase: Share = 0.5,
        scale: Areas = (0.02, 0.33),
        ratio: Ratios = (0.3, 3.3),
        fill: Colour = (125, 123, 114),
    ) -> None:
        super().__init__(padding, flip)
        check_ascending(scale=scale, ratio=ratio)
        self.erase, self.scale, self.ratio, self.fill = erase, scale, ratio, fill

    def __call__(
        self,
        prepared: UInt8[Tensor, "n rows columns 3"],
        index: Int64[Tensor, " batch"],
        generator: torch.Generator,
    ) -> UInt8[Tensor, "batch 3 height width"]:
        images = super().__call__(prepared, index, generator)
        size = (images.shape[-2], images.shape[-1])
        return erase(images, self.boxes(len(index), size, generator), self.fill)

    def boxes(
        self, batch: int, size: tuple[int, int], generator: torch.Generator
    ) -> Int64[Tensor, "batch 4"]:
        """Top, left, height and width of what is erased; all 0 where nothing is."""
        largest = (size[0] - 1, size[1] - 1)  # never a whole side
        wide = (1 / self.ratio[1], 1 / self.ratio[0])  # width by height
        boxes, fits = draw_boxes(batch, size, largest, self.scale, wide, generator)
        coins = torch.rand(batch, generator=generator, device=generator.device) < self.erase
        return boxes * (coins & fits)[:, None]
