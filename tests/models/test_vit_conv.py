"""ViTConv against slow loops, its masked scores, and its closed-form cost."""

import math

import pytest
import torch
import torch.nn.functional as F
from nets import ROW, images_of, scattered, vit_conv
from torch import Tensor, nn

from leanvit.evaluation.cost.cost import cost
from leanvit.models.attention import fastest_attention, record_attention
from leanvit.models.vit_conv import Attention, ViTConv

CPU = torch.device("cpu")


def literal_norm(norm: nn.BatchNorm2d, tokens: Tensor) -> Tensor:
    centred = (tokens - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
    return centred * norm.weight + norm.bias


def literal_linear(convolution: nn.Conv2d, tokens: Tensor) -> Tensor:
    return F.linear(tokens, convolution.weight[:, :, 0, 0], convolution.bias)


def literal_attention(attention: Attention, tokens: Tensor, scale: float) -> Tensor:
    """One head, one query and one key at a time."""
    query, key, value = literal_linear(attention.qkv, tokens).chunk(3, dim=1)
    num_tokens, dim_head = len(tokens), tokens.shape[1] // attention.heads
    attended = torch.empty_like(query)
    for head in range(attention.heads):
        channels = slice(head * dim_head, (head + 1) * dim_head)
        for i in range(num_tokens):
            scores = [query[i, channels] @ key[j, channels] * scale for j in range(num_tokens)]
            attended[i, channels] = torch.stack(scores).softmax(dim=0) @ value[:, channels]
    return literal_linear(attention.out, attended)


def literal_logits(net: ViTConv, image: Tensor, scale: float) -> Tensor:
    """The logits of one image through a list of tokens, without a convolution."""
    weight, bias = net.patch_embedding.weight, net.patch_embedding.bias
    size = weight.shape[-1]
    tokens = []
    for row in range(image.shape[1] // size):
        for column in range(image.shape[2] // size):
            patch = image[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
            position = net.position_embedding[0, :, row, column]
            tokens.append(F.linear(patch.flatten(), weight.flatten(1), bias) + position)
    stream = torch.stack(tokens)
    for block in net.blocks:
        normed = literal_norm(block.attention_norm, stream)
        stream = stream + literal_attention(block.attention, normed, scale)
        hidden = literal_linear(block.mlp[0], literal_norm(block.mlp_norm, stream))
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        stream = stream + literal_linear(block.mlp[3], hidden)
    flat = literal_norm(net.norm, stream).T.flatten()  # channel by channel
    hidden = F.linear(flat, net.head[1].weight, net.head[1].bias)
    return F.linear(F.gelu(hidden), net.head[3].weight, net.head[3].bias)


@torch.no_grad()
@pytest.mark.parametrize(("scale", "factor"), [("dim", 24**-0.5), ("head_dim", 6**-0.5)])
def test_logits_equal_the_loops(scale: str, factor: float) -> None:
    sizes = {"image_size": 8, "patch_size": 2, "depth": 2}
    net = scattered(vit_conv(**sizes, scale=scale, dropout=0.5, attention_dropout=0.5))
    net = net.double().eval()
    images = images_of(3, dtype=torch.float64)[:, :, :8, :8]
    literal = torch.stack([literal_logits(net, image, factor) for image in images])
    torch.testing.assert_close(net(images), literal, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel", ["sdpa", "math"])
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("probability", [0.6, 1.0])
def test_queries_without_a_key_give_no_nan(kernel: str, bfloat16: bool, probability: float) -> None:
    torch.manual_seed(0)
    # Four positions: at 0.6, one query in eight has all its scores masked.
    net = vit_conv(patch_size=8, attention=kernel, attention_dropout=probability).train()
    for fastest in (False, True):
        net.zero_grad()
        with fastest_attention(CPU, fastest), torch.autocast("cpu", enabled=bfloat16):
            logits = net(images_of(16))
            logits.float().square().sum().backward()
        assert torch.isfinite(logits).all()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("kernel", ["sdpa", "math"])
def test_a_query_without_a_key_attends_to_nothing(kernel: str) -> None:
    torch.manual_seed(0)
    attention = Attention(12, 3, 0.0, attention_dropout=1.0, scale="dim", attention=kernel)
    attended = attention.train()(torch.randn(2, 12, 3, 3))
    assert attention.out.bias is not None
    torch.testing.assert_close(
        attended, attention.out.bias[None, :, None, None].expand(2, 12, 3, 3)
    )


@torch.no_grad()
def test_scores_are_masked_before_the_softmax_and_in_training_only() -> None:
    torch.manual_seed(0)
    net, images = vit_conv(patch_size=8, attention_dropout=0.5, depth=1), images_of(256)
    with record_attention() as recorded:
        net.train()(images)
        net.eval()(images)
    in_training, in_evaluation = recorded
    masked = in_training == 0
    assert masked.float().mean() == pytest.approx(0.5, abs=0.02)  # of 16,384 scores
    sums, empty = in_training.sum(dim=-1), masked.all(dim=-1)
    assert empty.float().mean() == pytest.approx(0.5**4, abs=0.02)
    torch.testing.assert_close(sums, 1 - empty.float())
    assert (in_evaluation > 0).all()
    # each image, head, query and key draws for itself
    for axis in range(4):
        assert not torch.equal(masked, masked.roll(1, dims=axis))


@torch.no_grad()
def test_each_of_query_key_and_value_starts_xavier_uniform() -> None:
    torch.manual_seed(0)
    net = vit_conv(dim=96, depth=1)
    bound = math.sqrt(6 / (96 + 96))
    for weight in net.blocks[0].attention.qkv.weight.chunk(3):
        assert 0.98 * bound < weight.abs().max() <= bound
        assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("image_size", [16, 24])
def test_cost_is_the_closed_form(image_size: int) -> None:
    dim, mlp_dim, depth, classes, patch = 24, 40, ROW["depth"], 5, 4
    tokens = (image_size // patch) ** 2
    costs = cost(vit_conv(image_size=image_size), image_size)
    block_macs = tokens * (4 * dim**2 + 2 * dim * mlp_dim) + 2 * tokens**2 * dim
    head_macs = tokens * dim * mlp_dim + mlp_dim * classes
    assert costs.macs == tokens * 3 * patch**2 * dim + depth * block_macs + head_macs
    linear_weights = 4 * dim**2 + 2 * dim * mlp_dim
    block_params = linear_weights + (dim + mlp_dim + dim) + 2 * 2 * dim  # biases, two norms
    embedding_params = 3 * patch**2 * dim + dim + tokens * dim
    head_params = head_macs + mlp_dim + classes
    assert costs.params == embedding_params + depth * block_params + 2 * dim + head_params
