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

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot

from leanvit.errors import LeanvitError


class PolyLoss(nn.Module):
    """Cross-entropy plus epsilon times the probability that the target lacks.

    Args:
        class_counts: training images per class; not used, every loss is built alike.
        epsilon: added to the first polynomial coefficient, at least -1.
        label_smoothing: share of the target spread evenly over all classes.

    Raises:
        LeanvitError: ``epsilon`` is below -1, or ``label_smoothing`` is not in [0, 1).
    """

    soft_targets = True

    def __init__(
        self,
        class_counts: Int64[Tensor, " classes"],
        epsilon: float = 2.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if epsilon < -1:
            raise LeanvitError(
                f"loss.epsilon={epsilon} is below -1, where images that are right would be "
                "pushed away: 0 is cross-entropy"
            )
        if not 0 <= label_smoothing < 1:
            raise LeanvitError(f"loss.label_smoothing={label_smoothing} is no share in [0, 1)")
        self.epsilon, self.label_smoothing = epsilon, label_smoothing

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Int64[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        num_classes = logits.shape[1]
        if targets.ndim == 1:
            targets = one_hot(targets, num_classes).to(logits.dtype)
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / num_classes
        log_p = torch.log_softmax(logits, dim=1)
        return (smooth * (self.epsilon * (1 - log_p.exp()) - log_p)).sum(1).mean()
