"""Padded random crop and horizontal flip: the usual light augmentation of CIFAR.

He et al., Deep Residual Learning (2015): pad each side by 4 zeros, crop at random, flip at random.

- One padded copy of all images stays on the training device. A row of a crop is a run of bytes in
  it that starts anywhere: a strided view of all such runs is indexed once for the whole batch, and
  each row is one memcpy. (Indexing a view (image, row offset, column offset) goes byte by byte.)
- Every image has its own offset and its own coin (torchvision's transforms draw one per call).
"""

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.nn.functional import pad

from leanvit.augment.flip import flip_some
from leanvit.values import Share, Whole


class Light:
    """Crop from a zero border of ``padding`` pixels, then flip with probability ``flip``."""

    def __init__(self, padding: Whole = 4, flip: Share = 0.5) -> None:
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
        images = random_crop(prepared, index, self.padding, generator)
        return flip_some(images, self.flip, generator)


def random_crop(
    padded: UInt8[Tensor, "n rows columns 3"],
    index: Int64[Tensor, " batch"],
    padding: int,
    generator: torch.Generator,
) -> UInt8[Tensor, "batch 3 height width"]:
    """Crops of the size before a border of ``padding`` pixels, each image at its own offset."""
    offsets = torch.randint(
        2 * padding + 1, (2, len(index)), generator=generator, device=index.device
    )
    size = (padded.shape[1] - 2 * padding, padded.shape[2] - 2 * padding)
    return crop(padded, index, offsets[0], offsets[1], size)


def crop(
    padded: UInt8[Tensor, "n rows columns 3"],
    index: Int64[Tensor, " batch"],
    top: Int64[Tensor, " batch"],
    left: Int64[Tensor, " batch"],
    size: tuple[int, int],
) -> UInt8[Tensor, "batch 3 height width"]:
    """``padded[i, top:top+height, left:left+width]`` for each image i, where ``size`` is
    (height, width), channels last in memory."""
    _, rows, columns, channels = padded.shape
    height, width = size
    run = width * channels
    runs = padded.as_strided((padded.numel() - run + 1, run), (1, 1))
    starts = ((index * rows + top) * columns + left) * channels
    below = torch.arange(height, device=index.device) * (columns * channels)
    cropped = runs.index_select(0, (starts[:, None] + below).flatten())
    return cropped.view(len(index), height, width, channels).permute(0, 3, 1, 2)
