"""Where a net looks: its attention weights as maps, and their rollout through all blocks.

Source of the rollout: Abnar & Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020
(https://arxiv.org/abs/2005.00928).

Maps are square and read row by row; a [CLS] token, where there is one, stands before them. Both are
told by the number of tokens alone: n² positions, or 1 + n². So nets that enlarge their images, and
pyramids whose maps shrink, need nothing said about them.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.models.attention import record_attention

FINE_SIDE = 7  # positions; a map with fewer a side shows little of where


def split_tokens(num_tokens: int) -> tuple[int, int]:
    """How many tokens stand before the map (0 or 1), and its height and width.

    Raises:
        LeanvitError: the tokens are no square map.
    """
    for prefix in (0, 1):
        side = math.isqrt(num_tokens - prefix)
        if side > 0 and side**2 == num_tokens - prefix:
            return prefix, side
    raise LeanvitError(
        f"{num_tokens} tokens are no square map with or without [CLS]: only square maps are drawn"
    )


@torch.inference_mode()
def attention_blocks(
    net: nn.Module, images: Float[Tensor, "batch channels height width"]
) -> list[Float[Tensor, "batch _ _ _"]]:
    """The attention weights over all tokens, of each block in the order of the forward pass.

    Weights of windows or of reduced keys are put over all tokens by ``over_tokens`` of their
    module. Attention that is not from tokens to the same tokens is left out.
    """
    with record_attention() as records:

        def put_over_tokens(module: nn.Module, inputs: object, output: object) -> None:
            records[-1] = module.over_tokens(records[-1])  # type: ignore[operator]

        spread = [module for module in net.modules() if hasattr(module, "over_tokens")]
        handles = [module.register_forward_hook(put_over_tokens) for module in spread]
        try:
            net(images)
        finally:
            for handle in handles:
                handle.remove()
    ours = (weights for weights in records if len(weights) == len(images))
    return [weights for weights in ours if weights.shape[-2] == weights.shape[-1]]


def readers(net: nn.Module, num_tokens: int) -> slice:
    """The tokens whose attention counts: those of ``num_tokens`` that ``net`` reads out.

    [CLS], or the one token of its place; all patches where their mean or sum is read, and [CLS]
    with them where it is added. All positions of a map that is not the last, where one is read.
    """
    prefix = split_tokens(num_tokens)[0]
    readout: Any = getattr(net, "readout", None)
    if not hasattr(readout, "tokens_read"):
        return slice(0, 1) if prefix else slice(0, None)
    reads_one = readout.tokens_read.stop is not None
    if reads_one and num_tokens != readout.num_prefix + readout.num_patches:
        return slice(prefix, None)
    return readout.tokens_read


def received(
    weights: Float[Tensor, "batch heads queries tokens"], queries: slice
) -> Float[Tensor, "batch heads side side"]:
    """What each position of the map is given by some queries, on average.

    In units of even attention: 1 is what a token gets if all get the same. Weights that can be
    negative (mixtures of keys) count by their magnitude.
    """
    prefix, side = split_tokens(weights.shape[-1])
    given = weights[:, :, queries].abs().mean(dim=2)[..., prefix:] * weights.shape[-1]
    return rearrange(given, "batch heads (rows columns) -> batch heads rows columns", rows=side)


def default_block(sides: list[int]) -> int:
    """The last block on a map fine enough to see something; else the last on the finest map."""
    enough = min(FINE_SIDE, max(sides))
    return max(index for index, side in enumerate(sides) if side >= enough)


def attention_maps(
    net: nn.Module, images: Float[Tensor, "batch channels height width"], block: int | None
) -> tuple[Float[Tensor, "batch heads side side"], int, int]:
    """:func:`received` of one block, the number of this block, and how many there are.

    Args:
        block: from 0; ``None``: :func:`default_block`.

    Raises:
        LeanvitError: there is no such block, or no attention at all.
    """
    maps = []
    for blocks in _blocks_by_image(net, images):
        if block is None:
            block = default_block([split_tokens(weights.shape[-1])[1] for weights in blocks])
        if not 0 <= block < len(blocks):
            raise LeanvitError(
                f"block={block}: the net has {len(blocks)} blocks with attention, choose 0 to "
                f"{len(blocks) - 1}"
            )
        maps.append(received(blocks[block], readers(net, blocks[block].shape[-1])))
    assert block is not None
    return torch.cat(maps), block, len(blocks)


def _blocks_by_image(
    net: nn.Module, images: Float[Tensor, "batch channels height width"]
) -> Iterator[list[Float[Tensor, "1 _ _ _"]]]:
    """:func:`attention_blocks` of one image at a time: all weights of large maps are large."""
    for image in images.split(1):
        blocks = attention_blocks(net, image)
        if not blocks:
            raise LeanvitError("the net has no attention over tokens: choose another figure")
        yield blocks


def rollout(
    blocks: list[Float[Tensor, "batch _ _ _"]],
) -> Float[Tensor, "batch last_tokens first_tokens"]:
    """How much of each token of the first block flows into each token after the last.

    A block mixes tokens by the mean of its heads and keeps as much of each through its residual:
    half attention, half identity, each row made to sum to 1. The blocks are multiplied. Where a
    map shrinks between two blocks, each position is the average of those it came from.
    """
    mixed = [_with_residual(weights) for weights in blocks]
    rolled = mixed[-1]
    # from the end, where pyramids have the fewest rows
    for earlier, later in zip(reversed(mixed[:-1]), reversed(mixed[1:]), strict=True):
        if earlier.shape[-1] != later.shape[-1]:
            rolled = rolled @ pooling_matrix(later.shape[-1], earlier.shape[-1]).to(rolled)
        rolled = rolled @ earlier
    return rolled


def _with_residual(
    weights: Float[Tensor, "batch heads tokens tokens"],
) -> Float[Tensor, "batch tokens tokens"]:
    identity = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    mixed = 0.5 * weights.abs().mean(dim=1) + 0.5 * identity
    return mixed / mixed.sum(dim=-1, keepdim=True)


def pooling_matrix(num_later: int, num_earlier: int) -> Float[Tensor, "later earlier"]:
    """Each position of the smaller map as the average of its neighbours on the larger one.

    A [CLS] token stays itself; one that the earlier map lacks comes from no position.
    """
    prefix, side = split_tokens(num_later)
    earlier_prefix, earlier_side = split_tokens(num_earlier)
    along = torch.arange(earlier_side) * side // earlier_side
    places = prefix + (along[:, None] * side + along[None, :]).flatten()
    matrix = torch.zeros(num_later, num_earlier)
    matrix[places, earlier_prefix + torch.arange(earlier_side**2)] = 1.0
    matrix[:prefix, :earlier_prefix] = 1.0
    return matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1.0)


def rollout_maps(
    net: nn.Module, images: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch side side"]:
    """:func:`rollout` to what the net reads out, see :func:`readers`.

    Raises:
        LeanvitError: the net has no attention.
    """
    rolled = torch.cat([rollout(blocks) for blocks in _blocks_by_image(net, images)])
    return received(rolled[:, None], readers(net, rolled.shape[1]))[:, 0]
