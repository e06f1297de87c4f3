"""Images drawn with replacement so that every class is expected equally often."""

import torch

from leanvit.samplers.draw import Drawn, Labels, Sampler, draw


class Balanced(Sampler):
    """Each draw takes image i with probability 1 / (number of classes * images of i's class).

    An epoch has as many draws as there are images, so runs with other samplers cost the same.

    Args:
        labels: class index per training image.
    """

    def __init__(self, labels: Labels, seed: int = 0, rank: int = 0, num_ranks: int = 1) -> None:
        super().__init__(len(labels), seed, rank, num_ranks)
        self.weights = 1.0 / torch.bincount(labels).double()[labels]

    def draws(self, generator: torch.Generator) -> Drawn:
        return draw(self.weights, generator)
