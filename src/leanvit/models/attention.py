"""Scaled dot-product attention through one of torch's kernels, and a look at its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Kernel = Literal["sdpa", "math"]

_records: list[Tensor] | None = None  # where `attend` leaves its weights while they are recorded


def split_heads(
    projected: Float[Tensor, "batch tokens channels"], heads: int
) -> Float[Tensor, "3 batch heads tokens dim_head"]:
    """Query, key and value of each head, from the one product that gives all of them."""
    pattern = "batch tokens (three heads dim_head) -> three batch heads tokens dim_head"
    return rearrange(projected, pattern, three=3, heads=heads)


def join_heads(
    attended: Float[Tensor, "batch heads tokens dim_head"],
) -> Float[Tensor, "batch tokens dim"]:
    """The heads beside each other again."""
    return rearrange(attended, "batch heads tokens dim_head -> batch tokens (heads dim_head)")


def attend(
    query: Float[Tensor, "batch heads queries dim_head"],
    key: Float[Tensor, "batch heads keys dim_head"],
    value: Float[Tensor, "batch heads keys dim_value"],
    bias: Float[Tensor, "..."] | None = None,
    scale: float | None = None,
    kernel: Kernel = "sdpa",
) -> Float[Tensor, "batch heads queries dim_value"]:
    """softmax(scale * query @ key^T + bias) @ value, for each head.

    Args:
        bias: added to the scores; of a shape that broadcasts to (batch, heads, queries, keys).
            A query whose every bias is -inf attends to nothing and gets zeros.
        scale: of the scores; ``None``: ``dim_head ** -0.5``.
        kernel: ``"sdpa"``, torch's fused one, whose memory grows with the number of tokens;
            ``"math"``, the literal formula, whose memory grows with its square.
    """
    if kernel == "math" or _records is not None:
        return _literal(query, key, value, bias, scale)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)


def _literal(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None
) -> Tensor:
    scores = (query @ key.transpose(-2, -1)) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is None:
        weights = scores.softmax(dim=-1)
    else:
        scores = scores + bias
        nothing = (scores == -torch.inf).all(dim=-1, keepdim=True)
        # zeros before and after: softmax of a row of -inf is NaN, and so is its gradient
        weights = scores.masked_fill(nothing, 0.0).softmax(dim=-1).masked_fill(nothing, 0.0)
    if _records is not None:
        _records.append(weights)
    return weights.to(value.dtype) @ value


@contextmanager
def record_attention() -> Iterator[list[Tensor]]:
    """Within the block every :func:`attend` computes the literal formula and appends its weights,
    (batch, heads, queries, keys), to the list."""
    global _records
    _records = []
    try:
        yield _records
    finally:
        _records = None


@contextmanager
def fastest_attention(device: torch.device, bfloat16: bool) -> Iterator[None]:
    """Within the block ``scaled_dot_product_attention`` takes the fastest kernel of the device.

    Everywhere torch chooses, except for bfloat16 on a CPU: there its fused kernel is slower than
    two matrix products and a softmax at every length of interest (forward and backward at batch
    128, 65 tokens, 4 heads of 64 on two cores: 72 ms against 13 ms; at 257 tokens still twice).
    """
    if device.type != "cpu" or not bfloat16:
        yield
        return
    backends = torch.backends.cuda  # the switches are named after CUDA and govern the CPU too
    before = backends.fp16_bf16_reduction_math_sdp_allowed()
    backends.allow_fp16_bf16_reduction_math_sdp(True)  # else it computes in float32
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        backends.allow_fp16_bf16_reduction_math_sdp(before)
