"""Every kernel computes the same attention, and a look at the weights changes nothing."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from leanvit.models.attention import (
    attend,
    fastest_attention,
    record_attention,
)

BIASES = [None, (4, 5, 7), (2, 1, 5, 7), (5, 7)]


def inputs(shape: tuple[int, ...] | None) -> list[Tensor | None]:
    """Query, key and value of two images, four heads, 5 queries, 7 keys; and a bias."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(2, 4, 5, 6), (2, 4, 7, 6), (2, 4, 7, 3), shape]
    return [
        torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True)
        if size
        else None
        for size in sizes
    ]


def literal(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """One image, head and query at a time."""
    attended = query.new_empty(*query.shape[:-1], value.shape[-1])
    each = None if bias is None else bias.expand(*query.shape[:-1], key.shape[-2])
    for b, h, i in torch.cartesian_prod(*map(torch.arange, query.shape[:-1])).tolist():
        scores = torch.stack([scale * (query[b, h, i] @ other) for other in key[b, h]])
        if each is not None:
            scores = scores + each[b, h, i]
        attended[b, h, i] = scores.softmax(0) @ value[b, h]
    return attended


@pytest.mark.parametrize("kernel", ["sdpa", "math"])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("shape", BIASES)
def test_kernels_equal_the_literal_loop_with_gradients(
    kernel: str, scale: float | None, shape: tuple[int, ...] | None
) -> None:
    given, twin = inputs(shape), inputs(shape)
    attended = attend(*given, scale=scale, kernel=kernel)
    expected = literal(*twin, scale or 6**-0.5)
    torch.testing.assert_close(attended, expected, rtol=0, atol=1e-12)
    attended.sin().sum().backward()
    expected.sin().sum().backward()
    for ours, theirs in zip(given, twin, strict=True):
        if ours is not None and theirs is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", ["sdpa", "math"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_query_that_sees_nothing_gets_zeros_and_no_nan(kernel: str, dtype: torch.dtype) -> None:
    query, key, value = torch.randn(3, 2, 4, 5, 8, dtype=dtype).unbind()
    for each in (query, key, value):
        each.requires_grad_()
    bias = torch.zeros(2, 1, 5, 5, dtype=dtype)
    bias[0, 0, 3] = -torch.inf
    bias[1, 0, 2, 4] = -torch.inf
    with fastest_attention(torch.device("cpu"), dtype == torch.bfloat16):
        attended = attend(query, key, value, bias, kernel=kernel)
        attended.float().square().sum().backward()
    assert (attended[0, :, 3] == 0).all() and attended[1, :, 2].abs().sum() > 0
    for each in (query, key, value):
        assert torch.isfinite(each.grad).all()


def test_recording_shows_the_weights_and_changes_nothing() -> None:
    query, key, value, bias = inputs((4, 5, 7))
    with record_attention() as records:
        recorded = attend(query, key, value, bias)
        attend(query, key, value)
    attend(query, key, value)
    assert [each.shape for each in records] == [(2, 4, 5, 7)] * 2
    torch.testing.assert_close(records[0].sum(-1), torch.ones(2, 4, 5, dtype=torch.float64))
    torch.testing.assert_close(recorded, attend(query, key, value, bias))
    torch.testing.assert_close(records[0] @ value, recorded)


def test_the_faster_kernel_agrees_and_the_setting_ends_with_the_block() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 65, 32, generator=generator).bfloat16()
    query.requires_grad_()
    exact = query.detach().double().requires_grad_()
    scaled_dot_product_attention(exact, key.double(), value.double()).square().sum().backward()
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    with fastest_attention(torch.device("cpu"), bfloat16=True):
        scaled_dot_product_attention(query, key, value).square().sum().backward()
        assert torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    assert torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed() == before
    assert query.grad is not None and exact.grad is not None
    scale = exact.grad.abs().max()  # bfloat16 has eight bits
    assert (query.grad.double() - exact.grad).abs().max() < 0.02 * scale


@pytest.mark.parametrize(("device", "bfloat16"), [("cpu", False), ("cuda", True)])
def test_elsewhere_torch_chooses(device: str, bfloat16: bool) -> None:
    with fastest_attention(torch.device(device), bfloat16):
        assert torch.backends.cuda.flash_sdp_enabled()
