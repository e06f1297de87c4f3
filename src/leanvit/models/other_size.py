"""Trained weights of places for images of another size: interpolated, as the field does.

- Positions of patches: bicubic, antialiased, [CLS] left alone (timm's ``resample_abs_pos_embed``).
- Tables of relative positions: bicubic over the offsets, as Swin's own code loads them (timm's
  ``resize_rel_pos_bias_table_simple``).
- A readout's weights of patches: as positions, with the same sum.

All others hold for any size, or do not fit: a Linformer's projections, a head over a whole map.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from leanvit.weights import State


def at_other_size(found: State, wanted: State, num_prefix: int) -> State:
    """The weights found, with as many places as those of the same names that are wanted.

    Args:
        num_prefix: tokens before those of the patches (:class:`leanvit.contracts.NetOfTokens`).
    """
    changed = dict(found)
    for name, value in found.items():
        own_name = name.rpartition(".")[2]
        shape = wanted[name].shape if name in wanted else value.shape
        if value.ndim != len(shape):
            continue
        if own_name == "position_embedding" and value.ndim == 4 and value.shape[-1] != shape[-1]:
            changed[name] = resized(value, shape[-1])
        elif own_name == "position_embedding" and value.ndim == 3 and value.shape[1] != shape[1]:
            changed[name] = positions(value, shape[1], num_prefix)
        elif own_name == "relative_position_table" and len(value) != shape[0]:
            changed[name] = relative_table(value, shape[0])
        elif own_name == "token_weights" and len(value) != shape[0]:
            moved = positions(value[None, :, None], shape[0], num_prefix=0).flatten()
            changed[name] = moved * (value.sum() / moved.sum())
    return changed


def positions(
    embedding: Float[Tensor, "1 tokens dim"], num_tokens: int, num_prefix: int
) -> Float[Tensor, "1 new_tokens dim"]:
    """Positions of a square of patches, read row by row, on a square of another size."""
    first, patches = embedding[:, :num_prefix], embedding[:, num_prefix:]
    old, new = math.isqrt(patches.shape[1]), math.isqrt(num_tokens - num_prefix)
    square = rearrange(patches, "one (rows columns) dim -> one dim rows columns", rows=old)
    moved = rearrange(resized(square, new), "one dim rows columns -> one (rows columns) dim")
    return torch.cat((first, moved), dim=1)


def relative_table(
    table: Float[Tensor, "offsets heads"], num_offsets: int
) -> Float[Tensor, "new_offsets heads"]:
    """Biases of all offsets within a square, for a square of another size."""
    old, new = math.isqrt(len(table)), math.isqrt(num_offsets)
    square = rearrange(table, "(rows columns) heads -> 1 heads rows columns", rows=old)
    moved = F.interpolate(square, (new, new), mode="bicubic", align_corners=False)
    return rearrange(moved, "1 heads rows columns -> (rows columns) heads")


def resized(
    maps: Float[Tensor, "1 dim height width"], size: int
) -> Float[Tensor, "1 dim new_height new_width"]:
    return F.interpolate(maps, (size, size), mode="bicubic", antialias=True)
