"""Remix: rebalanced mixup (Chou et al., 2020, https://arxiv.org/abs/2007.03943).

- Images are mixed as by mixup, with lambda ~ Beta(alpha, alpha). Labels have a share of their own,
  in favour of the rarer class: for image i with share lambda and its partner j, of classes with n_i
  and n_j training images, image i's label counts

      0       if n_i / n_j >= kappa and lambda < tau,
      1       if n_i / n_j <= 1 / kappa and 1 - lambda < tau,
      lambda  otherwise.

- So the boundary between two classes moves towards the majority: in a pair whose classes differ by
  kappa or more, the rarer one takes the label already where it shows 1 - tau of itself.
- Where no two classes differ by kappa, this is mix=mixup, draw for draw. The course data, imbalance
  2.2, are such with the paper's kappa of 3.

Deviations:

- lambda is each image's own (the paper draws one per batch), and partners are the batch in reverse
  order, as with mix=mixup.
- ``alpha`` is mix=mixup's, so that only the labels differ.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.augment.mixup import own_shares
from leanvit.errors import LeanvitError


class Remix:
    """Mix each image with its partner, labels in favour of the rarer class, soft (batch, classes).

    Args:
        class_counts: training images per class.
        alpha: of the Beta distribution; larger mixes more evenly.
        kappa: from this ratio of class counts on, the rarer class is favoured.
        tau: a majority image with less than this share of the picture loses its label; 0 is mixup.
        probability: of mixing a batch at all; an unmixed batch has one-hot targets.

    Raises:
        LeanvitError: ``alpha`` is not above 0 and finite, ``kappa`` below 1, ``tau`` or
            ``probability`` not in [0, 1].
    """

    def __init__(
        self,
        num_classes: int,
        class_counts: Int64[Tensor, " classes"],
        alpha: float = 0.8,
        kappa: float = 3.0,
        tau: float = 0.5,
        probability: float = 1.0,
    ) -> None:
        if not kappa >= 1:
            raise LeanvitError(
                f"mix.kappa={kappa} must be at least 1: the paper's is 3, and .inf is mixup"
            )
        if not 0 <= tau <= 1:
            raise LeanvitError(f"mix.tau={tau} must lie between 0, which is mixup, and 1")
        if not 0 < alpha < math.inf:
            raise LeanvitError(f"mix.alpha={alpha} must be above 0 and finite: 0.8 is mix=mixup's")
        if not 0 <= probability <= 1:
            raise LeanvitError(f"mix.probability={probability} must lie between 0 and 1")
        self.num_classes, self.class_counts = num_classes, class_counts
        self.alpha, self.kappa, self.tau, self.probability = alpha, kappa, tau, probability

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], labels: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch classes"]]:
        targets = one_hot(labels, self.num_classes).to(images.dtype)
        if torch.rand(()) >= self.probability:
            return images, targets
        own = own_shares(images, self.alpha)
        mixed = torch.lerp(images.flip(0), images, own[:, None, None, None])
        label_shares = self.label_shares(own, labels)
        return mixed, torch.lerp(targets.flip(0), targets, label_shares[:, None])

    def label_shares(
        self, own: Float[Tensor, " batch"], labels: Int64[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """What an image's label counts beside its partner's, ``own`` being the image's share."""
        self.class_counts = self.class_counts.to(labels.device)  # moves in the first batch only
        counts = self.class_counts[labels]
        partner_counts = counts.flip(0)
        loses = (counts >= self.kappa * partner_counts) & (own < self.tau)
        takes_all = (self.kappa * counts <= partner_counts) & (1 - own < self.tau)
        return own.masked_fill(takes_all, 1.0).masked_fill(loses, 0.0)  # the first case goes first
