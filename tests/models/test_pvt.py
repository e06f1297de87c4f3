"""PVT against timm's, its reduced attention, and its cost."""

import pytest
import torch
from nets import scattered
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from torch import Tensor, nn

from leanvit.evaluation.cost.cost import cost
from leanvit.models.attention import record_attention
from leanvit.models.pvt import PVT, SpatialReductionAttention

SIZES = {
    "image_size": 32,
    "num_classes": 5,
    "dims": [8, 12, 16, 24],
    "depths": [2, 1, 2, 1],
    "heads": [1, 2, 4, 3],
    "mlp_ratios": [4, 3, 2, 2.5],
    "sr_ratios": [4, 2, 1, 1],
    "patch_strides": [2, 2, 2, 2],
}


def small_pvt(**changes: object) -> PVT:
    return PVT(**{**SIZES, **changes})


def timm_twin(net: PVT, **sizes: object) -> PyramidVisionTransformerV2:
    """timm's net of the same size with the weights of ``net``."""
    # Ours takes one epsilon, timm's another in the blocks than after the strided convolutions.
    twin = PyramidVisionTransformerV2(**sizes, norm_layer=nn.LayerNorm)
    renamed = {}
    for name, value in net.state_dict().items():
        module, *rest = name.split(".")
        if module == "norm":
            renamed[".".join(["stages", str(len(net.stages) - 1), name])] = value
        elif module == "head":
            renamed[name] = value
        else:
            stage, layer, *rest = rest
            entry = "patch_embed" if stage == "0" else f"stages.{stage}.downsample"
            depth = len(twin.stages[int(stage)].blocks)
            block = f"stages.{stage}.blocks.{int(layer) - 3}"
            places = {0: f"{entry}.proj", 2: f"{entry}.norm", 3 + depth: f"stages.{stage}.norm"}
            place = places.get(int(layer), block)
            renamed[".".join([place, *rest])] = value
    for ours, theirs in (
        ("attention_norm", "norm1"),
        ("mlp_norm", "norm2"),
        ("attention.query", "attn.q"),
        ("attention.key_value", "attn.kv"),
        ("attention.out", "attn.proj"),
        ("attention.reduction_norm", "attn.norm"),
        ("attention.reduction", "attn.sr"),
        ("mlp.0", "mlp.fc1"),
        ("mlp.2", "mlp.dwconv"),
        ("mlp.6", "mlp.fc2"),
    ):
        renamed = {name.replace(ours, theirs): value for name, value in renamed.items()}
    twin.load_state_dict(renamed)
    return twin.double().eval()


@torch.no_grad()
@pytest.mark.parametrize("sr_ratios", [[4, 2, 2, 1], [8, 4, 1, 2]])
def test_logits_equal_timms(sr_ratios: list[int]) -> None:
    paper = {"image_size": 64, "patch_strides": [4, 2, 2, 2], "sr_ratios": sr_ratios}
    net = scattered(small_pvt(**paper)).double().eval()
    twin = timm_twin(
        net,
        num_classes=5,
        embed_dims=SIZES["dims"],
        depths=SIZES["depths"],
        num_heads=SIZES["heads"],
        mlp_ratios=SIZES["mlp_ratios"],
        sr_ratios=sr_ratios,
    )
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(net(images), twin(images), rtol=0, atol=1e-6)


def test_parameters_of_b0_are_the_published() -> None:
    b0 = {"depths": [2, 2, 2, 2], "mlp_ratios": [8, 8, 4, 4], "sr_ratios": [8, 4, 2, 1]}
    dims, heads = [32, 64, 160, 256], [1, 2, 5, 8]
    with torch.device("meta"):
        net = PVT(224, 1000, dims, heads=heads, patch_strides=[4, 2, 2, 2], **b0)
        twin = PyramidVisionTransformerV2(embed_dims=dims, num_heads=heads, **b0)
    params = sum(parameter.numel() for parameter in net.parameters())
    assert params == sum(parameter.numel() for parameter in twin.parameters())
    assert round(params / 1e6, 1) == 3.7  # the paper's table


@torch.no_grad()
def test_initialisation_is_timms() -> None:
    torch.manual_seed(0)
    net = small_pvt(dims=[32, 64, 64, 128], heads=[1, 1, 1, 1])
    block = net.stages[0][3]
    for convolution, fan_out in (
        (net.stages[1][0], 9 * 64),
        (block.attention.reduction, 16 * 32),
        (block.mlp[2], 9),  # depthwise: one output each
    ):
        assert convolution.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
        assert not convolution.bias.any()
    assert block.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.1)


def literal_reduction(attention: SpatialReductionAttention, tokens: Tensor) -> Tensor:
    """The keys' tokens of one image, one patch at a time."""
    size, ratio = attention.map_size, attention.sr_ratio
    weight, bias = attention.reduction.weight, attention.reduction.bias
    keys = []
    for row in range(0, size, ratio):
        for column in range(0, size, ratio):
            key = bias.clone()
            for i in range(ratio):
                for j in range(ratio):
                    key += weight[:, :, i, j] @ tokens[(row + i) * size + column + j]
            keys.append(attention.reduction_norm(key))
    return torch.stack(keys)


@torch.no_grad()
def test_a_key_is_a_patch_of_positions() -> None:
    attention = SpatialReductionAttention(
        dim=6, map_size=6, heads=2, sr_ratio=3, dropout=0.0, norm_eps=1e-5, attention="sdpa"
    )
    scattered(attention).double()
    tokens = torch.randn(2, 36, 6, dtype=torch.float64)
    literal = torch.stack([literal_reduction(attention, image) for image in tokens])
    torch.testing.assert_close(attention.reduce(tokens), literal, rtol=0, atol=1e-12)


@torch.no_grad()
def test_over_tokens_spreads_a_key_evenly_over_its_patch() -> None:
    torch.manual_seed(0)
    net = small_pvt().eval()
    with record_attention() as records:
        net(torch.randn(2, 3, 32, 32))
    modules = [each for each in net.modules() if isinstance(each, SpatialReductionAttention)]
    assert len(records) == len(modules) == 6
    for weights, attention in zip(records, modules, strict=True):
        size, ratio = attention.map_size, attention.sr_ratio
        over_tokens = attention.over_tokens(weights)
        assert over_tokens.shape == (2, attention.heads, size * size, size * size)
        for position in range(size * size):
            row, column = position // size, position % size
            key = row // ratio * (size // ratio) + column // ratio
            expected = weights[..., key] / ratio**2
            torch.testing.assert_close(over_tokens[..., position], expected)
        torch.testing.assert_close(over_tokens.sum(-1), torch.ones(over_tokens.shape[:-1]))


def test_macs_are_the_closed_form() -> None:
    expected, in_dim, size = 0, 3, 32
    for i, dim in enumerate(SIZES["dims"]):
        stride, ratio = SIZES["patch_strides"][i], SIZES["sr_ratios"][i]
        size //= stride
        tokens, keys = size**2, (size // ratio) ** 2
        hidden = int(dim * SIZES["mlp_ratios"][i])
        projections = 2 * tokens * dim**2 + 2 * keys * dim**2  # query and out, key and value
        reduction = tokens * dim**2 if ratio > 1 else 0
        mlp = tokens * (2 * dim * hidden + 9 * hidden)
        block = projections + reduction + 2 * tokens * keys * dim + mlp
        expected += in_dim * dim * (2 * stride - 1) ** 2 * tokens + SIZES["depths"][i] * block
        in_dim = dim
    assert cost(small_pvt(), 32).macs == expected + in_dim * SIZES["num_classes"]
