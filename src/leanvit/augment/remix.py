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

from typing import Annotated

from annotated_types import Ge
from jaxtyping import Float, Int64
from torch import Tensor

from leanvit.augment.mixup import MixUp
from leanvit.values import Count, Positive, Share


class Remix(MixUp):
    """Mix each image with its partner, labels in favour of the rarer class, soft (batch, classes).

    Args:
        class_counts: training images per class.
        alpha: of the Beta distribution; larger mixes more evenly.
        kappa: from this ratio of class counts on, the rarer class is favoured; large is mixup.
        tau: a majority image with less than this share of the picture loses its label; 0 is mixup.
        probability: of mixing a batch at all; an unmixed batch has one-hot targets.
    """

    def __init__(
        self,
        num_classes: Count,
        class_counts: Int64[Tensor, " classes"],
        alpha: Positive = 0.8,
        kappa: Annotated[float, Ge(1)] = 3.0,
        tau: Share = 0.5,
        probability: Share = 1.0,
    ) -> None:
        super().__init__(num_classes, alpha, probability)
        self.class_counts, self.kappa, self.tau = class_counts, kappa, tau

    def label_shares(
        self, own: Float[Tensor, " batch"], labels: Int64[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        self.class_counts = self.class_counts.to(labels.device)  # moves in the first batch only
        counts = self.class_counts[labels]
        partner_counts = counts.flip(0)
        loses = (counts >= self.kappa * partner_counts) & (own < self.tau)
        takes_all = (self.kappa * counts <= partner_counts) & (1 - own < self.tau)
        return own.masked_fill(takes_all, 1.0).masked_fill(loses, 0.0)  # the first case goes first
