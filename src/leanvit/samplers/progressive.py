"""Progressively balanced sampling (Kang et al., 2020, https://arxiv.org/abs/1910.09217).

- At epoch t of T a draw takes class c with probability (1 - s) n_c / N + s / C, where N images of
  C classes are given and s rises evenly from 0 to 1: the data as they are first, every class alike
  last.
- Within the class every image alike.

Deviations:
- s = t / (T - 1) for t = 0 ... T - 1, not t / T: the last epoch is class-balanced in full. A run of
  one epoch stays at s = 0.
- Images are drawn with replacement in the first epoch too, unlike sampler=shuffle.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from leanvit.samplers.draw import Drawn, Labels, Sampler, draw
from leanvit.values import Count


class Progressive(Sampler):
    """Draws with replacement that move from instance-balanced to class-balanced.

    An epoch has as many draws as there are images, so runs with other samplers cost the same.

    Args:
        labels: class index per training image.
        num_epochs: after so many epochs the last one has been class-balanced; any further epochs
            remain so.
    """

    def __init__(
        self,
        labels: Labels,
        num_epochs: Count,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        super().__init__(len(labels), seed, rank, num_ranks)
        self.labels, self.counts = labels, torch.bincount(labels).double()
        self.num_epochs = num_epochs

    @property
    def class_probabilities(self) -> Float64[Tensor, " classes"]:
        """Of this epoch."""
        steps = self.num_epochs - 1
        progress = min(1.0, self.epoch / steps) if steps else 0.0
        present = self.counts.gt(0).double()
        balanced, as_given = present / present.sum(), self.counts / self.counts.sum()
        return (1 - progress) * as_given + progress * balanced

    def draws(self, generator: torch.Generator) -> Drawn:
        return draw((self.class_probabilities / self.counts)[self.labels], generator)
