"""AdamW (Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101): torch's."""

from collections.abc import Iterable, Sequence
from inspect import unwrap
from typing import Annotated, Any

import torch
from annotated_types import Len

from leanvit.values import NonNegative, Positive, ShareBelowOne


class AdamW(torch.optim.AdamW):
    """torch's, without the import of torch._dynamo before its first step, which takes seconds."""

    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


def adamw(
    groups: Iterable[dict[str, Any]],
    lr: Positive = 1e-3,
    weight_decay: NonNegative = 0.05,
    betas: Annotated[Sequence[ShareBelowOne], Len(2, 2)] = (0.9, 0.999),
    fused: bool = True,
) -> torch.optim.AdamW:
    """Over parameter groups, whose own values go first.

    Args:
        betas: how much of the moving averages of gradients and of their squares stays each step.
        fused: one kernel for all parameters.
    """
    both = (betas[0], betas[1])
    return AdamW(groups, lr, both, weight_decay=weight_decay, fused=fused)
