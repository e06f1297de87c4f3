"""DeiT-LT: a ViT learns a long tail from its labels and from what a convolutional net makes of it.

Source: Rangwani et al., "DeiT-LT: Distillation Strikes Back for Vision Transformer Training on
Long-Tailed Datasets", CVPR 2024 (https://arxiv.org/abs/2404.02900).

- [CLS] learns the labels, with whatever ``loss=`` is chosen; the paper's is cross-entropy. A
  distillation token beside it, with a head of its own, learns the class that the teacher says. Each
  has half of the loss, and evaluation averages both: :mod:`leanvit.lightweight.distill`,
  ``kind=token``.
- Deferred re-weighting: from ``late.start`` of the epochs on, an image counts in the distillation
  token's loss by the inverse effective number of images of the class that the teacher says.
  [CLS] goes on as before and keeps the frequent classes, the other token takes the rare ones.
- Out-of-distribution images: the teacher was trained on weakly augmented ones and is asked about
  the strongly augmented and mixed ones that the ViT sees.
- The teacher was trained on the same long tail with a remedy, by SAM (``sam=``).
- ``beta`` 0, equally frequent classes, or ``late.start=1`` are DeiT's distillation.

It costs what ``kind=token`` does: a token more, and in training a forward pass of the teacher.

Deviations:

- The weights have a mean of 1 over the classes, as those of LDAM-DRW (class_balanced's): the
  paper's, 1 / effective number, would take most of its share from the distillation token.
- Both heads are averaged as in ``kind=token``.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leanvit.lightweight.distill import Distill, check_has_cls
from leanvit.losses.class_balanced import class_weights
from leanvit.losses.soft_targets import Counts
from leanvit.values import Share, ShareBelowOne


class DeiTLT(Distill):
    """A ViT with a distillation token, whose loss is re-weighted late.

    Args:
        net: a ViT that reads [CLS].
        teacher: normalised images -> logits; ``None``: the net is only used, not trained.
        class_counts: training images per class; ``None``: the net's state brings the weights.
        weight: of the distillation token's loss; that of [CLS] has one less that.
        beta: of the effective number, see :class:`leanvit.losses.class_balanced.ClassBalanced`.

    Attributes:
        is_late: the weights hold; set by training.

    Raises:
        LeanvitError: a net without [CLS].
    """

    is_late = False
    class_weight: Tensor

    def __init__(
        self,
        net: nn.Module,
        teacher: nn.Module | None = None,
        class_counts: Counts | None = None,
        weight: Share = 0.5,
        beta: ShareBelowOne = 0.9999,
    ) -> None:
        check_has_cls(net, "lightweight=deit_lt")
        super().__init__(net, teacher, kind="token", weight=weight)
        if class_counts is None:
            class_counts = torch.ones(self.head.out_features, dtype=torch.int64)
        # kept with the net, which may be pruned and trained further; no teacher says a class that
        # has no images
        self.register_buffer("class_weight", class_weights(class_counts.clamp_min(1), beta))

    def loss_terms(
        self,
        images: Float[Tensor, "batch channels height width"],
        targets: Tensor,
        criterion: nn.Module,
    ) -> dict[str, Float[Tensor, ""]]:
        own, taught = self._both(images)
        said = self.asked(images).argmax(dim=1)
        losses = cross_entropy(taught.float(), said, reduction="none")
        if self.is_late:
            losses = losses * self.class_weight[said]
        return {
            "classification": (1 - self.weight) * criterion(own.float(), targets),
            "distillation": self.weight * losses.mean(),
        }
