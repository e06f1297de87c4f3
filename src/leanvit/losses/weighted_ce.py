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

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot

from leanvit.errors import LeanvitError

NORMALISATIONS = ("mean", "frequency", "sum")


class WeightedCrossEntropy(nn.Module):
    """Rare classes count more.

    Args:
        class_counts: training images per class.
        label_smoothing: share of the target spread evenly over all classes.
        normalisation: ``mean`` divides by the weights of the batch, in which any scale of them
            cancels; ``frequency`` (weights N / N_c) and ``sum`` (weights that sum to 1) divide by
            the batch size.

    Raises:
        LeanvitError: an unknown normalisation, a class without images, or ``label_smoothing``
            outside 0 <= label_smoothing < 1.
    """

    soft_targets = True
    weight: Tensor

    def __init__(
        self,
        class_counts: Int64[Tensor, " classes"],
        label_smoothing: float = 0.0,
        normalisation: str = "mean",
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise LeanvitError(f"loss.label_smoothing={label_smoothing} is no share in [0, 1)")
        if normalisation not in NORMALISATIONS:
            raise LeanvitError(
                f"loss.normalisation={normalisation}: choose from {', '.join(NORMALISATIONS)}"
            )
        if (class_counts == 0).any():
            raise LeanvitError(
                f"class {class_counts.argmin().item()} has no training images, so its weight would "
                "be infinite: add some, or choose loss=ce"
            )
        inverse = class_counts.sum() / class_counts.float()
        scale = {"mean": inverse.mean(), "frequency": torch.tensor(1.0), "sum": inverse.sum()}
        self.register_buffer("weight", inverse / scale[normalisation], persistent=False)
        self.label_smoothing, self.normalisation = label_smoothing, normalisation

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Int64[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        num_classes = logits.shape[1]
        if targets.ndim == 1:
            targets = one_hot(targets, num_classes).to(logits.dtype)
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / num_classes
        log_probabilities = torch.log_softmax(logits, dim=1)
        weighted_sum = -(smooth * self.weight * log_probabilities).sum()
        if self.normalisation == "mean":
            return weighted_sum / (targets * self.weight).sum()
        return weighted_sum / len(logits)
