"""Repeat-factor sampling (Gupta et al., 2019, LVIS, https://arxiv.org/abs/1908.03195).

- An image of class c comes r_c = max(1, sqrt(t / f_c)) times an epoch, where f_c is the share of
  images that are of class c: floor(r_c) times for certain and once more with the probability that
  is left, drawn anew each epoch. Then all is shuffled.
- No image is left out: an epoch is longer than the data set.

Deviations:
- The threshold is given as a multiple of the even share 1 / number of classes, t = threshold / C.
  The paper's t = 0.001 for 1,230 classes would be 1.2; 0.001 itself repeats nothing with 10.
- The paper draws each image's extra copy by itself, so that the epochs differ in length. Here
  systematic sampling draws them together, in a random order of images: always the sum of all r
  rounded down, for schedules and DDP want a fixed length. The fractional parts shrink by one common
  factor for it, less than one copy in all; every image still comes floor(r) or ceil(r) times.
- An image has one class here, so no maximum over several.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from leanvit.samplers.draw import Drawn, Labels, Sampler
from leanvit.values import Positive


class RepeatFactor(Sampler):
    """Every image at least once an epoch, those of rare classes more often.

    Args:
        labels: class index per training image.
        threshold: classes below this multiple of the even share, 1 / number of classes, are
            repeated.
    """

    def __init__(
        self,
        labels: Labels,
        threshold: Positive = 1.0,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        counts = torch.bincount(labels)
        even = len(labels) / counts.gt(0).sum().double()  # images per class, were they balanced
        self.class_factors = (threshold * even / counts.clamp(min=1)).sqrt().clamp(min=1)
        factors = self.class_factors[labels]
        self.copies = factors.floor().long()
        self.fractions = factors - self.copies
        self.num_extra = int(self.fractions.sum())
        super().__init__(int(self.copies.sum()) + self.num_extra, seed, rank, num_ranks)

    def draws(self, generator: torch.Generator) -> Drawn:
        certain = torch.arange(len(self.copies)).repeat_interleave(self.copies)
        order = torch.cat([certain, self._extra(generator)])
        return order[torch.randperm(len(order), generator=generator)]

    def _extra(self, generator: torch.Generator) -> Int64[Tensor, " extra"]:
        """The images that come once more: the fractional parts lie end to end, and points at equal
        distances, from a random start, pick those they fall on."""
        shuffled = torch.randperm(len(self.fractions), generator=generator)
        ends = self.fractions[shuffled].cumsum(0)
        # at least 1, the sum being rounded down, and no part is so long: no image is hit twice
        spacing = ends[-1] / max(1, self.num_extra)
        start = torch.rand(1, generator=generator, dtype=torch.float64)
        points = (start + torch.arange(self.num_extra)) * spacing
        hit = torch.searchsorted(ends, points, right=True).clamp_(max=len(ends) - 1)
        return shuffled[hit]
