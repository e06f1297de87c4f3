"""Every class is drawn equally often, with replacement."""

import math

import torch
from torch import Tensor

from leanvit.samplers.balanced import Balanced
from leanvit.seeds import derive_seed

COUNTS = [900, 90, 9, 1]
LABELS = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))


def epoch(number: int, labels: Tensor = LABELS, **options: int) -> Tensor:
    sampler = Balanced(labels, **options)
    sampler.set_epoch(number)
    assert len(sampler) == len(sampler.indices())
    return sampler.indices()


def test_classes_and_images_are_drawn_as_often_as_expected() -> None:
    order = torch.cat([epoch(e, seed=1) for e in range(40)])
    n = len(order)
    assert n == 40_000 and order.min() >= 0 and order.max() < 1000
    per_class = torch.bincount(LABELS[order], minlength=4)
    spread = math.sqrt(n * 0.25 * 0.75)  # of a binomial with p = 1/4
    assert (per_class - n / 4).abs().max() < 4 * spread
    # within a class every image alike: chi-square against n / (4 N_c), bound 5 standard deviations
    per_image = torch.bincount(order, minlength=1000).double()
    for k, count in enumerate(COUNTS[:-1]):
        expected = per_class[k] / count
        chi_square = ((per_image[LABELS.eq(k)] - expected) ** 2 / expected).sum()
        assert abs(chi_square - (count - 1)) < 5 * math.sqrt(2 * (count - 1))


def test_against_a_literal_roulette_wheel() -> None:
    generator = torch.Generator().manual_seed(derive_seed(3, "sampler", 2))
    draws = torch.rand(1000, generator=generator, dtype=torch.float64).tolist()
    order = []
    for draw in draws:
        i, end = 0, 1 / (4 * COUNTS[LABELS[0]])
        while draw >= end:
            i += 1
            end += 1 / (4 * COUNTS[LABELS[i]])
        order.append(i)
    assert epoch(2, seed=3).tolist() == order


def test_classes_without_images_do_not_disturb() -> None:
    labels = torch.tensor([1, 1, 1, 4])
    order = torch.cat([epoch(e, labels) for e in range(500)])
    assert abs((order == 3).double().mean() - 0.5) < 4 * 0.5 / math.sqrt(2000)


def test_same_seed_and_epoch_same_order_and_else_another() -> None:
    assert torch.equal(epoch(1, seed=5), epoch(1, seed=5))
    assert len({tuple(epoch(e, seed=s).tolist()) for e in range(3) for s in range(3)}) == 9


def test_ranks_interleave_to_the_whole_epoch() -> None:
    whole = epoch(2, seed=1)
    parts = [epoch(2, seed=1, rank=rank, num_ranks=3) for rank in range(3)]
    assert all(len(part) == 333 for part in parts)
    assert torch.equal(torch.stack(parts, dim=1).flatten(), whole[:999])
