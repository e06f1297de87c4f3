"""A depthwise convolution that leaves bfloat16 where that has no fast kernel, and keeps its values;
squeeze-excitation and stochastic depth as torchvision has them."""

import pytest
import torch
from torch import Tensor, nn
from torchvision import ops

from leanvit.models.convolution_parts import DepthwiseConv2d, SqueezeExcitation, StochasticDepth


def gradients(layer: nn.Module, images: Tensor, bfloat16: bool) -> list[Tensor]:
    leaf = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        out = layer(leaf)
    assert out.dtype == (torch.bfloat16 if bfloat16 else torch.float32)
    return [out, *torch.autograd.grad(out.float().square().sum(), [leaf, *layer.parameters()])]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_depthwise_convolution_is_torchs_grouped_one(stride: int, bfloat16: bool) -> None:
    torch.manual_seed(0)
    ours = DepthwiseConv2d(8, 3, stride)
    theirs = nn.Conv2d(8, 8, 3, stride, 1, groups=8)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(4, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    tolerance = {"rtol": 2e-2, "atol": 2e-1} if bfloat16 else {}
    for one, other in zip(
        gradients(ours, images, bfloat16), gradients(theirs, images, False), strict=True
    ):
        torch.testing.assert_close(one.float(), other, **tolerance)


def test_only_a_strided_convolution_that_is_trained_in_bfloat16_leaves_it() -> None:
    seen: list[torch.dtype] = []

    class Seen(DepthwiseConv2d):
        def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            out = super()._conv_forward(input, weight, bias)
            seen.append(out.dtype)
            return out

    images = torch.randn(2, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        Seen(4, 3, stride=2)(images)
        Seen(4, 3, stride=1)(images)
        with torch.no_grad():
            Seen(4, 3, stride=2)(images)
    assert seen == [torch.float32, torch.bfloat16, torch.bfloat16]


def test_squeeze_excitation_is_torchvisions_and_its_gradient_stays_channels_last() -> None:
    torch.manual_seed(0)
    ours, theirs = (
        kind(8, 2, activation=nn.SiLU) for kind in (SqueezeExcitation, ops.SqueezeExcitation)
    )
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(3, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    mine, reference = gradients(ours, images, False), gradients(theirs, images, False)
    for one, other in zip(mine, reference, strict=True):
        torch.testing.assert_close(one, other)
    assert mine[1].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_stochastic_depth_is_torchvisions(p: float) -> None:
    features = torch.randn(5, 6, 4, 4)
    found = []
    for kind, options in ((StochasticDepth, {}), (ops.StochasticDepth, {"mode": "row"})):
        torch.manual_seed(0)
        found.append(kind(p, **options)(features))
    assert torch.equal(*found)
