"""Random resized crop and flip, as the course's scripts choose them.

Szegedy et al. (2014) through torchvision's RandomResizedCrop: an area and a ratio are drawn, the
box is cut and resized bilinearly to the full image.

- Every image has its own box; the whole batch is resampled in one ``grid_sample``.
- A box that does not fit is drawn again, up to ten times, as in torchvision: all draws are made at
  once and the first that fits is taken. If none fits, the last is clipped to the image (torchvision
  takes a central box of the nearest ratio).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

from leanvit.augment.flip import flip_some

TRIES = 10


class ResizedCrop:
    """Crop ``scale`` of the area at an aspect ``ratio``, resize to the whole, flip."""

    def __init__(
        self,
        scale: Sequence[float] = (0.8, 1.0),
        ratio: Sequence[float] = (0.9, 1.1),
        flip: float = 0.5,
    ) -> None:
        self.scale, self.ratio, self.flip = scale, ratio, flip

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
        boxes = self.boxes(len(index), images.shape[-2], images.shape[-1], generator)
        return flip_some(crop_and_resize(images, boxes), self.flip, generator)

    def boxes(
        self, batch: int, height: int, width: int, generator: torch.Generator
    ) -> Int64[Tensor, "batch 4"]:
        """Top, left, height and width of each box, in whole pixels."""
        draws = torch.rand(2, TRIES, batch, generator=generator, device=generator.device)
        area = height * width * (self.scale[0] + draws[0] * (self.scale[1] - self.scale[0]))
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = torch.exp(low + draws[1] * (high - low))
        box_width, box_height = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (box_width <= width) & (box_height <= height)
        fits[-1] = True
        first = fits.int().argmax(dim=0, keepdim=True)
        box_width = box_width.gather(0, first)[0].clamp(1, width)
        box_height = box_height.gather(0, first)[0].clamp(1, height)
        place = torch.rand(2, batch, generator=generator, device=generator.device)
        top = (place[0] * (height - box_height + 1)).floor()
        left = (place[1] * (width - box_width + 1)).floor()
        return torch.stack([top, left, box_height, box_width], dim=1).long()


def crop_and_resize(
    images: UInt8[Tensor, "batch 3 height width"], boxes: Int64[Tensor, "batch 4"]
) -> UInt8[Tensor, "batch 3 height width"]:
    """Cut a box (top, left, height, width) from each image and resize it to the full size.

    Bilinear without antialiasing, samples clamped to the box: equal to torchvision's
    ``resized_crop(..., antialias=False)`` up to rounding.
    """
    height, width = images.shape[-2:]
    top, left, box_height, box_width = boxes.float().unbind(1)
    rows = _centres(height, top, box_height)
    columns = _centres(width, left, box_width)
    grid = torch.empty(len(images), height, width, 2, device=images.device)
    grid[..., 0] = ((2 * columns + 1) / width - 1)[:, None, :]
    grid[..., 1] = ((2 * rows + 1) / height - 1)[:, :, None]
    sampled = grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return sampled.round_().to(torch.uint8)


def _centres(
    size: int, start: Float32[Tensor, " batch"], length: Float32[Tensor, " batch"]
) -> Float32[Tensor, "batch size"]:
    """Where in the image each output pixel takes its value from, along one axis, in pixels."""
    centre = (torch.arange(size, device=start.device) + 0.5) / size
    place = centre * length[:, None] - 0.5
    place = torch.minimum(place.clamp(min=0), length[:, None] - 1)
    return start[:, None] + place
