"""Classes are drawn in proportion to the square roots of their sizes, with replacement."""

import math

import torch
from torch import Tensor

from leanvit.samplers.sqrt import SquareRoot

COUNTS = [900, 100, 0, 25]  # square roots 30, 10, 0, 5: thirds and ninths
LABELS = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))


def epoch(number: int, labels: Tensor = LABELS, **options: int) -> Tensor:
    sampler = SquareRoot(labels, **options)
    sampler.set_epoch(number)
    assert len(sampler) == len(sampler.indices())
    return sampler.indices()


def test_probabilities_in_closed_form() -> None:
    sampler = SquareRoot(LABELS)
    expected = torch.tensor([6 / 9, 2 / 9, 0, 1 / 9], dtype=torch.float64)
    torch.testing.assert_close(sampler.class_probabilities, expected)
    # of an image: 1 / sqrt(n_c), over the sum of sqrt(n_k)
    per_image = torch.tensor(COUNTS, dtype=torch.float64).rsqrt()[LABELS] / 45
    torch.testing.assert_close(sampler.weights, per_image)


def test_classes_and_images_are_drawn_as_often_as_expected() -> None:
    order = torch.cat([epoch(e, seed=1) for e in range(40)])
    n = len(order)
    assert n == 40 * 1025 and order.min() >= 0 and order.max() < 1025
    per_class = torch.bincount(LABELS[order], minlength=4)
    for k, p in enumerate([6 / 9, 2 / 9, 0, 1 / 9]):
        assert abs(per_class[k] - n * p) <= 4 * math.sqrt(n * p * (1 - p))
    # within a class every image alike: chi-square, bound 5 standard deviations
    per_image = torch.bincount(order, minlength=1025).double()
    for k in (0, 1, 3):
        expected = per_class[k] / COUNTS[k]
        chi_square = ((per_image[LABELS.eq(k)] - expected) ** 2 / expected).sum()
        assert abs(chi_square - (COUNTS[k] - 1)) < 5 * math.sqrt(2 * (COUNTS[k] - 1))


def test_same_seed_and_epoch_same_order_and_else_another() -> None:
    assert torch.equal(epoch(1, seed=5), epoch(1, seed=5))
    assert len({tuple(epoch(e, seed=s).tolist()) for e in range(3) for s in range(3)}) == 9


def test_order_of_labels_does_not_matter() -> None:
    shuffled = LABELS[torch.randperm(1025, generator=torch.Generator().manual_seed(0))]
    order = torch.cat([epoch(e, shuffled) for e in range(40)])
    share = shuffled[order].eq(3).double().mean()
    assert abs(share - 1 / 9) < 4 * math.sqrt(8 / 81 / len(order))


def test_ranks_interleave_to_the_whole_epoch() -> None:
    whole = epoch(2, seed=1)
    parts = [epoch(2, seed=1, rank=rank, num_ranks=2) for rank in range(2)]
    assert all(len(part) == 512 for part in parts)
    assert torch.equal(torch.stack(parts, dim=1).flatten(), whole[:1024])


def test_a_million_images_of_many_classes() -> None:
    labels = torch.arange(1_000_000).sqrt().long()  # 1,000 classes of 1 to 1,999 images
    order = epoch(0, labels)
    assert len(order) == 1_000_000
    share = labels[order].eq(999).double().mean()
    expected = math.sqrt(1999) / sum(math.sqrt(2 * k + 1) for k in range(1000))
    assert abs(share - expected) < 4 * math.sqrt(expected / 1e6)
