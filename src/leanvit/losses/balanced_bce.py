"""Balanced binary cross-entropy.

Source: Xu et al., "Learning Imbalanced Data with Vision Transformers", CVPR 2023
(https://arxiv.org/abs/2212.02015); the bias is that of the official code
(https://github.com/XuZhengzhuo/LiVT).

- Each class is a question of its own, is the image of it or not: the sigmoid of
  z_c + log pi_c - log(1 - pi_c), pi_c the share of class c among the training images; the binary
  cross-entropies are summed over the classes. The best z_c is the logarithm of how much the image
  raises the odds of class c, so the net need not learn how frequent that is. Balanced accuracy asks
  for p(c | x) / pi_c (loss=balanced_softmax), which orders classes alike unless one has most of the
  images: the odds favour it a little.
- Evaluated by the plain logits z, like every loss here: the largest is the answer, and
  probabilities are the softmax of z, not the sigmoids.
- Equal counts are plain binary cross-entropy of z_c - log(K - 1): zeros say 1 / K of each class.
- Soft targets: the binary cross-entropy with the share of each class.
- Meant for batches as frequent in each class as the training images (sampler=shuffle).

Deviations:

- Label smoothing spreads its share as the images are, pi_c, so that certain images keep their
  class. Spread evenly, as in the code, it would give certain images of a class of 10,000 to one of
  10.
"""

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

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


class BalancedBCE(nn.Module):
    """Binary cross-entropies of the logits plus the log-odds of the classes.

    Args:
        class_counts: training images per class.
        label_smoothing: share of the target spread over all classes, as frequent as they are.

    Raises:
        LeanvitError: a class has no images.
    """

    soft_targets = True
    log_odds: Tensor
    frequency: Tensor

    def __init__(self, class_counts: Counts, label_smoothing: ShareBelowOne = 0.0) -> None:
        super().__init__()
        needs_every_class(class_counts)
        total = class_counts.sum()
        log_odds = class_counts.float().log() - (total - class_counts).float().log()
        self.register_buffer("log_odds", log_odds, persistent=False)
        self.register_buffer("frequency", class_counts / total, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Logits, targets: Targets) -> Scalar:
        smoothed = smooth(shares(targets, logits), self.label_smoothing, self.frequency)
        each = binary_cross_entropy_with_logits(logits + self.log_odds, smoothed, reduction="none")
        return each.sum(1).mean()
