"""Mirror some images of a batch."""

import torch
from jaxtyping import UInt8
from torch import Tensor


def flip_some(
    images: UInt8[Tensor, "batch 3 height width"], probability: float, generator: torch.Generator
) -> UInt8[Tensor, "batch 3 height width"]:
    """Flip each image left to right with ``probability``, in place: only those are touched."""
    coins = torch.rand(len(images), generator=generator, device=images.device)
    chosen = (coins < probability).nonzero()[:, 0]
    images[chosen] = images[chosen].flip(-1)
    return images
