"""LDAM: label-distribution-aware margins.

Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
NeurIPS 2019 (https://arxiv.org/abs/1906.07413); the largest margin is that of the official code
(https://github.com/kaidic/LDAM-DRW).

- Before cross-entropy, the logit of an image's own class is lowered by a margin
  Delta_c = C / n_c^(1/4): the rarer the class, the further its images must stay from the others.
  C makes the largest margin ``max_margin``.
- All logits, the margin included, are multiplied by ``scale``; evaluated by the plain logits.
- Soft targets lower every class by its share of its margin, z_c - t_c Delta_c: a mixed image owes a
  class the margin only as far as it belongs to it. One class alone is the paper's loss.

Deviations:

- The paper's head is normalised: its logits are cosines, which ``scale`` 30 stretches for the
  softmax. The heads here are linear layers, whose logits have no bound and find their own scale, so
  ``scale`` is 1 by default and ``max_margin`` is in units of such logits. That is a much weaker
  margin than the paper's 30 x 0.5 = 15 for the rarest class. With 30 the loss of an untrained net
  is several times log K, and evaluation, which knows no ``scale``, finds the net far too unsure.
- Label smoothing, which the paper has not, leaves the margin to the image's own class.
- Re-weighting, the paper's DRW, is another phase of the training: ``beta`` weighs the images, and
  ``loss=ldam loss@late.loss=ldam late.loss.beta=0.9999`` begins with it at ``late.start``. The
  weighted sum is divided by the batch size, as in loss=class_balanced; the official code divides by
  the weights of the batch. Of a soft target each class's part has that class's weight.
"""

import torch
from torch import Tensor, nn

from leanvit.losses.class_balanced import class_weights, smooth_within
from leanvit.losses.soft_targets import Counts, Logits, Scalar, Targets, needs_every_class, shares
from leanvit.values import NonNegative, Positive, ShareBelowOne


class LDAM(nn.Module):
    """Cross-entropy that asks rare classes for larger margins.

    Args:
        class_counts: training images per class.
        max_margin: margin of the rarest class, in units of the logits.
        scale: multiplies logits and margins before the softmax; 1 leaves them as they are.
        label_smoothing: share of the target spread evenly over all classes.
        beta: weigh images by the inverse effective number of their class, as loss=class_balanced
            does; 0 weighs all alike.

    Raises:
        LeanvitError: a class has no images.
    """

    soft_targets = True
    margins: Tensor
    weight: Tensor

    def __init__(
        self,
        class_counts: Counts,
        max_margin: NonNegative = 0.5,
        scale: Positive = 1.0,
        label_smoothing: ShareBelowOne = 0.0,
        beta: ShareBelowOne = 0.0,
    ) -> None:
        super().__init__()
        needs_every_class(class_counts)
        margins = (class_counts / class_counts.min()) ** -0.25
        self.register_buffer("margins", max_margin * margins, persistent=False)
        self.register_buffer("weight", class_weights(class_counts, beta), persistent=False)
        self.scale, self.label_smoothing = scale, label_smoothing

    def forward(self, logits: Logits, targets: Targets) -> Scalar:
        targets = shares(targets, logits)
        smoothed = smooth_within(targets * self.weight, self.label_smoothing)
        log_p = torch.log_softmax(self.scale * (logits - targets * self.margins), dim=1)
        return -(smoothed * log_p).sum(1).mean()
