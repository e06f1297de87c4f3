"""A box of each image painted over: what cutout and random erasing have in common."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor


def erase(
    images: UInt8[Tensor, "batch 3 height width"],
    boxes: Int64[Tensor, "batch 4"],
    fill: Sequence[int],
) -> UInt8[Tensor, "batch 3 height width"]:
    """The images with one box each in one colour; a box may reach over the edge.

    Args:
        boxes: top, left, height and width; a height of 0 leaves the image as it is.
        fill: red, green and blue, 0 to 255.
    """
    inside = []
    for axis, size in enumerate(images.shape[-2:]):
        place = torch.arange(size, device=images.device)
        low, length = boxes[:, axis, None], boxes[:, axis + 2, None]
        inside.append((place >= low) & (place < low + length))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    images = images.clone()
    for channel, value in enumerate(fill):
        images[:, channel].masked_fill_(hole, value)
    return images
