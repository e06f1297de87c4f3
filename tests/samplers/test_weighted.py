"""Samplers that draw images with replacement, by weights of their classes."""

import math

import pytest
import torch
from torch import Tensor

from leanvit.samplers.balanced import Balanced
from leanvit.samplers.draw import Sampler
from leanvit.samplers.effective_number import EffectiveNumber
from leanvit.samplers.progressive import Progressive
from leanvit.samplers.sqrt import SquareRoot
from leanvit.seeds import derive_seed

COUNTS = [900, 100, 0, 25]  # square roots 30, 10, 0, 5: thirds and ninths
LABELS = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))


def geometric_series(beta: float) -> list[float]:
    """Class probabilities from the sum 1 + beta + ... + beta^(n - 1), term by term."""
    weights = [n / sum(beta**i for i in range(n)) if n else 0.0 for n in COUNTS]
    return [weight / sum(weights) for weight in weights]


def progressive(epoch: int, num_epochs: int = 5) -> list[float]:
    """Class probabilities on the way from the data as they are to every class alike."""
    share = epoch / (num_epochs - 1) if num_epochs > 1 else 0.0
    share = min(share, 1.0)
    return [(1 - share) * n / 1025 + share * (n > 0) / 3 for n in COUNTS]


SQUARE_ROOTS = [6 / 9, 2 / 9, 0, 1 / 9]
EXPECTED: list[tuple[type[Sampler], dict, int, list[float]]] = [
    (Balanced, {}, 0, [1 / 3, 1 / 3, 0, 1 / 3]),
    *((EffectiveNumber, {"beta": beta}, 0, geometric_series(beta))
      for beta in (0.0, 0.5, 0.9, 0.99, 0.9999, 1 - 1e-9)),
    *((Progressive, {"num_epochs": 5}, epoch, progressive(epoch)) for epoch in (0, 1, 2, 4, 50)),
    (Progressive, {"num_epochs": 1}, 0, progressive(0)),
    (Progressive, {"num_epochs": 2}, 1, progressive(4)),
    (SquareRoot, {}, 0, SQUARE_ROOTS),
]  # fmt: skip


@pytest.mark.parametrize(("taker", "options", "epoch", "expected"), EXPECTED)
def test_classes_are_as_likely_as_the_formula_has_it(
    taker: type[Sampler], options: dict, epoch: int, expected: list[float]
) -> None:
    sampler = taker(LABELS, **options)
    sampler.set_epoch(epoch)
    wanted = torch.tensor(expected, dtype=torch.float64)
    if taker is not Balanced:  # whose weights have no sum of 1
        torch.testing.assert_close(sampler.class_probabilities, wanted, atol=1e-12, rtol=0)
    if taker is not Progressive:
        weights = sampler.weights / sampler.weights.sum()
        per_class = torch.zeros(4, dtype=torch.float64).index_add(0, LABELS, weights)
        torch.testing.assert_close(per_class, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("taker", "options", "epoch", "expected"),
    [each for each in EXPECTED if each[1].get("beta", 0.99) == 0.99],
)
def test_classes_and_images_are_drawn_as_often_as_expected(
    taker: type[Sampler], options: dict, epoch: int, expected: list[float]
) -> None:
    orders = []
    for seed in range(40):
        sampler = taker(LABELS, seed=seed, **options)
        sampler.set_epoch(epoch)
        orders.append(sampler.indices())
    order = torch.cat(orders)
    n = len(order)
    assert n == 40 * 1025 and order.min() >= 0 and order.max() < 1025
    per_class = torch.bincount(LABELS[order], minlength=4)
    for k, p in enumerate(expected):
        assert abs(per_class[k] - n * p) <= 4 * math.sqrt(n * p * (1 - p))
    # within a class every image alike: chi-square, bound 5 standard deviations
    per_image = torch.bincount(order, minlength=1025).double()
    for k in (0, 1, 3):
        mean = per_class[k] / COUNTS[k]
        chi_square = ((per_image[LABELS.eq(k)] - mean) ** 2 / mean).sum()
        assert abs(chi_square - (COUNTS[k] - 1)) < 5 * math.sqrt(2 * (COUNTS[k] - 1))


def epoch(sampler: Sampler, number: int) -> Tensor:
    sampler.set_epoch(number)
    return sampler.indices()


def test_against_a_literal_roulette_wheel() -> None:
    generator = torch.Generator().manual_seed(derive_seed(3, "sampler", 2))
    order = []
    for draw in torch.rand(1025, generator=generator, dtype=torch.float64).tolist():
        i, end = 0, 1 / (3 * COUNTS[LABELS[0]])
        while draw >= end:
            i += 1
            end += 1 / (3 * COUNTS[LABELS[i]])
        order.append(i)
    assert epoch(Balanced(LABELS, seed=3), 2).tolist() == order


def test_classes_without_images_do_not_disturb() -> None:
    sampler = Balanced(torch.tensor([1, 1, 1, 4]))
    order = torch.cat([epoch(sampler, e) for e in range(500)])
    assert abs((order == 3).double().mean() - 0.5) < 4 * 0.5 / math.sqrt(2000)


def test_limits_of_beta_are_the_data_as_they_are_and_every_class_alike() -> None:
    as_given = torch.tensor(COUNTS, dtype=torch.float64) / 1025
    torch.testing.assert_close(EffectiveNumber(LABELS, 0.0).class_probabilities, as_given)
    alike = torch.tensor([1, 1, 0, 1], dtype=torch.float64) / 3
    nearly = EffectiveNumber(LABELS, 1 - 1e-12).class_probabilities
    torch.testing.assert_close(nearly, alike, atol=1e-9, rtol=0)


def test_the_last_progressive_epoch_is_drawn_as_balanced_draws_it() -> None:
    last, balanced = Progressive(LABELS, 5, seed=3), Balanced(LABELS, seed=3)
    assert epoch(last, 4).eq(epoch(balanced, 4)).double().mean() > 0.999  # but rounding


def test_order_of_labels_does_not_matter() -> None:
    shuffled = LABELS[torch.randperm(1025, generator=torch.Generator().manual_seed(0))]
    sampler = SquareRoot(shuffled)
    order = torch.cat([epoch(sampler, e) for e in range(40)])
    share = shuffled[order].eq(3).double().mean()
    assert abs(share - 1 / 9) < 4 * math.sqrt(8 / 81 / len(order))


def test_a_million_images_of_many_classes() -> None:
    labels = torch.arange(1_000_000).sqrt().long()  # 1,000 classes of 1 to 1,999 images
    order = SquareRoot(labels).indices()
    assert len(order) == 1_000_000
    share = labels[order].eq(999).double().mean()
    expected = math.sqrt(1999) / sum(math.sqrt(2 * k + 1) for k in range(1000))
    assert abs(share - expected) < 4 * math.sqrt(expected / 1e6)
