"""What the samplers share: an epoch's draws from (seed, epoch), shared out among the ranks."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leanvit.seeds import derive_seed

Labels = Int64[Tensor, " n"]
Drawn = Int64[Tensor, " m"]


class Sampler:
    """An order of images (:class:`leanvit.contracts.Order`) that lacks only its ``draws``.

    Args:
        num_draws: of an epoch, all ranks together.
        rank, num_ranks: under DDP each rank gets every num_ranks-th index, all the same number.
    """

    epoch = 0

    def __init__(self, num_draws: int, seed: int, rank: int, num_ranks: int) -> None:
        self.num_draws, self.seed = num_draws, seed
        self.rank, self.num_ranks = rank, num_ranks

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Indices per epoch and rank."""
        return self.num_draws // self.num_ranks

    def indices(self) -> Drawn:
        """This epoch's indices of this rank, in order."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "sampler", self.epoch))
        return self.draws(generator)[self.rank :: self.num_ranks][: len(self)]

    def draws(self, generator: torch.Generator) -> Drawn:
        """This epoch's indices of all ranks, ``num_draws`` of them."""
        raise NotImplementedError


def draw(weights: Float64[Tensor, " n"], generator: torch.Generator) -> Int64[Tensor, " n"]:
    """As many draws as there are images, each takes image i with probability w_i / sum of w."""
    # the inverse distribution function: torch.multinomial stops at 2^24 images
    steps = weights.cumsum(0)
    draws = torch.rand(len(weights), generator=generator, dtype=torch.float64) * steps[-1]
    return torch.searchsorted(steps, draws, right=True).clamp_(max=len(steps) - 1)
