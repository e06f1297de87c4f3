"""Focal loss (Lin et al., 2017), multi-class.

- -alpha_c (1 - p_c)^gamma log p_c for the target class c, mean over the batch; gamma 0 without
  alpha is cross-entropy.
- The paper's sigmoid form is binary; this is the softmax form in common use.
- Soft targets weigh the terms of the classes: sum_c t_c alpha_c (1 - p_c)^gamma (-log p_c).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot

from leanvit.errors import LeanvitError


class Focal(nn.Module):
    """Images that are already classified well count less.

    Args:
        class_counts: training images per class.
        gamma: focusing strength; 0 is cross-entropy.
        alpha: a weight per class, or ``None`` for none.

    Raises:
        LeanvitError: ``alpha`` has not one entry per class, or ``gamma`` is negative.
    """

    soft_targets = True
    alpha: Tensor

    def __init__(
        self,
        class_counts: Int64[Tensor, " classes"],
        gamma: float = 2.0,
        alpha: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if gamma < 0:
            raise LeanvitError(f"loss.gamma={gamma} is negative: 0 is cross-entropy, 2 the paper's")
        if alpha is not None and len(alpha) != len(class_counts):
            raise LeanvitError(
                f"loss.alpha has {len(alpha)} weights, for {len(class_counts)} classes: one each"
            )
        self.gamma = gamma
        weight = torch.ones(len(class_counts)) if alpha is None else torch.tensor(list(alpha))
        self.register_buffer("alpha", weight.float(), persistent=False)

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Int64[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        if targets.ndim == 1:
            targets = one_hot(targets, logits.shape[1]).to(logits.dtype)
        log_p = torch.log_softmax(logits, dim=1)
        # clamped: at p = 1 the gradient of (1 - p)^gamma with gamma < 1 is infinite
        hardness = (1 - log_p.exp()).clamp(min=1e-8) ** self.gamma
        return -(targets * self.alpha * hardness * log_p).sum(1).mean()
