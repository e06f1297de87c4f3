"""Class-aware sampling (Shen et al., 2016, https://arxiv.org/abs/1512.05830).

- A list of the classes and a list of images per class, all shuffled. A draw takes the next class
  and of that class the next image; a list that is exhausted is shuffled again.
- So every class comes once per round of as many draws as there are classes, and no image comes
  again before all others of its class have come; sampler=balanced has this in expectation only.

Deviations:
- Every epoch begins anew with freshly shuffled lists, drawn from (seed, epoch), so that a resumed
  run needs no state. Of a class with more images than an epoch has rounds, each epoch shows another
  random part.
"""

import torch

from leanvit.samplers.draw import Drawn, Labels, Sampler


class ClassAware(Sampler):
    """Classes in random permutations round by round, the images of each in permutations too.

    An epoch has as many draws as there are images, so runs with other samplers cost the same; the
    last round may be cut short.

    Args:
        labels: class index per training image.
    """

    def __init__(self, labels: Labels, seed: int = 0, rank: int = 0, num_ranks: int = 1) -> None:
        super().__init__(len(labels), seed, rank, num_ranks)
        counts = torch.bincount(labels).tolist()
        by_class = labels.argsort(stable=True).split(counts)
        self.members = [images for images in by_class if len(images)]

    def draws(self, generator: torch.Generator) -> Drawn:
        num_classes = len(self.members)
        num_rounds = -(-self.num_draws // num_classes)
        classes = _permutations(num_rounds, num_classes, generator)[: self.num_draws]
        turns = classes.argsort(stable=True).split(torch.bincount(classes).tolist())
        order = torch.empty_like(classes)
        for members, places in zip(self.members, turns, strict=True):
            passes = -(-len(places) // len(members))
            chosen = _permutations(passes, len(members), generator)[: len(places)]
            order[places] = members[chosen]
        return order


def _permutations(number: int, length: int, generator: torch.Generator) -> Drawn:
    """So many random permutations of 0 ... length - 1, one after the other."""
    keys = torch.rand(number, length, generator=generator, dtype=torch.float64)
    return keys.argsort(dim=1).flatten()
