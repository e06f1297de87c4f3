"""Mirror some images of a batch."""

import torch
from jaxtyping import UInt8
from torch import Tensor


def flip_some(
    images: UInt8[Tensor, "batch 3 height width"], probability: float, generator: torch.Generator
) -> UInt8[Tensor, "batch 3 height width"]:
    """Flip each image left to right with ``probability``.

    Both versions of the batch are made and one of each is taken: copies of whole images, which are
    faster than writing back into a part of the batch, and nothing waits for the device.
    """
    plain = images.permute(0, 2, 3, 1)
    both = torch.cat([plain, plain.flip(2)])
    coins = torch.rand(len(images), generator=generator, device=images.device) < probability
    first = torch.arange(len(images), device=images.device)
    return both.index_select(0, first + coins * len(images)).permute(0, 3, 1, 2)
