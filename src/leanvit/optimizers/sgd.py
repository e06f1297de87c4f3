"""Stochastic gradient descent with momentum: torch's."""

from collections.abc import Iterable
from inspect import unwrap
from typing import Any

import torch

from leanvit.values import NonNegative, Positive, ShareBelowOne


class SGD(torch.optim.SGD):
    """torch's, without the import of torch._dynamo before its first step, which takes seconds."""

    step = torch.no_grad()(unwrap(torch.optim.SGD.step))


def sgd(
    groups: Iterable[dict[str, Any]],
    lr: Positive = 0.05,
    momentum: ShareBelowOne = 0.9,
    nesterov: bool = True,
    weight_decay: NonNegative = 5e-4,
) -> torch.optim.SGD:
    """Over parameter groups, whose own values go first."""
    return SGD(groups, lr, momentum, weight_decay=weight_decay, nesterov=nesterov)
