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


def test_same_seed_and_epoch_same_order_and_else_another() -> None:
    assert torch.equal(epoch(1, seed=5), epoch(1, seed=5))
    orders = {tuple(epoch(e, seed=s).tolist()) for e in range(5) for s in range(5)}
    assert len(orders) == 25


def test_every_image_comes_first_now_and_then() -> None:
    first = torch.bincount(torch.stack([epoch(e)[0] for e in range(2300)]), minlength=23)
    assert ((first - 100) ** 2 / 100).sum() < 60  # chi-square, 22 degrees: p < 0.0001


def test_ranks_are_disjoint_and_equally_long() -> None:
    for num_ranks in (2, 3, 4):
        parts = [epoch(3, seed=1, rank=r, num_ranks=num_ranks).tolist() for r in range(num_ranks)]
        assert {len(part) for part in parts} == {23 // num_ranks}
        assert len({i for part in parts for i in part}) == num_ranks * (23 // num_ranks)
