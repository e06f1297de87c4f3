"""EViT: the patches that [CLS] attends to go on, the others become one token.

Source: Liang et al., "Not All Patches are What You Need: Expediting Vision Transformers via Token
Reorganizations", ICLR 2022 (https://arxiv.org/abs/2202.07800); details as in the official code
(https://github.com/youweiliang/evit).

- A patch is worth what [CLS] attends to it, on average over the heads: a by-product of the block,
  without weights or training of its own.
- In a few blocks, between attention and MLP, the best ``keep_rate`` of the tokens are kept.
- The others are fused: their sum, weighted by that attention, is one more token. In the next such
  block it is a token like any other, kept or fused again.
- Every image keeps the same number of tokens, and none is masked.

Deviations:

- ``keep_rate`` is what it is from the first step; the official training lowers it from 1 along a
  cosine over the first hundred epochs. A ViT that is trained already needs no such start.
- The attention of [CLS] is computed a second time, one row for each head, beside the fused kernel
  that gives no weights.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from leanvit.contracts import Method
from leanvit.errors import LeanvitError
from leanvit.models.attention import attend, join_heads, split_heads
from leanvit.models.fits import check_fits
from leanvit.values import PositiveShare, Whole


def cls_attention(
    query: Float[Tensor, "batch heads tokens dim_head"],
    key: Float[Tensor, "batch heads tokens dim_head"],
) -> Float[Tensor, "batch tokens-1"]:
    """The attention of [CLS] to each other token, on average over the heads."""
    scores = query[:, :, :1] @ key.transpose(2, 3) * query.shape[3] ** -0.5
    weights = scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(dim=3)
    return weights.mean(dim=1)[:, 0, 1:]


def reorganise(
    tokens: Float[Tensor, "batch tokens dim"],
    attention: Float[Tensor, "batch tokens-1"],
    num_kept: int,
) -> tuple[Float[Tensor, "batch left dim"], Int64[Tensor, "batch num_kept"]]:
    """[CLS], the tokens of most attention and the others fused; the places of those kept.

    Args:
        tokens: [CLS] first.
        attention: of [CLS] to each of the others.
        num_kept: fewer than those others.

    Returns:
        The places count from 0 at the first token after [CLS]; most attention comes first.
    """
    order = attention.argsort(dim=1, descending=True, stable=True)
    kept, rest = order.split([num_kept, order.shape[1] - num_kept], dim=1)
    images = torch.arange(tokens.shape[0], device=tokens.device)[:, None]
    weights = attention.gather(1, rest)[:, :, None].to(tokens.dtype)
    fused = (weights * tokens[images, 1 + rest]).sum(dim=1, keepdim=True)
    return torch.cat((tokens[:, :1], tokens[images, 1 + kept], fused), dim=1), kept


class EViT(Method):
    """Token reorganisation around a ViT that reads [CLS].

    After an evaluation forward pass ``kept`` says which patches of each image, row by row, are left
    after each chosen block: still themselves, not fused.

    Args:
        net: trained or untrained; its weights are used as they are.
        keep_rate: share of the tokens after [CLS] that a chosen block keeps, rounded up; 1: the
            net itself.
        blocks: the chosen blocks, counted from 0; ``None``: those at a quarter, a half and three
            quarters of the depth, which of twelve are the paper's 3, 6 and 9.

    Raises:
        LeanvitError: a net or readout that it does not fit, or a value that cannot be.
    """

    net: Any  # a NetOfTokens

    def __init__(
        self, net: nn.Module, keep_rate: PositiveShare = 0.7, blocks: Sequence[Whole] | None = None
    ) -> None:
        super().__init__()
        self.net = _check_net(net)
        depth = len(self.net.blocks)
        chosen = [depth * i // 4 for i in (1, 2, 3)] if blocks is None else blocks
        if not chosen or max(chosen) >= depth:
            raise LeanvitError(
                f"lightweight.blocks={list(chosen)}: the net has {depth} blocks, choose some from "
                f"0 to {depth - 1}"
            )
        self.keep_rate, self.chosen = keep_rate, sorted(set(chosen))
        self.num_patches = self.net.readout.num_patches
        self.kept: Bool[Tensor, "batch chosen patches"] = torch.empty(
            0, len(self.chosen), self.num_patches, dtype=torch.bool
        )

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        tokens = self.net.begin(images)
        # the patch that each token after [CLS] is; -1: a fused one
        patches = torch.arange(self.num_patches, device=tokens.device).expand(tokens.shape[0], -1)
        kept = []
        for index, block in enumerate(self.net.blocks):
            if index not in self.chosen:
                tokens = block(tokens)
                continue
            tokens, places = reorganising_block(block, tokens, self.keep_rate)
            if places is not None:
                patches = F.pad(patches.gather(1, places), (0, 1), value=-1)
            nowhere = torch.zeros_like(tokens[:, :1, 0], dtype=torch.bool)
            nowhere = nowhere.expand(-1, 1 + self.num_patches)  # the first is for what is fused
            kept.append(nowhere.scatter(1, 1 + patches, True)[:, 1:])
        if not self.training:
            self.kept = torch.stack(kept, dim=1)
        return self.net.head(self.net.read(tokens))


def reorganising_block(
    block: Any, tokens: Float[Tensor, "batch tokens dim"], keep_rate: float
) -> tuple[Float[Tensor, "batch left dim"], Int64[Tensor, "batch num_kept"] | None]:
    """The block with its tokens reorganised before the MLP.

    Returns:
        Tokens, and the places of those kept as in :func:`reorganise`; ``None``: all.
    """
    num_kept = math.ceil(keep_rate * (tokens.shape[1] - 1))
    if num_kept == tokens.shape[1] - 1:
        return block(tokens), None
    attention = block.attention
    projected = attention.qkv(block.attention_norm(tokens))
    query, key, value = split_heads(projected, attention.heads)
    attended = attend(query, key, value, kernel=attention.kernel)
    attended = attention.dropout(attention.out(join_heads(attended)))
    tokens = tokens + block.drop_path(attended)
    tokens, places = reorganise(tokens, cls_attention(query, key), num_kept)
    return block.feed_forward(tokens), places


def _check_net(net: nn.Module) -> Any:
    reason = "which has no [CLS] that attends to all tokens"
    fitting = check_fits(net, "lightweight=evit", reason, "model=vit and vit_b_16")
    if not fitting.readout.reads_cls:
        raise LeanvitError(
            f"lightweight=evit does not fit model.readout={fitting.readout.kind}, which reads "
            "other tokens than [CLS], by whose attention they are kept: take cls"
        )
    return fitting
