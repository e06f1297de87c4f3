"""Sampling by the effective number of images (Cui et al., 2019, https://arxiv.org/abs/1901.05555).

- n_c images of a class, which overlap in what they show, are worth
  E_c = 1 + beta + ... + beta^(n_c - 1) = (1 - beta^n_c) / (1 - beta) different ones.
- An image's weight is the paper's class-balanced weight 1 / E_c; so a draw takes class c with
  probability (n_c / E_c) / sum_k (n_k / E_k), and within the class every image alike.
- beta 0: E_c = 1, the data as they are; beta towards 1: E_c = n_c, every class alike.

Deviations:
- The paper weighs the loss by 1 / E_c. Here the draws follow the weights instead: the expected
  loss is the same up to a constant, and no step is larger than another.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from leanvit.errors import LeanvitError
from leanvit.samplers.draw import draw
from leanvit.seeds import derive_seed


class EffectiveNumber:
    """Draws with replacement, an image in proportion to 1 / effective number of its class.

    An epoch has as many draws as there are images, so runs with other samplers cost the same.

    Args:
        labels: class index per training image.
        beta: 1 / (1 - beta) is the largest effective number that a class can have, however many
            images it holds.
        rank, num_ranks: under DDP each rank gets every num_ranks-th index, all the same number.

    Raises:
        LeanvitError: ``beta`` is not in 0 <= beta < 1.
    """

    def __init__(
        self,
        labels: Int64[Tensor, " n"],
        beta: float = 0.9999,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        if not 0 <= beta < 1:
            raise LeanvitError(
                f"sampler.beta={beta} must be at least 0 and below 1: the paper's are 0.9 to "
                "0.9999, and sampler=balanced is the limit at 1"
            )
        counts = torch.bincount(labels).double()
        # 1 - beta^n; expm1 keeps its digits where beta is close to 1. The clamp: no 0 / 0
        covered = -torch.expm1(counts.clamp(min=1) * torch.tensor(beta, dtype=torch.float64).log())
        class_weights = counts * (1 - beta) / covered
        self.class_probabilities = class_weights / class_weights.sum()
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
