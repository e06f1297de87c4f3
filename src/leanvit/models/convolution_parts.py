"""Stochastic depth and squeeze-excitation, as torchvision.ops has them, which takes seconds to
import: the same draws, the same bits, the same names of weights."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(dim, squeeze_dim, 1)
        self.fc2 = nn.Conv2d(squeeze_dim, dim, 1)
        self.activation = activation()
        self.scale_activation = nn.Sigmoid()

    def forward(
        self, features: Float[Tensor, "batch dim height width"]
    ) -> Float[Tensor, "batch dim height width"]:
        squeezed = self.activation(self.fc1(self.avgpool(features)))
        return self.scale_activation(self.fc2(squeezed)) * features
