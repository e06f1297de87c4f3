"""Quantisation-aware training: the net trains with the rounding that int8 will bring.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018 (https://arxiv.org/abs/1712.05877).

- The inputs and weights of every linear layer and convolution are rounded to what int8 can hold
  and taken back to floating point, in training and evaluation: the loss sees the error.
- The gradient passes the rounding as if it were not there (straight through).
- Weights: the range of each output channel, symmetric around zero, in 7 bits, as
  :class:`leanvit.compression.quantize.Quantize` stores them.
- Inputs: the range of each image, zero included, in 8 bits: what ONNX Runtime's dynamic
  quantisation computes on one image. Where the last bit of a float differs, as it does between
  batches of other sizes, a value may be rounded the other way.
- The weights stay floating point under their own names. ``method=quantize`` takes the net within.

Deviations:

- The paper learns the ranges of activations as moving averages, and folds BatchNorm first. Here an
  image has its own ranges, so that nothing is kept but the weights, and BatchNorm stays as it is.
- The net has no other layers in its layers' place, so its names and its cost stay too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from leanvit.contracts import Method

WEIGHT_STEPS = 64  # on either side of zero: 8 bits would overflow in kernels of CPUs without VNNI
INPUT_STEPS = 255


class QAT(Method):
    """A net whose linear layers and convolutions compute on rounded inputs and weights.

    Args:
        net: trained or untrained; ``net`` is also what has the weights in full precision.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        with _Rounding():
            return self.net(images)

    def deployed(self) -> nn.Module:
        return self.net  # int8 rounds it, float32 has no need to


class _Rounding(TorchFunctionMode):
    """Within the block linear layers and convolutions round what they are given."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        rounds = function is F.linear or function is F.conv2d
        if rounds and not args[0].is_meta:  # where costs are counted nothing has a value to round
            inputs, weight, *rest = args
            args = (round_inputs(inputs), round_weight(weight), *rest)
        return function(*args, **(kwargs or {}))


def round_weight(weight: Float[Tensor, "out ..."]) -> Float[Tensor, "out ..."]:
    """To multiples of each row's largest value over 64, the gradient passing through."""
    values = _precise(weight).flatten(1)
    scale = (values.abs().amax(dim=1) / WEIGHT_STEPS).clamp_min(torch.finfo(values.dtype).tiny)
    rounded = (values / scale[:, None]).round() * scale[:, None]
    return rounded.view_as(weight).to(weight.dtype) + (weight - weight.detach())


def round_inputs(inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """To 256 values of each image's own range, zero among them, the gradient passing through."""
    values = _precise(inputs).flatten(1)
    low, high = values.amin(dim=1).clamp_max(0), values.amax(dim=1).clamp_min(0)
    scale = ((high - low) / INPUT_STEPS).clamp_min(torch.finfo(values.dtype).tiny)[:, None]
    zero = (-low[:, None] / scale).round()
    rounded = ((values / scale).round() + zero).clamp(0, INPUT_STEPS).sub(zero) * scale
    return rounded.view_as(inputs).to(inputs.dtype) + (inputs - inputs.detach())


def _precise(values: Tensor) -> Tensor:
    """Without gradient; under autocast in float32, as bfloat16 cannot tell 256 steps apart."""
    return values.detach().to(torch.promote_types(values.dtype, torch.float32))
