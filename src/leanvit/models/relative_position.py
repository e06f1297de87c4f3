"""A learned bias for each head and each offset between two positions of a map.

Source: the relative attention of Swin (https://arxiv.org/abs/2103.14030) and CoAtNet
(https://arxiv.org/abs/2106.04803).
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor


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


def relative_position_bias(
    table: Float[Tensor, "offsets heads"], index: Int[Tensor, "tokens tokens"]
) -> Float[Tensor, "heads tokens tokens"]:
    """What is added to the scaled scores of (query, key), the same for all images.

    Args:
        table: the learned biases.
        index: see :func:`relative_position_index`.
    """
    # An embedding lookup sums the gradient in a fixed order; `table[index]` uses atomic adds.
    return rearrange(F.embedding(index, table), "queries keys heads -> heads queries keys")
