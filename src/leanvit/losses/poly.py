"""PolyLoss in its simplest form, Poly-1.

Source: Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss
Functions", ICLR 2022 (https://arxiv.org/abs/2204.12511).

- Cross-entropy is the series sum_j (1 - p_t)^j / j, p_t the probability of the target class; Poly-1
  changes its first coefficient: -log p_t + epsilon (1 - p_t).
- epsilon 0 is cross-entropy. Above 0, images that are partly right pull harder; down to -1, only
  wrong ones do.
- Soft targets and label smoothing weigh the terms of the classes, as in the paper's own form with
  smoothing: sum_c t_c (-log p_c + epsilon (1 - p_c)).
"""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import nn

from leanvit.losses.soft_targets import Logits, Scalar, Targets, shares, smooth
from leanvit.values import ShareBelowOne


class PolyLoss(nn.Module):
    """Cross-entropy plus epsilon times the probability that the target lacks.

    Args:
        epsilon: added to the first polynomial coefficient; below -1 images that are right would be
            pushed away.
        label_smoothing: share of the target spread evenly over all classes.
    """

    soft_targets = True

    def __init__(
        self,
        epsilon: Annotated[float, Ge(-1)] = 2.0,
        label_smoothing: ShareBelowOne = 0.0,
    ) -> None:
        super().__init__()
        self.epsilon, self.label_smoothing = epsilon, label_smoothing

    def forward(self, logits: Logits, targets: Targets) -> Scalar:
        smoothed = smooth(shares(targets, logits), self.label_smoothing)
        log_p = torch.log_softmax(logits, dim=1)
        return (smoothed * (self.epsilon * (1 - log_p.exp()) - log_p)).sum(1).mean()
