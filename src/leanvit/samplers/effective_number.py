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

from leanvit.samplers.draw import Drawn, Labels, Sampler, draw
from leanvit.values import ShareBelowOne


class EffectiveNumber(Sampler):
    """Draws with replacement, an image in proportion to 1 / effective number of its class.

    An epoch has as many draws as there are images, so runs with other samplers cost the same.

    Args:
        labels: class index per training image.
        beta: 1 / (1 - beta) is the largest effective number that a class can have, however many
            images it holds. The paper's are 0.9 to 0.9999; sampler=balanced is the limit at 1.
    """

    def __init__(
        self,
        labels: Labels,
        beta: ShareBelowOne = 0.9999,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        super().__init__(len(labels), seed, rank, num_ranks)
        counts = torch.bincount(labels).double()
        # 1 - beta^n; expm1 keeps its digits where beta is close to 1. The clamp: no 0 / 0
        covered = -torch.expm1(counts.clamp(min=1) * torch.tensor(beta, dtype=torch.float64).log())
        class_weights = counts * (1 - beta) / covered
        self.class_probabilities = class_weights / class_weights.sum()
        self.weights = (self.class_probabilities / counts)[labels]

    def draws(self, generator: torch.Generator) -> Drawn:
        return draw(self.weights, generator)
