"""Label-aware smoothing.

Source: Zhong et al., "Improving Calibration for Long-Tailed Recognition", CVPR 2021
(https://arxiv.org/abs/2104.00466); the concave form of the official code
(https://github.com/dvlab-research/MiSLAS).

- A net is more overconfident of a class, the more images it has seen of it. So the share of the
  target that all classes get grows with the class's count n: from ``smooth_tail`` for the rarest to
  ``smooth_head`` for the most frequent, along a quarter of a sine:
  tail + (head - tail) sin(pi / 2 (n - n_min) / (n_max - n_min)).
- The same share for both is loss=ce with that label smoothing; 0 is loss=ce without.
- Meant for a second stage on balanced batches (classifier=mislas): it corrects no frequency itself.
- Soft targets: the loss is linear in them, as if a label were drawn from them.

Deviations:

- The share is spread over all classes, as in the code; the paper's formula leaves the own one out.
- Where all classes have as many images, all are taken as head; the code divides by zero.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leanvit.losses.soft_targets import Counts, Logits, Scalar, Targets, shares
from leanvit.values import ShareBelowOne


class LabelAwareSmoothing(nn.Module):
    """Cross-entropy whose label smoothing depends on how frequent the image's class is.

    Args:
        class_counts: training images per class.
        smooth_head: label smoothing of the most frequent class.
        smooth_tail: label smoothing of the rarest class.
    """

    soft_targets = True
    smoothing: Tensor

    def __init__(
        self,
        class_counts: Counts,
        smooth_head: ShareBelowOne = 0.3,
        smooth_tail: ShareBelowOne = 0.0,
    ) -> None:
        super().__init__()
        above = (class_counts - class_counts.min()).float()
        position = above / above.max() if above.any() else torch.ones_like(above)
        smoothing = smooth_tail + (smooth_head - smooth_tail) * (math.pi / 2 * position).sin()
        self.register_buffer("smoothing", smoothing, persistent=False)

    def forward(self, logits: Logits, targets: Targets) -> Scalar:
        targets = shares(targets, logits)
        given_away = targets * self.smoothing
        spread = given_away.sum(1, keepdim=True) / targets.shape[1]
        return cross_entropy(logits, targets - given_away + spread)
