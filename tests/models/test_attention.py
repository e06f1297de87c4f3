"""The faster kernel on CPUs computes the same."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from leanvit.models.attention import fastest_attention


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
