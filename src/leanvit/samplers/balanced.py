"""Images drawn with replacement so that every class is expected equally often."""

import torch
from jaxtyping import Int64
from torch import Tensor

from leanvit.samplers.draw import draw
from leanvit.seeds import derive_seed


class Balanced:
    """Each draw takes image i with probability 1 / (number of classes * images of i's class).

    An epoch has as many draws as there are images, so runs with other samplers cost the same.

    Args:
        labels: class index per training image.
        rank, num_ranks: under DDP each rank gets every num_ranks-th index, all the same number.
    """

    def __init__(
        self, labels: Int64[Tensor, " n"], seed: int = 0, rank: int = 0, num_ranks: int = 1
    ) -> None:
        self.weights = 1.0 / torch.bincount(labels).double()[labels]
        self.seed, self.rank, self.num_ranks = seed, rank, num_ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Indices per epoch and rank."""
        return len(self.weights) // self.num_ranks

    def indices(self) -> Int64[Tensor, " m"]:
        """This epoch's indices of this rank, in order."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "sampler", self.epoch))
        order = draw(self.weights, generator)
        return order[self.rank :: self.num_ranks][: len(self)]
