"""LinformerViT's attention against a loop, and its linear cost."""

import math

import pytest
import torch
from nets import ROW, linformer_vit, scattered
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from leanvit.evaluation.cost.cost import cost
from leanvit.models.attention import record_attention
from leanvit.models.linformer_vit import Attention


def small_attention(share_kv: bool) -> Attention:
    """Seven tokens projected to three, with weights away from their start, in float64."""
    attention = Attention(12, 7, 3, share_kv, heads=2, dropout=0.0, attention="sdpa")
    return scattered(attention).double()


def literal_attention(attention: Attention, tokens: Tensor) -> Tensor:
    """One image, head, query and projected key at a time."""
    mix_keys = attention.key_projection.weight
    mix_values = attention.value_projection.weight
    num_projected, num_tokens = mix_keys.shape
    query, key, value = attention.qkv(tokens).chunk(3, dim=-1)
    dim_head = tokens.shape[1] // attention.heads
    attended = torch.zeros_like(query)
    for head in range(attention.heads):
        channels = slice(head * dim_head, (head + 1) * dim_head)
        keys = torch.zeros(num_projected, dim_head, dtype=tokens.dtype)
        values = torch.zeros(num_projected, dim_head, dtype=tokens.dtype)
        for j in range(num_projected):
            for i in range(num_tokens):
                keys[j] += mix_keys[j, i] * key[i, channels]
                values[j] += mix_values[j, i] * value[i, channels]
        for i in range(num_tokens):
            scores = torch.stack([query[i, channels] @ each / math.sqrt(dim_head) for each in keys])
            for weight, each in zip(scores.softmax(dim=0), values, strict=True):
                attended[i, channels] += weight * each
    return attention.out(attended)


@torch.no_grad()
@pytest.mark.parametrize("share_kv", [False, True])
def test_attention_equals_the_loops(share_kv: bool) -> None:
    attention = small_attention(share_kv)
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    literal = torch.stack([literal_attention(attention, image) for image in tokens])
    torch.testing.assert_close(attention(tokens), literal, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("share_kv", [False, True])
def test_over_tokens_weighs_the_values_of_the_tokens_themselves(share_kv: bool) -> None:
    attention = small_attention(share_kv)
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    with record_attention() as recorded:
        attended = attention(tokens)
    assert recorded[0].shape == (2, 2, 7, 3)
    weights = attention.over_tokens(recorded[0])
    assert weights.shape == (2, 2, 7, 7)
    values = attention.qkv(tokens)[..., 24:].unflatten(-1, (2, 6)).transpose(1, 2)
    summed = (weights @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.out(summed), attended, rtol=0, atol=1e-12)
    attention, tokens = attention.float(), tokens.float()
    with torch.autocast("cpu", torch.bfloat16), record_attention() as recorded:
        attention(tokens)
        assert attention.over_tokens(recorded[0]).shape == (2, 2, 7, 7)


@torch.no_grad()
def test_projections_start_at_the_scale_of_the_tokens() -> None:
    torch.manual_seed(0)
    net = linformer_vit(image_size=64, num_projected=64, depth=1)
    attention = net.blocks[0].attention
    for projection in (attention.key_projection, attention.value_projection):
        mixed = projection(torch.randn(24, 257))
        assert mixed.std() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("share_kv", [False, True])
@pytest.mark.parametrize("image_size", [16, 32])
def test_cost_is_the_closed_form(image_size: int, share_kv: bool) -> None:
    dim, mlp_dim, depth, classes, patch, projected = 24, 40, ROW["depth"], 5, 4, 4
    tokens = 1 + (image_size // patch) ** 2
    costs = cost(linformer_vit(image_size=image_size, share_kv=share_kv), image_size)
    patch_macs = (tokens - 1) * 3 * patch**2 * dim
    linear_macs = tokens * (4 * dim**2 + 2 * dim * mlp_dim)
    projection_macs = attention_macs = 2 * tokens * projected * dim
    block_macs = linear_macs + projection_macs + attention_macs
    assert costs.macs == patch_macs + depth * block_macs + dim * classes
    block_params = 4 * dim**2 + dim + 2 * dim * mlp_dim + mlp_dim + dim + 4 * dim
    block_params += (1 if share_kv else 2) * projected * tokens
    embedding_params = 3 * patch**2 * dim + dim + dim + tokens * dim
    head_params = dim * classes + classes
    assert costs.params == embedding_params + depth * block_params + 2 * dim + head_params


def test_twice_the_tokens_cost_twice() -> None:
    macs = []
    for num_tokens in (50, 100, 200):
        with torch.device("meta"):
            attention = Attention(24, num_tokens, 8, False, heads=4, dropout=0.0, attention="sdpa")
            tokens = torch.empty(1, num_tokens, 24)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            attention(tokens)
        macs.append(counter.get_total_flops() // 2)
    assert macs == [macs[0], 2 * macs[0], 4 * macs[0]]
