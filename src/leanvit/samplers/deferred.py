"""Deferred re-sampling: one sampler first, another from a later epoch on.

Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
NeurIPS 2019 (https://arxiv.org/abs/1906.07413), where what balances classes waits until the
features have been learnt from the images as they are.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from leanvit.contracts import Order

FURTHER = 1_000_000  # beyond every real epoch


class Deferred:
    """The order of ``first`` before epoch ``start``, that of ``late`` from then on.

    Every epoch has as many indices as ``first`` gives, since a training counts its steps before
    its first epoch: a longer late epoch is cut, a shorter one goes on with draws of its own.

    Args:
        start: epoch, from 0, with which ``late`` begins.
    """

    def __init__(self, first: Order, late: Order, start: int) -> None:
        self.first, self.late, self.start = first, late, start
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.first.set_epoch(epoch)
        self.late.set_epoch(epoch)

    def __len__(self) -> int:
        """Indices per epoch and rank."""
        return len(self.first)

    def indices(self) -> Int64[Tensor, " m"]:
        """This epoch's indices of this rank, in order."""
        if self.epoch < self.start:
            return self.first.indices()
        order, further = self.late.indices(), self.epoch
        while len(order) < len(self):
            further += FURTHER
            self.late.set_epoch(further)
            order = torch.cat([order, self.late.indices()])
        self.late.set_epoch(self.epoch)
        return order[: len(self)]
