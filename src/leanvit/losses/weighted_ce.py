"""Cross-entropy weighted by inverse class frequency.

- w_c is proportional to N / N_c, N_c of the N training images being of class c. Three scales are in
  use: weights with mean 1 over the classes, N / N_c as it is, weights that sum to 1.
- ``normalisation=mean`` divides the weighted sum of a batch by the sum of the weights of its
  targets, as ``torch.nn.functional.cross_entropy`` does for class indices; soft targets are treated
  alike: sum_ic w_c t_ic (-log p_ic) / sum_ic w_c t_ic. **Any scale cancels in it**: what was
  published with ``nn.CrossEntropyLoss(weight=...)`` and any of the three scales is this one.
- ``normalisation=frequency`` and ``sum`` keep their scale because they divide by the batch size, as
  torch does for soft targets. Over all K classes' training images their value is k times the mean
  over the classes of each class's mean cross-entropy: k = K for ``frequency``, and
  k = K / sum_c (N / N_c), which is at most 1 / K, for ``sum``; it is 1 for ``mean``.
- k multiplies every gradient. SGD's steps grow with it; AdamW's do not, but gradients that k makes
  long are clipped. Besides k, the latter two let a batch with more images of rare classes count
  more, while with ``mean`` every batch counts alike.
- Smoothing is torch's: a class's share of it weighs w_c, whatever class the image has. Where the
  largest class has over K (1 - label_smoothing) / label_smoothing + 1 times the images of the
  smallest (91 times, for ten classes and 0.1), even certain images of the largest class are drawn
  to the smallest: take ``label_smoothing`` 0 there, or loss=class_balanced.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from leanvit.losses.soft_targets import (
    Counts,
    Logits,
    Scalar,
    Targets,
    needs_every_class,
    shares,
    smooth,
)
from leanvit.values import ShareBelowOne


class WeightedCrossEntropy(nn.Module):
    """Rare classes count more.

    Args:
        class_counts: training images per class.
        label_smoothing: share of the target spread evenly over all classes.
        normalisation: ``mean`` divides by the weights of the batch, in which any scale of them
            cancels; ``frequency`` (weights N / N_c) and ``sum`` (weights that sum to 1) divide by
            the batch size.

    Raises:
        LeanvitError: a class has no images.
    """

    soft_targets = True
    weight: Tensor

    def __init__(
        self,
        class_counts: Counts,
        label_smoothing: ShareBelowOne = 0.0,
        normalisation: Literal["mean", "frequency", "sum"] = "mean",
    ) -> None:
        super().__init__()
        needs_every_class(class_counts)
        inverse = class_counts.sum() / class_counts.float()
        scale = {"mean": inverse.mean(), "frequency": torch.tensor(1.0), "sum": inverse.sum()}
        self.register_buffer("weight", inverse / scale[normalisation], persistent=False)
        self.label_smoothing, self.normalisation = label_smoothing, normalisation

    def forward(self, logits: Logits, targets: Targets) -> Scalar:
        targets = shares(targets, logits)
        smoothed = smooth(targets, self.label_smoothing)
        log_p = torch.log_softmax(logits, dim=1)
        weighted_sum = -(smoothed * self.weight * log_p).sum()
        if self.normalisation == "mean":
            return weighted_sum / (targets * self.weight).sum()
        return weighted_sum / len(logits)
