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

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leanvit.errors import LeanvitError


class OHEM(nn.Module):
    """Mean cross-entropy of the hardest images of the batch.

    Args:
        class_counts: training images per class; not used, every loss is built alike.
        ratio: share of the batch that counts, rounded to whole images, at least one.
        label_smoothing: share of the target spread evenly over all classes.

    Raises:
        LeanvitError: ``ratio`` is not in (0, 1], or ``label_smoothing`` not in [0, 1).
    """

    soft_targets = True

    def __init__(
        self,
        class_counts: Int64[Tensor, " classes"],
        ratio: float = 0.7,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 < ratio <= 1:
            raise LeanvitError(
                f"loss.ratio={ratio} must be above 0, at most 1: the share of images that count"
            )
        if not 0 <= label_smoothing < 1:
            raise LeanvitError(f"loss.label_smoothing={label_smoothing} is no share in [0, 1)")
        self.ratio, self.label_smoothing = ratio, label_smoothing

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Int64[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        each = cross_entropy(
            logits, targets, reduction="none", label_smoothing=self.label_smoothing
        )
        return each.topk(max(1, round(self.ratio * len(each)))).values.mean()
