"""An image is drawn in proportion to 1 / effective number of its class, with replacement."""

import math

import pytest
import torch
from torch import Tensor

from leanvit.errors import LeanvitError
from leanvit.samplers.effective_number import EffectiveNumber

COUNTS = [900, 90, 0, 10]
LABELS = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))


def epoch(number: int, beta: float = 0.99, **options: int) -> Tensor:
    sampler = EffectiveNumber(LABELS, beta, **options)
    sampler.set_epoch(number)
    assert len(sampler) == len(sampler.indices())
    return sampler.indices()


def literal(beta: float) -> list[float]:
    """Class probabilities from the sum 1 + beta + ... + beta^(n - 1), term by term."""
    weights = [n / sum(beta**i for i in range(n)) if n else 0.0 for n in COUNTS]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99, 0.9999, 1 - 1e-9])
def test_probabilities_against_the_geometric_series(beta: float) -> None:
    sampler = EffectiveNumber(LABELS, beta)
    expected = torch.tensor(literal(beta), dtype=torch.float64)
    torch.testing.assert_close(sampler.class_probabilities, expected, atol=1e-12, rtol=0)
    per_class = torch.zeros(4, dtype=torch.float64).index_add(0, LABELS, sampler.weights)
    torch.testing.assert_close(per_class, expected, atol=1e-12, rtol=0)


def test_limits_are_the_data_as_they_are_and_every_class_alike() -> None:
    as_given = torch.tensor(COUNTS, dtype=torch.float64) / 1000
    torch.testing.assert_close(EffectiveNumber(LABELS, 0.0).class_probabilities, as_given)
    alike = torch.tensor([1, 1, 0, 1], dtype=torch.float64) / 3
    nearly = EffectiveNumber(LABELS, 1 - 1e-12).class_probabilities
    torch.testing.assert_close(nearly, alike, atol=1e-9, rtol=0)


def test_classes_and_images_are_drawn_as_often_as_expected() -> None:
    order = torch.cat([epoch(e, seed=1) for e in range(40)])
    n = len(order)
    assert n == 40_000
    per_class = torch.bincount(LABELS[order], minlength=4)
    for k, p in enumerate(literal(0.99)):
        assert abs(per_class[k] - n * p) <= 4 * math.sqrt(n * p * (1 - p))
    per_image = torch.bincount(order, minlength=1000).double()
    for k in (0, 1, 3):
        expected = per_class[k] / COUNTS[k]
        chi_square = ((per_image[LABELS.eq(k)] - expected) ** 2 / expected).sum()
        assert abs(chi_square - (COUNTS[k] - 1)) < 5 * math.sqrt(2 * (COUNTS[k] - 1))


def test_same_seed_and_epoch_same_order_and_else_another() -> None:
    assert torch.equal(epoch(1, seed=5), epoch(1, seed=5))
    assert len({tuple(epoch(e, seed=s).tolist()) for e in range(3) for s in range(3)}) == 9


def test_ranks_interleave_to_the_whole_epoch() -> None:
    whole = epoch(2, seed=1)
    parts = [epoch(2, seed=1, rank=rank, num_ranks=3) for rank in range(3)]
    assert all(len(part) == 333 for part in parts)
    assert torch.equal(torch.stack(parts, dim=1).flatten(), whole[:999])


@pytest.mark.parametrize("beta", [-0.1, 1.0, 1.5, math.nan])
def test_beta_out_of_range_is_refused_in_one_line(beta: float) -> None:
    with pytest.raises(LeanvitError, match=r"sampler\.beta=.*below 1.*sampler=balanced") as caught:
        EffectiveNumber(LABELS, beta)
    assert str(beta) in str(caught.value) and "\n" not in str(caught.value)
