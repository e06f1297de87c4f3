"""Which of torch's attention kernels is fastest where."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


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
