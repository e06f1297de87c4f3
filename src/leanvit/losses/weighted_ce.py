"""Cross-entropy weighted by inverse class frequency.

- w_c proportional to N / N_c, scaled so that the weights' mean over the classes is 1.
- The weighted sum is divided by the sum of the weights of the targets, as
  ``torch.nn.functional.cross_entropy`` does for class indices; soft targets are treated alike:
  sum_ic w_c t_ic (-log p_ic) / sum_ic w_c t_ic.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot


class WeightedCrossEntropy(nn.Module):
    """Rare classes count more.

    Args:
        class_counts: training images per class.
        label_smoothing: share of the target spread evenly over all classes.
    """

    soft_targets = True
    weight: Tensor

    def __init__(
        self, class_counts: Int64[Tensor, " classes"], label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        inverse = class_counts.sum() / class_counts.float()
        self.register_buffer("weight", inverse / inverse.mean(), persistent=False)
        self.label_smoothing = label_smoothing

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Int64[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        num_classes = logits.shape[1]
        if targets.ndim == 1:
            targets = one_hot(targets, num_classes).to(logits.dtype)
        normaliser = (targets * self.weight).sum()
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / num_classes
        log_probabilities = torch.log_softmax(logits, dim=1)
        return -(smooth * self.weight * log_probabilities).sum() / normaliser
