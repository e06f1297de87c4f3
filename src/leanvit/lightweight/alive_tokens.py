"""A ViT's block where some tokens are dropped: masked in training, packed in evaluation.

- Masked: every token goes through the block, but nobody attends to what is dropped. The decision
  on each token gets a gradient (DynamicViT, https://arxiv.org/abs/2106.02034).
- Packed: images keep different numbers of tokens. Linear layers and norms compute on one matrix of
  all tokens that are alive; only attention itself is padded to the longest image.
- Streamed: the same for images that are done at different blocks. What is alive stays that one
  matrix from block to block, images sorted by length and padded in a few groups
  (A-ViT, https://arxiv.org/abs/2112.07658).

All give what the block gives to the tokens of one image that are alive, and to no others.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from leanvit.contracts import NetOfTokens
from leanvit.models.attention import attend, join_heads, split_heads

LARGEST_EXPONENT = math.log(1e6)
NUM_GROUPS = 8  # of images padded alike: 6 to 8 % faster than one on a CPU; more gain nothing


def softmax_with_policy(
    scores: Float[Tensor, "batch heads tokens tokens"], policy: Float[Tensor, "batch tokens"]
) -> Float[Tensor, "batch heads tokens tokens"]:
    """Softmax over the tokens of policy 1, and over itself for one of policy 0.

    The gradient of a policy of 0 says what the token would change if it were alive.
    """
    itself = torch.eye(scores.shape[-1], dtype=policy.dtype, device=policy.device)
    seen = policy[:, None, None, :]
    seen = seen + (1 - seen) * itself
    scores = scores.to(policy.dtype)
    largest = scores.detach().masked_fill(seen == 0, -torch.inf).amax(dim=-1, keepdim=True)
    # a token that is not seen may score far above: times 0 it must be finite, and its gradient too
    shares = (scores - largest).clamp(max=LARGEST_EXPONENT).exp() * seen
    return shares / shares.sum(dim=-1, keepdim=True)


def masked_block(
    block: Any, tokens: Float[Tensor, "batch tokens dim"], policy: Float[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens dim"]:
    """The block with :func:`softmax_with_policy` in its attention."""
    attention = block.attention
    projected = attention.qkv(block.attention_norm(tokens))
    query, key, value = split_heads(projected, attention.heads)
    scores = (query @ key.transpose(-2, -1)) * query.shape[-1] ** -0.5
    attended = join_heads(softmax_with_policy(scores, policy).to(value.dtype) @ value)
    attended = attention.dropout(attention.out(attended))
    return block.feed_forward(tokens + block.drop_path(attended))


def attend_to_alive(
    attention: Any,
    projected: Float[Tensor, "batch tokens channels"],
    alive: Bool[Tensor, "batch tokens"] | None,
) -> Float[Tensor, "batch tokens dim"]:
    """Attention of projected tokens to those that are alive; ``None``: to all."""
    query, key, value = split_heads(projected, attention.heads)
    bias = None
    if alive is not None:
        bias = torch.zeros_like(alive, dtype=query.dtype).masked_fill(~alive, -torch.inf)
        bias = bias[:, None, None]
    return join_heads(attend(query, key, value, bias=bias, kernel=attention.kernel))


def packed_block(
    block: Any, tokens: Float[Tensor, "batch tokens dim"], alive: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens dim"]:
    """The block, in evaluation, on the tokens that are no padding; what padding becomes is nothing
    to rely on, but finite."""
    attention = block.attention
    rows = alive.flatten().nonzero()[:, 0]
    # padding repeats the row before it: on a CPU ten times faster than to scatter into zeros
    slots = (alive.flatten().cumsum(0) - 1).clamp(min=0)

    def pad(packed: Tensor) -> Tensor:
        return packed.index_select(0, slots).unflatten(0, alive.shape)

    stream = tokens.flatten(0, 1).index_select(0, rows)
    projected = pad(attention.qkv(block.attention_norm(stream)))
    attended = attend_to_alive(attention, projected, alive).flatten(0, 1)
    return pad(block.feed_forward(stream + attention.out(attended.index_select(0, rows))))


def streamed_block(
    block: Any, stream: Float[Tensor, "rows dim"], lengths: list[int]
) -> Float[Tensor, "rows dim"]:
    """The block, in evaluation, on images of different numbers of tokens.

    Args:
        stream: tokens, image by image.
        lengths: tokens of each image, ascending.
    """
    attention = block.attention
    projected = attention.qkv(block.attention_norm(stream))
    num_groups = 1 if lengths[0] == lengths[-1] else NUM_GROUPS
    size = math.ceil(len(lengths) / num_groups)
    groups = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    parts = projected.split([sum(group) for group in groups])
    attended = [padded_attention(attention, *each) for each in zip(parts, groups, strict=True)]
    return block.feed_forward(stream + attention.out(torch.cat(attended)))


def padded_attention(
    attention: Any, projected: Float[Tensor, "rows channels"], lengths: list[int]
) -> Float[Tensor, "rows dim"]:
    """Attention within each image, padded to the longest; arguments of :func:`streamed_block`."""
    size = (len(lengths), lengths[-1])
    if lengths[0] == lengths[-1]:
        return attend_to_alive(attention, projected.unflatten(0, size), None).flatten(0, 1)
    places = torch.arange(lengths[-1], device=projected.device)
    alive = places < torch.tensor(lengths, device=projected.device)[:, None]
    # padding repeats the row before it: on a CPU ten times faster than to scatter into zeros
    padded = projected.index_select(0, alive.flatten().cumsum(0) - 1).unflatten(0, size)
    attended = attend_to_alive(attention, padded, alive).flatten(0, 1)
    return attended.index_select(0, alive.flatten().nonzero()[:, 0])


def repack(
    stream: Float[Tensor, "rows dim"], rows: Int64[Tensor, " rows"], alive: Bool[Tensor, "batch _"]
) -> tuple[Float[Tensor, "left dim"], Int64[Tensor, " left"], Int64[Tensor, " images"]]:
    """What is alive of a stream, images with fewest tokens first; and their numbers of tokens.

    Args:
        rows: where each row of the stream is among all tokens of the batch.
    """
    lengths, order = alive.sum(dim=1).sort(stable=True)
    images, places = alive[order].nonzero(as_tuple=True)
    left = order[images] * alive.shape[1] + places
    if len(left) == len(rows):
        return stream, rows, lengths[lengths > 0]
    before = rows.new_zeros(alive.numel())
    before[rows] = torch.arange(len(rows), device=rows.device)
    return stream.index_select(0, before[left]), left, lengths[lengths > 0]


def take_patches(
    tokens: Float[Tensor, "batch tokens dim"], places: Int64[Tensor, "batch chosen"]
) -> Float[Tensor, "batch 1+chosen dim"]:
    """[CLS], which stands first, and the patches at these places among the patches."""
    firsts = tokens.shape[1] * torch.arange(tokens.shape[0], device=tokens.device)[:, None]
    rows = F.pad(places + 1, (1, 0)) + firsts
    # whole rows: on a CPU nine times faster than to gather value by value
    return tokens.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)


def places_over(
    scores: Float[Tensor, "batch tokens"], alive: Bool[Tensor, "batch tokens"] | None, tau: float
) -> tuple[Int64[Tensor, "batch chosen"], Bool[Tensor, "batch chosen"] | None]:
    """Where the tokens stand that stay with a probability of ``tau`` or more, in their order.

    At least the likeliest stays. An image that keeps fewer than another one is padded with places
    that do not count.

    Args:
        scores: log-probabilities of staying.
        alive: which tokens are no padding; ``None``: all.

    Returns:
        The places, and which of them are no padding; ``None``: all.
    """
    if alive is not None:
        scores = scores.masked_fill(~alive, -torch.inf)
    likeliest = F.one_hot(scores.argmax(dim=1), scores.shape[1]).bool()
    stays = ((scores.exp() >= tau) & (scores > -torch.inf)) | likeliest
    counts = stays.sum(dim=1)
    fewest, most = torch.stack(counts.aminmax()).tolist()
    places = (~stays).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    if fewest == most:
        return places, None
    return places, torch.arange(most, device=counts.device) < counts[:, None]


def num_weights(part: nn.Module) -> int:
    """MACs of its linear layers, or of its convolution, at one position."""
    layers = (each for each in part.modules() if isinstance(each, nn.Linear | nn.Conv2d))
    return sum(layer.weight.numel() for layer in layers)


def macs_of_vit(
    net: NetOfTokens, tokens: Int64[Tensor, "batch blocks"]
) -> Float64[Tensor, " batch"]:
    """MACs of each image whose blocks compute on so many tokens, [CLS] among them."""
    macs = torch.zeros(len(tokens), dtype=torch.float64)
    macs += net.readout.num_patches * num_weights(net.patch_embedding) + num_weights(net.head)
    for block, count in zip(net.blocks, tokens.double().unbind(dim=1), strict=True):
        width = block.attention.qkv.out_features // 3
        macs += count * num_weights(block) + 2 * count**2 * width
    return macs
