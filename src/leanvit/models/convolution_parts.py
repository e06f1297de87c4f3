"""Parts of convolutional nets.

Stochastic depth and squeeze-excitation are as torchvision.ops has them, which takes seconds to
import: the same draws, the same names of weights.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d


class DepthwiseConv2d(nn.Conv2d):
    """A filter for each channel; trained in bfloat16 on a CPU, a strided one computes in float32.

    There the gradient of its images has no fast kernel in bfloat16: 210 ms where float32 takes 5
    (256 channels, 16x16, batch 128, one thread), a fifth of a whole CoAtNet's step.
    """

    def __init__(self, dim: int, kernel_size: int, stride: int = 1, *, bias: bool = True) -> None:
        super().__init__(dim, dim, kernel_size, stride, kernel_size // 2, groups=dim, bias=bias)

    def forward(
        self, features: Float[Tensor, "batch dim height width"]
    ) -> Float[Tensor, "batch dim new_height new_width"]:
        slow = features.is_cpu and self.stride != (1, 1) and torch.is_grad_enabled()
        if not (slow and torch.is_autocast_enabled("cpu")):
            return super().forward(features)
        with torch.autocast("cpu", enabled=False):
            return super().forward(features.float()).to(torch.get_autocast_dtype("cpu"))


class StochasticDepth(nn.Module):
    """Leaves a residual branch out for some images of a batch, in training, and scales it up for
    the others (Huang et al. 2016, https://arxiv.org/abs/1603.09382)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, branch: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        if not self.training or self.p == 0.0:
            return branch
        shape = (branch.shape[0], *[1] * (branch.ndim - 1))
        kept = torch.empty(shape, dtype=branch.dtype, device=branch.device).bernoulli_(1 - self.p)
        if self.p < 1.0:
            kept.div_(1 - self.p)
        return branch * kept

    def extra_repr(self) -> str:
        return f"p={self.p}"


class SqueezeExcitation(nn.Module):
    """Scales each channel by what all channels say on average over the map (Hu et al. 2018,
    https://arxiv.org/abs/1709.01507)."""

    def __init__(
        self, dim: int, squeeze_dim: int, activation: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, squeeze_dim, 1)
        self.fc2 = nn.Conv2d(squeeze_dim, dim, 1)
        self.activation = activation()
        self.scale_activation = nn.Sigmoid()

    def forward(
        self, features: Float[Tensor, "batch dim height width"]
    ) -> Float[Tensor, "batch dim height width"]:
        # adaptive_avg_pool2d(features, 1) is this, but its gradient is not channels last: on a CPU
        # the sum with the other gradient takes longer than all the rest
        pooled = avg_pool2d(features, features.shape[-2:])
        squeezed = self.activation(self.fc1(pooled))
        return self.scale_activation(self.fc2(squeezed)) * features
