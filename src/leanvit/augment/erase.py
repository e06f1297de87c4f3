"""A box of each image painted over: what cutout and random erasing have in common."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le, Len
from jaxtyping import Int64, UInt8
from torch import Tensor

Colour = Annotated[Sequence[Annotated[int, Ge(0), Le(255)]], Len(3, 3)]  # red, green and blue


def erase(
    images: UInt8[Tensor, "batch 3 height width"],
    boxes: Int64[Tensor, "batch 4"],
    fill: Colour,
) -> UInt8[Tensor, "batch 3 height width"]:
    """The images with one box each in one colour; a box may reach over the edge.

    Args:
        boxes: top, left, height and width; a height of 0 leaves the image as it is.
        fill: the colour.
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
