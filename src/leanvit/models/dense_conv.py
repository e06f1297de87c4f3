"""A dense 3x3 convolution whose filters' gradient is one matrix product on small maps."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad

SMALL = 16  # positions of the map that comes out: 4x4


class DenseConv2d(nn.Conv2d):
    """3x3, padded by 1, without a bias; the function is nn.Conv2d's.

    Trained in bfloat16 on a CPU, the gradient of its filters has no fast kernel on small maps. 128
    images, 256 to 512 channels, 4x4 to 2x2, one thread: 42 ms with AMX and 38 with AVX-512 where
    the product takes 2 and 17, and the convolution itself 14 and 17.
    """

    def __init__(self, in_dim: int, dim: int, stride: int = 1) -> None:
        super().__init__(in_dim, dim, 3, stride, padding=1, bias=False)

    def forward(
        self, features: Float[Tensor, "batch in_dim height width"]
    ) -> Float[Tensor, "batch dim new_height new_width"]:
        height, width = features.shape[-2:]
        small = height * width <= SMALL * self.stride[0] ** 2
        trained = features.is_cpu and torch.is_grad_enabled()
        if not (small and trained and torch.is_autocast_enabled("cpu")):
            return super().forward(features)
        return _SmallMaps.apply(features, self.weight, self.stride[0])


class _SmallMaps(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)
    def forward(ctx: Any, features: Tensor, filters: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(features, filters)
        ctx.stride = stride
        return conv2d(features, filters, stride=stride, padding=1)

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        features, filters = ctx.saved_tensors
        stride = [ctx.stride, ctx.stride]
        of_features, _, _ = torch.ops.aten.convolution_backward(
            gradient, features, filters, None, stride, [1, 1], [1, 1], False, [0, 0], 1,
            [True, False, False],
        )  # fmt: skip
        windows = pad(features, (1, 1, 1, 1)).permute(0, 2, 3, 1)  # rows of channels: as in memory
        windows = windows.unfold(1, 3, ctx.stride).unfold(2, 3, ctx.stride)
        rows = windows.permute(0, 1, 2, 4, 5, 3).flatten(0, 2).flatten(1)
        of_filters = gradient.permute(1, 0, 2, 3).flatten(1) @ rows
        of_filters = of_filters.unflatten(1, (3, 3, -1)).permute(0, 3, 1, 2)
        return of_features, of_filters, None
