"""Class-balanced loss.

Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019
(https://arxiv.org/abs/1901.05555).

- n_c images of a class, which overlap in what they show, are worth (1 - beta^n_c) / (1 - beta)
  different ones; an image's loss weighs the inverse of that for its class.
- The weights have mean 1 over the classes, and the weighted sum is divided by the batch size.
- beta 0 is cross-entropy; towards 1 the weights become inverse frequencies. Unlike in
  loss=weighted_ce, no batch is divided by its own weights.
- ``gamma`` puts the weights on the focal loss instead: the paper's second form.
- Soft targets: the loss is linear in them, as if a label were drawn from them:
  sum_c t_c w_c loss(c).

Deviations:

- Softmax throughout; the paper's focal form is a sigmoid per class.
- Label smoothing, which the paper has not: the weight is that of the image's class and stands
  before its whole smoothed loss, so that the smoothing is as even as in loss=ce.
"""

import math

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot

from leanvit.errors import LeanvitError


class ClassBalanced(nn.Module):
    """Images count by the inverse effective number of images of their class.

    Args:
        class_counts: training images per class.
        beta: share of a class's range that an image leaves uncovered; 1 / (1 - beta) is the
            largest effective number that a class can reach.
        gamma: focusing strength of the focal form; 0 is cross-entropy.
        label_smoothing: share of the target spread evenly over all classes.

    Raises:
        LeanvitError: ``beta`` or ``label_smoothing`` is not in [0, 1), ``gamma`` is negative, or a
            class has no images.
    """

    soft_targets = True
    weight: Tensor

    def __init__(
        self,
        class_counts: Int64[Tensor, " classes"],
        beta: float = 0.9999,
        gamma: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= beta < 1:
            raise LeanvitError(
                f"loss.beta={beta} must be at least 0 and below 1: the paper's are 0.9 to 0.9999"
            )
        if gamma < 0:
            raise LeanvitError(f"loss.gamma={gamma} is negative: 0 is cross-entropy")
        if not 0 <= label_smoothing < 1:
            raise LeanvitError(f"loss.label_smoothing={label_smoothing} is no share in [0, 1)")
        if (class_counts == 0).any():
            raise LeanvitError(
                f"class {class_counts.argmin().item()} has no training images, so its weight would "
                "be infinite: add some, or choose loss=ce"
            )
        self.register_buffer("weight", class_weights(class_counts, beta), persistent=False)
        self.gamma, self.label_smoothing = gamma, label_smoothing

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Int64[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        num_classes = logits.shape[1]
        if targets.ndim == 1:
            targets = one_hot(targets, num_classes).to(logits.dtype)
        weighted = targets * self.weight
        spread = weighted.sum(1, keepdim=True) / num_classes
        smooth = weighted * (1 - self.label_smoothing) + spread * self.label_smoothing
        log_p = torch.log_softmax(logits, dim=1)
        # clamped: at p = 1 the gradient of (1 - p)^gamma with gamma < 1 is infinite
        hardness = (1 - log_p.exp()).clamp(min=1e-8) ** self.gamma
        return -(smooth * hardness * log_p).sum(1).mean()


def class_weights(
    class_counts: Int64[Tensor, " classes"], beta: float
) -> Float32[Tensor, " classes"]:
    """1 / (1 - beta^n_c), scaled to a mean of 1 over the classes."""
    log_beta = math.log(beta) if beta else -math.inf
    # expm1 keeps its digits where beta is close to 1
    inverse = -1 / torch.expm1(class_counts.float() * log_beta)
    return inverse / inverse.mean()
