"""Batches with as many images again, drawn for a mixing as partners of the ordinary ones."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leanvit.contracts import Order
from leanvit.samplers.draw import draw
from leanvit.seeds import derive_seed


class WithPartners:
    """Each batch of an order, followed by equally many images that are drawn with weights.

    For a loader of twice the batch size: the first half of its every batch, the last and
    incomplete one too, are the ordinary images, the second half their partners. Which images those
    are comes from (seed, epoch) alone, whatever the ordinary ones are.

    Args:
        order: of the ordinary images, on this rank.
        weights: how likely each training image is to be a partner, up to a factor.
        batch_size: of the ordinary images.
        rank, num_ranks: under DDP each rank gets every num_ranks-th partner.
    """

    def __init__(
        self,
        order: Order,
        weights: Float64[Tensor, " n"],
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.order, self.weights, self.batch_size = order, weights, batch_size
        self.seed, self.rank, self.num_ranks = seed, rank, num_ranks
        self.epoch = order.epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        """Indices per epoch and rank, ordinary ones and partners."""
        return 2 * len(self.order)

    def indices(self) -> Int64[Tensor, " m"]:
        """This epoch's indices of this rank, in order."""
        ordinary, partners = self.order.indices(), self.partners()
        pairs = zip(ordinary.split(self.batch_size), partners.split(self.batch_size), strict=True)
        return torch.cat([half for pair in pairs for half in pair])

    def partners(self) -> Int64[Tensor, " half"]:
        """This epoch's partners of this rank, one for each ordinary image."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "foreground", self.epoch))
        number = len(self.order)
        # as many as there are images in one draw, and an order may be longer
        draws = [
            draw(self.weights, generator)
            for _ in range(0, number * self.num_ranks, len(self.weights))
        ]
        return torch.cat(draws)[self.rank :: self.num_ranks][:number]
