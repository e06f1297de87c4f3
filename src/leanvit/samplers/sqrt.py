"""Square-root sampling (Mahajan et al., 2018, https://arxiv.org/abs/1805.00932; named so by Kang
et al., 2020, https://arxiv.org/abs/1910.09217).

- A draw takes class c with probability sqrt(n_c) / sum_k sqrt(n_k), n_c its images: half-way
  between the data as they are (exponent 1) and every class alike (exponent 0). An imbalance of 100
  becomes one of 10.
- Within the class every image alike, so an image's weight is 1 / sqrt(n_c).
"""

import torch

from leanvit.samplers.draw import Drawn, Labels, Sampler, draw


class SquareRoot(Sampler):
    """Draws with replacement, classes in proportion to the square roots of their sizes.

    An epoch has as many draws as there are images, so runs with other samplers cost the same.

    Args:
        labels: class index per training image.
    """

    def __init__(self, labels: Labels, seed: int = 0, rank: int = 0, num_ranks: int = 1) -> None:
        super().__init__(len(labels), seed, rank, num_ranks)
        counts = torch.bincount(labels).double()
        self.class_probabilities = counts.sqrt() / counts.sqrt().sum()
        self.weights = (self.class_probabilities / counts)[labels]

    def draws(self, generator: torch.Generator) -> Drawn:
        return draw(self.weights, generator)
