"""Random boxes in images, as torchvision's RandomResizedCrop and RandomErasing draw them.

An area is drawn evenly and a ratio evenly in its logarithm; a box that does not fit is drawn again,
up to ten times: all draws are made at once and the first that fits is taken.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Len
from jaxtyping import Bool, Int64
from torch import Tensor

from leanvit.errors import LeanvitError
from leanvit.values import Positive, PositiveShare

TRIES = 10
Areas = Annotated[Sequence[PositiveShare], Len(2, 2)]  # least and greatest share of the image
Ratios = Annotated[Sequence[Positive], Len(2, 2)]  # least and greatest ratio of two sides


def check_ascending(**ranges: Sequence[float]) -> None:
    """Refuse a range whose end lies below its beginning.

    Raises:
        LeanvitError: it does.
    """
    for name, (low, high) in ranges.items():
        if low > high:
            raise LeanvitError(f"augment.{name}=[{low},{high}]: give the smaller number first")


def draw_boxes(
    batch: int,
    size: tuple[int, int],
    largest: tuple[int, int],
    scale: Sequence[float],
    ratio: Sequence[float],
    generator: torch.Generator,
) -> tuple[Int64[Tensor, "batch 4"], Bool[Tensor, " batch"]]:
    """Top, left, height and width of each box in whole pixels, and whether a box fitted in time.

    One that did not is clipped.

    Args:
        size: height and width of the images.
        largest: height and width up to which a box fits.
        scale: least and greatest area, as a share of the image's.
        ratio: least and greatest width divided by height.
    """
    draws = torch.rand(2, TRIES, batch, generator=generator, device=generator.device)
    area = size[0] * size[1] * (scale[0] + draws[0] * (scale[1] - scale[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(low + draws[1] * (high - low))
    width, height = (area * shape).sqrt().round(), (area / shape).sqrt().round()
    fits = (width <= largest[1]) & (height <= largest[0])
    any_fits = fits.any(dim=0)
    fits[-1] = True
    first = fits.int().argmax(dim=0, keepdim=True)
    width = width.gather(0, first)[0].clamp(1, largest[1])
    height = height.gather(0, first)[0].clamp(1, largest[0])
    place = torch.rand(2, batch, generator=generator, device=generator.device)
    top = (place[0] * (size[0] - height + 1)).floor()
    left = (place[1] * (size[1] - width + 1)).floor()
    return torch.stack([top, left, height, width], dim=1).long(), any_fits
