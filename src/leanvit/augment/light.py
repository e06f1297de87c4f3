"""Padded random crop and horizontal flip: the usual light augmentation of CIFAR.

He et al., Deep Residual Learning (2015): pad each side by 4 zeros, crop at random, flip at random.

- One padded copy of all images stays on the training device; a crop is an address in it: a strided
  view (image, row offset, column offset) is indexed once for the whole batch.
- Every image has its own offset and its own coin (torchvision's transforms draw one per call).
- Nothing is copied twice: the gather is the crop.
"""

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.nn.functional import pad

from leanvit.augment.flip import flip_some


class Light:
    """Crop from a zero border of ``padding`` pixels, then flip with probability ``flip``."""

    def __init__(self, padding: int = 4, flip: float = 0.5) -> None:
        self.padding, self.flip = padding, flip

    def prepare(
        self, images: UInt8[Tensor, "n 3 height width"]
    ) -> UInt8[Tensor, "n rows columns 3"]:
        """The padded images, channels last in memory: a row of a crop is one contiguous run."""
        border = (self.padding, self.padding)
        return pad(images.permute(0, 2, 3, 1), (0, 0, *border, *border)).contiguous()

    def __call__(
        self,
        prepared: UInt8[Tensor, "n rows columns 3"],
        index: Int64[Tensor, " batch"],
        generator: torch.Generator,
    ) -> UInt8[Tensor, "batch 3 height width"]:
        num_offsets = 2 * self.padding + 1
        shape = (2, len(index))
        offsets = torch.randint(num_offsets, shape, generator=generator, device=index.device)
        images = crop(prepared, index, offsets[0], offsets[1], num_offsets)
        return flip_some(images, self.flip, generator)


def crop(
    padded: UInt8[Tensor, "n rows columns 3"],
    index: Int64[Tensor, " batch"],
    top: Int64[Tensor, " batch"],
    left: Int64[Tensor, " batch"],
    num_offsets: int,
) -> UInt8[Tensor, "batch 3 height width"]:
    """``padded[i, top:top+height, left:left+width]`` for each image i, in one indexing.

    ``num_offsets`` is rows - height + 1, the number of places a crop can start at.
    """
    n, rows, columns, channels = padded.shape
    height, width = rows - num_offsets + 1, columns - num_offsets + 1
    by_image, by_row, by_column, _ = padded.stride()
    windows = padded.as_strided(
        (n, num_offsets, num_offsets, height, width * channels),
        (by_image, by_row, by_column, by_row, 1),
    )
    images = windows[index, top, left]
    return images.view(len(index), height, width, channels).permute(0, 3, 1, 2)
