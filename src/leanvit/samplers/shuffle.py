"""Every image once an epoch, in an order drawn from (seed, epoch)."""

import torch
from jaxtyping import Int64
from torch import Tensor

from leanvit.seeds import derive_seed


class Shuffle:
    """A fresh permutation each epoch.

    Args:
        labels: class index per training image.
        rank, num_ranks: under DDP each rank gets every num_ranks-th index, all the same number.
    """

    def __init__(
        self, labels: Int64[Tensor, " n"], seed: int = 0, rank: int = 0, num_ranks: int = 1
    ) -> None:
        self.num_images, self.seed = len(labels), seed
        self.rank, self.num_ranks = rank, num_ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Indices per epoch and rank."""
        return self.num_images // self.num_ranks

    def indices(self) -> Int64[Tensor, " m"]:
        """This epoch's indices of this rank, in order."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "sampler", self.epoch))
        order = torch.randperm(self.num_images, generator=generator)
        return order[self.rank :: self.num_ranks][: len(self)]
