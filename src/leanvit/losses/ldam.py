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
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot

from leanvit.errors import LeanvitError
from leanvit.losses.class_balanced import class_weights


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
        LeanvitError: ``max_margin`` is negative, ``scale`` not above 0, a class has no images, or
            ``beta`` or ``label_smoothing`` is not in [0, 1).
    """

    soft_targets = True
    margins: Tensor
    weight: Tensor

    def __init__(
        self,
        class_counts: Int64[Tensor, " classes"],
        max_margin: float = 0.5,
        scale: float = 1.0,
        label_smoothing: float = 0.0,
        beta: float = 0.0,
    ) -> None:
        super().__init__()
        if max_margin < 0:
            raise LeanvitError(f"loss.max_margin={max_margin} is negative: 0 is no margin")
        if scale <= 0:
            raise LeanvitError(
                f"loss.scale={scale} must be above 0: 1 leaves the logits as they are"
            )
        if not 0 <= beta < 1:
            raise LeanvitError(
                f"loss.beta={beta} must be at least 0 and below 1: the paper's is 0.9999"
            )
        if not 0 <= label_smoothing < 1:
            raise LeanvitError(f"loss.label_smoothing={label_smoothing} is no share in [0, 1)")
        if (class_counts == 0).any():
            raise LeanvitError(
                f"class {class_counts.argmin().item()} has no training images, so its margin would "
                "be infinite: add some, or choose loss=ce"
            )
        margins = (class_counts / class_counts.min()) ** -0.25
        self.register_buffer("margins", max_margin * margins, persistent=False)
        self.register_buffer("weight", class_weights(class_counts, beta), persistent=False)
        self.scale, self.label_smoothing = scale, label_smoothing

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Int64[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        if targets.ndim == 1:
            targets = one_hot(targets, logits.shape[1]).to(logits.dtype)
        weighted = targets * self.weight
        spread = weighted.sum(1, keepdim=True) / logits.shape[1]
        smooth = weighted * (1 - self.label_smoothing) + spread * self.label_smoothing
        log_p = torch.log_softmax(self.scale * (logits - targets * self.margins), dim=1)
        return -(smooth * log_p).sum(1).mean()
