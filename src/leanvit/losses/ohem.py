"""OHEM: online hard example mining.

Source: Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example
Mining", CVPR 2016 (https://arxiv.org/abs/1604.03540).

- Only the images of a batch with the largest losses give gradients: the mean cross-entropy of the
  hardest ``ratio`` of them. Rare classes are among the hard ones, without being counted.
- ``ratio`` 1 is cross-entropy.
- Soft targets rank by the images' soft cross-entropies. Mixed images are then the harder, the more
  evenly they are mixed: their entropy is part of the loss.

Deviations:

- The paper mines among the regions of two images, here among the images of a batch.
- The same function in evaluation, so that a validation loss compares only runs of equal ``ratio``.
"""

from torch import nn
from torch.nn.functional import cross_entropy

from leanvit.losses.soft_targets import Logits, Scalar, Targets
from leanvit.values import PositiveShare, ShareBelowOne


class OHEM(nn.Module):
    """Mean cross-entropy of the hardest images of the batch.

    Args:
        ratio: share of the batch that counts, rounded to whole images, at least one.
        label_smoothing: share of the target spread evenly over all classes.
    """

    soft_targets = True

    def __init__(self, ratio: PositiveShare = 0.7, label_smoothing: ShareBelowOne = 0.0) -> None:
        super().__init__()
        self.ratio, self.label_smoothing = ratio, label_smoothing

    def forward(self, logits: Logits, targets: Targets) -> Scalar:
        each = cross_entropy(
            logits, targets, reduction="none", label_smoothing=self.label_smoothing
        )
        return each.topk(max(1, round(self.ratio * len(each)))).values.mean()
