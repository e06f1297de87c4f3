"""A learned bias for each head and each offset between two positions of a map.

Source: the relative attention of Swin (https://arxiv.org/abs/2103.14030) and CoAtNet
(https://arxiv.org/abs/2106.04803).
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn


def relative_position_index(height: int, width: int) -> Int[Tensor, "tokens tokens"]:
    """Row of the bias table for each (query, key) pair of a map read row by row.

    A query at (i, j) and a key at (k, l) share row (i - k + height - 1) * (2 * width - 1)
    + (j - l + width - 1) with all pairs of the same offset.
    """
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    row_offsets = rows[:, None] - rows[None, :] + height - 1
    column_offsets = columns[:, None] - columns[None, :] + width - 1
    return row_offsets * (2 * width - 1) + column_offsets


class RelativePositionBias(nn.Module):
    """What is added to the scaled scores of (query, key), the same for all images.

    Args:
        height, width: of the map or window in positions, read row by row.
    """

    relative_position_index: Tensor

    def __init__(self, heads: int, height: int, width: int) -> None:
        super().__init__()
        num_offsets = (2 * height - 1) * (2 * width - 1)
        self.relative_position_table = nn.Parameter(torch.empty(num_offsets, heads))
        nn.init.trunc_normal_(self.relative_position_table, std=0.02)
        index = relative_position_index(height, width)
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self) -> Float[Tensor, "heads tokens tokens"]:
        # An embedding lookup sums the gradient in a fixed order; `table[index]` uses atomic adds.
        looked_up = F.embedding(self.relative_position_index, self.relative_position_table)
        return rearrange(looked_up, "queries keys heads -> heads queries keys")
