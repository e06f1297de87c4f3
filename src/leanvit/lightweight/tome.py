"""ToMe: tokens that say the same are merged, a few in every block.

Source: Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023
(https://arxiv.org/abs/2210.09461); details as in the official code
(https://github.com/facebookresearch/ToMe).

- Between attention and MLP of a block, the tokens are dealt into two sets in turn. Each of the
  first finds its most similar one in the second; the ``r`` most similar pairs become one token
  each. [CLS] stays itself.
- Similar are two tokens whose keys, averaged over the heads, point the same way.
- A token counts the patches that it stands for: a merged one is the mean of its patches, and the
  logarithm of its size is added to its scores, so that attention sees each patch once
  (proportional attention).
- No weights and no training: it works on any finished ViT, and in training as well, with gradients
  through the means. Every image keeps the same number of tokens, and none is masked.

Deviations:

- ``r`` is one number for all blocks or a list of one for each; the official code's schedules that
  rise or fall linearly are such lists.
- Means and sums of all patches, and CCT's pooling, weigh a token by its size: they read what they
  would read if each patch had the value of its token.
- Similarities are computed in float32 under autocast too: of bfloat16's numbers below 1 the nearest
  is 0.996, and like pairs would all be equal.
- Proportional attention is on in training too, so that training and evaluation are one function;
  the official code trains without it.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from leanvit.contracts import Method
from leanvit.errors import LeanvitError
from leanvit.models.attention import attend, join_heads, split_heads
from leanvit.models.fits import check_fits
from leanvit.values import Whole


class Matching(NamedTuple):
    """Which tokens of the first set stay, and which leave to be merged into one of the second.

    Attributes:
        stay: places of those that stay, ascending.
        leave: places of those that leave.
        joins: 1 where a token of the second set (row) takes up one that leaves (column), else 0.
    """

    stay: Int64[Tensor, "batch num_stay"]
    leave: Int64[Tensor, "batch num_leave"]
    joins: Float[Tensor, "batch num_second num_leave"]


@torch.no_grad()
def match(
    metric: Float[Tensor, "batch tokens dim_head"], num_leave: int, has_cls: bool
) -> Matching:
    """Bipartite soft matching: the ``num_leave`` tokens at even places most like one at an odd.

    Args:
        metric: what tells tokens apart, by the angle between two of them.
        num_leave: at most half of the tokens, [CLS] not counted.
        has_cls: the first token is [CLS], which takes part in nothing.
    """
    metric = F.normalize(metric, dim=2)
    with _without_autocast(metric):
        similarity = metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)
    if has_cls:
        similarity[:, 0] = -torch.inf
    best, partner = similarity.max(dim=2)
    order = best.argsort(dim=1, descending=True, stable=True)
    leave, stay = order.split([num_leave, order.shape[1] - num_leave], dim=1)
    second = torch.arange(similarity.shape[2], device=metric.device)[:, None]
    joins = partner.gather(1, leave)[:, None] == second
    return Matching(2 * stay.sort(dim=1).values, 2 * leave, joins.to(metric.dtype))


def merge(
    values: Float[Tensor, "batch tokens channels"], matching: Matching
) -> Float[Tensor, "batch num_left channels"]:
    """The values of the first set that stay; those of the second, plus what joins them."""
    images = torch.arange(values.shape[0], device=values.device)[:, None]
    # a product: adding at places (index_put_, scatter_add_) has an order that varies on some device
    with _without_autocast(values):
        joining = matching.joins.to(values.dtype) @ values[images, matching.leave]
    return torch.cat((values[images, matching.stay], values[:, 1::2] + joining), dim=1)


def _without_autocast(values: Tensor) -> torch.autocast:
    """For products in full precision; the meta device knows no autocast."""
    return torch.autocast("cpu" if values.is_meta else values.device.type, enabled=False)


def new_places(matching: Matching) -> Int64[Tensor, "batch tokens"]:
    """Where each token is after the matching; one that left is where its target is."""
    num_second, num_stay = matching.joins.shape[1], matching.stay.shape[1]
    first = torch.arange(num_stay, device=matching.stay.device).expand_as(matching.stay)
    joined = num_stay + matching.joins.argmax(dim=1)
    second = num_stay + torch.arange(num_second, device=first.device).expand(first.shape[0], -1)
    places = second.new_empty(first.shape[0], num_stay + joined.shape[1] + num_second)
    places[:, 1::2] = second
    return places.scatter_(1, matching.stay, first).scatter_(1, matching.leave, joined)


def attend_in_proportion(
    attention: Any,
    tokens: Float[Tensor, "batch tokens dim"],
    sizes: Float[Tensor, "batch tokens 1"] | None,
) -> tuple[Float[Tensor, "batch tokens dim"], Float[Tensor, "batch heads tokens dim_head"]]:
    """What the attention gives if each token is as many as its size; the keys."""
    query, key, value = split_heads(attention.qkv(tokens), attention.heads)
    bias = None if sizes is None else sizes.to(query.dtype).log()[:, None, None, :, 0]
    attended = attend(query, key, value, bias=bias, kernel=attention.kernel)
    return attention.dropout(attention.out(join_heads(attended))), key


def merging_block(
    block: Any,
    tokens: Float[Tensor, "batch tokens dim"],
    sizes: Float[Tensor, "batch tokens 1"] | None,
    num_leave: int,
    has_cls: bool,
) -> tuple[Float[Tensor, "batch left dim"], Float[Tensor, "batch left 1"] | None, Matching | None]:
    """The block with proportional attention, and ``num_leave`` tokens merged before the MLP.

    Args:
        sizes: how many positions of the embedding each token stands for; ``None``: one each.
    """
    if sizes is None and num_leave == 0:
        return block(tokens), None, None
    attended, key = attend_in_proportion(block.attention, block.attention_norm(tokens), sizes)
    tokens = tokens + block.drop_path(attended)
    matching = None
    if num_leave > 0:
        key = key.to(torch.promote_types(key.dtype, torch.float32))
        metric = reduce(torch.add, key.unbind(dim=1))  # of all heads; their mean has the same angle
        matching = match(metric, num_leave, has_cls)
        before = torch.ones_like(metric[:, :, :1]) if sizes is None else sizes
        sizes = merge(before, matching)
        tokens = (merge(tokens * before, matching) / sizes).to(tokens.dtype)
    return block.feed_forward(tokens), sizes, matching


class ToMe(Method):
    """Token merging around a net of tokens, such as ViT and CCT.

    Args:
        net: trained or untrained; its weights are used as they are.
        r: tokens merged in each block, or a list of as many numbers as there are blocks. Where
            fewer are left, half of the tokens are merged ([CLS] not counted). 0: the net itself.

    Raises:
        LeanvitError: a net or readout that it does not fit, or an ``r`` that cannot be.
    """

    net: Any  # a NetOfTokens

    def __init__(self, net: nn.Module, r: Whole | Sequence[Whole] = 8) -> None:
        super().__init__()
        self.net = _check_net(net)
        depth = len(self.net.blocks)
        self.r = [r] * depth if isinstance(r, int) else list(r)
        if len(self.r) != depth:
            raise LeanvitError(
                f"lightweight.r={r}: give one number for all blocks or a list of {depth}, one for "
                "each block"
            )
        self.has_cls = bool(self.net.num_prefix)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        tokens, sizes, _ = self._encode(images)
        return self.net.head(self.net.read(tokens, sizes))

    @torch.no_grad()
    def groups(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Int64[Tensor, "batch blocks patches"]:
        """After each block, the token that each patch is part of, by its place."""
        tokens, _, matchings = self._encode(images)
        num_positions = self.net.position_embedding.shape[1]
        groups = torch.arange(num_positions, device=tokens.device).expand(tokens.shape[0], -1)
        after = []
        for matching in matchings:
            groups = groups if matching is None else new_places(matching).gather(1, groups)
            after.append(groups[:, int(self.has_cls) :])
        return torch.stack(after, dim=1)

    def _encode(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> tuple[Tensor, Tensor | None, list[Matching | None]]:
        """Tokens after the last block, their sizes, and what was merged in each block."""
        tokens, sizes, matchings = self.net.begin(images), None, []
        for block, r in zip(self.net.blocks, self.r, strict=True):
            num_leave = min(r, (tokens.shape[1] - self.has_cls) // 2)
            merged = merging_block(block, tokens, sizes, num_leave, self.has_cls)
            tokens, sizes, matching = merged
            matchings.append(matching)
        return tokens, sizes, matchings


def _check_net(net: nn.Module) -> Any:
    fits, reason = "model=vit, vit_b_16 and cct", "whose tokens cannot be merged"
    fitting = check_fits(net, "lightweight=tome", reason, fits, wants_cls=False)
    if not fitting.readout.reads_merged:
        own = "cls" if fitting.num_prefix else "sequence_pool"
        raise LeanvitError(
            f"lightweight=tome does not fit model.readout={fitting.readout.kind}, which reads "
            f"patches that may be merged: take {own}, mean or sum"
        )
    return fitting
