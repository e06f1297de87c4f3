"""Random resized crop and flip, as the course's scripts choose them.

Szegedy et al. (2014) through torchvision's RandomResizedCrop: an area and a ratio are drawn, the
box is cut and resized bilinearly to the full image.

- Every image has its own box; the whole batch is resampled in one ``grid_sample``.
- If none of ten boxes fits, the last is clipped to the image (torchvision takes a central box of
  the nearest ratio).
"""

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from leanvit.augment.as_bytes import as_bytes
from leanvit.augment.boxes import Areas, Ratios, check_ascending, draw_boxes
from leanvit.augment.geometry import mirror, resample
from leanvit.values import Share


class ResizedCrop:
    """Crop ``scale`` of the area at an aspect ``ratio``, resize to the whole, flip.

    Raises:
        LeanvitError: ``scale`` or ``ratio`` ends below its beginning.
    """

    def __init__(
        self, scale: Areas = (0.8, 1.0), ratio: Ratios = (0.9, 1.1), flip: Share = 0.5
    ) -> None:
        check_ascending(scale=scale, ratio=ratio)
        self.scale, self.ratio, self.flip = scale, ratio, flip

    def prepare(
        self, images: UInt8[Tensor, "n 3 height width"]
    ) -> UInt8[Tensor, "n 3 height width"]:
        """The images with each channel in one piece, as resampling is fastest."""
        return images.contiguous()

    def __call__(
        self,
        prepared: UInt8[Tensor, "n 3 height width"],
        index: Int64[Tensor, " batch"],
        generator: torch.Generator,
    ) -> UInt8[Tensor, "batch 3 height width"]:
        images = prepared.index_select(0, index)
        boxes = self.boxes(len(index), images.shape[-2], images.shape[-1], generator)
        flipped = torch.rand(len(index), generator=generator, device=index.device) < self.flip
        return as_bytes(resample(images.float(), mirror(flipped), boxes).round_())

    def boxes(
        self, batch: int, height: int, width: int, generator: torch.Generator
    ) -> Int64[Tensor, "batch 4"]:
        """Top, left, height and width of each box, in whole pixels."""
        size = (height, width)
        return draw_boxes(batch, size, size, self.scale, self.ratio, generator)[0]
