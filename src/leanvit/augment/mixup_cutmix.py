"""mixup or CutMix, batch by batch, as DeiT trains (Touvron et al., 2021,
https://arxiv.org/abs/2012.12877) with timm's ``Mixup``.

- A batch is mixed with ``probability``; a mixed one takes CutMix with ``switch_probability``, mixup
  otherwise.
- The choice is one for the whole batch, as timm's ``mode="batch"``, which is DeiT's: so only one of
  the two is computed. Chosen image by image, both would be, for the same targets on average.

Deviations:

- lambda, and CutMix's box, is each image's own (timm's batch mode has one per batch).
- Label smoothing is the loss's, ``loss.label_smoothing``; timm puts it into the mixed targets,
  which for cross-entropy is the same.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.augment.cutmix import CutMix
from leanvit.augment.mixup import MixUp
from leanvit.values import Count, Positive, Share


class MixUpCutMix:
    """Mix each batch by mixup or by CutMix; targets become soft (batch, classes).

    Args:
        mixup_alpha, cutmix_alpha: of the Beta distributions of the two.
        switch_probability: of CutMix, where a batch is mixed.
        probability: of mixing a batch at all; an unmixed batch has one-hot targets.
    """

    soft_targets = True
    partners = None

    def __init__(
        self,
        num_classes: Count,
        mixup_alpha: Positive = 0.8,
        cutmix_alpha: Positive = 1.0,
        switch_probability: Share = 0.5,
        probability: Share = 1.0,
    ) -> None:
        self.mixup = MixUp(num_classes, mixup_alpha, probability=1.0)
        self.cutmix = CutMix(num_classes, cutmix_alpha, probability=1.0)
        self.num_classes = num_classes
        self.switch_probability, self.probability = switch_probability, probability

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], labels: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch classes"]]:
        if torch.rand(()) >= self.probability:
            return images, one_hot(labels, self.num_classes).to(images.dtype)
        mix = self.cutmix if torch.rand(()) < self.switch_probability else self.mixup
        return mix(images, labels)
