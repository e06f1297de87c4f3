"""CCT against a twin of torch's own layers, its published sizes, its pooling, its positions."""

import math

import pytest
import torch
from nets import ROW, cct, images_of, scattered
from torch import Tensor, nn
from torch.nn import functional as F

from leanvit.evaluation.cost.cost import cost
from leanvit.models.cct import CCT, SequencePool


def torch_block(state: dict[str, Tensor], index: int, tokens: Tensor) -> Tensor:
    """One encoder block as published, with torch's attention and the weights of ``state``."""
    own = {name.removeprefix(f"blocks.{index}."): value for name, value in state.items()}
    dim, heads = tokens.shape[-1], ROW["heads"]

    def norm(name: str, stream: Tensor) -> Tensor:
        return F.layer_norm(stream, (dim,), own[f"{name}.weight"], own[f"{name}.bias"])

    attention = nn.MultiheadAttention(dim, heads, batch_first=True, dtype=tokens.dtype)
    attention.in_proj_weight.copy_(own["attention.qkv.weight"])
    attention.in_proj_bias.zero_()
    attention.out_proj.weight.copy_(own["attention.out.weight"])
    attention.out_proj.bias.copy_(own["attention.out.bias"])
    read = norm("attention_norm", tokens)
    stream = norm("mlp_norm", tokens + attention(read, read, read)[0])
    hidden = F.gelu(F.linear(stream, own["mlp.0.weight"], own["mlp.0.bias"]))
    return stream + F.linear(hidden, own["mlp.3.weight"], own["mlp.3.bias"])


def torch_twin(net: CCT, images: Tensor, kernel_size: int) -> Tensor:
    """The paper's net, layer by layer, with the weights of ``net``."""
    state = net.state_dict()
    features = images
    for name in sorted(name for name in state if name.startswith("tokeniser")):
        stride, padding = max(1, kernel_size // 2 - 1), max(1, kernel_size // 2)
        features = F.relu(F.conv2d(features, state[name], None, stride, padding))
        features = F.max_pool2d(features, 3, 2, 1)
    tokens = features.flatten(2).transpose(1, 2) + state["position_embedding"]
    for index in range(len(net.blocks)):
        tokens = torch_block(state, index, tokens)
    tokens = F.layer_norm(tokens, tokens.shape[-1:], state["norm.weight"], state["norm.bias"])
    scores = F.linear(tokens, state["readout.score.weight"], state["readout.score.bias"])
    pooled = (scores.softmax(dim=1).transpose(1, 2) @ tokens).squeeze(1)
    return F.linear(pooled, state["head.weight"], state["head.bias"])


@torch.no_grad()
@pytest.mark.parametrize(("num_convolutions", "kernel_size"), [(1, 3), (2, 3), (1, 7), (2, 4)])
def test_logits_equal_the_papers_layers(num_convolutions: int, kernel_size: int) -> None:
    tokeniser = {"num_convolutions": num_convolutions, "kernel_size": kernel_size}
    net = scattered(cct(**tokeniser)).double().eval()
    images = images_of(3, dtype=torch.float64)
    twin = torch_twin(net, images, kernel_size)
    torch.testing.assert_close(net(images), twin, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "published"),
    [
        ((2, 2, 2, 128, 128, "learnable"), "0.28"),
        ((6, 1, 4, 256, 512, "sinusoidal"), "3.17"),
        ((7, 1, 4, 256, 512, "learnable"), "3.76"),
    ],
)
def test_parameters_are_the_published(sizes: tuple, published: str) -> None:
    depth, num_convolutions, heads, dim, mlp_dim, kind = sizes
    with torch.device("meta"):
        net = CCT(32, 10, num_convolutions, 3, dim, depth, heads, mlp_dim, kind)
    convolutions = 9 * (3 * dim if num_convolutions == 1 else 3 * 64 + 64 * dim)
    positions = (16 // num_convolutions) ** 2 * dim if kind == "learnable" else 0
    norms_of_block = 4 * dim
    block = 4 * dim**2 + dim + 2 * dim * mlp_dim + mlp_dim + dim + norms_of_block
    rest = 2 * dim + (dim + 1) + 10 * (dim + 1)  # last norm, pooling, head
    expected = convolutions + positions + depth * block + rest
    assert sum(parameter.numel() for parameter in net.parameters()) == expected
    assert f"{expected / 1e6:.2f}" == published


@pytest.mark.parametrize("num_convolutions", [1, 2])
def test_macs_are_the_closed_form(num_convolutions: int) -> None:
    dim, mlp_dim = ROW["dim"], ROW["mlp_dim"]
    convolutions = 9 * 16**2 * 3 * dim
    if num_convolutions == 2:
        convolutions = 9 * (16**2 * 3 * 64 + 8**2 * 64 * dim)
    tokens = (8 // num_convolutions) ** 2
    block = tokens * (4 * dim**2 + 2 * dim * mlp_dim) + 2 * tokens**2 * dim
    pooling = 2 * tokens * dim  # scores and sum
    expected = convolutions + ROW["depth"] * block + pooling + dim * ROW["num_classes"]
    assert cost(cct(num_convolutions=num_convolutions), 16).macs == expected


@torch.no_grad()
def test_sequence_pool_equals_the_loop() -> None:
    pool = scattered(SequencePool(6)).double()
    tokens = torch.randn(4, 9, 6, dtype=torch.float64)
    for image, pooled in zip(tokens, pool(tokens), strict=True):
        shares = [torch.exp(pool.score.weight[0] @ each + pool.score.bias[0]) for each in image]
        literal = torch.zeros(6, dtype=torch.float64)
        for share, each in zip(shares, image, strict=True):
            literal += share / sum(shares) * each
        torch.testing.assert_close(pooled, literal, rtol=0, atol=1e-12)


@torch.no_grad()
def test_sequence_pool_without_weights_is_the_mean_and_with_large_ones_one_token() -> None:
    torch.manual_seed(0)
    pool = SequencePool(6)
    tokens = torch.randn(4, 9, 6)
    nn.init.zeros_(pool.score.weight)
    torch.testing.assert_close(pool(tokens), tokens.mean(dim=1))
    pool.score.weight[0, 2] = 1e4
    largest = tokens[..., 2].argmax(dim=1)
    torch.testing.assert_close(pool(tokens), tokens[torch.arange(4), largest])


def test_sinusoidal_positions_equal_the_formula() -> None:
    net = cct(positions="sinusoidal")
    for place in (0, 1, 13):
        for channel in range(24):
            angle = place / 10000 ** (2 * (channel // 2) / 24)
            expected = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
            assert net.position_embedding[0, place, channel].item() == pytest.approx(
                expected, abs=1e-6
            )
    assert "position_embedding" not in net.state_dict()
    tokens = net.begin(torch.zeros(1, 3, 16, 16))
    torch.testing.assert_close(tokens, net.position_embedding)
