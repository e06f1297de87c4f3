"""Focal loss (Lin et al., 2017), multi-class.

- -alpha_c (1 - p_c)^gamma log p_c for the target class c, mean over the batch; gamma 0 without
  alpha is cross-entropy.
- The paper's sigmoid form is binary; this is the softmax form in common use.
- Soft targets weigh the terms of the classes: sum_c t_c alpha_c (1 - p_c)^gamma (-log p_c).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.losses.soft_targets import Counts, Logits, Scalar, Shares, Targets, shares, smooth
from leanvit.values import NonNegative, ShareBelowOne


class Focal(nn.Module):
    """Images that are already classified well count less.

    Args:
        class_counts: training images per class.
        gamma: focusing strength; 0 is cross-entropy.
        alpha: a weight per class, or ``None`` for none.
        label_smoothing: share of the target spread evenly over all classes, as recipes ask for.

    Raises:
        LeanvitError: ``alpha`` has not one entry per class.
    """

    soft_targets = True
    alpha: Tensor

    def __init__(
        self,
        class_counts: Counts,
        gamma: NonNegative = 2.0,
        alpha: Sequence[NonNegative] | None = None,
        label_smoothing: ShareBelowOne = 0.0,
    ) -> None:
        super().__init__()
        if alpha is not None and len(alpha) != len(class_counts):
            raise LeanvitError(
                f"loss.alpha has {len(alpha)} weights, for {len(class_counts)} classes: one each"
            )
        self.gamma, self.label_smoothing = gamma, label_smoothing
        weight = torch.ones(len(class_counts)) if alpha is None else torch.tensor(list(alpha))
        self.register_buffer("alpha", weight.float(), persistent=False)

    def forward(self, logits: Logits, targets: Targets) -> Scalar:
        log_p = torch.log_softmax(logits, dim=1)
        weighted = smooth(shares(targets, logits), self.label_smoothing) * self.alpha
        return -(weighted * hardness(log_p, self.gamma) * log_p).sum(1).mean()


def hardness(log_p: Shares, gamma: float) -> Shares:
    """(1 - p)^gamma, clamped: at p = 1 its gradient is infinite where gamma is below 1."""
    return (1 - log_p.exp()).clamp(min=1e-8) ** gamma
