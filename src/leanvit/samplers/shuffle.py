"""Every image once an epoch, in an order drawn from (seed, epoch)."""

import torch

from leanvit.samplers.draw import Drawn, Labels, Sampler


class Shuffle(Sampler):
    """A fresh permutation each epoch.

    Args:
        labels: class index per training image.
    """

    def __init__(self, labels: Labels, seed: int = 0, rank: int = 0, num_ranks: int = 1) -> None:
        super().__init__(len(labels), seed, rank, num_ranks)

    def draws(self, generator: torch.Generator) -> Drawn:
        return torch.randperm(self.num_draws, generator=generator)
