"""From the data as they are in the first epoch to every class alike in the last."""

import math

import pytest
import torch
from torch import Tensor

from leanvit.errors import LeanvitError
from leanvit.samplers.balanced import Balanced
from leanvit.samplers.progressive import Progressive

COUNTS = [900, 90, 0, 10]
LABELS = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))


def at(number: int, num_epochs: int = 5, **options: int) -> Progressive:
    sampler = Progressive(LABELS, num_epochs, **options)
    sampler.set_epoch(number)
    assert len(sampler) == len(sampler.indices())
    return sampler


def probabilities(number: int, num_epochs: int = 5) -> list[float]:
    return at(number, num_epochs).class_probabilities.tolist()


def test_first_middle_and_last_epoch_in_closed_form() -> None:
    assert probabilities(0) == pytest.approx([0.9, 0.09, 0, 0.01])
    assert probabilities(4) == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    # quarter and half of the way
    assert probabilities(1) == pytest.approx([0.675 + 1 / 12, 0.0675 + 1 / 12, 0, 0.0075 + 1 / 12])
    assert probabilities(2) == pytest.approx([0.45 + 1 / 6, 0.045 + 1 / 6, 0, 0.005 + 1 / 6])
    assert probabilities(4) == probabilities(5) == probabilities(50)


def test_a_run_of_one_epoch_sees_the_data_as_they_are() -> None:
    assert probabilities(0, num_epochs=1) == pytest.approx([0.9, 0.09, 0, 0.01])
    assert probabilities(1, num_epochs=2) == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])


def test_the_last_epoch_is_drawn_as_balanced_draws_it() -> None:
    balanced = Balanced(LABELS, seed=3)
    balanced.set_epoch(4)
    assert at(4, seed=3).indices().eq(balanced.indices()).double().mean() > 0.999  # but rounding


@pytest.mark.parametrize("number", [0, 1, 4])
def test_classes_and_images_are_drawn_as_often_as_expected(number: int) -> None:
    order = torch.cat([at(number, seed=seed).indices() for seed in range(40)])
    n = len(order)
    assert n == 40_000
    per_class = torch.bincount(LABELS[order], minlength=4)
    for k, p in enumerate(probabilities(number)):
        assert abs(per_class[k] - n * p) <= 4 * math.sqrt(n * p * (1 - p))
    per_image = torch.bincount(order, minlength=1000).double()
    for k in (0, 1, 3):
        expected = per_class[k] / COUNTS[k]
        chi_square = ((per_image[LABELS.eq(k)] - expected) ** 2 / expected).sum()
        assert abs(chi_square - (COUNTS[k] - 1)) < 5 * math.sqrt(2 * (COUNTS[k] - 1))


def test_same_seed_and_epoch_same_order_and_else_another() -> None:
    assert torch.equal(at(1, seed=5).indices(), at(1, seed=5).indices())
    orders = {tuple(at(e, seed=s).indices().tolist()) for e in range(3) for s in range(3)}
    assert len(orders) == 9


def test_an_epoch_is_the_same_whichever_came_before() -> None:
    sampler = Progressive(LABELS, 5, seed=1)
    order: Tensor
    for number in (0, 3, 1):
        sampler.set_epoch(number)
        order = sampler.indices()
    assert torch.equal(order, at(1, seed=1).indices())


def test_ranks_interleave_to_the_whole_epoch() -> None:
    whole = at(2, seed=1).indices()
    parts = [at(2, seed=1, rank=rank, num_ranks=3).indices() for rank in range(3)]
    assert all(len(part) == 333 for part in parts)
    assert torch.equal(torch.stack(parts, dim=1).flatten(), whole[:999])


@pytest.mark.parametrize("num_epochs", [0, -3])
def test_too_few_epochs_are_refused_in_one_line(num_epochs: int) -> None:
    with pytest.raises(LeanvitError, match=r"sampler\.num_epochs=-?\d must be.*1.*max_epochs") as e:
        Progressive(LABELS, num_epochs)
    assert "\n" not in str(e.value)
