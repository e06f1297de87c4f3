"""From values to pixels."""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor


def as_bytes(
    values: Float32[Tensor, "batch 3 height width"],
) -> UInt8[Tensor, "batch 3 height width"]:
    """Values of 0 to 255 without their fractions; by way of int16, three times as fast on a CPU."""
    return values.to(torch.int16).to(torch.uint8)
