"""A loss that moves into another one, a little each epoch: cumulative learning.

Source: Zhou et al., "BBN: Bilateral-Branch Network with Cumulative Learning for Long-Tailed Visual
Recognition", CVPR 2020 (https://arxiv.org/abs/1912.02413), whose alpha this is; of two losses of
one head as in Du et al., GLMC, CVPR 2023 (https://arxiv.org/abs/2305.08661).

- In epoch t, from 0, of T it is alpha times the first loss and 1 - alpha times the second, with
  alpha = 1 - (t / T)^2: features are learnt from the images as they are, classes balanced later.
"""

import torch
from torch import Tensor, nn

from leanvit.losses.soft_targets import Logits, Scalar, Targets


class Cumulative(nn.Module):
    """``alpha first(logits, targets) + (1 - alpha) late(logits, targets)``; alpha begins at 1."""

    alpha: Tensor  # a compiled step need not be compiled again for another value

    def __init__(self, first: nn.Module, late: nn.Module) -> None:
        super().__init__()
        self.first, self.late = first, late
        self.register_buffer("alpha", torch.ones(()), persistent=False)

    def set_epoch(self, epoch: int, num_epochs: int) -> None:
        """``epoch`` of ``num_epochs`` begins; where these are not known yet, the first one does."""
        self.alpha.fill_(1 - (epoch / max(1, num_epochs)) ** 2)

    def forward(self, logits: Logits, targets: Targets) -> Scalar:
        first, late = self.first(logits, targets), self.late(logits, targets)
        return self.alpha * first + (1 - self.alpha) * late
