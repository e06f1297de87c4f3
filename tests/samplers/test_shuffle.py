"""A fresh permutation each epoch, shared out among the ranks."""

import torch
from torch import Tensor

from leanvit.samplers.shuffle import Shuffle

LABELS = torch.arange(23) % 3


def epoch(number: int, **options: int) -> Tensor:
    sampler = Shuffle(LABELS, **options)
    sampler.set_epoch(number)
    assert len(sampler) == len(sampler.indices())
    return sampler.indices()


def test_every_image_once() -> None:
    for number in range(3):
        assert epoch(number).sort().values.tolist() == list(range(23))


def test_every_image_comes_first_now_and_then() -> None:
    first = torch.bincount(torch.stack([epoch(e)[0] for e in range(2300)]), minlength=23)
    assert ((first - 100) ** 2 / 100).sum() < 60  # chi-square, 22 degrees: p < 0.0001
