"""A convolution with a gradient of its own on small maps equals torch's."""

from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from leanvit.models import dense_conv
from leanvit.models.dense_conv import DenseConv2d


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("size", "stride"), [((1, 1), 1), ((3, 3), 1), ((2, 7), 2), ((8, 8), 2)])
def test_the_gradients_are_those_of_torchs_convolution_in_twice_the_precision(
    size: tuple[int, int], stride: int, memory: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = DenseConv2d(8, 12, stride)
    images = torch.randn(4, 8, *size).contiguous(memory_format=memory)
    weights = torch.randn_like(layer(images)).bfloat16()

    exact = nn.Conv2d(8, 12, 3, stride, 1, bias=False, dtype=torch.float64)
    exact.weight.data.copy_(layer.weight.bfloat16())
    twin = images.bfloat16().double().requires_grad_()
    expected = exact(twin)
    wanted = torch.autograd.grad((expected * weights).sum(), [twin, exact.weight])

    leaf = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), patch.object(nn.Conv2d, "forward") as torchs:
        out = layer(leaf)
    assert not torchs.called
    found = torch.autograd.grad((out * weights).sum(), [leaf, layer.weight])
    assert out.dtype == torch.bfloat16
    assert [one.dtype for one in found] == [torch.float32, torch.float32]
    for one, other in zip([out, *found], [expected, *wanted], strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-2, atol=2e-2)


def test_larger_maps_and_what_is_not_trained_in_bfloat16_are_left_to_torch() -> None:
    called: list[Tensor] = []
    layer = DenseConv2d(2, 2)
    small, large = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 5)

    def apply(features: Tensor, *_: object) -> Tensor:
        called.append(features)
        return features

    with patch.object(dense_conv._SmallMaps, "apply", apply):
        layer(small)
        with torch.autocast("cpu", torch.bfloat16):
            layer(large)
            with torch.no_grad():
                layer(small)
            assert not called
            layer(small)
    assert called == [small]
