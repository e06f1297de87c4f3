"""Square-root sampling (Mahajan et al., 2018, https://arxiv.org/abs/1805.00932; named so by Kang
et al., 2020, https://arxiv.org/abs/1910.09217).

- A draw takes class c with probability sqrt(n_c) / sum_k sqrt(n_k), n_c its images: half-way
  between the data as they are (exponent 1) and every class alike (exponent 0). An imbalance of 100
  becomes one of 10.
- Within the class every image alike, so an image's weight is 1 / sqrt(n_c).
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from leanvit.samplers.draw import draw
from leanvit.seeds import derive_seed


class SquareRoot:
    """Draws with replacement, classes in proportion to the square roots of their sizes.

    An epoch has as many draws as there are images, so runs with other samplers cost the same.

    Args:
        labels: class index per training image.
        rank, num_ranks: under DDP each rank gets every num_ranks-th index, all the same number.
    """

    def __init__(
        self, labels: Int64[Tensor, " n"], seed: int = 0, rank: int = 0, num_ranks: int = 1
    ) -> None:
        counts = torch.bincount(labels).double()
        self.class_probabilities = counts.sqrt() / counts.sqrt().sum()
        self.weights = (self.class_probabilities / counts)[labels]
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
