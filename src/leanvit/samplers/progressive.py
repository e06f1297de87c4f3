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
from jaxtyping import Float64, Int64
from torch import Tensor

from leanvit.errors import LeanvitError
from leanvit.samplers.draw import draw
from leanvit.seeds import derive_seed


class Progressive:
    """Draws with replacement that move from instance-balanced to class-balanced.

    An epoch has as many draws as there are images, so runs with other samplers cost the same.

    Args:
        labels: class index per training image.
        num_epochs: after so many epochs the last one has been class-balanced; any further epochs
            remain so.
        rank, num_ranks: under DDP each rank gets every num_ranks-th index, all the same number.

    Raises:
        LeanvitError: ``num_epochs`` is below 1.
    """

    def __init__(
        self,
        labels: Int64[Tensor, " n"],
        num_epochs: int,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        if num_epochs < 1:
            raise LeanvitError(
                f"sampler.num_epochs={num_epochs} must be at least 1: leave it out to follow "
                "max_epochs"
            )
        self.labels, self.counts = labels, torch.bincount(labels).double()
        self.num_epochs = num_epochs
        self.seed, self.rank, self.num_ranks = seed, rank, num_ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Indices per epoch and rank."""
        return len(self.labels) // self.num_ranks

    @property
    def class_probabilities(self) -> Float64[Tensor, " classes"]:
        """Of this epoch."""
        steps = self.num_epochs - 1
        progress = min(1.0, self.epoch / steps) if steps else 0.0
        present = self.counts.gt(0).double()
        balanced, as_given = present / present.sum(), self.counts / self.counts.sum()
        return (1 - progress) * as_given + progress * balanced

    def indices(self) -> Int64[Tensor, " m"]:
        """This epoch's indices of this rank, in order."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "sampler", self.epoch))
        order = draw((self.class_probabilities / self.counts)[self.labels], generator)
        return order[self.rank :: self.num_ranks][: len(self)]
