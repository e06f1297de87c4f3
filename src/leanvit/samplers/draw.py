"""Draws with replacement that the weighted samplers share."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor


def draw(weights: Float64[Tensor, " n"], generator: torch.Generator) -> Int64[Tensor, " n"]:
    """As many draws as there are images, each takes image i with probability w_i / sum of w."""
    # the inverse distribution function: torch.multinomial stops at 2^24 images
    steps = weights.cumsum(0)
    draws = torch.rand(len(weights), generator=generator, dtype=torch.float64) * steps[-1]
    return torch.searchsorted(steps, draws, right=True).clamp_(max=len(steps) - 1)
