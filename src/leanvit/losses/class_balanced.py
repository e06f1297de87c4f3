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
from jaxtyping import Float32
from torch import Tensor, nn

from leanvit.losses.focal import hardness
from leanvit.losses.soft_targets import (
    Counts,
    Logits,
    Scalar,
    Shares,
    Targets,
    needs_every_class,
    shares,
    smooth,
)
from leanvit.values import NonNegative, ShareBelowOne


class ClassBalanced(nn.Module):
    """Images count by the inverse effective number of images of their class.

    Args:
        class_counts: training images per class.
        beta: share of a class's range that an image leaves uncovered; 1 / (1 - beta) is the
            largest effective number that a class can reach.
        gamma: focusing strength of the focal form; 0 is cross-entropy.
        label_smoothing: share of the target spread evenly over all classes.

    Raises:
        LeanvitError: a class has no images.
    """

    soft_targets = True
    weight: Tensor

    def __init__(
        self,
        class_counts: Counts,
        beta: ShareBelowOne = 0.9999,
        gamma: NonNegative = 0.0,
        label_smoothing: ShareBelowOne = 0.0,
    ) -> None:
        super().__init__()
        needs_every_class(class_counts)
        self.register_buffer("weight", class_weights(class_counts, beta), persistent=False)
        self.gamma, self.label_smoothing = gamma, label_smoothing

    def forward(self, logits: Logits, targets: Targets) -> Scalar:
        weighted = shares(targets, logits) * self.weight
        smoothed = smooth_within(weighted, self.label_smoothing)
        log_p = torch.log_softmax(logits, dim=1)
        return -(smoothed * hardness(log_p, self.gamma) * log_p).sum(1).mean()


def class_weights(class_counts: Counts, beta: float) -> Float32[Tensor, " classes"]:
    """1 / (1 - beta^n_c), scaled to a mean of 1 over the classes."""
    log_beta = math.log(beta) if beta else -math.inf
    # expm1 keeps its digits where beta is close to 1
    inverse = -1 / torch.expm1(class_counts.float() * log_beta)
    return inverse / inverse.mean()


def smooth_within(weighted: Shares, label_smoothing: float) -> Shares:
    """Label smoothing that leaves an image its weight."""
    return smooth(weighted, label_smoothing, weighted.sum(1, keepdim=True) / weighted.shape[1])
